"""The command's own process lets threads sleep soon; as a library, the caller's is left as it is."""

import os
import re
import subprocess
import sys

import pytest
import torch

from geomsink.waiting import settle


@pytest.mark.parametrize(
    ("script", "command", "before", "after"),
    [
        ("/opt/bin/geomsink", ["python", "/opt/bin/geomsink"], {}, {"GOMP_SPINCOUNT": "1000"}),
        ("C:\\bin\\geomsink.exe" if os.name == "nt" else "geomsink", [], {}, {"GOMP_SPINCOUNT": "1000"}),
        ("-m", ["python", "-m", "geomsink", "doctor"], {}, {"GOMP_SPINCOUNT": "1000"}),
        ("-m", ["python", "-m", "pytest", "tests"], {}, {}),
        ("train.py", ["python", "train.py", "geomsink"], {}, {}),
        ("", ["python"], {}, {}),
        ("geomsink", [], {"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
        ("geomsink", [], {"GOMP_SPINCOUNT": "5"}, {"GOMP_SPINCOUNT": "5"}),
    ],
)
def test_only_the_command_chooses_and_only_where_nobody_has(script, command, before, after):
    environment = dict(before)
    settle(script, command, environment)
    assert environment == after


@pytest.mark.skipif("OpenMP" not in torch.__config__.parallel_info(), reason="torch has other threads")
def test_openmp_itself_has_seen_it():
    """GNU OpenMP says what it has read, when it is loaded."""
    clean = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}

    def spins(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments], env=clean | {"OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found = re.findall(r"GOMP_SPINCOUNT *= *'(\w+)'", done.stderr)
        if not found:
            pytest.skip("another OpenMP")
        return found[0]

    assert spins("-m", "geomsink", "--version") == "1000"
    assert spins("-c", "import geomsink") == "300000"
