"""Families of maps that a registration looks among: linear ones, and smooth displacements.

All are functions of a few parameters, leaves for one of torch's optimisers. Each of them, at 1, moves points by about
one ``unit``, a length that is set to the blur of a level: by turning, scaling or shifting them alike.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

MOST_CONTROLS = 2000
"""Control points of a smooth displacement: their kernel matrix is factorised."""
FLATTEST = 1e-3
"""Least curvature of what is minimised, as a share of the largest, that parameters are stretched by."""
JITTER = 1e-8
"""Added to the diagonal of a kernel matrix, which is close to singular where control points are close."""


class Motion(Protocol):
    """A map of points (K, D), in float64."""

    @property
    def parameters(self) -> tuple[Tensor, ...]: ...

    def __call__(self, points: Tensor) -> Tensor: ...

    def penalty(self) -> Tensor | None:
        """A squared length that is added to what is minimised; None is none."""
        ...

    def settle(self, unit: float, curvature: Tensor | None = None) -> None:
        """Keep the map, and have parameters of another unit; zero, where the family can be looked at from anywhere.

        With the curvature, shape (K, K), of what is minimised, in the parameters as they were, they are such that it is
        the identity in them: an optimiser's first step is then nearly Newton's.
        """
        ...


class Linear:
    """T(z) = A (z − c) + c', with c' = c₀ + h u for the unit h, and, for h/r of the radius r,

        rigid        A = exp(h/r W) A₀,
        similarity   A = exp(h/r s) exp(h/r W) A₀,
        affine       A = A₀ + h/r G,

    where W = −Wᵀ, so that a rigid A is orthogonal to rounding whatever the optimiser does.

    Attributes
    ----------
    kind : {"rigid", "similarity", "affine"}
    centre : Tensor, shape (D,)
    radius : float
    unit : float
    """

    def __init__(self, kind: str, matrix: Tensor, translation: Tensor, centre: Tensor, radius: float, unit: float):
        d = len(centre)
        self.kind, self.centre, self.radius, self.unit = kind, centre, radius, unit
        self._matrix, self._image = matrix, matrix @ centre + translation
        sizes = {"rigid": d * (d - 1) // 2, "similarity": d * (d - 1) // 2 + 1, "affine": d * d}
        self._free = centre.new_zeros(sizes[kind] + d, requires_grad=True)
        self._basis = torch.eye(len(self._free), dtype=centre.dtype, device=centre.device)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        return (self._free,)

    @property
    def _linear(self) -> Tensor:
        return (self._basis @ self._free)[: -len(self.centre)]

    @property
    def _shift(self) -> Tensor:
        return (self._basis @ self._free)[-len(self.centre) :]

    @property
    def matrix(self) -> Tensor:
        """A, shape (D, D)."""
        d, linear = len(self.centre), self.unit / self.radius * self._linear
        if self.kind == "affine":
            return self._matrix + linear.view(d, d)
        rows, columns = torch.triu_indices(d, d, 1, device=self.centre.device)
        angles = linear[: len(rows)]
        upper = torch.zeros_like(self._matrix).index_put((rows, columns), angles)
        turned = torch.linalg.matrix_exp(upper - upper.T) @ self._matrix
        scaled: Tensor = turned if self.kind == "rigid" else linear[-1].exp() * turned
        return scaled

    @property
    def translation(self) -> Tensor:
        """What is added to A z, shape (D,)."""
        return self._image + self.unit * self._shift - self.matrix @ self.centre

    def __call__(self, points: Tensor) -> Tensor:
        return (points - self.centre) @ self.matrix.T + self._image + self.unit * self._shift

    def penalty(self) -> None:
        return None

    @torch.no_grad()
    def settle(self, unit: float, curvature: Tensor | None = None) -> None:
        matrix, image = self.matrix.clone(), self._image + self.unit * self._shift
        if self.kind == "rigid":
            matrix = nearest_rotation(matrix)
        self._matrix, self._image = matrix, image
        if curvature is None:
            self._basis = torch.eye(len(self._free), dtype=image.dtype, device=image.device)
        else:
            values, vectors = torch.linalg.eigh(0.5 * (curvature + curvature.T))
            values = values.abs()  # what is a saddle, or flat, as of a shape with symmetries, is gone down carefully
            stretched = vectors / values.clamp(min=FLATTEST * float(values.max())).sqrt()
            self._basis = self.unit / unit * self._basis @ stretched
        self.unit = unit
        self._free.zero_()


class Smooth:
    """T(z) = A z + t + v(z) with v(z) = Σ_k exp(−‖z − c_k‖² / (2 w²)) p_k, and fixed A and t.

    Its penalty is the squared norm of v in the space of the kernel, ‖v‖² = Σ_kl exp(−‖c_k − c_l‖² / (2 w²)) ⟨p_k, p_l⟩:
    Myronenko, Song 2010 (arXiv:0905.2635). With L Lᵀ the kernel's matrix, the parameters are q = Lᵀ p / h, of which
    ‖v‖² is h² ‖q‖²: for an optimiser all of them count alike.

    Attributes
    ----------
    width : float
        w, a length.
    controls : Tensor, shape (K, D)
        c_k.
    unit : float
    """

    def __init__(self, matrix: Tensor, translation: Tensor, controls: Tensor, width: float, unit: float):
        self.matrix, self.translation, self.controls = matrix, translation, controls
        self.width, self.unit = width, unit
        gram = gaussian(controls, controls, width)
        self._factor = torch.linalg.cholesky(gram + JITTER * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
        self._whitened = torch.zeros_like(controls).requires_grad_()

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        return (self._whitened,)

    @property
    def momenta(self) -> Tensor:
        """p_k, shape (K, D), lengths."""
        momenta: Tensor = torch.linalg.solve_triangular(self._factor.T, self.unit * self._whitened, upper=True)
        return momenta

    def __call__(self, points: Tensor) -> Tensor:
        return points @ self.matrix.T + self.translation + gaussian(points, self.controls, self.width) @ self.momenta

    def penalty(self) -> Tensor:
        return (self.unit * self._whitened).square().sum()

    @torch.no_grad()
    def settle(self, unit: float, curvature: Tensor | None = None) -> None:
        """The metric of the kernel is kept, whatever the curvature."""
        self._whitened *= self.unit / unit
        self.unit = unit


def gaussian(points: Tensor, controls: Tensor, width: float) -> Tensor:
    """exp(−‖z_i − c_k‖² / (2 w²)), shape (N, K)."""
    away = torch.cdist(points, controls, compute_mode="donot_use_mm_for_euclid_dist")  # right far from the origin, too
    return torch.exp(-away.square() / (2.0 * width**2))


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The orthogonal factor U Vᵀ of a matrix U S Vᵀ.

    Examples
    --------
    >>> nearest_rotation(torch.tensor([[0.0, -2.0], [3.0, 0.0]])).abs()
    tensor([[0., 1.],
            [1., 0.]])
    """
    u, _, vh = torch.linalg.svd(matrix)
    nearest: Tensor = u @ vh
    return nearest


def spread(points: Tensor, distance: float) -> Tensor:
    """Some of the points, such that every point is within the distance of one: each time the farthest is added.

    Raises
    ------
    ValueError
        If that takes more than `MOST_CONTROLS`.

    Examples
    --------
    >>> spread(torch.tensor([[0.0], [0.1], [1.0]]), 0.5)
    tensor([[0.],
            [1.]])
    """
    chosen, nearest = [0], (points - points[0]).norm(dim=-1)
    while float(nearest.max()) > distance:
        if len(chosen) == MOST_CONTROLS:
            raise ValueError(
                f"width: {2 * distance:.3g} given, for which more than {MOST_CONTROLS} control points are needed; "
                "expected a larger one."
            )
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).norm(dim=-1))
    return points[chosen]
