"""Compilers that link their C++ library into what they build."""

import os
import shutil
import subprocess
import sys

import pytest

from geomsink.engine import build, cpplibrary

SYSTEM = shutil.which("g++")
pytestmark = pytest.mark.skipif(SYSTEM is None or sys.platform != "linux", reason="wants g++ on Linux")


@pytest.fixture
def static(tmp_path):
    """A compiler like that."""
    path = tmp_path / "static-g++"
    path.write_text(f'#!/bin/sh\nexec {SYSTEM} "$@" -static-libstdc++\n')
    path.chmod(0o700)
    probe = subprocess.run([path, "-shared", "-fPIC", "-x", "c++", "-", "-o", tmp_path / "a.so"], input=b"int a;")
    if probe.returncode:
        pytest.skip("the C++ library is not there to be linked in")
    return str(path)


def test_another_takes_its_place(static, monkeypatch):
    monkeypatch.setenv("CXX", static)
    assert cpplibrary.other_compiler() == SYSTEM


@pytest.mark.parametrize("given", [None, "", "g++", "/no/such/compiler"])
def test_others_are_left_as_they_are(given, monkeypatch):
    monkeypatch.delenv("CXX", raising=False) if given is None else monkeypatch.setenv("CXX", given)
    assert cpplibrary.other_compiler() is None


def test_where_there_is_no_other(static, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", static)
    monkeypatch.setattr(cpplibrary.shutil, "which", lambda name: static if name in (static, "g++") else None)
    assert cpplibrary.other_compiler() is None


def test_what_was_built_once(static, tmp_path):
    assert cpplibrary.spoilt(tmp_path) is None
    for compiler, expected in ((static, tmp_path / cpplibrary.BUILT), (SYSTEM, None)):
        command = [compiler, "-shared", "-fPIC", "-x", "c++", "-", "-o", tmp_path / cpplibrary.BUILT]
        subprocess.run(command, input=cpplibrary.CODE.encode(), check=True)
        assert cpplibrary.spoilt(tmp_path) == expected


def test_keops_is_imported_with_another_compiler_and_the_environment_stays(static, monkeypatch, tmp_path):
    """What a machine with a GPU does, and one whose cache holds what such a compiler has built."""
    monkeypatch.setenv("CXX", static)
    monkeypatch.setattr(build.torch.cuda, "is_available", lambda: True)
    build.keops()
    monkeypatch.setattr(build, "_kept_at", lambda: str(tmp_path))
    build._imported.cache_clear()
    try:
        build.keops()
        assert os.environ["CXX"] == static
        command = [static, "-shared", "-fPIC", "-x", "c++", "-", "-o", tmp_path / cpplibrary.BUILT]
        subprocess.run(command, input=cpplibrary.CODE.encode(), check=True)
        build._imported.cache_clear()
        with pytest.raises(build.BuildError, match=f"^{tmp_path}/nvrtc_jit.so was built by a compiler .*: delete that"):
            build.keops()
    finally:
        build._imported.cache_clear()
