"""What lies around solves: files and shapes, other libraries' interfaces, figures, generators, reports."""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import clouds, small
from hypothesis import given, settings
from hypothesis import strategies as st

import geomsink
from geomsink import compat, generative, shapes

few = settings(max_examples=max(1, settings().max_examples // 4))


@given(clouds(dims=6), st.sampled_from((".npz", ".ply")), st.sampled_from(("f4", "f8")), st.booleans())
def test_written_clouds_are_read_to_the_bit(c, suffix, dtype, colored):
    points = np.resize(c.x, (len(c.x), 3)).astype(dtype) if suffix == ".ply" else c.x.astype(dtype)
    colors = c.random.integers(256, size=(len(points), 3)).astype("u1") if colored else None
    faces = c.random.integers(len(points), size=(4, 3)) if suffix == ".ply" else None
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/a{suffix}"
        shapes.write(path, points, colors=colors, faces=faces)
        again, painted = shapes.read(path), shapes.read_colors(path)
        mesh = shapes.read_mesh(path) if points.shape[1] == 3 else None
    assert again.dtype == points.dtype and np.array_equal(again, points)
    assert np.array_equal(painted, colors) if colored else painted is None
    if mesh is not None:
        assert isinstance(mesh, shapes.Mesh) and np.array_equal(mesh.vertices, points)
        assert np.array_equal(mesh.faces, faces if faces is not None else np.zeros((0, 3)))


@given(st.sampled_from(shapes.names()), st.integers(1, 200), st.integers(0, 1000))
def test_drawn_points_are_in_the_unit_cube_and_the_same_again(name, n, seed):
    points = shapes.procedural(name, n, seed)
    assert points.shape == (n, 3) and points.min() >= -1e-6 and points.max() <= 1.0 + 1e-6
    assert np.array_equal(shapes.sample(f"shape:{name}", n, seed), points)


@given(small)
def test_other_interfaces_have_the_same_values(c):
    """GeomLoss's ε is blur² for half of our cost; POT's is ours."""
    a, b = c.weights
    given, epsilon = dict(blur=c.blur, tol=1e-8), 2.0 * c.blur**2
    ours = geomsink.sinkhorn_divergence(*c.all, **given)
    loss = compat.geomloss.SamplesLoss("sinkhorn", p=2, blur=c.blur, tol=1e-8)
    theirs = float(loss(*map(torch.from_numpy, (a, c.x, b, c.y))))
    close = dict(rel=1e-6, abs=1e-7 * c.size)
    assert theirs == pytest.approx(0.5 * ours.value, **close)
    assert compat.geomloss.ot.solve_sample(*c.all, reg=epsilon, tol=1e-8).value == pytest.approx(ours.xy.value, **close)
    debiased = compat.pot.solve_sample(*c.all, reg=epsilon, tol=1e-8, debias=True)
    assert float(debiased.value) == pytest.approx(ours.value, **close)


@few
@given(clouds(most=12, dims=3, least=2))
def test_figures_can_be_drawn_of_any_clouds(c):
    pytest.importorskip("matplotlib")
    r = geomsink.sinkhorn_divergence(*c.all, blur=c.blur)
    with tempfile.TemporaryDirectory() as folder:
        geomsink.plotting.save(r.plot(), f"{folder}/a.png", dpi=20)
        assert Path(f"{folder}/a.png").read_bytes().startswith(b"\x89PNG")
    assert geomsink.plotting.position_colors(c.x).shape == c.x.shape[:1] + (3,)


@few
@given(small, st.integers(0, 50))
def test_fits_are_the_same_with_the_same_seed(c, seed):
    data = c.x / c.scale

    def fitted():
        torch.manual_seed(seed)
        generator = generative.MLP(2, data.shape[1], width=4)
        loss = geomsink.MMD(kernel="energy")
        return generative.fit(generator, data, loss, steps=3, batch=min(3, len(data)), samples=4, seed=seed)

    with contextlib.redirect_stderr(io.StringIO()):
        first, second = fitted(), fitted()
    assert isinstance(first, generative.Fit) and first.steps == 3
    assert torch.equal(first.sample(5, seed), second.sample(5, seed))
    assert first.sample(5, seed).shape == (5, data.shape[1])


@given(clouds(most=15))
def test_reports_say_what_they_hold(c):
    r = geomsink.sinkhorn_divergence(*c.all, blur=c.blur, certify=True)
    s, h, m = r.xy, geomsink.hausdorff_divergence(*c.all, blur=c.blur), geomsink.mmd(*c.all, blur=c.blur)
    kinds = geomsink.Divergence, geomsink.Solution, geomsink.HausdorffDivergence, geomsink.Discrepancy
    for one, kind in zip((r, s, h, m), kinds, strict=True):
        assert isinstance(one, kind) and float(one) == float(one.value)
        assert "\n" not in repr(one) and kind.__name__ in repr(one) and "<" in one._repr_html_()
    assert isinstance(s.plan, geomsink.Plan) and isinstance(s.plan.top_k(1), geomsink.Entries)
    assert r.gap == r.upper - r.lower >= 0.0 and r.n_iter == r.xy.n_iter + r.xx.n_iter + r.yy.n_iter
    assert s.approximation is None or isinstance(s.approximation, geomsink.Approximation)
    p, w = geomsink.pairwise([c.x, c.y], blur=c.blur), geomsink.wasserstein_bounds(*c.all, tol=0.1)
    assert isinstance(p, geomsink.Pairwise) and isinstance(w, geomsink.WassersteinBounds)
    t = geomsink.two_sample_test(c.x, c.y, blur=c.blur, permutations=2)
    assert isinstance(t, geomsink.TwoSampleTest) and isinstance(geomsink.sketch(c.x, blur=c.blur), geomsink.Sketch)


@few
@given(small)
def test_linear_solves_are_reported(c):
    x, y = (t.requires_grad_() for t in c.tensors()[:2])
    s = geomsink.solve(x, y, *c.tensors()[2:], blur=c.blur, differentiation="implicit", tol=1e-8)
    s.potentials[0].square().sum().backward()
    assert s.linear_solves and all(isinstance(solve, geomsink.LinearSolve) for solve in s.linear_solves)
    assert all(solve.residual < 1e-3 for solve in s.linear_solves) and bool(x.grad.isfinite().all())
