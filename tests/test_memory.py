"""What is done where a GPU's memory is not enough."""

import pytest
import torch

from geomsink import guards, memory

GPU = torch.device("cuda", 0)


@pytest.fixture
def gigabytes(monkeypatch):
    """A GPU of 16 GB; sums need pieces of no more than some numbers."""

    class Properties:
        total_memory = 16 * 2**30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)


def needing(most, tried):
    """A loss that has room for pieces of so many numbers."""

    @guards.guarded
    def loss():
        tried.append(memory.chunk(GPU))
        if tried[-1] > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return len(tried)

    return loss


@pytest.mark.parametrize(("most", "calls"), [(2**26, 1), (2**24, 2), (2**21, 3)])
def test_pieces_become_smaller(most, calls, gigabytes):
    tried = []
    assert needing(most, tried)() == calls
    assert tried == [2**26, 2**23, 2**20][:calls]
    assert memory.chunk(GPU) == 2**26  # for the next call


def test_results_of_nothing_are_results(gigabytes):
    assert guards.guarded(lambda: None)() is None


def test_what_is_too_large_all_the_same_is_said(gigabytes):
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"loss: the GPU.s memory is not enough for .*float32"):
        needing(0, [])()
    assert memory.chunk(GPU) == 2**26


def test_calls_in_several_threads_leave_nothing_behind(gigabytes):
    """Of two that overlap, the one that ended last put back what the other had wanted."""
    first, second = ([*zip(range(2), memory.attempts("loss"), strict=False)][-1][1] for _ in range(2))
    first.__enter__()
    second.__enter__()
    assert memory.chunk(GPU) == 2**23
    first.__exit__(None, None, None)
    assert memory.chunk(GPU) == 2**23
    second.__exit__(None, None, None)
    assert memory.chunk(GPU) == 2**26


def test_a_cpu_has_pieces_of_its_own():
    assert memory.chunk(torch.device("cpu")) == memory.CHUNK
