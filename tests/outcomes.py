"""A function in several processes at once, which talk by gloo."""

import contextlib
import io
import multiprocessing
import os
import socket
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import pytest
import torch
import torch.distributed as dist

needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available() and hasattr(os, "fork")),
    reason="torch was built without gloo, or this system cannot fork",
)


@dataclass
class Outcome:
    """Of one process.

    Attributes
    ----------
    value : object
        What the function gave back.
    error : str or None
        The kind of its exception and what that says.
    seconds : float
        Until the process had ended, from when all had begun.
    code : int or None
        That it ended with; None of one that did not end, and was killed.
    """

    value: Any = None
    error: str | None = None
    seconds: float = float("inf")
    code: int | None = None


def together(function, count, *arguments, within=60.0, ended=None, joined=True):
    """Call a function, of a module that can be imported, in so many processes, each of which has joined the others.

    Parameters
    ----------
    within : float
        Seconds in which those processes must end which are counted in ``ended``.
    ended : sequence of int, optional
        Processes that are waited for. Default: all.
    joined : bool, default True
        Whether the processes have joined each other before; otherwise they know from their environment how to.

    Returns
    -------
    list of Outcome
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed", "geomsink", "geomsink.cli", "outcomes"])
    with tempfile.TemporaryDirectory() as folder:
        where = f"file://{folder}/meeting" if joined else None
        pipes = [context.Pipe(duplex=False) for _ in range(count)]
        processes = [
            context.Process(target=_work, args=(function, rank, count, where, sender, arguments), daemon=True)
            for rank, (_, sender) in enumerate(pipes)
        ]
        for process in processes:
            process.start()
        for _, sender in pipes:
            sender.close()
        outcomes = [Outcome() for _ in processes]
        ready = [receiver for receiver, _ in pipes if receiver.poll(within) and receiver.recv() == "ready"]
        began = time.monotonic()
        waiting = {processes[rank].sentinel: rank for rank in (range(count) if ended is None else ended)}
        while waiting and time.monotonic() - began < within:
            for receiver in ready:  # a pipe that is full would keep its process
                _receive(receiver, outcomes[[r for r, _ in pipes].index(receiver)])
            for sentinel in wait(list(waiting), timeout=0.05):
                outcomes[waiting.pop(sentinel)].seconds = time.monotonic() - began
        for process in processes:
            if process.exitcode is None:
                process.kill()
            else:
                outcomes[processes.index(process)].code = process.exitcode
            process.join()
        for (receiver, _), outcome in zip(pipes, outcomes, strict=True):
            _receive(receiver, outcome)
    late = list(waiting.values())
    assert not late, f"processes {late} of {count} had not ended after {within} s: {outcomes}"
    return outcomes


def _receive(receiver, outcome):
    try:
        if receiver.poll():
            packed, outcome.error = receiver.recv()
            outcome.value = torch.load(io.BytesIO(packed), weights_only=False)
    except EOFError:
        pass


def launched(count, *lines, sabotage=None, **options):
    """Commands, one after the other, in so many processes, as ``torchrun`` starts them.

    Parameters
    ----------
    lines : sequence of str
        The words of each command; in their place may stand a list of one for each process.
    sabotage : callable, optional
        Called in each process before, with its rank.

    Returns
    -------
    list of Outcome
        Their values are a list of the code and of what was printed on stdout and on stderr, for each line.
    """
    ports = [free_port() for _ in lines]
    return together(_commands, count, lines, ports, sabotage, os.getcwd(), joined=False, **options)


def _commands(lines, ports, sabotage, folder):
    from geomsink.cli import cli, several

    os.chdir(folder)
    several.PATIENCE = 0.2  # nobody here ends the others
    rank, done = int(os.environ["RANK"]), []
    if sabotage is not None:
        sabotage(rank)
    for line, port in zip(lines, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        printed = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed[0]), contextlib.redirect_stderr(printed[1]):
            try:
                cli([word if isinstance(word, str) else word[rank] for word in line], prog_name="geomsink")
                code = 0
            except SystemExit as end:
                code = end.code
        done.append((code, *(one.getvalue() for one in printed)))
    return done


def free_port():
    """One for processes to meet at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _work(function, rank, count, where, sender, arguments):
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1")
    if where is not None:
        dist.init_process_group("gloo", init_method=where, rank=rank, world_size=count)
    sender.send("ready")
    value = error = None
    try:
        value = function(*arguments)
    except Exception as found:
        error = f"{type(found).__name__}: {found}"
    packed = io.BytesIO()  # tensors in pipes would need this process to live on
    torch.save(value, packed)
    sender.send((packed.getvalue(), error))
