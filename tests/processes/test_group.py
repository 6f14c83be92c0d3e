"""What processes tell each other is what one process would have."""

import math
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from outcomes import needs_gloo, together

import geomsink
from geomsink.processes import Group, ProcessesError, group_of

pytestmark = needs_gloo
FLOATS = (torch.float16, torch.float32, torch.float64)
SUMMED = (*FLOATS, torch.bfloat16, torch.int8, torch.uint8, torch.int32, torch.int64)
GATHERED = (*SUMMED, torch.bool, torch.complex128)


def random(rank, n=5):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)


def everything():
    """All kinds of exchanges, in one life of the processes; none is a collective of gloo's, whose threads may hold a
    tensor when Python ends, and abort the process."""
    group = Group(timeout=20.0)
    for name in ("all_gather", "all_gather_object", "all_reduce", "barrier", "broadcast", "broadcast_object_list"):
        setattr(dist, name, None)
    me, found = group.rank, {}
    found["who"] = (group.rank, group.count)
    uneven = random(me, n=(3, 0, 4, 1)[me])
    found["gather"] = group.gather(uneven, "points")
    found["gather_kinds"] = [group.gather(uneven.to(kind), "points") for kind in GATHERED]
    found["gather_nothing"] = group.gather(torch.zeros(0, 2), "points")
    found["gather_columns"] = group.gather(random(me).T, "points")  # not contiguous
    found["sum"] = group.sum(random(me), "t")
    found["sum_kinds"] = [group.sum((4 * random(me).abs()).to(kind), "t") for kind in SUMMED]
    found["sum_columns"] = group.sum(random(me).T, "t")
    found["sum_number"] = group.sum(torch.tensor(float(me)), "t")
    found["sum_nothing"] = group.sum(torch.zeros(0), "t")
    long = random(me, n=20_000)
    found["sum_long"] = group.sum(long, "t")
    found["largest"] = [group.largest((4 * random(me)).to(kind).abs(), "t") for kind in SUMMED]
    found["smallest"] = [group.smallest((4 * random(me)).to(kind).abs(), "t") for kind in SUMMED]
    odd = torch.tensor([-0.0, 1.0, -math.inf, math.inf, -1.0, 2.0])
    odd[5] = math.nan if me == group.count - 1 else 2.0
    found["odd"] = [group.largest(odd - 0.5 * me, "t"), group.smallest(odd - 0.5 * me, "t")]
    found["first"] = group.first(random(me), "t")
    found["first_bool"] = group.first(random(me) > 0, "t")
    found["told"] = group.told({"name": f"é{me}", "list": [me, None, 1.5]}, "facts")
    clouds = (uneven, uneven[:, 0].float())
    found["ring"] = [(owner, [t.clone() for t in held]) for owner, held in group.ring(clouds, "clouds")]
    with group.step("work", blur=0.1, cost="sqeuclidean"):
        found["worked"] = True
    before = (group.traffic.messages, group.traffic.bytes)
    group.sum(torch.zeros(7, dtype=torch.float64), "t")
    group.gather(torch.zeros(me, 2), "t")
    list(group.ring((torch.zeros(10, 2),), "t"))
    found["traffic"] = (group.traffic.messages - before[0], group.traffic.bytes - before[1])
    with pytest.raises(ValueError, match="t: a tensor without rows was given"):
        group.gather(torch.tensor(1.0), "t")
    assert group_of(group) is group and group_of(True) is group_of(True) is group_of(dist.group.WORLD)
    return found


def parts():
    """Groups of some of the processes, at once, and one of all beside them."""
    pairs = [dist.new_group([0, 2], timeout=timedelta(seconds=20)), dist.new_group([1, 3])]
    me = dist.get_rank()
    group = Group(pairs[me % 2], timeout=20.0)
    every = Group(timeout=20.0)
    with pytest.raises((ValueError, TypeError), match="this process|expected a torch.distributed.ProcessGroup"):
        Group(pairs[1 - me % 2])
    t = torch.tensor([float(me)])
    ring = [(owner, float(held)) for owner, (held,) in group.ring((t,), "t")]
    return group.rank, [float(x) for x in group.gather(t, "t")], float(group.first(t, "t")), ring, every.told(me, "t")


@pytest.fixture(scope="module", params=(1, 2, 4))
def found(request):
    outcomes = together(everything, request.param)
    assert [outcome.error for outcome in outcomes] == [None] * request.param
    assert [outcome.code for outcome in outcomes] == [0] * request.param
    return [outcome.value for outcome in outcomes]


def same(found, name):
    """What all processes have alike, to the bit."""
    for other in found[1:]:
        torch.testing.assert_close(other[name], found[0][name], rtol=0, atol=0, equal_nan=True)
    return found[0][name]


def test_gathered(found):
    count = len(found)
    expected = [random(rank, n=(3, 0, 4, 1)[rank]) for rank in range(count)]
    assert all(torch.equal(*pair) for pair in zip(same(found, "gather"), expected, strict=True))
    for kind, parts in zip(GATHERED, same(found, "gather_kinds"), strict=True):
        assert all(torch.equal(a, b.to(kind)) and a.dtype == kind for a, b in zip(parts, expected, strict=True))
    assert [part.shape for part in same(found, "gather_nothing")] == [(0, 2)] * count
    assert all(torch.equal(part, random(rank).T) for rank, part in enumerate(same(found, "gather_columns")))


def test_summed(found):
    ranks = range(len(found))
    assert torch.equal(same(found, "sum"), sum(random(rank) for rank in ranks))
    assert torch.equal(same(found, "sum_columns"), sum(random(rank).T for rank in ranks))
    assert torch.equal(same(found, "sum_long"), sum(random(rank, n=20_000) for rank in ranks))
    for kind, summed in zip(SUMMED, same(found, "sum_kinds"), strict=True):
        expected = sum((4 * random(rank).abs()).to(kind) for rank in ranks)
        assert summed.dtype == kind
        assert torch.equal(summed, expected)
    assert same(found, "sum_number") == sum(ranks) and same(found, "sum_nothing").shape == (0,)


@pytest.mark.parametrize(("name", "of"), [("largest", torch.amax), ("smallest", torch.amin)])
def test_largest_and_smallest(found, name, of):
    for kind, one in zip(SUMMED, same(found, name), strict=True):
        stacked = torch.stack([(4 * random(rank)).to(kind).abs() for rank in range(len(found))])
        assert one.dtype == kind and torch.equal(one, of(stacked, 0))


def test_nan_and_infinity(found):
    largest, smallest = same(found, "odd")
    last = 0.5 * (len(found) - 1)
    nan, inf = math.nan, math.inf
    expected = (
        torch.tensor([0.0, 1.0, -inf, inf, -1.0, nan]),
        torch.tensor([-last, 1 - last, -inf, inf, -1 - last, nan]),
    )
    torch.testing.assert_close((largest, smallest), expected, rtol=0, atol=0, equal_nan=True)


def test_the_first_and_what_is_told(found):
    assert torch.equal(same(found, "first"), random(0)) and torch.equal(same(found, "first_bool"), random(0) > 0)
    expected = [{"name": f"é{rank}", "list": [rank, None, 1.5]} for rank in range(len(found))]
    assert all(one["told"] == expected for one in found)


def test_around_the_ring(found):
    count = len(found)
    for me, one in enumerate(found):
        assert one["who"] == (me, count) and one["worked"]
        assert [owner for owner, _ in one["ring"]] == [(me - step) % count for step in range(count)]
        for owner, (points, column) in one["ring"]:
            expected = random(owner, n=(3, 0, 4, 1)[owner])
            assert torch.equal(points, expected) and torch.equal(column, expected[:, 0].float())


def test_traffic_is_what_was_sent(found):
    for me, one in enumerate(found):
        passed = len(found) - 1
        assert one["traffic"] == (2 + passed, 7 * 8 + me * 2 * 4 + passed * 10 * 2 * 4)


def test_groups_of_some_of_the_processes():
    for me, outcome in enumerate(together(parts, 4)):
        assert outcome.error is None
        low, high = me % 2, me % 2 + 2
        ring = [(me // 2, me), (1 - me // 2, low + high - me)]
        assert outcome.value == (me // 2, [low, high], low, ring, [0, 1, 2, 3])


def test_what_is_no_group():
    with pytest.raises(RuntimeError, match="without processes that know each other"):
        Group()
    with pytest.raises(TypeError, match="group: 3 given, expected geomsink.Group, True for all processes"):
        group_of(3)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for wrong in ("x", True, 0.0, -1, math.inf, math.nan, None):
            with pytest.raises(ValueError, match="^timeout: .* given, expected a positive number of seconds.$"):
                Group(timeout=wrong)
        with pytest.raises(TypeError, match="processes: a str was given"):
            Group("all")
        group = Group(timeout=5)
        assert (group.timeout, group.left, group_of(True)) == (5, False, group) and Group() is not group_of(True)
    finally:
        dist.destroy_process_group()
    assert group.left
    with pytest.raises(ProcessesError, match="have left each other"):
        group.sum(torch.ones(1), "t")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        assert group_of(True) is not group and group_of(True).timeout == geomsink.processes.TIMEOUT
    finally:
        dist.destroy_process_group()
