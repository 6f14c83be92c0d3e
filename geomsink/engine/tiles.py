"""Triton's kernels: sums over pairs of exp(u_i + v_j − s‖x_i − y_j‖²), which KeOps' general formulas are slower at.

Exponents are in units of log 2, so that an exponential is one instruction. A tile is some rows by some columns, and
stays in registers: each thread has one column and many rows, and sums of the rows are added up at the end. In few
coordinates squares of differences are summed; in many ‖x‖² + ‖y‖² − 2⟨x, y⟩, with products on the matrix units: numbers
are sums of two halves, in float16, whose products are exact, and three of four products leave 2⁻²² of them.

A program k has the rows ``row_begin[k] : row_end[k]`` and the columns of some ranges, as `geomsink.engine.Blocks` has
them; a third axis of the grid cuts each range into parts, whose sums follow each other in ``OUT``, (E, parts, N).
"""
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def part_of(BEGIN, END, r):
    """A program's part of the r-th range: where it begins and ends."""
    begin, end = tl.load(BEGIN + r), tl.load(END + r)
    length = (end - begin + tl.num_programs(2) - 1) // tl.num_programs(2)
    begin += tl.program_id(2) * length
    return begin, tl.minimum(end, begin + length)


@triton.jit
def by_differences(
    X, Y, U, V, W, OUT, ROW_BEGIN, ROW_END, FIRST, BEGIN, END, n, m,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Σ_j 2^(U_i + V_j − ‖x_i − y_j‖²) w_j, for E of 1 to 4 columns w; E = 0 is 1 without.

    X and Y are (D, N) and (D, M), W is (E, M).
    """
    k, part, parts = tl.program_id(0), tl.program_id(2), tl.num_programs(2)
    i = tl.load(ROW_BEGIN + k) + tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    inside = i < tl.load(ROW_END + k)
    u = tl.load(U + i, mask=inside, other=0.0)
    x0 = tl.load(X + i, mask=inside, other=0.0)
    if D > 1:
        x1 = tl.load(X + n + i, mask=inside, other=0.0)
    if D > 2:
        x2 = tl.load(X + 2 * n + i, mask=inside, other=0.0)
    if D > 3:
        x3 = tl.load(X + 3 * n + i, mask=inside, other=0.0)
    first = tl.zeros((ROWS, COLUMNS), tl.float32)
    if E > 1:
        second = tl.zeros((ROWS, COLUMNS), tl.float32)
    if E > 2:
        third = tl.zeros((ROWS, COLUMNS), tl.float32)
    if E > 3:
        fourth = tl.zeros((ROWS, COLUMNS), tl.float32)
    for r in range(tl.load(FIRST + k), tl.load(FIRST + k + 1)):
        begin, end = part_of(BEGIN, END, r)
        for start in range(begin, end, COLUMNS):
            # Of shape (1, COLUMNS) from the start: a vector would pass through shared memory to become one.
            j = start + tl.arange(0, COLUMNS)[None, :]
            here = j < end
            difference = x0 - tl.load(Y + j, mask=here, other=0.0)
            exponent = tl.load(V + j, mask=here, other=-float("inf")) - difference * difference
            if D > 1:
                difference = x1 - tl.load(Y + m + j, mask=here, other=0.0)
                exponent -= difference * difference
            if D > 2:
                difference = x2 - tl.load(Y + 2 * m + j, mask=here, other=0.0)
                exponent -= difference * difference
            if D > 3:
                difference = x3 - tl.load(Y + 3 * m + j, mask=here, other=0.0)
                exponent -= difference * difference
            weight = tl.exp2(u + exponent)
            if E == 0:
                first += weight
            else:
                first += weight * tl.load(W + j, mask=here, other=0.0)
            if E > 1:
                second += weight * tl.load(W + m + j, mask=here, other=0.0)
            if E > 2:
                third += weight * tl.load(W + 2 * m + j, mask=here, other=0.0)
            if E > 3:
                fourth += weight * tl.load(W + 3 * m + j, mask=here, other=0.0)
    row = tl.load(ROW_BEGIN + k) + tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    kept = row < tl.load(ROW_END + k)
    tl.store(OUT + part * n + row, tl.sum(first, 1), mask=kept)
    if E > 1:
        tl.store(OUT + (parts + part) * n + row, tl.sum(second, 1), mask=kept)
    if E > 2:
        tl.store(OUT + (2 * parts + part) * n + row, tl.sum(third, 1), mask=kept)
    if E > 3:
        tl.store(OUT + (3 * parts + part) * n + row, tl.sum(fourth, 1), mask=kept)


@triton.jit
def by_products(
    X, X_REST, Y, Y_REST, U, V, W, OUT, ROW_BEGIN, ROW_END, FIRST, BEGIN, END, n, m, scale, rest,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Σ_j 2^(U_i + V_j + scale ⟨x_i, y_j⟩) w_j, for E columns w, 16, 32 or 64; E = 0 is 1 without.

    x is X + rest X_REST / scale, of (N, D) for a D of 16, 32, 64 or 128, and so is y; W is (M, E), and OUT then (parts,
    N, E).
    """
    k, part = tl.program_id(0), tl.program_id(2)
    i = tl.load(ROW_BEGIN + k) + tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = i < tl.load(ROW_END + k)
    d = tl.arange(0, D)
    x = tl.load(X + i[:, None] * D + d[None, :], mask=inside[:, None], other=0.0)
    x_rest = tl.load(X_REST + i[:, None] * D + d[None, :], mask=inside[:, None], other=0.0)
    u = tl.load(U + i, mask=inside, other=0.0)
    e = tl.arange(0, E if E > 0 else 1)
    total = tl.zeros((ROWS,), tl.float32) if E == 0 else tl.zeros((ROWS, E), tl.float32)
    for r in range(tl.load(FIRST + k), tl.load(FIRST + k + 1)):
        begin, end = part_of(BEGIN, END, r)
        for start in range(begin, end, COLUMNS):
            j = start + tl.arange(0, COLUMNS)
            here = j < end
            y = tl.load(Y + j[:, None] * D + d[None, :], mask=here[:, None], other=0.0)
            y_rest = tl.load(Y_REST + j[:, None] * D + d[None, :], mask=here[:, None], other=0.0)
            small = tl.dot(x_rest, tl.trans(y))
            small = tl.dot(x, tl.trans(y_rest), small)
            product = tl.dot(x, tl.trans(y))
            v = tl.load(V + j, mask=here, other=-float("inf"))
            weight = tl.exp2(u[:, None] + (scale * product + (rest * small + v[None, :])))
            if E == 0:
                total += tl.sum(weight, 1)
            else:
                w = tl.load(W + j[:, None] * E + e[None, :], mask=here[:, None], other=0.0)
                total = tl.dot(weight, w, total, input_precision="tf32x3")
    if E == 0:
        tl.store(OUT + part * n + i, total, mask=inside)
    else:
        tl.store(OUT + (part * n + i[:, None]) * E + e[None, :], total, mask=inside[:, None])


@triton.jit
def pivoted_cholesky(POINTS, FACTOR, PIVOTS, RANK, LEFT, n, most, enough, D: tl.constexpr, N: tl.constexpr):
    """A program's cloud, (D, n) of (B, D, n): pivots, their number, and the largest diagonal that is left.

    Rows of the factor, (most, N) a cloud, are written and read again.
    """
    b = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, N)
    inside = s < n
    points, factor = POINTS + b * D * n, FACTOR + b * most * N
    left = tl.where(inside, 1.0, 0.0).to(tl.float64)
    largest = tl.max(left, 0)
    k = 0
    while (k < most) & (largest > enough):
        at = tl.argmax(left, 0)
        tl.store(PIVOTS + b * most + k, at.to(tl.int64))
        square = tl.zeros((N,), tl.float64)
        for d in tl.static_range(D):
            difference = tl.load(points + d * n + s, mask=inside, other=0.0) - tl.load(points + d * n + at)
            square += difference * difference
        column = tl.exp(-0.5 * square)
        for row in range(k):
            column -= tl.load(factor + row * N + s) * tl.load(factor + row * N + at)
        column = tl.where(inside, column / tl.sqrt(largest), 0.0)
        tl.store(factor + k * N + s, column)
        tl.debug_barrier()  # other threads read what this one has written
        left = tl.maximum(left - column * column, 0.0)
        largest = tl.max(left, 0)
        k += 1
    tl.store(RANK + b, k.to(tl.int64))
    tl.store(LEFT + b, largest)
