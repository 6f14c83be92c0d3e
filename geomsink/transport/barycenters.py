"""Measures of a few points that are nearest to given ones: barycentres, and quantisations."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..counts import flag, number, whole
from ..measures import Container, is_list, measure, pair_of_measures, tensor
from ..shown import Curve, Facts, Shown, Words
from .descent import History, OptimizerLike, Particles, check_steps, descend
from .flows import Loss, gradient_flow, loss_of, measured, size_of

JITTER = 0.01
"""Of points that are drawn more than once, in standard deviations of their cloud: gradients cannot part twins."""
BLOCK = 4_000_000
"""Pairs that are held at once."""


@dataclass(frozen=True, repr=False)
class FittedMeasure(Shown):
    """Weighted points that were fitted to others.

    Attributes
    ----------
    points : array, shape (n, D)
    weights : array, shape (n,)
    history : History
        Of the loss that they were fitted by.
    """

    points: Any
    weights: Any
    history: History

    def _facts(self) -> Facts:
        return {"points": Words(f"{len(self.points):,} points")} | self.history._facts()

    def _curve(self) -> Curve:
        return self.history._curve()


def barycenter(
    clouds: Sequence[Any],
    weights: Sequence[float] | None = None,
    *,
    masses: Sequence[Any] | None = None,
    n: int | None = None,
    init: Any = None,
    loss: Loss | None = None,
    blur: float | None = None,
    optimizer: OptimizerLike = "sgd",
    lr: float | None = None,
    steps: int = 100,
    tol: float | None = 1e-4,
    seed: int = 0,
    progress: bool = False,
) -> FittedMeasure:
    """The points, all of one weight, that minimise Σ_k w_k S(μ, α_k): a mean of clouds with free support.

    By steps along −(1/a_i) ∂/∂x_i, as in `gradient_flow`. With Sinkhorn divergences of squared distances and steps of
    1/2 that is the fixed-point iteration x_i ← x_i + Σ_k w_k T_k(x_i) − T_μ(x_i), where T_k are the barycentric
    projections to the clouds, and T_μ, to the points themselves, takes the blur off them.

    Parameters
    ----------
    clouds : sequence of K array_like, shapes (N_k, D)
        NumPy arrays or torch tensors.
    weights : sequence of K float, optional
        w_k, not negative; they are divided by their sum. None is 1/K each.
    masses : sequence of K array_like, shapes (N_k,), optional
        Weights of the points, of the same sum in each cloud. None is 1/N_k each.
    n : int, optional
        How many points. Default: those of the cloud of the largest weight.
    init : array_like, shape (n, D), optional
        Where the points start. Default: drawn from the cloud of the largest weight, the first one of equals.
    loss : callable, optional
        As in `gradient_flow`; each cloud gets a copy, with a memory of its own.
    blur : float, optional
        Instead of a loss: that of ``SinkhornDivergence(blur=blur)``. One of the two is given.
    optimizer : {"sgd", "adam", "lbfgs", "rmsprop"} or callable, default "sgd"
    lr : float, optional
        Default: 1/2 with ``"sgd"``, torch's own with others.
    steps : int, default 100
        At most.
    tol : float or None, default 1e-4
        As in `gradient_flow`.
    seed : int, default 0
        Of the points that are drawn.
    progress : bool, default False
        Show a progress bar (needs tqdm).

    Returns
    -------
    FittedMeasure

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.
    RuntimeError
        If the loss or its gradient ceases to be finite.

    Warns
    -----
    ConvergenceWarning
        Once, if the loss was not solved to its tolerance on the way.

    Notes
    -----
    Cuturi, Doucet 2014 (arXiv:1310.4375), free support; Álvarez-Esteban et al. 2016 (arXiv:1511.05355), the
    fixed point; Luise et al. 2019 (arXiv:1905.13194), with Sinkhorn divergences. Minima may be local.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((100, 2))
    >>> middle = barycenter([x, x + 2.0], weights=[0.75, 0.25], blur=0.2)
    >>> bool(abs(middle.points - (x + 0.5)).max() < 1e-3)
    True
    """
    check_steps(steps, tol)
    seed = whole("seed", seed, 0)
    measure = loss_of(loss, blur)
    measures, container = _measures(clouds, masses)
    shares = _shares(weights, len(measures))
    heaviest = max(range(len(shares)), key=shares.__getitem__)
    start = _drawn(*measures[heaviest], n, seed) if init is None else _given(init, n, clouds[0])
    own = torch.full((len(start),), float(measures[0][1].sum()) / len(start), dtype=torch.float64, device=start.device)
    particles, own = Particles(start, own), own.to(start)
    terms = [(w, copy.deepcopy(measure), *m) for w, m in zip(shares, measures, strict=True) if w > 0]

    sizes, lengths = zip(*(size_of(one, start, (y, b)) for _, one, y, b in terms), strict=True)
    size = sum(term[0] * one for term, one in zip(terms, sizes, strict=True))

    def evaluate() -> Tensor:
        x = particles.points
        return torch.stack([w * measured(one, own, x, b.to(x), y) for w, one, y, b in terms]).sum()

    history = descend(
        [particles.parameter], evaluate, optimizer=optimizer, lr=0.5 if optimizer == "sgd" and lr is None else lr,
        steps=steps, tol=tol, scale=particles.scale, size=size, span=particles.span(max(lengths)), progress=progress,
        name="barycentre",
    )  # fmt: skip
    return FittedMeasure(container.array(particles.points.detach(), 0), container.array(own, 0), history)


def quantize(
    points: Any,
    k: int,
    weights: Any = None,
    *,
    blur: float,
    fit_weights: bool = True,
    steps: int = 300,
    tol: float | None = 1e-5,
    seed: int = 0,
    progress: bool = False,
) -> FittedMeasure:
    """The k weighted points that minimise S_ε(Σ_j m_j δ(c_j), α) of squared distances: a large cloud in a few points.

    For a small blur that is nearly the squared Wasserstein distance, whose minimum k-means looks for; a blur as wide as
    the space between the points spreads them evenly, as quadratures of kernels are. With K_ij = exp(−‖c_j − x_i‖²/ε)
    and −½ OT_ε(m, m) = min_μ ε ⟨m, log(m/μ)⟩ + ½ ε (‖μ‖² − 1) in the norm of the kernel (Feydy et al. 2019), points
    and masses together are a smooth problem, convex in μ, without any transport to solve:

        min S_ε(m, α) = min_{c, μ} −ε Σ_i a_i log Σ_j K_ij μ_j + ½ ε (Σ_jl μ_j μ_l exp(−‖c_j − c_l‖²/ε) − 1)
                        − ½ OT_ε(α, α),        m_j = μ_j Σ_i a_i K_ij / Σ_l K_il μ_l.

    L-BFGS solves it. Equal masses are fitted by the flow of `gradient_flow`.

    Parameters
    ----------
    points : array_like, shape (N, D)
        A NumPy array, a torch tensor or anything that NumPy reads.
    k : int
    weights : array_like, shape (N,), optional
        None is 1/N each.
    blur : float
        Length σ, with ε = 2 σ².
    fit_weights : bool, default True
        Whether the masses m_j are fitted, too; all are equal otherwise.
    steps : int, default 300
        At most.
    tol : float or None, default 1e-5
        As in `gradient_flow`.
    seed : int, default 0
        Of the first centres: points drawn with a chance of a_i times the squared distance to those drawn before.
    progress : bool, default False
        Show a progress bar (needs tqdm).

    Returns
    -------
    FittedMeasure
        Of the same mass as the cloud. The history is of S_ε, with fitted masses without the constant −½ OT_ε(α, α).

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.

    Warns
    -----
    ConvergenceWarning
        Once, if masses are equal and a transport problem was not solved on the way.

    Notes
    -----
    Arthur, Vassilvitskii 2007, the first centres (k-means++); Feydy et al. 2019 (arXiv:1810.08278), the Sinkhorn
    negentropy. Minima may be local.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(90, 2))
    >>> x = 0.1 * noise + np.repeat([[0.0, 0.0], [5.0, 0.0]], [30, 60], axis=0)
    >>> found = quantize(x, 2, blur=0.1)
    >>> order = found.points[:, 0].argsort()
    >>> found.weights[order].round(3)
    array([0.333, 0.667])
    """
    check_steps(steps, tol)
    epsilon = 2.0 * number("blur", blur) ** 2
    if not (blur > 0 and 0 < epsilon < math.inf):
        raise ValueError(f"blur: {blur} given, expected a positive length.")
    cloud, mass, container = measure(points, weights)
    if cloud.ndim != 2:
        raise ValueError(f"points: a batch of {len(cloud)} clouds was given, expected one cloud.")
    whole("k", k, most=len(cloud))
    seed = whole("seed", seed, 0)
    flag("fit_weights", fit_weights)
    cloud, mass = cloud.detach(), mass.detach()
    centres, shares, length = _seeds(cloud, mass, int(k), seed)
    total = float(mass.sum())
    if not fit_weights:
        flow = gradient_flow(
            centres, cloud, torch.full_like(shares, total / k).to(cloud), mass.to(cloud),
            blur=blur, steps=steps, tol=tol, frames=steps, progress=progress,
        )  # fmt: skip
        equal = torch.full_like(shares, total / k)
        return FittedMeasure(container.array(flow.points, 0), container.array(equal, 0), flow.history)
    # In units of the cells, about which the points are then spread: all parameters are about 1.
    a, centre = mass / total, cloud.double().mean(0)
    x, heat = (cloud.double() - centre) / length, epsilon / length**2
    c = ((centres.double() - centre) / length).requires_grad_()
    log_mu = shares.clamp(min=1e-3 / k).log().requires_grad_()

    def evaluate() -> Tensor:
        data: Tensor = _LogSums.apply(c, log_mu, x, a, heat)[0]
        kernel = (log_mu[:, None] + log_mu - ((c[:, None] - c) ** 2).sum(-1) / heat).exp().sum()
        return total * epsilon * (0.5 * (kernel - 1.0) - data)

    history = descend(
        [c, log_mu], evaluate, optimizer="lbfgs", steps=steps, tol=tol, scale=k / (total * length**2),
        size=total * length**2, span=math.sqrt(k), progress=progress, name="quantisation",
    )  # fmt: skip
    _, found = _LogSums.apply(c, log_mu, x, a, heat)
    return FittedMeasure(container.array((centre + length * c).detach(), 0), container.array(total * found, 0), history)


class _LogSums(torch.autograd.Function):
    """Σ_i a_i log Σ_j μ_j exp(−‖x_i − c_j‖²/heat) and its derivative in log μ, the masses; in blocks of rows."""

    @staticmethod
    def forward(ctx: Any, c: Tensor, log_mu: Tensor, x: Tensor, a: Tensor, heat: float) -> tuple[Tensor, Tensor]:
        value, masses, moments = torch.zeros_like(a[0]), torch.zeros_like(log_mu), torch.zeros_like(c)
        size = max(1, BLOCK // len(c))
        for rows, weights in zip(x.split(size), a.split(size), strict=True):
            # ‖x‖² is the same for all j.
            exponents = torch.addmm(log_mu - (c**2).sum(1) / heat, rows, c.T, alpha=2.0 / heat)
            sums = exponents.logsumexp(1)
            plan = (exponents - sums[:, None]).exp_().mul_(weights[:, None])
            value += (weights * (sums - (rows**2).sum(1) / heat)).sum()
            masses += plan.sum(0)
            moments += plan.T @ rows
        ctx.save_for_backward(masses, (2.0 / heat) * (moments - masses[:, None] * c))
        ctx.mark_non_differentiable(masses)
        return value, masses

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        masses, in_c = ctx.saved_tensors
        return cotangents[0] * in_c, cotangents[0] * masses, None, None, None


def _measures(clouds: Any, masses: Any) -> tuple[list[tuple[Tensor, Tensor]], Container]:
    """Points and float64 weights of each cloud, and what they came in."""
    if not is_list(clouds):
        raise TypeError(
            f"clouds: a {type(clouds).__name__} was given, expected a list of arrays (points, coordinates)."
        )
    if masses is not None and not isinstance(masses, (list, tuple)):
        raise TypeError(f"masses: a {type(masses).__name__} was given, expected a list of arrays, one for each cloud.")
    points, weights, container = measure(clouds, masses, ("clouds", "masses"))
    sizes = [len(cloud) for cloud in clouds]
    found = [(points[k, :size].detach(), weights[k, :size].detach()) for k, size in enumerate(sizes)]
    sums = [float(mass.sum()) for _, mass in found]
    if max(sums) - min(sums) > container.mass_tolerance * max(sums):
        raise ValueError(f"masses: they sum to {min(sums):.9g} to {max(sums):.9g}, expected the same of each cloud.")
    return found, replace(container, layouts=None)


def _shares(weights: Any, count: int) -> list[float]:
    """w_k, with a sum of 1."""
    if weights is None:
        return [1.0 / count] * count
    given = tensor("weights", weights).detach().double().cpu().numpy()
    if given.shape != (count,):
        raise ValueError(f"weights: shape is {given.shape}, expected {(count,)}, one weight a cloud.")
    if not (np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0):
        raise ValueError(f"weights: {given.tolist()} given, expected finite numbers of at least 0, not all 0.")
    return [float(w) for w in given / given.sum()]


def _given(init: Any, n: Any, first: Any) -> Tensor:
    """The caller's own start, of the same kind as the clouds."""
    if n is not None:
        raise ValueError(f"n: {n!r} given with init, expected one of the two.")
    (points, _), *_ = pair_of_measures(init, first, names=("init", "clouds[0]"))
    if points.ndim != 2:
        raise ValueError(f"init: shape is {tuple(points.shape)}, expected (points, coordinates).")
    return points.detach().clone()


def _drawn(points: Tensor, mass: Tensor, n: Any, seed: int) -> Tensor:
    """n points of a cloud, each as often as its weight says, to within one; those drawn again are moved a little."""
    n = len(points) if n is None else whole("n", n)
    random = np.random.default_rng(seed)
    order = random.permutation(len(points))
    filled = np.cumsum(mass.cpu().numpy()[order])
    levels = (np.arange(n) + 0.5) / n * filled[-1]
    index = order[np.searchsorted(filled, levels).clip(max=len(points) - 1)]
    index.sort()
    again = np.concatenate([[False], index[1:] == index[:-1]])
    cloud = points.double().cpu().numpy()
    drawn = cloud[index]
    drawn[again] += JITTER * cloud.std(0) * random.normal(size=(int(again.sum()), points.shape[1]))
    return torch.from_numpy(drawn).to(points)


def _seeds(points: Tensor, mass: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor, float]:
    """Centres by k-means++, the share of the mass nearest to each, and the root mean square distance to them."""
    random = np.random.default_rng(seed)
    cloud, weights = points.double().cpu().numpy(), mass.cpu().numpy()
    squares, chosen = np.ones(len(cloud)), []
    for _ in range(k):
        chances = weights * squares
        if not chances.any():  # fewer different points than centres
            chances = weights
        chosen.append(int(random.choice(len(cloud), p=chances / chances.sum())))
        apart = ((cloud - cloud[chosen[-1]]) ** 2).sum(1)
        squares = apart if len(chosen) == 1 else np.minimum(squares, apart)
    _, nearest = cKDTree(cloud[chosen]).query(cloud)
    shares = np.bincount(nearest, weights, minlength=k) / weights.sum()
    length = float(np.sqrt((weights * squares).sum() / weights.sum()))
    return points[chosen], torch.from_numpy(shares).to(points.device), length or 1.0
