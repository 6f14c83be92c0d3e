"""Compilers that link their C++ library into what they build: KeOps' libraries for GPUs crash then.

These write to C++ streams. Beside torch, whose C++ library is the system's, the streams of one are taken for those of
the other, and the first formula ends the process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

CODE = """#include <sstream>
extern "C" long geomsink_probe() { std::ostringstream s; return (s << 1).tellp(); }
"""
NAMES = b"libstdc++.so", b"libc++"
"""Of C++ libraries, which those that are built with them need."""
BUILT = "nvrtc_jit.so"
"""By KeOps, for itself."""


def other_compiler() -> str | None:
    """The path of a compiler to take in the place of ``$CXX``, if that one links its library into what it builds."""
    given = shutil.which(os.environ.get("CXX") or "")
    if given is None or not _links_in(given):
        return None
    others = (shutil.which(name) for name in ("g++", "c++", "clang++"))
    return next((path for path in others if path and not _links_in(path)), None)


def spoilt(folder: Path) -> Path | None:
    """What KeOps has built in its folder, now or once, if that was with such a compiler."""
    path = folder / BUILT
    return path if path.exists() and not _needs_library(path) else None


def _links_in(compiler: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "probe.so"
        command = [compiler, "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
        done = subprocess.run(command, input=CODE, capture_output=True, text=True)
        return done.returncode == 0 and not _needs_library(library)


def _needs_library(library: Path) -> bool:
    content = library.read_bytes()
    return any(name in content for name in NAMES)
