"""Sinkhorn divergences and entropic transport costs, as functions of points and weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..costs import Cost
from ..guards import guarded
from ..processes import group_of
from .comparison import compare, transport, warn_of
from .kinds import by_kind
from .options import MAX_ITER, TOL, Options
from .parts import asked
from .solution import Divergence, Solution

Reach = float | tuple[float | None, float | None] | None


@by_kind
@guarded
def sinkhorn_divergence(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    blur: float | Tensor | None = None,
    epsilon: float | Tensor | None = None,
    cost: str | Cost = "sqeuclidean",
    reach: Reach = None,
    rho: Reach = None,
    penalty: str = "kl",
    form: str = "entropic",
    differentiation: str = "envelope",
    iterations: int | None = None,
    recompute: bool = False,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    scaling: float = 0.5,
    engine: str = "auto",
    dtype: Any = None,
    multiscale: bool | None = None,
    certify: bool = False,
    tol_gap: float | None = None,
    normalize: bool = False,
    nan_policy: str = "raise",
    x_batch: Any = None,
    y_batch: Any = None,
    init: Divergence | None = None,
    progress: bool = False,
    group: Any = None,
) -> Divergence:
    """S_ε(α, β) = OT_ε(α, β) − ½ OT_ε(α, α) − ½ OT_ε(β, β) between two weighted point clouds.

    It says how far mass has to move to turn one cloud into the other, and is 0 for equal clouds. Details below the blur
    are not looked at. Of the squared distance the root is a length: ``length`` of the result.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        Points: NumPy arrays, torch tensors or anything that NumPy reads. Precisions are promoted, and integers, as
        NumPy does it; half precision is computed in float32. Answers are in what all of them promote to. A
        `geomsink.Sketch` takes the place of a cloud and its weights; it follows the other cloud's kind of array.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights. Their sums are the same, or see ``normalize``. None is 1/N each, and zeros are allowed.
    blur : float, optional
        Length σ, with ε = p σ^p for a cost of degree p (2 σ² for ``"sqeuclidean"``).
    epsilon : float, optional
        Temperature ε, in units of the cost; ``inf`` is the exact limit. One of the two is given.
    cost : str or Cost, default "sqeuclidean"
        See `geomsink.costs.names`; symmetric.
    reach : float, or pair of float or None, optional
        Length r beyond which mass is rather given up than moved: in the place of fixed marginals there are penalties,
        with ρ = p r^p for a cost of degree p. A pair has one for each measure, and None is a fixed marginal. Masses may
        then differ.
    rho : float, or pair of float or None, optional
        ρ itself, in units of the cost.
    penalty : {"kl", "tv", "l2", "partial"}, default "kl"
        With P1 = t a: ρ Σ a (t log t − t + 1), ρ Σ a |t − 1|, ½ρ Σ a (t − 1)², or ρ Σ a (1 − t) for P1 ≤ a, which is
        for both marginals.
    form : {"entropic", "sharp"}, default "entropic"
        ``"sharp"`` has ⟨P, C⟩ in place of OT_ε: half of Ē_ε of Genevay et al. 2018.
    differentiation : {"envelope", "implicit", "unrolled"}, default "envelope"
        How values are differentiated. ``"envelope"`` fixes the potentials, to which the optimum does not react to first
        order. ``"implicit"`` differentiates the optimality conditions, and potentials and plans have history, too.
        ``"unrolled"`` goes through ``iterations``. See docs/losses.md.
    iterations : int, optional
        Of ``"unrolled"``, from zero potentials at ε: exactly so many.
    recompute : bool, default False
        Whether ``"unrolled"`` keeps the root of so many and computes the others again, for less memory.
    tol : float, default 1e-3
        A solve stops at a marginal error ‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁ of this, relative to the mass that is transported, if
        the value, of either form, is also off by at most ``tol`` / 100 of itself, and potentials by 5 ``tol`` ε. At
        the default, surfaces scanned in the unit cube (blur 0.05, 0.02 and 0.01) come out right to 1e-5 in
        value and to 1 % in the gradient that follows from the potentials.
    max_iter : int, default 1000
        Cycles of updates, at most, for each problem; annealing and one cycle after it are done in any case.
    scaling : float, default 0.5
        Factor of the blur from one temperature to the next while annealing.
    engine : {"auto", "keops", "dense"}, default "auto"
    dtype : {None, "float32", "float64"} or torch.dtype, optional
        Working precision. None takes the points' own, and float64 where float32 cannot reach ``tol``.
    multiscale : {None, True, False}, optional
        Whether to solve between cells of points first, and then between the points with far fewer pairs (see
        `Approximation`). None does so where it pays: for some two million pairs or more (on a GPU 2³²) in up to four
        coordinates, if cells can be about as narrow as the blur.
    certify : bool, default False
        Whether to bracket the value: it is certain to be in [``lower``, ``upper``], truncation and rounding included.
        Two or three evaluations more for each problem. Entropic form alone.
    tol_gap : float, optional
        Solve on until the interval is this narrow, relative to the value; it is certified then.
    normalize : bool, default False
        Whether weights are divided by their sums, which may then differ: what is compared are probability measures, in
        value, plan and gradients.
    nan_policy : {"raise", "propagate"}, default "raise"
        ``"propagate"``: an item of a batch with a NaN or an infinite number in its points or weights has NaN for its
        answers, and no gradient; the others are solved as ever. Otherwise it is refused, as single clouds always are.
    x_batch, y_batch : array_like, shape (N,) and (M,), int64, optional
        The item of a batch that each point belongs to, in order. Batches are also tensors (B, N, D) and lists of B
        clouds.
    init : Divergence, optional
        An earlier one, of the same or slightly moved clouds, whose potentials are started from.
    progress : bool, default False
        Show a progress bar (needs tqdm).
    group : optional
        A `geomsink.Group`, True for all processes that ``torch.distributed`` knows, or a process group of
        theirs: each of these processes calls the function with its part of both clouds, which may be empty, and has the
        divergence of the unions, the same on all; None weights are 1 over the points of all. Potentials, products with
        plans and gradients are those of the own points; gradients of parameters that make points are to be summed over
        the processes, and those of a blur, or of a cost's parameters, are whole on each. Where sketches serve, squared
        distances and a blur well above the spacing, these travel and points do not; elsewhere all pairs are summed, on
        one level, and products with plans, and ``backward``, are calls of all processes, too.

    Returns
    -------
    Divergence
        Its ``value`` is a float for arrays of NumPy, a tensor for tensors, and of a batch has shape (B,).

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.
    BuildError
        If ``engine="keops"`` and nothing can be compiled.
    ProcessesError
        If another process of the group has failed, does not answer, or was asked for something else.

    Warns
    -----
    ConvergenceWarning
        If a problem did not reach ``tol``, in its marginals or in its value.

    Notes
    -----
    With tensors, the value has autograd history in points, weights, blur or epsilon, and the cost's parameters.
    Feydy et al. 2019 (arXiv:1810.08278); Genevay et al. 2018 (arXiv:1706.00292).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((200, 3))
    >>> r = sinkhorn_divergence(x, x + 0.1, blur=0.1)
    >>> round(r.value, 6), r.converged
    (0.03, True)
    """
    together = None if group is None else group_of(group)
    with asked(together):
        options = Options(
            blur=blur, epsilon=epsilon, cost=cost, reach=reach, rho=rho, penalty=penalty, form=form,
            differentiation=differentiation, iterations=iterations, recompute=recompute, tol=tol, max_iter=max_iter,
            scaling=scaling, engine=engine, dtype=dtype, multiscale=multiscale, certify=certify, tol_gap=tol_gap,
            normalize=normalize, nan_policy=nan_policy,
        )  # fmt: skip
    divergence, _ = compare(x, y, a, b, options, (x_batch, y_batch), init, progress, group=together)
    problems = {"xy: ": divergence.xy, "xx: ": divergence.xx, "yy: ": divergence.yy}
    warn_of(problems, options, shortfall=divergence.shortfall)
    return divergence


@by_kind
@guarded
def solve(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    blur: float | Tensor | None = None,
    epsilon: float | Tensor | None = None,
    cost: str | Cost = "sqeuclidean",
    reach: Reach = None,
    rho: Reach = None,
    penalty: str = "kl",
    differentiation: str = "envelope",
    iterations: int | None = None,
    recompute: bool = False,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    scaling: float = 0.5,
    engine: str = "auto",
    dtype: Any = None,
    multiscale: bool | None = None,
    certify: bool = False,
    tol_gap: float | None = None,
    normalize: bool = False,
    nan_policy: str = "raise",
    x_batch: Any = None,
    y_batch: Any = None,
    init: Solution | tuple[Any, Any] | None = None,
    progress: bool = False,
    group: Any = None,
) -> Solution:
    """OT_ε(α, β) = min_P ⟨P, C⟩ + ε KL(P | a ⊗ b) between two weighted point clouds.

    Parameters
    ----------
    x, y, a, b, blur, epsilon, cost, reach, rho, penalty, differentiation, iterations, recompute, tol, max_iter, \
scaling, engine, dtype, multiscale, certify, tol_gap, normalize, nan_policy, x_batch, y_batch, progress
        As `sinkhorn_divergence` takes them; the cost may be asymmetric.
    init : Solution, or pair of array_like, shapes (N,) and (M,), optional
        An earlier one, or potentials f and g in units of the cost, to start from.
    group : optional
        As there; all pairs are summed then, across the processes.

    Returns
    -------
    Solution
        ``value``, ``transport_cost``, ``potentials`` (f, g), and the report of the solve.

    Raises
    ------
    TypeError, ValueError, BuildError
        As `sinkhorn_divergence`.

    Notes
    -----
    Cuturi 2013 (arXiv:1306.0895), in the log domain, with ε-scaling, over-relaxation and Newton's steps.

    Examples
    --------
    >>> import numpy as np
    >>> s = solve(np.zeros((1, 2)), np.array([[3.0, 4.0]]), epsilon=0.1)
    >>> round(s.value, 9), round(s.transport_cost, 9)
    (25.0, 25.0)
    """
    together = None if group is None else group_of(group)
    with asked(together):
        options = Options(
            blur=blur, epsilon=epsilon, cost=cost, reach=reach, rho=rho, penalty=penalty,
            differentiation=differentiation, iterations=iterations, recompute=recompute, tol=tol, max_iter=max_iter,
            scaling=scaling, engine=engine, dtype=dtype, multiscale=multiscale, certify=certify, tol_gap=tol_gap,
            normalize=normalize, nan_policy=nan_policy,
        )  # fmt: skip
    solution, _ = transport(x, y, a, b, options, (x_batch, y_batch), init, progress, group=together)
    warn_of({"": solution}, options)
    return solution
