"""One problem of the soak: given to the package, and its answer held against what is true."""

from __future__ import annotations

import functools
import math
import re
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from soak_problems import Drawn
from soak_truth import SLACK, Asked, Truth, marginal_error, truth

Array = np.ndarray
LIMIT = 60
"""Seconds of a processor that the package may take for one problem."""
SINGLE = 2.0**-24
"""Rounding to float32."""
ROUNDED = 16.0
"""Roundings of the numbers that a value is made of."""
ANGLES = "cosine", "geodesic"
"""Costs that are rounded like numbers of about 1, however small they are."""
LINK, SEEN = 1e-12, 2.0**-46
"""Share of a row and of a column, and of the whole mass, up to which an entry of a plan connects nothing."""
VALUE, GRADIENT, SHARP = 1e-5, 1e-2, 1e-2
"""Relative errors of values and gradients at the default ``tol``, and of sharp values, which are of first order."""
ARGUMENTS = re.compile(r"^(x|y|a|b|blur|epsilon|cost|reach|rho|dtype|tol|multiscale|mahalanobis|certify)\b.*: ")


class Late(BaseException):  # not to be caught on the way
    """A problem took too long."""


@dataclass
class Outcome:
    """Of one problem: how it went, the faults that were found, numbers for tables, and more of them to look at."""

    drawn: Drawn
    state: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    known: bool = True
    error: float | None = None
    seconds: float = 0.0

    def fault(self, kind: str, text: str) -> None:
        self.faults.setdefault(kind, text)


def cost_of(drawn: Drawn, device: str = "cpu") -> Any:
    """The package's cost for a `Ground`."""
    import torch

    import geomsink

    ground = drawn.ground
    if drawn.cost is not None:
        return drawn.cost
    if ground.kind == "mahalanobis":
        return geomsink.costs.mahalanobis(np.asarray(ground.numbers[0]))
    if ground.kind == "features":
        W, shift = ground.numbers
        phi = torch.nn.Linear(W.shape[1], W.shape[0], dtype=torch.float64)
        with torch.no_grad():
            phi.weight.copy_(torch.from_numpy(W))
            phi.bias.fill_(float(shift))
        phi.requires_grad_(False).to(device)
        return geomsink.FeatureCost(phi)
    make = functools.partial(geomsink.costs.Cost, name=ground.kind, degree=ground.degree)
    if ground.kind == "manhattan":
        return make(expression=lambda x, y: (x - y).abs().sum(-1), translation_invariant=True)
    if ground.kind == "dot":
        return make(expression=lambda x, y: -(x * y).sum(-1))
    up, down = ground.numbers
    return make(expression=lambda x, y: ((x - y).relu() * up + (y - x).relu() * down).sum(-1), symmetric=False)


def arguments(drawn: Drawn, device: str = "cpu") -> tuple[list[Any], dict[str, list[Any]]]:
    """x, y, a, b as the caller gives them, and the tensors that gradients are taken in."""
    import torch

    given: list[Any] = []
    leaves: dict[str, list[Any]] = {name: [] for name in drawn.live}
    for name in ("x", "y", "a", "b"):
        parts = [getattr(item, name) for item in drawn.items]
        if parts[0] is None:
            given.append(None)
            continue
        arrays: Any = [np.array(part) for part in parts]
        if drawn.container == "tensor":
            arrays = [np.stack(arrays)]
        if drawn.torch:
            arrays = [torch.from_numpy(part).to(device).requires_grad_(name in drawn.live) for part in arrays]
        if name in drawn.live:
            leaves[name] = arrays
        given.append(arrays if drawn.container == "list" else arrays[0])
    return given, leaves


def truths(drawn: Drawn, seconds: float = 6.0) -> list[Truth]:
    """Item by item."""
    found = []
    for item in drawn.items:
        x, y = (t.astype(np.float64) for t in (item.x, item.y))
        a = np.full(len(x), 1.0 / len(x)) if item.a is None else item.a.astype(np.float64)
        b = np.full(len(y), 1.0 / len(y)) if item.b is None else item.b.astype(np.float64)
        if drawn.balanced:  # masses of single-precision weights differ: both measures have the mean
            mass = 0.5 * (a.sum() + b.sum())
            a, b = mass / a.sum() * a, mass / b.sum() * b
        divergence = drawn.function == "sinkhorn_divergence"
        asked = Asked(x, y, a, b, drawn.ground, drawn.epsilon, drawn.penalties, divergence, drawn.sharp)
        found.append(truth(asked, seconds))
    return found


def run(drawn: Drawn, device: str = "cpu") -> Outcome:
    """Solve it, and check."""
    import geomsink

    outcome, (given, leaves), began = Outcome(drawn), arguments(drawn, device), time.perf_counter()
    result: Any = None
    gradients: dict[str, list[Array]] = {}

    def late(*_: Any) -> None:
        raise Late

    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function = getattr(geomsink, drawn.function)
            result = function(*given, cost=cost_of(drawn, device), **drawn.options)
            if drawn.live:
                result.value.sum().backward()
                gradients = {name: [gradient_of(t) for t in leaves[name]] for name in drawn.live}
    except Late:
        outcome.state = "slow"
    except (ValueError, TypeError) as error:
        outcome.state = "refused"
        outcome.numbers["refused"] = str(error)
        if not ARGUMENTS.match(str(error)) or result is not None:
            outcome.fault("crash", f"{type(error).__name__}: {error}")
    except Exception as error:
        outcome.state = "crashed"
        outcome.fault("crash", f"{type(error).__name__}: {str(error)[:200]}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    outcome.seconds = time.perf_counter() - began
    if outcome.state:
        return outcome
    warned = any(issubclass(w.category, geomsink.ConvergenceWarning) for w in caught)
    outcome.state = "converged" if result.converged and not warned else "warned"
    if result.converged == warned:
        outcome.fault("crash", f"converged is {result.converged}, and it was {'' if warned else 'not '}warned of")
    found = truths(drawn, 30.0 if drawn.kind == "large" else 6.0)
    outcome.known = all(t.known for t in found)
    check_values(outcome, result, found)
    check_intervals(outcome, result, found)
    check_marginals(outcome, result, found)
    check_gradients(outcome, gradients, result, found)
    outcome.numbers["status"], outcome.numbers["marginal_error"] = result.status, result.marginal_error
    outcome.numbers["working"] = result.dtype
    outcome.numbers["strategy"] = "/".join(p.strategy for _, p in problems(result))
    outcome.numbers["n_iter"] = result.n_iter
    return outcome


def settled(difference: Array, w: Array, t: Truth, name: str) -> Array:
    """Less its weighted mean on each part of the plans: what no mass connects is not determined, but for rounding."""
    labels = np.zeros(len(w), int)
    for key, part in t.parts.items():
        if key not in ("xy", {"a": "xx", "b": "yy"}[name]):
            continue
        P = part.plan if name == "a" else part.plan.T
        least = np.maximum(LINK * np.minimum(P.sum(1)[:, None], P.sum(0)), SEEN * P.sum())
        n = len(P)
        linked = scipy.sparse.csr_array(np.greater(P, least))
        links = scipy.sparse.bmat([[None, linked], [linked.T, None]], format="csr")
        _, found = scipy.sparse.csgraph.connected_components(links, directed=False)
        labels = labels * (found.max() + 1) + found[:n]
    out = np.array(difference, np.float64)
    for label in np.unique(labels):
        mine = labels == label
        mass = w[mine].sum()
        out[mine] -= (w[mine] @ out[mine]) / mass if mass > 0 else out[mine]
    return out


def lost(drawn: Drawn, item: Any, t: Truth, name: str, working: str) -> float:
    """What rounding of the points does to the gradient in them."""
    rounding = 4.0 * (SINGLE if working == "float32" else 2.0**-53)
    x, y = item.x.astype(np.float64), item.y.astype(np.float64)
    P, ground = t.parts["xy"].plan, drawn.ground
    sides = (P, x, y, ground) if name == "x" else (P.T, y, x, ground.transposed())
    found = sides[3].lost(*sides[:3], rounding)
    own = t.parts.get(name * 2)
    return found if own is None else found + ground.lost(own.plan, sides[1], sides[1], rounding)


def gradient_of(t: Any) -> Array:
    return np.zeros(t.shape) if t.grad is None else t.grad.double().cpu().numpy()


def numbers(value: Any) -> Array:
    """A float, tensor or array as a float64 vector, one number an item."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.atleast_1d(np.asarray(value, np.float64))


def problems(result: Any) -> list[tuple[str, Any]]:
    return [(n, getattr(result, n)) for n in ("xy", "xx", "yy")] if hasattr(result, "xx") else [("xy", result)]


def output_rounding(drawn: Drawn) -> float:
    """Relative, of a value in the caller's precision."""
    return SINGLE if drawn.dtype == "float32" and (drawn.torch or drawn.container != "single") else 0.0


def check_values(outcome: Outcome, result: Any, found: list[Truth]) -> None:
    drawn, values = outcome.drawn, numbers(result.value)
    stated = getattr(result, "value_error", None)
    outcome.numbers["value"], outcome.numbers["truth"] = values.tolist(), [t.value for t in found]
    outcome.numbers["truth error"] = [t.error for t in found]
    outcome.numbers["rounding"] = [t.rounding for t in found]
    if not np.isfinite(values).all():
        outcome.fault("nan", f"value {values.tolist()}")
        return
    worst, bars = 0.0, VALUE * drawn.tol / 1e-3
    if drawn.sharp:
        bars = SHARP * drawn.tol / 1e-3
    for k, (value, t) in enumerate(zip(values, found, strict=True)):
        off, natural = abs(value - t.value), t.size
        angles = drawn.ground.kind in ANGLES
        if angles or len(drawn.items) > 1:  # ε is to be compared with the largest cost that there may be
            natural = natural + angles + (drawn.epsilon if drawn.epsilon < math.inf else 0.0)
        rounding = SLACK * natural + ROUNDED * t.rounding + 2.0 * output_rounding(drawn) * abs(t.value)
        if result.dtype == "float32":
            rounding += SINGLE * t.size
        allowed = max(bars * abs(t.value), rounding) + t.error
        if outcome.state == "converged":
            excess = max(off - t.error - rounding, 0.0)
            worst = max(worst, excess / abs(t.value) if t.value else (0.0 if excess == 0.0 else math.inf))
            if not off <= allowed:
                outcome.fault(
                    "value", f"{value:.9g} for {t.value:.9g} ± {t.error:.1g}, off by {off / allowed:.3g} bars"
                )
        if stated is not None:
            own = float(numbers(stated)[min(k, numbers(stated).size - 1)])
            outcome.numbers.setdefault("stated", []).append(own)
            safe = own + t.error + 4.0 * t.rounding + SLACK * natural + 2.0 * output_rounding(drawn) * abs(t.value)
            if math.isnan(own) or (math.isfinite(own) and not off <= safe):
                outcome.fault("stated", f"{value:.9g} ± {own:.3g} stated for {t.value:.9g} ± {t.error:.1g}")
    if outcome.state == "converged" and outcome.known:
        outcome.error = worst


def check_intervals(outcome: Outcome, result: Any, found: list[Truth]) -> None:
    if result.lower is None:
        return
    lower, upper = numbers(result.lower), numbers(result.upper)
    for low, high, t in zip(lower, upper, found, strict=True):
        slack = t.error + 4.0 * t.rounding
        if not (low - slack <= t.value <= high + slack):
            outcome.fault("interval", f"[{low:.12g}, {high:.12g}] without {t.value:.12g} ± {slack:.1g}")


def items(drawn: Drawn, potential: Any) -> Iterator[Array]:
    """Of a batch, one after the other."""
    parts = [potential] if drawn.container == "single" else list(potential)
    for part in parts:
        yield np.asarray(part.detach().cpu().numpy() if hasattr(part, "detach") else part, np.float64)


def check_marginals(outcome: Outcome, result: Any, found: list[Truth]) -> None:
    drawn = outcome.drawn
    precision = SINGLE if drawn.dtype == "float32" else 2.0**-53
    for name, one in problems(result):
        potentials = [list(items(drawn, h)) for h in one.potentials]
        for f, g, item, t in zip(*potentials, drawn.items, found, strict=True):
            C = t.costs[name]
            a = np.full(len(item.x), 1.0 / len(item.x)) if item.a is None else item.a.astype(np.float64)
            b = np.full(len(item.y), 1.0 / len(item.y)) if item.b is None else item.b.astype(np.float64)
            first, second = {"xy": (a, b), "xx": (a, a), "yy": (b, b)}[name]
            p, q = drawn.penalties
            penalties = {"xy": (p, q), "xx": (p, p), "yy": (q, q)}[name]
            if not (np.isfinite(f[first > 0]).all() and np.isfinite(g[second > 0]).all()):
                outcome.fault("nan", f"potentials of {name}")
                continue
            if drawn.epsilon == math.inf or outcome.state != "converged":
                continue
            sizes = np.abs(f[first > 0]).max() + np.abs(g[second > 0]).max()
            if not all(r.kind != "fixed" for r in penalties):  # their masses are each made the mean of both
                sizes += drawn.epsilon * abs(first.sum() / second.sum() - 1.0) / precision * (drawn.balanced)
            cast = 2.0 * (precision * sizes + 2.0**-51 * np.abs(C).max()) / drawn.epsilon
            if one.dtype == "float32":
                cast += SINGLE
            if cast > 0.1:
                continue
            error = marginal_error(C, first, second, f, g, drawn.epsilon, penalties)
            outcome.numbers.setdefault("marginals", []).append(error)
            if not error <= one.tol * 1.0001 + 4.0 * cast + 1e-14:
                outcome.fault("marginals", f"{name}: {error:.3g}, reported {one.marginal_error:.3g}")


def too_large(t: Truth, name: str, drawn: Drawn) -> Array:
    """Whether derivatives leave what the caller's precision holds, as those in a weight of 0 may: e^(−f/ρ) of them."""
    largest = float(np.finfo(np.float32 if drawn.dtype == "float32" else np.float64).max)
    return ~(np.abs(t.gradients[name]) < largest)


def check_gradients(outcome: Outcome, gradients: dict[str, list[Array]], result: Any, found: list[Truth]) -> None:
    drawn = outcome.drawn
    for name, parts in gradients.items():
        whole = list(parts[0]) if drawn.container == "tensor" else parts
        for gradient, item, t in zip(whole, drawn.items, found, strict=True):
            left_out = too_large(t, name, drawn) if t.gradients else np.zeros(gradient.shape, bool)
            gradient = np.where(left_out, 0.0, gradient)
            if not np.isfinite(gradient).all():
                outcome.fault("nan", f"gradient in {name}")
                continue
            if outcome.state != "converged" or not t.exact or not t.gradients:
                continue
            unit = SINGLE * 16 if "float32" in (drawn.dtype, result.dtype) else SLACK
            largest = max(float(np.abs(C).max()) for C in t.costs.values())
            unit = unit + 2.0**-51 * largest / drawn.epsilon
            right = np.where(left_out, 0.0, t.gradients[name])
            if name in "xy":
                off, size = float(np.linalg.norm(gradient - right)), float(np.linalg.norm(right))
                # The plan is off by √(2 error / ε) in total variation, and the value by rounding in any case.
                unit = unit + math.sqrt(2.0 * t.rounding / drawn.epsilon) * (drawn.epsilon < math.inf)
                bar = max(GRADIENT * size, drawn.tol * t.sizes[name])  # of itself, or of its terms
                bar += unit * t.sizes[name] + lost(drawn, item, t, name, result.dtype)
            else:
                w = np.asarray(getattr(item, name), np.float64)
                w = w / w.sum()
                right, gradient = (np.where(w > 0.0, part, 0.0) for part in (right, gradient))
                difference = gradient - right
                spread = math.sqrt(max(float(w @ (right - w @ right) ** 2), 0.0))
                if all(p.kind != "kl" for p in drawn.penalties):  # of parts that exchange no mass, constants are free
                    difference = settled(difference, w, t, name)
                else:  # the mean is small beside itself, what is left beside what the gradient varies by
                    mean = float(w @ difference)
                    most = GRADIENT * max(drawn.epsilon, spread, abs(float(w @ right))) + unit * t.sizes[name]
                    difference = difference - (mean if abs(mean) <= most else 0.0)
                # Marginals are right to ten roundings, or to those of the exponents, C/ε.
                loose = 10.0 * max(1.0, largest / drawn.epsilon / 16.0) * sum(s.loose for s in t.parts.values())
                if loose > 1e-3 * max(drawn.epsilon, spread):
                    continue
                off, bar = math.sqrt(float(w @ difference**2)), GRADIENT * max(drawn.epsilon, spread)
                bar += unit * t.sizes[name]
            outcome.numbers.setdefault("gradients", {}).setdefault(name, []).append(off / bar if bar else off)
            if not off <= bar:
                outcome.fault("gradient", f"in {name}: off by {off:.3g}, allowed {bar:.3g}")
