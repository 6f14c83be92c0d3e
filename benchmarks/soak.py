"""Random problems of every kind against dense float64 solutions that are written independently of the package.

    python benchmarks/soak.py --minutes 5 --seed 1
    python benchmarks/soak.py --seed 1 --index 17          # one problem, all its numbers
    python benchmarks/soak.py --minutes 5 --device cuda    # the same problems on a GPU

A fault is a crash, NaN, a value, gradient or marginal that is wrong although the solve says that it converged, a stated
error that is too small, or a certified interval without the truth. Problems are determined by seed and index alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common import RESULTS, machine, table, write
from soak_problems import KINDS, kind_of, problem

FAULTS = {
    "value": "wrong value", "stated": "stated error", "gradient": "wrong gradient", "marginals": "marginals",
    "interval": "intervals", "nan": "NaN", "crash": "crashes",
}  # fmt: skip
STATES = ("converged", "warned", "refused", "slow")


def markdown(report: dict[str, Any]) -> str:
    """The report as text."""
    outcomes = report["outcomes"]
    rows = []
    for kind in [*KINDS, "all"]:
        mine = [o for o in outcomes if kind in (o["kind"], "all")]
        if not mine:
            continue
        counts = Counter(o["state"] for o in mine)
        faults = Counter(f for o in mine for f in o["faults"])
        unknown = sum(not o["known"] for o in mine)
        cells = [kind, len(mine), *(counts[s] for s in STATES), *(faults[f] for f in FAULTS), unknown]
        rows.append([str(c) for c in cells])
    head = ["kind", "problems", *STATES, *FAULTS.values(), "no reference"]
    parts = [
        "# Soak: random problems against dense float64 solutions", "",
        f"{report['about']}. `python benchmarks/soak.py --seed {report['seed']} --minutes {report['minutes']:g}"
        f"{' --device cuda' if report['device'] == 'cuda' else ''}`.", "",
        table(head, rows), "",
    ]  # fmt: skip
    errors = sorted(o["error"] for o in outcomes if o["error"] is not None)
    if errors:
        p50, p99 = (float(np.quantile(errors, q)) for q in (0.5, 0.99))
        parts += [
            f"Relative errors of {len(errors)} converged values, beyond rounding: median {p50:.1e}, "
            f"99 % below {p99:.1e}, largest {errors[-1]:.1e}.", "",
        ]  # fmt: skip
    worst = sorted((o for o in outcomes if o["error"]), key=lambda o: -o["error"])[:8]
    if worst:
        cells = [[str(o["index"]), o["kind"], f"{o['error']:.2e}", o["about"]] for o in worst]
        parts += ["Largest:", "", table(["index", "kind", "relative error", "problem"], cells), ""]
    faulty = [o for o in outcomes if o["faults"]]
    parts += [f"## {len(faulty)} problems with faults", ""]
    parts += [line(o) for o in faulty]
    return "\n".join(parts)


def line(outcome: dict[str, Any]) -> str:
    """A fault on one line, with what reproduces it."""
    what = "; ".join(f"{FAULTS[name]}: {text}" for name, text in outcome["faults"].items())
    return f"- `--seed {outcome['seed']} --index {outcome['index']}` ({outcome['kind']}) {what}. {outcome['about']}"


def recorded(seed: int, index: int, device: str = "cpu") -> dict[str, Any]:
    """Draw, solve, check. On another device than the CPU all is given as tensors."""
    from soak_checks import run

    drawn = problem(seed, index)
    o = run(drawn if device == "cpu" else replace(drawn, torch=True), device)
    return {
        "seed": seed, "index": index, "kind": drawn.kind, "state": o.state, "known": o.known, "error": o.error,
        "faults": o.faults, "seconds": o.seconds, "about": drawn.describe(), "numbers": o.numbers,
    }  # fmt: skip


def soak(
    seed: int, minutes: float, only: str | None, problems: int | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """All problems that there is time for."""
    began, index, outcomes = time.monotonic(), -1, []
    while time.monotonic() - began < 60.0 * minutes and (problems is None or len(outcomes) < problems):
        index += 1
        if only is not None and kind_of(seed, index) != only:
            continue
        outcome = recorded(seed, index, device)
        if outcome["faults"]:
            print(line(outcome), flush=True)
        if not outcome["faults"]:
            outcome["numbers"] = {}
        outcomes.append(outcome)
    return {"about": machine(device), "seed": seed, "minutes": minutes, "device": device, "outcomes": outcomes}


def kept(report: dict[str, Any]) -> dict[str, Any]:
    """What is written: how many problems ended how, and those with a fault or that did not converge; all others can be
    drawn again."""
    outcomes = report["outcomes"]
    ended = dict(Counter(f"{o['kind']}: {o['state']}" for o in outcomes))
    return report | {"ended": ended, "outcomes": [o for o in outcomes if o["faults"] or o["state"] != "converged"]}


def main() -> int:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", type=int, help="one problem alone, with all its numbers")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", choices=list(KINDS), help="one kind alone")
    parser.add_argument("--out", type=Path, help="name of the report in benchmarks/results, or a path (default: none)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.index is not None:
        outcome = recorded(options.seed, options.index, options.device)
        print(json.dumps(outcome, indent=1, default=str))
        return int(bool(outcome["faults"]))
    report = soak(options.seed, options.minutes, options.only, device=options.device)
    text = markdown(report)
    if options.out is not None:
        path = options.out if options.out.is_absolute() else RESULTS / options.out
        write(path.with_suffix(".json"), json.loads(json.dumps(kept(report), default=str)), text)
    print(text)
    return int(any(o["faults"] for o in report["outcomes"]))


if __name__ == "__main__":
    sys.exit(main())
