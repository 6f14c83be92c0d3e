"""Compiled reductions of the tests go to pytest's cache folder, not to the user's."""

import os

import pytest


def pytest_configure(config):
    cache = getattr(config, "cache", None)
    if cache is not None:
        os.environ.setdefault("GEOMSINK_CACHE", str(cache.mkdir("geomsink")))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """No docstrings of test files are looked at: one that cannot be imported would be left out for it, and be empty
    when it is imported again."""
    collectors = yield
    return [collector for collector in collectors if type(collector).__name__ != "DoctestModule"]
