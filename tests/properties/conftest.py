"""How long properties are looked for: the same few examples each time, or as many others as are asked for.

GEOMSINK_EXAMPLES=2000 python -m pytest tests/properties
"""

import os
import tempfile

import hypothesis
from hypothesis import HealthCheck
from hypothesis.configuration import set_hypothesis_home_dir

COMMON = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck))
hypothesis.settings.register_profile("quick", derandomize=True, max_examples=12, **COMMON)
hypothesis.settings.load_profile("quick")
if "GEOMSINK_EXAMPLES" in os.environ:
    more = int(os.environ["GEOMSINK_EXAMPLES"])
    hypothesis.settings.register_profile("hunt", max_examples=more, print_blob=True, **COMMON)
    hypothesis.settings.load_profile("hunt")


def pytest_configure(config):
    """What hypothesis writes beside its database goes to pytest's cache, too."""
    cache = getattr(config, "cache", None)
    set_hypothesis_home_dir(tempfile.gettempdir() if cache is None else cache.mkdir("hypothesis"))
