"""A solved transport plan as a linear operator that is never stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Generic

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from .. import engine
from ..copies import Constant
from ..counts import whole
from ..derivatives import Terms
from ..engine import Gibbs, matrix
from ..guards import own_filters
from ..measures import Array, Container, Value, tensor
from ..processes import Sharded
from ..shown import Facts, Shown, sizes
from .arguments import generator, share
from .clouds import Clouds
from .entries import Entries, Reader

MOST_ENTRIES = 2**26
"""Entries that are stored, at most: 0.5 GB of a matrix in float64."""


@dataclass(frozen=True, repr=False)
class Plan(Shown, Constant, Generic[Value, Array]):
    """P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε), shape (N, M), through its products; of a batch (B, N, M).

    Attributes
    ----------
    operator : Gibbs
        P on its engine, in the working precision; constants.
    container : Container
        What the caller's arrays were, so that products come back as the same.
    terms : Terms
        What the plan depends on, with history if it is ``live``.
    f, g : Tensor, shapes (N,) and (M,)
        Potentials for the terms.
    live : bool
        Whether products and costs have autograd history.
    clouds : Clouds
    """

    operator: Gibbs
    container: Container
    terms: Terms
    f: Tensor
    g: Tensor
    live: bool
    clouds: Clouds

    def _facts(self) -> Facts:
        pair = self.operator.pair
        facts = {"shape": sizes(self.shape, "entries"), "epsilon": self.operator.epsilon, "cost": pair.cost.name}
        return facts | {"engine": pair.name, "dtype": str(pair.x.dtype).removeprefix("torch.")}

    def __getstate__(self) -> dict[str, Any]:
        """Without what was worked out, and without history."""
        state = super().__getstate__()
        return {f.name: state[f.name] for f in fields(self)} | {"live": False}

    @cached_property
    def is_signed(self) -> bool:
        """Whether entries may be negative: one of the clouds is a sketch, and the operator has the sizes of P alone."""
        return bool((self.terms.a.detach() < 0.0).any() or (self.terms.b.detach() < 0.0).any())

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.operator.u.shape, self.operator.v.shape[-1])

    @property
    def T(self) -> Plan[Value, Array]:
        """The transpose, a plan from the second measure to the first."""
        return Plan(self.operator.T, self.container.T, self.terms.T, self.g, self.f, self.live, self.clouds.T)

    def cost(self) -> Tensor:
        """⟨P, C⟩, float64, with the history that potentials have.

        Returns
        -------
        Tensor, shape () or (B,)
        """
        if self.live or self.is_signed:
            return self.terms.transport_cost(self.f, self.g)
        return self.operator.row_costs().double().sum(-1)

    def sharp(self) -> Tensor:
        """⟨P, C⟩ and the penalties of the marginals, float64, with the history that potentials have.

        Returns
        -------
        Tensor, shape () or (B,)
        """
        return self.terms.sharp_value(self.f, self.g)

    @property
    def sharp_value(self) -> Value:
        """⟨P, C⟩ + D₁(P1 | a) + D₂(Pᵀ1 | b)."""
        number: Value = self.container.number(self.sharp())
        return number

    @property
    def transport_cost(self) -> Value:
        """⟨P, C⟩."""
        number: Value = self.container.number(self.cost())
        return number

    def __matmul__(self, w: Any) -> Array:
        """P w, shape (N,) or (N, E), for w of shape (M,) or (M, E); of a batch, in the form of its points.

        Differentiable in w, and in all that the plan depends on where the potentials have autograd history.
        """
        columns, items = tensor("plan", self.container.padded("plan", w, 1)), len(self.shape) - 2
        if columns.ndim - items not in (1, 2) or columns.shape[: items + 1] != (*self.shape[:-2], self.shape[-1]):
            raise ValueError(f"plan: P has shape {self.shape}, and cannot be multiplied by {tuple(columns.shape)}.")
        vector = columns.ndim == items + 1
        wide = columns[..., None] if vector else columns
        if self.live or self.is_signed or (wide.requires_grad and torch.is_grad_enabled()):
            product = self.terms.product(self.f, self.g, wide)
        else:
            pair = self.operator.pair
            product = self.operator.apply(wide.detach().to(pair.x)).double()
        found: Array = self.container.array(product[..., 0] if vector else product, 0)
        return found

    @property
    def dtype(self) -> torch.dtype | np.dtype[Any]:
        """Precision of products: the caller's, of torch or of NumPy."""
        dtype = self.container.dtype
        return np.dtype(str(dtype).removeprefix("torch.")) if self.container.is_numpy else dtype

    def row_marginal(self) -> Array:
        """P1 by one reduction. Differentiable as products are.

        Returns
        -------
        array, shape (N,)
            Of a batch, in the form of its points.
        """
        found: Array = self.container.array(self._row_sums(), 0)
        return found

    def _row_sums(self) -> Tensor:
        """P1, float64."""
        if self.live or self.is_signed:
            return self.terms.product(self.f, self.g, torch.ones_like(self.terms.b)[..., None])[..., 0]
        return self.operator.row_sums().double()

    @property
    def mass(self) -> Value:
        """ΣP_ij, by one reduction: with penalties, the mass that is transported; of a batch (B,)."""
        number: Value = self.container.number(self._row_sums().sum(-1))
        return number

    def column_marginal(self) -> Array:
        """Pᵀ1; see `row_marginal`.

        Returns
        -------
        array, shape (M,)
        """
        return self.T.row_marginal()

    def linear_operator(self) -> LinearOperator:
        """P for SciPy's algorithms: products with vectors and matrices, and those of Pᵀ.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator, shape (N, M), float64
            Products are computed in the solution's ``dtype``, which is float32 for large clouds unless asked
            otherwise: algorithms that iterate should not be given a tolerance below its rounding.

        Raises
        ------
        ValueError
            For a batch.

        Examples
        --------
        >>> import geomsink
        >>> from scipy.sparse.linalg import svds
        >>> x = np.linspace(0.0, 1.0, 5)[:, None]
        >>> P = geomsink.solve(x, x, blur=0.1, tol=1e-9).plan
        >>> svds(P.linear_operator(), k=1)[1].round(6)
        array([0.2])
        """
        self._check_single("linear_operator")
        forward, backward = _product_of(self), _product_of(self.T)
        return LinearOperator(
            self.shape, matvec=forward, rmatvec=backward, matmat=forward, rmatmat=backward, dtype=np.float64
        )

    def to_dense(self, rows: slice = slice(None), columns: slice = slice(None)) -> Array:
        """P as a matrix (N, M), or some rows and columns of it; of a batch of clouds of equal sizes (B, N, M).

        Differentiable as products are.

        Parameters
        ----------
        rows, columns : slice, optional
            Which of them; all by default.

        Returns
        -------
        array, shape (N, M) or (B, N, M)
            Of so many rows and columns.

        Raises
        ------
        ValueError
            For more than 2^26 entries, and for a batch of clouds of different sizes.
        """
        self._check_whole("to_dense")
        if self.container.layouts and any(len(set(layout.lengths)) > 1 for layout in self.container.layouts):
            raise ValueError(
                "to_dense: clouds of the batch differ in size, expected equal sizes; multiply by P with @."
            )
        K, pair = self.operator, self.operator.pair
        u, v = K.u[..., rows], K.v[..., columns]
        entries = u.numel() * v.shape[-1]
        if entries > MOST_ENTRIES:
            raise ValueError(
                f"to_dense: P has {entries:,} entries, expected at most {MOST_ENTRIES:,}; multiply by it with @ or "
                "linear_operator(), or take some entries with top_k() or to_sparse()."
            )
        if self.live or self.is_signed:
            t, f, g = self.terms, self.f[..., rows], self.g[..., columns]
            x, y = t.x[..., rows, :], t.y[..., columns, :]
            found = replace(t, x=x, y=y, a=t.a[..., rows], b=t.b[..., columns]).entries(f, g)
        else:
            some = engine.pair(pair.x[..., rows, :], pair.y[..., columns, :], pair.cost, "dense")
            found = matrix(Gibbs(some, u, v, K.epsilon))
        dense: Array = replace(self.container, layouts=None).array(found, 0)
        return dense

    def top_k(self, k: int) -> Entries:
        """The k largest entries of each row, as a sparse matrix.

        They are exactly those, of equal ones any. At 100,000 points few pairs are computed: blocks are skipped where
        a bound says that they hold none of them, if the cost has a ``lower_bound`` and the points are on the CPU;
        otherwise all pairs are computed, some rows at a time. Memory is linear in k N + M.

        Parameters
        ----------
        k : int
            From 1 to M, k N at most 2^26. For columns, ``plan.T.top_k(k)``.

        Returns
        -------
        Entries
            ``matrix`` (N, M) and ``kept``, the share of the mass in it. Entries that are zero, as of points without
            weight, are not stored. Constants, without autograd history.

        Raises
        ------
        TypeError, ValueError
            For another k, for a batch, and for a plan without mass.

        Examples
        --------
        >>> import geomsink
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> geomsink.solve(x, x, epsilon=0.1).plan.top_k(1).matrix.indices.tolist()
        [0, 1, 2]
        """
        self._check_single("top_k", signed=False)
        n, m = self.shape
        count = whole("k", k)
        if count > m:
            raise ValueError(f"k: {k} given, expected at most {m}, the entries of a row.")
        if count * n > MOST_ENTRIES:
            raise ValueError(
                f"k: {k} given, which are {count * n:,} entries, expected at most {MOST_ENTRIES:,} in all."
            )
        total = float(self._reader.sums.sum())
        return self._some(self._reader.top(count), total)

    def to_sparse(self, threshold: float) -> Entries:
        """The entries with P_ij ≥ threshold · Σ_j P_ij, as a sparse matrix: none of them is missing.

        The row's sum is what `row_marginal` computes, in the working precision. Pairs are skipped as in `top_k`.

        Parameters
        ----------
        threshold : float
            Share of its row's sum that an entry must have, in ]0, 1].

        Returns
        -------
        Entries
            See `top_k`.

        Raises
        ------
        TypeError, ValueError
            For another threshold, for a batch, for a plan without mass, and as soon as more than 2^26 entries are
            found.

        Examples
        --------
        >>> import geomsink
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> geomsink.solve(x, x, epsilon=0.1).plan.to_sparse(0.5).matrix.toarray().round(3)
        array([[0.333, 0.   , 0.   ],
               [0.   , 0.333, 0.   ],
               [0.   , 0.   , 0.333]])
        """
        self._check_single("to_sparse", signed=False)
        least = share("threshold", threshold)
        sums = self._reader.sums
        return self._some(self._reader.above(least * sums, MOST_ENTRIES), float(sums.sum()))

    def sample(self, n: int, seed: int | torch.Generator = 0) -> tuple[Array, Array]:
        """Random pairs from P / ΣP: a row by its marginal, then a column by the row's entries.

        The distribution is exact up to rounding, of row sums in the working precision and of all else in float64.
        Memory is linear in n + N + M, time at most n M; far less where `top_k` skips pairs.

        Parameters
        ----------
        n : int
            Pairs, drawn with replacement.
        seed : int or torch.Generator, default 0
            The same seed gives the same pairs. A generator, on the CPU, goes on from where it is.

        Returns
        -------
        i, j : arrays, shape (n,), int64
            NumPy arrays or tensors, as the caller's.

        Raises
        ------
        TypeError, ValueError
            For another n or seed, for a batch, and for a plan without mass.

        Examples
        --------
        >>> import geomsink
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> i, j = geomsink.solve(x, x, epsilon=0.01).plan.sample(100)
        >>> bool((i == j).all())
        True
        """
        self._check_single("sample", signed=False)
        pairs: Any = self._reader.draw(whole("n", n), generator(seed))
        i, j = (t.cpu().numpy() if self.container.is_numpy else t for t in pairs)
        return i, j

    @cached_property
    def _reader(self) -> Reader:
        epsilon = self.operator.epsilon
        return Reader(self.operator, (self.f.detach() / epsilon, self.g.detach() / epsilon))

    def _some(self, matrix: Any, total: float) -> Entries:
        """Entries in the caller's kind and precision, and their share of the total mass."""
        kept = min(float(matrix.data.sum(dtype=np.float64)) / total, 1.0)  # both are rounded
        if self.container.is_numpy:  # SciPy knows no half precision
            return Entries(matrix.astype(str(self.container.working).removeprefix("torch.")), kept)
        # Copies: an array of nothing may have strides that torch refuses.
        whole = torch.contiguous_format
        parts = [torch.from_numpy(p).clone(memory_format=whole) for p in (matrix.indptr, matrix.indices, matrix.data)]
        with own_filters():  # torch says once that this is in beta
            tensor = torch.sparse_csr_tensor(
                parts[0], parts[1], parts[2].to(self.container.dtype), self.shape, check_invariants=True, device="cpu"
            )
        return Entries(tensor.to(self.container.device), kept)

    def _check_single(self, name: str, signed: bool = True) -> None:
        self._check_whole(name)
        if len(self.shape) > 2:
            raise ValueError(f"{name}: P is a batch of {self.shape[0]} plans, expected a single one.")
        if not signed and self.is_signed:
            raise ValueError(f"{name}: P is of a Sketch and has negative entries, expected one between points.")

    def _check_whole(self, name: str) -> None:
        if isinstance(self.f, Sharded):
            raise ValueError(f"{name}: P is of points that are dealt out to processes; multiply by it with @.")


def _product_of(plan: Plan) -> Callable[[Any], Any]:
    """From float64 arrays (M,) or (M, E) to float64 arrays (N, E)."""
    operator = plan.operator

    def product(w: Any) -> Any:
        wide = torch.from_numpy(np.ascontiguousarray(w, dtype=np.float64)).reshape(len(w), -1)
        wide = wide.to(operator.pair.x.device)
        if plan.is_signed:
            return plan.terms.detached().product(plan.f.detach(), plan.g.detach(), wide).cpu().numpy()
        return operator.apply(wide.to(operator.pair.x)).double().cpu().numpy()

    return product
