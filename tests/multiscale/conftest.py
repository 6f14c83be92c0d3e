"""Torch has one thread in these tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Of torch: on a machine that is busy, threads that wait for each other make these many small steps slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
