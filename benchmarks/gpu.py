"""A GPU's first day: whether everything is right on it, how fast sums are, and how fast and right whole solves.

    python benchmarks/gpu.py --quick            under 4 minutes
    python benchmarks/gpu.py --full             under 9
    python benchmarks/gpu.py --tiny             small sizes, also on a CPU

Each part is a process of its own with a time of its own, and what crashes or hangs loses its row alone. Rows are in
the report, JSON and Markdown, as soon as they are there; gpu-log.txt holds what mends a failure without the machine.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common import RESULTS, SHARED
from gpu_report import Report
from gpu_runner import Part, Row, run

COSTS = ("sqeuclidean", "euclidean", "power:1.5", "cosine", "geodesic", "mahalanobis:2,1,0.5", "power:0.5")
KERNELS = ("gaussian", "laplacian", "energy", "-power:1.5")
PROBLEMS = ("bunny-igea-blur0.05", "bunny-igea-blur0.02", "horse-spot-blur0.01")
DTYPES = ("float32", "float64")
DIMENSIONS = (3, 16, 64, 256)
LARGE = 50_000
"""Points a side of sums, where that takes no longer than a blink."""
DENSE = 20_000
"""The most of a solve on the dense engine, which moves every entry through memory."""


@dataclass(frozen=True)
class Size:
    """How much is done, and in how many seconds.

    ``limits`` are those of the parts, in their order; their sum is the budget. ``most`` is that of one row, of a solve
    ``most_of_solve``. ``points`` are those of checks, ``solves`` those of solves, with the tolerance of their
    reference. ``whole`` leaves out no precision, method or width.
    """

    limits: dict[str, float]
    most: float
    most_of_solve: float
    points: int
    solves: dict[int, float]
    whole: bool = False
    tiny: bool = False

    @property
    def budget(self) -> float:
        return sum(self.limits.values())


PARTS = ("machine", "sums", "losses", "uses", "solves-geomsink", "rates", "solves-flash", "solves-geomloss")
SIZES = {
    "quick": Size(
        dict(zip(PARTS, (30, 35, 35, 30, 35, 20, 30, 15), strict=True)), 15, 25, 300, {10_000: 1e-8, 100_000: 1e-6}
    ),
    "full": Size(
        dict(zip(PARTS, (30, 75, 110, 85, 60, 60, 60, 40), strict=True)), 30, 40, 300, {10_000: 1e-9, 100_000: 1e-6},
        whole=True,
    ),
    "tiny": Size(dict.fromkeys(PARTS, 60.0), 60, 60, 40, {400: 1e-8}, tiny=True),
}  # fmt: skip


def table(size: Size, shared: str, folder: str) -> list[Part]:
    """All parts, what matters most first, and so their rows."""
    made = {
        "machine": _machine(),
        "sums": _sums(size),
        "losses": _losses(size, shared),
        "uses": _uses(size),
        "solves-geomsink": _ours(size, shared, folder),
        "rates": _rates(size),
        "solves-flash": _peers(size, shared, folder, "FlashSinkhorn"),
        "solves-geomloss": _peers(size, shared, folder, "GeomLoss"),
    }
    return [Part(name, tuple(_within(size, name, rows)), size.limits[name]) for name, rows in made.items()]


def _within(size: Size, part: str, rows: Iterator[Row]) -> Iterator[Row]:
    """No row may take what others need; but KeOps first compiles itself, and FlashSinkhorn tunes its kernels."""
    limit = size.most_of_solve if part == "solves-geomsink" else size.most
    limit = size.limits[part] if part == "machine" or part.startswith("solves-f") else limit
    return (Row(row.name, row.call, row.arguments, min(limit, size.limits[part])) for row in rows)


def _machine() -> Iterator[Row]:
    yield Row("what it is", "gpu_machine.describe")
    yield Row("KeOps and its first formula", "gpu_machine.formula")


def _sums(size: Size) -> Iterator[Row]:
    """KeOps first: the dense engine is torch."""
    n = size.points
    yield Row("all costs are in this list", "gpu_checks.names", {"known": list(COSTS)})
    for name in ("keops", "dense"):
        for dtype in DTYPES:
            yield Row(f"blocks, {name}, {dtype}", "gpu_checks.blocks", dict(name=name, dtype=dtype, n=n))
            for cost in COSTS:
                if name == "keops" and ((size.tiny and cost != COSTS[0]) or (not size.whole and _spared(cost, dtype))):
                    continue
                yield Row(f"{cost}, {name}, {dtype}", "gpu_checks.sums", dict(name=name, cost=cost, dtype=dtype, n=n))


def _spared(cost: str, dtype: str) -> bool:
    """What takes compilations and hardly fails alone."""
    return dtype == "float64" and cost not in ("sqeuclidean", "geodesic")


def _losses(size: Size, shared: str) -> Iterator[Row]:
    n, engines = size.points, ("dense",) if size.tiny else ("keops", "dense")

    def row(what: str, name: str, dtype: str = "float64", **arguments: object) -> Row:
        return Row(f"{what}, {name}, {dtype}", "gpu_checks.divergence", dict(name=name, dtype=dtype, n=n) | arguments)

    for name in engines:
        for dtype in DTYPES:
            yield row("sqeuclidean", name, dtype)
    for problem in PROBLEMS[:1] if size.tiny else PROBLEMS:
        for name in ("keops",) if size.tiny else engines:
            for dtype in DTYPES if size.whole else DTYPES[:1]:
                given = dict(name=name, dtype=dtype, problem=problem, shared=shared)
                yield Row(f"solved problem {problem}, {name}, {dtype}", "gpu_uses.solved", given)
    for name in engines:
        for marginals in ("reach", "semi-unbalanced", "total variation"):
            yield row(marginals, name, marginals=marginals)
        yield row("implicit", name, mode="implicit")
        yield Row(f"Hessian times a vector, {name}", "gpu_checks.hessian", dict(name=name, n=n))
        yield row("sharp", name, form="sharp")
        yield row("unrolled, 7 iterations", name, mode="unrolled", iterations=7)
        yield row("unrolled, sharp", name, mode="unrolled", iterations=7, form="sharp")
    for cost in COSTS[1:]:
        for name in engines:
            for dtype in DTYPES if size.whole else DTYPES[1:]:
                yield row(cost, name, dtype, cost=cost)


def _uses(size: Size) -> Iterator[Row]:
    n, engines = size.points, ("dense",) if size.tiny else ("keops", "dense")
    yield Row("what a GPU does not do", "gpu_checks.refused", dict(n=n))
    for name in engines:
        for form, cost in (
            ("padded", "sqeuclidean"), ("padded", "euclidean"), ("list", "euclidean"), ("index", "sqeuclidean"),
        ):  # fmt: skip
            # More than 256 rows an item, which KeOps gets in several blocks.
            given = dict(name=name, form=form, cost=cost, n=n if size.tiny else 400)
            yield Row(f"batch, {form}, {cost}, {name}", "gpu_checks.batch", given)
        several = n if size.tiny else 300
        yield Row(f"batch, mmd, {name}", "gpu_uses.mmd_batch", dict(name=name, n=several))
        given = dict(name=name, form="padded", cost="sqeuclidean", n=several, sharp=True)
        yield Row(f"batch, padded, sharp, {name}", "gpu_checks.batch", given)
    for name in engines:
        for what, function in (
            ("plan", "plan"), ("strongest entries and samples of a plan", "entries"), ("maps", "maps"),
            ("descent with warm starts", "descent"), ("fit", "fit"), ("pickles and copies", "round_trip"),
            ("certificates", "certificate"),
        ):  # fmt: skip
            yield Row(f"{what}, {name}", f"gpu_uses.{function}", dict(name=name, n=n))
        for kernel in KERNELS:
            for dtype in DTYPES if size.whole else DTYPES[:1]:
                given = dict(name=name, kernel=kernel, dtype=dtype, n=n)
                yield Row(f"mmd, {kernel}, {name}, {dtype}", "gpu_uses.mmd", given)


def _rates(size: Size) -> Iterator[Row]:
    """``apply`` with 4 and 16 columns, which are one pass each on KeOps."""
    for name, dtype in (("keops", "float32"), ("dense", "float32"), ("keops", "float64"), ("dense", "float64")):
        spared = size.tiny if (name, dtype) != ("keops", "float32") else False
        for dim in DIMENSIONS[:1] if size.tiny else DIMENSIONS:
            if spared or (dtype == "float64" and dim > 3 and not size.whole):
                continue
            n = 1000 if size.tiny else LARGE if name == "keops" and dim <= 64 else 20_000
            given = dict(name=name, dtype=dtype, dim=dim, n=n, widths=[4, 16] if size.whole else [4])
            yield Row(f"{name}, {dtype}, D = {dim}", "gpu_measures.rates", given)


def _ours(size: Size, shared: str, folder: str) -> Iterator[Row]:
    for n, tol in size.solves.items():
        methods = ["geomsink", "geomsink, tol 1e-4"] if size.whole else ["geomsink"]
        methods += ["geomsink, dense"] if size.whole and n <= DENSE else []
        given = dict(n=n, tol=tol, shared=shared, folder=folder)
        yield Row(f"reference; {n:,}; value and gradient", "gpu_measures.reference", given)
        yield from (row for method in methods for row in _solves(method, n, shared, folder))


def _peers(size: Size, shared: str, folder: str, library: str) -> Iterator[Row]:
    methods = {
        "FlashSinkhorn": ["FlashSinkhorn", "FlashSinkhorn multiscale"],
        "GeomLoss": ["GeomLoss online, scaling 0.5", "GeomLoss multiscale, scaling 0.5"],
    }[library]
    if size.whole:
        methods += {
            "FlashSinkhorn": ["FlashSinkhorn, scaling 0.9, no TF32", "FlashSinkhorn multiscale, tol 1e-3"],
            "GeomLoss": ["GeomLoss online, scaling 0.9", "GeomLoss multiscale, scaling 0.9"],
        }[library]
    for method in methods:
        for n in size.solves:
            yield from _solves(method, n, shared, folder)


def _solves(method: str, n: int, shared: str, folder: str) -> Iterator[Row]:
    # FlashSinkhorn's multiscale backend has no gradient.
    for what in ("value",) if method.startswith("FlashSinkhorn multiscale") else ("value", "value and gradient"):
        given = dict(method=method, what=what, n=n, shared=shared, folder=folder)
        yield Row(f"{method}; {n:,}; {what}", "gpu_measures.solve", given)


def _device() -> str:
    try:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    except ImportError:  # the first row says why
        return "cpu"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sizes = parser.add_mutually_exclusive_group(required=True)
    chosen = dict(action="store_const", dest="size")
    sizes.add_argument("--quick", const="quick", help=f"at most {SIZES['quick'].budget:.0f} s", **chosen)
    sizes.add_argument("--full", const="full", help=f"at most {SIZES['full'].budget:.0f} s", **chosen)
    sizes.add_argument("--tiny", const="tiny", help="small sizes, also on a CPU", **chosen)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda, if torch finds it")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report and its log")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="the machine is always described")
    beside = next((path for path in (SHARED, Path(__file__).parents[1] / "shared") if path.is_dir()), SHARED)
    parser.add_argument("--shared", type=Path, default=beside, help="folder of solved problems and scanned surfaces")
    parser.add_argument(
        "--cache", type=Path, help="folder for what KeOps compiles, for several runs; default: a new one"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the process that runs a row ends, too
    size = SIZES[options.size]
    device = options.device or _device()
    with tempfile.TemporaryDirectory() as folder:
        parts = table(size, str(options.shared), folder)
        parts = [part for part in parts if part.name in (PARTS[0], *options.parts)]
        report = Report(options.out, options.size, device, sum(len(part.rows) for part in parts))
        for row in run(parts, device, size.budget, options.cache or Path(folder) / "keops"):
            report.add(row)
    print(report.path.with_suffix(".md"))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
