"""Maximum mean discrepancies: kernel distances between two weighted point clouds.

With the points of both clouds as one, z, and weights w = (a, −b), the three sums of a discrepancy are one:

    ½ ⟨α − β, k(α − β)⟩ = ½ Σ_pq w_p w_q k(z_p, z_q),

in as many pairs, and what nearly cancels does so within the sums.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor

from ..choose import engine_of, precision, skips_pairs, squares_in_range
from ..copies import Constant
from ..costs import kernels
from ..costs.kernels import Kernel
from ..counts import number
from ..engine import SUFFIX, Blocks, BuildError, Pairs, diagonal
from ..guards import guarded
from ..measures import Array, Measure, Value
from ..memory import chunk
from ..multiscale import Boxes, Tree
from ..processes import Group, Parts, Sharded, deal, group_of, own
from ..shown import Facts, Valued, Words, seconds
from .kinds import by_kind
from .options import Options
from .parts import tried_once
from .sharded import Dealt
from .stands import Given, check_gaussian, pair_of_clouds, pair_of_points

CALL = "mmd"
TRUNCATE = 1e-9
SAMPLE = 16
"""Points on which a compiled kernel is compared with torch before it is used."""
AGREEMENT = {torch.float32: 1e-4, torch.float64: 1e-9}


@dataclass(frozen=True, repr=False)
class Discrepancy(Valued, Constant, Generic[Value, Array]):
    """Half a squared maximum mean discrepancy, and how it was summed. Deep copies and pickles are constants.

    Attributes
    ----------
    value : float or Tensor
        ½ ⟨α − β, k(α − β)⟩: float for NumPy input, scalar tensor for torch; of a batch (B,).
    potentials : tuple of arrays, shapes (N,) and (M,)
        F = k(α − β) at x and G = k(β − α) at y, with value = ½ (⟨a, F⟩ + ⟨b, G⟩): the value's derivatives in a and b.
    kernel : str
    blur : tuple of float
        The scales; none for a kernel without.
    engine : str
    dtype : str
        The working precision.
    seconds : float
    share : float
        Pairs that were summed, of all.
    skipped : float
        Bound of what leaving out the others may have changed in the value; 0 if all were summed.
    """

    value: Value
    potentials: tuple[Array, Array]
    kernel: str
    blur: tuple[float, ...]
    engine: str
    dtype: str
    seconds: float
    share: float
    skipped: float

    def _facts(self) -> Facts:
        f: Any = self.potentials[0]
        g: Any = self.potentials[1]
        batch = "" if getattr(f, "ndim", 2) == 1 else "batch of "
        return {
            "value": self.value,
            "kernel": self.kernel,
            "blur": self.blur[0] if len(self.blur) == 1 else self.blur or None,
            "potentials": Words(f"{batch}{len(f):,} × {len(g):,} {'items' if batch else 'points'}"),
            "skipped": self.skipped or None,
            "seconds": seconds(self.seconds),
        }


@by_kind
@guarded
@tried_once
def mmd(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    kernel: str | Kernel = "gaussian",
    blur: Any = None,
    engine: str = "auto",
    dtype: Any = None,
    truncate: float = TRUNCATE,
    nan_policy: str = "raise",
    x_batch: Any = None,
    y_batch: Any = None,
    group: Any = None,
) -> Discrepancy:
    """½ ⟨α − β, k(α − β)⟩, half the squared maximum mean discrepancy of two weighted point clouds.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        Points, as in `geomsink.sinkhorn_divergence`: single clouds, or batches as (B, N, D), as lists of B arrays, or
        as all points with ``x_batch`` and ``y_batch``. With the kernel ``"gaussian"``, a `geomsink.Sketch` for this
        blur or a smaller one takes the place of a cloud.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights; None is 1/N each, zeros are allowed. Masses may differ, but ``"energy"`` and the negatives of costs
        are kernels of differences of mass 0: with others the value can be negative.
    kernel : str or Kernel, default "gaussian"
        ``"gaussian"`` exp(−‖x − y‖²/(2σ²)), ``"laplacian"`` exp(−‖x − y‖/σ), ``"energy"`` −‖x − y‖, ``"-COST"`` for −c
        with the name of a cost, or one's own: see `geomsink.kernels.register`.
    blur : float, or sequence of float, optional
        Length σ, for the kernels that have one, in units of the points (of their features, if the kernel has any).
        Several are the sum of the kernels of each. Tensors are differentiated in.
    engine : {"auto", "keops", "dense"}, default "auto"
    dtype : {None, "float32", "float64"} or torch.dtype, optional
        Working precision. None takes the points' own, and float64 up to a million pairs.
    truncate : float, default 1e-9
        Of large clouds on the CPU (some two million pairs or more), pairs of far cells are left out where
        the kernel has an upper bound: those with |k| ≤ ``truncate`` times the bound at distance 0, so that each row
        leaves out no more than that times the mass of both clouds, for each scale. 0 sums all pairs, and so does a
        ``group``.
    nan_policy : {"raise", "propagate"}, default "raise"
        As in `geomsink.sinkhorn_divergence`.
    x_batch, y_batch : array_like, shape (N,) and (M,), int64, optional
        The item of the batch that each point belongs to, in order.
    group : Group, ProcessGroup of torch's, or True, optional
        Processes of which each gives its part of the points and weights, as in `geomsink.sinkhorn_divergence`; weights
        are then 1 over the number of all by default. The value is that of the unions, the same number on all;
        potentials and gradients are of the own points, and those of ``blur`` are whole on each.

    Returns
    -------
    Discrepancy
        Its value and potentials have autograd history in points, weights and blur, to any order.

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.
    BuildError
        If ``engine="keops"`` and nothing can be compiled.
    ProcessesError
        If another process of the group fails, ends, or was asked for something else.

    Notes
    -----
    Gretton et al. 2012 (JMLR 13); the half is that of GeomLoss, and makes it the limit of S_ε as ε → ∞ for k = −c
    (Feydy et al. 2019, arXiv:1810.08278). Memory is linear in the number of points.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])
    >>> mmd(x, y, kernel="energy").value
    5.0
    >>> round(mmd(x, y, blur=5.0).value, 6)  # 1 - exp(-1/2)
    0.393469
    """
    began = time.perf_counter()
    together = None if group is None else group_of(group)
    with contextlib.nullcontext() if together is None else together.step(CALL):
        form = kernels.get(kernel)
        scales = scales_of(form, blur)
        options = Options(epsilon=1.0, engine=engine, dtype=dtype, nan_policy=nan_policy)  # refused as a solve does
        left_out = truncation(truncate)
        index = x_batch, y_batch
        if together is None:
            clouds = pair_of_clouds(x, y, a, b, False, *index, options.nan_policy == "propagate")
        else:
            same = {
                "kernel": form.name, "blur": [float(sigma.detach()) for sigma in scales], "engine": engine,
                "dtype": str(options.working_dtype), "truncate": left_out, "nan_policy": nan_policy,
            }  # fmt: skip
            clouds, left_out = _dealt({"x": x, "y": y, "a": a, "b": b}, index, together, same), 0.0
        return _discrepancy(clouds, form, scales, options, left_out, began)


def _dealt(given: dict[str, Any], index: tuple[Any, Any], group: Group, same: dict[str, Any]) -> Given:
    """The clouds of which each process has a part."""
    whole = Dealt.read(given, index, group, CALL, same)
    read = pair_of_points(whole.x, whole.y, whole.a, whole.b, False, None, None, False)
    return replace(read, container=whole.container(read.container))


def _discrepancy(
    given: Given, form: Kernel, scales: list[Tensor], options: Options, left_out: float, began: float
) -> Discrepancy:
    """Of validated clouds; pairs may be left out where ``left_out`` is not 0."""
    (a_, b_), container, working = given.weights, given.container, options.working_dtype
    for side, stand in zip("xy", given.stands, strict=True):
        if stand is not None:
            check_gaussian(stand, side, form, [float(sigma.detach()) for sigma in scales])
    z, w = _end_to_end(*_features(form, given.points), -2), _end_to_end(a_, -b_, -1)
    n, pairs = len(own(a_)) if isinstance(a_, Sharded) else a_.shape[-1], a_.numel() * b_.shape[-1]
    lengths = [sigma.to(z) for sigma in scales] or [z.new_ones(())]
    most = float(z.detach().abs().max() / min(float(sigma.detach()) for sigma in lengths))
    if working is None:
        working = precision(pairs, container.working)
        working = working if _holds(working, most, form) else torch.float64
    if not _holds(working, most, form):
        found = f"x, y, blur: coordinates reach {most:.3g}{' in units of the blur' if form.takes_blur else ''}"
        raise ValueError(f"{found}, expected squares of them to be in the range of {working}; scale the points.")
    at_a_time = max(w.parts.counts) ** 2 if isinstance(w, Sharded) else w.numel() * w.shape[-1]
    name = _engine(form, z.detach() / lengths[0].detach(), working, options.engine, at_a_time)
    bounded = left_out > 0 and form.upper_bound is not None and name == "keops"
    in_cells = skips_pairs(pairs, z.device, bounded, batched=z.ndim > 2)
    cells = _Cells.of(z.detach(), w.detach()) if in_cells else None
    potential, computed, skipped = torch.zeros_like(w), 0.0, 0.0
    for sigma in lengths:
        if cells is None:
            potential, share = potential + _sums(form, (z / sigma).to(working), w, name), 1.0
        else:
            blocks, share, lost = cells.near(form, float(sigma.detach()), left_out)
            order, rank = cells.tree.order, cells.tree.rank
            sums = _sums(form, (z[order] / sigma).to(working), w[order], name, blocks)
            potential, skipped = potential + sums[rank], skipped + lost
        computed += share / len(lengths)
    mine = own(potential)
    return Discrepancy(
        value=container.number(0.5 * (w * potential).sum(-1)),
        potentials=(container.array(mine[..., :n], 0), container.array(-mine[..., n:], 1)),
        kernel=form.name,
        blur=tuple(float(sigma.detach()) for sigma in scales),
        engine=name + (SUFFIX if isinstance(z, Sharded) else ""),
        dtype=str(working).removeprefix("torch."),
        seconds=time.perf_counter() - began,
        share=computed,
        skipped=skipped,
    )


def _holds(dtype: torch.dtype, most: float, kernel: Kernel) -> bool:
    """Whether squares of coordinates up to a size are normal numbers; near the length scale, small ones need not be."""
    return (most < 1.0 and kernel.takes_blur) or squares_in_range(most, dtype)


def truncation(truncate: Any) -> float:
    """The share of the kernel's bound up to which pairs are left out.

    Raises
    ------
    TypeError, ValueError
    """
    found = number("truncate", truncate, "a share from 0 up to 1")
    if not 0 <= found < 1:
        raise ValueError(f"truncate: {truncate!r} given, expected a share from 0 up to 1.")
    return found


def scales_of(kernel: Kernel, blur: Any) -> list[Tensor]:
    """The blur as numbers in float64, with the history that tensors have."""
    if not kernel.takes_blur:
        if blur is not None:
            raise ValueError(f"blur: {blur} given, but kernel {kernel.name!r} has no length scale; expected None.")
        return []
    if blur is None:
        raise ValueError(f"blur: None given, expected a length (or several) for kernel {kernel.name!r}.")
    several = isinstance(blur, (list, tuple)) or (isinstance(blur, (np.ndarray, Tensor)) and blur.ndim == 1)
    scales = []
    for length in blur if several else [blur]:
        real = isinstance(length, numbers.Real) and not isinstance(length, bool)
        if not real and not (isinstance(length, Tensor) and length.numel() == 1 and length.is_floating_point()):
            raise TypeError(f"blur: a {type(length).__name__} was given, expected a number or a sequence of numbers.")
        live = length if isinstance(length, Tensor) else torch.tensor(float(length), dtype=torch.float64, device="cpu")
        scales.append(live.double().reshape(()))
        if not 0 < float(scales[-1].detach()) < math.inf:
            raise ValueError(f"blur: {float(scales[-1].detach())} given, expected a positive number.")
    if not scales:
        raise ValueError("blur: a sequence without numbers was given, expected one at least.")
    return scales


def _features(kernel: Kernel, points: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Of the points of both clouds, float64."""
    x, y = (p.double() for p in points)
    if kernel.translation_invariant:
        # Rounding errors of distances are relative to the coordinates: keep those small.
        centre = 0.5 * (x.detach().mean(-2, keepdim=True) + y.detach().mean(-2, keepdim=True))
        x, y = x - centre, y - centre
    return kernel.map(x), kernel.map(y)


def _end_to_end(one: Tensor, other: Tensor, axis: int) -> Tensor:
    """What two clouds have, as that of one cloud; of those that are dealt out, each process puts its own together."""
    if not (isinstance(one, Sharded) and isinstance(other, Sharded)):
        return torch.cat((one, other), axis)
    counts = (n + m for n, m in zip(one.parts.counts, other.parts.counts, strict=True))
    return deal(torch.cat((own(one), own(other)), axis), Parts(one.parts.group, tuple(counts)))


def _sums(kernel: Kernel, z: Tensor, w: Tensor, engine: str, blocks: Blocks | None = None) -> Tensor:
    """Σ_q k(z_p, z_q) w_q in float64, shape (..., P), of all items of a batch; ``blocks`` is symmetric."""

    def pair(x: Any, y: Any, u: Any, v: Any, *parameters: Any) -> Any:
        return kernel.expression(x, y, *parameters)

    parameters = tuple(p.to(z).reshape(-1) for p in kernel.parameters)
    if engine == "keops" and z.ndim == 3:
        blocks = diagonal(z.shape[1], z.shape[1], torch.full(z.shape[:1], z.shape[1], device="cpu"))
    pairs = Pairs(engine, None if blocks is None else (blocks, blocks))
    temporaries = kernel.temporaries(z.shape[-1])
    return pairs.sums(pair, z, z, w[..., None].to(z), None, None, parameters, temporaries).double()[..., 0]


def _engine(kernel: Kernel, z: Tensor, dtype: torch.dtype, engine: str, pairs: int) -> str:
    """``"keops"`` or ``"dense"``, as `geomsink.engine.pair` chooses; what is compiled is compared with torch first."""
    chosen = engine
    if engine == "auto":
        chosen = "dense" if kernel.looked_up else engine_of(pairs, z.shape[-1], False, dtype, kernel.of_distances)
    if chosen == "dense":
        return "dense"
    flat = z.flatten(0, -2)
    sample = flat[:: max(1, len(flat) // SAMPLE)][:SAMPLE].to(dtype)
    ones = sample.new_ones(len(sample))
    with torch.no_grad():
        expected = _sums(kernel, sample, ones, "dense")
        try:
            found = _sums(kernel, sample, ones, "keops")
        except BuildError as error:
            if engine == "keops":
                raise
            warnings.warn(f"the dense engine is used, which is slower: {error}", stacklevel=3)
            return "dense"
        except Exception as error:
            raise ValueError(f"kernel: {kernel.name!r} cannot be written with KeOps LazyTensors: {error}") from error
    if not torch.allclose(found, expected, rtol=AGREEMENT[dtype]):
        raise ValueError(
            f"kernel: {kernel.name!r} differs between the engines: on {len(sample)} of the points, its sums are "
            f"{expected.tolist()[:3]} in torch and {found.tolist()[:3]} in KeOps."
        )
    return "keops"


@dataclass(frozen=True)
class _Cells:
    """Points in an order of neighbours, in blocks with boxes around them.

    ``mass``, shape (K,), is the sum of absolute weights of each block.
    """

    tree: Tree
    boxes: Boxes
    mass: Tensor

    @classmethod
    def of(cls, z: Tensor, w: Tensor) -> _Cells:
        tree = Tree.of(Measure(z, w.abs()))
        boxes = Boxes.of(tree.measure.points)
        total = torch.nn.functional.pad(tree.measure.weights.cumsum(0), (1, 0))
        return cls(tree, boxes, total[boxes.bounds].diff())

    def near(self, kernel: Kernel, sigma: float, share: float) -> tuple[Blocks, float, float]:
        """Blocks that may have |k| above a share of its largest, their pairs of all, and what the others may add.

        The pattern is symmetric, so that its transpose, which derivatives need, is itself.
        """
        assert kernel.upper_bound is not None
        centre, half, kept, lost = self.boxes.centre, self.boxes.half, [], 0.0
        least = share * float(kernel.upper_bound(centre.new_zeros(())))
        step = max(1, chunk(centre.device) // (4 * centre.numel()))
        for start in range(0, len(centre), step):
            part = slice(start, start + step)
            gap = ((centre[part, None] - centre).abs() - half[part, None] - half).clamp(min=0.0).norm(dim=-1)
            most = kernel.upper_bound(gap / sigma)
            kept.append(most > least)
            lost += 0.5 * float(self.mass[part] @ most.masked_fill(kept[-1], 0.0) @ self.mass)
        blocks = Blocks.from_mask(self.boxes.ranges, self.boxes.ranges, torch.cat(kept))
        return blocks, blocks.pairs / len(self.tree) ** 2, lost
