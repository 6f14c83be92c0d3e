"""Compiles and loads reductions for the CPU: one shared library a formula, in a folder of our own.

KeOps' compiler settings, caches and build folder are read, never changed, so that other users of KeOps
in the process keep theirs. A library is named after its formula and a checksum of its content and moves
into place in one step: two processes may build the same one at once, and a damaged one is built again.
A library is code that is run: folder and file must be the user's own, and writable by nobody else.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import io
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import threading
import time
import warnings
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from . import codegen, cpplibrary, operations

HEADERS = Path(__file__).parent
BASE_FLAGS = ("-std=c++11", "-shared", "-fPIC", "-O3", "-fopenmp")
VECTOR_FLAGS = (
    "-march=native",
    # Vector code for sqrt and rint; nothing here reads errno or traps. IEEE arithmetic otherwise:
    # -ffast-math would also flush denormals in the whole process.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
)
STALE_SECONDS = 3600.0
"""After which no compiler is at work on a file any more."""
UNROLL_FLAGS = ("--param", "max-completely-peel-times=128", "--param", "max-completely-peeled-insns=8000")
"""For GCC: short loops over coordinates must disappear before the loop over pairs can be vectorised."""


one_at_a_time = threading.RLock()
"""KeOps is imported, and generates code, in one thread at a time: its generator counts variables globally."""


class BuildError(RuntimeError):
    """No compiled engine: there is no compiler, or it refuses every set of flags."""


def keops() -> ModuleType:
    """``pykeops.torch``, imported without KeOps' messages and on a read-only home folder too."""
    with one_at_a_time:  # standard output, and the environment, are those of all threads
        return _imported()


@functools.cache
def _imported() -> ModuleType:
    # KeOps creates its cache folder on import, and fails where it cannot; it reads these variables only then.
    chosen = {}
    if "KEOPS_CACHE_FOLDER" not in os.environ and not _writable(Path.home() / ".cache"):
        chosen["KEOPS_CACHE_FOLDER"] = tempfile.mkdtemp(prefix="keops-")
    if torch.cuda.is_available() and (other := cpplibrary.other_compiler()):
        chosen["CXX"] = other
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        with redirect_stdout(io.StringIO()):
            import pykeops.torch
    except Exception as error:
        raise BuildError(f"pykeops cannot be imported: {error}.") from error
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    operations.mend()
    module: ModuleType = pykeops.torch
    if torch.cuda.is_available() and (spoilt := cpplibrary.spoilt(Path(_kept_at()))):
        raise BuildError(
            f"{spoilt} was built by a compiler that links its C++ library into it, with which KeOps ends the process: "
            "delete that folder, and set CXX to the system's g++."
        )
    return module


def keops_folder() -> str:
    """Where KeOps itself keeps what it compiles."""
    keops()
    return _kept_at()


def _kept_at() -> str:
    from keopscore.config import config

    return str(config.get_build_folder())


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@functools.cache
def compiler() -> str:
    """Path of the C++ compiler: ``$CXX``, then ``g++``, ``c++``, ``clang++``."""
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        path = name and shutil.which(name)
        if path:
            return path
    raise BuildError("no C++ compiler was found: install g++, or name one in the environment variable CXX.")


@functools.cache
def flags() -> tuple[str, ...]:
    """The first set of flags that the compiler takes: ours, ours in part, KeOps' own."""
    candidates: list[tuple[str, ...]] = [
        BASE_FLAGS + VECTOR_FLAGS + UNROLL_FLAGS,
        BASE_FLAGS + VECTOR_FLAGS,
        BASE_FLAGS + VECTOR_FLAGS[1:],
    ]
    with tempfile.TemporaryDirectory() as folder:
        for candidate in candidates:
            if not _compile('extern "C" int geomsink_probe() { return 1; }\n', Path(folder) / "probe.so", candidate):
                return candidate
        keops()
        from keopscore.config import config

        own = tuple(shlex.split(config.get_cpp_flags()))
        message = _compile('extern "C" int geomsink_probe() { return 1; }\n', Path(folder) / "probe.so", own)
    if message:
        raise BuildError(f"the C++ compiler {compiler()} cannot build a shared library: {message}")
    warnings.warn(f"{compiler()} refuses geomsink's flags; KeOps' own are used, which is slower.", stacklevel=2)
    return own


def _compile(source: str, target: Path, options: tuple[str, ...]) -> str:
    """Compile; returns the first error that the compiler printed, if it failed, else an empty string."""
    command = [compiler(), *options, f"-I{HEADERS}", "-x", "c++", "-", "-o", str(target)]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
    return lines[0] if lines else f"exit status {done.returncode}"


@functools.cache
def folder() -> Path:
    """The build folder: below ``$GEOMSINK_CACHE`` or ``~/.cache/geomsink``, else a temporary one.

    It is made for the user alone. One that others own, or can write to, is not used: they could have put code into it.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # as its specification has it
        caches = Path.home() / ".cache"
    roots = [caches / "geomsink"]
    if os.environ.get("GEOMSINK_CACHE"):
        roots.insert(0, Path(os.environ["GEOMSINK_CACHE"]))
    reasons = []
    for root in roots:
        path = root / _key()
        if not _writable(path):
            reasons.append(f"{root} cannot be written")
        elif not _own(path):
            reasons.append(f"{path} belongs to others or can be written by them")
        else:
            _clear(path)
            break
    else:
        path = Path(tempfile.mkdtemp(prefix="geomsink-"))
        atexit.register(_remove, path, os.getpid())
    if reasons:
        lost = " and are lost afterwards" if len(reasons) == len(roots) else ""
        warnings.warn(
            f"{' and '.join(reasons)}: compiled reductions go to {path}{lost}; "
            "set GEOMSINK_CACHE to a folder of your own that can be written to keep them there.",
            stacklevel=2,
        )
    return path


def _own(path: Path) -> bool:
    """Whether a folder or a file belongs to the user, and nobody else can write to it."""
    found = path.lstat()
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return mine and not stat.S_ISLNK(found.st_mode) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _clear(path: Path) -> None:
    """Remove what processes that were killed while they compiled have left."""
    for left_over in path.glob("tmp*.tmp"):
        with suppress(OSError):
            if time.time() - left_over.stat().st_mtime > STALE_SECONDS:
                left_over.unlink()


def _key() -> str:
    """Names what a library depends on besides its formula: CPU, compiler, flags, KeOps, headers."""
    keops()
    import pykeops

    parts = [_cpu(), compiler(), _version(compiler()), *flags(), pykeops.__version__]
    parts += [(HEADERS / "vectormath.h").read_text(), Path(codegen.__file__).read_text()]
    return f"keops{pykeops.__version__}-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True).stdout.partition("\n")[0]


@functools.cache
def _cpu() -> str:
    """The CPU's model and instruction sets: what ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def cpu_name() -> str:
    """The CPU's model."""
    line = next((line for line in _cpu().splitlines() if line.startswith("model name")), _cpu())
    return line.partition(":")[2].strip() or line


@dataclass(frozen=True)
class Program:
    """C++ that is no formula: what errors call it, and its source."""

    text: str
    source: str


Compiled = codegen.Formula | Program
_loaded: dict[Compiled, ctypes.CDLL] = {}


def _remove(path: Path, maker: int) -> None:
    """A folder that is made for one process, and used by children that were forked from it."""
    if os.getpid() == maker:
        shutil.rmtree(path, ignore_errors=True)


if hasattr(os, "register_at_fork"):
    # No child begins while another thread compiles, which would not let go of the lock there.
    os.register_at_fork(
        before=one_at_a_time.acquire,
        after_in_parent=one_at_a_time.release,
        after_in_child=one_at_a_time.release,
    )
    # OpenMP's threads stay with the parent: the first sum that wanted them would wait for ever.
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def load(formula: Compiled) -> ctypes.CDLL:
    """The shared library of ``formula``, compiled if need be.

    Raises
    ------
    BuildError
        If there is no compiler or it fails; the message says how.
    """
    with one_at_a_time:
        if formula not in _loaded:
            if not (folder().is_dir() and _own(folder())):  # deleted since, or put there by others
                folder.cache_clear()
            _loaded[formula] = _find(formula) or _build(formula)
        return _loaded[formula]


def _name(formula: Compiled) -> str:
    return hashlib.sha256(repr(formula).encode()).hexdigest()[:16]


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _find(formula: Compiled) -> ctypes.CDLL | None:
    for path in folder().glob(f"{_name(formula)}-*.so"):
        try:
            if _own(path) and path.stem.partition("-")[2] == _checksum(path):
                return ctypes.CDLL(str(path))
            path.unlink(missing_ok=True)
        except OSError:
            continue
    return None


def _build(formula: Compiled) -> ctypes.CDLL:
    handle, name = tempfile.mkstemp(suffix=".tmp", dir=folder())
    os.close(handle)
    built = Path(name)
    try:
        source = formula.source if isinstance(formula, Program) else codegen.source(formula)
        message = _compile(source, built, flags())
        if message:
            raise BuildError(f"the C++ compiler failed on {formula.text}: {message}")
        built.chmod(0o700)  # whatever the compiler made of it
        target = folder() / f"{_name(formula)}-{_checksum(built)}.so"
        os.replace(built, target)
    finally:
        built.unlink(missing_ok=True)
    return ctypes.CDLL(str(target))
