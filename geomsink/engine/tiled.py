"""The Gibbs operator of squared distances on a GPU, in float32: sums and thin products by Triton, others by KeOps."""

from __future__ import annotations

import functools
import math
import warnings
from types import ModuleType

import torch
from torch import Tensor

from ..costs import Cost
from .blocks import Blocks
from .keops import KeopsPair

FEW = 4
"""Coordinates up to which squares of differences are summed; more are matrix products."""
MOST = 128
"""Coordinates, at most."""
THIN = 2
"""Columns that products have in one pass, at most."""
ROWS, COLUMNS, WARPS = 64, 32, 4
"""Of a tile of differences: a column and 16 rows a thread."""
WIDE = {16: (128, 64, 4, 3), 32: (128, 64, 8, 3), 64: (128, 64, 8, 2), 128: (64, 64, 4, 2)}
"""Rows and columns of a tile of products, warps, and stages of the pipeline, by coordinates."""
PROGRAMS = 16
"""To each multiprocessor, at least: ranges are cut into parts where there are fewer."""
SHORTEST = 512
"""Columns of a part, at least."""
LONGEST = 2**17
"""Columns of a part, at most: sums in float32 keep their digits."""


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
        self._points: dict[str, tuple[Tensor, ...]] = {}

    @staticmethod
    def takes(x: Tensor, cost: Cost) -> bool:
        """Whether points and a cost are of this kind, and Triton can be had."""
        quadratic = cost.quadratic is not None and x.dtype == torch.float32 and x.shape[-1] <= MOST
        return quadratic and x.is_cuda and _kernels() is not None

    def row_sums(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        found = self._sums(u, v, epsilon, None, blocks)
        return super().row_sums(u, v, epsilon, blocks) if found is None else found[0]

    def apply(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor, blocks: Blocks | None = None) -> Tensor:
        found = self._sums(u, v, epsilon, w, blocks) if w.shape[1] <= THIN else None
        return super().apply(u, v, epsilon, w, blocks) if found is None else found.T

    def _sums(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor | None, blocks: Blocks | None) -> Tensor | None:
        """Sums (E, N), or None where Triton has failed, which is said once."""
        kernels = _kernels()
        if kernels is None:
            return None
        try:
            return self._launched(kernels, u, v, epsilon, w, blocks)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:
            _failed.append(error)
            warnings.warn(f"KeOps is used, which is slower: Triton's kernels do not run ({error}).", stacklevel=4)
            return None

    def _launched(
        self, kernels: ModuleType, u: Tensor, v: Tensor, epsilon: float, w: Tensor | None, blocks: Blocks | None
    ) -> Tensor:
        scale, (n, d), m = self._kappa / epsilon / math.log(2.0), self.x.shape, len(self.y)
        exact, right = u.double() / math.log(2.0), v.double() / math.log(2.0)
        if d <= FEW:
            points, kernel, factor = self._by_coordinates(), kernels.by_differences, scale
            rows, columns, warps, stages = ROWS, COLUMNS, WARPS, 1
        else:
            d = max(16, 2 ** math.ceil(math.log2(d)))
            *points, squares_x, squares_y = self._split(d)
            exact, right = exact - scale * squares_x, right - scale * squares_y
            kernel, factor = kernels.by_products, 2.0 * scale
            rows, columns, warps, stages = WIDE[d]
        left, right = exact.float(), right.float()
        pattern, most = _every(n, m, rows, self.x.device), rows
        if blocks is not None:
            pattern, most = blocks.compact(self.x.device), blocks.rows_at_most
        grid = len(pattern[0]), -(-most // rows)
        parts, width = _parts(grid[0] * grid[1], m, self.x.device), 0 if w is None else w.shape[1]
        out = torch.empty(max(width, 1), parts, n, dtype=torch.float32, device=self.x.device)
        kernel[(grid[0], grid[1], parts)](
            *points, left, right, right if w is None else w.T.contiguous(), out, *pattern, n, m, factor,
            D=d, E=width, ROWS=rows, COLUMNS=columns, num_warps=warps, num_stages=stages,
        )  # fmt: skip
        # What rounding the rows' exponents has changed is known.
        sums: Tensor = out.sum(1, dtype=torch.float64) * torch.exp2(exact - left.double())
        return sums.float()

    def _by_coordinates(self) -> list[Tensor]:
        if "coordinates" not in self._points:
            self._points["coordinates"] = self.x.T.contiguous(), self.y.T.contiguous()
        return list(self._points["coordinates"])

    def _split(self, width: int) -> tuple[Tensor, ...]:
        """Centred points, padded with zeros, each as a number of 11 bits and a rest; and their squares, float64."""
        if "split" not in self._points:
            x, y = self.x.double(), self.y.double()
            centre = 0.5 * (x.mean(0) + y.mean(0))
            parts, squares = [], []
            for points in (x - centre, y - centre):
                whole = torch.nn.functional.pad(points, (0, width - points.shape[1]))
                high = (whole.float().view(torch.int32) & -(2**13)).view(torch.float32)
                parts += [high, (whole - high.double()).float()]
                squares.append(points.square().sum(1))
            self._points["split"] = (*parts, *squares)
        return self._points["split"]


def compiled(x: Tensor, y: Tensor, cost: Cost) -> KeopsPair:
    """Two clouds (N, D) and (M, D) and a cost, in tiles where these do."""
    return (TiledPair if TiledPair.takes(x, cost) else KeopsPair)(x, y, cost)


_failed: list[Exception] = []


@functools.lru_cache(maxsize=1)
def _imported() -> ModuleType | None:
    try:
        from . import tiles
    except ImportError:
        return None
    return tiles


def _kernels() -> ModuleType | None:
    """Triton's kernels, if it can be had and has not failed."""
    return None if _failed else _imported()


@functools.lru_cache(maxsize=64)
def _every(n: int, m: int, rows: int, device: torch.device) -> tuple[Tensor, ...]:
    """The pattern of all pairs, as `Blocks.compact` has it, with so many rows a block."""
    begin = torch.arange(0, n, rows, dtype=torch.int32, device=device)
    first = torch.arange(len(begin) + 1, dtype=torch.int32, device=device)
    return begin, (begin + rows).clamp(max=n), first, torch.zeros_like(begin), torch.full_like(begin, m)


@functools.lru_cache(maxsize=64)
def _parts(programs: int, columns: int, device: torch.device) -> int:
    """Parts that ranges of columns are cut into, so that a device is busy and sums are short."""
    wanted = PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    busy = min(-(-wanted // max(1, programs)), -(-columns // SHORTEST))
    return max(1, busy, -(-columns // LONGEST))
