"""The commands: what they print, what they refuse, and their exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import geomsink
from geomsink import shapes

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("tqdm")
from cli_tools import colors_in, rows_of, run

from geomsink.__main__ import main

ROOT = Path(geomsink.__file__).resolve().parents[1]
SMALL = ("--samples", "150", "--engine", "dense", "--blur", "0.2")
PAIR = ("divergence", "shape:knot", "shape:star")


def process(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "geomsink", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


@pytest.fixture
def clouds(tmp_path):
    x = np.random.default_rng(0).random((80, 3))
    shapes.write(tmp_path / "x.npz", x)
    shapes.write(tmp_path / "moved.npz", 3 * x + 5)
    return tmp_path / "x.npz", tmp_path / "moved.npz"


def test_json_is_all_that_stdout_gets_and_says_what_the_library_says():
    done = process(*PAIR, *SMALL, "--json", "--progress", "--tol", "1e-5", "--seed", 4)
    stdout, stderr = done.communicate(timeout=120)
    assert done.returncode == 0, stderr
    assert "%" in stderr, "no progress bar"
    report = json.loads(stdout)
    x, y = shapes.sample("knot", 150, seed=4), shapes.sample("star", 150, seed=5)
    expected = geomsink.sinkhorn_divergence(x, y, blur=0.2, tol=1e-5, engine="dense")
    assert report["value"] == pytest.approx(expected.value, rel=1e-9)
    assert report["temperatures"] == pytest.approx(expected.temperatures)
    for key in ("converged", "status", "value_error", "n_iter", "epsilon", "tol", "engine", "dtype"):
        assert report[key] == getattr(expected, key)
    assert report["length"] == pytest.approx(expected.length)
    assert report["x"] == {"name": "knot", "points": 150, "dimension": 3}
    assert report["xx"]["value"] == pytest.approx(expected.xx.value, rel=1e-9)
    assert {k: report[k] for k in ("cost", "form", "blur", "seed", "normalize", "geomsink")} == {
        "cost": "sqeuclidean", "form": "entropic", "blur": 0.2, "seed": 4, "normalize": True, "geomsink": "0.1.0",
    }  # fmt: skip
    assert set(report) - {"cost", "form", "blur", "seed", "normalize", "geomsink"} == {
        "value", "length", "value_error", "converged", "status", "marginal_error", "tol", "n_iter", "epsilon",
        "temperatures", "engine", "dtype", "seconds", "x", "y", "xy", "xx", "yy",
    }  # fmt: skip


def test_the_table_states_value_error_and_settings():
    done = run(*PAIR, *SMALL)
    assert done.exit_code == 0 and done.stderr == ""
    rows = rows_of(done)
    assert float(rows["Sinkhorn divergence"]) > 0
    assert rows["A"] == "knot, 150 points in dimension 3"
    assert rows["state"] == "converged"
    assert rows["cost"] == "sqeuclidean, blur 0.2, epsilon 0.08"
    assert rows["engine"] == "dense"
    assert {"marginal error", "temperatures", "iterations", "precision", "seconds"} <= set(rows)


def test_brackets_in_names_are_printed_as_they_are(tmp_path):
    path = tmp_path / "a[bold] [red].npz"
    shapes.write(path, np.random.default_rng(0).random((30, 3)))
    assert rows_of(run("divergence", path, path, "--blur", "0.3"))["A"] == f"{path.name}, 30 points in dimension 3"


def test_not_converged_exits_with_3():
    done = process(*PAIR, *SMALL, "--max-iter", 1)
    stdout, stderr = done.communicate(timeout=120)
    assert done.returncode == 3
    assert "NOT CONVERGED" in stdout
    lines = stderr.splitlines()
    assert lines and all(line.startswith("geomsink: ") and "not converged" in line for line in lines)


def test_interrupt_exits_with_130_and_one_line():
    endless = ("--samples", 1500, "--engine", "dense", "--tol", "1e-300", "--max-iter", 10**9, "--progress")
    done = process(*PAIR, *endless)
    seen = ""
    while "error" not in seen:  # the bar: the solve is under way
        letter = done.stderr.read(1)
        assert letter, seen
        seen += letter
    done.send_signal(signal.SIGINT)
    stdout, stderr = done.communicate(timeout=120)
    assert done.returncode == 130
    assert stdout == ""
    assert stderr.endswith("geomsink: interrupted.\n") and "Traceback" not in stderr


def test_files_are_compared_in_the_unit_cube_unless_told_not_to(clouds):
    x, moved = clouds
    done = run("divergence", x, moved, "--json", "--engine", "dense", "--blur", "0.3")
    report = json.loads(done.stdout)
    assert done.exit_code == 0 and abs(report["value"]) < 1e-6
    assert report["x"] == {"name": "x.npz", "points": 80, "dimension": 3}
    done = run("divergence", x, moved, "--json", "--engine", "dense", "--no-normalize", "--blur", "1")
    assert json.loads(done.stdout)["value"] == pytest.approx(
        geomsink.sinkhorn_divergence(shapes.read(x), shapes.read(moved), blur=1.0).value
    )


def test_the_default_temperature_is_a_blur_of_a_twentieth():
    report = json.loads(run("divergence", "sphere", "cube", "--samples", 30, "--tol", "0.5", "--json").stdout)
    assert report["blur"] == 0.05 and report["epsilon"] == pytest.approx(2 * 0.05**2)


def test_a_blur_that_follows_from_the_clouds_is_that_of_the_library(clouds):
    x, y = shapes.sample("knot", 60, seed=0), shapes.sample("star", 60, seed=1)
    report = json.loads(run(*PAIR, "--samples", 60, "--blur", "auto", "--tol", "0.1", "--json").stdout)
    assert report["blur"] == pytest.approx(geomsink.suggest_blur(x, y), rel=1e-6)
    done = run("flow", *clouds, "--blur", "auto", "--steps", 1, "--out", clouds[0].parent / "out.npz", "--json")
    assert json.loads(done.stdout)["blur"] > 0.05
    done = run("divergence", *clouds, "--no-normalize")
    assert done.exit_code == 2 and "or --blur auto" in done.stderr


def test_same_shape_twice_is_drawn_twice():
    report = json.loads(run("divergence", "knot", "shape:knot", *SMALL, "--json").stdout)
    assert report["value"] > 1e-5


def test_options_reach_the_solver():
    options = ("--cost", "euclidean", "--form", "sharp", "--dtype", "float64", "--scaling", "0.8", "--epsilon", "0.1")
    done = run(*PAIR, "--samples", 100, "--engine", "dense", "--json", *options)
    report = json.loads(done.stdout)
    x, y = shapes.sample("knot", 100, seed=0), shapes.sample("star", 100, seed=1)
    expected = geomsink.sinkhorn_divergence(
        x, y, cost="euclidean", form="sharp", dtype="float64", scaling=0.8, epsilon=0.1, engine="dense"
    )
    assert report["value"] == pytest.approx(expected.value)
    assert len(report["temperatures"]) == len(expected.temperatures)
    assert (report["dtype"], report["blur"]) == ("float64", None)


def test_plot_writes_a_figure(tmp_path):
    pytest.importorskip("matplotlib")
    done = run(*PAIR, *SMALL, "--json", "--plot", tmp_path / "a.png")
    assert done.exit_code == 0 and json.loads(done.stdout)["converged"]
    drawn, colors = colors_in(tmp_path / "a.png")
    assert drawn > 0.05 and colors > 500


def test_demo_writes_a_figure_and_a_table(tmp_path):
    pytest.importorskip("matplotlib")
    done = run("demo", "--samples", 150, "--engine", "dense", "--blur", "0.3", "--out", tmp_path / "demo.png")
    assert done.exit_code == 0
    assert "converged" in done.stdout and "demo.png" in done.stdout
    drawn, colors = colors_in(tmp_path / "demo.png")
    assert drawn > 0.05 and colors > 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("divergence", "nofile.ply", "shape:star"), "there is no file nofile.ply"),
        (("divergence", "shape:knit", "shape:star"), "'knit': found no shape of that name"),
        (("divergence", "knott", "shape:star"), "did you mean 'knot'?"),
        ((*PAIR, "--cost", "hamming"), "cost: unknown name 'hamming'; expected one of"),
        ((*PAIR, "--blur", "0.1", "--epsilon", "0.1", "--samples", "9"), "expected one of them"),
        ((*PAIR, "--blur", "auto", "--epsilon", "0.1", "--samples", "9"), "both were (auto and 0.1) given"),
        ((*PAIR, "--blur", "-1", "--samples", "9"), "blur"),
        ((*PAIR, "--tol-gap", "0", "--samples", "9"), "tol_gap: 0.0 given, expected a positive relative width"),
        ((*PAIR, "--certify", "--form", "sharp", "--samples", "9"), "certify: given with form='sharp'"),
        ((*PAIR, "--samples", "0"), "--samples: 0 given, expected a whole number of at least 1"),
        ((*PAIR, "--no-normalize"), "needs --blur or --epsilon"),
        ((*PAIR, "--engine", "abacus"), "'abacus' is not one of"),
        ((*PAIR, "--plot", "figure.foo"), "found figure.foo"),
        ((*PAIR, "--plot", "no/such/folder.png"), "there is no folder"),
        (("divergence", "shape:knot"), "Missing argument"),
        (("diverge",), "No such command"),
    ],
)
def test_bad_use_exits_with_2_and_a_reason_on_stderr(arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_bad_use_of_the_command_itself(tmp_path):
    (tmp_path / "bad.ply").write_text("ply\nnonsense")
    done = process("divergence", tmp_path / "bad.ply", "shape:star", "--json")
    stdout, stderr = done.communicate(timeout=120)
    assert (done.returncode, stdout) == (2, "")
    assert stderr.count("\n") == 1 and "bad.ply" in stderr


def test_without_matplotlib_plot_is_refused_before_any_work(monkeypatch):
    for module in ("matplotlib", "matplotlib.axes"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "geomsink.plotting", raising=False)
    monkeypatch.delattr(geomsink, "plotting", raising=False)
    monkeypatch.setattr(
        "geomsink.cli.divergences.sinkhorn_divergence", None
    )  # a call would be a TypeError of another text
    done = run(*PAIR, "--plot", "a.png")
    assert done.exit_code == 2
    assert done.stderr == "geomsink: figures need the package matplotlib: pip install 'geomsink[plot]'\n"


@pytest.mark.parametrize("package", ["click", "rich.console"])
def test_without_click_or_rich_one_sentence_says_what_to_install(package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    for module in [name for name in sys.modules if name.startswith("geomsink.cli")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 2
    name = package.partition(".")[0]
    expected = f"geomsink: the command line needs the package {name}: pip install 'geomsink[cli]'\n"
    assert capsys.readouterr().err == expected


def test_doctor_is_content_with_a_compiled_engine(monkeypatch):
    monkeypatch.setattr("geomsink.engine.speed", lambda seconds: {"keops": 4.9, "dense": 0.2})
    done = run("doctor")
    assert done.exit_code == 0
    assert "4.90 billion pairs a second" in done.stdout
    for name, found in geomsink.engine.describe().items():
        assert any(line.startswith(name) and found in line for line in done.stdout.splitlines())


def test_doctor_says_what_to_install_when_nothing_compiles(monkeypatch):
    monkeypatch.setattr("geomsink.engine.describe", lambda: {"compiled engine": "none: no compiler"})
    monkeypatch.setattr("geomsink.engine.speed", lambda seconds: {"dense": 0.2})
    done = run("doctor")
    assert done.exit_code == 1
    assert "none: no compiler" in done.stdout and "0.20 billion" in done.stdout
    assert "Install " in done.stderr and "pykeops" in done.stderr


def test_version():
    assert run("--version").stdout == f"geomsink, version {geomsink.__version__}\n"


def test_the_certified_interval_is_shown_and_as_narrow_as_asked_for():
    done = run(*PAIR, *SMALL, "--certify")
    rows = rows_of(done)
    low, value, high = (float(rows[name].split()[0]) for name in ("lower", "Sinkhorn divergence", "upper"))
    assert done.exit_code == 0 and low <= value <= high
    assert float(rows["gap"].split()[0]) == pytest.approx(high - low, rel=0.02, abs=1e-9)
    report = json.loads(run(*PAIR, *SMALL, "--tol-gap", "1e-5", "--json").stdout)
    x, y = shapes.sample("knot", 150, seed=0), shapes.sample("star", 150, seed=1)
    exact = geomsink.sinkhorn_divergence(x.astype("f8"), y.astype("f8"), blur=0.2, tol=1e-12, engine="dense").value
    assert report["lower"] <= exact <= report["upper"]
    assert report["gap"] == pytest.approx(report["upper"] - report["lower"])
    assert report["gap"] <= 1e-5 * report["value"]
    assert {"lower", "upper", "gap"} <= set(report["xy"])


def test_levels_are_chosen_and_shown():
    """On several levels: what was solved between, and how far off it can be; in the table and in JSON."""
    pair = ("divergence", "shape:knot", "shape:star", "--samples", 600, "--blur", "0.1", "--engine", "dense")
    done = run(*pair, "--multiscale")
    assert done.exit_code == 0 and re.search(r"levels +256 x 256, then 600 x 600; .* audit .*, skipped", done.stdout)
    used = json.loads(run(*pair, "--multiscale", "--json").stdout)["xy"]["approximation"]
    assert used["levels"] == [[256, 256], [600, 600]] and 0.0 < used["share"] <= 1.0
    done = run(*pair, "--single-scale")
    assert done.exit_code == 0 and "the points alone, all pairs" in done.stdout
    assert json.loads(run(*pair, "--single-scale", "--json").stdout)["xy"]["approximation"] is None
