"""How GNU OpenMP's threads wait for each other, which is settled when torch loads it.

At the end of each parallel loop they count to 300,000 before they sleep, some ten milliseconds. Beside other programs
that is time in which those who are waited for cannot run: `python benchmarks/threads.py`. In a library it is the
caller's to choose; the process of a command is our own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import PurePath

SPINS = "1000"
"""What GNU OpenMP counts to by itself where it has more threads than CPUs."""
CHOSEN_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def settle(script: str, command: Sequence[str], environment: MutableMapping[str, str]) -> None:
    """Let threads sleep soon, if this process is the command ``geomsink`` and nobody has chosen otherwise.

    Parameters
    ----------
    script : str
        ``sys.argv[0]``: of modules that are run, ``"-m"`` while their package is imported.
    command : sequence of str
        ``sys.orig_argv``, all that Python was started with.
    environment : mapping
        Changed in place.

    Examples
    --------
    >>> environment = {}
    >>> settle("/usr/bin/geomsink", ["python", "/usr/bin/geomsink", "doctor"], environment)
    >>> environment
    {'GOMP_SPINCOUNT': '1000'}
    """
    is_module = script == "-m" and "geomsink" in command
    if (is_module or PurePath(script).stem == "geomsink") and not any(name in environment for name in CHOSEN_BY):
        environment["GOMP_SPINCOUNT"] = SPINS


def chosen() -> str:
    """What the environment says of it, for people to read."""
    said = [f"{name}={os.environ[name]}" for name in CHOSEN_BY if name in os.environ]
    return ", ".join(said) or f"as OpenMP has it ({' and '.join(CHOSEN_BY)} are not set)"


settle(sys.argv[0] if sys.argv else "", sys.orig_argv, os.environ)
