"""Problems for sums over cells, between points and between sketches, and the same sums in dense float64."""

import functools
from types import SimpleNamespace

import numpy as np
import torch
from reference import exponents, mask, squared_distances
from scipy.special import logsumexp

from geomsink import costs, engine
from geomsink.measures import Measure
from geomsink.multiscale.cellsums import CellSums, Side
from geomsink.multiscale.clouds import Cloud
from geomsink.solver import FullSums

COST = costs.get("sqeuclidean")
EPSILON = 2 * 0.08**2
SKIPPED = 1e-4
# Rounding of exponents of some tens.
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-11}


@functools.cache
def problem(seed=0):
    """2000 points against 1600, of other weights and to one side, at a σ of three spacings, after some updates."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(size=(2000, 2)), random.uniform(size=(1600, 2)) * [0.9, 0.8] + [0.4, 0.1]
    a, b = random.uniform(0.8, 1.2, size=2000) * np.exp(3 * x[:, 0]), random.uniform(0.8, 1.2, size=1600)
    a, b = a / a.sum(), b / b.sum()
    C = squared_distances(x, y)
    u, v = exponents(C, a, b, EPSILON, 5)
    alpha, beta = (Measure(torch.as_tensor(p), torch.as_tensor(w)) for p, w in ((x, a), (y, b)))
    return SimpleNamespace(
        alpha=alpha, beta=beta, a=a, b=b, C=C, f=EPSILON * (u - np.log(a)), g=EPSILON * (v - np.log(b))
    )


def gradient(points, exponents, signs=None):
    """A callable: gradients of −log Σ_j s_j exp(v_j − ‖p − y_j‖²/ε) at points p."""

    def slopes(p):
        plan = torch.softmax(exponents - ((p[:, None] - points) ** 2).sum(-1) / EPSILON, dim=1)
        if signs is not None:
            plan = plan * signs / (plan @ signs)[:, None]
        return (2.0 / EPSILON) * (p - plan @ points)

    return slopes


def sides(p, skipped=SKIPPED, dtype=torch.float64, cost=COST):
    """For the rows, and for the columns."""
    u, v = (torch.as_tensor(e) / EPSILON + m.log_weights for e, m in ((p.f, p.alpha), (p.g, p.beta)))
    alpha, beta = (Cloud(m, cost, EPSILON) for m in (p.alpha, p.beta))
    slopes = backwards = None
    if cost.quadratic is not None:
        slopes = gradient(p.beta.points, v, p.beta.signs), gradient(p.alpha.points, u, p.alpha.signs)
        backwards = slopes[1], slopes[0]
    return (
        Side(alpha, beta, cost, slopes, skipped, "dense", dtype),
        Side(beta, alpha, cost.transpose(), backwards, skipped, "dense", dtype),
    )


@functools.cache
def signed_problem():
    """The same between sketches: weights of both signs, and the potentials at the nodes."""
    p, clouds = problem(), []
    for measure, potential in ((p.alpha, p.f), (p.beta, p.g)):
        nodes = Cloud(measure, COST, EPSILON).nodes(1e-3)
        index = nodes.tree.order[nodes.index]
        clouds.append((nodes.sketch(measure), potential[index.numpy()]))
    (alpha, f), (beta, g) = clouds
    assert min(float((m.weights < 0).double().mean()) for m in (alpha, beta)) > 0.02
    C = squared_distances(alpha.points.numpy(), beta.points.numpy())
    return SimpleNamespace(alpha=alpha, beta=beta, a=alpha.weights.numpy(), b=beta.weights.numpy(), C=C, f=f, g=g)


def full(p, cost=COST):
    return FullSums(engine.pair(p.alpha.points, p.beta.points, cost, "dense"), p.alpha, p.beta)


def cell_sums(p, **how):
    return CellSums(full(p), *sides(p, **how))


def arguments(p, f=None, g=None):
    """u of the rows, and v of the columns with their weights."""
    f, g = p.f if f is None else f, p.g if g is None else g
    return torch.as_tensor(f) / EPSILON, torch.as_tensor(g) / EPSILON + p.beta.log_weights


def log_sums(p, u, v):
    return u.numpy() + logsumexp(v.numpy() - p.C / EPSILON, axis=1)


def skipped_by_rows(side, p, u, v):
    """Shares of their mass that rows skip, in the order of the tree."""
    rows, columns = side.rows.tree.order.numpy(), side.columns.tree.order.numpy()
    plan = np.exp(u.numpy()[rows, None] + v.numpy()[columns] - p.C[rows][:, columns] / EPSILON)
    return (plan * ~mask(side._pattern.blocks, *plan.shape)).sum(1) / plan.sum(1)
