"""The report of a GPU's first day, on a CPU: what it finds, and what it loses to a row that crashes or hangs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
BAD_DAY = """
import os, signal, subprocess, time
from pathlib import Path

def fine(device):
    return {"error": 0.0, "tolerance": 0.0}

def wrong(device, error):
    return {"error": float(error), "tolerance": 0.1, "comparisons": [{"what": "the value", "found": 1.0}]}

def raises(device):
    print("a compiler's last words")
    return 1 / 0

def hangs(device, pid):
    import gpu_runner
    gpu_runner.tell({"first": 0.25})
    Path(pid).write_text(str(subprocess.Popen(["sleep", "60"]).pid))
    time.sleep(60)

def dies(device):
    os.kill(os.getpid(), signal.SIGSEGV)

def ends_badly(device):
    import atexit
    atexit.register(os._exit, 7)
    return {}

def spoils(device):
    import __main__
    __main__.synchronize = lambda device: 1 / 0
    raise RuntimeError("CUDA error: an illegal memory access")

def lacks(device):
    from gpu_runner import Missing
    raise Missing("not installed")

def naps(device):
    time.sleep(0.7)
    return {}

def fails_to_compile(device):
    import pykeops.torch
    from keopscore.config import config
    Path(config.get_build_folder(), "made.cu").write_text("__global__ void broken(")
    raise ValueError("[KeOps] Error : nvrtcResult=6")
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # processes come and go beside other tests


@pytest.fixture
def rows_of(tmp_path, monkeypatch):
    """Runs rows of a module that has a bad day, in one part or several, in so many seconds."""
    import gpu_runner

    (tmp_path / "bad_day.py").write_text(BAD_DAY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(gpu_runner, "LEAST", 0.5)

    def run(*parts, budget=60.0, limit=60.0, start=20.0):
        made = []
        for number, calls in enumerate(parts):
            rows = [
                gpu_runner.Row(f"{k} {call}", f"bad_day.{call}", arguments, of_row)
                for k, (call, arguments, of_row) in enumerate(calls)
            ]
            made.append(gpu_runner.Part(f"part {number}", tuple(rows), limit))
        return list(gpu_runner.run(made, "cpu", budget, tmp_path / "keops", start))

    return run


def call(name, limit=10.0, **arguments):
    return name, arguments, limit


def running(pid):
    """Whether a process still runs: what nobody has waited for has no command any more."""
    path = Path("/proc") / pid / "cmdline"
    return path.exists() and path.read_bytes() != b""


# ------------------------------------------------------------------------------ processes


def test_what_fails_loses_its_row_alone(rows_of, tmp_path):
    pid = tmp_path / "pid"
    found = rows_of([
        call("fine"), call("raises"), call("fine"), call("hangs", 2.5, pid=str(pid)), call("lacks"), call("dies"),
        call("fine"),
    ])  # fmt: skip
    fine, raises, again, hangs, lacks, dies, last = found
    assert [row["status"] for row in found] == ["ok", "failed", "ok", "failed", "not run", "failed", "ok"]
    assert raises["remark"] == "ZeroDivisionError: division by zero"
    assert "in raises\n    return 1 / 0" in raises["evidence"]["traceback"]
    assert "last words" in raises["evidence"]["the end of its output"]
    assert hangs["remark"] == "stopped at its limit of 2 s"
    (stood,) = hangs["evidence"].values()
    assert "in hangs" in stood and "bad_day.py" in stood
    assert not running(pid.read_text())  # its children end with it
    assert lacks["remark"] == "not installed"
    assert dies["remark"] == "its process was killed by signal 11 (SIGSEGV)"
    assert "Segmentation fault" in dies["evidence"]["the end of its output"]
    assert all("evidence" not in row for row in (fine, again, last, lacks))


def test_processes_that_end_badly(rows_of):
    """One whose device answers no more is replaced; one that fails at its end has a row for it."""
    spoils, badly, end = rows_of([call("spoils"), call("ends_badly")])
    assert spoils["remark"] == "RuntimeError: CUDA error: an illegal memory access"
    assert badly["status"] == "ok"
    assert (end["name"], end["remark"]) == ("the end of a process", "its process ended with exit code 7")


def test_a_measurement_that_takes_too_long_is_no_failure(tmp_path, monkeypatch):
    import gpu_runner

    (tmp_path / "bad_day.py").write_text(BAD_DAY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    row = gpu_runner.Row("slow", "bad_day.hangs", {"pid": str(tmp_path / "pid")}, 0.5, gpu_runner.SOLVE)
    (found,) = gpu_runner.run([gpu_runner.Part("solves", (row,), 20.0)], "cpu", 20.0, tmp_path / "keops", 20.0)
    assert (found["status"], found["remark"]) == ("not run", "stopped at its limit of 0 s")
    assert found["table"] == "solve" and found["first"] == 0.25 and "in hangs" in str(found["evidence"])


def test_wrong_results_fail(rows_of):
    right, wrong, nan = rows_of([call("wrong", error=0.1), call("wrong", error=0.2), call("wrong", error="nan")])
    assert [row["status"] for row in (right, wrong, nan)] == ["ok", "failed", "failed"]
    assert "the value" in wrong["evidence"]["what was compared"]


def test_rows_in_the_time_that_there_is(rows_of):
    """Two parts, of which each has time for some of its rows, in 6 seconds."""
    start = time.monotonic()
    naps = [call("naps")] * 9
    found = rows_of(naps, naps, limit=3.0, budget=6.0)
    assert time.monotonic() - start < 6 + 2
    for number in range(2):
        rows = [row for row in found if row["part"] == f"part {number}"]
        statuses = [row["status"] for row in rows]
        done = statuses.count("ok")
        assert 1 <= done < 5 and statuses == ["ok"] * done + ["not run"] * (9 - done)
        assert rows[-1]["remark"] == ("the time is over that this part has", "the time is over")[number]


def test_a_part_gets_what_the_one_before_left(rows_of):
    found = rows_of([call("fine")], [call("naps")] * 3, limit=6.0, budget=12.0)
    assert [row["status"] for row in found] == ["ok"] * 4


def test_processes_that_do_not_start(rows_of, tmp_path):
    (tmp_path / "bad_day.py").write_text("import os\nos._exit(7)")
    found = rows_of([call("fine"), call("fine")])
    assert [row["remark"] for row in found] == ["its process did not start: its process ended with exit code 7"] * 2
    (tmp_path / "bad_day.py").write_text("import time\ntime.sleep(60)")
    found = rows_of([call("fine"), call("fine")], start=1.5)
    assert [row["remark"] for row in found] == ["its process did not start: 2 s were not enough"] * 2
    assert all("bad_day.py" in row["evidence"]["the end of its output"] for row in found)


def test_generated_code_is_kept(rows_of, tmp_path):
    failed, fine = rows_of([call("fails_to_compile", 50.0), call("fine")])
    assert failed["evidence"]["generated: made.cu"] == "__global__ void broken("
    assert f"build folder: {tmp_path / 'keops'}" in failed["evidence"]["how KeOps compiles"]
    assert fine["status"] == "ok"


def test_an_index_cut_short_is_made_again(rows_of, tmp_path):
    """KeOps writes it at exit, and cannot be imported where it is damaged."""
    index = tmp_path / "keops" / "machine" / "of_formulas_cache.pkl"
    index.parent.mkdir(parents=True)
    index.touch()
    rows_of([call("fine")])
    assert index.exists()
    written, old = tmp_path / "keops" / "just_written.so", tmp_path / "keops" / "old.so"
    written.touch()
    old.touch()
    os.utime(old, (0, 0))
    rows_of([call("dies")])
    assert not index.exists() and not written.exists() and old.exists()


# --------------------------------------------------------------------------------- report


def test_report_is_whole_after_each_row(tmp_path, capsys):
    import gpu_report

    report = gpu_report.Report(tmp_path, "quick", "cuda", planned=3)
    facts = {"device": "NVIDIA H100 80GB HBM3", "nvidia-smi": "a table\nof many lines"}
    report.add({"part": "machine", "name": "what it is", "status": "ok", "remark": "", "facts": facts})
    path = tmp_path / "gpu-nvidia-h100-80gb-hbm3-quick.json"
    assert len(json.loads(path.read_text())["rows"]) == 1
    report.add({
        "part": "sums", "name": "euclidean", "status": "failed", "remark": "row_sums", "seconds": 1.0,
        "error": float("nan"), "tolerance": 1e-5, "evidence": {"traceback": "line 7"},
    })  # fmt: skip
    rows = json.loads(path.read_text())["rows"]
    assert rows[1]["error"] == "nan" and "evidence" not in rows[1] and report.failures == 1
    text = path.with_suffix(".md").read_text()
    assert "1 rows are right, 1 failed, 0 were not run, 1 had not come" in text
    assert "- sums: euclidean: row_sums" in text and "of many lines" not in text
    log = (tmp_path / "gpu-log.txt").read_text()
    assert "of many lines" in log and "--- traceback\nline 7" in log
    assert {p.name for p in tmp_path.iterdir()} == {"gpu-log.txt", path.name, path.with_suffix(".md").name}
    assert capsys.readouterr().out.count("\n") == 2


def test_solves_are_compared_with_what_comes_later(tmp_path):
    import gpu_report

    report = gpu_report.Report(tmp_path, "tiny", "cpu", planned=3)
    solve = dict(part="solves-geomsink", table="solve", status="ok", remark="")
    report.add(solve | {"name": "geomsink; mixtures; 2,000", "first": 2.0})
    report.add(solve | {"name": "geomsink; surfaces; 400", "first": 0.25, "marginal error": 1e-3})
    compared = {"geomsink; surfaces; 400": {"value error": 2e-7, "gradient error": 3e-4}}
    report.add(solve | {"name": "reference; surfaces; 400", "first": 1.0, "compared": compared})
    text = report.path.with_suffix(".md").read_text()
    assert "| 400, surfaces | with gradient | 1e-03 | 0.25 |  |  |" in text
    assert "| 400, surfaces | value | 1e-02 | 0.25 |  |  |" in text
    _, surfaces, mixtures = text.split("\n### ")
    assert surfaces.startswith("Surfaces, 400 points") and mixtures.startswith("Mixtures, 2,000 points")
    first, second = surfaces.splitlines()[4:6]
    assert first.startswith("| reference | 1 |")
    assert second.startswith("| geomsink | 0.25 |  |  | 2e-07 | 3e-04 | 1e-03 |")
    assert "| geomsink | 2 |  |  |  |  |  |" in mixtures


def test_times_and_names_of_the_table():
    import gpu

    assert gpu.SIZES["quick"].budget == 230 and gpu.SIZES["full"].budget == 377
    for size in gpu.SIZES.values():
        for part in gpu.table(size, "", ""):
            names = [row.name for row in part.rows]
            assert names and len(set(names)) == len(names)
            assert all(row.arguments.get("seconds", row.limit) == row.limit <= part.limit for row in part.rows)


# --------------------------------------------------------------------------------- checks


def named(*names):
    """Rows of the smallest report."""
    import gpu

    rows = {
        row.name: row for part in gpu.table(gpu.SIZES["tiny"], str(BENCHMARKS / "nothing"), "") for row in part.rows
    }
    return [rows[name] for name in names]


CHECKED = (
    "blocks, dense, float32", "geodesic, dense, float64", "sqeuclidean, dense, float32", "reach, dense, float64",
    "Hessian times a vector, dense", "batch, list, euclidean, dense", "batch, mmd, dense",
    "batch, padded, sharp, dense", "plan, dense", "strongest entries and samples of a plan, dense", "maps, dense",
    "pickles and copies, dense", "certificates, dense", "mmd, energy, dense, float32", "small blurs and clusters",
)  # fmt: skip


def outcome(row):
    import importlib

    module, _, function = row.call.rpartition(".")
    return getattr(importlib.import_module(module), function)(device="cpu", **row.arguments)


@pytest.mark.parametrize("name", CHECKED)
def test_checks_pass_and_can_fail(name, monkeypatch):
    """The same once more with costs of the textbook that are 2 % off."""
    import gpu_dense

    (row,) = named(name)
    result = outcome(row)
    assert result["error"] <= result["tolerance"]
    exact = gpu_dense.cost
    monkeypatch.setattr(gpu_dense, "cost", lambda *given: 1.02 * exact(*given))
    result = outcome(row)
    assert result["error"] > result["tolerance"]


def test_marginal_error(monkeypatch):
    """Against the plan as a matrix, of potentials that are off; over some rows and columns it is an estimate."""
    import gpu_solves

    x, y, f, g = (0.3 * torch.randn(*shape, dtype=torch.float64) for shape in ((30, 2), (20, 2), (30,), (20,)))
    P = ((f[:, None] + g - 0.5 * torch.cdist(x, y) ** 2) / 0.2**2).exp() / (30 * 20)
    expected = (P.sum(1) - 1 / 30).abs().sum() + (P.sum(0) - 1 / 20).abs().sum()
    monkeypatch.setattr(gpu_solves, "ENTRIES", 100)
    assert gpu_solves.marginal_error(x, y, (f, g), 0.2) == pytest.approx(float(expected), rel=1e-12)
    monkeypatch.setattr(gpu_solves, "ALL", 10)
    assert gpu_solves.marginal_error(x, y, (f, g), 0.2) == pytest.approx(float(expected), rel=1e-12)
    monkeypatch.setattr(gpu_solves, "SAMPLED", 1)
    assert gpu_solves.marginal_error(x, y, (f, g), 0.2) != pytest.approx(float(expected), rel=1e-3)


def test_solves(tmp_path):
    """A first solve, the reference that it is compared with, one that is compared at once, and one without time."""
    import gpu_runner
    import gpu_solves

    place = dict(shape="mixtures", n=60, shared=str(tmp_path), folder=str(tmp_path))
    asked = [dict(name=name, seconds=20.0, after=None) for name in ("geomsink", "geomsink, tol 1e-2")]
    first = gpu_solves.solve("cpu", **asked[0], **place)
    truth = gpu_solves.reference("cpu", **place, seconds=20.0, after=None, tol=1e-9, dtype="float64")
    second = gpu_solves.solve("cpu", **asked[1], **place)
    assert truth["marginal error"] < 1e-8 and f"S_ε = {truth['S']:.9g}" in truth["remark"]
    (row,) = truth["compared"].items()
    assert row[0] == "geomsink; mixtures; 60"
    for errors, most in ((row[1], 1e-3), (second, 1e-2)):
        assert errors["value error"] < 0.1 * most and errors["gradient error"] < 10 * most
    for report in (first, second):
        assert report["marginal error"] < 1e-2 and {"first", "value", "with gradient"} <= set(report)
    late = dict(name="geomsink", shape="mixtures", n=60, times=1e9)
    with pytest.raises(gpu_runner.Missing, match="would take more than the 20 s that it has: geomsink with 60 points"):
        gpu_solves.solve("cpu", **asked[0] | {"after": late}, **place)
    with pytest.raises(gpu_runner.Missing, match="geomsink with 7 points did not come to its end"):
        gpu_solves.solve("cpu", **asked[0] | {"after": late | {"n": 7}}, **place)


def test_problems_and_peers_that_are_not_there(tmp_path):
    import gpu_runner

    for row in named("solved problem bunny-igea-blur0.05, keops, float32", "FlashSinkhorn; surfaces; 400"):
        with pytest.raises(gpu_runner.Missing, match="not in|not installed|CUDA alone"):
            outcome(row)


def test_tiny_report(tmp_path):
    """Some parts of it, as they are run by hand."""
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--tiny", "--device", "cpu", "--out", str(tmp_path)]
    done = subprocess.run([*command, "--parts", "rates"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu-cpu-tiny.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert len(rows) == report["rows planned"] == 3
    assert rows["KeOps and its first formula"]["status"] == "ok"
    assert rows["geomsink, keops, float32; 3; 1,000"]["speeds"]["row_sums"] > 1e6
    assert "| geomsink, keops, float32 | 3 | 1,000 |" in (tmp_path / "gpu-cpu-tiny.md").read_text()
    assert f"torch: {report['facts']['torch']}" in (tmp_path / "gpu-log.txt").read_text()
