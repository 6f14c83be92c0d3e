"""Which solves and rates gpu.py's report has, in their order: calls by name and arguments alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from gpu_runner import RATE, SOLVE, Row
from gpu_sizes import Size

RATES = {3: (20_000, 50_000, 100_000, 200_000), 64: (20_000, 50_000)}
"""Points a side of float32 sums, by their coordinates."""
SOME = 50_000
TUNED = 100_000
"""Points up to which FlashSinkhorn's blocks are chosen: longer sums would take minutes of trying."""

Given = tuple[str, str]
"""Folders of scanned surfaces, and of points and what was found."""
After = tuple[str, int, float]
"""A method, points, and how many times as long as that one a solve takes at the least."""


def rates(size: Size) -> Iterator[Row]:
    """The sums of solves, by their sizes; then other coordinates, the dense engine and float64.

    ``apply`` with 4 and 16 columns is one pass each on KeOps.
    """

    def row(name: str, dtype: str, dim: int, n: int, widths: tuple[int, ...] = ()) -> Row:
        given = dict(name=name, dtype=dtype, dim=dim, n=n, widths=widths)
        return Row(f"geomsink, {name}, {dtype}; {dim}; {n:,}", "gpu_rates.rates", given, table=RATE)

    if size.tiny:
        yield row("keops", "float32", 3, 1000, (4,))
        return
    widths = (4, 16) if size.whole else (4,)
    for dim, sizes in RATES.items():
        yield from (row("keops", "float32", dim, n, widths if n == SOME else ()) for n in sizes)
    yield from (row("dense", "float32", 64, n) for n in RATES[64])
    for name, dtype, dims in (
        ("keops", "float64", (3, 64)), ("dense", "float32", (3,)), ("dense", "float64", (3, 64)),
        ("keops", "float32", (16, 256)), ("keops", "float64", (16,)), ("dense", "float32", (16, 256)),
    ) if size.whole else (("keops", "float64", (3,)),):  # fmt: skip
        for dim in dims:
            yield row(name, dtype, dim, SOME if name == "keops" and dim <= 64 else 20_000, widths)


def _flash_rates(dim: int, sizes: tuple[int, ...]) -> Iterator[Row]:
    """Its kernels are tuned for the largest number but those over 100,000, where that takes long."""
    tuned = max(n for n in sizes if n <= TUNED)
    for n in (tuned, *(n for n in sizes if n != tuned)):
        given = dict(dim=dim, n=n, tuned=n == tuned)
        yield Row(f"FlashSinkhorn, TF32; {dim}; {n:,}", "gpu_rates.flash_rate", given, 60, RATE)


# -------------------------------------------------------------------------------- solves


def _solve(name: str, shape: str, n: int, limit: float, folders: Given, after: After | None = None) -> Row:
    given = dict(
        name=name, shape=shape, n=n, seconds=limit, shared=folders[0], folder=folders[1],
        after=after and dict(name=after[0], shape=shape, n=after[1], times=after[2]),
    )  # fmt: skip
    return Row(f"{name}; {shape}; {n:,}", "gpu_solves.solve", given, limit, SOLVE)


def _reference(shape: str, n: int, limit: float, folders: Given, after: After, **options: Any) -> Row:
    row = _solve("reference", shape, n, limit, folders, after)
    given = {key: value for key, value in row.arguments.items() if key != "name"}
    return Row(row.name, "gpu_solves.reference", given | options, limit, SOLVE)


def ours(size: Size, shared: str, folder: str) -> Iterator[Row]:
    """A solve at the defaults first, then, if it leaves time, the reference that it is compared with."""
    folders = shared, folder
    name, coarse, keops = "geomsink", "geomsink, tol 1e-2", "geomsink, KeOps"
    exact: dict[str, Any] = dict(tol=1e-6, dtype="float64", multiscale=False)

    def mixtures(n: int, few: int | None) -> Iterator[Row]:
        def after(method: str) -> After | None:
            return None if few is None else (method, few, (n / few) ** 1.5)

        yield _solve(keops, "mixtures", n, 20, folders, after(keops))
        yield _reference("mixtures", n, 30, folders, (keops, n, 1.0), engine="keops", **exact)
        yield _solve(f"{keops}, tol 1e-2", "mixtures", n, 15, folders, (keops, n, 0.5))
        yield _solve(name, "mixtures", n, 15, folders, after(name))

    small, large, *largest = size.surfaces
    yield _solve(name, "surfaces", small, 20, folders)
    yield _reference("surfaces", small, 25, folders, (name, small, 1.0), **exact)
    yield _solve(coarse, "surfaces", small, 10, folders)
    if size.whole:
        yield _solve("geomsink, tol 1e-4", "surfaces", small, 10, folders)
    yield _solve(name, "surfaces", large, 50, folders, (name, small, 2.0))
    yield _solve(coarse, "surfaces", large, 25, folders, (name, large, 0.5))
    yield _reference("surfaces", large, 40, folders, (name, large, 3.0), tol=1e-5, dtype="float64")
    few, *many = size.mixtures
    yield from mixtures(few, None)
    for n in largest:
        yield _solve(name, "surfaces", n, 60, folders, (name, large, 5.0))
        yield _solve(coarse, "surfaces", n, 30, folders, (name, n, 0.5))
    for n in many:
        yield from mixtures(n, few)
    for n in largest:
        yield _reference("surfaces", n, 60, folders, (name, n, 1.2), tol=1e-4)


def geomloss(size: Size, shared: str, folder: str) -> Iterator[Row]:
    folders = shared, folder
    small, large, *largest = size.surfaces
    levels, online = ([f"GeomLoss {kind}, scaling {s}" for s in (0.5, 0.9, 0.98)] for kind in ("multiscale", "online"))

    def ladder(names: list[str], shape: str, n: int, limit: float) -> Iterator[Row]:
        """Each takes some five times as long as the one before."""
        for k, name in enumerate(names):
            yield _solve(name, shape, n, limit, folders, (names[k - 1], n, 4.0) if k else None)

    yield from ladder(levels if size.whole else levels[:2], "surfaces", small, 12)
    yield from ladder(online[:2] if size.whole else online[:1], "surfaces", small, 12)
    for name in levels[:2] if size.whole else levels[:1]:
        yield _solve(name, "surfaces", large, 15, folders, (name, small, 10.0))
    for n in size.mixtures:
        yield from ladder(online if size.whole else online[:2], "mixtures", n, 12)
    yield _solve(online[0], "surfaces", large, 25, folders, (online[0], small, 80.0))
    for before, n in pairwise((large, *largest)):
        yield _solve(levels[0], "surfaces", n, 25, folders, (levels[0], before, 30.0))


def flash(size: Size, shared: str, folder: str) -> Iterator[Row]:
    """What first needs a kernel has it compiled and tuned; from 30,000 points on the dense backend's is that of its
    half-step."""
    folders = shared, folder
    dense = ["FlashSinkhorn", "FlashSinkhorn, scaling 0.9", "FlashSinkhorn, scaling 0.9, then 100 steps"]
    levels = ["FlashSinkhorn multiscale", "FlashSinkhorn multiscale, tol 1e-3"]
    small = size.surfaces[0]
    yield from _flash_rates(3, RATES[3])
    for name in dense if size.whole else dense[:2]:
        yield _solve(name, "surfaces", small, 60 if name == dense[0] else 20, folders)
    for n in size.surfaces:
        yield _solve(levels[0], "surfaces", n, 30, folders)
    if not size.whole:
        return
    few, *many = size.mixtures
    yield from _flash_rates(64, RATES[64])
    for n in many:
        yield from (_solve(name, "mixtures", n, 40 if name == dense[0] else 20, folders) for name in dense)
    yield from (_solve(levels[1], "surfaces", n, 30, folders) for n in size.surfaces)
    yield from (_solve(name, "mixtures", few, 60 if name == dense[0] else 20, folders) for name in dense)
