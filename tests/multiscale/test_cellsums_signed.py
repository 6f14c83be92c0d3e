"""Sums over cells between sketches, whose weights have both signs, against sums over all pairs in dense float64."""

import numpy as np
import pytest
import torch
from cellsums_cases import EPSILON, ROUNDING, SKIPPED, arguments, cell_sums, full, sides, signed_problem
from reference import mask


def signed_sums(p, u, v):
    """Σ_j s_j exp(u_i + v_j − C_ij/ε), and the same of sizes: without s."""
    plan = np.exp(u.numpy()[:, None] + v.numpy() - p.C / EPSILON)
    return plan @ np.sign(p.b), plan.sum(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("skipped", [1e-6, 1e-2])
def test_sums_with_signs(skipped, dtype):
    """What is skipped has both signs, and counts with its size against the sum that is left."""
    p = signed_problem()
    (u, v), side = arguments(p), sides(p, skipped, dtype)[0]
    exact, sizes = signed_sums(p, u, v)
    assert (sizes / exact).max() > 1.05
    np.testing.assert_allclose(exact, 1.0, atol=2e-3)  # potentials of the points' problem nearly solve this
    off = np.abs(side.log_sums(u, v, EPSILON).exp().numpy() / exact - 1.0)
    assert 0.0 < side.lost <= skipped and 0.0 < side.share < 0.98
    assert off.max() <= side.lost + ROUNDING[dtype] * (sizes / exact).max()
    order, columns = side.rows.tree.order.numpy(), side.columns.tree.order.numpy()
    plan = np.exp(u.numpy()[order, None] + v.numpy()[columns] - p.C[order][:, columns] / EPSILON)
    left_out = (plan * ~mask(side._pattern.blocks, *plan.shape)).sum(1) / exact[order]
    assert 0.0 < left_out.max() <= side.lost


def test_products_with_signs():
    """Σ_j b_j exp((f_i + g_j − C_ij)/ε) w_j, with the weights' signs, for both sides."""
    p, random = signed_problem(), np.random.default_rng(3)
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    sums, exact = cell_sums(p), full(p)
    plan = np.exp((p.f[:, None] + p.g - p.C) / EPSILON)
    ws = random.normal(size=(len(p.g), 3)), random.normal(size=(len(p.f), 3))
    sizes = plan * np.abs(p.b), plan.T * np.abs(p.a)
    wanted = (plan * p.b) @ ws[0], (plan.T * p.a) @ ws[1]
    # Before there are sums there is no pattern, and all pairs are in.
    for owner, within in ((sums, 1e-11), (exact, 1e-11), (sums, SKIPPED)):
        if within == SKIPPED:
            sums.log_rows(f, g, EPSILON), sums.log_columns(f, g, EPSILON)
        found = (
            owner.row_products(f, g, EPSILON, torch.from_numpy(ws[0])),
            owner.column_products(f, g, EPSILON, torch.from_numpy(ws[1])),
        )
        for one, other, w, size in zip(found, wanted, ws, sizes, strict=True):
            assert np.abs(one.numpy() - other).max() <= within * np.abs(w).max() * (1.0 + size.sum(1).max())
    assert sums.rows.share < 0.98 and sums.columns.share < 0.98


def test_full_sums_with_signs():
    p = signed_problem()
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    plan = np.exp((p.f[:, None] + p.g - p.C) / EPSILON)
    np.testing.assert_allclose(full(p).log_rows(f, g, EPSILON), np.log(plan @ p.b), rtol=0, atol=1e-11)
    np.testing.assert_allclose(full(p).log_columns(f, g, EPSILON), np.log(plan.T @ p.a), rtol=0, atol=1e-11)
    # Exponents out of range: maxima are taken out.
    found = full(p).log_rows(f + 2000.0 * EPSILON, g, EPSILON)
    np.testing.assert_allclose(found, np.log(plan @ p.b) + 2000.0, rtol=0, atol=1e-9)


def test_sums_with_signs_that_are_not_positive_are_made_in_full():
    """Exponents much rougher than a kernel: what carries most of a row may be negative, and its sum has no logarithm,
    which a solver has to see."""
    p = signed_problem()
    (u, v), sums = arguments(p), cell_sums(p)
    rough = v + 10.0 * torch.from_numpy(np.random.default_rng(3).normal(size=len(p.g)))
    exact, sizes = signed_sums(p, u, rough)
    assert exact.min() < 0.0
    u = u - torch.from_numpy(np.log(sizes))
    assert sums.rows.log_sums(u, rough, EPSILON) is None
    g = EPSILON * (rough - p.beta.log_weights)
    found = sums.log_rows(EPSILON * u, g, EPSILON).numpy()
    assert np.array_equal(np.isnan(found), exact < 0.0)
    right = exact > 1e-3 * sizes
    np.testing.assert_allclose(found[right], np.log(exact[right] / sizes[right]), rtol=0, atol=1e-9)
