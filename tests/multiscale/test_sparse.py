"""Sparse matrices on a CPU and on a pretend GPU, against full ones."""

import contextlib

import pytest
import torch
from pretend import pretend

from geomsink.multiscale import Places, Sparse, by_rows


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    with pretend() if request.param == "cuda" else contextlib.nullcontext():
        yield request.param


def full(n=13, m=9, seed=0):
    """A matrix with an empty row and an empty column, and few other entries."""
    drawn = torch.Generator().manual_seed(seed)
    matrix = torch.rand(n, m, generator=drawn, dtype=torch.float64)
    matrix[matrix > 0.3] = 0.0
    matrix[4], matrix[:, 2] = 0.0, 0.0
    return matrix


def sparse(matrix, device):
    i, j = matrix.nonzero(as_tuple=True)
    places = Places(*(t.int().to(device) for t in (i, j)), tuple(matrix.shape))
    return Sparse.of(places, matrix[i, j].to(device))


def vector(n, *more):
    return torch.rand(n, *more, generator=torch.Generator().manual_seed(n), dtype=torch.float64) - 0.5


def agrees(found, expected, device):
    assert found.device.type == device
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("turned", [False, True])
def test_products_and_what_they_are_made_of(device, turned):
    A = full()
    matrix = sparse(A, device)
    A, matrix = (A.T, matrix.T) if turned else (A, matrix)
    n, m = A.shape
    assert matrix.shape == (n, m)
    for w in (vector(m), vector(m, 3)):
        agrees(matrix @ w.to(device), A @ w, device)
    agrees(matrix.T @ vector(n).to(device), A.T @ vector(n), device)
    left, right = vector(n), vector(m)
    scaled = matrix.scaled(left.to(device), right.to(device))
    agrees(scaled @ torch.ones(m, dtype=torch.float64, device=device), (left[:, None] * A * right).sum(1), device)
    agrees(scaled.gram(), gram(left[:, None] * A * right), device)
    agrees(matrix.full(), A, device)
    agrees(matrix.sum(), A.sum(), device)
    again = matrix.with_entries(2.0 * matrix.entries)
    agrees(again @ right.to(device), 2.0 * (A @ right), device)


def gram(A, groups=None, count=0):
    if groups is not None:
        A = torch.zeros(count, A.shape[1], dtype=A.dtype).index_add_(0, groups, A)
    return A @ A.T


@pytest.mark.parametrize("turned", [False, True])
def test_products_of_groups_of_rows(device, turned):
    A = full()
    matrix = sparse(A, device)
    A, matrix = (A.T, matrix.T) if turned else (A, matrix)
    groups = torch.tensor([2, 0, 3, 2, 1, 0, 3, 1, 2, 2, 0, 1, 3])[: len(A)]
    agrees(matrix.gram(groups.to(device), 5), gram(A, groups, 5), device)


def test_rows_are_put_in_order(device):
    A = full()
    i, j = A.nonzero(as_tuple=True)
    mixed = torch.randperm(len(i), generator=torch.Generator().manual_seed(1))
    places, values = by_rows(*(t[mixed].to(device) for t in (i, j, A[i, j])), tuple(A.shape))
    assert torch.equal(places.rows.cpu(), i.int()) and torch.equal(places.columns.cpu(), j.int())
    assert torch.equal(values.cpu(), A[i, j])
    assert places.starts.tolist() == [0, *(A != 0).sum(1).cumsum(0).tolist()]
    which = torch.tensor([0, 3, 4])
    few = places.some(which.to(device))
    assert len(few) == 3 and torch.equal(few.columns.cpu(), j[which].int())


def test_no_entries(device):
    matrix = sparse(torch.zeros(3, 2, dtype=torch.float64), device)
    agrees(matrix @ vector(2).to(device), torch.zeros(3, dtype=torch.float64), device)
    agrees(matrix.T @ vector(3).to(device), torch.zeros(2, dtype=torch.float64), device)
    agrees(matrix.gram(), torch.zeros(3, 3, dtype=torch.float64), device)
