"""The one room where ``auto`` decides: the engine, the precision, the way to solve, and what else depends on size.

Facts in, words out: nothing else of the house is imported, and every wing may ask. Each threshold stands beside the
measurement behind it. Ratios are of seconds on two cores, of ``python benchmarks/thresholds.py`` where nothing else is
said (benchmarks/results/thresholds.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from .facts import Facts, Wanted

# ---------------------------------------------------------------------- the engine

CPU = torch.device("cpu")
SMALL = 2**20
"""Up to this many pairs the engine is dense, which compiles nothing: twenty sums take 0.1 s. Once it is compiled, in
some seconds a formula, KeOps is faster: 1.8 times at 2¹⁶ pairs, 4.0 times here, 4.9 times at 2²²."""
MANY = 32
"""Coordinates from which on squared distances are matrix products, on the dense engine: against KeOps' formulas 0.36
times as fast with 16, 1.8 times with 32, 2.9 times with 64."""
ROOTS = 128
"""The same for other functions of distances, with roots, where those of close points are found again: 0.4 times as fast
with 64, 0.7 times with 96, 1.2 times with 128 (by hand)."""


def engine_of(
    pairs: int, dimension: int, quadratic: bool, dtype: torch.dtype = torch.float32, distances: bool = False,
    tiled: bool = False, device: torch.device = CPU,
) -> str:  # fmt: skip
    """``"dense"`` or ``"keops"``, for so many pairs of points, a cost that is a squared distance or not, and one that
    is made of ``distances`` or not, sums in this precision, compiled ones that are matrix products themselves or not,
    and a device."""
    kept = quadratic and kernel_is_kept(pairs, "dense", dtype, device)
    by_matrices = not tiled and (by_products(dimension, quadratic) or (distances and dimension >= ROOTS))
    return "dense" if pairs <= SMALL or kept or by_matrices else "keops"


def by_products(dimension: int, quadratic: bool = True) -> bool:
    """Whether squared distances are made by a matrix product: ‖x‖² + ‖y‖² − 2⟨x, y⟩."""
    return quadratic and dimension >= MANY


# ------------------------------------------------------------------- the precision

FEW_PAIRS = 2**20
"""Up to this many pairs float64 costs nothing: a solve takes 0.55 times as long as in float32; at twice as many, where
sums are KeOps', 1.3 times as long, and at four times as many 1.4 times."""
ROUNDING = {torch.float32: 6e-8, torch.float64: 1.2e-16}
"""Of one number, relative."""
AVERAGED = 8.0
"""Rounding of exponents, in units of ``tol``, that sums over many pairs average away: a thirtieth to a ninetieth was
left as marginal error on the scanned shapes of the tests."""
WARM = 10.0
"""Largest ε, in units of the largest cost, of a solve in float32: potentials are rounded by 6e-8 ε."""
ENDLESS = 1e8
"""ε, in units of the largest cost, from which on the limit ε = ∞ is computed: the difference is of order C/ε,
and the rounding of potentials of size ε would be larger."""
RANGE = {torch.float32: 1e30, torch.float64: 1e290}
"""Costs and temperatures are kept inside of [1/RANGE, RANGE]."""
CHEAP = 2**28
"""Pairs up to which certificates sum in float64 at once: rounding is most of the width of intervals that float32
gives."""


def in_range(cost_scale: float, epsilon: float, dtype: torch.dtype) -> bool:
    """Whether costs, ε and 1/ε are normal numbers of the precision, with room for sums."""
    largest = RANGE[dtype]
    return cost_scale < largest and (epsilon == math.inf or 1 / largest < epsilon < largest)


def squares_in_range(extent: float, dtype: torch.dtype) -> bool:
    """Whether squares of coordinates are, which extend over a length that may be 0."""
    largest = math.sqrt(RANGE[dtype])
    return extent == 0.0 or 1 / largest < extent < largest


def endless(epsilon: float, cost_scale: float) -> bool:
    """Whether ε is so large that its limit is computed, for fixed marginals."""
    return epsilon == math.inf or epsilon > ENDLESS * cost_scale > 0.0


def precision(pairs: int, given: torch.dtype) -> torch.dtype:
    """That of sums over so many pairs of points that were given in a precision, where it is not a matter of ε."""
    return torch.float64 if pairs <= FEW_PAIRS else given


def certified_precision(pairs: int, working: torch.dtype, known: bool) -> torch.dtype:
    """That of a certificate's sums, where it is known or not how far rounding points puts the cost off."""
    return working if known and pairs > CHEAP else torch.float64


# ----------------------------------------------------------------- the way to solve

PAYS, PAYS_ON_GPU = 2**21, 2**32
"""Pairs from which on cells pay: several levels, and sums that leave out pairs of far cells. On surfaces at σ = 0.05
one level takes 0.83 times as long at 2²¹ pairs, 1.3 to 1.9 times at 2²², on two machines, and 3.8 times at 2²⁴; a GPU
has all pairs at once."""
WIDEST = 4
"""Coordinates up to which several levels do: cells of more are wide, and nearly all pairs are summed. Between 5,000
uniform points of a cube several levels take 0.15 times as long as one in 2 coordinates, 1.1 times in 4, 4.3 times in
5."""
COARSE = 4.0
"""Mean cost within the finest cells, in ε, from which on cells say nothing about the points: a radius of 2.8 σ."""


def paying(device: torch.device) -> int:
    """Pairs from which on cells pay on a device."""
    return PAYS_ON_GPU if device.type == "cuda" else PAYS


def skips_pairs(pairs: int, device: torch.device, bounded: bool, batched: bool = False) -> bool:
    """Whether sums over pairs leave out those of far cells, given a bound of what that does."""
    return bounded and pairs >= paying(device) and not batched


SKETCHED_ON_GPU = 2**35
"""Pairs from which on clouds are sketched there: it takes longer than to sum over all of fewer."""
FEW_NODES = 0.6
"""Nodes of a sketch, in points of the cloud, up to which it takes the cloud's place."""


def pays_to_sketch(nodes: int, points: int) -> bool:
    """Whether so many nodes take the place of so many points."""
    return nodes <= FEW_NODES * points


LOOKED_AT = 2**24, 2**26
"""Pairs that are looked at for the sparse plan of Newton's steps: any that many, an eighth of all, but at most so many,
which are 1.6 GB of indices and costs where all carry mass."""


def sparse_plan_fits(looked_at: int, pairs: int) -> bool:
    """Whether Newton's steps are made on the points' own plan, if so many of all pairs have to be looked at."""
    return looked_at <= max(LOOKED_AT[0], min(pairs // 8, LOOKED_AT[1]))


KEPT, KEPT_ON_GPU = 2**22, 2**27
"""Pairs up to which a plan is kept as a matrix for the products of Newton's equation, on the dense engine: 32 MB. A
product from memory takes a twentieth of one that is summed again, and making the matrix two of those (by hand). Solves
on one level, too, keep a kernel of so many. A GPU, whose memory is faster than its exponentials, keeps 1 GB."""


NEAR = 4.0, 0.5, 0.25
"""Cost to the nearest neighbour in the own cloud, in ε, from which on the path down the temperatures is followed
from the start: for a squared distance, σ of 0.35 spacings where a kernel is in memory, of one spacing where costs are,
and of 1.4 spacings with more pairs. Between uniform points of a cube, path following takes 3.5 times as long as one
level at half a spacing and 0.2 times at a quarter with 1,000 points; with 2,500, 1.2 times at a spacing. Between
surfaces of 20,000 and 40,000 points it takes 1.2 and 1.5 times as long as levels at 1.8 and 2 spacings; of 100,000,
less than a quarter at 1.2 (by hand). With points on several processes by the pairs of all; but the first of these for
other costs than squared distances, whose plans have many pairs far out. On a GPU the first of these where costs are in
memory, where updates are quicker (`--device cuda`, thresholds-nvidia-h200.md): at 0.35 spacings path following takes
2.1 to 2.3 times as long with up to 4,000 points and 0.3 times with 8,000. With 20,000 it takes 0.8 times as long at a
spacing: the second, until cells pay, and then the last (not measured)."""
IN_MEMORY = {"cpu": 2**24, "cuda": 2**26}
"""Pairs up to which costs are kept for it: 134 MB; on a GPU 0.5 GB, and some times as much in use (not measured)."""
TRIED, TRIED_ON_GPU = 60, 200
"""Cycles of updates after which the path is followed where they have not been enough; the latter on a GPU whose memory
does not keep all costs (not measured)."""
OF_ITEMS = 2**16, 120, 500
"""Pairs of an item of a batch from which on, and cycles after which, each item follows a path of its own; and after how
many with fewer pairs, whose updates cost next to nothing together. Eight items of 2,048 points take 0.35 s each in 52
cycles, and 1 to 3 s down a path (by hand)."""


def tried(pairs: int, items: int, device: torch.device = CPU) -> int:
    """Cycles of updates, between so many pairs of a batch of so many items, after which the path is followed."""
    if items > 1:
        return OF_ITEMS[1 + (pairs < OF_ITEMS[0] * items)]
    return TRIED_ON_GPU if device.type == "cuda" and pairs > IN_MEMORY["cuda"] else TRIED


def most_kept(device: torch.device) -> int:
    """Pairs that are kept as a matrix on a device, at most."""
    return KEPT_ON_GPU if device.type == "cuda" else KEPT


def plan_is_stored(pairs: int, engine: str, device: torch.device) -> bool:
    """Whether products with a plan of so many pairs are made from its entries in memory."""
    return engine == "dense" and pairs <= most_kept(device)


def coarse_in_memory(pairs: int, device: torch.device) -> bool:
    """Whether a coarse problem of so many pairs is solved with its kernel in memory, in float64: between cells there is
    nothing to save, and updates of a few thousand numbers are mostly waiting for a GPU."""
    return pairs <= most_kept(device)


def kernel_is_kept(pairs: int, engine: str, dtype: torch.dtype, device: torch.device = CPU) -> bool:
    """Whether sums over so many pairs are products with a kernel in memory, made once a temperature."""
    return plan_is_stored(pairs, engine, device) and dtype == torch.float64


SINGLE = 2**15, 80.0
"""Pairs from which on, and costs in units of ε up to which, kernels of the annealing are in float32: they are made in a
quarter of the time, where nothing underflows to denormal numbers, which are slow."""


def anneals_in_single(pairs: int, cost_scale: float, epsilon: float, coldest: float) -> bool:
    """Whether kernels at a high temperature are in float32, between so many pairs, on the way to the ``coldest``."""
    return pairs >= SINGLE[0] and cost_scale <= SINGLE[1] * epsilon and in_range(cost_scale, coldest, torch.float32)


HALVED, HALVED_ON_GPU = 2**16, 2**24
"""Pairs from which on products of Newton's equation are in float32: in a third of the time at 2²⁰ (by hand), and no
faster below 2¹⁶."""


def products_in_single(pairs: int, device: torch.device) -> bool:
    """Whether Newton's steps between so many pairs are found in float32, to a few digits each."""
    return pairs >= (HALVED if device.type == "cpu" else HALVED_ON_GPU)


@dataclass(frozen=True)
class Choice:
    """How a problem is solved.

    Attributes
    ----------
    strategy : {"one-level", "coarse-to-fine", "sketched", "path-following", "item-by-item", "unrolled", "limit", \
"sharded"}
    dtype : torch.dtype
        The working precision.
    newton : bool
        Whether Newton's steps on a sparse plan are tried where updates are slow.
    otherwise : tuple of Choice
        What is tried, one after the other, where this has not been enough.
    """

    strategy: str
    dtype: torch.dtype
    newton: bool = False
    otherwise: tuple[Choice, ...] = ()

    def refined(self, wanted: Wanted) -> Choice | None:
        """The same in float64, after rounding has kept a solve from its tolerance; None if the caller chose."""
        return None if is_final(self.dtype, wanted) else replace(self, dtype=torch.float64)


def is_final(dtype: torch.dtype, wanted: Wanted) -> bool:
    """Whether there is no finer precision to go on in: what rounding does is to be accepted."""
    return wanted.working_dtype is not None or dtype == torch.float64


def choose(problem: Facts, options: Wanted, device: torch.device) -> Choice:
    """How to solve a problem on a device.

    Examples
    --------
    >>> class Auto:
    ...     iterations = multiscale = working_dtype = None
    >>> few = Facts(10**4, 3, 0.005, 3.0, 1e-3, torch.float32, False, False, lambda: None, smooth=False)
    >>> choose(few, Auto(), torch.device("cpu"))
    Choice(strategy='one-level', dtype=torch.float64, newton=True, otherwise=())
    """
    dtype = options.working_dtype or _precision(problem)
    if options.iterations is not None:
        return Choice("unrolled", dtype)
    if problem.epsilon == math.inf:
        return Choice("limit", dtype)
    if problem.across == "pairs":
        return _dealt(problem, options, device, dtype)
    if problem.across == "sketches":
        return Choice("sketched" if problem.sketched() else "sharded", dtype)
    if problem.signed:
        return Choice("sketched", dtype, otherwise=(Choice("coarse-to-fine", dtype),))
    between = not problem.batched and not problem.looked_up
    kept = problem.quadratic and problem.pairs <= most_kept(device)  # a kernel, in memory
    if between and _sketch_pays(problem, options.multiscale, device):
        plain = Choice("sketched", dtype, otherwise=(Choice("coarse-to-fine", dtype),))
    elif between and _levels_pay(problem, options.multiscale, device):
        plain = Choice("coarse-to-fine", dtype)
    else:
        dtype = torch.float64 if kept and options.working_dtype is None else dtype
        plain = Choice("one-level", dtype, newton=between and not problem.is_self)
    # Where levels are asked for, and there are none, nothing is lost.
    fits = _path_fits(problem, options, device, plain.strategy == "one-level")
    if problem.batched and fits and not problem.looked_up:
        each = Choice("item-by-item", torch.float64)
        if problem.pairs >= OF_ITEMS[0] * problem.items and problem.nearest() >= NEAR[0] * problem.epsilon:
            return replace(each, otherwise=(replace(plain, dtype=torch.float64),))
        return replace(plain, otherwise=(each,))
    if problem.batched or not fits:
        return plain
    followed, exact = Choice("path-following", torch.float64), replace(plain, dtype=torch.float64)
    if plain.strategy == "sketched":  # where points are much denser than σ
        return replace(plain, otherwise=(*plain.otherwise, followed))
    if problem.nearest() >= NEAR[_wide(problem.pairs, device)] * problem.epsilon:
        return replace(followed, otherwise=(exact,))
    if plain.strategy == "one-level":
        scaled = kept and problem.fixed  # Newton's method on scalings comes first, and is enough
        return replace(plain, newton=plain.newton and not scaled, otherwise=(followed, exact))
    return replace(plain, otherwise=(followed,))


def _dealt(problem: Facts, options: Wanted, device: torch.device, dtype: torch.dtype) -> Choice:
    """Of points that are dealt out to processes, each of which sums the pairs of its own."""
    plain = Choice("sharded", dtype)
    if not _path_fits(problem, options, device):
        return plain
    followed, exact = Choice("path-following", torch.float64), replace(plain, dtype=torch.float64)
    least = NEAR[_wide(problem.pairs, device) if problem.quadratic else 0]
    if problem.nearest() >= least * problem.epsilon:
        return replace(followed, otherwise=(exact,))
    return replace(plain, otherwise=(followed, exact))


def _wide(pairs: int, device: torch.device) -> int:
    """Which of `NEAR` so many pairs have."""
    if device.type == "cuda":
        return (pairs > IN_MEMORY["cuda"]) + (pairs >= PAYS_ON_GPU)
    return (pairs > KEPT) + (pairs > IN_MEMORY["cpu"])


def _path_fits(problem: Facts, options: Wanted, device: torch.device, on_one_level: bool = False) -> bool:
    """Whether the path down the temperatures can be followed: Newton's equation of a plan in memory, in float64."""
    if (options.multiscale is True and not on_one_level) or options.working_dtype == torch.float32:
        return False
    kept = IN_MEMORY[device.type] * problem.items * problem.processes
    few = problem.pairs <= kept or (problem.bounded and problem.dimension <= WIDEST)
    return few and problem.smooth and not problem.is_self


def _sketch_pays(problem: Facts, wanted: bool | None, device: torch.device) -> bool:
    least = PAYS if device.type == "cpu" else SKETCHED_ON_GPU
    few = problem.pairs < least or problem.dimension > WIDEST
    if wanted is False or (wanted is None and few) or not problem.quadratic:
        return False
    return problem.sketched()


def _precision(problem: Facts) -> torch.dtype:
    plain = precision(problem.pairs, problem.dtype)
    if plain == torch.float64:
        return plain
    # Exponents are rounded by 6e-8 C/ε, of which sums over many pairs average most away; potentials, by 6e-8 ε.
    rounded = ROUNDING[torch.float32] * problem.cost_scale / problem.epsilon
    fits = rounded <= AVERAGED * problem.tol and problem.epsilon <= WARM * problem.cost_scale
    fits = fits and in_range(problem.cost_scale, problem.epsilon, torch.float32)
    return torch.float32 if fits and squares_in_range(problem.extent, torch.float32) else torch.float64


def _levels_pay(problem: Facts, wanted: bool | None, device: torch.device) -> bool:
    if wanted is False or (wanted is None and (problem.pairs < paying(device) or problem.dimension > WIDEST)):
        return False
    cells = problem.cells()
    return cells is not None and (wanted is True or cells.width <= COARSE)
