"""The way to KeOps' own kernels, run on a CPU: its formulas, patterns and streams are the same there."""

import ctypes
import math
import re
from types import SimpleNamespace

import pytest
import torch
from cuda_sources import derivatives, recorded, reductions
from pages import ROOT

from geomsink import costs
from geomsink.engine import build, cuda, diagonal, operations
from geomsink.engine.batch import ROWS
from geomsink.engine.exponents import bounded, bounded_with_room


@pytest.fixture
def streams(monkeypatch):
    """A current and a default stream of a device; what was waited for."""
    waited = []
    side = SimpleNamespace(synchronize=lambda: waited.append("side"))
    here = SimpleNamespace(current=None, default=SimpleNamespace(synchronize=lambda: waited.append("default")))
    here.current, here.side, here.waited = here.default, side, waited
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: here.current)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: here.default)
    return here


def test_patterns_are_those_of_batches_and_of_their_transposes(streams, capsys):
    """Column derivatives of batches with several blocks an item were sums over the forward pattern."""
    n, m, lengths = ROWS + 40, 150, (torch.tensor([ROWS + 40, 120]), torch.tensor([150, 90]))
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, k, 3, generator=generator, dtype=torch.float64) for k in (n, m))
    text = "Sum_Reduction(Exp(-SqDist(Var(0,3,0),Var(1,3,1))),0)"
    kernel = (-(torch.cdist(x, y) ** 2)).exp()
    masked = [torch.arange(k) < length[:, None] for k, length in zip((n, m), lengths, strict=True)]
    rows, columns = diagonal(n, m, lengths[1]), diagonal(m, n, lengths[0])
    for first, second, blocks, expected in (
        (x, y, rows, (kernel * masked[1][:, None, :]).sum(2)),
        (y, x, columns, (kernel * masked[0][:, :, None]).sum(1)),
    ):
        found = cuda.reduce(text, (), (first.flatten(0, 1), second.flatten(0, 1)), blocks)
        torch.testing.assert_close(found[:, 0], expected.flatten(), rtol=1e-13, atol=0)
        assert blocks.keops_ranges(x.device) is blocks.keops_ranges(x.device)
    assert capsys.readouterr().out == "" and streams.waited == []
    streams.current = streams.side
    again = cuda.reduce(text, (), (y.flatten(0, 1), x.flatten(0, 1)), columns)
    assert torch.equal(again, found) and streams.waited == ["side"]


def test_only_reductions_over_columns_are_run():
    with pytest.raises(ValueError, match="is not reduced over j"):
        cuda._reduction("Sum_Reduction(Exp(Var(0,1,0)),1)", ())


@pytest.mark.parametrize(("dtype", "highest"), [(torch.float32, 88), (torch.float64, 709)])
def test_exponents_are_bounded_where_the_compiled_exponential_is_not(dtype, highest):
    """A weight of 0 times an exponential that overflows was not a number."""
    lazy = build.keops().Vi(torch.ones(2, 1, dtype=dtype))
    on_gpu, on_cpu = (SimpleNamespace(dtype=dtype, is_cuda=there) for there in (True, False))
    assert bounded(lazy, on_gpu).formula.startswith("ClampInt(") and f",{highest})" in bounded(lazy, on_gpu).formula
    assert "Clamp" not in bounded(lazy, on_cpu).formula
    assert "Clamp" in bounded_with_room(lazy, on_cpu).formula
    large = torch.tensor([1e9, 0.0], dtype=dtype)
    assert (
        bounded(large, on_gpu).exp().isfinite().all()
        and (1e6 * bounded_with_room(large, on_gpu).exp()).isfinite().all()
    )


@pytest.mark.parametrize("cost", ["power:1.5", "power:0.5", "power:1"])
def test_powers_are_not_those_of_float32(cost):
    """KeOps has powf alone on CUDA, whatever the precision."""
    x, y = (torch.rand(3, 2, dtype=torch.float64) for _ in range(2))
    made = costs.get(cost).expression(build.keops().Vi(x), build.keops().Vj(y))
    assert "Pow" not in made.formula


def test_all_that_reduces_is_known_to_the_sources():
    """A new caller needs a line in `cuda_sources`, from which make check-cuda has its kernels."""

    def files(pattern: str) -> set[str]:
        found = (ROOT / "geomsink").rglob("*.py")
        return {path.stem for path in found if re.search(pattern, path.read_text(encoding="utf-8"))}

    assert files(r"from \.reduction import .*\breduce\b") == {"differentiable", "keops"}
    assert files(r"\bpairs\.sums\(") == {"mmd", "terms"}
    assert files(r"\bweighted_sums\(") == {"differentiable"}
    assert files(r"\bself\._reduce\(") == {"keops"}


def test_derivatives_in_many_coordinates_have_code():
    """KeOps' default sends sums of more than 146 numbers to a loop that takes formulas of one kind alone."""
    with recorded() as sources:
        derivatives(costs.get("sqeuclidean"), 147, torch.float32, False, width=1, order=1, with_costs=False, of="xyw")
    assert [source.formula.count("Grad") for source in sources] == [0, 1, 1, 1]


@pytest.mark.parametrize("m", [-2, 3, 5, 2.5])
def test_operations_are_written_anew_for_cuda_alone(m):
    cost = costs.Cost(name="of the user", expression=lambda x, y: ((x - y) ** m).sum(-1))
    for dtype in (torch.float32, torch.float64):
        with recorded() as sources:
            reductions(cost, 1, dtype, False)
        assert len(sources) == 6
        for source in sources:
            seen = as_cuda(source.code)
            assert ("powf(" in seen) == (dtype == torch.float32 and m == 2.5), seen
            assert "pow" in as_cuda(source.code, yes=False)


def as_cuda(code: str, yes: bool = True) -> str:
    """The lines of a source that are left when __CUDACC__ is defined, or is not."""
    kept, open_ = [], []
    for line in map(str.strip, code.splitlines()):
        if line == "#ifdef __CUDACC__":
            open_.append(yes)
        elif line == "#else":
            open_[-1] = not open_[-1]
        elif line == "#endif":
            open_.pop()
        elif all(open_):
            kept.append(line)
    return "\n".join(kept)


def test_operations_have_the_right_values():
    """In C++, which has the same functions."""
    powers = [-3, -1, 0, 1, 2, 3, 7, 64, 65]
    bounds = ["-1001", "-2", "3", "89", "INFINITY", "-INFINITY", "NAN"]
    lines = [f"{{ real x = -1.0625; out[k++] = {operations.integer_power('double', 'x', m)}; }}" for m in powers]
    for real, high in (("float", 88), ("double", 709)):
        lines += [f"{{ {real} x = {x}; out[k++] = {operations.clamped(real, 'x', -1000, high)}; }}" for x in bounds]
    text = "#include <cmath>\ntypedef double real;\n"
    text += f'extern "C" void values(double *out) {{ int k = 0; {" ".join(lines)} }}'
    found = (ctypes.c_double * len(lines))()
    build.load(build.Program("operations", text)).values(found)
    expected = [(-1.0625) ** m for m in powers]
    expected += [-1000.0, -2.0, 3.0, 88.0, 88.0, -1000.0, math.nan, -1000.0, -2.0, 3.0, 89.0, 709.0, -1000.0, math.nan]
    torch.testing.assert_close(list(found), expected, rtol=1e-14, atol=0, equal_nan=True)
