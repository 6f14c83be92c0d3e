"""The Gibbs operator of squared distances on a GPU, in float32: sums and thin products by Triton, others by KeOps."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ..costs import Cost
from . import triton_at_hand
from .blocks import Blocks
from .keops import KeopsPair

FEW = 4
"""Coordinates up to which squares of differences are summed; more are matrix products."""
MOST = 128
"""Coordinates, at most."""
THIN, BROAD = 4, (16, 32, 64)
"""Columns that products have in one pass: at most, in few coordinates; and in many."""
ROWS, COLUMNS, WARPS = 64, 32, 4
"""Of a tile of differences: a column and 16 rows a thread."""
WIDE = {16: (128, 64, 4, 3), 32: (128, 64, 4, 3), 64: (128, 64, 4, 3), 128: (64, 32, 4, 3)}
"""Rows and columns of a tile of products, warps, and stages of the pipeline, by coordinates: in 64, 4 warps have 1.2
times the pairs a second of 8 on an H200."""
BUSY = 64, 32, 4, 2
"""The same where there are columns to multiply with, too, which take registers."""
PROGRAMS = 64
"""To each multiprocessor, at least: ranges are cut into parts where there are fewer."""
SHORTEST = 512
"""Columns of a part, at least."""
HALF = 2.0**-11
"""Of a number, at most, that its half in float16 leaves to the other."""
PLACES = 2**31 - 1
"""Of numbers in a tensor, at most: kernels count them in int32."""
LONGEST = 2**17
"""Columns of a part, at most: sums in float32 keep their digits."""


_Halves = tuple[tuple[Tensor, ...], tuple[Tensor, Tensor], float]


class TiledPair(KeopsPair):
    """Two clouds and a squared distance, κ‖x − y‖², in float32.

    Parameters
    ----------
    x : Tensor, shape (N, D)
    y : Tensor, shape (M, D)
        With at most 128 coordinates.
    cost : Cost
    """

    def __init__(self, x: Tensor, y: Tensor, cost: Cost):
        super().__init__(x, y, cost)
        assert cost.quadratic is not None and x.dtype == torch.float32
        self._kappa = cost.quadratic
        self._scaled: tuple[float, Tensor, Tensor] | None = None
        self._split: _Halves | None = None

    @staticmethod
    def takes(x: Tensor, cost: Cost) -> bool:
        """Whether points and a cost are of this kind, and Triton can be had."""
        quadratic = cost.quadratic is not None and x.dtype == torch.float32 and x.shape[-1] <= MOST
        return quadratic and x.is_cuda and triton_at_hand.is_there()

    def row_sums(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        found = self._sums(u, v, epsilon, None, blocks)
        return super().row_sums(u, v, epsilon, blocks) if found is None else found[:, 0]

    def apply(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor, blocks: Blocks | None = None) -> Tensor:
        few, width = self.x.shape[1] <= FEW, w.shape[1]
        if not width or (few and width > THIN):
            return super().apply(u, v, epsilon, w, blocks)
        passes = w.split(THIN if few else BROAD[-1], 1)
        parts = [self._sums(u, v, epsilon, part.float(), blocks) for part in passes]
        found = [part for part in parts if part is not None]
        return torch.cat(found, 1) if len(found) == len(parts) else super().apply(u, v, epsilon, w, blocks)

    def _sums(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor | None, blocks: Blocks | None) -> Tensor | None:
        """Sums (N, E), or None where Triton has failed, or numbers of places do not fit."""
        if max(len(self.x), len(self.y)) * max(_padded_to(self.x.shape[1]), 1 if w is None else w.shape[1]) > PLACES:
            return None
        return triton_at_hand.run(self.x.device, self._launched, u, v, epsilon, w, blocks)

    def _launched(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor | None, blocks: Blocks | None) -> Tensor:
        from . import tiles

        scale, (n, d), m = self._kappa / epsilon / math.log(2.0), self.x.shape, len(self.y)
        exact, right = u.double() / math.log(2.0), v.double() / math.log(2.0)
        if d <= FEW:
            points, scales = self._by_coordinates(scale), tuple[float, ...]()
            kernel = tiles.by_differences
            rows, columns, warps, stages = ROWS, COLUMNS, WARPS, 1
        else:
            d = _padded_to(d)
            points, (squares_x, squares_y), size = self._halves(d)
            exact, right = exact - scale * squares_x, right - scale * squares_y
            kernel, scales = tiles.by_products, (2.0 * scale * size**2, 2.0 * scale * size**2 * HALF)
            rows, columns, warps, stages = WIDE[d] if w is None else BUSY
        left, right = exact.float(), right.float()
        pattern, most = _every(n, m, rows, self.x.device), rows
        if blocks is not None:
            pattern, most = blocks.compact(self.x.device), blocks.rows_at_most
        grid = len(pattern[0]), -(-most // rows)
        width = 0 if w is None else w.shape[1]
        wide = next(b for b in BROAD if b >= width) if d > FEW and width else width  # of a product on matrix units
        parts = _parts(grid[0] * grid[1], m, self.x.device, PLACES // max(1, n * max(wide, 1)))
        shape = (parts, n, wide) if wide > THIN else (max(width, 1), parts, n)
        out = torch.empty(shape, dtype=torch.float32, device=self.x.device)
        factors = right if w is None else w.T.contiguous() if wide == width <= THIN else _padded(w, wide)
        kernel[(grid[0], grid[1], parts)](
            *points, left, right, factors, out, *pattern, n, m, *scales,
            D=d, E=wide, ROWS=rows, COLUMNS=columns, num_warps=warps, num_stages=stages,
        )  # fmt: skip
        # What rounding the rows' exponents has changed is known; of −10³⁰, for −∞, it does not matter.
        sums = out.sum(0, dtype=torch.float64)[:, :width] if wide > THIN else out.sum(1, dtype=torch.float64).T
        return (sums * torch.exp2((exact - left.double()).clamp(-1.0, 1.0))[:, None]).float()

    def _by_coordinates(self, scale: float) -> tuple[Tensor, ...]:
        """Points by coordinates, in units in which a squared distance is an exponent."""
        if self._scaled is None or self._scaled[0] != scale:
            root = math.sqrt(scale)
            self._scaled = scale, (root * self.x).T.contiguous(), (root * self.y).T.contiguous()
        return self._scaled[1:]

    def _halves(self, width: int) -> _Halves:
        """Centred points in units of a size, each as two halves, padded with zeros; their squares; and the size."""
        if self._split is None:
            x, y = self.x.double(), self.y.double()
            centre = 0.5 * (x.mean(0) + y.mean(0))
            x, y = x - centre, y - centre
            size = 2.0 ** math.ceil(math.log2(max(float(torch.maximum(x.abs().max(), y.abs().max())), 1e-30)))
            halves: list[Tensor] = []
            for points in (x, y):
                whole = torch.nn.functional.pad(points / size, (0, width - points.shape[1]))
                halves += [whole.half(), ((whole - whole.half().double()) / HALF).half()]
            self._split = tuple(halves), (x.square().sum(1), y.square().sum(1)), size
        return self._split


def compiled(x: Tensor, y: Tensor, cost: Cost) -> KeopsPair:
    """Two clouds (N, D) and (M, D) and a cost, in tiles where these do."""
    return (TiledPair if TiledPair.takes(x, cost) else KeopsPair)(x, y, cost)


def _padded_to(dimension: int) -> int:
    """Coordinates that points have in tiles."""
    return dimension if dimension <= FEW else max(16, 2 ** math.ceil(math.log2(dimension)))


def _padded(w: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(w, (0, width - w.shape[1])).contiguous()


@functools.lru_cache(maxsize=64)
def _every(n: int, m: int, rows: int, device: torch.device) -> tuple[Tensor, ...]:
    """The pattern of all pairs, as `Blocks.compact` has it, with so many rows a block."""
    begin = torch.arange(0, n, rows, dtype=torch.int32, device=device)
    first = torch.arange(len(begin) + 1, dtype=torch.int32, device=device)
    return begin, (begin + rows).clamp(max=n), first, torch.zeros_like(begin), torch.full_like(begin, m)


@functools.lru_cache(maxsize=64)
def _parts(programs: int, columns: int, device: torch.device, most: int) -> int:
    """Parts that ranges of columns are cut into, so that a device is busy and sums are short."""
    wanted = PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    busy = min(-(-wanted // max(1, programs)), -(-columns // SHORTEST))
    return max(1, min(most, max(busy, -(-columns // LONGEST))))
