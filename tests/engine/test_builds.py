"""Compiling: in other processes, since what is tested is what a process starts with."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SOLVE = """
    import sys, warnings, numpy as np
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        import geomsink
        x = np.random.default_rng(0).random((2300, 3))
        options = dict(blur=0.2, multiscale=False)
        results = [geomsink.solve(x, x[:2000] + 0.1, engine=engine, **options) for engine in sys.argv[1:]]
    print(*(f"{r.value:.12f} {r.engine}" for r in results), sep="\\n")
    ours = [w for w in said if "geomsink" in str(w.filename) or "engine" in str(w.message)]
    print(*(f"said: {w.message}" for w in ours), sep="\\n")
"""


def python(script: str, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done


def values(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("said:")]


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.so"))


@pytest.fixture(scope="module")
def expected() -> str:
    """What the dense engine says."""
    return values(python(SOLVE, "dense").stdout)[0].split()[0]


def agrees(line: str, expected: str, engine: str) -> None:
    value, name = line.split()
    assert name == engine and float(value) == pytest.approx(float(expected), rel=1e-10)


def test_no_compiler(tmp_path, expected):
    """The dense engine takes over and says so once; the compiled one, asked for by name, says what to install."""
    nowhere = {"PATH": str(tmp_path), "CXX": ""}
    done = python(SOLVE, "auto", "auto", **nowhere)
    for line in values(done.stdout):
        agrees(line, expected, "dense")
    said = [line for line in done.stdout.splitlines() if line.startswith("said:")]
    assert said == [
        "said: the dense engine is used, which is slower: no C++ compiler was found: install g++, or name one in the "
        "environment variable CXX."
    ]
    refused = python(SOLVE, "keops", check=False, **nowhere)
    assert refused.returncode == 1 and "BuildError: no C++ compiler was found: install g++" in refused.stderr


def test_flags_that_the_compiler_refuses(tmp_path, expected):
    """A compiler that takes KeOps' flags alone: slower, said, and right."""
    wrapper = tmp_path / "picky"
    wrapper.write_text('#!/bin/sh\ncase "$*" in *-fno-math-errno*|*-fno-trapping-math*) exit 1;; esac\nexec g++ "$@"\n')
    wrapper.chmod(0o755)
    done = python(SOLVE, "keops", CXX=str(wrapper), GEOMSINK_CACHE=str(tmp_path / "cache"))
    agrees(values(done.stdout)[0], expected, "keops")
    assert f"said: {wrapper} refuses geomsink's flags; KeOps' own are used" in done.stdout


def test_a_compiler_that_always_fails(tmp_path, expected):
    wrapper = tmp_path / "broken"
    wrapper.write_text('#!/bin/sh\necho "error: licence expired" >&2\nexit 1\n')
    wrapper.chmod(0o755)
    done = python(SOLVE, "auto", CXX=str(wrapper))
    agrees(values(done.stdout)[0], expected, "dense")
    assert "cannot build a shared library: error: licence expired" in done.stdout


def test_two_processes_at_once(tmp_path, expected):
    command = [sys.executable, "-c", textwrap.dedent(SOLVE), "keops"]
    environment = os.environ | {"GEOMSINK_CACHE": str(tmp_path)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    for process in both:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        agrees(values(out)[0], expected, "keops")
    assert libraries(tmp_path) and not list(tmp_path.rglob("*.tmp"))


def test_a_home_that_cannot_be_written(tmp_path, expected):
    """A home below a file: nothing can be created there, by root neither."""
    (tmp_path / "file").write_text("")
    home = {"HOME": str(tmp_path / "file" / "home"), "TMPDIR": str(tmp_path)}
    for name in ("XDG_CACHE_HOME", "GEOMSINK_CACHE", "KEOPS_CACHE_FOLDER"):
        home[name] = ""
    del home["KEOPS_CACHE_FOLDER"]
    done = python(SOLVE, "keops", **home)
    agrees(values(done.stdout)[0], expected, "keops")
    assert "cannot be written: compiled reductions go to" in done.stdout
    assert "set GEOMSINK_CACHE to a folder of your own that can be written" in done.stdout


def test_libraries_are_used_again_and_built_again_where_damaged(tmp_path, expected):
    """Whole ones, then empty ones, ones of garbage, and truncated ones: each by a process that finds them."""
    python(SOLVE, "keops", GEOMSINK_CACHE=str(tmp_path))
    whole = {path: path.stat().st_mtime_ns for path in libraries(tmp_path)}
    sizes = {path: path.stat().st_size for path in whole}
    assert whole and min(sizes.values()) > 5000
    python(SOLVE, "keops", GEOMSINK_CACHE=str(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in libraries(tmp_path)} == whole
    for damage in (b"", b"\x7fELF, but not for long", None):
        for path in libraries(tmp_path):
            path.write_bytes(path.read_bytes()[:5000] if damage is None else damage)
        agrees(values(python(SOLVE, "keops", GEOMSINK_CACHE=str(tmp_path)).stdout)[0], expected, "keops")
        assert all(path.stat().st_size > 5000 for path in libraries(tmp_path))
        assert len(libraries(tmp_path)) >= len(whole)


def test_a_build_folder_deleted_meanwhile(tmp_path):
    script = """
        import os, shutil, torch
        from geomsink import costs, engine
        x = torch.rand(50, 3)
        engine.pair(x, x, costs.get("sqeuclidean"), "keops")
        shutil.rmtree(os.environ["GEOMSINK_CACHE"])
        zero = torch.zeros(50)
        cost = costs.get("euclidean")
        sums = [engine.pair(x, x, cost, name).row_sums(zero, zero, 1.0) for name in ("keops", "dense")]
        print(torch.allclose(*sums))
    """
    assert python(script, GEOMSINK_CACHE=str(tmp_path / "cache")).stdout == "True\n"


def test_other_users_of_keops_are_left_alone(tmp_path):
    """Settings, build folder and results of KeOps used directly are the same before and after."""
    script = """
        import sys, torch, pykeops, keopscore
        from pykeops.torch import LazyTensor
        from keopscore.config import config
        x = torch.rand(60, 3)
        def users():
            K = (-((LazyTensor(x[:, None]) - LazyTensor(x[None])) ** 2).sum(-1) / 0.3).exp()
            return K.sum(1)[:, 0]
        def state():
            return config.get_cpp_flags(), config.get_build_folder(), list(sys.path), pykeops.verbose
        value, before = users(), state()
        from geomsink import costs, engine
        K = engine.Gibbs(engine.pair(x, x, costs.get("sqeuclidean"), "keops"), torch.zeros(60), torch.zeros(60), 0.3)
        assert torch.allclose(K.row_sums(), value, rtol=1e-5)
        assert state() == before and torch.equal(users(), value)
        ours = str(engine.build.folder())
        assert ours.startswith(sys.argv[1]) and config.get_build_folder() not in ours
        print("left alone")
    """
    folders = {"GEOMSINK_CACHE": str(tmp_path), "KEOPS_CACHE_FOLDER": str(tmp_path / "keops")}
    done = python(script, str(tmp_path), **folders)
    assert done.stdout.endswith("left alone\n")


def test_denormals_are_as_the_user_had_them():
    """-ffast-math would link start-up code that flushes them in the whole process."""
    script = """
        import numpy as np, torch
        from geomsink import costs, engine
        tiny = torch.full((100_000,), 1e-38)
        x = torch.rand(2000, 3)
        engine.pair(x, x, costs.get("sqeuclidean"), "keops").row_sums(x[:, 0], x[:, 0], 1.0)
        assert ((tiny / 10) > 0).all(), "flushed in a thread"
        assert np.float32(1e-38) / np.float32(10) > 0 and np.float64(1e-308) / 10 > 0
        print("kept")
    """
    assert python(script).stdout == "kept\n"
