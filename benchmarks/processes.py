"""Weak scaling across processes: as many points a process, all pairs summed beside a cost model, and merged sketches.

    OMP_NUM_THREADS=1 python benchmarks/processes.py [--counts 1 2 4] [--points 4000] [--wide 4096] [--coordinates 1024]

Each process has as many points of both clouds, so that N grows with K; so does what it computes where all pairs are
summed, N·M/K of them a reduction, and hardly where sketches are merged. Seconds are a process's own (its processor
time, without what it waits for others on a machine that has fewer cores), and those of a clock. The model has one
measured number, pairs a second of one process; bytes and memory follow from the sizes alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from common import RESULTS, cloud, machine, peak_memory, table, write

import geomsink
from geomsink import costs, engine
from geomsink.engine import Gibbs
from geomsink.processes import Group, deal, own, parts_of

REPEATS = 3
BLUR = 0.05


def points(n: int, dimension: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.rand(n, dimension, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reduction(group: Group, n: int, dimension: int, cost: str, dtype: torch.dtype) -> dict[str, Any]:
    """Row sums of one Gibbs operator."""
    before = peak_memory()
    x, y = (deal(p, parts_of(n, group)) for p in (points(n, dimension, 2 * group.rank + k, dtype) for k in (0, 1)))
    u, v = x.new_zeros(x.shape[:1]), y.new_zeros(y.shape[:1])
    K = Gibbs(engine.pair(x, y, costs.get(cost)), u, v, 0.1 * dimension)
    K.row_sums()
    wall, processor, sent, posts = [], [], group.traffic.bytes, 0
    for _ in range(REPEATS):
        group.sum(torch.zeros(1), "start")
        posted, clock, spent = group.traffic.posts, time.perf_counter(), time.process_time()
        found = own(K.row_sums())
        wall.append(time.perf_counter() - clock)
        processor.append(time.process_time() - spent)
        posts = group.traffic.posts - posted
    assert bool(found.isfinite().all())
    return {
        "engine": K.pair.name, "seconds": statistics.median(wall), "processor": statistics.median(processor),
        "sent": (group.traffic.bytes - sent) / REPEATS, "posts": posts, "memory": (peak_memory() - before) * 2**20,
    }  # fmt: skip


def divergence(group: Group, n: int, dimension: int) -> dict[str, Any]:
    """A whole Sinkhorn divergence, near the spacing, with its gradient; over all pairs, which float32 keeps to."""
    x, y = (points(n, dimension, 2 * group.rank + k, torch.float32) for k in (0, 1))
    y, x = y + 0.1, x.requires_grad_()
    options = {"cost": "euclidean", "dtype": "float32", "group": group}
    geomsink.sinkhorn_divergence(x, y, blur=1.0, **options)  # compiles
    messages, sent, posts = group.traffic.messages, group.traffic.bytes, group.traffic.posts
    clock, spent = time.perf_counter(), time.process_time()
    result = geomsink.sinkhorn_divergence(x, y, blur=BLUR, **options)
    result.value.backward()  # type: ignore[union-attr]
    evaluations = sum(len(s.history) for s in (result.xy, result.xx, result.yy))
    return {
        "engine": result.engine, "dtype": result.dtype, "seconds": time.perf_counter() - clock,
        "processor": time.process_time() - spent, "evaluations": evaluations, "converged": result.converged,
        "messages": group.traffic.messages - messages, "sent": group.traffic.bytes - sent,
        "posts": group.traffic.posts - posts, "value": float(result.xy.value.detach()),
    }  # fmt: skip


def between_sketches(group: Group, n: int) -> dict[str, Any]:
    """A whole divergence at a blur well above the spacing, and its gradient."""
    before = peak_memory()
    x, y = (torch.from_numpy(cloud(name, n, group.rank)).requires_grad_() for name in ("knot", "star"))
    messages, sent = group.traffic.messages, group.traffic.bytes
    clock, spent = time.perf_counter(), time.process_time()
    result = geomsink.sinkhorn_divergence(x, y, blur=BLUR, group=group)
    result.value.backward()  # type: ignore[union-attr]
    used = result.xy.approximation
    assert used is not None
    return {
        "seconds": time.perf_counter() - clock, "processor": time.process_time() - spent, "nodes": sum(used.nodes),
        "messages": group.traffic.messages - messages, "sent": group.traffic.bytes - sent,
        "memory": (peak_memory() - before) * 2**20, "value": float(result.value.detach()),
        "off": float(result.value_error), "converged": result.converged,
    }  # fmt: skip


def work(rank: int, count: int, folder: str, given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    group = Group(timeout=600.0)
    found = {
        "wide": reduction(group, given.wide, given.coordinates, "sqeuclidean", torch.float32),
        "narrow": reduction(group, given.points, 3, "euclidean", torch.float32),
        "solve": divergence(group, given.points, 3),
        "sketches": between_sketches(group, given.sketched),
    }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def measured(count: int, given: argparse.Namespace) -> dict[str, Any]:
    """Of so many processes the worst."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, args=(count, folder, given), nprocs=count)
        parts = [torch.load(f"{folder}/{rank}.pt", weights_only=True) for rank in range(count)]
    return {
        name: {key: max(part[name][key] for part in parts) for key in parts[0][name]} for name in parts[0]
    } | {"processes": count}  # fmt: skip


def model(count: int, n: int, dimension: int, rate: float, size: int) -> dict[str, float]:
    """A reduction by its sizes: pairs over the rate of one process; blocks that are passed on; and what a process holds
    for it: two points' worth of both clouds, one block that is summed and one that comes, each with its exponent, and a
    message made of the own one. To each of the others goes a head, and to the next one a block for each of them."""
    block = n * (dimension + 1) * size
    held = 2 * n * dimension * size + block * min(count, 3)
    return {"seconds": n * n * count / rate, "sent": (count - 1) * block, "posts": 2 * (count - 1), "memory": held}


def rows_of(found: list[dict[str, Any]], name: str, n: int, dimension: int) -> list[list[str]]:
    rate = n * n * found[0]["processes"] / found[0][name]["processor"]
    rows = []
    for one in found:
        count, seen = one["processes"], one[name]
        said = model(count, n, dimension, rate, 4)
        rows.append(
            [str(count), f"{count * n:,}", f"{seen['processor']:.3g}", f"{said['seconds']:.3g}",
             f"{seen['seconds']:.3g}", f"{seen['sent'] / 1e6:.4g}", f"{said['sent'] / 1e6:.4g}", str(seen["posts"]),
             str(said["posts"]),
             f"{seen['memory'] / 1e6:.0f}", f"{said['memory'] / 1e6:.0f}"]
        )  # fmt: skip
    return rows


def markdown(report: dict[str, Any]) -> str:
    found, n, wide, dimension = report["found"], report["points"], report["wide"], report["coordinates"]
    head = [
        "processes", "points", "s a process", "model", "s of a clock", "MB sent", "model", "messages", "model",
        "MB held", "model",
    ]  # fmt: skip
    solve = [
        [str(one["processes"]), f"{one['processes'] * n:,}", f"{s['processor']:.3g}", f"{s['seconds']:.3g}",
         str(s["evaluations"]), f"{s['processor'] / s['evaluations'] / one['processes']:.3g}",
         f"{s['messages'] / s['evaluations']:.1f}", f"{s['posts'] / s['evaluations']:.1f}", f"{s['sent'] / 1e6:.4g}",
         "yes" if s["converged"] else "no"]
        for one in found for s in (one["solve"],)
    ]  # fmt: skip
    of_solve = [
        "processes", "points", "s a process", "s of a clock", "evaluations", "s an evaluation and N/n",
        "exchanges each", "messages each", "MB sent", "converged",
    ]  # fmt: skip
    of_sketches = [
        "processes", "points", "nodes", "s a process", "s of a clock", "exchanges", "MB sent", "MB held", "value",
        "off by", "converged",
    ]  # fmt: skip
    sketches = [
        [str(one["processes"]), f"{one['processes'] * report['sketched']:,}", f"{s['nodes']:,}",
         f"{s['processor']:.3g}", f"{s['seconds']:.3g}", str(s["messages"]), f"{s['sent'] / 1e6:.3g}",
         f"{s['memory'] / 1e6:.0f}", f"{s['value']:.7g}", f"{s['off']:.0e}", "yes" if s["converged"] else "no"]
        for one in found for s in (one["sketches"],)
    ]  # fmt: skip
    return (
        f"# Processes\n\n{report['machine']}; {report['cores']} cores, gloo. Points dealt out, as many a process; the "
        "model is that of [the cost page](../../docs/cluster-costs.md), with the rate of one process.\n\n"
        f"## One reduction, 3 coordinates, {n:,} points a process and cloud ({found[0]['narrow']['engine']})\n\n"
        f"{table(head[:9], [row[:9] for row in rows_of(found, 'narrow', n, 3)])}\n\n"
        f"## One reduction, {dimension:,} coordinates, {wide:,} points a process and cloud "
        f"({found[0]['wide']['engine']})\n\n{table(head, rows_of(found, 'wide', wide, dimension))}\n\n"
        "MB held are what the largest memory of a process was above that before it had points; what is beyond the "
        "model is scratch of the products, whatever N is.\n\n"
        f"## A divergence and its gradient, cost euclidean, blur {BLUR:g}, in 3 coordinates, {n:,} points a process "
        f"({found[0]['solve']['engine']}, {found[0]['solve']['dtype']})\n\n{table(of_solve, solve)}\n\n"
        f"## The same between merged sketches, squared distances, {report['sketched']:,} points a process\n\n"
        f"{table(of_sketches, sketches)}\n\nMore points are other points of the same surfaces, and the value moves by "
        "what drawing them does.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="*", default=[1, 2, 4], help="processes; the first sets the rate")
    parser.add_argument("--points", type=int, default=4000, help="of each cloud, a process, in 3 coordinates")
    parser.add_argument("--wide", type=int, default=4096, help="the same in many coordinates")
    parser.add_argument("--coordinates", type=int, default=1024)
    parser.add_argument("--sketched", type=int, default=200_000, help="points of each cloud, a process")
    parser.add_argument("--out", type=Path, default=RESULTS / "processes.json", help="the report; Markdown beside it")
    given = parser.parse_args()
    found = []
    for count in given.counts:
        found.append(measured(count, given))
        print(count, found[-1], flush=True)
    about = {"machine": machine(), "cores": os.cpu_count(), "points": given.points, "wide": given.wide}
    report = {**about, "coordinates": given.coordinates, "sketched": given.sketched, "found": found}
    write(given.out, report, markdown(report))
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
