"""What is packed: the wheel has every file of the package, and the source archive every file of the checkout."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import geomsink

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
REQUIREMENT = re.compile(r'"([A-Za-z][\w-]*)(?:\[\w+\])?>=([\w.]+)')
PINNED = re.compile(r"^([A-Za-z][\w-]*)==([\w.]+)$", re.MULTILINE)


def table(name: str) -> str:
    """One of pyproject.toml; there is no reader of TOML in Python 3.10."""
    return re.search(rf"^\[{re.escape(name)}\]\n(.*?)(?=^\[|\Z)", PROJECT, re.MULTILINE | re.DOTALL)[1]


def sources() -> list[str]:
    """The files of the checkout, or of the source archive in whose folder this is."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    else:
        listed = (ROOT / "geomsink.egg-info" / "SOURCES.txt").read_text(encoding="utf-8")
    names = [name for name in listed.splitlines() if not name.startswith("geomsink.egg-info/")]
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of them, in which setuptools may write."""
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path_factory.mktemp("tree")
    for name in sources():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return copy


def packed(tree: Path, what: str) -> Path:
    """The wheel or the sdist, by the build backend that pip would call; nothing is fetched."""
    code = f"from setuptools import build_meta; print(build_meta.build_{what}('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return tree / "dist" / done.stdout.split()[-1]


def test_the_wheel_has_every_file_of_the_package_and_no_other(tree):
    leftover = tree / "geomsink" / "engine" / "__pycache__" / "keops.cpython-310.pyc"
    leftover.parent.mkdir()
    leftover.touch()
    about = f"geomsink-{geomsink.__version__}.dist-info"
    with zipfile.ZipFile(packed(tree, "wheel")) as wheel:
        inside = set(wheel.namelist())
        metadata = email.message_from_bytes(wheel.read(f"{about}/METADATA"))
    expected = {name for name in sources() if name.startswith("geomsink/")}
    assert {"geomsink/py.typed", "geomsink/engine/vectormath.h"} <= expected
    assert {name for name in inside if not name.startswith(about)} == expected
    assert f"{about}/licenses/LICENSE" in inside
    assert metadata["Version"] == geomsink.__version__
    assert metadata["Requires-Python"] == re.search(r'^requires-python = "(.*)"', PROJECT, re.MULTILINE)[1]
    groups = re.findall(r"^([\w-]+) = \[", table("project.optional-dependencies"), re.MULTILINE)
    assert sorted(metadata.get_all("Provides-Extra")) == sorted(groups)


def test_the_source_archive_has_every_file_of_the_checkout(tree):
    with tarfile.open(packed(tree, "sdist")) as archive:
        inside = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert sorted(set(sources()) - inside) == []
    assert {"docs/index.md", "tests/test_package.py", "CITATION.cff", "constraints.txt"} <= inside
    assert [name for name in inside if name.endswith(".pyc")] == []


def test_the_oldest_versions_are_those_that_are_asked_for():
    """`make test-oldest` tests the lower bounds as pyproject.toml has them, no other versions."""
    groups = table("project.optional-dependencies")
    users = "".join(re.findall(r"^(?:shapes|scans|plot|cli|tensorboard|digits|test) = .*", groups, re.MULTILINE))
    bounds = dict(REQUIREMENT.findall(re.search(r"dependencies = \[.*?\]", PROJECT, re.DOTALL)[0] + users))
    oldest = dict(PINNED.findall((ROOT / "constraints-oldest.txt").read_text(encoding="utf-8")))
    assert len(bounds) > 12
    assert {name: oldest.get(name) for name in bounds} == bounds
