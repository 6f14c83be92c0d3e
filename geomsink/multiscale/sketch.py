"""Sketches: a few points of a cloud, with weights of any sign, that take the place of all in sums of a Gaussian kernel.

On a cell not much wider than σ, every y ↦ exp(−κ‖x − y‖²/ε) is nearly a combination of the kernel's values at a few
of the cell's own points z_k (a pivoted Cholesky factorisation of the kernel matrix finds them; the part that is left
out is known). With the coefficients φ(y) = G⁻¹ (K(z_k, y))_k, G the kernel between the z_k,

    Σ_j w_j h(y_j) ≈ Σ_k ω_k h(z_k),   ω = Σ_j φ(y_j) w_j = G⁻¹ Σ_j K(z, y_j) w_j,

for all functions h that are as smooth as the kernel: e^{g/ε} K(x, ·) is, since the potential g is a softmin at the same
scale. In the other direction, h(y) ≈ φ(y)ᵀ h(z). (Kernel interpolation: Harbrecht, Peters, Schneider 2012, Appl. Numer.
Math. 62.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from .. import engine
from ..choose import squares_in_range
from ..costs import Cost
from ..engine import Blocks, Gibbs, Pair, gaussian
from ..measures import Measure
from .choosing import BATCH, WORTH, chosen_in, first_level, width
from .tree import Tree

NARROWER = 8.0
"""By what ε is divided for the kernel that shares the points among the nodes near them."""
RIDGE = 0.05
"""Of the fit of linear functions, in σ² a node, so that thin cells have no slope across."""
OF_SKETCHES = 0.9
"""Share of a cell's points that its nodes may be where they are of sketches: of two that are merged they are half, and
more in places."""
REMOTE = 1.0
"""Sum of a point's narrower kernel over the nodes of its cell below which it is too far from them."""
CHECKED = 32
"""Points of a cell at which interpolated numbers are looked at."""
ROWS = 1024
"""Points of a block of sums, at most."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """Points of a cloud that stand for all of it.

    Attributes
    ----------
    tree : Tree
        The cloud's, in whose order points are counted here.
    index : Tensor, shape (K,), int64
        Which of the points they are, increasing.
    cells : Tensor, shape (C, 2), int64
        Where each cell's points begin and end; together all points, in order.
    ends : Tensor, shape (C, 2), int64
        The same of its nodes.
    alone : Tensor, shape (C,), bool
        Cells whose points are all nodes.
    cost : Cost
    epsilon : float
    engine : str
    """

    tree: Tree
    index: Tensor
    cells: Tensor
    ends: Tensor
    alone: Tensor
    cost: Cost
    epsilon: float
    engine: str

    @classmethod
    def of(
        cls, tree: Tree, cost: Cost, epsilon: float, accuracy: float, engine_name: str = "auto", worth: float = WORTH
    ) -> Nodes:
        """Of the points of a tree.

        Parameters
        ----------
        tree : Tree
        cost : Cost
            With ``quadratic``.
        epsilon : float
        accuracy : float
            Largest share of the kernel at a point that its cell's nodes may miss, 3e-7 at best.
        engine_name : {"auto", "keops", "dense"}
            Of sums within cells.
        worth : float, default 0.6
            A cell whose nodes would be more than this share of its points is cut, or left as it is.
        """
        sigma, device = width(cost, epsilon), tree.order.device
        level = first_level(tree, sigma)
        if level is None:
            chosen, cells = tree.order >= 0, torch.tensor([[0, len(tree)]], device=device)
            alone = cells[:, 0] == 0
        else:
            chosen, cells, alone = chosen_in(tree, level, torch.arange(2**level, device=device), sigma, accuracy, worth)
        order, index = cells[:, 0].argsort(), chosen.nonzero()[:, 0]
        cells = cells[order].contiguous()
        return cls(tree, index, cells, torch.searchsorted(index, cells), alone[order], cost, epsilon, engine_name)

    def __len__(self) -> int:
        return len(self.index)

    def left_alone(self) -> float:
        """Share of the points that have no nodes but themselves."""
        return float((self.cells.diff()[:, 0] * self.alone).sum()) / len(self.tree)

    def sketch(self, measure: Measure) -> Measure:
        """The nodes in the tree's order, with signed weights: of a measure on the tree's points, in the caller's order,
        which may be a sketch itself."""
        order = self.tree.order
        weights = self.project(measure.weights[order, None])[:, 0]
        return Measure(self.tree.measure.points[self.index], weights, self._shares(measure.sizes[order]))

    def project(self, w: Tensor) -> Tensor:
        """Σ_j φ_k(y_j) w_j, shape (K, E), for w over the points, shape (N, E)."""
        out = self._solved(self._sums(w))
        out[self._own] = w[self.index[self._own]]
        return out

    def interpolate(self, values: Tensor) -> Tensor:
        """Smooth functions at the points, shape (N, E), from what they are at the nodes, shape (K, E).

        Linear functions close to them on each cell are taken out first: what is left is small.
        """
        slopes, means = self._linear(values)
        rest = values - self._at(self.tree.measure.points[self.index], self.ends, slopes, means)
        out = self._sums(self._solved(rest), back=True)
        out += self._at(self.tree.measure.points, self.cells, slopes, means)
        out[self.index] = values
        return out

    def _at(self, points: Tensor, ranges: Tensor, slopes: Tensor, means: Tensor) -> Tensor:
        """Linear functions of cells at points of theirs, whose ranges are given."""
        out = points.new_empty(len(points), means.shape[1], dtype=torch.float64)
        offsets = means - (self._centre[:, None] @ slopes)[:, 0]
        for k, (begin, end) in enumerate(ranges.tolist()):
            if not self._alone[k]:
                torch.addmm(offsets[k], points[begin:end].double(), slopes[k], out=out[begin:end])
        return out

    def checks(self) -> tuple[Tensor, Tensor]:
        """Some points of each cell, in the caller's order, shape (C', k), to look at what is interpolated; and which
        cells these are: those with other points than nodes."""
        cells = (~self.alone).nonzero()[:, 0]
        begin, size = self.cells[cells, :1], self.cells[cells].diff()
        places = torch.arange(CHECKED, device=size.device)
        return self.tree.order[begin + (2 * places + 1) * size // (2 * CHECKED)], cells

    def points_of(self, cells: Tensor) -> Tensor:
        """Of some cells, in the caller's order."""
        inside = torch.zeros(len(self.cells), dtype=torch.bool, device=cells.device)
        inside[cells] = True
        return self.tree.order[inside[self._cell_of_points]]

    # ------------------------------------------------------------------ cells

    @cached_property
    def _alone(self) -> list[bool]:
        return self.alone.tolist()

    @cached_property
    def _own(self) -> Tensor:
        """Nodes that stand for themselves alone, shape (K,), bool."""
        return self.alone[self._cell_of_nodes]

    @cached_property
    def _cell_of_nodes(self) -> Tensor:
        return _owners(self.ends, len(self.index))

    @property
    def _cell_of_points(self) -> Tensor:
        return _owners(self.cells, len(self.tree))

    @cached_property
    def _centre(self) -> Tensor:
        """Of the nodes of each cell, shape (C, D)."""
        return self._means(self.tree.measure.points[self.index].double())

    def _means(self, values: Tensor) -> Tensor:
        """Over the nodes of each cell, shape (C, E)."""
        sums = values.new_zeros(len(self.cells), values.shape[1]).index_add_(0, self._cell_of_nodes, values)
        return sums / self.ends.diff().to(values)

    def _linear(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes (C, D, E) and means (C, E) of linear functions close to values (K, E) on each cell."""
        cell, means = self._cell_of_nodes, self._means(values)
        t = self.tree.measure.points[self.index].double() - self._centre[cell]
        d, sigma = t.shape[1], width(self.cost, self.epsilon)
        gram = t.new_zeros(len(self.cells), d, d).index_add_(0, cell, t[:, :, None] * t[:, None])
        counts = self.ends.diff().to(t)
        gram += (RIDGE * sigma**2 * counts)[..., None] * torch.eye(d, dtype=t.dtype, device=t.device)
        rest = values - means[cell]
        right = t.new_zeros(len(self.cells), d, values.shape[1]).index_add_(0, cell, t[:, :, None] * rest[:, None])
        return torch.linalg.solve(gram, right), means

    # ------------------------------------------------------------------ sums within cells

    def _sums(self, w: Tensor, back: bool = False) -> Tensor:
        """Σ_j exp(−C(z_k, y_j)/ε) w_j over the points of a node's cell; ``back``, over the nodes of a point's."""
        pair, blocks = (self._pair.T, self._backward) if back else (self._pair, self._forward)
        return _summed(pair, blocks, self.epsilon, w)

    @cached_property
    def _pair(self) -> Pair:
        return self._pair_in(torch.float64)

    def _pair_in(self, dtype: torch.dtype) -> Pair:
        points = self.tree.measure.points.to(dtype)
        return engine.pair(points[self.index], points, self.cost, self.engine)

    @cached_property
    def _forward(self) -> Blocks:
        return _within(self.ends, self.cells, self.alone)

    @cached_property
    def _backward(self) -> Blocks:
        return _within(self.cells, self.ends, self.alone)

    @cached_property
    def _narrow(self) -> tuple[Pair, Tensor]:
        """The points in single precision if that holds them, and sums of a narrower kernel at each over its nodes."""
        fits = squares_in_range(float(self.tree.measure.points.abs().max()), torch.float32)
        pair = self._pair_in(torch.float32 if fits else torch.float64)
        ones = pair.x.new_ones(len(self.index), 1)
        return pair, _summed(pair.T, self._backward, self.epsilon / NARROWER, ones)[:, 0]

    @cached_property
    def remote(self) -> Tensor:
        """Points that are far from the nodes of their cells, in the caller's order."""
        few = (self._narrow[1] < REMOTE).nonzero()[:, 0]
        return self.tree.order[few[~self.alone[torch.searchsorted(self.cells[:, 1].contiguous(), few, right=True)]]]

    def _shares(self, weights: Tensor) -> Tensor:
        """Of the points' weights, those of the points near each node: its share of the narrower kernel."""
        pair, total = self._narrow
        total = total.double()
        total[self.index[self._own]] = 1.0
        w = (weights / total).to(pair.x.dtype)[:, None]
        shares = _summed(pair, self._forward, self.epsilon / NARROWER, w)[:, 0].double()
        return torch.where(self._own, weights[self.index], shares)

    @cached_property
    def _factors(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For cells of about as many nodes at a time, these (B, r), which of them are none, and G's Cholesky factor:
        products with G⁻¹ are off by its condition number, up to 10¹³, and solving with the factor is not."""
        made, sigma = [], width(self.cost, self.epsilon)
        counts = self.ends.diff()[:, 0]
        sizes, order = torch.where(self.alone, 0, counts).sort()
        for cells in filter(len, order[sizes > 0].split(BATCH)):  # of none, torch makes one piece
            most = int(counts[cells].max())
            place = torch.arange(most, device=counts.device)
            unused = place >= counts[cells, None]
            nodes = torch.where(unused, self.ends[cells, :1], self.ends[cells, :1] + place)
            z = self.tree.measure.points[self.index[nodes]].double() / sigma
            gram = gaussian(z, z)
            gram.masked_fill_(unused[:, None, :] | unused[:, :, None], 0.0)
            gram.diagonal(dim1=1, dim2=2).masked_fill_(unused, 1.0)
            made.append((nodes, unused, torch.linalg.cholesky(gram)))
        return made

    def _solved(self, right: Tensor) -> Tensor:
        """G⁻¹ of each cell times the numbers at its nodes, shape (K, E)."""
        out = torch.zeros_like(right)
        for nodes, unused, factor in self._factors:
            found = right[nodes].masked_fill_(unused[..., None], 0.0)
            # Two solutions take a fifth of the time of torch.cholesky_solve.
            found = torch.linalg.solve_triangular(factor, found, upper=False)
            found = torch.linalg.solve_triangular(factor.mT, found, upper=True)
            out[nodes[~unused]] = found[~unused]
        return out


def merged(
    cloud: Measure, cost: Cost, epsilon: float, accuracy: float, engine_name: str = "auto"
) -> tuple[Measure, Tensor]:
    """The sketch of a measure on features, or of several sketches put together, and which of the points are in it."""
    tree = Tree.of(Measure(cloud.points, cloud.sizes))
    nodes = Nodes.of(tree, cost, epsilon, accuracy, engine_name, OF_SKETCHES)
    found = nodes.sketch(cloud)
    nearby = found.sizes * (cloud.sizes.sum() / found.sizes.sum())  # which are rounded to a few digits
    return replace(found, nearby=nearby), tree.order[nodes.index]


def _summed(pair: Pair, blocks: Blocks, epsilon: float, w: Tensor) -> Tensor:
    return Gibbs(pair, pair.x.new_zeros(len(pair.x)), pair.y.new_zeros(len(pair.y)), epsilon, blocks).apply(w)


def _owners(ranges: Tensor, n: int) -> Tensor:
    """Which of some ranges, which are all numbers below n, each one is in."""
    return torch.arange(len(ranges), device=ranges.device).repeat_interleave(ranges.diff()[:, 0], output_size=n)


def _within(rows: Tensor, columns: Tensor, alone: Tensor) -> Blocks:
    """Rows of each cell see its columns, unless these stand for themselves."""
    pieces = -(-rows.diff()[:, 0] // ROWS)
    cell = torch.arange(len(rows), device=rows.device).repeat_interleave(pieces)
    piece = torch.arange(len(cell), device=rows.device) - (pieces.cumsum(0) - pieces)[cell]
    begin = rows[cell, 0] + piece * ROWS
    seen = ~alone[cell]
    first = torch.nn.functional.pad(seen.long().cumsum(0), (1, 0))
    end = (begin + ROWS).minimum(rows[cell, 1])
    return Blocks(begin, end, first, columns[cell[seen], 0].contiguous(), columns[cell[seen], 1].contiguous())
