"""Which checks gpu.py's report has: calls of gpu_checks.py and gpu_uses.py, by name and arguments alone."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_runner import Row
from gpu_sizes import Size

COSTS = ("sqeuclidean", "euclidean", "power:1.5", "cosine", "geodesic", "mahalanobis:2,1,0.5", "power:0.5")
KERNELS = ("gaussian", "laplacian", "energy", "-power:1.5")
PROBLEMS = ("bunny-igea-blur0.05", "bunny-igea-blur0.02", "horse-spot-blur0.01")
DTYPES = ("float32", "float64")
SANE = ("sqeuclidean, keops, float32", "sqeuclidean, keops, float64")


def machine() -> Iterator[Row]:
    yield Row("what it is", "gpu_machine.describe")
    yield Row("KeOps and its first formula", "gpu_machine.formula")


def sane(size: Size) -> Iterator[Row]:
    """Sums that are looked at before anything is measured."""
    return (row for row in sums(size) if row.name in SANE) if not size.tiny else iter(())


def sums(size: Size) -> Iterator[Row]:
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


def losses(size: Size, shared: str) -> Iterator[Row]:
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
                if name == "keops" and not size.tiny:
                    what = f"solved problem {problem}, several levels, {dtype}"
                    yield Row(what, "gpu_uses.solved", given | dict(multiscale=True))
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


def uses(size: Size) -> Iterator[Row]:
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
    yield Row("small blurs and clusters", "gpu_uses.paths", dict(n=n))
    yield Row("a group of one process", "gpu_uses.group", dict(n=n))
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
    if size.whole:
        yield Row("small blurs and clusters of 1,500 points", "gpu_uses.paths", dict(n=1500))
