"""A sparse factor of Newton's matrix, on the host.

Iterations find no way through a plan that has nearly fallen to pieces, and torch has no sparse factorisation for a GPU:
SciPy's is made of a copy, which is small, as such a plan has a few entries a point. No other file of the wing copies
arrays to the host.
"""

from __future__ import annotations

import math
from typing import Any

import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from ..multiscale import Sparse

HARDER, LEAST = 100.0, 1e-16
"""Times the shift, and at least that, with which a factorisation is tried again that rounding has broken off."""


class SparseFactor:
    """(1 + s) I − S Sᵀ, to be factorised.

    Parameters
    ----------
    scaled : Sparse, shape (N, M)
        S, on any device.

    Examples
    --------
    >>> from geomsink.multiscale import Places
    >>> one = torch.zeros(1, dtype=torch.int32)
    >>> half = Sparse.of(Places(one, one, (1, 1)), torch.tensor([0.5]).double())
    >>> SparseFactor(half).solve(torch.tensor([3.0]).double(), shift=0.0)
    tensor([4.], dtype=torch.float64)
    """

    def __init__(self, scaled: Sparse):
        rows, columns, entries = (_on_host(t) for t in (scaled.rows, scaled.columns, scaled.entries))
        host = scipy.sparse.csr_matrix((entries, (rows, columns)), shape=scaled.shape)
        self._one = scipy.sparse.identity(scaled.shape[0])
        self._matrix = self._one - host @ host.T

    def solve(self, right: Tensor, shift: float) -> Tensor:
        """z, shape (N,), on the device of the right-hand side; of a larger shift, where rounding makes the matrix
        singular; not numbers, where the matrix is none of numbers."""
        there = _on_host(right)
        while shift < 1.0:
            try:
                factor = scipy.sparse.linalg.splu(
                    (self._matrix + shift * self._one).tocsc(),
                    permc_spec="MMD_AT_PLUS_A",
                    diag_pivot_thresh=0.0,
                    options={"SymmetricMode": True},
                )
                if (factor.U.diagonal() > 0.0).all():
                    return torch.from_numpy(factor.solve(there)).to(right.device)
            except RuntimeError:  # exactly singular
                pass
            shift = HARDER * max(shift, LEAST)
        return torch.full_like(right, math.nan)


def _on_host(t: Tensor) -> Any:
    return t.cpu().numpy()
