"""Every command with a hundred bad arguments, in one process: one sentence, exit code 2, nothing written."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("tqdm")
pytest.importorskip("matplotlib")
import click
from click.testing import CliRunner

from geomsink.cli import cli

EACH = 100
WORKING = {
    "divergence": ["a.npy", "b.npy"],
    "sketch": ["a.npy", "--out", "out.npz"],
    "match": ["a.npy", "b.npy"],
    "transfer": ["a.npy", "b.npy", "--out", "out.ply"],
    "barycenter": ["a.npy", "b.npy", "--out", "out.ply"],
    "flow": ["a.npy", "b.npy", "--out", "out.ply"],
    "register": ["a.npy", "b.npy"],
    "fit": ["a.npy", "--out", "out", "--steps", "2", "--batch", "5", "--inner", "2", "--held-out", "5"],
    "sample": ["nothing", "out.ply"],
    "demo": ["--samples", "50", "--engine", "dense"],
    "doctor": [],
}
WHOLE = ["-1", "-99999999999999999999", "x", "1.5", "", "1e3", "0x10", "\x1b[31m"]
HUGE = "99999999999999999"
COUNTS = {"samples", "points", "batch", "held_out", "n"}
"""Options of numbers of points, of which memory has no more than so many."""
REAL = ["nan", "-1", "x", "", "-inf", "1,5", "\x1b[31m"]
FILE = ["", "/", ".", "no/such/folder/a.png", "a.foo", "a", "x" * 5000 + ".png", "a\0.png", "\x1b[2J.foo", "-"]
CLOUD = [
    "", ".", "no.ply", "no", "shape:", "shape:knit", "a\0.npy", "x" * 5000 + ".ply", "\x1b[2J.ply", "a.e57",
    "words.csv", "cut.npy", "nan.npy", "big.ply", "half.obj", "empty.xyz", "bad.ply.gz", "objects.npy", "folder.ply",
    "flat.npz", "zero.off",
]  # fmt: skip
FOLDER = ["", "a.npy", "a.npy/sub", "a\0", "x" * 5000]
SPECIAL = {
    "columns": ["", "q", "9", "0,0", "-1", "0,,1", "0,1,2,3", "a b"],
    "weights": ["", "a,b", "1", "-1,2", "nan,1", "0,0", "inf,1", "1,2,3"],
    "labels": [*FILE, "words.csv", "cut.npy", "nan.npy", "objects.npy"],
    "cost": ["", "hamming", "euclidean:x", "power:-1", "\x1b[31m", "power:nan"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("a.npy", rng.random((6, 3)))
    np.save("b.npy", rng.random((6, 3)))
    Path("cut.npy").write_bytes(Path("a.npy").read_bytes()[:-9])
    np.save("nan.npy", np.full((6, 3), np.nan))
    np.save("objects.npy", np.array([{}], dtype=object))
    np.savez("flat.npz", points=np.zeros(3))
    Path("words.csv").write_text("1,2,3\n4,five,6\n")
    Path("big.ply").write_text("ply\nformat binary_little_endian 1.0\nelement vertex 999999999\nproperty float x\n"
                               "property float y\nproperty float z\nend_header\n")  # fmt: skip
    Path("half.obj").write_text("v 0 0 0\nv 1 0\n")
    Path("bad.ply.gz").write_text("ply")
    Path("zero.off").write_text("OFF\n-3 0 0\n")
    Path("empty.xyz").touch()
    Path("folder.ply").mkdir()
    return tmp_path


def bad_values(parameter):
    if parameter.name in SPECIAL:
        return SPECIAL[parameter.name]
    if isinstance(parameter.type, click.Choice):
        return ["nope", "", "\x1b[31m"]
    if isinstance(parameter.type, click.types.IntParamType):
        return WHOLE + [HUGE] * (parameter.name in COUNTS)
    if isinstance(parameter.type, click.types.FloatParamType):
        return REAL
    return FILE


def bad_lines(name):
    """Arguments of a command, of which one is bad; two, where one at a time does not make a hundred."""
    rng = random.Random(0)
    command, working = cli.commands[name], WORKING[name]
    lines = [[name, *working, extra] for extra in ("--nonsense", "--json=7", "-q", "shape:knit", "\x1b[31m")]
    clouds = list(itertools.takewhile(lambda word: not word.startswith("-"), working))
    for k in range(len(clouds)):
        lines += [[name, *working[:k], bad, *working[k + 1 :]] for bad in CLOUD]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            # A folder of fit is made, if it is not there.
            bad = FOLDER if (name, parameter.name) == ("fit", "out") else bad_values(parameter)
            lines += [[name, *working, parameter.opts[-1], *[value] * parameter.nargs] for value in bad]
    single = list(lines)
    while len(lines) < EACH:
        lines.append([*rng.choice(single), *rng.choice(single)[1 + len(working) :], f"--{rng.random()}"])
    return rng.sample(lines, EACH)


def test_there_are_no_other_commands():
    assert WORKING.keys() == cli.commands.keys()


@pytest.mark.parametrize("name", WORKING)
def test_bad_arguments_are_one_sentence(name, here):
    before = sorted(here.rglob("*"))
    for line in bad_lines(name):
        done = CliRunner().invoke(cli, line)
        assert isinstance(done.exception, SystemExit), (line, done.exception)
        assert (done.exit_code, done.stdout) == (2, ""), (line, done.stderr)
        said = done.stderr.splitlines()
        assert said and "\x1b" not in done.stderr and "Traceback" not in done.stderr, (line, said)
        assert said[0].startswith("Usage: ") or (len(said) == 1 and said[0].startswith(("geomsink: ", "Error: "))), said
        assert sorted(here.rglob("*")) == before, line
