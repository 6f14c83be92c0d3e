"""Two nodes, simulated on one machine: two groups of processes that talk over a loopback with a bandwidth cap.

    python benchmarks/nodes.py [--rates 0 100 10] [--points 100000] [--dealt 4000]

On Linux, as root: each rate (in Mbit/s; 0 is no cap) has a network of its own (``unshare --net``), whose loopback
``tc`` slows down. In it two ``torchrun`` start a process each, as on two nodes. Beside seconds are those that the bytes
which a process has sent take at the rate: what a slow network should cost.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, cloud, machine, table, write

BLUR = 0.05
HEAD = ("Mbit/s", "solved", "points a process", "s", "s more than without a cap", "MB sent", "s of these at the rate",
        "marginal error")  # fmt: skip
PORT = 29_577


def divergence(group: Any, x: Any, y: Any, **options: Any) -> dict[str, Any]:
    """A value and its gradient, once to compile and warm up and once measured."""
    import geomsink

    x, y = (points.requires_grad_() for points in (x, y))
    for _ in range(2):
        sent, start = group.traffic.bytes, time.perf_counter()
        result = geomsink.sinkhorn_divergence(x, y, group=group, **options)
        result.value.backward()
        seconds = time.perf_counter() - start
    return {
        "strategy": result.xy.strategy, "points": len(x), "seconds": seconds, "sent": group.traffic.bytes - sent,
        "marginal_error": result.marginal_error,
    }  # fmt: skip


def work(given: argparse.Namespace) -> None:
    """One of the processes; the first reports."""
    import torch
    import torch.distributed as dist

    from geomsink import Group

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    group = Group(timeout=600.0)
    found = []
    for n, options in ((given.points, {}), (given.dealt, {"cost": "euclidean", "dtype": "float32"})):
        x, y = (torch.from_numpy(cloud(name, n, group.rank)) for name in ("knot", "star"))
        found.append(divergence(group, x, y, blur=BLUR, **options))
    if group.rank == 0:
        Path(given.worker).write_text(json.dumps(found))
    dist.destroy_process_group()


def measured(rate: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """What the first process has reported of two nodes whose network has a rate."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        script = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--master-addr",
            "127.0.0.1", "--master-port", str(PORT), "--node-rank", "{}", __file__, "--points", str(given.points),
            "--dealt", str(given.dealt), "--worker", str(report),
        ]  # fmt: skip
        nodes = [shlex.join(script).replace("'{}'", str(k)) for k in range(2)]
        lines = ["ip link set lo up", f"{nodes[1]} & {nodes[0]}; first=$?; wait $! && exit $first"]
        if rate:
            lines.insert(1, f"tc qdisc add dev lo root tbf rate {rate}mbit burst 256kb latency 2s")
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        subprocess.run(["unshare", "--net", "bash", "-ec", "\n".join(lines)], check=True, env=environment)
        found: list[dict[str, Any]] = json.loads(report.read_text())
    return found


def markdown(report: dict[str, Any]) -> str:
    rows, free = [], report["found"][0]["solves"]
    for one in report["found"]:
        for solve, base in zip(one["solves"], free, strict=True):
            sent = 8e-6 * solve["sent"] / one["rate"] if one["rate"] else 0.0
            rows.append((
                f"{one['rate']:,}" if one["rate"] else "no cap", solve["strategy"], f"{solve['points']:,}",
                f"{solve['seconds']:.3g}", f"{solve['seconds'] - base['seconds']:.3g}", f"{solve['sent'] / 1e6:.3g}",
                f"{sent:.3g}", f"{solve['marginal_error']:.1e}",
            ))  # fmt: skip
    return f"# Two nodes\n\n{report['about']}\n\n{table(HEAD, rows)}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[0, 100, 10], help="Mbit/s, the first for comparison")
    parser.add_argument("--points", type=int, default=100_000, help="of each cloud, a process, between sketches")
    parser.add_argument("--dealt", type=int, default=4_000, help="the same, where all pairs are summed")
    parser.add_argument("--out", type=Path, default=RESULTS / "nodes.json", help="the report; Markdown beside it")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given)
        return 0
    if os.name != "posix" or os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip", "tc"))):
        sys.exit("networks of their own need Linux, root, and the commands unshare, ip and tc.")
    about = (
        f"{machine()}, {os.cpu_count()} cores; a process a node, one thread each. Value and gradient between knots and "
        f"stars at blur {BLUR:g}, float32: squared distances between sketches, and distances over all pairs."
    )
    found: list[dict[str, Any]] = []
    report = {"about": about, "found": found}
    for rate in given.rates:
        found.append({"rate": rate, "solves": measured(rate, given)})
        print(found[-1], flush=True)
        write(given.out, report, markdown(report))
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
