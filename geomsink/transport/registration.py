"""Registration: the map of a family that brings one cloud closest to another, by the Sinkhorn divergence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..counts import one_of, positive, whole
from ..divergences import Divergence, EntropicOT, Reach, SinkhornDivergence
from ..guards import guarded
from ..measures import Container, Measure, pair_of_measures, tensor
from ..progress import Progress
from ..solver import temperatures
from .descent import OptimizerLike, check_steps, descend
from .motions import Linear, Motion, Smooth, nearest_rotation, spread
from .registered import Registration
from .search import HAZE, centre, radius, search
from .stages import Stage, curvature, stages

TRANSFORMS = ("rigid", "similarity", "affine", "free")
INITS = ("centres", "search")
RIGID_TOL = 1e-5
"""Marginal error of transport problems of rigid motions: line searches need gradients that agree with the loss."""
COARSE_STEPS = 8
"""Steps at the blurs before the last: each only has to come within reach of the next."""
GUESSED = 6
"""Steps at the last blur that the time left is guessed from."""
FIRST = 0.5
"""The blur of the first level, in units of the first cloud's radius."""
ORTHOGONAL = 1e-4
"""Largest difference of AᵀA from a multiple of the identity that rounding of a given rotation explains."""


@guarded
def register(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    transform: str = "rigid",
    blur: float,
    reach: Reach = None,
    init: Any = "centres",
    start: float | None = None,
    scaling: float = 0.5,
    width: float | None = None,
    stiffness: float | None = None,
    optimizer: OptimizerLike = "lbfgs",
    lr: float | None = None,
    steps: int = 50,
    tol: float = 1e-3,
    engine: str = "auto",
    seed: int = 0,
    progress: bool = False,
) -> Registration:
    """The map T of a family for which S_ε(T(α), β) is smallest: cloud x is moved onto cloud y.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        Points: NumPy arrays, torch tensors or anything that NumPy reads.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights; None is 1/N each.
    transform : {"rigid", "similarity", "affine", "free"}, default "rigid"
        T(z) = R z + t with a rotation R, s R z + t, A z + t, or R z + t + v(z) with R and t of ``init`` and a smooth
        displacement v(z) = Σ_k exp(−‖z − c_k‖² / (2 width²)) p_k, whose control points c_k are some of x.
    blur : float
        Length σ of the last level, ε = 2 σ². About the spacing of the points, or their noise if that is larger.
    reach : float, or pair of float or None, optional
        Length beyond which mass is rather left out than moved, at the last level; see `geomsink.sinkhorn_divergence`.
        Needed where one cloud has parts, or a density, that the other has not: one or two times the blur, and see
        ``matched``. Give (reach, None) if all of y has a counterpart in x. The default moves all mass.
    init : {"centres", "search"} or pair or Registration, default "centres"
        What is started from: no rotation, and the mean of x brought to that of y; or the best of many rotations about
        these, in two and three coordinates, which finds turns by any angle unless a large part is cut away; or a
        (matrix, translation); or that of an earlier registration.
    start : float, optional
        Blur of the first level. Default: half the root mean squared distance of the points of x from their mean, and
        a quarter after a search.
    scaling : float, default 0.5
        Factor of the blur, and of the reach, from one level to the next, at least 1/4.
    width : float, optional
        Of ``"free"``: w, a length over which displacements change. Default: as ``start``.
    stiffness : float, optional
        Of ``"free"``: λ in S_ε + λ m ‖v‖², with the mass m of x and ‖v‖² = Σ_kl exp(−‖c_k − c_l‖²/(2 w²)) ⟨p_k, p_l⟩.
        Default: 1e-3.
    optimizer, lr, steps, tol
        As `geomsink.transport.descent.descend` takes them, on the last level.
    engine : {"auto", "keops", "dense"}, default "auto"
    seed : int, default 0
        Of the points that a search compares.
    progress : bool, default False
        Show a progress bar (needs tqdm).

    Returns
    -------
    Registration

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.

    Warns
    -----
    ConvergenceWarning
        If a transport problem did not converge.

    Notes
    -----
    Feydy et al. 2017 (arXiv:1706.05218); unbalanced, Séjourné et al. 2019 (arXiv:1910.12958); ``"free"``, Myronenko,
    Song 2010 (arXiv:0905.2635).

    Levels are between cells of the points, of about the size of their blur, where these are many fewer than the points.
    The last one comes to rest between cells first, and goes on between all points from there. Of linear families,
    L-BFGS then has parameters in which the cells' loss has a curvature of one in each direction, and needs a few steps.

    Where x and y are different samples of a shape, fixed marginals would move their means onto each other, which differ
    by its size over √N; with a reach r it is about r / √N.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((200, 2))
    >>> turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    >>> r = register(x, x @ turn.T + 1.0, blur=0.05)
    >>> np.allclose(r.matrix, turn, atol=1e-4), np.allclose(r.translation, 1.0, atol=1e-4), r.converged
    (True, True, True)
    """
    one_of("transform", transform, TRANSFORMS)
    check_steps(steps, tol)
    job, container = _Job.of(x, y, a, b, transform, blur, reach, init, start, scaling, engine, seed)
    width, stiffness = _smoothness(transform, width, stiffness, job.blurs[0])
    job = replace(job, width=width, stiffness=stiffness)
    motion = job.started(init)
    todo, histories, curved = stages(job.alpha, job.beta, job.blurs), [], None
    with Progress(progress) as bar:
        bar.parts([sum(stage.sizes) * (GUESSED if stage.is_last else COARSE_STEPS) for stage in todo])
        for k, stage in enumerate(todo):
            bar.part(k)
            motion.settle(stage.blur, curved)
            measured = job.measured(stage.blur)
            loss = job.loss(measured, motion, stage)
            size = job.alpha.mass * stage.blur**2
            history = descend(
                motion.parameters,
                loss,
                optimizer=optimizer,
                lr=lr,
                steps=int(steps) if stage.is_last else min(int(steps), COARSE_STEPS),
                tol=tol if stage.is_last else 0.0,  # which takes all steps, but from an optimum
                scale=1.0 / size,
                size=size,
                progress=bar,
                name=f"{transform}, blur {stage.blur:.3g}, {stage.words}",
            )
            histories.append(history)
            if stage.is_last and not stage.is_whole and optimizer == "lbfgs" and isinstance(motion, Linear):
                curved = curvature(motion, loss, 1.0 / size)
    motion.settle(blur)
    with torch.no_grad():
        arrays = {
            name: container.array(getattr(motion, name), 0) if hasattr(motion, name) else None
            for name in ("matrix", "translation", "controls", "momenta")
        }
        points = container.array(motion(job.alpha.points), 0)
    matched = job.matched(measured)
    return Registration(
        transform, points, **arrays, width=width, blurs=tuple(stage.blur for stage in todo), history=tuple(histories),
        sizes=tuple(stage.sizes for stage in todo), matched=matched,
    )  # fmt: skip


@dataclass(frozen=True)
class _Job:
    """Validated arguments.

    Attributes
    ----------
    alpha, beta : Measure
        Points in float64, whatever the caller's precision: line searches need gradients that agree with the loss.
    """

    alpha: Measure
    beta: Measure
    transform: str
    blurs: tuple[float, ...]
    reach: Reach
    engine: str
    seed: int
    width: float | None = None
    stiffness: float | None = None

    @classmethod
    def of(
        cls, x: Any, y: Any, a: Any, b: Any, transform: str, blur: Any, reach: Any, init: Any, start: Any,
        scaling: float, engine: str, seed: Any,
    ) -> tuple[_Job, Container]:  # fmt: skip
        blur, start = positive("blur", blur, "length"), None if start is None else positive("start", start, "length")
        SinkhornDivergence(blur=blur, reach=reach, engine=engine)  # which has the sentences for these
        points, weights, container = pair_of_measures(x, y, a, b, reach is None, remedy="reach= for others")
        if container.layouts is not None:
            raise ValueError(f"x: shape is {tuple(points[0].shape)}, expected (points, coordinates) of one cloud.")
        alpha, beta = (Measure(p.detach().double(), w.detach()) for p, w in zip(points, weights, strict=True))
        extent = radius(alpha)
        if not extent > 0:
            raise ValueError("x: all points of positive weight are the same, expected at least two.")
        if start is None:
            start = (HAZE if isinstance(init, str) and init == "search" else FIRST) * extent
        blurs = temperatures(start, blur, scaling, 1.0)
        job = cls(alpha, beta, transform, blurs, reach, engine, whole("seed", seed, 0))
        return job, container

    def loss(self, measured: SinkhornDivergence | EntropicOT, motion: Motion, stage: Stage) -> Any:
        """The loss of the moved x and y, or of cells of them, and the penalty of the motion; without arguments."""
        alpha, beta = stage.alpha, stage.beta

        def loss() -> Tensor:
            value: Tensor = measured(alpha.weights, motion(alpha.points), beta.weights, beta.points)
            penalty = motion.penalty()
            if penalty is None:
                return value
            assert self.stiffness is not None
            return value + self.stiffness * self.alpha.mass * penalty

        return loss

    def matched(self, measured: SinkhornDivergence | EntropicOT) -> tuple[float, float]:
        """Shares of the two masses that the plan of the last evaluation has."""
        report = measured.report
        if self.reach is None or report is None:
            return 1.0, 1.0
        mass = float((report.xy if isinstance(report, Divergence) else report).plan.mass)
        return mass / self.alpha.mass, mass / self.beta.mass

    def measured(self, blur: float) -> SinkhornDivergence | EntropicOT:
        """Rigid motions leave OT_ε(α, α) as it is: without the self problems the gradient is the same."""
        grown, reach = blur / self.blurs[-1], self.reach
        if isinstance(reach, (tuple, list)):
            first, second = (None if r is None else grown * r for r in reach)
            reach = first, second
        elif reach is not None:
            reach = grown * reach
        if self.transform == "rigid":
            return EntropicOT(blur=blur, reach=reach, engine=self.engine, tol=RIGID_TOL)
        return SinkhornDivergence(blur=blur, reach=reach, engine=self.engine)

    def started(self, init: Any) -> Motion:
        """The motion that is descended from."""
        matrix, translation = self._start(init)
        if self.transform == "free":
            assert self.width is not None
            controls = spread(self.alpha.points, 0.5 * self.width)
            return Smooth(matrix, translation, controls, self.width, self.blurs[0])
        return Linear(self.transform, matrix, translation, centre(self.alpha), radius(self.alpha), self.blurs[0])

    def _start(self, init: Any) -> tuple[Tensor, Tensor]:
        """Matrix and translation."""
        d = self.alpha.points.shape[-1]
        if isinstance(init, str):
            if init not in INITS:
                raise ValueError(f"init: unknown name {init!r}; expected one of {', '.join(INITS)}, or a pair.")
            if init == "search":
                similar = self.transform in ("similarity", "affine")
                return search(
                    self.alpha, self.beta, radius(self.beta) / radius(self.alpha) if similar else 1.0, self.seed
                )
            matrix = torch.eye(d, device="cpu").to(self.alpha.points)
            return matrix, centre(self.beta) - matrix @ centre(self.alpha)
        if isinstance(init, Registration):
            init = init.matrix, init.translation
        if not (isinstance(init, (tuple, list)) and len(init) == 2):
            expected = "expected a name, a (matrix, translation) or a Registration"
            raise TypeError(f"init: a {type(init).__name__} was given, {expected}.")
        found = [tensor("init", part).to(self.alpha.points) for part in init]
        for part, shape, name in zip(found, ((d, d), (d,)), ("matrix", "translation"), strict=True):
            if part.shape != shape or not bool(part.isfinite().all()):
                raise ValueError(f"init: the {name} has shape {tuple(part.shape)}, expected {shape} of finite numbers.")
        return self._within(found[0]), found[1]

    def _within(self, matrix: Tensor) -> Tensor:
        """A given matrix, as the family has it."""
        if self.transform not in ("rigid", "similarity"):
            return matrix
        scale = 1.0 if self.transform == "rigid" else float(matrix.square().mean() * len(matrix)) ** 0.5
        turn = matrix / scale
        wrong = float((turn.T @ turn - torch.eye(len(turn), device="cpu").to(turn)).abs().max())
        if not wrong <= ORTHOGONAL:
            raise ValueError(f"init: the matrix is off by {wrong:.2g} from a rotation, expected one.")
        if float(torch.det(turn)) < 0:
            raise ValueError("init: the matrix is a reflection, expected a rotation.")
        return scale * nearest_rotation(turn)


def _smoothness(transform: str, width: Any, stiffness: Any, default: float) -> tuple[float | None, float | None]:
    given = {"width": width, "stiffness": stiffness}
    if transform != "free":
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name}: {value} given with transform={transform!r}, expected none but for 'free'.")
        return None, None
    return (
        default if width is None else positive("width", width, "length"),
        1e-3 if stiffness is None else positive("stiffness", stiffness),
    )
