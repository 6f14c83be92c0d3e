"""What is always wrong, by the names of arguments; and all that takes them, with what is right."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch

import geomsink
from geomsink import costs, generative, kernels, shapes, transport
from geomsink.compat import pot
from geomsink.compat.geomloss import SamplesLoss, ot

NAN, INF = float("nan"), float("inf")


class Odd:
    """Nothing that anyone could mean."""


POINTS = [
    None, "points", b"p", 5, 3.5, True, Odd(), {}, set(), [], [[]], [1.0, 2.0], [[1.0, 2.0], [3.0]], [[NAN, 1.0]],
    [[INF, 1.0]], np.zeros((0, 2)), np.zeros((3, 0)), np.zeros((2, 2, 2, 2)), np.ones((3, 2), complex),
    np.array([["a", "b"]]), np.array([[None, None]]), np.array([["2020-01-01"] * 2], "M8[D]"), [[2**60, 0]],
    [[2**70, 0]], scipy.sparse.eye(2), abs, torch.ones(3, 2).to_sparse(), torch.ones(3, 2, dtype=torch.complex64),
    [[1.0, "2"]], np.ma.masked_equal([[1.0, 2.0], [3.0, 4.0]], 2.0), np.longdouble([[1, 2]]),
]  # fmt: skip
BESIDE = [*POINTS, np.ones((3, 5)), torch.ones(3, 2)]
"""Points beside others, which are arrays in two coordinates."""
NUMBER = [-1.0, NAN, "wide", [1.0], Odd(), 1j, {}, -INF, np.ones(2), b"1"]
LENGTH = [0, *NUMBER, (0.1, 0.2), torch.ones(2), torch.tensor(1), torch.tensor(NAN)]
POSITIVE = [0, *NUMBER, None]
COUNT = [0, -1, 1.5, "a", NAN, Odd(), [3], True, None, INF, np.ones(2)]
FLAG = [1, 0, "yes", None, Odd(), [], 2.0, NAN]
NAME = ["nope", "", 3, None, Odd(), ["auto"], b"x", 1.5, ("kl",), {}]
COST = [
    "nope", "", 3, None, Odd(), ["sqeuclidean"], "power:", "power:a", "power:1,2", "power:-1", "power:nan", "power:3",
    "mahalanobis:", "mahalanobis:a", "mahalanobis:-1,1", abs,
]  # fmt: skip
KERNEL = ["nope", "", 3, None, Odd(), ["gaussian"], "-nope", "-", abs]
REACH = [0, -1.0, NAN, "a", Odd(), 1j, (1.0,), (1.0, 2.0, 3.0), (1.0, -1.0), (1.0, "a"), {}, [NAN, None], b"1"]
INDEX = ["a", [0.5] * 6, [0] * 4, [1] * 6, [1, 0, 0, 0, 0, 0], [-1] * 6, Odd(), 5, [[0] * 6], [NAN] * 6, {}]
CLOUDS = [
    None, 5, "a", [], [None], ["a"], [np.ones((6, 2)), 5], [np.ones((6, 2)), np.ones((3, 5))], Odd(), {},
    [np.ones((6, 2)), torch.ones(3, 2)], [np.zeros((0, 2))],
]  # fmt: skip
SOLUTION = [None, 5, "a", Odd()]
LOSS = [5, "a", Odd()]
WRONG: dict[str, list[Any]] = {
    "x": BESIDE, "y": BESIDE, "blur": LENGTH, "epsilon": LENGTH, "cost": COST, "reach": REACH, "rho": REACH,
    "penalty": NAME, "form": NAME, "differentiation": NAME, "iterations": [v for v in COUNT if v is not None],
    "recompute": FLAG, "tol": POSITIVE, "max_iter": COUNT, "scaling": [*POSITIVE, 1.0, 2.0, INF], "engine": NAME,
    "dtype": ["float16", "nope", 3, Odd(), int, np.int32, torch.float16, complex, torch.int32, ["float32"]],
    "multiscale": FLAG, "certify": FLAG, "tol_gap": POSITIVE, "normalize": FLAG, "nan_policy": NAME, "x_batch": INDEX,
    "y_batch": INDEX, "progress": FLAG, "group": [3, "a", Odd(), False],
    "init": [3, "a", Odd(), (1,), np.ones(6), (np.ones(6), np.ones(4)), (np.full(6, NAN), np.ones(5)), {}],
    "kernel": KERNEL, "truncate": [-1, 1, 2.0, NAN, "a", None, Odd(), [0.1]], "permutations": COUNT,
    "seed": [-1, 1.5, "a", NAN, Odd(), [3], True, None, INF], "accuracy": [*POSITIVE, 1.0, 2.0, INF],
    "p": [*POSITIVE, 2.5, INF], "exact": FLAG, "one_to_one": FLAG, "candidates": COUNT, "steps": COUNT, "frames": COUNT,
    "mass": [0, -1.0, NAN, "a", None, Odd(), 1.0, 5.0, [0.5, 0.5], 1j, [NAN], INF], "warm_start": FLAG, "reuse": FLAG,
    "fit_weights": FLAG, "k": [*COUNT, 100], "n": [v for v in COUNT if v is not None], "reverse": FLAG,
    "times": [-0.1, 1.1, NAN, "a", None, Odd(), [0.5, 2.0], [], 1j, {}], "optimizer": NAME, "lr": POSITIVE,
    "probabilities": FLAG, "transform": NAME, "width": POSITIVE, "stiffness": [-1.0, NAN, "a", [1.0], Odd()],
    "start": POSITIVE, "chunks": [5, "nope", Odd(), [], [5], [None], [np.ones(3)], [[[NAN, 1.0]]]], "clouds": CLOUDS,
    "others": [v for v in CLOUDS[1:] if not (isinstance(v, list) and len(v) > 1 and not isinstance(v[1], int))],
    "degree": [0, -1.0, NAN, "a", Odd(), INF], "symmetric": FLAG, "drop_invalid": FLAG, "factor": [*POSITIVE, INF],
    "debias": FLAG, "ground": COST, "solution": SOLUTION, "divergence": SOLUTION,
    "points": BESIDE, "g": [None, "a", 5, [NAN] * 5, [0.0] * 4, np.ones((5, 2)), Odd(), [INF] * 5, ["a"] * 5, {}],
    "labels": [None, 5, "a", Odd(), [0] * 4, [NAN] * 5, np.ones((5, 2, 2)), [None] * 5, np.ones(5, complex), [], {}],
    "loss": LOSS, "phi": [*SOLUTION, abs], "bound": POSITIVE, "weight": POSITIVE, "noise": COUNT, "dim": COUNT,
    "depth": COUNT, "size": COUNT, "channels": COUNT, "patches": COUNT, "frequencies": COUNT, "bandwidth": POSITIVE,
    "centre": ["a", NAN, Odd(), None], "radius": POSITIVE, "base": NAME, "generator": SOLUTION,
    "threshold": [0, -1.0, 1.5, NAN, "a", None, Odd(), [0.1]], "expression": [None, 5, "a", Odd(), lambda x: 0],
    "constraint": [5, "nope", Odd()], "matrix": [None, 5, "a", Odd(), [], [[NAN]], [[INF]], np.ones(3),
    np.ones((2, 2, 2, 2)), np.ones((0, 2)), np.ones((2, 2), complex), [["a"]]],
}  # fmt: skip


def weights(n: int) -> list[Any]:
    """None of n points."""
    return [
        "w", b"w", 5, Odd(), {}, set(), True, [], [-1.0] + [1.0] * (n - 1), [NAN] * n, [INF] * n, [0.0] * n,
        [1.0] * (n + 1), np.ones((n, 2)), np.ones(n, complex), ["a"] * n, [None] * n, torch.ones(n), abs,
        [[1.0], [1.0, 2.0]], [1e308] * n, np.ma.masked_equal(np.arange(1.0, n + 1.0), 2.0),
    ]  # fmt: skip


def _called(loss: type) -> Callable[..., Any]:
    """A loss made and called at once, by the names of both."""

    def call(x: Any = X, y: Any = Y, **options: Any) -> Any:
        return loss(**options)(*(torch.tensor(p) if isinstance(p, np.ndarray) else p for p in (x, y)))

    call.__signature__ = inspect.signature(loss)  # type: ignore[attr-defined]
    return call


RANDOM = np.random.default_rng(0)
X, Y = RANDOM.random((6, 2)), RANDOM.random((5, 2))
PAIR = {"x": X, "y": Y, "blur": 0.3}
SOLVED = geomsink.solve(X, Y, blur=0.3)
DESCENT = {"tol": [v for v in POSITIVE if v is not None and not (isinstance(v, int) and v == 0)] + [1.0]}
SEVERAL = [v for v in LENGTH if not isinstance(v, (list, tuple)) and getattr(v, "ndim", 0) == 0]
"""No blurs of a kernel, of which there may be several."""
MLP = generative.MLP(2, 2)

# What is called, with what is right, and what else is wrong, or is not wrong there.
Call = tuple[Callable[..., Any], dict[str, Any], dict[str, list[Any]]]
CALLS: dict[str, Call] = {
    "sinkhorn_divergence": (geomsink.sinkhorn_divergence, PAIR, {}),
    "solve": (geomsink.solve, PAIR, {}),
    "wasserstein_bounds": (geomsink.wasserstein_bounds, {"x": X, "y": Y}, {}),
    "partial_transport": (geomsink.partial_transport, PAIR | {"mass": 0.5}, {}),
    "mmd": (geomsink.mmd, PAIR, {"blur": [*SEVERAL, [], [0.0], [NAN], ["a"], np.ones((2, 2))]}),
    "hausdorff_divergence": (geomsink.hausdorff_divergence, PAIR, {}),
    "c_transform": (geomsink.c_transform, PAIR | {"g": np.zeros(5)}, {}),
    "two_sample_test": (geomsink.two_sample_test, PAIR | {"permutations": 3}, {}),
    "suggest_blur": (geomsink.suggest_blur, {"x": X, "y": Y}, {}),
    "pairwise": (
        geomsink.pairwise, {"clouds": [X, Y], "blur": 0.3},
        {"weights": [5, "a", [], [None], ["a", "b"], Odd(), [-np.ones(6), np.ones(5)]], "reach": [*REACH, (1.0, 1.0)],
         "other_weights": [5, "a", [None], Odd()]},
    ),
    "sketch": (geomsink.sketch, {"x": X, "blur": 0.3}, {"x": POINTS, "cost": [*COST, "euclidean"]}),
    "SinkhornDivergence": (_called(geomsink.SinkhornDivergence), {"blur": 0.3}, {}),
    "EntropicOT": (_called(geomsink.EntropicOT), {"blur": 0.3}, {}),
    "MMD": (_called(geomsink.MMD), {"blur": 0.3}, {"blur": [*SEVERAL, None, [], [0.0], [NAN], ["a"]]}),
    "FeatureCost": (geomsink.FeatureCost, {"phi": torch.nn.Identity()}, {}),
    "MatrixCost": (
        geomsink.MatrixCost, {"matrix": np.ones((3, 3))},
        {"symmetric": [v for v in FLAG if v is not None], "shape": [(3, 3), 5, "a"],
         "parameters": [5, "a", (torch.ones(1),), (5,)]},
    ),
    "Plan.top_k": (SOLVED.plan.top_k, {"k": 2}, {"k": [*COUNT, 6]}),
    "Plan.to_sparse": (SOLVED.plan.to_sparse, {"threshold": 0.1}, {}),
    "Plan.sample": (SOLVED.plan.sample, {"n": 3}, {"n": COUNT}),
    "Solution.loss": (SOLVED.loss, {"form": "sharp"}, {"form": NAME}),
    "Sketch.merge": (geomsink.sketch(X, blur=0.3).merge, {"others": []}, {"others": [5, None, [5], Odd()]}),
    "matching": (transport.matching, {"x": X, "y": Y}, {}),
    "interpolate": (transport.interpolate, PAIR | {"times": 0.5}, {}),
    "gradient_flow": (transport.gradient_flow, PAIR | {"steps": 2}, DESCENT),
    "barycenter": (
        transport.barycenter, {"clouds": [X, Y], "blur": 0.3, "steps": 2},
        {"weights": [5, "a", [], [None], ["a", "b"], [-1.0, 2.0], [NAN, 1.0], [0.0, 0.0], [1.0], Odd(), {}, [INF, 1.0]],
         "masses": [5, "a", [], [1.0], Odd(), [np.ones(6), np.ones(9)], [-np.ones(6), np.ones(5)]],
         "init": [5, "a", np.ones(3), np.ones((3, 5)), [[NAN, 1.0]], Odd(), np.zeros((0, 2))]} | DESCENT,
    ),
    "quantize": (
        transport.quantize, {"points": X, "k": 2, "blur": 0.3, "steps": 2},
        {"points": POINTS, "weights": [v for v in weights(6) if not isinstance(v, torch.Tensor)]} | DESCENT,
    ),
    "register": (
        transport.register, PAIR | {"steps": 2},
        {"init": [5, "a", Odd(), (1,), (np.eye(3), np.zeros(2)), (np.ones((2, 2)), np.zeros(2)), {},
                  (np.eye(2), np.full(2, NAN)), (np.diag([1.0, -1.0]), np.zeros(2))]} | DESCENT,
    ),
    "barycentric_map": (transport.barycentric_map, {"solution": SOLVED}, {}),
    "displacement": (transport.displacement, {"divergence": geomsink.sinkhorn_divergence(**PAIR)}, {}),
    "entropic_map": (transport.entropic_map, {"solution": SOLVED, "points": X}, {}),
    "transfer": (transport.transfer, {"solution": SOLVED, "labels": [0] * 5}, {"points": BESIDE[1:]}),
    "costs.get": (costs.get, {"cost": "sqeuclidean"}, {"name": []}),
    "costs.power": (costs.power, {"p": 1.0}, {}),
    "costs.mahalanobis": (
        costs.mahalanobis, {"weights": [1.0]},
        {"weights": [None, 5, "a", Odd(), [-1.0], [NAN], np.ones((2, 3)), np.ones((2, 2)), [0.0], [], [INF], ["a"]]},
    ),
    "costs.register": (
        costs.register, {"name": "mine", "expression": lambda x, y: (x - y).abs().sum(-1)},
        {"name": [None, 5, "sqeuclidean", "a:b", Odd(), ["a"], ""]},
    ),
    "costs.temperature": (
        costs.temperature, {"cost": costs.get("sqeuclidean"), "blur": 0.1, "epsilon": None}, {"cost": [None, 5, Odd()]}
    ),
    "Cost.scaled": (costs.get("sqeuclidean").scaled, {"factor": 2.0}, {}),
    "kernels.get": (kernels.get, {"kernel": "gaussian"}, {}),
    "kernels.register": (
        kernels.register, {"name": "mine", "expression": lambda x, y: -(x - y).abs().sum(-1)},
        {"name": [None, 5, "gaussian", "-b", Odd(), ["a"], ""]},
    ),
    "kernels.negative": (kernels.negative, {"cost": "sqeuclidean"}, {}),
    "shapes.procedural": (shapes.procedural, {"name": "torus", "n": 5}, {"name": [3, None, Odd(), ["a"]], "n": COUNT}),
    "shapes.sample": (
        shapes.sample, {"path_or_name": "shape:torus", "n": 5}, {"path_or_name": [], "n": COUNT, "columns": []}
    ),
    "shapes.read": (shapes.read, {"path": "-"}, {"path": [None, 5, "", Odd(), [], b"a", "/"], "columns": []}),
    "pot.solve_sample": (
        pot.solve_sample, {"X_a": X, "X_b": Y, "reg": 0.3},
        {"X_a": BESIDE, "X_b": BESIDE, "metric": ["nope", 3, None, Odd(), ["a"]], "reg": NUMBER, "reg_type": NAME[:3],
         "unbalanced": [v for v in REACH[1:] if v != (1.0,)], "unbalanced_type": [], "method": [*NAME[:3], Odd()],
         "max_iter": [v for v in COUNT if v is not None], "tol": POSITIVE[:-1], "grad": NAME, "c": [3], "scaler": [3],
         "projections": [3], "scaling": []},
    ),
    "geomloss.ot.solve_sample": (
        ot.solve_sample, {"X_a": X, "X_b": Y, "reg": 0.3},
        {"X_a": BESIDE, "X_b": BESIDE, "cost": [v for v in COST if not callable(v)], "reg": POSITIVE, "method": NAME,
         "unbalanced": [v for v in REACH[1:] if v != (1.0,)], "unbalanced_type": NAME, "tol": POSITIVE[:-1],
         "max_iter": [v for v in COUNT if v is not None]},
    ),
    "SamplesLoss": (
        _called(SamplesLoss), {},
        {"loss": NAME, "p": [*POSITIVE, 3.0], "reach": REACH[:6], "diameter": [-1.0, "a", Odd(), NAN], "kernel": LOSS,
         "truncate": [-1.0, "a", Odd(), NAN], "cost": [5, Odd(), "nope(", (1, 2, 3)], "potentials": FLAG,
         "cluster_scale": [-1.0, "a", Odd(), NAN], "backend": NAME, "y": [v for v in BESIDE if isinstance(v, np.ndarray)
          and v.dtype == float and not isinstance(v, np.ma.MaskedArray)]},
    ),
    "generative.MLP": (generative.MLP, {"noise": 2, "dim": 2}, {"width": COUNT}),
    "generative.Ellipse": (generative.Ellipse, {}, {}),
    "generative.Images": (generative.Images, {}, {"width": COUNT}),
    "generative.Surface": (generative.Surface, {}, {"width": COUNT}),
    "generative.Clip": (generative.Clip, {}, {}),
    "generative.GradientPenalty": (generative.GradientPenalty, {}, {}),
    "generative.Targets": (
        generative.Targets, {"steps": 3},
        {"batch": [v for v in COUNT if v is not None], "move": [-1.0, NAN, "a", Odd()]},
    ),
    "generative.LearnedCost": (generative.LearnedCost, {"phi": torch.nn.Linear(2, 2)}, {"optimizer": [], "lr": []}),
    "generative.sample": (generative.sample, {"generator": MLP, "n": 3}, {"n": COUNT}),
    "generative.fit": (
        generative.fit, {"generator": MLP, "data": X, "loss": geomsink.MMD(blur=0.3), "steps": 1, "batch": 3},
        {"data": [None, 5, Odd(), np.zeros((0, 2)), [[NAN, 1.0]], []], "loss": [None, *LOSS], "features": LOSS,
         "batch": [v for v in COUNT if v is not None], "samples": [v for v in COUNT if v is not None], "targets": LOSS,
         "blur": [0, -1.0, "a", NAN, Odd()], "epsilon": [0, -1.0, "a", NAN, Odd()], "clip": [0, -1.0, "a", NAN, Odd()],
         "average": [-1.0, 1.0, "a", NAN, Odd()], "held_out": ["nope", 0, -1, Odd()], "score": [5, Odd()],
         "evaluate_every": COUNT, "patience": [v for v in COUNT if v is not None], "checkpoint_every": COUNT,
         "tensorboard": FLAG},
    ),
}  # fmt: skip
FREE = {
    *("X_init", "batch_size", "lazy", "n_projections", "n_threads", "plan_init", "potentials_init", "random_state"),
    *("rank", "verbose", "folder", "log", "latent", "raw"),
}
"""What has no effect, as it is documented, or is looked at with files and modules, by tests of its own."""


def wrongs(name: str) -> dict[str, list[Any]]:
    """Of each argument of a call what it must not be; a KeyError for one that nothing is said of."""
    function, right, more = CALLS[name]
    found = {}
    for argument in inspect.signature(function).parameters:
        if argument in FREE:
            continue
        default = inspect.signature(function).parameters[argument].default
        if argument in more:
            found[argument] = more[argument]
        elif argument in ("a", "b"):
            found[argument] = weights(6 if argument == "a" else 5)
        else:
            optional = default is None and argument not in right
            found[argument] = [v for v in WRONG[argument] if not (v is None and optional)]
    return found
