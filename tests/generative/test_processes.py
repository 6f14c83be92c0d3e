"""Two processes make the update of one: the loss sees the union of their points."""

import os
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from geomsink import MMD, SinkhornDivergence
from geomsink.generative import (
    MLP,
    Clip,
    GradientPenalty,
    LearnedCost,
    NonFiniteError,
    Targets,
    Trainer,
    load,
    processes,
)

WORLD = 2
DATA = torch.randn(31, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
TIGHT = dict(rtol=1e-9, atol=1e-12)  # sums in another order, in float64
pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch was built without gloo, which the CPU needs"
)


def trainer(name, folder=None, steps=3):
    torch.manual_seed(0)
    generator = MLP(2, 2, width=8, depth=1).double()
    phi = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 3)).double()
    settings = {
        "full": (DATA, SinkhornDivergence(blur=0.5), dict(optimizer="sgd", lr=0.1)),
        "batches": (
            DATA, SinkhornDivergence(blur=0.5),
            dict(batch=9, samples=11, optimizer="adam", clip=0.1, average=0.5, held_out=7, evaluate_every=1),
        ),
        "loader": (DataLoader(DATA, batch_size=9, shuffle=True), MMD(kernel="energy"), dict(samples=7)),
        "clip": (DATA, SinkhornDivergence(epsilon=0.5), dict(features=LearnedCost(phi, steps=2, constraint=Clip(0.3)))),
        "penalty": (
            DATA, MMD(kernel="energy"),
            dict(features=LearnedCost(phi, steps=2, constraint=GradientPenalty(bound=0.1), lr=0.01), samples=31),
        ),
        "targets": (
            DATA, SinkhornDivergence(blur=0.5),  # batches of two points: some are all of one process
            dict(targets=Targets(8, 2), optimizer="adam", average=0.5, clip=1.0),
        ),
    }  # fmt: skip
    data, loss, options = settings[name]
    return Trainer(generator, data, loss, steps=steps, seed=3, folder=folder, checkpoint_every=1, **options)


SETTINGS = ("full", "batches", "loader", "clip", "penalty", "targets")


def outcome(name, folder=None, steps=3):
    made = trainer(name, folder, steps)
    rows = list(made.run())
    return [
        *(p.detach() for p in made.generator.parameters()), *(p.detach() for p in made.result().generator.parameters()),
        torch.tensor(
            [[row["loss"], row["gradient_norm"], row["held_out"] or 0.0, row.get("targets_loss", 0.0)] for row in rows]
        ).double(),
    ]  # fmt: skip


def gathered():
    """Rows of different numbers, in order; and what comes back are the own rows' derivatives."""
    mine = torch.arange(2.0 + dist.get_rank()).requires_grad_()
    whole = processes.gather(mine)
    (whole * torch.arange(5.0)).sum().backward()
    return [whole.detach(), processes.gather(mine.grad)]


def sampled():
    """A loader for each process with its part of the data: all are seen once in a pass, whoever has them."""
    data = torch.arange(8.0).reshape(8, 1).expand(8, 2)
    seen = []

    def loss(x, y):
        seen.append(y[:, 0].clone())
        return x.square().sum()

    loader = DataLoader(data, batch_size=2, sampler=DistributedSampler(data, shuffle=True))
    Trainer(MLP(1, 2), loader, loss, steps=4).train()
    return [torch.cat(seen[:2]), torch.cat(seen[2:])]


def failing():
    """Points of one process alone are not finite: each process says so."""

    class Bad(MLP):
        def forward(self, z):
            return super().forward(z) / (1.0 - dist.get_rank())

    try:
        Trainer(Bad(1, 2), DATA.float(), MMD(kernel="energy"), steps=1).train()
    except NonFiniteError as error:
        return [torch.tensor(float(error.what == "generated points"))]
    return [torch.tensor(0.0)]


def started_apart():
    """Weights are the first process's, whatever the others began with."""
    torch.manual_seed(dist.get_rank())
    generator = MLP(1, 2)
    Trainer(generator, DATA.float(), MMD(kernel="energy"), steps=2, batch=5).train()
    return [p.detach() for p in generator.parameters()]


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    results = {name: outcome(name) for name in SETTINGS}
    outcome("batches", Path(folder) / "run", steps=2)
    results["resumed"] = outcome("batches", Path(folder) / "run", steps=3)
    for function in (gathered, sampled, failing, started_apart):
        results[function.__name__] = function()
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found():
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        multiprocessing.spawn(work, args=(folder,), nprocs=WORLD)
        results = [torch.load(f"{folder}/{rank}.pt", weights_only=True) for rank in range(WORLD)]
        results[0]["loaded"] = list(load(Path(folder) / "run", MLP(2, 2, width=8, depth=1).double()).parameters())
        yield results


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_are_one(found, name):
    """Losses, norms and weights after three steps."""
    for ours, first, second in zip(outcome(name), found[0][name], found[1][name], strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, ours, **TIGHT)


def test_a_resumed_run_of_two_processes_is_the_uninterrupted_one(found):
    weights = len(found[0]["resumed"]) - 1  # the rest are rows, which the first process has of the last step alone
    for rank in range(WORLD):
        for resumed, whole in zip(found[rank]["resumed"][:weights], found[rank]["batches"], strict=False):
            assert torch.equal(resumed, whole)
    for loaded, kept in zip(found[0]["loaded"], found[0]["resumed"][weights // 2 :], strict=False):
        assert torch.equal(loaded, kept)


def test_gathering(found):
    for rank in range(WORLD):
        whole, gradient = found[rank]["gathered"]
        assert whole.tolist() == [0, 1, 0, 1, 2] and gradient.tolist() == [0, 1, 2, 3, 4]


def test_distributed_samplers(found):
    for epoch in found[0]["sampled"]:
        assert sorted(epoch.tolist()) == list(range(8))
    first, second = found[0]["sampled"]
    assert not torch.equal(first, second) and torch.equal(first, found[1]["sampled"][0])


def test_failures_are_everywhere(found):
    assert [float(found[rank]["failing"][0]) for rank in range(WORLD)] == [1, 1]


def test_weights_begin_as_the_first_process_has_them(found):
    for one, other in zip(*(found[rank]["started_apart"] for rank in range(WORLD)), strict=True):
        assert torch.equal(one, other)
