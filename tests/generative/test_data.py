"""What a generator learns from: each source gives what it should, in an order that follows from the seed alone."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

import geomsink
from geomsink import generative
from geomsink.generative.data import all_of, set_apart, source
from geomsink.generative.randomness import seeded

LIKE = torch.zeros(1)
POINTS = torch.arange(20.0).reshape(10, 2)


def batches(data, batch, numbers, seed=0):
    made = source(data, batch, seed, LIKE)
    return [made.batch(k) for k in numbers]


def test_all_of_finite_data_comes_as_it_is():
    for data in (POINTS, POINTS.numpy(), POINTS.double(), POINTS.tolist(), TensorDataset(POINTS, torch.arange(10))):
        data = np.float32(data) if isinstance(data, list) else data
        (whole,) = batches(data, None, [3])
        assert whole.dtype == torch.float32 and torch.equal(whole, POINTS)


@pytest.mark.parametrize("data", [POINTS, TensorDataset(POINTS, torch.arange(10))], ids=["tensor", "dataset"])
def test_each_pass_has_every_row_once(data):
    seen = torch.cat(batches(data, 3, range(6)))[:, 0]  # two passes of three batches
    for one in seen.split(9):
        assert len(one.unique()) == 9
    assert not torch.equal(seen[:9], seen[9:])
    assert torch.equal(seen[9:12], batches(data, 3, [3])[0][:, 0])  # batches are had in any order
    assert not torch.equal(seen[:9], torch.cat(batches(data, 3, range(3), seed=1))[:, 0])


@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(TensorDataset(POINTS, torch.arange(10)), batch_size=4, shuffle=True),
        lambda: DataLoader(POINTS, batch_size=4, shuffle=True, generator=torch.Generator()),
        lambda: DataLoader(POINTS, batch_size=4, sampler=RandomSampler(POINTS, generator=torch.Generator())),
        lambda: DataLoader(POINTS, batch_size=4, shuffle=True, num_workers=1),
    ],
    ids=["labels", "generator", "sampler", "workers"],
)
def test_loaders(loader):
    """The same order again, from the middle too, whatever torch's random numbers are."""
    torch.manual_seed(1)
    first = batches(loader(), None, range(7))
    assert [len(batch) for batch in first] == [4, 4, 2, 4, 4, 2, 4]
    assert sorted(torch.cat(first[:3])[:, 0].tolist()) == POINTS[:, 0].tolist()
    assert not torch.equal(torch.cat(first[:3]), torch.cat(first[3:6]))
    torch.manual_seed(2)
    (later,) = batches(loader(), None, [4])
    assert torch.equal(later, first[4])


class Noisy(Dataset):
    """Augmented by each of the three global random generators."""

    def __len__(self):
        return 8

    def __getitem__(self, row):
        return torch.tensor([row, torch.rand(()).item(), np.random.rand(), random.random()])  # noqa: NPY002


def test_random_augmentations_follow_from_the_seed():
    runs = [batches(DataLoader(Noisy(), batch_size=4, shuffle=True), None, range(3)) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert len(torch.cat(runs[0])[:, 1:].flatten().unique()) == 36
    a, b, again = batches(Noisy(), 4, [0, 1, 0])
    assert torch.equal(a, again) and not torch.equal(a, b)
    apart = [set_apart(source(Noisy(), 4, 0, LIKE), 2, 0)[1] for _ in range(2)]
    assert torch.equal(*apart)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(POINTS)


def test_streams_begin_again():
    a, b, c, d = batches(Stream(), 4, range(4))
    assert torch.equal(torch.cat((a, b, c)), POINTS) and torch.equal(a, d)
    with pytest.raises(ValueError, match="^batch: None given for an IterableDataset"):
        source(Stream(), None, 0, LIKE)


def test_shapes_are_sampled_anew_for_each_batch(tmp_path):
    a, b, again = batches("shape:torus", 500, [0, 1, 0])
    assert torch.equal(a, again) and not torch.equal(a, b)
    # On the torus of radii 1 and 0.4 in the unit cube (its longest side is 2.8), to float32's rounding.
    p = (a.double() - 0.5) * 2.8
    flat = p.abs().mean(0).argmin()
    round_ = p[:, [k for k in range(3) if k != flat]].norm(dim=1)
    torch.testing.assert_close(
        (round_ - 1) ** 2 + p[:, flat] ** 2, torch.full((500,), 0.16).double(), rtol=0, atol=1e-5
    )
    corners = np.random.default_rng(0).random((30, 3)).astype(np.float32) * 5
    path = tmp_path / "cloud.npz"
    geomsink.shapes.write(path, corners)
    drawn = source(generative.Shape(path, normalize=True), 20, 0, LIKE)
    path.unlink()  # it has been read
    rows = Counter(map(tuple, drawn.batch(0).tolist()))
    expected = set(map(tuple, geomsink.shapes.mesh.fit_unit_cube(corners, corners.min(0), corners.max(0)).tolist()))
    assert max(rows.values()) == 1 and set(rows) <= expected


def test_a_mesh_is_sampled_on_its_faces(tmp_path):
    path = tmp_path / "square.obj"
    path.write_text("v 0 0 7\nv 2 0 7\nv 2 2 7\nv 0 2 7\nf 1 2 3 4\n")
    (points,) = batches(path, 4000, [0])
    assert (points[:, 2] == 7).all() and points[:, :2].min() >= 0 and points[:, :2].max() <= 2
    # Means of 4000 uniform numbers on [0, 2]: standard deviation 0.009.
    torch.testing.assert_close(points[:, :2].mean(0), torch.ones(2), rtol=0, atol=0.04)


def test_functions_draw_from_the_seed():
    def data(n):
        return torch.rand(n, 2)

    a, b, again = batches(data, 5, [0, 1, 0])
    assert torch.equal(a, again) and not torch.equal(a, b)
    with pytest.raises(ValueError, match="^data: 4 points were drawn, expected 5"):
        source(lambda n: torch.rand(n - 1, 2), 5, 0, LIKE).batch(0)


def test_random_numbers_outside_are_left_alone():
    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
    expected = torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
    with seeded(1, 2, 3):
        torch.rand(5), random.random(), np.random.rand(5)  # noqa: NPY002
    assert (torch.rand(1), random.random(), np.random.rand()) == expected  # noqa: NPY002


@pytest.mark.parametrize("data", [POINTS, TensorDataset(POINTS)], ids=["tensor", "dataset"])
def test_what_is_set_apart_is_not_learned_from(data):
    for amount in (3, 0.3):
        rest, apart = set_apart(source(data, 7, 0, LIKE), amount, 0)
        assert len(apart) == 3
        assert sorted(torch.cat((apart, rest.batch(0)))[:, 0].tolist()) == POINTS[:, 0].tolist()
    drawn = source("shape:star", 10, 0, LIKE)
    rest, apart = set_apart(drawn, 15, 0)
    assert rest is drawn and len(apart) == 15 and not torch.equal(apart[:10], drawn.batch(0))


def test_all_held_out_data():
    for data in (POINTS, DataLoader(TensorDataset(POINTS), batch_size=3), Stream()):
        assert torch.equal(all_of("held_out", data, 0, LIKE), POINTS)


@pytest.mark.parametrize(
    ("data", "batch", "error", "sentence"),
    [
        (3, None, TypeError, "^data: a int was given, expected a tensor, an array, a Dataset"),
        (1j * POINTS, None, TypeError, "^data: dtype is complex64, expected real numbers of at most 64 bits"),
        (POINTS[:, 0], None, ValueError, r"^data: shape is \(10,\), expected \(points, coordinates\)"),
        (POINTS / 0, None, ValueError, "^data: 20 of 20 numbers are NaN or infinite"),
        (POINTS, 11, ValueError, "^batch: 11 given, but data has 10 points"),
        (POINTS, 0, ValueError, "^batch: 0 given, expected a whole number of at least 1"),
        (POINTS, 2.0, TypeError, "^batch: a float was given, expected a whole number"),
        (DataLoader(POINTS), 4, ValueError, "^batch: 4 given with a DataLoader"),
        ("shape:torus", None, ValueError, "^batch: None given for data that are drawn anew"),
        ("shape:torsu", 4, ValueError, "torsu.*torus"),
        ("nothing.ply", 4, FileNotFoundError, "nothing.ply"),
    ],
)
def test_bad_data_are_refused(data, batch, error, sentence):
    with pytest.raises(error, match=sentence):
        source(data, batch, 0, LIKE)


@pytest.mark.parametrize(
    ("data", "batch", "amount", "error", "sentence"),
    [
        (POINTS, 4, 8, ValueError, "^held_out: 8 of 10 points given, which leaves 2 for batches of 4"),
        (POINTS, None, 0, ValueError, "^held_out: 0 given"),
        (POINTS, None, 1.5, ValueError, "^held_out: 1.5 given, expected a number between 0 and 1"),
        ("shape:cube", 4, 0.5, TypeError, "^held_out: a float was given, expected a whole number"),
        (DataLoader(POINTS), None, 3, TypeError, "^held_out: 3 given with a DataLoader"),
    ],
)
def test_bad_amounts_are_refused(data, batch, amount, error, sentence):
    with pytest.raises(error, match=sentence):
        set_apart(source(data, batch, 0, LIKE), amount, 0)
    with pytest.raises(TypeError, match="^held_out: data that are drawn anew were given"):
        all_of("held_out", "shape:cube", 0, LIKE)


def test_arrays_of_all_kinds_are_read_as_elsewhere():
    """Masked points were learned from, other byte orders refused in torch's words, and bfloat16 had no checksum."""
    masked = np.ma.masked_array(POINTS.numpy(), mask=np.zeros((10, 2), bool))
    masked[3] = np.ma.masked
    with pytest.raises(ValueError, match="^data: 2 of 20 numbers are masked"):
        source(masked, 3, 0, LIKE)
    with pytest.raises(ValueError, match="^data: 2 of 20 numbers are masked"):
        batches(lambda n: masked, 10, [0])
    swapped = POINTS.numpy().astype(POINTS.numpy().dtype.newbyteorder())
    for data in (swapped, lambda n: swapped):
        assert torch.equal(batches(data, 10, [0])[0].sort(0).values, POINTS)
    half, other = (source(POINTS.bfloat16() + k, 3, 0, torch.zeros(1, dtype=torch.bfloat16)) for k in (0, 1))
    assert half.describe() != other.describe()
