"""Training that is killed at random moments, twenty times, ends with the numbers of training that was not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from geomsink.generative import Ellipse, checkpoints, load

pytestmark = pytest.mark.slow
KILLS = 20
STEPS = 180

# One long-lived parent has imported everything; children are forked from it, and killed.
SCRIPT = """
import os, random, signal, sys, time, warnings
from pathlib import Path
import torch
from geomsink import MMD
from geomsink.generative import Ellipse, Trainer, checkpoints

torch.set_num_threads(1)
warnings.simplefilter("error")  # a checkpoint that had to be passed over
folder, kills, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))

def trainer(folder, checkpoint_every=1):
    options = dict(batch=10, optimizer="adam", lr=0.01, average=0.9, held_out=5, evaluate_every=2, folder=folder)
    return Trainer(Ellipse(), data, MMD(kernel="energy"), steps=steps, checkpoint_every=checkpoint_every, **options)

def child():
    pid = os.fork()
    if not pid:
        try:
            trainer(folder).train()
            os._exit(0)
        except BaseException as error:
            print("child:", repr(error), flush=True)
            os._exit(1)
    return pid

trainer(None)  # what torch imports late is imported now
def done():
    return max((int(path.stem[-9:]) for path in checkpoints.existing(Path(folder))), default=0)

draw = random.Random(0)
for _ in range(kills):
    wanted, pid = done() + draw.randint(0, 6), child()
    while done() < wanted and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.001)
    time.sleep(draw.uniform(0, 0.015))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    found = checkpoints.newest(Path(folder))
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else "ended", found[1]["step"] if found else 0, flush=True)
print("last", os.waitpid(child(), 0)[1], flush=True)
trainer(folder + "-whole", 1000).train()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here, which this system cannot")
def test_kills_at_random_moments_change_nothing(tmp_path):
    folder = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, str(KILLS), str(STEPS)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *kills, last = (line.split() for line in done.stdout.splitlines())
    steps = [int(step) for _, step in kills]
    assert last == ["last", "0"], done.stdout
    assert [how for how, _ in kills] == [str(int(signal.SIGKILL))] * KILLS, "a run had ended before it was killed"
    assert steps == sorted(steps) and len(set(steps)) > KILLS // 2 and steps[-1] < STEPS
    (_, found), (_, expected) = (checkpoints.newest(path) for path in (folder, tmp_path / "run-whole"))
    assert found["step"] == STEPS
    for name in ("generator", "average"):
        for key, tensor in expected[name].items():
            assert torch.equal(found[name][key], tensor)
    for key, one in expected["optimizer"]["state"].items():
        assert all(torch.equal(one[name], found["optimizer"]["state"][key][name]) for name in one)
    assert isinstance(load(folder), Ellipse)

    def rows(path):
        return [line.rpartition(",")[0] for line in (path / "log.csv").read_text().splitlines()]  # without seconds

    assert rows(folder) == rows(tmp_path / "run-whole") and len(rows(folder)) == STEPS + 1
