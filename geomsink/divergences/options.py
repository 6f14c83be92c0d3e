"""What a caller says of how to solve and differentiate, validated once; without the points."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .. import costs, engine
from ..costs import Cost
from ..counts import flag, number, one_of, whole
from ..solver import Balanced, Penalty, pair_of_penalties, temperatures

TOL = 1e-3
MAX_ITER = 1000
FORMS = ("entropic", "sharp")
DIFFERENTIATIONS = ("envelope", "implicit", "unrolled")
NAN_POLICIES = ("raise", "propagate")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a solve, as `geomsink.sinkhorn_divergence` describes them.

    Raises
    ------
    TypeError, ValueError
        One sentence that says which option, what was found and what was expected.
    """

    blur: float | Tensor | None = None
    epsilon: float | Tensor | None = None
    cost: str | Cost = "sqeuclidean"
    reach: Any = None
    rho: Any = None
    penalty: str = "kl"
    form: str = "entropic"
    differentiation: str = "envelope"
    iterations: int | None = None
    recompute: bool = False
    tol: float = TOL
    max_iter: int = MAX_ITER
    scaling: float = 0.5
    engine: str = "auto"
    dtype: Any = None
    multiscale: bool | None = None
    certify: bool = False
    tol_gap: float | None = None
    normalize: bool = False
    nan_policy: str = "raise"

    def __post_init__(self) -> None:
        _ = self.ground, self.working_dtype, self.penalties
        self.live_epsilon()
        engine.check_name(self.engine)
        one_of("form", self.form, FORMS)
        one_of("differentiation", self.differentiation, DIFFERENTIATIONS)
        one_of("nan_policy", self.nan_policy, NAN_POLICIES)
        for name in ("recompute", "certify", "normalize"):
            flag(name, getattr(self, name))
        if not number("tol", self.tol) > 0:
            raise ValueError(f"tol: {self.tol} given, expected a positive marginal error.")
        temperatures(1.0, 0.5, self.scaling, self.ground.degree)
        if not (self.multiscale is None or isinstance(self.multiscale, bool)):
            raise TypeError(f"multiscale: a {type(self.multiscale).__name__} was given, expected None, True or False.")
        whole("max_iter", self.max_iter)
        self._check_iterations()
        self._check_certificate()

    def _check_iterations(self) -> None:
        unrolled = self.differentiation == "unrolled"
        if unrolled != (self.iterations is not None):
            found = "none" if self.iterations is None else f"{self.iterations}"
            raise ValueError(
                f"iterations: {found} given with differentiation={self.differentiation!r}; expected a number for "
                "'unrolled', and none otherwise."
            )
        if unrolled:
            whole("iterations", self.iterations)
        if unrolled and self.multiscale:
            raise ValueError("multiscale: True given with differentiation='unrolled', which is on one level.")
        if self.recompute and not unrolled:
            raise ValueError("recompute: True given, which is for differentiation='unrolled' alone.")

    def _check_certificate(self) -> None:
        if self.tol_gap is not None:
            if not number("tol_gap", self.tol_gap, "a number or None") > 0:
                raise ValueError(f"tol_gap: {self.tol_gap} given, expected a positive relative width.")
            if self.iterations is not None:
                raise ValueError("tol_gap: given with differentiation='unrolled', whose iterations are chosen.")
        if self.certified and self.form != "entropic":
            raise ValueError(f"certify: given with form={self.form!r}, but intervals are of the entropic form.")

    def check_finite(self) -> None:
        """Refuse ε = ∞, for what has no limit there.

        Raises
        ------
        ValueError
        """
        if float(self.live_epsilon().detach()) == math.inf:
            raise ValueError("epsilon: inf given, expected a finite temperature.")

    @property
    def certified(self) -> bool:
        """Whether an interval is wanted."""
        return self.certify or self.tol_gap is not None

    def __getstate__(self) -> dict[str, Any]:
        """Without what was worked out: what a name stands for may be a function that cannot be pickled."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @cached_property
    def ground(self) -> Cost:
        return costs.get(self.cost)

    @cached_property
    def penalties(self) -> tuple[Penalty, Penalty]:
        return pair_of_penalties(self.ground, self.reach, self.rho, self.penalty)

    @property
    def balanced(self) -> bool:
        return all(isinstance(penalty, Balanced) for penalty in self.penalties)

    @cached_property
    def working_dtype(self) -> torch.dtype | None:
        if self.dtype is None:
            return None
        # torch.float32, numpy.float32 and numpy.dtype("float32") all have the name in their text.
        given = self.dtype
        name = given if isinstance(given, str) else getattr(given, "__name__", str(given).removeprefix("torch."))
        if name not in DTYPES:
            raise ValueError(f"dtype: {given!r} given, expected None, 'float32' or 'float64'.")
        return DTYPES[name]

    def live_epsilon(self) -> Tensor:
        """ε, float64, with the history that a blur or an epsilon given as a tensor has."""
        lengths = {"blur": self.blur, "epsilon": self.epsilon}
        numbers_only: dict[str, float | None] = {}
        for name, value in lengths.items():
            if isinstance(value, Tensor):
                if value.numel() != 1 or not value.is_floating_point():
                    raise TypeError(f"{name}: a tensor of shape {tuple(value.shape)} was given, expected one number.")
                numbers_only[name] = float(value.detach())
            else:
                numbers_only[name] = value
        target = costs.temperature(self.ground, **numbers_only)
        for name, value in lengths.items():
            if isinstance(value, Tensor):
                live = value.reshape(()).double()
                if name == "epsilon":
                    return live
                assert self.ground.degree is not None
                return self.ground.unit * self.ground.degree * live**self.ground.degree
        return torch.tensor(target, dtype=torch.float64, device="cpu")
