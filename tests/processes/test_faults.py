"""What one process fails at, all hear of in time: none hangs, each says it in one sentence, and all end."""

import os
import re
import signal
import time

import pytest
import torch
from outcomes import needs_gloo, together

from geomsink.processes import Group, ProcessesError

pytestmark = needs_gloo
TIMEOUT = 5.0
COUNT = 3
CULPRIT = 1


def rounds(group, fault):
    """Exchanges of all kinds, three times; the culprit does something else in the second."""
    for k in range(3):
        if k == 1 and group.rank == CULPRIT:
            fault(group)
        group.sum(torch.ones(1000), "masses")
        group.gather(torch.ones(group.rank, 2), "points")
        group.first(torch.ones(3), "weights")
        list(group.ring((torch.ones(100, 2),), "clouds"))


def killed(group):
    os.kill(os.getpid(), signal.SIGKILL)


def stopped(group):
    os.kill(os.getpid(), signal.SIGSTOP)


def ends(group):
    os._exit(0)


def never_calls(group):
    time.sleep(60.0)


def no_memory(group):
    raise MemoryError("cannot allocate 8 GB\nfor a cloud")


def bad_value(group):
    raise ValueError("blur: -1 given")


def other_function(group):
    group.sum(torch.ones(1000), "cost")


def other_exchange(group):
    group.gather(torch.ones(1000), "masses")


def other_dtype(group):
    group.sum(torch.ones(1000, dtype=torch.float64), "masses")


def other_shape(group):
    group.sum(torch.ones(1001), "masses")


def broken_by(fault):
    """What a process hears, how long it has taken, and what it hears of the group after that."""
    group, began = Group(timeout=TIMEOUT), time.monotonic()
    try:
        with group.step("solve", blur=0.1):
            rounds(group, fault)
    except (ProcessesError, MemoryError, ValueError) as error:
        seconds, ranks = time.monotonic() - began, getattr(error, "ranks", None)
        try:
            after = float(group.sum(torch.ones(1), "after"))
        except ProcessesError as again:
            after = str(again)
        return f"{type(error).__name__}: {error}", seconds, ranks, after
    return None


def outcomes_of(fault, ended):
    outcomes = together(broken_by, COUNT, fault, within=TIMEOUT + 20.0, ended=ended)
    assert all(outcomes[rank].error is None and outcomes[rank].code == 0 for rank in ended), outcomes
    return outcomes


@pytest.mark.parametrize(
    ("fault", "seconds"), [(killed, TIMEOUT), (ends, TIMEOUT), (stopped, TIMEOUT + 5), (never_calls, TIMEOUT + 5)]
)
def test_a_process_that_is_not_there(fault, seconds):
    """Lost connections are noticed at once; those that stand still after the time-out. All name the same one."""
    others = [rank for rank in range(COUNT) if rank != CULPRIT]
    outcomes = outcomes_of(fault, others)
    for rank in others:
        said, took, ranks, after = outcomes[rank].value
        assert took < seconds and outcomes[rank].seconds < seconds + 10.0
        check_named(said, ranks, "masses", COUNT, TIMEOUT if fault in (stopped, never_calls) else None)
        assert after.startswith("after: these processes have lost each other before (masses: ")
        assert took >= (TIMEOUT if fault in (stopped, never_calls) else 0.0)


def check_named(said, ranks, what, count, waited=None):
    """One sentence, of the one that is missing: it is lost, or was waited for so long."""
    assert ranks == (CULPRIT,), said
    if waited is None:
        found = f"has lost process {CULPRIT}, which has ended or given up; see what it printed."
    else:
        found = f"has waited {waited:g} s for process {CULPRIT}, which has ended, hangs or is much slower; "
    assert re.match(rf"ProcessesError: {what}: process \d of {count} {re.escape(found)}", said), said
    assert said.count(". ") == 0 and "gloo" not in said and not re.search(r"[^\x20-\x7e]", said)


def around_the_ring(fault, seconds):
    """Two rings; the culprit does something else at a block of the second, and most others wait for those that wait."""
    group, tensors = Group(timeout=seconds), (torch.ones(100, 2),)
    try:
        for k in range(2):
            for owner, _ in group.ring(tensors, "clouds"):
                if k == 1 and group.rank == CULPRIT and owner == 0:
                    fault(group)
    except ProcessesError as error:
        return f"{type(error).__name__}: {error}", error.ranks
    return None


@pytest.mark.parametrize(("fault", "waited"), [(killed, None), (ends, None), (stopped, 2.0), (never_calls, 2.0)])
def test_a_process_that_is_lost_among_those_that_wait_for_each_other(fault, waited):
    others = [0, 2, 3, 4]
    outcomes = together(around_the_ring, 5, fault, waited or TIMEOUT, within=TIMEOUT + 20.0, ended=others)
    for rank in others:
        assert outcomes[rank].error is None and outcomes[rank].code == 0
        check_named(*outcomes[rank].value, "clouds", 5, waited)


@pytest.mark.parametrize(
    ("fault", "own", "said"),
    [
        (no_memory, "MemoryError: cannot allocate 8 GB\nfor a cloud", "MemoryError: cannot allocate 8 GB for a cloud"),
        (bad_value, "ValueError: blur: -1 given", "ValueError: blur: -1 given"),
    ],
)
def test_a_process_that_raises(fault, own, said):
    """In the midst of the others' exchanges; it keeps its own error, and all can go on."""
    for rank, outcome in enumerate(outcomes_of(fault, range(COUNT))):
        found, took, ranks, after = outcome.value
        assert took < TIMEOUT and after == COUNT
        assert found == (own if rank == CULPRIT else f"ProcessesError: solve: process 1 of 3 failed with {said}")
        assert ranks == (None if rank == CULPRIT else (CULPRIT,))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (other_function, "masses: call is masses on process 0 and cost on process 1"),
        (other_exchange, "masses: exchange is sum on process 0 and gather on process 1"),
        (other_dtype, "masses: dtype is torch.float32 on process 0 and torch.float64 on process 1"),
        (other_shape, "masses: sizes is [1000] on process 0 and [1001] on process 1"),
    ],
)
def test_a_process_that_calls_for_something_else(fault, said):
    for outcome in outcomes_of(fault, range(COUNT)):
        found, took, ranks, after = outcome.value
        assert found == f"ProcessesError: {said}, expected the same on all processes."
        assert took < TIMEOUT and ranks == (CULPRIT,) and after == COUNT


def in_steps():
    """Failures within failures, options that differ, and more that goes on afterwards."""
    group, heard = Group(timeout=TIMEOUT), []

    def hear(work):
        try:
            work()
        except (ProcessesError, ValueError) as error:
            heard.append(f"{type(error).__name__}: {error}")

    def nested():
        with group.step("outer"), group.step("inner"):
            if group.rank == 2:
                raise ValueError("bad")

    def options():
        with group.step("solve", blur=0.1 * (1 + (group.rank == 2)), cost="sqeuclidean"):
            pass

    def two():
        with group.step("solve"):
            if group.rank > 0:
                raise ValueError(f"bad {group.rank}")

    def in_the_ring():
        with group.step("solve"):
            for owner, _ in group.ring((torch.ones(4),), "clouds"):
                if group.rank == 1 and owner == 0:
                    raise ValueError("bad cloud")

    for work in (nested, options, two, in_the_ring):
        hear(work)
    heard.append(float(group.sum(torch.ones(1), "after")))
    return heard


def test_steps():
    outcomes = together(in_steps, COUNT)
    first, second, third = (outcome.value for outcome in outcomes)
    bad = "ProcessesError: {}: process {} of 3 failed with ValueError: {}"
    differ = "ProcessesError: solve: blur is 0.1 on process 0 and 0.2 on process 2, expected the same on all processes."
    assert first == [bad.format("inner", 2, "bad"), differ, bad.format("solve", 1, "bad 1"),
                     bad.format("solve", 1, "bad cloud"), 3.0]  # fmt: skip
    assert second == [first[0], differ, "ValueError: bad 1", "ValueError: bad cloud", 3.0]
    assert third == ["ValueError: bad", differ, "ValueError: bad 2", first[3], 3.0]


def never_joins():
    if torch.distributed.get_rank() == CULPRIT:
        return None
    began = time.monotonic()
    try:
        Group(timeout=1.0)
    except ProcessesError as error:
        return str(error), time.monotonic() - began
    return None


def test_a_process_that_does_not_join():
    outcomes = together(never_joins, COUNT, within=10.0)
    for rank in (0, 2):
        said, took = outcomes[rank].value
        assert said.startswith(f"group: process {rank} of 3 has ") and took < 4.0
