"""Checkpoints: a resumed run is the uninterrupted one bit for bit, and nothing that happens to a process loses it."""

import os
import pickle
import shutil
import warnings
import zipfile

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from geomsink import MMD, SinkhornDivergence
from geomsink.generative import (
    MLP,
    CheckpointError,
    CheckpointWarning,
    Clip,
    Ellipse,
    GradientPenalty,
    LearnedCost,
    Targets,
    Trainer,
    checkpoints,
    fit,
    load,
)

DATA = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) + 1


class Dropping(nn.Module):
    """With random numbers, buffers and latent variables of its own."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))

    def latent(self, n):
        return torch.rand(n, 2)

    def forward(self, z):
        return self.net(z)


def phi():
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))


def plain():
    return Ellipse(), DATA, SinkhornDivergence(blur=0.5), dict(optimizer="sgd", lr=0.1)


def everything():
    return (
        MLP(2, 2, width=8, depth=1), DATA, SinkhornDivergence(blur=0.5),
        dict(batch=8, samples=12, optimizer="adam", lr=(0.01, 0.001), clip=0.5, average=0.8, blur=(1.0, 0.2),
             held_out=0.25, evaluate_every=2, patience=50, seed=5, log=None),
    )  # fmt: skip


def adversary():
    return (
        Dropping(), DataLoader(TensorDataset(DATA), batch_size=12, shuffle=True), SinkhornDivergence(epsilon=0.5),
        dict(
            features=LearnedCost(phi(), steps=2, constraint=Clip(0.3)), average=0.9, epsilon=lambda t: 0.5 + 0.1 * t,
            held_out=DATA[:9], score=MMD(kernel="energy"), evaluate_every=3,
        ),
    )  # fmt: skip


def spectral():
    features = LearnedCost(phi(), steps=1, constraint="spectral", optimizer="adam")
    return Ellipse(), "shape:star", MMD(kernel="energy"), dict(features=features, batch=15)


def penalty():
    features = LearnedCost(phi(), steps=2, constraint=GradientPenalty())
    return Ellipse(), lambda n: torch.randn(n, 2), MMD(kernel="energy"), dict(features=features, batch=9)


def targets():
    return Dropping(), DATA, MMD(kernel="energy"), dict(targets=Targets(5, 7), batch=15, average=0.5, optimizer="adam")


def made(setting, folder, steps=12, every=3):
    torch.manual_seed(0)
    generator, data, loss, options = setting()
    if data == "shape:star":
        generator, options["features"].phi[0] = Ellipse(3), nn.Linear(3, 8)
    torch.manual_seed(torch.seed() % 2**31)  # what torch would draw outside is of no matter
    return Trainer(generator, data, loss, steps=steps, folder=folder, checkpoint_every=every, **options)


def state(trainer):
    result = trainer.result()
    return [
        [{k: v for k, v in row.items() if k != "seconds"} for row in result.history],
        (result.stopped, result.best_step, result.held_out),
        *(part.state_dict() for part in (trainer.generator, trainer.average, result.generator) if part is not None),
        trainer._algorithm.state(),
    ]


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize(
    "setting", [plain, everything, adversary, spectral, penalty, targets], ids=lambda s: s.__name__
)
def test_a_resumed_run_is_the_uninterrupted_one(setting, tmp_path):
    whole = made(setting, tmp_path / "whole")
    whole.train()
    expected = state(whole)
    for stop in (2, 5, 6, 11):  # before any checkpoint, between two, at one, after the last
        broken = made(setting, tmp_path / "broken")
        for row in broken.run():
            if row["step"] == stop:
                break
    resumed = made(setting, tmp_path / "broken")
    assert resumed.step == 9
    resumed.train()
    assert same(state(resumed), expected)
    assert not same(state(made(setting, tmp_path / "short", steps=11)), expected)
    done = made(setting, tmp_path / "broken")  # nothing is left to do
    done.train()
    assert same(state(done), expected)


def test_a_size_beyond_floats_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^lr: 10+ given, expected a positive number\.$"):
        Trainer(Ellipse(), DATA, MMD(kernel="energy"), steps=1, lr=10**400)


def test_more_steps_later(tmp_path):
    made(plain, tmp_path / "a", steps=4).train()
    longer, whole = made(plain, tmp_path / "a", steps=10), made(plain, tmp_path / "b", steps=10)
    longer.train()
    whole.train()
    assert same(state(longer), state(whole))


def test_patience_ends_a_run_for_good(tmp_path):
    options = dict(lr=0.5, held_out=0.25, evaluate_every=1, folder=tmp_path)
    first = fit(Ellipse(), DATA, MMD(kernel="energy"), steps=30, patience=2, **options)
    again = fit(Ellipse(), DATA, MMD(kernel="energy"), steps=30, patience=2, **options)
    assert first.stopped == again.stopped == "patience" and first.steps == again.steps < 30
    assert torch.equal(first.generator.matrix, again.generator.matrix)
    further = fit(Ellipse(), DATA, MMD(kernel="energy"), steps=30, patience=100, **options)
    assert further.stopped == "steps" and further.steps == 30


def test_two_are_kept(tmp_path):
    trainer = made(plain, tmp_path, steps=10)
    trainer.train()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-000000009.pt", "checkpoint-000000010.pt", "log.csv"]
    assert trainer.save() == tmp_path / "checkpoint-000000010.pt"
    with pytest.raises(ValueError, match="^folder: None was given"):
        Trainer(Ellipse(), DATA, MMD(kernel="energy")).save()


# ---------------------------------------------------------------------- bad files


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def flip(path):
    """One bit of a number."""
    with zipfile.ZipFile(path) as archive:
        part = max((part for part in archive.infolist() if "/data/" in part.filename), key=lambda part: part.file_size)
        with archive.open(part) as numbers:
            place = path.read_bytes().index(numbers.read())
    content = bytearray(path.read_bytes())
    content[place + part.file_size // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def malicious(path):
    torch.save({"version": 1, "step": 99, "settings": Malicious(path.parent / "harm")}, path)


def malicious_pickle(path):
    path.write_bytes(pickle.dumps(Malicious(path.parent / "harm")))


def foreign(path):
    torch.save({"weights": torch.zeros(3)}, path)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A folder of checkpoints after seven steps, whose last one is after six, and the state after eight.

    Of the adversary, whose checkpoints are large enough for their middle to be numbers.
    """
    folder = tmp_path_factory.mktemp("interrupted")
    whole, broken = (made(adversary, folder / name, steps=8) for name in ("whole", "broken"))
    whole.train()
    for row in broken.run():
        if row["step"] == 7:
            break
    return folder / "broken", state(whole)


@pytest.mark.parametrize("seconds", [10**400, float("nan"), True, "1"], ids=["large", "nan", "bool", "str"])
def test_checkpoints_after_a_time_that_is_no_number_are_refused(seconds, tmp_path):
    state = {"settings": {}, "recipe": None, "seconds": seconds, "held_out": None, "generator": {}}
    path = checkpoints.write(tmp_path, 1, state)
    with pytest.raises(CheckpointError, match=f"it holds a {type(seconds).__name__} as seconds, expected a file"):
        checkpoints.read(path)


@pytest.mark.parametrize("damage", [flip, cut, empty, malicious, malicious_pickle, foreign])
def test_damaged_checkpoints_are_refused(damage, interrupted, tmp_path):
    """The one before is used, and training ends where it would have; nothing in a file is run."""
    setting, (folder, expected) = adversary, interrupted
    shutil.copytree(folder, tmp_path / "broken")
    first, last = sorted((tmp_path / "broken").glob("*.pt"))
    damage(last)
    with pytest.raises(CheckpointError, match=rf"^.*{last.name}: .* expected a file that a Trainer wrote\."):
        checkpoints.read(last)
    with pytest.warns(CheckpointWarning, match=rf"{last.name}: .* {first.name} is used in its place"):
        resumed = made(setting, tmp_path / "broken", steps=8)
    assert resumed.step == 3
    resumed.train()
    assert same(state(resumed), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "broken", Dropping())
    for path in (tmp_path / "broken").glob("*.pt"):
        damage(path)
    with pytest.raises(CheckpointError):
        made(setting, tmp_path / "broken")
    assert not (tmp_path / "broken" / "harm").exists()


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failed_write_leaves_what_was_there(call, tmp_path, monkeypatch):
    trainer = made(plain, tmp_path, steps=9)
    rows = trainer.run()
    for _ in range(4):
        next(rows)
    before = (tmp_path / "checkpoint-000000003.pt").read_bytes()

    def failing(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(f"geomsink.atomic.os.{call}", failing)
        with pytest.raises(OSError, match="disk full"):
            trainer.save()
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["checkpoint-000000003.pt"]
    assert (tmp_path / "checkpoint-000000003.pt").read_bytes() == before
    trainer.save()
    assert not list(tmp_path.glob("*.part*"))


# ----------------------------------------------------------------- other settings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(seed=1), "^seed: the run in .* has '0', this one '1'; expected the same, or another folder"),
        (dict(data=DATA + 1), "^data: the run in .* has '40 points"),
        (dict(batch=5), "^batch: the run in .* has 'None', this one '5'"),
        (dict(loss=MMD(kernel="laplacian", blur=0.5)), "^loss: the run in"),
        (dict(lr=0.2), "^optimizer: the run in .* has 'RMSprop.*lr=0.1.*this one 'RMSprop.*lr=0.2"),
        (dict(lr=(0.1, 0.2)), "^lr: the run in .* has 'none', this one 'from 0.1 to 0.2 in 2 steps'"),
        (dict(optimizer="adam"), "^optimizer: the run in"),
        (dict(average=0.5), "^average: the run in .* has 'None', this one '0.5'"),
        (dict(held_out=5), "^held_out: the run in .* has 'none', this one .5 points each 100 steps by MMD"),
        (dict(features=phi()), "^features: the run in .* has 'none', this one 'Sequential, 5 steps, Clip"),
        (dict(targets=Targets(3)), r"^targets: the run in .* has 'None', this one 'Targets\(steps=3, batch=None"),
        (dict(generator=Ellipse(base="gaussian")), None),  # a generator of the same weights is the caller's affair
        (dict(generator=MLP(2, 2)), r"checkpoint-000000002\.pt: it is of other networks \(.*; expected the same ones"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(options, sentence, tmp_path):
    given = dict(generator=Ellipse(), data=DATA, loss=MMD(kernel="energy"), lr=0.1, steps=2, folder=tmp_path)
    fit(**given)
    if sentence is None:
        fit(**(given | options))
    else:
        with pytest.raises(ValueError, match=sentence):
            fit(**(given | options))


def test_a_schedule_over_other_steps_is_refused(tmp_path):
    given = dict(generator=Ellipse(), data=DATA, loss=MMD(blur=1.0), folder=tmp_path, blur=(2.0, 1.0))
    fit(**given, steps=2)
    with pytest.raises(ValueError, match="^schedule: the run in .* 'from 2 to 1 in 2 steps', this one .* in 3 steps"):
        fit(**given, steps=3)


# ------------------------------------------------------------------------- loading


def test_generators_are_loaded(tmp_path):
    """With the weights that a result has, for ready generators and for others."""
    for name, options in (("last", {}), ("average", dict(average=0.5)), ("best", dict(average=0.5, held_out=9))):
        folder = tmp_path / name
        fitted = fit(MLP(2, 2, width=8), DATA, MMD(kernel="energy"), steps=7, lr=0.1, evaluate_every=2, folder=folder,
                     **options)  # fmt: skip
        found = load(folder)
        assert isinstance(found, MLP) and not found.training
        assert same(found.state_dict(), fitted.generator.state_dict())
    with pytest.raises(CheckpointError, match="it is of another generator"):
        load(folder, Ellipse())
    fitted = fit(Dropping(), DATA, MMD(kernel="energy"), steps=2, folder=tmp_path / "own")
    assert same(load(tmp_path / "own", Dropping()).state_dict(), fitted.generator.state_dict())
    with pytest.raises(TypeError, match="^generator: None given, but .* is of a module of another kind"):
        load(tmp_path / "own")
    with pytest.raises(FileNotFoundError, match=r"^folder: .*nothing has no checkpoint"):
        load(tmp_path / "nothing")
