"""geomsink against GeomLoss, OTT-JAX and POT: seconds, errors and memory on the same points, in one run.

    pip install -e '.[peers,shapes,plot,cli]'
    python benchmarks/against_peers.py [--sizes 10000 100000] [--peers geomsink geomloss ott pot] [--blur 0.05]

Each method runs in a fresh process, is warmed up or compiled, and gives S_ε for the cost ‖x − y‖², then S_ε and its
gradient in x. Errors are relative to a float64 solution: that of a solved problem, where a file of the reference
folder has one for these shapes and this blur (its problem is then run too), or geomsink's own at a small tolerance.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    PALETTE,
    RESULTS,
    SHARED,
    clouds,
    default_shapes,
    fresh,
    machine,
    number,
    panels,
    plain_ticks,
    publish,
    save,
    table,
    work,
)
from peers import METHODS, NOTES, measure

BASE = "geomsink"
HEAD = (
    "method", "value, s", "ratio", "value error", "value and gradient, s", "ratio", "gradient error",
    "MB after imports", "peak MB, value", "peak MB, gradient", "remark",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Two clouds, and the solution that the methods are compared with."""

    name: str
    x: np.ndarray
    y: np.ndarray
    value: float
    gradient: np.ndarray
    how: str


def cases(options: argparse.Namespace, folder: Path) -> Any:
    """The solved problem of these shapes and this blur, if there is one, and then one case a size."""
    first, second = options.shapes
    solved = SHARED / "reference" / f"{first}-{second}-blur{options.blur:g}.npz"
    if solved.exists():
        with np.load(solved) as file:
            x, y = file["x"], file["y"]
            how = f"the solved problem {solved.name}"
            yield Case(_name(x, y), x, y, float(file["divergence"]), file["grad_x"], how)
    for n in options.sizes:
        x, y = clouds(options.shapes, n)
        yield Case(_name(x, y), x, y, *reference(x, y, options, folder))


def _name(x: np.ndarray, y: np.ndarray) -> str:
    return f"{len(x):,} points" if len(x) == len(y) else f"{len(x):,} and {len(y):,} points"


def reference(x: np.ndarray, y: np.ndarray, options: argparse.Namespace, folder: Path) -> tuple[float, np.ndarray, str]:
    """Value, gradient and origin of geomsink's own converged solution, from the cache if it is there."""
    settings = f"{options.blur} {options.reference_tol} {options.reference_single}"
    key = hashlib.sha256(x.tobytes() + y.tobytes() + settings.encode()).hexdigest()[:16]
    path = (options.reference_cache or folder) / f"reference-{key}.npz"
    if not path.exists():
        points, gradient = folder / "points.npz", folder / "gradient.npy"
        np.savez(points, x=x, y=y)
        task = {
            "library": "reference", "points": str(points), "gradient": str(gradient), "blur": options.blur,
            "tol": options.reference_tol, "single_up_to": options.reference_single,
        }  # fmt: skip
        print(f"reference solution of {_name(x, y)} ...", flush=True)
        found = fresh(__file__, task)
        if "failed" in found:
            sys.exit(f"the reference solution failed: {found['failed']}")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, value=found["value"], gradient=np.load(gradient), how=found["how"])
    with np.load(path) as file:
        return float(file["value"]), file["gradient"], str(file["how"])


def run(case: Case, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One row a method."""
    points = folder / "points.npz"
    np.savez(points, x=case.x, y=case.y)
    rows = []
    for library in options.peers:
        for method in METHODS[library]:
            gradient = folder / "gradient.npy"
            gradient.unlink(missing_ok=True)
            task = {"library": library, "method": method, "points": str(points), "gradient": str(gradient)}
            row = {"library": library, "method": method} | fresh(
                __file__, task | {"blur": options.blur}, options.timeout
            )
            if "value" in row:
                row["value_error"] = abs(row["value"] - case.value) / abs(case.value)
            if "gradient_seconds" in row:
                difference = np.load(gradient) - case.gradient
                row["gradient_error"] = float(np.linalg.norm(difference) / np.linalg.norm(case.gradient))
            rows.append(row)
            print("  ".join(cell for cell in _cells(row, {}) if cell), flush=True)
    base = next((row for row in rows if row["method"] == BASE), {})
    for row in rows:
        row["ratios"] = {
            key: row[key] / base[key] for key in ("seconds", "gradient_seconds") if key in row and key in base
        }
    return rows


def _cells(row: dict[str, Any], ratios: dict[str, float]) -> tuple[str, ...]:
    remark = row.get("failed") or row.get("remark", "")
    if "failed" in row and "value" in row:
        remark = f"gradient: {remark}"
    return (
        row["method"],
        number(row.get("seconds"), ".3g"), number(ratios.get("seconds"), ".3g"), number(row.get("value_error"), ".0e"),
        number(row.get("gradient_seconds"), ".3g"), number(ratios.get("gradient_seconds"), ".3g"),
        number(row.get("gradient_error"), ".0e"),
        number(row.get("memory_imports"), ".0f"), number(row.get("memory"), ".0f"),
        number(row.get("gradient_memory"), ".0f"),
        remark.replace("|", "/"),
    )  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    parts = [report["about"]]
    for case in report["cases"]:
        rows = [_cells(row, row["ratios"]) for row in case["rows"]]
        parts += [f"## {case['name']}", f"Errors are relative to {case['reference']}.", table(HEAD, rows)]
    parts.append("Ratios are seconds over those of geomsink at its defaults in the same run.")
    libraries = dict.fromkeys(row["library"] for case in report["cases"] for row in case["rows"])
    parts.append("\n".join(f"- {library}: {NOTES[library]}." for library in libraries))
    return "\n\n".join(parts)


# --------------------------------------------------------------------- figure

# Methods that differ in accuracy only are joined, in the order of their accuracy, and labelled by what differs.
CURVES = {
    "geomsink": {"geomsink, tol 1e-2": "tol 1e-2", "geomsink": "1e-3, default", "geomsink, tol 1e-4": "1e-4"},
    "GeomLoss online, scaling": {f"GeomLoss online, scaling {s}": f"{s}" for s in (0.5, 0.9)},
    "GeomLoss multiscale, scaling": {f"GeomLoss multiscale, scaling {s}": f"{s}" for s in (0.5, 0.9)},
    "OTT-JAX online": {"OTT-JAX online": ""},
    "POT": {"POT": "default", "POT, tol 1e-5": "tol 1e-5", "POT lazy, tol 1e-3": "lazy"},
}
COLUMNS = (("value", "seconds", "value_error"), ("gradient", "gradient_seconds", "gradient_error"))


def draw(report: dict[str, Any], path: Path) -> None:
    from geomsink.plotting import FAINT, INK

    figure, axes = panels(len(report["cases"]), 2, 5.6, 3.9)
    for k, case in enumerate(report["cases"]):
        rows = {row["method"]: row for row in case["rows"]}
        for ax, (what, seconds, error) in zip(axes[2 * k : 2 * k + 2], COLUMNS, strict=True):
            for color, (label, curve) in zip(PALETTE, CURVES.items(), strict=True):
                shown = [(m, text) for m, text in curve.items() if error in rows.get(m, {})]
                at = [(rows[m][seconds], max(rows[m][error], 1e-9)) for m, _ in shown]
                if at:
                    ax.plot(*zip(*at, strict=True), "o-", color=color, lw=1.6, ms=6, label=label)
                offset = (-4, -15) if "multiscale" in label else (7, 5)  # the two of GeomLoss lie close
                for spot, (_, text) in zip(at, shown, strict=True):
                    ax.annotate(text, spot, offset, textcoords="offset points", color=color, fontsize=8)
            ax.set(xscale="log", yscale="log", title=f"{what}, {case['name']}")
            ax.set_xlabel("seconds" if what == "value" else "seconds of value and gradient")
            ax.set_ylabel(f"relative error of the {what}")
            ax.margins(x=0.14, y=0.14)
            plain_ticks(ax.xaxis)
            missing = [m for m in rows if error not in rows[m] and (what == "value" or "POT lazy" not in m)]
            if missing:
                text = "no result: " + "; ".join(missing)
                ax.annotate(text, (0.5, -0.19), xycoords="axes fraction", color=FAINT, fontsize=7.5,
                            ha="center", va="top", wrap=True)  # fmt: skip
    handles = {h.get_label(): h for ax in axes for h in ax.get_legend_handles_labels()[0]}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=5, frameon=False, labelcolor=INK)
    save(figure, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000], help="points a side")
    parser.add_argument("--peers", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="PEER")
    parser.add_argument("--blur", type=float, default=0.05)
    parser.add_argument(
        "--shapes", nargs=2, default=default_shapes(), help="files, names of them, or procedural shapes"
    )
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for each method, with its warm-up")
    parser.add_argument("--reference-tol", type=float, default=1e-8, help="marginal error of our own reference")
    parser.add_argument("--reference-single", type=int, default=20_000, metavar="N",
                        help="points a side up to which our own reference is solved on a single scale")  # fmt: skip
    parser.add_argument("--reference-cache", type=Path, help="folder to keep our own references in")
    parser.add_argument("--out", type=Path, default=RESULTS / "against_peers.json", help="with .md and .png beside it")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(measure, options.worker)
    import geomsink.plotting  # noqa: F401  without matplotlib, say so now and not at the end

    about = f"{machine()}; {' and '.join(options.shapes)}, σ = {options.blur:g}, float32 points"
    print(about)
    report: dict[str, Any] = {"about": about, "blur": options.blur, "shapes": options.shapes, "cases": []}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(options, Path(folder)):
            print(f"{case.name}; errors relative to {case.how}", flush=True)
            rows = run(case, options, Path(folder))
            report["cases"].append({"name": case.name, "reference": case.how, "rows": rows})
            # A run takes long: what is there is kept.
            publish(options.out, report, markdown, draw)
    return 0


if __name__ == "__main__":
    sys.exit(main())
