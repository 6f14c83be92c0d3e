"""Points of gpu.py's solves, drawn once and kept in a folder; millions of them while the GPU is busy elsewhere.

python benchmarks/gpu_points.py FOLDER SHARED x 100000 1000000
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import common
import numpy as np

Array = np.ndarray

BLUR = {"surfaces": 0.05, "mixtures": 0.15}
"""σ. Between 1,500 points of the mixtures, S_ε = 0.92 W₂² = 15 ε at that, and a row of the plan is spread over 19
points; at σ = 0.05 it would be a matching, at σ = 0.5 half of W₂² and less than ε."""
COORDINATES, CLUSTERS, LATENT = 64, 16, 4


@functools.cache
def surfaces(shared: str) -> tuple[str, str]:
    """The names of the two, as the folder of shapes allows."""
    common.SHARED = Path(shared)
    names = common.default_shapes()
    try:
        for name in names:
            common.cloud(name, 1, 0)
    except ImportError:  # what reads their files is not installed
        return "knot", "star"
    return names[0], names[1]


def draw(shape: str, side: str, n: int, shared: str) -> Array:
    """Points of the side "x" or "y", float32, as the folder of shapes allows."""
    if shape == "mixtures":
        return mixture(side, n)
    seed = "xy".index(side)
    return common.cloud(surfaces(shared)[seed], n, seed)


def mixture(side: str, n: int) -> Array:
    """Sixteen Gaussians in 64 coordinates, each flat, of 4 dimensions and some noise; y has them moved, by half of the
    way to the next, and with other weights."""
    shapes = np.random.default_rng(0)
    scale = COORDINATES**-0.5
    centres = scale * shapes.standard_normal((CLUSTERS, COORDINATES))
    axes = scale * shapes.standard_normal((CLUSTERS, LATENT, COORDINATES))
    moves = 0.5 * scale * shapes.standard_normal((CLUSTERS, COORDINATES))
    weights = shapes.uniform(0.5, 1.5, (2, CLUSTERS))
    which = "xy".index(side)
    points = np.random.default_rng(1 + which)
    share = weights[which] / weights[which].sum()
    labels = points.choice(CLUSTERS, n, p=share)
    drawn = (centres + which * moves)[labels]
    drawn += np.einsum("nl,nld->nd", 0.25 * points.standard_normal((n, LATENT)), axes[labels])
    drawn += 0.02 * points.standard_normal(drawn.shape)
    return drawn.astype(np.float32)


def kept(shape: str, side: str, n: int, shared: str, folder: str) -> Array:
    """The same from the folder, if they are there; they are, afterwards."""
    path = Path(folder) / f"{shape}-{side}-{n}.npy"
    if not path.exists():
        half = path.with_name(f"{path.stem}-{os.getpid()}.tmp")
        with half.open("wb") as file:
            np.save(file, draw(shape, side, n, shared))
        half.replace(path)
    return np.load(path)


if __name__ == "__main__":
    to, beside, which_side, *sizes = sys.argv[1:]
    for size in sizes:
        kept("surfaces", which_side, int(size), beside, to)
