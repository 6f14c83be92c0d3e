"""The Gibbs operator: both engines against dense float64 algebra, for every cost."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from geomsink import costs, engine, memory
from geomsink.engine import Blocks, Gibbs, dense, reduction

EPSILON = 0.3
# Rounding of exponents C/ε of a few tens, and of the sum.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
MANHATTAN = costs.Cost(name="manhattan", expression=lambda x, y: (x - y).abs().sum(-1), degree=1)
DOWNHILL = costs.Cost(
    name="downhill", expression=lambda x, y: ((x - y) ** 2).sum(-1) + (x - y).sum(-1), symmetric=False
)
ALL = [
    *(costs.get(name) for name in ("sqeuclidean", "euclidean", "power:1.5", "power:0.5", "cosine", "geodesic")),
    costs.mahalanobis([1.0, 2.0, 3.0]),
    MANHATTAN,
    DOWNHILL,
]
# Every cost in three dimensions; others where the generated loops differ in kind.
CASES = [(cost, 3) for cost in ALL] + [(ALL[0], 1), (ALL[0], 20), (ALL[1], 20), (ALL[5], 2)]


def operator(cost, d, dtype, name, n=130, m=1100):
    random = torch.Generator().manual_seed(d)
    x, y = (cost.map(torch.rand(k, d, generator=random, dtype=dtype) + 0.1) for k in (n, m))
    u, v = (torch.randn(k, generator=random, dtype=dtype) for k in (n, m))
    return Gibbs(engine.pair(x, y, cost, name), u, v, EPSILON)


def matrix(K: Gibbs) -> tuple[np.ndarray, np.ndarray]:
    """K and C in dense float64."""
    x, y = K.pair.x.double(), K.pair.y.double()
    C = K.pair.cost.expression(x[:, None], y[None]).numpy()
    return np.exp(K.u.double().numpy()[:, None] + K.v.double().numpy() - C / K.epsilon), C


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", ["keops", "dense"])
@pytest.mark.parametrize(("cost", "d"), CASES, ids=[f"{c.name}-{d}" for c, d in CASES])
def test_reductions(cost, d, name, dtype):
    K = operator(cost, d, dtype, name)
    exact, C = matrix(K)
    near = dict(rtol=TOLERANCE[dtype], atol=0)
    np.testing.assert_allclose(K.row_sums().numpy(), exact.sum(1), **near)
    np.testing.assert_allclose(K.T.row_sums().numpy(), exact.sum(0), **near)
    np.testing.assert_allclose(K.row_costs().numpy(), (exact * C).sum(1), **near)
    largest = (K.v.double().numpy() - C / EPSILON).max(1)
    np.testing.assert_allclose(K.row_max().numpy(), largest, rtol=0, atol=50 * TOLERANCE[dtype])
    w = torch.randn(len(K.v), 3, dtype=dtype, generator=torch.Generator().manual_seed(1))
    scale = exact.sum(1).max()
    np.testing.assert_allclose(
        K.apply(w).numpy() / scale, exact @ w.double().numpy() / scale, rtol=0, atol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("width", [0, 1, 4, 5, 21])
def test_apply_of_any_width(width):
    K = operator(ALL[0], 3, torch.float64, "keops")
    w = torch.randn(len(K.v), width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(K.apply(w).numpy(), matrix(K)[0] @ w.numpy(), rtol=0, atol=1e-11)
    back = torch.ones(len(K.u), width, dtype=torch.float64)
    expected = np.repeat(matrix(K)[0].sum(0)[:, None], width, axis=1)
    np.testing.assert_allclose(K.T.apply(back).numpy(), expected, rtol=1e-12)


def test_vectors_that_are_views_of_the_points():
    """Exponents and weights may share memory with the points, and leave the pair as it was."""
    K = operator(ALL[0], 3, torch.float32, "keops")
    x, y = K.pair.x, K.pair.y
    for u, v, w in ((x[:, 0], y[:, 0], y), (K.u, K.v, y[:, 1:2])):
        odd, plain = (Gibbs(engine.pair(x, y, ALL[0], name), u, v, EPSILON) for name in ("keops", "dense"))
        shared = Gibbs(K.pair, u, v, EPSILON)
        for operated in (odd, shared):
            torch.testing.assert_close(operated.row_sums(), plain.row_sums(), rtol=1e-5, atol=0)
            torch.testing.assert_close(operated.apply(w), plain.apply(w), rtol=1e-4, atol=1e-3)


def test_infinite_temperature_leaves_out_the_cost():
    K = operator(ALL[0], 3, torch.float64, "keops")
    K = Gibbs(K.pair, K.u, K.v, float("inf"))
    np.testing.assert_allclose(K.row_sums().numpy(), np.exp(K.u.numpy()) * np.exp(K.v.numpy()).sum(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_exponential_over_its_whole_range(dtype):
    """The inlined exp, through sums of one term: within 4 ulp of NumPy's where that is normal."""
    low, high = (-87.0, 88.0) if dtype == torch.float32 else (-708.0, 709.0)
    u = torch.linspace(low, high, 20_001, dtype=dtype)
    point = torch.zeros(1, 1, dtype=dtype)
    K = Gibbs(
        engine.pair(point.expand(len(u), 1).contiguous(), point, ALL[0], "keops"), u, torch.zeros(1, dtype=dtype), 1.0
    )
    exact = np.exp(u.numpy().astype(np.longdouble))
    error = np.abs(K.row_sums().numpy() - exact) / exact
    assert error.max() < 4 * torch.finfo(dtype).eps
    outside = torch.tensor([-np.inf, -1e30, 1e30, np.inf, np.nan], dtype=dtype)
    ends = Gibbs(engine.pair(point.expand(5, 1).contiguous(), point, ALL[0], "keops"), outside, K.v, 1.0).row_sums()
    tiny, huge = (1e-37, 1e38) if dtype == torch.float32 else (1e-307, 1e307)
    assert (ends[:2] < tiny).all() and (ends[2:4] > huge).all() and ends[4].isnan()


@pytest.mark.parametrize("p", [0.3, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_powers_over_many_scales(p, dtype):
    """The inlined pow, at distances from 1e-12 to 1e4 and at zero."""
    distance = torch.cat((torch.zeros(1, dtype=dtype), torch.logspace(-12, 4, 2001, dtype=dtype)))
    x, y = distance[:, None], torch.zeros(1, 1, dtype=dtype)
    zero = torch.zeros(1, dtype=dtype)
    pair = engine.pair(x, y, costs.power(p), "keops")
    found = Gibbs(pair, torch.zeros_like(distance), zero, float("inf")).row_costs().numpy()
    exact = distance.numpy().astype(np.longdouble) ** p
    # exp(y log x) multiplies the rounding of its argument by its size, here up to 30.
    assert found[0] == 0 and (np.abs(found - exact)[1:] / exact[1:]).max() < 60 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_angles_from_tiny_to_antipodal(dtype):
    angle = torch.cat(
        (torch.logspace(-6, 0, 200, dtype=torch.float64), torch.linspace(1, np.pi, 300, dtype=torch.float64))
    )
    x = torch.stack((angle.cos(), angle.sin()), 1).to(dtype)
    y = torch.tensor([[1.0, 0.0]], dtype=dtype)
    pair = engine.pair(x, y, costs.get("geodesic"), "keops")
    zeros = torch.zeros(len(x), dtype=dtype)
    found = Gibbs(pair, zeros, zeros[:1], float("inf")).row_costs().double()
    assert ((found - angle).abs() < 4 * torch.finfo(dtype).eps * (1 + angle)).all()


def test_batches_are_loops():
    random = torch.Generator().manual_seed(0)
    x, y = torch.rand(4, 2, 30, 3, generator=random), torch.rand(4, 2, 20, 3, generator=random)
    u, v, w = torch.rand(4, 2, 30, generator=random), torch.rand(4, 2, 20, generator=random), torch.rand(4, 2, 20, 5)
    whole = Gibbs(engine.pair(x, y, ALL[0], "auto"), u, v, EPSILON)
    for i in range(4):
        for j in range(2):
            one = Gibbs(engine.pair(x[i, j], y[i, j], ALL[0], "dense"), u[i, j], v[i, j], EPSILON)
            torch.testing.assert_close(whole.row_sums()[i, j], one.row_sums())
            torch.testing.assert_close(whole.T.row_sums()[i, j], one.T.row_sums())
            torch.testing.assert_close(whole.apply(w)[i, j], one.apply(w[i, j]))
            torch.testing.assert_close(whole.row_max()[i, j], one.row_max())


def test_chunks_change_nothing(monkeypatch):
    K = operator(ALL[0], 3, torch.float64, "dense")
    whole = K.row_sums(), K.row_max(), K.apply(torch.ones(len(K.v), 2, dtype=torch.float64))
    rows = []
    expression = ALL[0].expression

    def watched(x, y):
        rows.append(x.shape[-3])
        return expression(x, y)

    monkeypatch.setattr(dense, "STORED", 0)
    monkeypatch.setattr(memory, "CHUNK", 10 * 3 * len(K.v))
    small = Gibbs(
        engine.pair(K.pair.x, K.pair.y, costs.Cost(name="watched", expression=watched), "dense"), K.u, K.v, EPSILON
    )
    parts = small.row_sums(), small.row_max(), small.apply(torch.ones(len(K.v), 2, dtype=torch.float64))
    assert max(rows) == 10 and sum(rows) == 3 * len(K.u)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=0)


def test_memory_does_not_grow_with_the_pairs():
    """Small results between large temporaries left holes as large as the matrix, 1.1 GB here; of a block of rows all
    pairs were in memory at once."""
    script = """
        import torch
        from geomsink import costs, engine
        def peak():
            return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
        n, m = 1500, 200_000
        pair = engine.pair(torch.rand(n, 3), torch.rand(m, 3), costs.get("sqeuclidean"), "dense")
        u, v = torch.zeros(n), torch.zeros(m)
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        pair.row_sums(u, v, 1.0)
        some = torch.tensor([[0, 200], [200, n]])
        keep = torch.tensor([[True], [False]])
        pair.row_sums(u, v, 1.0, engine.Blocks.from_mask(some, torch.tensor([[0, m]]), keep))
        print(peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1e8


@pytest.mark.parametrize("name", ["keops", "dense"])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_blocks_against_masks(name, density, monkeypatch):
    K = operator(ALL[0], 3, torch.float64, name)
    n, m = len(K.u), len(K.v)
    rows, columns = ranges(n, 17), ranges(m, 50)
    keep = torch.rand(len(rows), len(columns), generator=torch.Generator().manual_seed(3)) < density
    mask = keep.repeat_interleave(rows.diff()[:, 0], 0).repeat_interleave(columns.diff()[:, 0], 1).numpy()
    blocks = Blocks.from_mask(rows, columns, keep)
    assert blocks.pairs == mask.sum()
    exact, C = matrix(K)
    sparse = Gibbs(K.pair, K.u, K.v, EPSILON, blocks)
    w = torch.rand(m, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for pairs in (2**33, 3000):  # in one call, and cut into many
        monkeypatch.setattr(reduction, "PAIRS_PER_CALL", pairs)
        np.testing.assert_allclose(sparse.row_sums().numpy(), (exact * mask).sum(1), rtol=1e-12)
        np.testing.assert_allclose(sparse.apply(w).numpy(), (exact * mask) @ w.numpy(), rtol=1e-12)
    largest = np.where(mask, K.v.numpy() - C / EPSILON, -np.inf).max(1)
    np.testing.assert_allclose(sparse.row_max().numpy(), largest, rtol=1e-12)
    with pytest.raises(ValueError, match="a block-sparse operator has no transpose"):
        _ = sparse.T


def ranges(n: int, size: int) -> torch.Tensor:
    begin = torch.arange(0, n, size)
    return torch.stack((begin, (begin + size).clamp(max=n)), 1)


def test_touching_ranges_are_joined():
    columns = ranges(100, 10)
    keep = torch.tensor([[1, 1, 1, 0, 0, 1, 1, 0, 0, 1]], dtype=torch.bool)
    blocks = Blocks.from_mask(torch.tensor([[0, 5]]), columns, keep)
    assert blocks.begin.tolist() == [0, 50, 90] and blocks.end.tolist() == [30, 70, 100]


def test_log_sum_exp_from_maximum_and_sums():
    """Where sums underflow, the maximum taken out first gives the logarithm (the solver's way out)."""
    K = operator(ALL[0], 3, torch.float32, "keops")
    cold = Gibbs(K.pair, torch.full_like(K.u, -500.0), K.v, 1e-3)
    assert (cold.row_sums() < 1e-30).all()
    largest = cold.row_max()
    found = Gibbs(K.pair, -largest, K.v, 1e-3).row_sums().double().log() + largest.double()
    C = matrix(K)[1]
    np.testing.assert_allclose(found.numpy(), logsumexp(K.v.double().numpy() - C / 1e-3, axis=1), rtol=1e-6, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("cost", ALL, ids=[c.name for c in ALL])
def test_cuda(cost):
    K = operator(cost, 3, torch.float32, "dense")
    pair = engine.pair(K.pair.x.cuda(), K.pair.y.cuda(), cost, "keops")
    there = Gibbs(pair, K.u.cuda(), K.v.cuda(), EPSILON)
    torch.testing.assert_close(there.row_sums().cpu(), K.row_sums(), rtol=1e-4, atol=0)
    torch.testing.assert_close(there.T.row_sums().cpu(), K.T.row_sums(), rtol=1e-4, atol=0)
