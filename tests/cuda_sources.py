"""CUDA source of the library's reductions, as KeOps writes it on the way from `geomsink.engine.cuda`; no GPU is needed.

Reductions that are asked for within `recorded()` go to CUDA's path and return zeros: `reductions`, `derivatives` and
`discrepancies` ask for all that the library has.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from geomsink import costs, kernels
from geomsink.derivatives import terms
from geomsink.divergences.mmd import _sums as sums_of_kernel
from geomsink.engine import Blocks, Pairs, build, cuda, differentiable, exponents, keops
from geomsink.engine.reduction import WIDTHS
from geomsink.solver import Balanced

N, M = 2, 3


@dataclass(frozen=True)
class Source:
    """What KeOps gives to NVRTC.

    Attributes
    ----------
    formula : str
    scheme : str
        KeOps' name of the loop around it.
    real : {"float", "double"}
    code : str
    """

    formula: str
    scheme: str
    real: str
    code: str

    def __str__(self) -> str:
        return f"{self.scheme}, {self.real}: {self.formula}"


@contextlib.contextmanager
def recorded() -> Iterator[list[Source]]:
    """The sources of all reductions within, each once; the list is filled at the end."""
    found: dict[str, Source] = {}
    sources: list[Source] = []
    with pytest.MonkeyPatch.context() as patch:
        build.keops()
        _write_without_gpu(patch, found)
        _send_to_gpu(patch)
        yield sources
    sources += found.values()


def _write_without_gpu(patch: pytest.MonkeyPatch, found: dict[str, Source]) -> None:
    """KeOps writes code for a GPU whatever the machine has, adds it to ``found``, and neither compiles nor runs it."""
    names = importlib.import_module("keopscore.utils.code_gen_utils").new_c_varname
    generator = importlib.import_module("keopscore.get_keops_dll")
    patch.setattr(generator.cuda_config, "get_cuda_version", lambda *_: 13000)
    patch.setattr(generator.cuda_config, "get_use_cuda", lambda: True)
    for name, scheme in inspect.getmembers(importlib.import_module("keopscore.mapreduce.gpu"), inspect.isclass):
        patch.setitem(generator.map_reduce, name, scheme)
        if hasattr(sys.modules[scheme.__module__], "cuda_block_size"):
            patch.setattr(sys.modules[scheme.__module__], "cuda_block_size", 192)  # KeOps' default

    def write(self: Any) -> dict[str, Any]:
        """In the place of KeOps' compilation: what the caller would be told of it."""
        names.dict_instances.clear()  # so that a formula always has the same text
        self.get_code()
        found.setdefault(self.code, Source(str(self.red_formula_string), type(self).__name__, self.dtype, self.code))
        return {
            **dict.fromkeys(("tag", "source_file", "low_level_code_file"), ""),
            **{key: getattr(self.varloader, key) for key in ("indsi", "indsj", "indsp", "dimsx", "dimsy", "dimsp")},
            **{key: getattr(self.red_formula, key) for key in ("tagI", "dim", "dimred")},
            **{key: getattr(self, key) for key in ("use_half", "use_fast_math", "tag1D2D", "dimy")},
        }

    link = importlib.import_module("keopscore.binders.nvrtc.Gpu_link_compile").Gpu_link_compile
    patch.setattr(link, "__init__", lambda self: None)
    patch.setattr(link, "get_dll_and_params", write)

    loader = importlib.import_module("pykeops.common.keops_io.LoadKeOps")
    patch.setattr(loader, "get_keops_dll", generator.get_keops_dll_impl)  # past KeOps' cache on disk

    class Zeros(loader.LoadKeOps):
        def __init__(self, *given: Any):
            super().__init__(*given, fast_init=False)

        def genred_pytorch(self, device: Any, ranges: Any, rows: int, *given: Any) -> torch.Tensor:
            return given[-1].new_zeros(rows, self.params.dim)

    patch.setitem(importlib.import_module("pykeops.common.keops_io").keops_binder, "nvrtc", Zeros)
    generic = importlib.import_module("pykeops.torch.generic.generic_red")
    patch.setattr(generic, "get_tag_backend", lambda *_: (1, 0, 1))  # a GPU, in one dimension, arguments on it


def _send_to_gpu(patch: pytest.MonkeyPatch) -> None:
    """The library takes tensors of the CPU for those of a GPU where it reduces."""
    stream = object()
    patch.setattr(torch.cuda, "current_stream", lambda device: stream)
    patch.setattr(torch.cuda, "default_stream", lambda device: stream)
    patch.setattr(cuda, "_compiled", set())

    def reduce(text: Any, aliases: Any, variables: Any, sizes: Any, dimension: int, blocks: Any = None, *_: Any) -> Any:
        return cuda.reduce(text, aliases, variables, blocks)

    def on_gpu(exponent: Any, like: torch.Tensor) -> Any:
        return exponents.bounded(exponent, SimpleNamespace(dtype=like.dtype, is_cuda=True))

    for module in (keops, differentiable):
        patch.setattr(module, "reduce", reduce)
    patch.setattr(keops, "bounded", on_gpu)


def points(D: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, D) and (M, D)."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(n, D, generator=generator, dtype=dtype) for n in (N, M))


def patterns(ranges: bool) -> Blocks | None:
    return Blocks.whole(N, M) if ranges else None


def cost_of(name: str, D: int) -> costs.Cost:
    """A cost by the name that `costs.names` has for it or for its family."""
    of_family = {"mahalanobis:W1,W2,...": "mahalanobis:" + ",".join(["2"] * D), "power:P": "power:1.5"}
    return costs.get(of_family.get(name, name))


def reductions(cost: costs.Cost, D: int, dtype: torch.dtype, ranges: bool) -> None:
    """All of the Gibbs operator."""
    x, y = points(D, dtype)
    pair, blocks = keops.KeopsPair(cost.map(x), cost.map(y), cost), patterns(ranges)
    u, v = torch.zeros(N), torch.zeros(M)
    pair.row_sums(u, v, 1.0, blocks)
    pair.row_costs(u, v, 1.0, blocks)
    pair.row_max(v, 1.0, blocks)
    for width in WIDTHS:
        pair.apply(u, v, 1.0, torch.ones(M, width), blocks)


def derivatives(
    cost: costs.Cost, D: int, dtype: torch.dtype, ranges: bool,
    width: int, order: int, with_costs: bool, of: str = "xyfgew",
) -> None:  # fmt: skip
    """Sums of a problem and all their derivatives up to an order, in what ``of`` has letters for (e: ε, w: weights)."""
    x, y = points(D, dtype)
    double = {"dtype": torch.float64}
    f, g, w = torch.zeros(N, **double), torch.zeros(M, **double), torch.ones(M, width, **double)
    given = dict(zip("xyfgew", (x, y, f, g, torch.ones((), **double), w), strict=True))
    variables = tuple(given[letter].requires_grad_() for letter in of)
    problem = terms.Terms(
        x, y, f.detach(), g.detach(), given["e"], (), cost, (Balanced(), Balanced()),
        Pairs("keops", (patterns(ranges),) * 2 if ranges else None),
    )  # fmt: skip
    differentiate(problem.sums(f, g, w, with_costs), variables, order)


def discrepancies(name: str, D: int, dtype: torch.dtype, ranges: bool, order: int) -> None:
    """Sums of a kernel, and all their derivatives up to an order in points and weights."""
    x, y = points(D, dtype)
    z, w = torch.cat((x, y)).requires_grad_(), torch.ones(N + M).requires_grad_()
    blocks = Blocks.whole(N + M, N + M) if ranges else None
    differentiate(sums_of_kernel(kernels.get(name), z, w, "keops", blocks), (z, w), order)


def differentiate(sums: torch.Tensor, variables: tuple[torch.Tensor, ...], order: int) -> None:
    """Asks for all derivatives up to an order, of which those that vanish are left out."""
    found = [sums]
    for _ in range(order):
        found = [
            gradient
            for one in found
            for gradient in torch.autograd.grad(
                one, variables, torch.ones_like(one).requires_grad_(), create_graph=True, allow_unused=True
            )
            if gradient is not None and gradient.requires_grad
        ]
