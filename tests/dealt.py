"""Checks that 1, 2 and 4 processes make, each with its part of two clouds, and what each has found, to be compared."""

import torch
from outcomes import together

SIZES = {1: ((60,), (80,)), 2: ((25, 35), (50, 30)), 4: ((20, 0, 25, 15), (7, 33, 38, 2))}
"""Rows of x and of y that each process has; one has none."""


def clouds(dimension=3, dtype=torch.float64):
    """Points x, y and weights a, b of all processes."""
    random = torch.Generator().manual_seed(dimension)
    x, y = torch.rand(60, dimension, generator=random), torch.rand(80, dimension, generator=random) + 0.2
    a, b = (torch.rand(n, generator=random, dtype=torch.float64) + 0.1 for n in (60, 80))
    return x.to(dtype), y.to(dtype), a / a.sum(), b / b.sum()


def parts(count, rank):
    """Which rows of x and of y a process has, of so many."""
    starts = [sum(sizes[:rank]) for sizes in SIZES[count]]
    return [slice(start, start + sizes[rank]) for start, sizes in zip(starts, SIZES[count], strict=True)]


def dealt(cases, counts=tuple(SIZES)):
    """What functions of a `Group`, and of the slices of x and y that the process has, give on each process: lists, by
    the functions' names and numbers of processes."""
    found = {}
    for count in counts:
        outcomes = together(_each, count, cases, within=300.0)
        assert not any(outcome.error for outcome in outcomes), [outcome.error for outcome in outcomes]
        found |= {(case.__name__, count): [outcome.value[case.__name__] for outcome in outcomes] for case in cases}
    return found


def steps_of(loss, group, rows, columns):
    """Steps of a generator whose weights' gradients are summed over processes: the losses, and the weights."""
    x, y, *_ = clouds()
    torch.manual_seed(0)
    generator = torch.nn.Linear(3, 3).double()
    optimiser, losses = torch.optim.SGD(generator.parameters(), lr=0.3), []
    for _ in range(3):
        optimiser.zero_grad()
        value = loss(generator(x[rows]), y[columns])
        value.backward()
        for p in generator.parameters():
            p.grad = group.sum(p.grad, "gradients") if group else p.grad
        optimiser.step()
        losses.append(value.detach())
    return [torch.stack(losses), *(p.detach() for p in generator.parameters())]


def _each(cases):
    from geomsink.processes import Group

    group = Group(timeout=120.0)
    return {case.__name__: case(group, *parts(group.count, group.rank)) for case in cases}
