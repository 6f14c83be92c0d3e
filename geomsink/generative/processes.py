"""Several processes that train one generator: batches are gathered, so that a loss sees the union.

Each process makes its part of the points. The loss of all points is computed by every one of them, so that its own part
of the derivative is all that a process needs from it; what the weights get is then summed.
"""

from __future__ import annotations

import pickle
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..processes import Group, group_of

WHAT = "fit"
"""What processes are at, in sentences about those that do not answer."""


def active() -> bool:
    return dist.is_available() and dist.is_initialized()


def _group() -> Group | None:
    """All processes, where there are some."""
    return group_of(True) if active() else None


def rank() -> int:
    return dist.get_rank() if active() else 0


def count() -> int:
    return dist.get_world_size() if active() else 1


def step(what: str) -> AbstractContextManager[None]:
    """Work of which all processes hear where it fails on one."""
    group = _group()
    return nullcontext() if group is None else group.step(what)


def part(n: int) -> slice:
    """This process's rows of n, which are dealt out in order."""
    return slice(n * rank() // count(), n * (rank() + 1) // count())


def own(rows: Any, n: int) -> Any:
    """Those of some rows of n that are this process's, counted from its first."""
    mine = part(n)
    return rows[(rows >= mine.start) & (rows < mine.stop)] - mine.start


def total(n: int) -> int:
    """The sum of a number over all processes."""
    group = _group()
    return n if group is None else int(group.sum(torch.tensor(n, device="cpu"), WHAT))


def summed(value: float) -> float:
    """The same of a number that is not whole."""
    group = _group()
    return value if group is None else float(group.sum(torch.tensor(value, dtype=torch.float64, device="cpu"), WHAT))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor, group: Group) -> Tensor:
        parts = group.gather(mine, WHAT)
        start = sum(map(len, parts[: group.rank]))
        ctx.mine = slice(start, start + len(mine))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient[ctx.mine], None


def gather(mine: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, the number of which may differ.

    The gradient that comes back is that of the own rows. It is the whole derivative of a number that every process
    computes from the same rows, if the gradients of weights are then summed with `add_gradients`.
    """
    group = _group()
    return mine if group is None else _Gather.apply(mine, group)


def add_gradients(module: nn.Module) -> None:
    """Sum the gradients over all processes."""
    group = _group()
    if group is None:
        return
    trained = [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    for kind in dict.fromkeys((p.device, p.dtype) for p in trained):
        same = [p for p in trained if (p.device, p.dtype) == kind]
        flat = group.sum(torch.cat([p.grad.reshape(-1) for p in same if p.grad is not None]), WHAT)
        for p, whole in zip(same, flat.split([p.numel() for p in same]), strict=True):
            p.grad = whole.view_as(p)


def first_of_all(module: nn.Module) -> None:
    """Give every process the weights and buffers of the first one."""
    group = _group()
    if group is not None:
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.copy_(group.first(tensor, WHAT))


def agreed(value: Any) -> Any:
    """The first process's object, on every process."""
    group = _group()
    if group is None:
        return value
    packed = bytearray(pickle.dumps(value) if group.rank == 0 else b"")
    mine = torch.frombuffer(packed, dtype=torch.uint8) if packed else torch.empty(0, dtype=torch.uint8, device="cpu")
    return pickle.loads(group.gather(mine, WHAT)[0].numpy().tobytes())
