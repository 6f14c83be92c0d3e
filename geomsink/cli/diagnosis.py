"""The command that looks at the installation."""

from __future__ import annotations

import platform

import click
from rich.console import Console

from geomsink import __version__, engine

from .group import leave
from .report import show

MEASURED_SECONDS = 5.0


@click.command()
def doctor() -> None:
    """Versions, compiler, cache and GPU found here, and the speed.

    Exit codes: 0 when the compiled engine works, 1 when it does not.
    """
    show([("geomsink", __version__), *engine.describe().items()])
    with Console(stderr=True).status(f"measuring for {MEASURED_SECONDS:.0f} seconds"):
        speeds = engine.speed(MEASURED_SECONDS)
    show([(name, f"{speed:.2f} billion pairs a second") for name, speed in speeds.items()])
    if "keops" not in speeds:
        leave(f"the compiled engine does not work here, and large clouds will be slow. {_advice()}", 1)


def _advice() -> str:
    compiler = {
        "Darwin": "the command line tools (xcode-select --install)",
        "Linux": "g++ (apt install g++, dnf install gcc-c++, or conda install -c conda-forge cxx-compiler)",
    }.get(platform.system(), "a C++ compiler that KeOps can call (on Windows: under WSL)")
    return f"Install {compiler} and check that pip install 'pykeops>=2.3' succeeds."
