"""Are two clouds draws of one distribution? A permutation test of their Sinkhorn divergence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..copies import Constant, detached
from ..costs import Cost
from ..counts import whole
from ..guards import guarded
from ..measures import pair_of_measures
from ..progress import Progress
from ..shown import Facts, Shown, Words, seconds
from .comparison import check_symmetric, compare, warn_of_pairs
from .options import MAX_ITER, TOL, Options
from .pairwise import together

PERMUTATIONS = 199
"""By default: the smallest p-value that they can give is 1/200."""


@dataclass(frozen=True, repr=False)
class TwoSampleTest(Shown, Constant):
    """A permutation test. Constants.

    Attributes
    ----------
    statistic : float
        S_ε between the two clouds.
    p_value : float
        (1 + the number of permutations with at least as large a divergence) / (1 + permutations).
    null : array of float, shape (permutations,)
        The divergences after permutations.
    solved : array of bool, shape (permutations,)
        Whether each of them has converged.
    converged : bool
        Whether all have, and the statistic.
    epsilon : float
    seconds : float
    """

    statistic: float
    p_value: float
    null: NDArray[np.float64]
    solved: NDArray[np.bool_]
    converged: bool
    epsilon: float
    seconds: float

    def _facts(self) -> Facts:
        bad = int((~self.solved).sum())
        unsolved = f"{bad:,} permutations" if bad else "the statistic"
        return {
            "statistic": self.statistic,
            "p_value": self.p_value,
            "state": Words("converged" if self.converged else f"not converged: {unsolved}"),
            "permutations": Words(f"{len(self.null):,} permutations, {self.null.min():.3g} to {self.null.max():.3g}"),
            "seconds": seconds(self.seconds),
        }


@guarded
def two_sample_test(
    x: Any,
    y: Any,
    *,
    blur: float | None = None,
    epsilon: float | None = None,
    cost: str | Cost = "sqeuclidean",
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    engine: str = "auto",
    dtype: Any = None,
    progress: bool = False,
) -> TwoSampleTest:
    """Test whether two clouds are independent draws of one distribution, by permutations of their points.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        Independent draws, each point of the same weight.
    blur, epsilon, cost, tol, max_iter, engine, dtype
        As `geomsink.sinkhorn_divergence` takes them. Choose the blur without looking at the result, as by
        `geomsink.suggest_blur`: the smallest of several p-values is not a p-value.
    permutations : int, default 199
        Random ways to cut the N + M points into two clouds of the same sizes.
    seed : int, default 0
        The same seed gives the same permutations.
    progress : bool, default False
        Show a progress bar (needs tqdm).

    Returns
    -------
    TwoSampleTest
        Under the hypothesis, p_value ≤ t has a probability of at most t, for any blur and numbers of points.

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.

    Warns
    -----
    ConvergenceWarning
        Once, if some of the divergences did not reach ``tol``.

    Notes
    -----
    Phipson, Smyth 2010 (arXiv:1603.05766) say why 1 is added: the clouds as they are count as one of the permutations.
    Sinkhorn divergences of n points converge as n^(-½) at a fixed blur (Genevay et al. 2019, arXiv:1810.02733).

    Examples
    --------
    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> x, y = random.normal(size=(30, 2)), random.normal(size=(25, 2))
    >>> two_sample_test(x, y, blur=0.5, permutations=49).p_value > 0.05
    True
    >>> two_sample_test(x, y + 1.0, blur=0.5, permutations=49).p_value
    0.02
    """
    began = time.perf_counter()
    count = whole("permutations", permutations)
    random = np.random.default_rng(whole("seed", seed, 0))
    x, y, blur, epsilon = detached((x, y, blur, epsilon))
    options = Options(blur=blur, epsilon=epsilon, cost=cost, tol=tol, max_iter=max_iter, engine=engine, dtype=dtype)
    check_symmetric(options)
    (first, second), _, container = pair_of_measures(x, y)
    container.check_single()
    pooled, n = torch.cat((first, second)), len(first)
    null, solved = np.empty(count), np.empty(count, dtype=bool)
    with torch.no_grad(), Progress(progress) as bar:
        whole_one, _ = compare(first, second, None, None, options)
        at_once = together(n * len(second))
        for start in range(0, count, at_once):
            bar.steps(f"permutations  {start:,} of {count:,}", start, count)
            orders = [random.permutation(len(pooled)) for _ in range(min(at_once, count - start))]
            for k, found in enumerate(_divergences(pooled, orders, n, options), start):
                null[k], solved[k] = found
    statistic = float(whole_one)
    # What rounding and tol may do to equal values counts as equal.
    least = statistic - float(whole_one.value_error) if statistic > 0.0 else statistic
    converged = whole_one.converged and bool(solved.all())
    warn_of_pairs(int((~solved).sum()) + (not whole_one.converged), count + 1, options)
    return TwoSampleTest(
        statistic,
        (1 + int((null >= least).sum())) / (1 + count),
        null,
        solved,
        converged,
        float(options.live_epsilon()),
        time.perf_counter() - began,
    )


def _divergences(
    pooled: torch.Tensor, orders: list[NDArray[np.int64]], n: int, options: Options
) -> list[tuple[float, bool]]:
    """Between the first n points and the others, in each of the orders; and whether it has converged."""
    clouds = torch.stack([pooled[torch.from_numpy(order).to(pooled.device)] for order in orders])
    if len(orders) > 1:
        found, _ = compare(clouds[:, :n], clouds[:, n:], None, None, options)
        if found.converged:
            return [(float(value), True) for value in found.value]
    alone = [compare(cloud[:n], cloud[n:], None, None, options)[0] for cloud in clouds]
    return [(float(one), one.converged) for one in alone]
