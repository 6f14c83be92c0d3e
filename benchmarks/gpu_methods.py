"""geomsink and other libraries behind one form, for the solves of gpu.py's report.

Read from the sources of geomloss 0.3.1 and flash-sinkhorn 0.4.1. Both take the cost ½‖x − y‖² at ε = σ², the latter
with ``half_cost``, which is ‖x − y‖² at ε = 2σ²: twice their value, twice their potentials.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gpu_runner import Missing
from torch import Tensor
from torch.autograd import grad

import geomsink

Pair = tuple[Tensor, Tensor]
CANDIDATE = 20.0
"""Milliseconds that FlashSinkhorn's kernels are tried for, each of some fifty blocks: Triton's own 100 would take
minutes for all sizes."""


@dataclass(frozen=True)
class Method:
    """What one library does with two clouds.

    ``value`` gives S_ε for ‖x − y‖² and ε = 2σ², with autograd history if ``has_gradient``. ``potentials`` gives those
    of the problem between the two clouds, for ½‖x − y‖² and σ²; of a library that does not keep them by another solve,
    ``again``. ``warm`` has kernels tuned, in a few steps at full size. ``about`` tells of the last solve.
    """

    value: Callable[[Tensor, Tensor], Tensor]
    potentials: Callable[[Tensor, Tensor], Pair]
    has_gradient: bool = True
    again: bool = True
    warm: Callable[[Tensor, Tensor], None] | None = None
    about: Callable[[], str] = lambda: ""


def ours(blur: float, **options: Any) -> Method:
    last: list[geomsink.Divergence] = []

    def value(x: Tensor, y: Tensor) -> Tensor:
        last[:] = [geomsink.sinkhorn_divergence(x, y, blur=blur, **options)]
        return last[0].value

    def potentials(x: Tensor, y: Tensor) -> Pair:
        f, g = (p.detach() for p in last[0].xy.potentials)
        return f / 2, g / 2

    def about() -> str:
        r = last[0]
        return f"{r.xy.strategy}, {r.engine}, {r.dtype}, {r.n_iter} cycles"

    return Method(value, potentials, again=False, about=about)


def geomloss(blur: float, **options: Any) -> Method:
    """Its potentials without ``debias`` are those between the clouds, of the same steps."""
    from geomloss import SamplesLoss

    loss = SamplesLoss("sinkhorn", p=2, blur=blur, **options)
    between = SamplesLoss("sinkhorn", p=2, blur=blur, debias=False, potentials=True, **options)
    return Method(lambda x, y: 2 * loss(x, y), lambda x, y: _flat(between(x, y)))


def flash(blur: float, scaling: float = 0.5, steps: int = 0, **options: Any) -> Method:
    """The dense backend: annealing with ``scaling``, and so many ``steps`` more at the last ε."""
    from flash_sinkhorn import SamplesLoss
    from flash_sinkhorn.kernels._common import epsilon_schedule, max_diameter

    hurry()
    make = partial(SamplesLoss, "sinkhorn", blur=blur, scaling=scaling, half_cost=True, **options)

    def made(x: Tensor, y: Tensor, **more: Any) -> Any:
        if steps:
            annealed = list(epsilon_schedule(max_diameter(x, y), blur, scaling))
            more["eps_list"] = annealed + [blur**2] * steps
        return make(**more)

    def warm(x: Tensor, y: Tensor) -> None:
        points = x.clone().requires_grad_()
        grad(make(debias=True, n_iters=1)(points, y), points)

    return Method(
        lambda x, y: 2 * made(x, y, debias=True)(x, y), lambda x, y: _flat(made(x, y, potentials=True)(x, y)), warm=warm
    )


def flash_levels(blur: float, **options: Any) -> Method:
    """The multiscale backend, of 3 coordinates, without gradients: it stops at a sampled marginal error of ``tol``."""
    from flash_sinkhorn import SamplesLoss

    hurry()
    make = partial(SamplesLoss, "sinkhorn", blur=blur, half_cost=True, backend="multiscale")
    loss = make(debias=True, **options)

    def about() -> str:
        info = loss.last_multiscale_info
        return f"{info.stop}, {min(info.coarse_cells):,} cells, {info.fine_updates} fine updates"

    return Method(
        lambda x, y: 2 * loss(x, y),
        lambda x, y: _flat(make(potentials=True, **options)(x, y)),
        has_gradient=False,
        warm=lambda x, y: make(debias=True, tol=1.0)(x, y),
        about=about,
    )


def _flat(pair: Sequence[Tensor]) -> Pair:
    return pair[0].detach().reshape(-1), pair[1].detach().reshape(-1)


def hurry() -> None:
    """Have Triton try each candidate for less time: kernels take some milliseconds."""
    from triton.runtime.autotuner import Autotuner
    from triton.testing import do_bench

    Autotuner.do_bench = staticmethod(partial(do_bench, warmup=CANDIDATE / 5, rep=CANDIDATE))


METHODS: dict[str, tuple[str, Callable[[float], Method]]] = {
    "geomsink": ("geomsink", ours),
    "geomsink, tol 1e-2": ("geomsink", partial(ours, tol=1e-2)),
    "geomsink, tol 1e-4": ("geomsink", partial(ours, tol=1e-4)),
    "geomsink, KeOps": ("geomsink", partial(ours, engine="keops")),
    "geomsink, KeOps, tol 1e-2": ("geomsink", partial(ours, engine="keops", tol=1e-2)),
    **{
        f"GeomLoss {backend}, scaling {scaling}": ("geomloss", partial(geomloss, backend=backend, scaling=scaling))
        for backend in ("online", "multiscale")
        for scaling in (0.5, 0.9, 0.98)
    },
    "FlashSinkhorn": ("flash_sinkhorn", flash),
    "FlashSinkhorn, scaling 0.9": ("flash_sinkhorn", partial(flash, scaling=0.9)),
    "FlashSinkhorn, scaling 0.9, then 100 steps": ("flash_sinkhorn", partial(flash, scaling=0.9, steps=100)),
    "FlashSinkhorn multiscale": ("flash_sinkhorn", flash_levels),
    "FlashSinkhorn multiscale, tol 1e-3": ("flash_sinkhorn", partial(flash_levels, tol=1e-3)),
}
"""The package that each needs, and how it is made, given σ; a library is left at its defaults where a name does not
say more."""


def method(name: str, blur: float, device: str) -> Method:
    package, make = METHODS[name]
    available(package, device)
    return make(blur)


def available(package: str, device: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise Missing("not installed")
    if package == "flash_sinkhorn" and device == "cpu":
        raise Missing("for CUDA alone")


def flash_half_step(x: Tensor, y: Tensor, tuned: bool) -> tuple[Callable[[Tensor, float], Tensor], Callable[[], str]]:
    """FlashSinkhorn's own log-sum-exp over y for each x, a half-step of its solver: a function of exponents and ε.

    Tuned at this size, or with the blocks that were chosen when it was tuned last; and words about the blocks.
    """
    from flash_sinkhorn.kernels import sinkhorn_flashstyle_sqeuclid as kernels

    hurry()
    tuner = kernels._flashsinkhorn_lse_raw_kernel_autotune
    given: dict[str, Any] = {}
    if not tuned:
        best = getattr(tuner, "best_config", None)
        given = dict(autotune=False) if best is None else dict(
            block_m=best.kwargs["BLOCK_M"], block_n=best.kwargs["BLOCK_N"], block_k=best.kwargs["BLOCK_K"],
            num_warps=best.num_warps, num_stages=best.num_stages,
        )  # fmt: skip

    def run(exponents: Tensor, epsilon: float) -> Tensor:
        return kernels.flashsinkhorn_lse(x, y, exponents, epsilon, cost_scale=0.5, **given)

    def words() -> str:
        best = getattr(tuner, "best_config", None)
        blocks = "its default blocks" if best is None else f"blocks {'x'.join(map(str, best.kwargs.values()))}"
        return f"{blocks}, {'tuned here' if tuned else 'as tuned before'}"

    return run, words
