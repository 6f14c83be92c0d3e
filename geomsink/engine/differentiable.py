"""Weighted sums of a function of pairs, differentiable in everything and to any order, in linear memory.

The derivative of a sum over pairs is a sum over pairs again: on KeOps, of the symbolic gradient of its formula; in
plain torch, of the gradient that autograd finds on a few rows at a time. Both recurse, so that a derivative has
derivatives itself, and neither keeps anything but its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from ..guards import exactly
from ..memory import chunk
from ..processes import Sharded
from . import build
from .batch import BatchPair
from .blocks import Blocks
from .gibbs import Pair
from .reduction import apart, reduce
from .sharded import SUFFIX, ring_sums

PairFunction = Callable[..., Any]


def weighted_sums(
    function: PairFunction,
    x: Tensor,
    y: Tensor,
    w: Tensor,
    u: Tensor | None = None,
    v: Tensor | None = None,
    parameters: tuple[Tensor, ...] = (),
    engine: str = "dense",
    blocks: tuple[Blocks, Blocks] | None = None,
    temporaries: int | None = None,
) -> Tensor:
    """Σ_j k(x_i, y_j, u_i, v_j) w_j, with autograd history in all arguments.

    Parameters
    ----------
    function : callable
        k, one number a pair: ``k(x, y, u, v, *parameters)`` on torch tensors that broadcast and on KeOps LazyTensors.
    x : Tensor, shape (..., N, D)
    y : Tensor, shape (..., M, D)
    w : Tensor, shape (..., M, E)
    u : Tensor, shape (..., N), optional
    v : Tensor, shape (..., M), optional
        Zeros if they are not given.
    parameters : tuple of Tensor, each of shape (K,)
    engine : {"dense", "keops"}
        Only the dense one takes batch dimensions.
    blocks : pair of Blocks, optional
        The pairs to sum over, and the same of the transpose. Default: all. For the KeOps engine.
    temporaries : int, optional
        Numbers a pair that k has in memory at a time on the dense engine. Default: D.

    Returns
    -------
    Tensor, shape (..., N, E)

    Examples
    --------
    >>> x = torch.tensor([[0.0], [1.0]], requires_grad=True)
    >>> product = lambda x, y, u, v: (x * y).sum(-1)
    >>> sums = weighted_sums(product, x, torch.tensor([[2.0], [3.0]]), torch.ones(2, 1))
    >>> torch.autograd.grad(sums.sum(), x)[0]
    tensor([[5.],
            [5.]])
    """
    u = x.new_zeros(x.shape[:-1]) if u is None else u
    v = y.new_zeros(y.shape[:-1]) if v is None else v
    if engine == "keops":
        widths = apart(w.shape[1])
        if len(widths) > 1 or widths[0] != w.shape[1]:  # few formulas, whatever the number of columns
            padded = torch.nn.functional.pad(w, (0, sum(widths) - w.shape[1]))
            parts = [
                weighted_sums(function, x, y, part, u, v, parameters, engine, blocks)
                for part in padded.split(widths, 1)
            ]
            return torch.cat(parts, 1)[:, : w.shape[1]]
        tensors = (x, y, u[:, None], v[:, None], *parameters, w)
        formula, constants = _formula(function, tensors, blocks)
        compiled: Tensor = _KeopsSum.apply(formula, *tensors, *constants)
        return compiled
    most = max(1, chunk(x.device) // (temporaries or y.shape[-1]))  # pairs at a time
    if y.shape[-2] > most:
        columns = zip(y.split(most, -2), w.split(most, -2), v.split(most, -1), strict=True)
        return sum(
            (weighted_sums(function, x, s, t, u, r, parameters, engine, None, temporaries) for s, t, r in columns),
            start=x.new_zeros(()),
        )
    rows, shared = (x, u[..., None]), (y, v[..., None], w, *parameters)
    step = max(1, most // max(1, y[..., 0].numel()))
    chunked = _Chunked(partial(_dense_sums, function), len(rows), (True,), step)
    sums: Tensor
    (sums,) = _ChunkedSum.apply(chunked, *rows, *shared)
    return sums


@dataclass(frozen=True)
class Pairs:
    """Which points are paired, and the engine that sums over the pairs.

    Attributes
    ----------
    engine : {"dense", "keops"}
    blocks : pair of Blocks, optional
        Of a batch on the KeOps engine, whose items' points follow each other, and of its transpose.
    """

    engine: str
    blocks: tuple[Blocks, Blocks] | None = None

    @classmethod
    def of(cls, pair: Pair) -> Pairs:
        """The pairs of a Gibbs operator."""
        return cls(pair.name, pair.blocks if isinstance(pair, BatchPair) else None)

    @property
    def T(self) -> Pairs:
        return Pairs(self.engine, self.blocks and self.blocks[::-1])

    def sums(
        self, function: PairFunction, x: Tensor, y: Tensor, w: Tensor, u: Tensor | None = None,
        v: Tensor | None = None, parameters: tuple[Tensor, ...] = (), temporaries: int | None = None,
    ) -> Tensor:  # fmt: skip
        """`weighted_sums`, of all items of a batch."""
        if isinstance(x, Sharded):
            engine = self.engine.removesuffix(SUFFIX)

            def between(x: Tensor, y: Tensor, w: Tensor, u: Tensor, v: Tensor, *p: Tensor) -> Tensor:
                return weighted_sums(function, x, y, w, u, v, p, engine, None, temporaries)

            u, v = x.new_zeros(x.shape[:-1]) if u is None else u, y.new_zeros(y.shape[:-1]) if v is None else v
            return ring_sums(between, x, y, w, u, v, parameters)
        if self.engine == "dense" or x.ndim == 2:
            return weighted_sums(function, x, y, w, u, v, parameters, self.engine, self.blocks, temporaries)
        flat = x.flatten(0, 1), y.flatten(0, 1), w.flatten(0, 1)
        u, v = u if u is None else u.flatten(), v if v is None else v.flatten()
        sums = weighted_sums(function, *flat, u, v, parameters, self.engine, self.blocks)
        shaped: Tensor = sums.unflatten(0, x.shape[:2])
        return shaped


# --------------------------------------------------------------------- plain torch


def _dense_sums(function: PairFunction, x: Tensor, u: Tensor, y: Tensor, v: Tensor, w: Tensor, *p: Tensor) -> Any:
    k = function(x[..., :, None, :], y[..., None, :, :], u, v.transpose(-1, -2), *p)
    # A function of the exponents alone, or of the points alone, may not have both axes.
    return (k.expand(*k.shape[:-2], x.shape[-2], y.shape[-2]) @ w,)


@dataclass(frozen=True)
class _Chunked:
    """A function of tensors that can be evaluated some rows at a time.

    Attributes
    ----------
    function : callable
        From all inputs, those with rows first, to a tuple of outputs.
    n_rows : int
        How many inputs have rows, along their second to last axis; the others are taken whole.
    has_rows : tuple of bool
        Which outputs have rows; the others are summed over rows.
    step : int
        Rows at a time.
    """

    function: Callable[..., tuple[Tensor, ...]]
    n_rows: int
    has_rows: tuple[bool, ...]
    step: int

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        rows, shared = inputs[: self.n_rows], inputs[self.n_rows :]
        n = rows[0].shape[-2]
        if n <= self.step:
            return self.function(*inputs)
        # Results have their place from the start: small ones kept between large temporaries would leave holes of these.
        whole: list[Tensor] = []
        for start in range(0, n, self.step):
            some = slice(start, start + self.step)
            outputs = self.function(*(t[..., some, :] for t in rows), *shared)
            if not whole:
                whole = [
                    output.new_zeros((*output.shape[:-2], n, output.shape[-1]) if has_rows else output.shape)
                    for output, has_rows in zip(outputs, self.has_rows, strict=True)
                ]
            for result, output, has_rows in zip(whole, outputs, self.has_rows, strict=True):
                (result[..., some, :] if has_rows else result).add_(output)
        return tuple(whole)

    def derivative(self, wanted: tuple[int, ...]) -> _Chunked:
        """From row inputs, cotangents of row outputs, other inputs, other cotangents to the wanted gradients."""
        n_rows, function = self.n_rows, self.function
        row_outputs = sum(self.has_rows)

        def gradients(*given: Tensor) -> tuple[Tensor, ...]:
            outer = any(t.requires_grad for t in given)
            split = n_rows + row_outputs, len(given) - (len(self.has_rows) - row_outputs)
            inputs = [*given[:n_rows], *given[split[0] : split[1]]]
            with torch.enable_grad():
                for k in wanted:
                    if not inputs[k].requires_grad:
                        inputs[k] = inputs[k].detach().requires_grad_()
                outputs = function(*inputs)
                by_rows, by_sum = iter(given[n_rows : split[0]]), iter(given[split[1] :])
                cotangents = [next(by_rows) if has_rows else next(by_sum) for has_rows in self.has_rows]
                live = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
                found = torch.autograd.grad(
                    [o for o, _ in live], [inputs[k] for k in wanted], [c for _, c in live],
                    create_graph=outer, allow_unused=True,
                ) if live else [None] * len(wanted)  # fmt: skip
            return tuple(torch.zeros_like(inputs[k]) if g is None else g for k, g in zip(wanted, found, strict=True))

        return _Chunked(gradients, n_rows + row_outputs, tuple(k < n_rows for k in wanted), self.step)


class _ChunkedSum(torch.autograd.Function):
    """A `_Chunked` function whose derivative is one again."""

    @staticmethod
    def forward(ctx: Any, chunked: _Chunked, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.chunked = chunked
        ctx.save_for_backward(*inputs)
        return chunked(*(t.detach() for t in inputs))

    @staticmethod
    @exactly()
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        chunked, inputs = ctx.chunked, ctx.saved_tensors
        wanted = tuple(k for k, needed in enumerate(ctx.needs_input_grad[1:]) if needed)
        of_rows = [c for c, has_rows in zip(cotangents, chunked.has_rows, strict=True) if has_rows]
        of_sums = [c for c, has_rows in zip(cotangents, chunked.has_rows, strict=True) if not has_rows]
        rows, shared = inputs[: chunked.n_rows], inputs[chunked.n_rows :]
        found = _ChunkedSum.apply(chunked.derivative(wanted), *rows, *of_rows, *shared, *of_sums)
        gradients: list[Tensor | None] = [None] * len(inputs)
        for k, gradient in zip(wanted, found, strict=True):
            gradients[k] = gradient
        return None, *gradients


# --------------------------------------------------------------------------- KeOps


def _symbolic(function: PairFunction, tensors: tuple[Tensor, ...]) -> Any:
    """The LazyTensor of function(x, y, u, v, *parameters) · w."""
    lazy = build.keops()
    x, y, u, v, *parameters, w = tensors
    pair = function(lazy.Vi(x), lazy.Vj(y), lazy.Vi(u), lazy.Vj(v), *(lazy.Pm(p) for p in parameters))
    return pair * lazy.Vj(w)


@dataclass(frozen=True)
class _Formula:
    """A KeOps formula whose k-th variable has ``dims[k]`` numbers along ``axes[k]`` (0: rows, 1: columns, 2: none)."""

    text: str
    dimension: int
    axes: tuple[int, ...]
    dims: tuple[int, ...]
    blocks: tuple[Blocks, Blocks] | None

    def run(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """The sums over columns."""
        n, m = (len(tensors[self.axes.index(axis)]) for axis in (0, 1))
        used = sorted({int(k) for k in re.findall(r"Var\((\d+),", self.text)})
        if _vanishes(self.text):
            return tensors[0].new_zeros(n, self.dimension)
        text = re.sub(r"Var\((\d+),", lambda found: f"Var({used.index(int(found[1]))},", self.text)
        blocks = self.blocks[0] if self.blocks else None
        return reduce(f"Sum_Reduction({text},0)", (), [tensors[k] for k in used], (n, m), self.dimension, blocks)

    def gradient(self, k: int) -> _Formula:
        """In the k-th variable, with the cotangents of the sums as one more variable; by columns, a transpose."""
        text = f"Grad({self.text},Var({k},{self.dims[k]},{self.axes[k]}),Var({len(self.axes)},{self.dimension},0))"
        axes, dims, blocks = (*self.axes, 0), (*self.dims, self.dimension), self.blocks
        if self.axes[k] == 1:
            text = re.sub(r"(Var\(\d+,\d+),([01])\)", lambda found: f"{found[1]},{1 - int(found[2])})", text)
            axes = tuple(1 - axis if axis < 2 else axis for axis in axes)
            blocks = blocks and (blocks[1], blocks[0])
        return _Formula(text, self.dims[k], axes, dims, blocks)


@cache
def _vanishes(text: str) -> bool:
    """Whether a formula is zero whatever its variables are, as second derivatives of something linear."""
    build.keops()
    import keopscore.formulas as formulas

    with build.one_at_a_time:
        return isinstance(eval(text, dict(vars(formulas))), formulas.Zero)


def _formula(
    function: PairFunction, tensors: tuple[Tensor, ...], blocks: tuple[Blocks, Blocks] | None
) -> tuple[_Formula, tuple[Tensor, ...]]:
    """The formula of a pair function for such tensors, and the constants that it has besides them."""
    axes = [0, 1, 0, 1, *[2] * (len(tensors) - 5), 1]
    # Small tensors in their place: KeOps takes one that stands for rows and for columns as one variable.
    shapes = [(t.shape[-1],) if axis == 2 else (1, t.shape[-1]) for t, axis in zip(tensors, axes, strict=True)]
    variables = [torch.ones(shape, dtype=tensors[0].dtype, device=tensors[0].device) for shape in shapes]
    symbolic = _symbolic(function, tuple(variables))
    place = {t.data_ptr(): k for k, t in enumerate(variables)}
    text: str = symbolic.formula
    constants: tuple[Tensor, ...] = ()
    for t in symbolic.variables:  # KeOps names them by their id, and may have made views of them
        k = place.get(t.data_ptr()) if isinstance(t, Tensor) else None
        if k is None:
            number = t.double() if isinstance(t, Tensor) else torch.as_tensor(t, dtype=torch.float64, device="cpu")
            k, constants = len(axes), (*constants, number.to(tensors[0]).reshape(-1))
            axes.append(2)
        text = text.replace(f"Var({id(t)},", f"Var(#{k},")
    dims = tuple(t.shape[-1] for t in (*tensors, *constants))
    return _Formula(text.replace("#", ""), symbolic.ndim, tuple(axes), dims, blocks), constants


class _KeopsSum(torch.autograd.Function):
    """A KeOps sum over columns whose derivatives are such sums again."""

    @staticmethod
    def forward(ctx: Any, formula: _Formula, *tensors: Tensor) -> Tensor:
        ctx.formula = formula
        ctx.save_for_backward(*tensors)
        return formula.run(tuple(t.detach() for t in tensors))

    @staticmethod
    @exactly()
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        tensors, formula = ctx.saved_tensors, ctx.formula
        gradients: list[Tensor | None] = [None] * len(tensors)
        for k, needed in enumerate(ctx.needs_input_grad[1:]):
            if needed:
                by_row = _KeopsSum.apply(formula.gradient(k), *tensors, cotangent.contiguous())
                gradients[k] = by_row.sum(0) if formula.axes[k] == 2 else by_row
        return None, *gradients
