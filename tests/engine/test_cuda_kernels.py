"""KeOps' CUDA kernels of the library's formulas, compiled without a GPU: `make check-cuda`."""

import functools
import math

import cuda_sources
import machine_code
import nvrtc
import pytest
import torch
from cuda_sources import cost_of, derivatives, discrepancies, recorded, reductions

from geomsink import costs, kernels

if nvrtc.missing():
    pytest.skip(f"not installed: {nvrtc.missing()}; run make check-cuda", allow_module_level=True)

ARCHITECTURES = ("sm_80", "sm_90")
REALS = [torch.float32, torch.float64]
LAID_OUT = {"mahalanobis:W1,W2,..."}
"""Costs that have the formula of another one, of points that are mapped."""
COSTS = [name for name in costs.names() if name not in LAID_OUT]
KERNELS = [*(name for name in kernels.names() if name != "-COST"), "-power:1.5", "-geodesic"]


def wrong(sources, architectures=ARCHITECTURES, local=0):
    """Kernels that spill registers to more bytes of memory a thread, and those of doubles that compute in float32."""
    compiled = [kernel for architecture in architectures for kernel in nvrtc.compiled(sources, architecture)]
    assert len(compiled) == len(sources) * len(architectures) > 0
    spilling = [str(kernel) for kernel in compiled if kernel.usage.local > local]
    rounded = [
        f"{kernel.in_single}: {kernel}" for kernel in compiled if kernel.source.real == "double" and kernel.in_single
    ]
    return spilling + rounded


def sources_of(ask, *given, ranges=False):
    """What a function of `cuda_sources` asks for, over all pairs or over ranges."""
    with recorded() as sources:
        ask(*given, ranges=ranges)
    assert {source.scheme for source in sources} == {"GpuReduc1D_ranges" if ranges else "GpuReduc1D"}
    return sources


def wrong_derivatives(ask, *given, order=1):
    """Over ranges for one architecture alone, and where there are many over all pairs for the other."""
    dense, sparse = (sources_of(functools.partial(ask, order=order), *given, ranges=ranges) for ranges in (False, True))
    return wrong(dense, ARCHITECTURES if order == 1 else ["sm_80"]) + wrong(sparse, ["sm_90"])


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("name", COSTS)
def test_reductions(name, dtype):
    for ranges in (False, True):
        sources = sources_of(reductions, cost_of(name, 3), 3, dtype, ranges=ranges)
        assert len(sources) == 6
        assert wrong(sources) == []


@pytest.mark.parametrize("name", sorted(LAID_OUT))
def test_costs_of_mapped_points_have_the_formulas_of_others(name):
    for ask in (reductions, functools.partial(derivatives, width=1, order=1, with_costs=True)):
        own, others = (sources_of(ask, cost, 3, torch.float32) for cost in (cost_of(name, 3), costs.get("sqeuclidean")))
        assert own == others


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize(
    ("name", "width", "with_costs"),
    [(name, 1, True) for name in COSTS]
    + [("geodesic", 1, False)]
    + [(name, 16, False) for name in ("sqeuclidean", "euclidean", "power:P")],
)
def test_derivatives(name, width, with_costs, dtype):
    ask = functools.partial(derivatives, width=width, with_costs=with_costs)
    of_first_order = functools.partial(ask, order=1)
    assert len(sources_of(of_first_order, cost_of(name, 3), 3, dtype)) == 7  # the sums, and in x, y, f, g, ε, weights
    assert wrong_derivatives(ask, cost_of(name, 3), 3, dtype) == []


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize(("name", "width", "of"), [("sqeuclidean", 4, "xyfgew"), ("euclidean", 1, "xyw")])
def test_second_derivatives(name, width, of, dtype):
    """Those of the cosine cost are half of the squared one's."""
    ask = functools.partial(derivatives, width=width, with_costs=False, of=of)
    assert wrong_derivatives(ask, cost_of(name, 3), 3, dtype, order=2) == []


@pytest.mark.parametrize("name", ["geodesic", "power:P"])
def test_second_derivatives_that_are_long(name):
    """Seconds for each kernel: in the points of the rows alone, over all pairs and for one architecture."""
    ask = functools.partial(derivatives, width=1, order=2, with_costs=False, of="x")
    assert wrong(sources_of(ask, cost_of(name, 3), 3, torch.float64), ["sm_90"]) == []


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_discrepancies(name, dtype):
    order = 1 if name.startswith("-") else 2
    assert wrong_derivatives(discrepancies, name, 3, dtype, order=order) == []


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("name", ["sqeuclidean", "geodesic"])
def test_sixteen_coordinates_stay_in_registers(name, dtype):
    """But for gradients of the geodesic cost in double over ranges, which have 255 and some more."""
    local = 96 if name == "geodesic" and dtype == torch.float64 else 0
    for ranges in (False, True):
        with recorded() as sources:
            reductions(costs.get(name), 16, dtype, ranges)
            derivatives(costs.get(name), 16, dtype, ranges, width=16, order=1, with_costs=False, of="xw")
        assert wrong(sources, ["sm_90"], local if ranges else 0) == []


def test_many_coordinates():
    """KeOps has other loops for many; what does not fit into registers is in memory."""
    cost = costs.get("sqeuclidean")
    with recorded() as sources:
        for ranges in (False, True):
            reductions(cost, 150, torch.float32, ranges)
        derivatives(cost, 150, torch.float32, False, width=1, order=1, with_costs=False, of="xw")
    assert {source.scheme for source in sources} == {
        "GpuReduc1D", "GpuReduc1D_ranges", "GpuReduc1D_chunks", "GpuReduc1D_ranges_chunks"
    }  # fmt: skip
    assert wrong(sources, ["sm_90"], local=math.inf) == []


@pytest.mark.parametrize(
    ("what", "ranges", "most"),
    [("sums", False, 13.5), ("sums", True, 13.5), ("costs", False, 16.5), ("product", False, 16.75)],
)
def test_instructions_a_pair(what, ranges, most):
    """Of squared distances in space: row sums have 59 % of the speed of exponentials, that of 8 instructions."""
    with recorded() as sources:
        reductions(costs.get("sqeuclidean"), 3, torch.float32, ranges)
    by_name = dict(zip(("sums", "costs", "max", "product"), sources, strict=False))
    loop = machine_code.loop_over_pairs(nvrtc.program(by_name[what].code, "sm_90").cubin)
    assert loop.count("MUFU") == loop.pairs, str(loop)
    assert loop.a_pair <= most, str(loop)
    assert loop.share >= 8 / most, str(loop)


class TestWhatIsWrongIsSeen:
    def source(self, text: str, real: str):
        body = f'extern "C" __global__ void k({real} *x) {{ {text} }}'
        return cuda_sources.Source("of this test", "none", real, body)

    def test_local_memory(self):
        text = "float y[64]; for (int k = 0; k < 64; k++) y[int(x[k])] = x[k + 64]; x[0] = y[int(x[1])];"
        (kernel,) = nvrtc.compiled([self.source(text, "float")], "sm_90")
        assert kernel.usage.local == 256
        assert len(wrong([self.source(text, "float")])) == 2

    @pytest.mark.parametrize("m", [-3, 3, 4, 2.5])
    def test_powers(self, m):
        """KeOps' own were powf: of float32, and exp2(m log2 x), which is no number for x < 0."""
        cost = costs.Cost(name="of the user", expression=lambda x, y: ((x - y) ** m).sum(-1))
        for dtype in REALS:
            sources = sources_of(reductions, cost, 3, dtype)
            assert wrong(sources, ["sm_90"]) == []
            logarithms = ["lg2" in nvrtc.program(source.code, "sm_90").ptx for source in sources[:2]]
            assert dtype == torch.float64 or logarithms == [isinstance(m, float)] * 2

    @pytest.mark.parametrize("text", ["x[0] = powf(x[0], 1.5f);", "x[0] = 1.0f / sqrtf(x[0]);", "x[0] = __expf(x[0]);"])
    def test_float32(self, text):
        assert len(wrong([self.source(text, "double")])) == 2
        assert wrong([self.source(text, "float")]) == []

    def test_source_that_is_refused(self):
        """By its formula, beside one that compiles."""
        good, bad = self.source("x[0] = 1;", "float"), self.source("x[0] = y;", "float")
        with pytest.raises(nvrtc.Refused, match=r"(?s)sm_90: none, float: of this test: .*\"y\" is undefined"):
            nvrtc.compiled([good, bad], "sm_90")
