"""Whether two versions of the package give the same bits: values, gradients and reports of solved and random problems.

    python benchmarks/same_bits.py --against HEAD~1

For changes that are to move code and nothing else. Both versions run one after the other on this machine, with the
environment's libraries; seconds, and fields that only one of the two has, are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from common import SHARED, table

ROOT = Path(__file__).resolve().parents[1]
IGNORED = {"seconds", "plan", "linear_solves", "interval", "in_difference", "strategy"}
"""Fields of reports that are no numbers of a solve, or that are compared elsewhere."""


def digest(found: Any) -> str:
    """Of all bits of arrays, numbers and text, in any nesting."""
    import torch

    total = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            part = part.detach().cpu().contiguous().numpy()
        if isinstance(part, np.ndarray):
            total.update(str((part.dtype, part.shape)).encode() + part.tobytes())
        elif isinstance(part, (list, tuple)):
            for item in part:
                add(item)
        else:
            total.update(repr(part).encode())

    add(found)
    return total.hexdigest()[:16]


def report(found: Any) -> list[Any]:
    """The fields of a result, and those of the results within."""
    parts: list[Any] = []
    for field in fields(found):
        value = getattr(found, field.name)
        if field.name in IGNORED:
            continue
        parts += [field.name, report(value) if hasattr(value, "n_iter") else value]
    return parts


def gradients(value: Any, *tensors: Any) -> list[Any]:
    import torch

    return list(torch.autograd.grad(value.sum(), tensors))


def problems() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names and runs: the solved problems of the folder of shared files, and random ones of all kinds."""
    import torch

    import geomsink

    for path in sorted((SHARED / "reference").glob("*.npz")):
        for dtype in (torch.float64, torch.float32):
            yield f"{path.stem}, {str(dtype)[6:]}", lambda path=path, dtype=dtype: solved(path, dtype)

    def clouds(seed: int, n: int, m: int, d: int, dtype: Any = torch.float64) -> list[Any]:
        r = np.random.default_rng(seed)
        x, y = r.random((n, d)), r.random((m, d)) ** 2 + 0.2
        a, b = r.exponential(size=n), r.exponential(size=m)
        a[::7] = 0.0
        given = [torch.as_tensor(t).to(dtype) for t in (x, y, a / a.sum(), b / b.sum())]
        return [t.requires_grad_() for t in given]

    def divergence(seed: int, n: int, m: int, d: int, dtype: Any = torch.float64, **how: Any) -> Any:
        x, y, a, b = clouds(seed, n, m, d, dtype)
        found = geomsink.sinkhorn_divergence(x, y, a, b, **how)
        plan = found.xy.plan
        return report(found), gradients(found.value, x, y, a, b), plan @ y, plan.row_marginal(), found.xy.transport_cost

    def batch() -> Any:
        x, y = torch.rand(3, 300, 3, generator=torch.Generator().manual_seed(7)), torch.ones(3, 200, 3)
        y = (y * torch.rand(3, 200, 3, generator=torch.Generator().manual_seed(8))).requires_grad_()
        found = geomsink.sinkhorn_divergence(x, y, blur=0.1)
        return report(found), gradients(found.value, y)

    def arrays(**how: Any) -> Any:
        x, y, a, b = (t.detach().numpy() for t in clouds(9, 400, 300, 2))
        return report(geomsink.solve(x, y, a, b, **how))

    def training() -> Any:
        x, y, *_ = clouds(10, 500, 400, 3, torch.float32)
        loss, found = geomsink.SinkhornDivergence(blur=0.05), []
        for _ in range(3):
            value = loss(x, y.detach())
            found += [value, *gradients(value, x), report(loss.report)]
            x = (x - 100.0 * found[-2]).detach().requires_grad_()
        return found

    def others() -> Any:
        x, y, a, b = clouds(11, 3000, 2000, 3)
        h = geomsink.hausdorff_divergence(x, y, a, b, blur=0.1)
        k = geomsink.mmd(x, y, a, b, kernel="gaussian", blur=[0.1, 0.3])
        w = geomsink.wasserstein_bounds(x, y, a, b, p=1, blur=0.1)
        top = geomsink.solve(x, y, a, b, blur=0.1).plan.top_k(2)
        values = report(h), gradients(h.value, x), report(k), gradients(k.value, x)
        return values, w.lower, w.upper, top.kept, top.matrix.values()

    yield "float64, uneven weights", lambda: divergence(0, 300, 250, 3, blur=0.1)
    yield "low blur, Newton's steps", lambda: divergence(1, 300, 300, 2, blur=0.01)
    yield "float32, KeOps", lambda: divergence(2, 1500, 1200, 3, torch.float32, blur=0.05)
    yield "several levels", lambda: divergence(3, 12_000, 10_000, 3, torch.float32, blur=0.05)
    yield "several levels, certified", lambda: divergence(4, 8000, 9000, 2, blur=0.05, tol_gap=1e-3)
    yield "penalties", lambda: divergence(5, 400, 500, 2, blur=0.1, reach=(0.3, None), epsilon=None)
    yield "sharp, implicit", lambda: divergence(6, 300, 200, 2, blur=0.1, form="sharp", differentiation="implicit")
    yield "unrolled", lambda: divergence(7, 200, 150, 2, blur=0.2, differentiation="unrolled", iterations=20)
    yield "euclidean", lambda: divergence(8, 500, 400, 40, torch.float32, epsilon=0.5, cost="euclidean")
    yield "batch", batch
    yield "NumPy, asymmetric start", lambda: arrays(blur=0.05, cost="power:1.5", certify=True)
    yield "infinite temperature", lambda: arrays(epsilon=float("inf"))
    yield "training steps", training
    yield "other divergences, entries", others


def solved(path: Path, dtype: Any) -> Any:
    """A reference problem: report and gradient."""
    import torch

    import geomsink

    with np.load(path) as data:
        x, y = (torch.as_tensor(data[name]).to(dtype).requires_grad_() for name in ("x", "y"))
        found = geomsink.sinkhorn_divergence(x, y, blur=float(data["blur"]))
    return report(found), gradients(found.value, x, y)


def run(tree: Path) -> dict[str, str]:
    """Digests of all problems with the package that lies in a folder."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--worker"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tree), str(Path(__file__).parent)))},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout)
    where = Path(found.pop("package")).resolve()
    if not where.is_relative_to(tree.resolve()):
        raise RuntimeError(f"{where} was measured, expected the package in {tree}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="REVISION", default="HEAD", help="of this repository (default: HEAD)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        import geomsink

        channel, sys.stdout = sys.stdout, sys.stderr
        found = {"package": geomsink.__file__} | {name: digest(once()) for name, once in problems()}
        print(json.dumps(found), file=channel)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        packed = ["git", "archive", options.against, "geomsink"]
        archive = subprocess.run(packed, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        before = run(Path(folder))
    now = run(ROOT)
    rows = [(name, before[name], now[name], "same" if before[name] == now[name] else "DIFFERENT") for name in now]
    print(table(("problem", options.against, "now", ""), rows))
    return int(any(row[-1] != "same" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
