"""Commands that several processes do together: the result is that of one, it is said once, and all end."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from geomsink import generative, shapes

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("tqdm")
from cli_tools import run, run_json
from outcomes import launched, needs_gloo

pytestmark = needs_gloo
DIVERGENCE = ("divergence", "torus.npy", "star.npy", "--blur", "0.2", "--timeout", "20")
FIT = ("fit", "torus.npy", "--out", "out", "--batch", "30", "--inner", "4", "--held-out", "40", "--every", "2",
       "--engine", "dense", "--steps", "4", "--timeout", "20")  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    np.save("torus.npy", 3.0 * shapes.sample("shape:torus", 2000, seed=0) - 1.0)
    np.save("star.npy", shapes.sample("shape:star", 1501, seed=1).astype(np.float64))


def said(outcomes):
    """Of each command the codes, what all processes have printed on stdout together, and on stderr but for warnings."""
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    for line in zip(*(outcome.value for outcome in outcomes), strict=True):
        codes, out, err = zip(*line, strict=True)
        yield list(codes), "".join(out), without_warnings("".join(err))


def without_warnings(text):
    return "".join(line for line in text.splitlines(keepends=True) if "not converged" not in line)


def test_a_divergence_under_torchrun():
    expected, _ = run_json(*DIVERGENCE)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
               "-m", "geomsink", *DIVERGENCE, "--json"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["value"] == pytest.approx(expected["value"], rel=1e-5)
    assert (report["processes"], report["converged"]) == (2, True) and report["bytes"] > 1000
    for side in "xy":
        assert report[side] == expected[side]


def test_a_divergence_of_folders_is_said_once():
    for name in ("torus", "star"):
        Path(f"{name}s").mkdir()
        for k, part in enumerate(np.array_split(np.load(f"{name}.npy"), 3)):
            np.save(f"{name}s/{k}.npy", part)
    expected, _ = run_json("divergence", "torus.npy", "star.npy", "--blur", "0.2")
    ((codes, out, err),) = said(launched(2, ["divergence", "toruss", "stars", "--blur", "0.2"]))
    assert codes == [0, 0] and err == ""
    rows = dict(re.split("  +", line.strip(), maxsplit=1) for line in out.splitlines())
    assert float(rows["Sinkhorn divergence"]) == pytest.approx(expected["value"], rel=1e-5)
    assert rows["A"] == "toruss, 2,000 points in dimension 3" and rows["processes"].startswith(
        "2, each with its part; "
    )


REFUSED = [
    (["divergence", "none.npy", "star.npy"], [2, 2], "path: there is no file none.npy.\n"),
    (["divergence", "-", "star.npy"], [2, 2],
     "standard input: given to several processes, expected a file, which all of them can read.\n"),
    (["divergence", "torus.npy", "star.npy", "--plot", "a.png"], [2, 2],
     "--plot: a.png given to several processes, of which none has all points; expected none.\n"),
    (["divergence", "torus.npy", "star.npy", "--blur", "-1"], [2, 2], "blur: -1.0 given"),
    (["divergence", "torus.npy", "star.npy", "--timeout", "-1"], [2, 2],
     "timeout: -1.0 given, expected a positive number of seconds.\n"),
    (["divergence", "torus.npy", "--blurr"], [2, 2], "Usage: geomsink divergence"),
    (["sketch", "torus.npy", "--out", "a.npz"], [2, 2],
     "sketch: started as one of several processes, expected one; those can do divergence and fit together.\n"),
    (["divergence", ["torus.npy", "none.npy"], "star.npy"], [4, 2], "path: there is no file none.npy.\n"),
    (["divergence", "torus.npy", "star.npy", "--blur", ["0.2", "0.3"]], [4, 4], "reading: reading is "),
]  # fmt: skip


def test_what_is_refused_is_said_once():
    outcomes = launched(2, *(line for line, _, _ in REFUSED))
    for (line, codes, why), (found, out, err) in zip(REFUSED, said(outcomes), strict=True):
        assert (found, out) == (codes, ""), (line, err)
        assert err.startswith(why if why.startswith("Usage") else f"geomsink: {why}"), line
        assert err.count("geomsink: ") <= 1 and err.count("Error: ") <= 1, line


def killed_while_reading(rank):
    if rank == 1:
        shapes.load = lambda *args: os.kill(os.getpid(), signal.SIGKILL)


def stopped_while_reading(rank):
    if rank == 1:
        shapes.load = lambda *args: os.kill(os.getpid(), signal.SIGSTOP)


def no_memory(rank):
    def load(*args):
        raise MemoryError

    if rank == 1:
        shapes.load = load


@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        (killed_while_reading, "reading: process 0 of 2 has lost process 1, which has ended or given up"),
        (stopped_while_reading, "reading: process 0 of 2 has waited 2 s for process 1, which has ended, hangs"),
    ],
)
def test_a_process_that_is_lost(sabotage, said):
    line = (*DIVERGENCE[:-1], "2")
    lost, _ = launched(2, line, sabotage=sabotage, ended=(0,), within=12.0)
    ((code, out, err),) = lost.value
    assert (code, out) == (4, "") and err.startswith(f"geomsink: {said}") and err.count("\n") == 1


def expects_another(rank):
    os.environ["WORLD_SIZE"] = "2"


def test_a_process_that_is_alone():
    ((code, out, err),) = launched(1, (*DIVERGENCE[:-1], "1"), sabotage=expects_another, within=15.0)[0].value
    assert (code, out) == (2, "") and err.startswith(
        "geomsink: RANK=0, WORLD_SIZE=2, MASTER_ADDR=127.0.0.1, MASTER_PORT="
    )
    assert err.endswith("found no other processes there in 1 s, expected torchrun to start them.\n")


def test_a_process_that_has_no_memory():
    ((codes, out, err),) = said(launched(2, DIVERGENCE, sabotage=no_memory))
    assert (codes, out) == ([4, 2], "")
    assert err == "geomsink: there is not enough memory for this; expected smaller clouds or numbers.\n"


# ---------------------------------------------------------------------------- fits


def log_of(folder):
    """Its rows as numbers, without the clock."""
    rows = [line.split(",")[:-1] for line in Path(folder, "log.csv").read_text().splitlines()[1:]]
    return [[float(word) for word in row if word] for row in rows]


def without_figures(rank):
    for module in ("matplotlib", "matplotlib.axes"):
        sys.modules[module] = None
    for module in [name for name in sys.modules if name.startswith("geomsink.plotting")]:
        del sys.modules[module]


def full_disk(rank):
    without_figures(rank)
    if rank == 0:

        def write(*args):
            raise OSError(errno.ENOSPC, "No space left on device", "out/checkpoint-000000002.pt")

        generative.checkpoints.write = write


def killed_in_the_third_step(rank):
    without_figures(rank)
    if rank == 1:
        whole = generative.Trainer._row

        def row(self):
            if self.step == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(self)

        generative.Trainer._row = row


def test_a_fit_is_that_of_one_process_and_goes_on():
    first, again = said(launched(2, (*FIT, "--json"), FIT, sabotage=without_figures))
    assert first[0] == [0, 0] and first[2] == ""
    report = json.loads(first[1])  # once
    expected, code = run_json(*FIT[:3], "alone", *FIT[4:])
    assert code == 0 and (report["steps"], report["stopped"]) == (4, "steps")
    assert report["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    for ours, theirs in zip(log_of("out"), log_of("alone"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-4)  # norms, and errors of float32
    weights = generative.load("out").state_dict(), generative.load("alone").state_dict()
    torch.testing.assert_close(*weights, rtol=0, atol=1e-4)
    files = {path.name for path in Path("out").iterdir()}
    assert files == {"checkpoint-000000002.pt", "checkpoint-000000004.pt", "frame.json", "log.csv"}
    assert again[0] == [0, 0] and again[2] == "geomsink: resumed from step 4 in out.\n"


def test_a_full_disk_ends_all_and_leaves_nothing():
    ((codes, out, err),) = said(launched(2, FIT, sabotage=full_disk))
    assert (codes, out) == ([2, 4], "") and err == "geomsink: out/checkpoint-000000002.pt: No space left on device.\n"
    assert not Path("out").exists()


def test_a_killed_process_leaves_what_can_be_gone_on_from():
    survivor, _ = launched(2, FIT, sabotage=killed_in_the_third_step, ended=(0,), within=30.0)
    ((code, out, err),) = survivor.value
    assert (code, out) == (4, "") and without_warnings(err) == (
        "geomsink: fit: process 0 of 2 has lost process 1, which has ended or given up; see what it printed.\n"
    )
    assert {path.name for path in Path("out").iterdir()} == {"checkpoint-000000002.pt", "frame.json", "log.csv"}
    assert len(log_of("out")) == 2
    assert without_warnings(run(*FIT).stderr) == "geomsink: resumed from step 2 in out.\n"
    assert len(log_of("out")) == 4
