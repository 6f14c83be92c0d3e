"""Ready generators: networks with a ``latent(n)`` of their own, that can be built again from a few numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..counts import positive, whole
from .arguments import real
from .randomness import normal, uniform


class Generator(nn.Module, ABC):
    """A module that says what its latent variables are, and how to make one like it.

    Attributes
    ----------
    options : dict of str to int, float or str
        Arguments that make a generator of the same form.
    """

    def __init__(self, **options: int | float | str):
        super().__init__()
        self.options = options

    @abstractmethod
    def latent(self, n: int) -> Tensor:
        """Latent variables, from torch's global random numbers, on the CPU.

        Parameters
        ----------
        n : int
            How many.

        Returns
        -------
        Tensor, shape (n, ...)
        """

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """Points of latent variables.

        Parameters
        ----------
        z : Tensor, shape (n, ...)
            As `latent` draws them.

        Returns
        -------
        Tensor, shape (n, ...)
        """

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


def layers(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` units, SiLU after each: smooth, as gradients of S_ε in the points are."""
    sizes = [inputs] + [width] * depth
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))


class MLP(Generator):
    """A multilayer perceptron from standard normal noise to points.

    Parameters
    ----------
    noise : int
        Dimension of the noise.
    dim : int
        Dimension of the points.
    width : int, default 128
    depth : int, default 3
        Hidden layers and the units of each.

    Raises
    ------
    TypeError, ValueError
        For anything but positive whole numbers.

    Examples
    --------
    >>> generator = MLP(2, 3)
    >>> generator(generator.latent(10)).shape
    torch.Size([10, 3])
    """

    def __init__(self, noise: int, dim: int, *, width: int = 128, depth: int = 3):
        super().__init__(
            noise=whole("noise", noise), dim=whole("dim", dim), width=whole("width", width), depth=whole("depth", depth)
        )
        self.noise = noise
        self.net = layers(noise, width, depth, dim)

    def latent(self, n: int) -> Tensor:
        return normal(n, self.noise)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.net(z)
        return out


class Surface(Generator):
    """A surface in R³: spheres or squares, bent by one network of Fourier features.

    Patch k has a frame A_k, a place b_k and a code e_k, all learned: for u uniform on the sphere or in [−1, 1]²,

        x = c + r (A_k u + b_k + net(cos(2π F u), sin(2π F u), u, e_k)),

    with frequencies F drawn once from a normal law of standard deviation ``bandwidth``.

    Parameters
    ----------
    base : {"sphere", "square"}, default "sphere"
        A sphere is closed and has no seams; squares tear where a surface has holes.
    patches : int, default 1
    frequencies : int, default 64
        Rows of F.
    bandwidth : float, default 0.5
        In periods a unit of length of u: higher is rougher.
    width : int, default 128
    depth : int, default 3
        Hidden layers and the units of each.
    centre : float, default 0.5
        Each coordinate of c: the middle of the unit cube.
    radius : float, default 0.3
        r, half the size at the start. Both are learned from there.

    Raises
    ------
    TypeError, ValueError
        For an unknown base and bad numbers.

    Notes
    -----
    Groueix et al. 2018 (AtlasNet, arXiv:1802.05384), Yang et al. 2018 (FoldingNet, arXiv:1712.07262); the features of
    Tancik et al. 2020 (arXiv:2006.10739).

    Examples
    --------
    >>> generator = Surface("square", patches=4)
    >>> generator(generator.latent(10)).shape
    torch.Size([10, 3])
    """

    def __init__(
        self,
        base: str = "sphere",
        *,
        patches: int = 1,
        frequencies: int = 64,
        bandwidth: float = 0.5,
        width: int = 128,
        depth: int = 3,
        centre: float = 0.5,
        radius: float = 0.3,
    ):
        if base not in ("sphere", "square"):
            raise ValueError(f"base: {base!r} given, expected 'sphere' or 'square'.")
        super().__init__(
            base=base, patches=whole("patches", patches), frequencies=whole("frequencies", frequencies),
            bandwidth=positive("bandwidth", bandwidth), width=whole("width", width), depth=whole("depth", depth),
            centre=real("centre", centre), radius=positive("radius", radius),
        )  # fmt: skip
        self.base, self.patches = base, patches
        self.flat = 3 if base == "sphere" else 2
        code = 8 if patches > 1 else 0
        self.frequencies: Tensor
        self.register_buffer("frequencies", bandwidth * torch.randn(frequencies, self.flat))
        self.net = layers(2 * frequencies + self.flat + code, width, depth, 3)
        size = 1.0 / math.sqrt(patches)  # together about as large as one
        self.frames = nn.Parameter(size * torch.linalg.qr(torch.randn(patches, 3, 3))[0][..., : self.flat])
        self.places = nn.Parameter((1.0 - size) * torch.nn.functional.normalize(torch.randn(patches, 3), dim=1))
        self.codes = nn.Parameter(torch.randn(patches, code))
        self.centre = nn.Parameter(torch.full((3,), float(centre)))
        self.radius = nn.Parameter(torch.tensor(float(radius)))

    def latent(self, n: int) -> Tensor:
        # u, and the number of the patch
        if self.base == "sphere":
            u = torch.nn.functional.normalize(normal(n, 3), dim=1)
        else:
            u = 2.0 * uniform(n, 2) - 1.0
        return torch.cat((u, torch.randint(self.patches, (n, 1), device="cpu").to(u)), 1)

    def forward(self, z: Tensor) -> Tensor:
        u, k = z[:, :-1], z[:, -1].long()
        phase = 2.0 * math.pi * u @ self.frequencies.T
        bent = self.net(torch.cat((phase.cos(), phase.sin(), u, self.codes[k]), 1))
        placed = (self.frames[k] @ u[..., None])[..., 0] + self.places[k]
        out: Tensor = self.centre + self.radius * (placed + bent)
        return out


class Ellipse(Generator):
    """x = A z + c with z in the unit ball: the synthetic model of arXiv:1706.00292.

    Parameters
    ----------
    dim : int, default 2
    base : {"disc", "ring", "gaussian"}, default "disc"
        z is uniform in the unit ball or on its boundary, or standard normal.

    Attributes
    ----------
    matrix : Parameter, shape (dim, dim)
        A, the identity at first. Turning z changes no cloud, so that only A Aᵀ is determined by data.
    centre : Parameter, shape (dim,)
        c, zero at first.

    Raises
    ------
    TypeError, ValueError
        For a bad dimension or an unknown base.

    Examples
    --------
    >>> generator = Ellipse()
    >>> with torch.no_grad():
    ...     _ = generator.matrix.copy_(torch.tensor([[0.0, -1.0], [2.0, 0.0]]))
    >>> generator.axes, round(generator.angle, 4)
    (tensor([2., 1.]), 1.5708)
    """

    def __init__(self, dim: int = 2, *, base: str = "disc"):
        if base not in ("disc", "ring", "gaussian"):
            raise ValueError(f"base: {base!r} given, expected 'disc', 'ring' or 'gaussian'.")
        super().__init__(dim=whole("dim", dim), base=base)
        self.dim, self.base = dim, base
        self.matrix = nn.Parameter(torch.eye(dim))
        self.centre = nn.Parameter(torch.zeros(dim))

    @property
    def axes(self) -> Tensor:
        """Half axes (standard deviations of the Gaussian), shape (dim,), largest first."""
        lengths: Tensor = torch.linalg.svdvals(self.matrix.detach())
        return lengths

    @property
    def angle(self) -> float:
        """Of the largest axis in two dimensions, from 0 to π.

        Raises
        ------
        ValueError
            In other dimensions.
        """
        if self.dim != 2:
            raise ValueError(f"angle: this ellipsoid has {self.dim} dimensions, expected 2.")
        x, y = torch.linalg.svd(self.matrix.detach())[0][:, 0].tolist()
        return math.atan2(y, x) % math.pi

    def latent(self, n: int) -> Tensor:
        z = normal(n, self.dim)
        if self.base == "gaussian":
            return z
        z = torch.nn.functional.normalize(z, dim=1)
        return z if self.base == "ring" else z * uniform(n, 1) ** (1.0 / self.dim)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.matrix.T + self.centre


class Images(Generator):
    """Convolutions from standard normal noise to square images with values in [0, 1].

    From 2 × 2 each block doubles the side: nearest neighbours, a 3 × 3 convolution, a group norm (images do not
    influence each other, as they would with a batch norm), SiLU.

    Parameters
    ----------
    noise : int, default 16
        Dimension of the noise.
    size : int, default 8
        Pixels a side: a power of two, 8 at least.
    channels : int, default 1
    width : int, default 64
        Feature maps, a multiple of 8.

    Raises
    ------
    TypeError, ValueError
        For anything else.

    Notes
    -----
    The form of Radford et al. 2016 (arXiv:1511.06434), with upsampling in place of transposed convolutions.

    Examples
    --------
    >>> generator = Images()
    >>> generator(generator.latent(10)).shape
    torch.Size([10, 1, 8, 8])
    """

    def __init__(self, noise: int = 16, *, size: int = 8, channels: int = 1, width: int = 64):
        super().__init__(
            noise=whole("noise", noise), size=whole("size", size, 8), channels=whole("channels", channels),
            width=whole("width", width, 8),
        )  # fmt: skip
        if size & (size - 1):
            raise ValueError(f"size: {size} given, expected a power of two.")
        if width % 8:
            raise ValueError(f"width: {width} given, expected a multiple of 8.")
        self.noise = noise
        blocks: list[nn.Module] = [nn.Linear(noise, 4 * width), nn.SiLU(), nn.Unflatten(1, (width, 2, 2))]
        for _ in range(int(math.log2(size)) - 1):
            blocks += [
                nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
            ]  # fmt: skip
        self.net = nn.Sequential(*blocks, nn.Conv2d(width, channels, 3, padding=1), nn.Sigmoid())

    def latent(self, n: int) -> Tensor:
        return normal(n, self.noise)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.net(z)
        return out


READY: dict[str, type[Generator]] = {kind.__name__: kind for kind in (MLP, Surface, Ellipse, Images)}


def recipe(generator: nn.Module) -> dict[str, Any] | None:
    """What `rebuilt` needs; None for modules of other kinds."""
    kind = type(generator)
    if not isinstance(generator, Generator) or READY.get(kind.__name__) is not kind:
        return None
    return {"kind": kind.__name__, "options": dict(generator.options)}


def rebuilt(recipe: dict[str, Any]) -> Generator:
    """A generator of the same form, with weights of its own."""
    return READY[recipe["kind"]](**recipe["options"])
