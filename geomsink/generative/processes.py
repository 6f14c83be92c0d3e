"""Several processes that train one generator: batches are gathered, so that a loss sees the union.

Each process makes its part of the points. The loss of all points is computed by every one of them, so that its own part
of the derivative is all that a process needs from it; what the weights get is then summed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def active() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if active() else 0


def count() -> int:
    return dist.get_world_size() if active() else 1


def part(n: int) -> slice:
    """This process's rows of n, which are dealt out in order."""
    return slice(n * rank() // count(), n * (rank() + 1) // count())


def own(rows: Any, n: int) -> Any:
    """Those of some rows of n that are this process's, counted from its first."""
    mine = part(n)
    return rows[(rows >= mine.start) & (rows < mine.stop)] - mine.start


def total(n: int, like: Tensor) -> int:
    """The sum of a number over all processes, which talk of it on the device of ``like``."""
    if not active():
        return n
    summed = torch.tensor(n, device=like.device)
    dist.all_reduce(summed)
    return int(summed)


def summed(value: float, like: Tensor) -> float:
    """The same of a number that is not whole."""
    if not active():
        return value
    double = torch.tensor(value, device=like.device, dtype=torch.float64)
    dist.all_reduce(double)
    return float(double)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        sizes = [torch.zeros(1, dtype=torch.int64, device=mine.device) for _ in range(count())]
        dist.all_gather(sizes, torch.tensor([len(mine)], device=mine.device))
        lengths = [int(size) for size in sizes]
        # Collectives want equal shapes: parts are filled up, and cut again.
        filled = mine.new_zeros(max(lengths), *mine.shape[1:])
        filled[: len(mine)] = mine
        parts = [torch.empty_like(filled) for _ in lengths]
        dist.all_gather(parts, filled)
        start = sum(lengths[: rank()])
        ctx.mine = slice(start, start + len(mine))
        return torch.cat([p[:n] for p, n in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient[ctx.mine]


def gather(mine: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, the number of which may differ.

    The gradient that comes back is that of the own rows. It is the whole derivative of a number that every process
    computes from the same rows, if the gradients of weights are then summed with `add_gradients`.
    """
    return _Gather.apply(mine) if active() else mine


def add_gradients(module: nn.Module) -> None:
    """Sum the gradients over all processes."""
    if not active():
        return
    trained = [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    for kind in {(p.device, p.dtype) for p in trained}:
        same = [p for p in trained if (p.device, p.dtype) == kind]
        flat = torch.cat([p.grad.reshape(-1) for p in same if p.grad is not None])
        dist.all_reduce(flat)
        for p, summed in zip(same, flat.split([p.numel() for p in same]), strict=True):
            p.grad = summed.view_as(p)


def first_of_all(module: nn.Module) -> None:
    """Give every process the weights and buffers of the first one."""
    if active():
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor, 0)


def agreed(value: Any) -> Any:
    """The first process's object, on every process."""
    if not active():
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]
