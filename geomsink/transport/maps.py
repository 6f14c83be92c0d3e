"""Maps of a solved plan: where it sends points, old and new ones."""

from __future__ import annotations

from typing import Any

from ..divergences import Divergence, Solution
from ..guards import guarded
from .conditional import Conditional, divergence_plans, solution_plan


@guarded
def barycentric_map(solution: Solution, *, reverse: bool = False) -> Any:
    """T(x_i) = Σ_j P_ij y_j / Σ_j P_ij: the mean of where the plan sends each point.

    Parameters
    ----------
    solution : Solution
        Of any cost, balanced or not; a batch, too.
    reverse : bool, default False
        Whether to map y to x instead, by the columns of the plan.

    Returns
    -------
    array, shape (N, D), or (M, D) in reverse
        In the form of the clouds. It has autograd history in all that the plan depends on where the plan has
        (``differentiation="implicit"`` or ``"unrolled"``), and otherwise none.

    Raises
    ------
    TypeError
        For anything but a `Solution`.

    Notes
    -----
    The potential f cancels, so that points without weight, and those of which an unbalanced plan moves next to
    nothing, are mapped as `entropic_map` maps new points. For costs other than squared distances it is the mean of
    the coordinates all the same: on a sphere it is inside of the sphere. Where a `geomsink.Sketch` stands for y, it is
    the mean of the cloud's points, as right as sums of the kernel are.

    Examples
    --------
    >>> import numpy as np
    >>> from geomsink import solve
    >>> s = solve(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]]), epsilon=0.01)
    >>> barycentric_map(s).round(6)
    array([[2.],
           [3.]])
    """
    plan = solution_plan(solution, reverse)
    return plan.container.array(Conditional.of(plan).images(), 0)


@guarded
def displacement(divergence: Divergence, *, reverse: bool = False) -> Any:
    """T_xy(x_i) − T_xx(x_i): the debiased displacement of x towards y.

    A barycentric map shrinks what it maps to by the blur, that of a cloud to itself as well; their difference
    vanishes where the two measures are the same. For ``"sqeuclidean"`` and fixed marginals it is
    −∇_{x_i} S_ε / (2 a_i), the step of a gradient flow.

    Parameters
    ----------
    divergence : Divergence
        As `geomsink.sinkhorn_divergence` returns it.
    reverse : bool, default False
        Whether to take that of y towards x, T_yx(y_j) − T_yy(y_j).

    Returns
    -------
    array, shape (N, D), or (M, D) in reverse
        In the form of the clouds, with autograd history as in `barycentric_map`.

    Raises
    ------
    TypeError
        For anything but a `Divergence`.

    Notes
    -----
    Feydy et al. 2019 (arXiv:1810.08278), section 3; Pooladian, Cuturi, Niles-Weed 2022 (arXiv:2202.08919).

    Examples
    --------
    >>> import numpy as np
    >>> from geomsink import sinkhorn_divergence
    >>> x = np.random.default_rng(0).random((50, 2))
    >>> moved = displacement(sinkhorn_divergence(x, x + 1.0, blur=0.5, tol=1e-9))
    >>> np.allclose(moved, 1.0)
    True
    """
    across, itself = (Conditional.of(plan) for plan in divergence_plans(divergence, reverse))
    return across.container.array(across.images() - itself.images(), 0)


@guarded
def entropic_map(solution: Solution | Divergence, points: Any, *, reverse: bool = False) -> Any:
    """T(z) = Σ_j p_j(z) y_j with p_j(z) ∝ b_j exp((g_j − c(z, y_j))/ε): the barycentric map, at new points.

    Parameters
    ----------
    solution : Solution or Divergence
        A `Divergence` gives the debiased map z + T_xy(z) − T_xx(z).
    points : array, shape (K, D)
        z, in the kind of the clouds. Of a batch (B, K, D), or a list of B arrays.
    reverse : bool, default False
        Whether to map from the side of y to that of x.

    Returns
    -------
    array, shape (K, D)
        In the form of ``points``, in what their precision and that of the clouds promote to; memory is linear in K + M.
        It has autograd history in ``points``, and in all that the plan depends on where the plan has.

    Raises
    ------
    TypeError, ValueError
        For anything but finite points in as many coordinates, of the kind and device of the clouds.

    Notes
    -----
    Pooladian, Niles-Weed 2021 (arXiv:2109.12004); debiased, Pooladian, Cuturi, Niles-Weed 2022 (arXiv:2202.08919).
    At x it is `barycentric_map`. Far from the clouds, where exponents are large, it is evaluated in float64 even if
    the solve was in float32. Features of the cost are taken as they are when it is called.

    Examples
    --------
    >>> import numpy as np
    >>> from geomsink import sinkhorn_divergence
    >>> x = np.random.default_rng(0).random((50, 2))
    >>> r = sinkhorn_divergence(x, x + 1.0, blur=0.5, tol=1e-9)
    >>> entropic_map(r, np.array([[0.2, 0.7]])).round(6)
    array([[1.2, 1.7]])
    """
    if points is None:
        raise TypeError("points: None was given, expected points (points, coordinates).")
    if not isinstance(solution, Divergence):
        conditional = Conditional.of(solution_plan(solution, reverse), points)
        return conditional.container.array(conditional.images(), 0)
    across, itself = (Conditional.of(plan, points) for plan in divergence_plans(solution, reverse))
    return across.container.array(across.z + across.images() - itself.images(), 0)
