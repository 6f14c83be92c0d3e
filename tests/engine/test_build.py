"""The functions of vectormath.h on their own, and flags; whole processes are in test_builds.py."""

import ctypes
import functools
import os
import time

import numpy as np
import pytest
import torch

from geomsink import costs, engine
from geomsink.engine import build, codegen

HARNESS = """
#include "vectormath.h"
#define LOOP(NAME, TYPE, CALL) extern "C" void NAME(const TYPE *x, const TYPE *y, TYPE *out, int64_t n) {       \\
    for (int64_t i = 0; i < n; i++) out[i] = geomsink::CALL; }
LOOP(exp_float32, float, exp(x[i]))
LOOP(exp_float64, double, exp(x[i]))
LOOP(log_float32, float, log(x[i]))
LOOP(log_float64, double, log(x[i]))
LOOP(powf_float32, float, powf(x[i], y[i]))
LOOP(powf_float64, double, powf(x[i], y[i]))
LOOP(atan2_float32, float, atan2(x[i], y[i]))
LOOP(atan2_float64, double, atan2(x[i], y[i]))
"""
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Runs a function of vectormath.h over arrays, vectorised as in a reduction."""
    path = tmp_path_factory.mktemp("vectormath") / "harness.so"
    assert build._compile(HARNESS, path, build.flags()) == ""
    library = ctypes.CDLL(str(path))

    def run(name, x, y=0.0):
        x = np.ascontiguousarray(x)
        y = np.ascontiguousarray(np.broadcast_to(np.asarray(y, x.dtype), x.shape))
        out = np.empty_like(x)
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in (x, y, out))
        getattr(library, f"{name}_{x.dtype.name}")(*pointers, ctypes.c_int64(len(x)))
        return out

    return run


def exact(x):
    """Twice the digits, or nearly: the reference's own rounding does not count."""
    return x.astype(np.longdouble if x.dtype == np.float64 else np.float64)


def worst(found, expected):
    """Largest relative error, in units of the precision's rounding; zero for two zeros."""
    scale = np.where(expected == 0, 1, np.abs(expected))
    return float((np.abs(found - expected) / scale).max() / np.finfo(found.dtype).eps)


def logarithmic(dtype, low, high, n=300_000):
    return np.exp(RANDOM.uniform(np.log(low), np.log(high), n)).astype(dtype)


@DTYPES
def test_exp(call, dtype):
    low, high = (-87, 88) if dtype == np.float32 else (-708, 709)
    spread = np.r_[RANDOM.uniform(low, high, 500_000), RANDOM.uniform(-1, 1, 200_000), -logarithmic(float, 1e-30, 1)]
    x = spread.astype(dtype)
    assert worst(call("exp", x), np.exp(exact(x))) < 1.5
    ends = call("exp", np.array([-np.inf, low - 1, low, 0.0, high, high + 1, np.inf, np.nan], dtype))
    assert ends[0] == ends[1] == ends[2] < 2 * np.finfo(dtype).tiny and ends[3] == 1
    assert ends[4] == ends[5] == ends[6] > 0.3 * np.finfo(dtype).max and np.isnan(ends[7])


@DTYPES
def test_log(call, dtype):
    bounds = np.finfo(dtype)
    near = np.r_[RANDOM.uniform(0.4, 2.5, 300_000), 1 + RANDOM.uniform(-1e-3, 1e-3, 100_000)].astype(dtype)
    x = np.r_[logarithmic(dtype, bounds.tiny, bounds.max), near, dtype(1)]
    # Relative, at 1 too, where log is small: from m - 1 without cancellation.
    assert worst(call("log", x), np.log(exact(x))) < 4


@DTYPES
@pytest.mark.parametrize("y", [0.05, 0.25, 0.5, 0.75, 1.0])
def test_powf(call, dtype, y):
    x = logarithmic(dtype, 1e-30, 1e30)
    expected = exact(x) ** exact(np.array(y, dtype))
    # exp(t) with t = y log x: the rounding of t, relative, is multiplied by t.
    assert worst(call("powf", x, y), expected) < 2 + 3 * y * np.log(1e30)
    assert call("powf", np.array([0, 1], dtype), y).tolist() == [0, 1]


@DTYPES
def test_atan2(call, dtype):
    small = logarithmic(float, 1e-18, 1)
    angle = np.r_[RANDOM.uniform(0, np.pi / 2, 300_000), small, np.pi / 2 - small]
    for radius in (2.0, 1e-6, 1e6):
        y, x = (radius * np.sin(angle)).astype(dtype), np.abs(radius * np.cos(angle)).astype(dtype)
        assert worst(call("atan2", y, x), np.arctan2(exact(y), exact(x))) < 5
    ends = call("atan2", np.array([0, 0, 2, np.nan, 1], dtype), np.array([0, 2, 0, 1, np.nan], dtype))
    assert ends[:2].tolist() == [0, 0] and np.isnan(ends[3:]).all()
    assert worst(ends[2:3], np.array([np.pi / 2])) <= 2


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """The build as a new process finds it, with a compiler that refuses one flag."""

    def start(refused):
        wrapper = tmp_path / "picky"
        wrapper.write_text(f'#!/bin/sh\nfor a in "$@"; do [ "$a" = "{refused}" ] && exit 1; done\nexec g++ "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setenv("CXX", str(wrapper))
        monkeypatch.setenv("GEOMSINK_CACHE", str(tmp_path / "cache"))
        for name in ("compiler", "flags", "folder"):
            monkeypatch.setattr(build, name, functools.cache(getattr(build, name).__wrapped__))
        monkeypatch.setattr(build, "_loaded", {})

    return start


@pytest.mark.parametrize("refused", ["--param", "-march=native"])
def test_a_flag_that_is_refused_is_left_out(fresh, refused, recwarn):
    folder = build.folder()
    fresh(refused)
    assert refused not in build.flags() and "-fno-math-errno" in build.flags()
    assert build.folder().name != folder.name  # libraries of other flags are not mixed up
    x = torch.rand(90, 3, dtype=torch.float64)
    zero = torch.zeros(90, dtype=torch.float64)
    found = engine.KeopsPair(x, x, costs.get("sqeuclidean")).row_sums(zero, zero, 0.5)
    torch.testing.assert_close(found, (-(torch.cdist(x, x) ** 2) / 0.5).exp().sum(1), rtol=1e-13, atol=0)
    assert len(list(build.folder().glob("*.so"))) == 1 and not recwarn.list


def test_a_broken_formula_says_what_the_compiler_said(fresh, monkeypatch):
    fresh("nothing")
    monkeypatch.setattr(codegen, "source", lambda formula: "this is no C++;\n")
    with pytest.raises(build.BuildError, match="the C.. compiler failed on Sum_Reduction.*error"):
        engine.KeopsPair(torch.rand(5, 3), torch.rand(6, 3), costs.get("euclidean")).row_sums(
            torch.zeros(5), torch.zeros(6), 1.0
        )
    assert not list(build.folder().iterdir())


ANSWER = build.Program("answer", 'extern "C" int answer() { return 1; }')


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The choice of a folder as a new process makes it: a shared one is asked for, and the user has one, too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("GEOMSINK_CACHE", str(tmp_path / "shared"))
    monkeypatch.setattr(build, "folder", functools.cache(build.folder.__wrapped__))
    monkeypatch.setattr(build, "_loaded", {})
    return tmp_path / "shared" / build._key()


def planted(folder):
    """A library of the right name and checksum that is not what it says."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "planted.so"
    assert build._compile('extern "C" int answer() { return 2; }', path, ("-shared", "-fPIC")) == ""
    return path.rename(folder / f"{build._name(ANSWER)}-{build._checksum(path)}.so")


@pytest.mark.parametrize("what", ["group", "everyone", "owner", "link"])
def test_code_from_a_folder_of_others_is_not_run(elsewhere, what, tmp_path):
    library = planted(elsewhere if what != "link" else tmp_path / "other")
    if what == "owner":
        if os.getuid():
            pytest.skip("needs root, to give a folder away")
        os.chown(elsewhere, 12345, 12345)
    elif what == "link":
        elsewhere.parent.mkdir()
        elsewhere.symlink_to(tmp_path / "other")
    else:
        elsewhere.chmod(0o770 if what == "group" else 0o777)
    with pytest.warns(UserWarning, match="belongs to others or can be written by them: compiled reductions go to"):
        assert build.load(ANSWER).answer() == 1
    assert build.folder() == tmp_path / "own" / "geomsink" / build._key()
    assert build.folder().stat().st_mode & 0o777 == 0o700 and library.exists()


def test_folders_and_files_are_looked_at_again_when_code_is_loaded(elsewhere):
    build.folder()
    library = planted(elsewhere)
    library.chmod(0o777)
    assert build.load(ANSWER).answer() == 1 and not library.exists()
    (built,) = elsewhere.glob("*.so")
    assert built.stat().st_mode & 0o777 == 0o700
    build._loaded.clear()
    elsewhere.chmod(0o777)
    with pytest.warns(UserWarning, match="can be written by them"):
        build.load(ANSWER)
    assert build.folder() != elsewhere


def test_a_relative_cache_home_is_ignored_and_what_was_left_over_is_cleared(elsewhere, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GEOMSINK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / ".cache" / "geomsink" / build._key()
    folder.mkdir(parents=True)
    for name in ("tmpold.tmp", "tmpnew.tmp"):
        (folder / name).touch()
    os.utime(folder / "tmpold.tmp", (time.time() - 7200,) * 2)
    assert build.folder() == folder and not (tmp_path / "here").exists()
    assert [path.name for path in folder.iterdir()] == ["tmpnew.tmp"]
