"""What a caller asked for, validated: two measures, what they have history of, options, and the form of the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..choose import ENDLESS, RANGE, endless, in_range, squares_in_range
from ..copies import detached
from ..costs import Cost
from ..measures import Container, Measure, potentials
from ..processes import Group, Sharded
from ..solver import Penalty, Potentials, largest_cost
from .inputs import Inputs
from .options import Options
from .parts import CALL, Whole, given_parts
from .stands import Given, check_served, pair_of_clouds, pair_of_points


@dataclass(frozen=True)
class Request:
    """Validated arguments; nothing of how they are solved.

    Attributes
    ----------
    alpha, beta : Measure
        Features of the points in float64, centred where the cost allows it, and weights; constants.
    inputs : Inputs
        The same, with history.
    container : Container
    options : Options
    cost : Cost
        With its parameters as they were when it was asked.
    epsilon : float
    mass : Tensor, shape () or (B,)
        What the caller's weights sum to, if the marginals are fixed.
    cost_scale : float
        About the largest cost between the two.
    extent : float
        Length that coordinates of the features extend over.
    accuracy : float
        That of sketches which were given in the place of clouds; 0 without any.
    whole : Whole, optional
        What the clouds are, where processes have parts of them: the measures are those of this one.
    """

    alpha: Measure
    beta: Measure
    inputs: Inputs
    container: Container
    options: Options
    cost: Cost
    epsilon: float
    mass: Tensor
    cost_scale: float
    extent: float
    accuracy: float = 0.0
    whole: Whole | None = None

    @classmethod
    def of(
        cls,
        x: Any,
        y: Any,
        a: Any,
        b: Any,
        options: Options,
        x_batch: Any = None,
        y_batch: Any = None,
        centre: Tensor | None = None,
        remedy: str = "reach= for others, or normalize=True",
        sketches: bool = False,
    ) -> Request:
        """From what the caller gave; an earlier ``centre`` is kept where it is good enough, and ``remedy`` is what
        callers may do about masses that differ. ``sketches`` lets clouds be `Sketch` objects.

        Raises
        ------
        TypeError, ValueError
            One sentence that says which argument, what was found and what was expected.
        """
        same, propagate = options.balanced and not options.normalize, options.nan_policy == "propagate"
        take = pair_of_clouds if sketches else pair_of_points
        given = take(x, y, a, b, same, x_batch, y_batch, propagate, remedy)
        container = given.container
        if options.multiscale and container.layouts:
            raise ValueError("multiscale: True given with a batch, expected single clouds.")
        if options.multiscale and options.ground.looked_up:
            raise ValueError(f"multiscale: True given, but positions of cost {options.ground.name!r} have no cells.")
        return cls._of(given, Inputs.of(given.points, given.weights, options, centre), options)

    @classmethod
    def single(cls, x: Any, y: Any, a: Any, b: Any, blur: Any, epsilon: Any, how: dict[str, Any]) -> Request:
        """Of two single clouds as constants, at one temperature at most: ε = 1 without any, until the points say more.

        Raises
        ------
        TypeError, ValueError
        """
        if blur is not None and epsilon is not None:
            raise ValueError(f"blur, epsilon: both were ({blur} and {epsilon}) given, expected one of them at most.")
        x, y, a, b, blur, epsilon = detached((x, y, a, b, blur, epsilon))
        options = Options(blur=blur, epsilon=1.0 if blur is None and epsilon is None else epsilon, **how)
        options.check_finite()
        request = cls.of(x, y, a, b, options, remedy="")
        request.container.check_single()
        return request

    @classmethod
    def over(
        cls,
        group: Group,
        x: Any,
        y: Any,
        a: Any,
        b: Any,
        options: Options,
        index: tuple[Any, Any] = (None, None),
        init: Any = None,
        centre: Tensor | None = None,
    ) -> Request:
        """The same of clouds of which each process of a group has a part; all call it.

        Raises
        ------
        TypeError, ValueError, ProcessesError
        """
        given, weighted = given_parts(group, x, y, a, b, options, index, init), (a is not None, b is not None)
        whole = Whole.of(group, given, options, weighted, centre)
        with group.step(CALL):
            weights = whole.weights(given, weighted)
            inputs = Inputs.of(given.points, weights, options, whole=(whole.centre, whole.masses))
        return cls._of(given, inputs, options, whole)

    @classmethod
    def _of(cls, given: Given, inputs: Inputs, options: Options, whole: Whole | None = None) -> Request:
        container, cost = given.container, options.ground
        if cost.parameters:  # as they are now, whatever an optimiser makes of them
            cost = replace(cost, parameters=tuple(p.detach().clone() for p in cost.parameters))
        # Copies: the caller may change tensors in place.
        alpha = _constant(inputs.x, inputs.a, given.nearby[0])
        beta = _constant(inputs.y, inputs.b, given.nearby[1])
        _check_limit(inputs, options)
        flat = alpha.points.flatten(0, -2), beta.points.flatten(0, -2)
        if whole is not None:
            flat = whole.corners(alpha, beta)
        extent = _extent(*flat)
        if not squares_in_range(extent, torch.float64):
            found = f"x, y: coordinates, or features, extend over {extent:.3g}"
            raise ValueError(f"{found}, expected 1e-145 to 1e145 or points that are all the same; scale them.")
        scale = largest_cost(*flat, cost)
        if not scale < RANGE[torch.float64]:
            raise ValueError(f"x, y: costs reach {scale:.3g}, expected less than 1e290; scale the points down.")
        _check_temperature(inputs, options, scale, extent)
        target = float(inputs.epsilon.detach())
        if whole is not None and options.balanced and endless(target, scale):
            raise ValueError(f"epsilon: {target:.3g} is so large that the limit is computed, given with group=.")
        signed = [stand for stand in given.stands if stand is not None]
        if signed:
            limit = options.balanced and endless(target, scale)
            check_served(given.stands, options, math.inf if limit else target, inputs.live)
        accuracy = max((stand.accuracy for stand in signed), default=0.0)
        mass = inputs.mass.detach()
        return cls(alpha, beta, inputs, container, options, cost, target, mass, scale, extent, accuracy, whole)

    def at(self, options: Options) -> Request:
        """The same measures with options that differ in their temperature, which is validated."""
        inputs = replace(self.inputs, epsilon=options.live_epsilon().to(self.inputs.x.device))
        _check_limit(inputs, options)
        _check_temperature(inputs, options, self.cost_scale, self.extent)
        return replace(self, inputs=inputs, options=options, epsilon=float(inputs.epsilon.detach()))

    def constant(self) -> Request:
        """The same without history, to be kept."""
        inputs = self.inputs
        constants = {f.name: detached(getattr(inputs, f.name)) for f in fields(Inputs) if f.name != "parameters"}
        whole = self.whole and replace(self.whole, masses=detached(self.whole.masses))
        return replace(self, inputs=Inputs(**constants, parameters=self.cost.parameters), whole=whole)

    @property
    def batched(self) -> bool:
        return self.container.layouts is not None

    @property
    def sharded(self) -> bool:
        """Whether points are dealt out to processes."""
        return isinstance(self.alpha.points, Sharded)

    @property
    def processes(self) -> int:
        """Among which points are dealt out."""
        points = self.alpha.points
        return len(points.parts.counts) if isinstance(points, Sharded) else 1

    @property
    def across(self) -> str | None:
        """What is summed where the points lie on several processes."""
        return "sketches" if self.whole is not None else "pairs" if self.sharded else None

    @property
    def temperature(self) -> float:
        """That of the problems: ε, or infinity where it is so large that the limit is computed."""
        return math.inf if self.options.balanced and endless(self.epsilon, self.cost_scale) else self.epsilon

    def sides(self, alpha: Measure, beta: Measure) -> tuple[int, int]:
        """Which of the two measures, 0 or 1, the first and the second of a problem are."""
        return int(alpha is not self.alpha), int(beta is not self.alpha)

    def container_of(self, alpha: Measure, beta: Measure) -> Container:
        """For numbers over the points of two of the measures."""
        return self.container.of_sides(*self.sides(alpha, beta))

    def lengths(self, alpha: Measure, beta: Measure) -> tuple[Tensor, Tensor] | None:
        """Points of each item of a batch."""
        layouts = self.container_of(alpha, beta).layouts
        return layouts and (layouts[0].counts, layouts[1].counts)

    def penalties(self, alpha: Measure, beta: Measure) -> tuple[Penalty, Penalty]:
        first, second = self.sides(alpha, beta)
        return self.options.penalties[first], self.options.penalties[second]

    def start(self, name: str, given: Any, alpha: Measure, beta: Measure) -> Potentials:
        """Potentials between two of the measures at mass 1, from those of an earlier solution."""
        f, g = potentials(name, given, (alpha, beta), self.container_of(alpha, beta))
        if self.epsilon == math.inf or not self.options.balanced:
            return f, g
        lower = 0.5 * self.epsilon * self.mass.log()[..., None]
        return f + lower, g + lower


def _constant(points: Tensor, weights: Tensor, nearby: Tensor | None) -> Measure:
    """A copy of points and weights; ``nearby``, of a sketch, is brought to their mass."""
    weights = weights.detach().clone()
    return Measure(
        points.detach().clone(), weights, None if nearby is None else nearby * (weights.sum() / nearby.sum())
    )


def _check_limit(inputs: Inputs, options: Options) -> None:
    """Refuse ε = ∞ where it has no answer."""
    if float(inputs.epsilon.detach()) < math.inf:
        return
    if not options.balanced:
        raise ValueError("epsilon: inf is given with reach or rho, expected a finite temperature.")
    if bool(((inputs.mass.detach() - 1.0).abs() > 1e-6).any()):
        found = float(inputs.mass.detach().reshape(-1)[0])
        raise ValueError(f"epsilon: inf is given with weights that sum to {found:.6g}, expected 1.")
    if inputs.live:
        raise ValueError("epsilon: inf is given with points that require gradients; see geomsink.mmd.")


def _extent(x: Tensor, y: Tensor) -> float:
    """The longest side of the box around two clouds; infinite where that cannot be said."""
    sides = x.amax(0).maximum(y.amax(0)) - x.amin(0).minimum(y.amin(0))
    return float(sides.nan_to_num(nan=math.inf, posinf=math.inf).max())


def _check_temperature(inputs: Inputs, options: Options, scale: float, extent: float) -> None:
    """Refuse temperatures so high that the limit ε = ∞ is computed, where that has no answer, and those that a chosen
    precision does not hold."""
    target, working = float(inputs.epsilon.detach()), options.working_dtype
    if not target > 1.0 / RANGE[torch.float64]:
        raise ValueError(f"blur, epsilon: epsilon is {target:.3g}, expected more than 1e-290; scale the points up.")
    found = f"epsilon: {target:.3g} is more than {ENDLESS:.0e} times the largest cost, {scale:.3g}"
    if not options.balanced:  # potentials, and their rounding, are about ρ where costs are small
        rho = max(getattr(penalty, "rho", 0.0) for penalty in options.penalties)
        if endless(target, max(scale, rho)):
            raise ValueError(f"{found}, and than rho, {rho:.3g}; expected less.")
    elif scale > 0.0 and endless(target, scale):
        again = inputs.live and (options.differentiation == "implicit" or options.form == "sharp")
        if options.iterations is not None or again:
            how = f"differentiation={options.differentiation!r}, form={options.form!r}"
            raise ValueError(f"{found}, with {how}; expected less, or see geomsink.mmd for the limit.")
    if working is not None and not (in_range(scale, target, working) and squares_in_range(extent, working)):
        found = f"dtype: costs of {scale:.3g}, coordinates that extend over {extent:.3g} and epsilon {target:.3g}"
        raise ValueError(f"{found} leave the range of {options.dtype}; expected float64 for them, or points scaled.")
