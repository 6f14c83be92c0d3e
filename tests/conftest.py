"""Compiled reductions of the tests go to pytest's cache folder, not to the user's."""

import os


def pytest_configure(config):
    cache = getattr(config, "cache", None)
    if cache is not None:
        os.environ.setdefault("GEOMSINK_CACHE", str(cache.mkdir("geomsink")))
