"""Stand-ins: a few points of a cell that take the place of all of them in sums of a Gaussian kernel.

On a cell not much wider than σ, every y ↦ exp(−κ‖x − y‖²/ε) is nearly a combination of the kernel's values
at a few of the cell's own points z_k (a pivoted Cholesky factorisation of the kernel matrix finds them; the part that
is left out is known). With the interpolation coefficients φ_k(y),

    Σ_j e^{v_j} exp(−κ‖x − y_j‖²/ε) ≈ Σ_k W_k e^{ℓ(z_k)} exp(−κ‖x − z_k‖²/ε),   W_k = Σ_j φ_k(y_j) e^{v_j − ℓ(y_j)},

for a linear function ℓ close to v on the cell: a Gaussian times the exponential of a linear function is a shifted
Gaussian, so that nothing is lost by the tilt, and what remains of v varies little. (Kernel interpolation: Harbrecht,
Peters, Schneider 2012, Appl. Numer. Math. 62.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engine import chosen_points, gaussian
from ..memory import chunk
from .tree import Tree

Slopes = Callable[[Tensor], Tensor]
WIDTH = 3.0
"""Width of the cells that are tried first, in σ."""
WIDEST = 6.0
"""Width, in σ, above which a cell is cut."""
BATCH = 256
"""Cells that are worked on at a time on a CPU."""
TEMPORARIES = 8
"""Pieces of memory that they may take elsewhere: each step of their factorisations is a launch."""
SAMPLE = 384
"""Points of a cell among which its stand-ins are looked for."""
MOST = 128
"""Stand-ins of a cell, at most."""
WORTH = 0.6
"""A cell whose stand-ins would be more than this share of its points is left as it is."""
ROUGH = 1.5
"""Range of v on a cell, about a linear function, above which it is cut: the transport map varies too much there."""
RIDGE = 0.05
"""Of the fit, in σ², so that thin cells keep the slope across that they are given."""
FINEST = 3e-7
"""Accuracy, at best: its square is what float64 can still tell from zero in a factorisation."""
FEWEST = 32
"""Cells of fewer points are left as they are."""


@dataclass(frozen=True)
class _Basis:
    """Cells of one level: their points, and the stand-ins of those that have any.

    ``members`` (B, w) are the points, ``padding`` (B, w) says which of them only fill up a smaller cell, ``pivots``
    (B, r) are the stand-ins' places among the members (with coefficients 0 beyond a cell's own number), ``phi``
    (B, r, w) the coefficients φ_k(y_j).
    """

    cells: Tensor
    members: Tensor
    padding: Tensor
    pivots: Tensor
    phi: Tensor

    def __getitem__(self, some: Tensor) -> _Basis:
        if bool(some.all()):
            return self
        return _Basis(self.cells[some], self.members[some], self.padding[some], self.pivots[some], self.phi[some])


class Bases:
    """Stand-ins of the cells of a tree, found when they are first asked for; they do not depend on potentials.

    Parameters
    ----------
    tree : Tree
    sigma : float
        Standard deviation of the kernel, in the units of the points.
    accuracy : float
        Largest share of the kernel at a point that its cell's stand-ins may miss, 3e-7 at best.
    """

    def __init__(self, tree: Tree, sigma: float, accuracy: float):
        self.tree, self.sigma, self.accuracy = tree, sigma, max(accuracy, FINEST)
        self.points = tree.measure.points.double()
        self._known: dict[int, Tensor] = {}
        self._found: dict[int, list[_Basis]] = {}

    def first_level(self) -> int:
        """The coarsest level whose cells are mostly narrow enough."""
        for level in range(self.tree.depth):
            inside = self.points[self.tree.members(level)[0]]
            if float((inside.amax(1) - inside.amin(1)).amax(1).median()) <= WIDTH * self.sigma:
                return level
        return self.tree.depth

    def _at_once(self, level: int) -> int:
        """How many cells of a level are worked on at a time."""
        if self.points.device.type == "cpu":
            return BATCH
        return max(1, TEMPORARIES * chunk(self.points.device) // (MOST * (len(self.tree) >> level)))

    def inside(self, level: int, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Members (B, w) of cells, their centres (B, D), and their places around them (B, w, D), in σ."""
        members = self.tree.members(level)[0][cells]
        points = self.points[members]
        centre = 0.5 * (points.amin(1) + points.amax(1))
        return members, centre, (points - centre[:, None]) / self.sigma

    def at(self, level: int, cells: Tensor) -> list[_Basis]:
        """The cells among the given ones that stand-ins are worth it for."""
        known = self._known.setdefault(level, torch.zeros(2**level, dtype=torch.bool, device=self.points.device))
        found = self._found.setdefault(level, [])
        missing = cells[~known[cells]]
        known[missing] = True
        for some in missing.split(self._at_once(level)) if len(missing) else ():
            members, _, places = self.inside(level, some)
            padding = self.tree.members(level)[1][some]
            step = -(-places.shape[1] // SAMPLE)
            most = min(MOST, max(1, math.ceil(WORTH * places.shape[1])))
            pivots, rank, reached = chosen_points(places[:, ::step].contiguous(), self.accuracy, most)
            pivots = pivots * step
            worth = reached & (rank <= WORTH * (len(self.tree) >> level))
            if bool(worth.any()):
                pivots, rank = pivots[worth, : int(rank[worth].max())], rank[worth]
                phi = _coefficients(places[worth], pivots, rank)
                phi.masked_fill_(padding[worth][:, None], 0.0)
                found.append(_Basis(some[worth], members[worth], padding[worth], pivots, phi))
        wanted = torch.zeros(2**level, dtype=torch.bool, device=self.points.device)
        wanted[cells] = True
        chosen = [(basis, wanted[basis.cells]) for basis in found]
        return [basis[some] for basis, some in chosen if bool(some.any())]


@dataclass(frozen=True)
class _Cells:
    """Cells in use: a basis, the places of its stand-ins among all sources, and the linear functions ℓ."""

    basis: _Basis
    nodes: Tensor
    centre: Tensor
    slope: Tensor


@dataclass(frozen=True)
class StandIns:
    """The sources that rows sum over: stand-ins, and the points that stand for themselves.

    Attributes
    ----------
    index : Tensor, shape (K,), int64
        Which points of the tree they are.
    """

    index: Tensor
    _cells: tuple[_Cells, ...]
    _points: Tensor

    @classmethod
    def none(cls, points: Tensor) -> StandIns:
        """Every point stands for itself."""
        return cls(torch.arange(len(points), device=points.device), (), points)

    @classmethod
    def of(cls, bases: Bases, v: Tensor, slopes: Slopes) -> StandIns:
        """Stand-ins for the cells that are narrow enough and on which v is nearly linear; the others are cut.

        Parameters
        ----------
        bases : Bases
        v : Tensor, shape (N,)
            Exponents that sums will be made with, or close to them, in the tree's order.
        slopes : callable
            About the gradients of v, shape (K, D) at points (K, D).
        """
        tree, n = bases.tree, len(bases.tree)
        level = bases.first_level()
        device = v.device
        pending = torch.arange(2**level, device=device)
        used: list[tuple[_Basis, Tensor, Tensor]] = []
        covered, standing = torch.zeros(2, n, dtype=torch.bool, device=device)
        while len(pending) and n >> level >= FEWEST and level <= tree.depth:
            members, centre, places = bases.inside(level, pending)
            slope, rough = _tilt(places, v[members], bases.sigma * slopes(centre))
            fits = (2.0 * places.abs().amax((1, 2)) <= WIDEST) & (rough <= ROUGH)
            at = torch.zeros(2**level, dtype=torch.int64, device=device)
            at[pending] = torch.arange(len(pending), device=device)
            done = torch.zeros_like(fits)
            for basis in bases.at(level, pending[fits]):
                here = at[basis.cells]
                used.append((basis, centre[here], slope[here] / bases.sigma))
                done[here] = True
                covered[basis.members] = True
                standing[basis.members.gather(1, basis.pivots)] = True
            pending = pending[~done]
            pending = torch.stack((2 * pending, 2 * pending + 1), 1).flatten()
            level += 1
        index = (standing | ~covered).nonzero()[:, 0]
        place = torch.zeros(n, dtype=torch.int64, device=device)
        place[index] = torch.arange(len(index), device=device)
        cells = (_Cells(basis, place[basis.members.gather(1, basis.pivots)], *rest) for basis, *rest in used)
        return cls(index, tuple(cells), bases.points)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def are_points(self) -> bool:
        """Whether every point stands for itself."""
        return not self._cells

    def spread(self, v: Tensor, w: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Exponents (K,) and factors (K, E) of the sources, for exponents v (N,) and factors w (N, E) of the points.

        Without factors there is one column of ones.
        """
        w = torch.ones_like(v)[:, None] if w is None else w
        exponents, factors = v[self.index], w[self.index]
        for cells in self._cells:
            basis = cells.basis
            inside = self._points[basis.members] - cells.centre[:, None]
            tilt = (inside @ cells.slope[:, :, None])[..., 0]
            rest = v[basis.members] - tilt
            top = rest.amax(1, keepdim=True)
            terms = (rest - top).exp()[..., None] * w[basis.members]
            weights = basis.phi @ terms.to(basis.phi.dtype)
            nodes = cells.nodes
            at = self._points[self.index[nodes]] - cells.centre[:, None]
            factors.index_put_((nodes.flatten(),), torch.zeros((), dtype=v.dtype, device=v.device))
            factors.index_add_(0, nodes.flatten(), weights.flatten(0, 1).double())
            exponents.index_put_((nodes.flatten(),), ((at @ cells.slope[:, :, None])[..., 0] + top).flatten())
        return exponents, factors


def _tilt(points: Tensor, v: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes (B, D) of linear functions close to v (B, w) on cells (B, w, D), and the range of what they leave."""
    t = points - points.mean(1, keepdim=True)
    rest = v - (t @ prior[:, :, None])[..., 0]
    rest = (rest - rest.mean(1, keepdim=True))[..., None]
    gram = t.mT @ t + RIDGE * t.shape[1] * torch.eye(t.shape[2], dtype=t.dtype, device=t.device)
    more = torch.cholesky_solve(t.mT @ rest, torch.linalg.cholesky(gram))
    rest = (rest - t @ more)[..., 0]
    return prior + more[..., 0], rest.amax(1) - rest.amin(1)


def _coefficients(points: Tensor, pivots: Tensor, rank: Tensor) -> Tensor:
    """φ_k(y_j), shape (B, r, w), float32; rows beyond a cell's rank are 0."""
    nodes = points.gather(1, pivots[..., None].expand(-1, -1, points.shape[2]))
    unused = torch.arange(pivots.shape[1], device=rank.device) >= rank[:, None]
    gram, right = gaussian(nodes, nodes), gaussian(nodes, points)
    gram.masked_fill_(unused[:, None, :] | unused[:, :, None], 0.0)
    gram.diagonal(dim1=1, dim2=2).masked_fill_(unused, 1.0)
    right.masked_fill_(unused[..., None], 0.0)
    factor = torch.linalg.cholesky(gram)
    return torch.cholesky_solve(right, factor).float()
