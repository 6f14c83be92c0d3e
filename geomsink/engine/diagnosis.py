"""What the engines stand on here, and how fast they are."""

from __future__ import annotations

import os
import platform
import time
import warnings

import torch

from .. import waiting
from ..costs import get
from . import build
from .dense import DensePair
from .gibbs import Pair
from .keops import KeopsPair


def describe() -> dict[str, str]:
    """Versions, compiler, flags, build folder, CPU and GPU, as text.

    Examples
    --------
    >>> describe()["torch"] == torch.__version__
    True
    """
    import numpy
    import scipy

    report = {"python": platform.python_version(), "torch": str(torch.__version__)}
    report |= {"numpy": numpy.__version__, "scipy": scipy.__version__}
    try:
        build.keops()
        import pykeops

        report |= {"pykeops": pykeops.__version__, "compiler": build.compiler(), "flags": " ".join(build.flags())}
        report["KeOps cache"] = build.keops_folder()
        report["build folder"] = str(build.folder())
        report["compiled formulas"] = str(len(list(build.folder().glob("*.so"))))
    except build.BuildError as error:
        report["compiled engine"] = f"none: {error}"
    report |= {"CPU": build.cpu_name(), "threads": str(torch.get_num_threads())}
    report["CPUs of this process"] = str(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    report["threads wait"] = waiting.chosen()
    report["GPU"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return report


def speed(seconds: float = 5.0) -> dict[str, float]:
    """Billions of pairs a second of one row sum in D = 3, float32, by engine; a missing engine is left out."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    speeds = {}
    for engine, n in ((KeopsPair, 20_000), (DensePair, 3_000)):
        points = torch.rand(n, 3, dtype=torch.float32, device=device)
        try:
            speeds[engine.name] = _rate(engine(points, points, get("sqeuclidean")), seconds / 2)
        except build.BuildError as error:
            warnings.warn(f"the compiled engine is not measured: {error}", stacklevel=2)
    return speeds


def _rate(pair: Pair, seconds: float) -> float:
    n = len(pair.x)
    zero = pair.x.new_zeros(n)
    pair.row_sums(zero, zero, 0.1)  # the first compiles, which may take longer than all of them
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        float(pair.row_sums(zero, zero, 0.1)[0])
        best = max(best, n * n / (time.perf_counter() - start) / 1e9)
    return best
