"""What is left when a solve, or a command, is ended from outside."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from geomsink import shapes

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX")]

INTERRUPTED = """
    import os, random, signal, threading, numpy as np, torch, geomsink
    x, y = (geomsink.shapes.procedural(name, 300) for name in ("knot", "star"))
    loss, draw = geomsink.SinkhornDivergence(blur=0.05, tol=1e-6), random.Random(0)
    def value():
        z = torch.from_numpy(x).requires_grad_()
        found = loss(z, torch.from_numpy(y))
        found.backward()
        assert z.grad.isfinite().all()
        return float(found)
    expected, left = value(), 0
    for _ in range(12):
        try:
            threading.Timer(draw.uniform(0.001, 0.1), lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            while True:
                loss.blur = draw.uniform(0.03, 0.2)
                value()
        except KeyboardInterrupt:
            left += 1
        loss.blur = 0.05
        assert abs(value() / expected - 1.0) < 1e-5
    print(left)
"""


def test_interruptions_leave_a_loss_that_is_right():
    """At any moment of solves and gradients that start from the last ones."""
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.stdout == "12\n" and done.returncode == 0, done.stderr


WRITING = """
    import os, sys, time
    from geomsink.__main__ import main
    synced = os.fsync
    def slow(handle):
        synced(handle)
        print("writing", flush=True)
        time.sleep(60)
    if sys.argv.pop(1) == "while writing":
        os.fsync = slow
    main()
"""


def ended(folder: Path, when: str, *arguments: str) -> tuple[int, str]:
    """Exit code and last words of a command that SIGTERM ends while it solves, or while it writes."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", textwrap.dedent(WRITING), when, *arguments]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as done:
        said = ""
        stream, word = (done.stdout, "writing") if when == "while writing" else (done.stderr, "ε")
        while word not in said:
            letter = stream.read(1)
            assert letter, said
            said += letter
        done.send_signal(signal.SIGTERM)
        _, errors = done.communicate(timeout=120)
    return done.returncode, errors


@pytest.mark.parametrize("when", ["while writing", "while solving"])
def test_a_terminated_command_leaves_files_whole_or_as_they_were(when, tmp_path):
    pytest.importorskip("click")
    pytest.importorskip("tqdm")
    for name in ("x", "y"):
        shapes.write(tmp_path / f"{name}.npz", np.random.default_rng(len(name)).random((1200, 3)))
    (tmp_path / "out.ply").write_bytes(b"before")
    hard = ("--blur", "0.0005", "--tol", "1e-12", "--max-iter", "1000000", "--progress", "--engine", "dense")
    easy = ("--blur", "1.0")
    code, said = ended(
        tmp_path, when, "transfer", "x.npz", "y.npz", "--out", "out.ply", *(easy if when == "while writing" else hard)
    )
    assert code == 143 and said.endswith("geomsink: terminated.\n") and "Traceback" not in said
    assert (tmp_path / "out.ply").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.ply", "x.npz", "y.npz"]
