"""Pairs row by row: which there are, and how many at a time."""

import pytest
import torch

from geomsink import costs, engine
from geomsink.engine import Blocks, row_by_row, rows

ROWS = torch.tensor([[0, 3], [3, 4], [4, 7]])
COLUMNS = torch.tensor([[0, 2], [2, 5], [5, 5], [5, 6]])


@pytest.fixture
def pair():
    x, y = torch.rand(7, 2, dtype=torch.float64), torch.rand(6, 2, dtype=torch.float64)
    return engine.pair(x, y, costs.get("sqeuclidean"), "dense")


def walked(pair, keep, wanted):
    """What each step has, as lists."""
    steps = row_by_row(pair, Blocks.from_mask(ROWS, COLUMNS, torch.tensor(keep, dtype=torch.bool)), wanted)
    return [(some.tolist(), columns.tolist()) for some, columns in steps]


def test_rows_and_the_columns_that_they_see(pair):
    keep = [[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 0, 1]]
    expected = [([0, 1, 2], [0, 1, 5]), ([3], [2, 3, 4]), ([4, 5, 6], [0, 1, 2, 3, 4, 5])]
    assert walked(pair, keep, torch.arange(7)) == expected
    assert walked(pair, keep, torch.tensor([1, 5])) == [([1], [0, 1, 5]), ([5], [0, 1, 2, 3, 4, 5])]


def test_a_number_of_pairs_at_a_time(pair, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK", 8 * pair.cost.temporaries(2))
    keep = [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    some = [of_step for of_step, _ in walked(pair, keep, torch.arange(7))]
    assert some == [[0], [1], [2], [3], [4], [5], [6]]
    monkeypatch.setattr(rows, "CHUNK", 12 * pair.cost.temporaries(2))
    some = [of_step for of_step, _ in walked(pair, keep, torch.arange(7))]
    assert some == [[0, 1], [2], [3], [4, 5], [6]]


@pytest.mark.parametrize("seen", [[0, 0, 0, 0], [0, 0, 1, 0]], ids=["no range", "an empty range"])
def test_rows_without_columns_are_left_out(pair, seen):
    assert walked(pair, [[0, 1, 0, 0], seen, [0, 0, 0, 1]], torch.arange(7)) == [
        ([0, 1, 2], [2, 3, 4]),
        ([4, 5, 6], [5]),
    ]
    assert walked(pair, [seen, seen, seen], torch.arange(7)) == []
