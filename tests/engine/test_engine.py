"""How the compiled loops lay out their memory and patterns; the reductions themselves are in test_gibbs.py."""

import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from geomsink import costs, engine
from geomsink.engine import Blocks, DensePair, Gibbs, KeopsPair, build, diagnosis
from geomsink.engine.batch import BatchPair
from geomsink.engine.build import keops as pykeops
from geomsink.engine.reduction import stride

SQEUCLIDEAN = costs.get("sqeuclidean")
EPSILON = 0.5


def clouds(n, m, d, dtype):
    random = torch.Generator().manual_seed(d)
    points = (torch.rand(k, d, generator=random, dtype=dtype) / d**0.5 for k in (n, m))
    potentials = (torch.randn(k, generator=random, dtype=dtype) for k in (n, m))
    return *points, *potentials


def exponents(x, y, u, v):
    C = cdist(x.double().numpy(), y.double().numpy(), "sqeuclidean")
    return u.double().numpy()[:, None] + v.double().numpy() - C / EPSILON


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("d", [2, 20])
def test_any_number_of_columns(d, dtype):
    """Around cache lines, tiles and powers of two, where the j-variables are stored with gaps."""
    for m in (1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1024, 4097):
        x, y, u, v = clouds(3, m, d, dtype)
        K = Gibbs(KeopsPair(x, y, SQEUCLIDEAN), u, v, EPSILON)
        z = exponents(x, y, u, v)
        # The exponents, below 8 in size, have errors of a few roundings of themselves.
        np.testing.assert_allclose(
            K.row_sums().double().log().numpy(), logsumexp(z, axis=1), atol=32 * torch.finfo(dtype).eps, rtol=0
        )
        w = torch.rand(m, 4, dtype=dtype, generator=torch.Generator().manual_seed(m)) + 0.5
        exact = np.exp(z) @ w.double().numpy()
        np.testing.assert_allclose(K.apply(w).numpy(), exact, rtol=32 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_strides_are_odd_numbers_of_cache_lines(dtype):
    size = torch.finfo(dtype).bits // 8
    for m in range(1, 300):
        found = stride(m, size)
        lines, rest = divmod(found * size, 64)
        assert rest == 0 and lines % 2 == 1 and m <= found < m + 2 * 64 // size


def test_one_tensor_in_several_roles():
    """x as y, u as v, the points as w: KeOps knows variables by their memory."""
    x, _, u, _ = clouds(70, 1, 4, torch.float64)
    K = Gibbs(engine.pair(x, x, SQEUCLIDEAN, "keops"), u, u, EPSILON)
    exact = np.exp(exponents(x, x, u, u))
    np.testing.assert_allclose(K.row_sums().numpy(), exact.sum(1), rtol=1e-14)
    np.testing.assert_allclose(K.apply(x).numpy(), exact @ x.numpy(), rtol=1e-14)
    K = Gibbs(K.pair, x[:, 0], x[:, 0], EPSILON)
    exact = np.exp(exponents(x, x, x[:, 0], x[:, 0]))
    np.testing.assert_allclose(K.row_sums().numpy(), exact.sum(1), rtol=1e-14)


def test_agreement_is_checked_for_each_dimension():
    def fickle(x, y):
        wrong = not isinstance(x, torch.Tensor) and x.shape[-1] == 2
        return ((x - y) ** 2).sum(-1) * (1.01 if wrong else 1.0)

    cost = costs.Cost(name="fickle", expression=fickle)
    three, two = torch.rand(30, 3), torch.rand(30, 2)
    assert engine.pair(three, three, cost, "keops").name == "keops"
    with pytest.raises(ValueError, match="'fickle' differs between the engines"):
        engine.pair(two, two, cost, "keops")
    assert engine.pair(two, two, cost, "auto").name == "dense"  # small: nothing is compiled


class Unhashable:
    """A function of the user's that has no hash, and may hold much."""

    __hash__ = None

    def __call__(self, x, y):
        return ((x - y) ** 2).sum(-1)


def test_functions_of_the_user_need_no_hash_and_are_let_go():
    x, u, expression = torch.rand(30, 3), torch.zeros(30), Unhashable()
    for name in ("keops", "dense"):
        found = engine.pair(x, x, costs.Cost(name="of the user", expression=expression), name).row_sums(u, u, 0.5)
        torch.testing.assert_close(found, engine.pair(x, x, SQEUCLIDEAN, "dense").row_sums(u, u, 0.5))
    held = weakref.ref(expression)
    del expression
    gc.collect()
    assert held() is None  # they were kept for good where engines had been compared


def test_auto_compiles_for_large_clouds_alone(monkeypatch):
    x = torch.rand(40, 3)
    assert engine.pair(x, x, SQEUCLIDEAN).name == "dense"
    monkeypatch.setattr("geomsink.choose.SMALL", 40 * 40 - 1)
    assert engine.pair(x, x, SQEUCLIDEAN).name == "keops"
    batch = x.expand(2, 40, 3)
    assert isinstance(engine.pair(batch, batch, SQEUCLIDEAN), BatchPair)
    wide = torch.rand(40, 32)  # where matrix products are faster
    assert engine.pair(wide, wide, SQEUCLIDEAN).name == "dense"
    with pytest.raises(ValueError, match="engine: unknown name 'gpu'; expected one of auto, keops, dense"):
        engine.pair(x, x, SQEUCLIDEAN, "gpu")


def test_ranges_are_what_keops_means_by_them():
    """What CUDA devices are given, reduced here by KeOps itself on the CPU."""
    x, y, *_ = clouds(50, 60, 3, torch.float64)
    rows = torch.tensor([[0, 10], [10, 25], [25, 50]])
    columns = torch.tensor([[0, 20], [20, 30], [30, 60]])
    keep = torch.tensor([[True, True, False], [False, False, False], [True, False, True]])
    blocks = Blocks.from_mask(rows, columns, keep)
    mask = keep.repeat_interleave(rows.diff()[:, 0], 0).repeat_interleave(columns.diff()[:, 0], 1).numpy()
    # The formula of test_cuda.py: KeOps itself compiles for ten seconds.
    kernel = pykeops().Genred("Exp(-SqDist(Var(0,3,0),Var(1,3,1)))", [], reduction_op="Sum", axis=1)
    found = kernel(x, y, ranges=blocks.keops_ranges(x.device))[:, 0]
    exact = np.exp(-cdist(x.numpy(), y.numpy(), "sqeuclidean"))
    np.testing.assert_allclose(found.numpy(), (exact * mask).sum(1), rtol=1e-13)


def test_parts_are_the_pattern_in_pieces():
    rows = torch.stack((torch.arange(0, 90, 10), torch.arange(10, 100, 10)), 1)
    keep = torch.rand(9, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    keep[3] = False
    blocks = Blocks.from_mask(rows, rows, keep)
    for pairs in (1, 500, 1700, 10**9):
        parts = list(blocks.parts(pairs))
        assert torch.equal(torch.cat([p.row_begin for p in parts]), blocks.row_begin)
        assert sum(int(((p.end - p.begin)[p.first[0] : p.first[-1]] * 10).sum()) for p in parts) == blocks.pairs
    assert len(parts) == 1 and len(list(blocks.parts(1))) >= 8  # a row block that sees nothing joins its neighbour


def test_threads_may_compile_at_once(tmp_path, monkeypatch):
    """Eight formulas, from eight threads, with nothing built before."""
    monkeypatch.setattr(build, "folder", lambda: tmp_path)
    monkeypatch.setattr(build, "_loaded", {})

    def error(d):
        x = torch.rand(40, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64)
        K = Gibbs(KeopsPair(x, x, SQEUCLIDEAN), x[:, 0].contiguous(), x[:, 0].contiguous(), EPSILON)
        exact = np.exp(exponents(x, x, x[:, 0], x[:, 0])).sum(1)
        return np.abs(K.row_sums().numpy() / exact - 1).max()

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(error, range(4, 12))) < 1e-12
    assert len(list(tmp_path.glob("*.so"))) == 8


def test_a_speed_is_measured_however_long_the_first_call_compiles():
    class Compiled(DensePair):
        seconds = 0.1

        def row_sums(self, *arguments, **options):
            time.sleep(self.seconds)
            self.seconds = 0.0
            return super().row_sums(*arguments, **options)

    x = torch.rand(100, 3, generator=torch.Generator().manual_seed(0))
    assert diagnosis._rate(Compiled(x, x, SQEUCLIDEAN), seconds=0.02) > 0
