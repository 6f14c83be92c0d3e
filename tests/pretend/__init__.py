"""A pretend CUDA device on a CPU: the library's code for GPUs runs on it, and what a GPU would refuse fails.

Within ``pretend()``, ``t.cuda()``, ``t.to("cuda")`` and ``torch.zeros(3, device="cuda")`` give tensors that say that
they are on cuda:0 and compute with the CPU's tensor inside of them. The lie is told in Python alone, where the library
is: for C++, and so for autograd, they are tensors on a CPU. KeOps' kernels are replaced by those that the library
builds for CPUs, on the formula, arguments and ranges that KeOps is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from .hardware import autograd, checkpoints, files, hardware
from .kernels import keops
from .log import Log, logging
from .overrides import Overrides
from .tensors import Pretended, inside

__all__ = ["Log", "Pretended", "inside", "pretend"]


@contextlib.contextmanager
def pretend() -> Iterator[Log]:
    """There is a pretend device within; gives a log of what it does.

    Examples
    --------
    >>> with pretend() as log:
    ...     t = torch.ones(2).cuda()
    ...     print(t.device, float((t + t).sum()), [event.kind for event in log.events])
    cuda:0 4.0 ['copy', 'launch', 'launch', 'read']
    """
    by_new_parameters = torch.__future__.get_overwrite_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(logging())
        for made in (hardware(), autograd(), checkpoints(), files(), keops()):
            stack.enter_context(made)
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # in ``module.to("cuda")``
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, by_new_parameters)
        stack.enter_context(Overrides())
        yield log
