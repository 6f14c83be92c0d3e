"""Files that snippets and commands of the documentation read: scanned surfaces where they are at hand, or formulas."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
from pages import ROOT

from geomsink import shapes

SCANS = ROOT.parent / "shared" / "data"
SURFACES = {
    "bunny.obj": ("stanford-bunny.obj", "blob"),
    "spot.obj": ("spot.obj", "torus"),
    "igea.ply": ("igea.ply", "sphere"),
    "horse.ply": ("horse.ply", "star"),
}
"""Names in the documentation: the scan of that name, and the formula in its place."""


def place(text: str, folder: Path, scans: Path = SCANS) -> list[str]:
    """Put the files that are named in a text, and that nothing makes, into a folder."""
    named = [name for name in (*SURFACES, "scan.ply", "model.ply") if re.search(rf"\b{re.escape(name)}", text)]
    for name in named:
        scan, formula = SURFACES.get(name, ("", "knot"))
        if scan and (scans / scan).exists():
            shutil.copy(scans / scan, folder / name)
        else:
            points = shapes.procedural(formula, 400)
            write(folder / name, turned(points) if name == "scan.ply" else points)
    return named


def turned(points: np.ndarray) -> np.ndarray:
    """As a scanner would see it: a fifth is missing, and the rest turned and moved a little."""
    c, s = np.cos(0.3), np.sin(0.3)
    seen = points[points[:, 1] > np.quantile(points[:, 1], 0.2)]
    return (seen @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + 0.05).astype(np.float32)


def write(path: Path, points: np.ndarray) -> None:
    if path.suffix == ".obj":
        path.write_text("".join(f"v {x} {y} {z}\n" for x, y, z in points))
    else:
        shapes.write(path, points)
