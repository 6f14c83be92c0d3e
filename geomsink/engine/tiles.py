"""Sums over pairs of exp(u_i + v_j − s‖x_i − y_j‖²) on a GPU, in Triton: KeOps' general formulas are slower.

Exponents are in units of log 2, so that an exponential is one instruction. A tile is some rows by some columns, and
stays in registers: each thread has one column and many rows, and sums of the rows are added up at the end. In few
coordinates squares of differences are summed; in many ‖x‖² + ‖y‖² − 2⟨x, y⟩, with products on the matrix units: numbers
are sums of two that these units take whole (TF32), and three of the four products leave 2⁻²¹ of them.

A program k has the rows ``row_begin[k] : row_end[k]`` and the columns of some ranges, as `geomsink.engine.Blocks` has
them; a third axis of the grid cuts each range into parts, whose sums follow each other in ``OUT``, (E, parts, N).
"""
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def by_differences(
    X, Y, U, V, W, OUT, ROW_BEGIN, ROW_END, FIRST, BEGIN, END, n, m, scale,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Σ_j 2^(U_i + V_j − scale ‖x_i − y_j‖²) w_j, for E of 1 or 2 columns w; E = 0 is 1 without.

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
    for r in range(tl.load(FIRST + k), tl.load(FIRST + k + 1)):
        begin, end = tl.load(BEGIN + r), tl.load(END + r)
        length = (end - begin + parts - 1) // parts
        begin += part * length
        end = tl.minimum(end, begin + length)
        for start in range(begin, end, COLUMNS):
            # Of shape (1, COLUMNS) from the start: a vector would pass through shared memory to become one.
            j = start + tl.arange(0, COLUMNS)[None, :]
            here = j < end
            difference = x0 - tl.load(Y + j, mask=here, other=0.0)
            square = difference * difference
            if D > 1:
                difference = x1 - tl.load(Y + m + j, mask=here, other=0.0)
                square += difference * difference
            if D > 2:
                difference = x2 - tl.load(Y + 2 * m + j, mask=here, other=0.0)
                square += difference * difference
            if D > 3:
                difference = x3 - tl.load(Y + 3 * m + j, mask=here, other=0.0)
                square += difference * difference
            weight = tl.exp2(u + (tl.load(V + j, mask=here, other=-float("inf")) - scale * square))
            if E == 0:
                first += weight
            else:
                first += weight * tl.load(W + j, mask=here, other=0.0)
            if E > 1:
                second += weight * tl.load(W + m + j, mask=here, other=0.0)
    row = tl.load(ROW_BEGIN + k) + tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    kept = row < tl.load(ROW_END + k)
    tl.store(OUT + part * n + row, tl.sum(first, 1), mask=kept)
    if E > 1:
        tl.store(OUT + parts * n + part * n + row, tl.sum(second, 1), mask=kept)


@triton.jit
def by_products(
    X, X_LOW, Y, Y_LOW, U, V, W, OUT, ROW_BEGIN, ROW_END, FIRST, BEGIN, END, n, m, scale,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Σ_j 2^(U_i + V_j + scale ⟨x_i, y_j⟩) w_j, for E of 1 or 2 columns w; E = 0 is 1 without.

    X and X_LOW, which add up to x, are (N, D) for a D of 16, 32, 64 or 128, as Y and Y_LOW are; W is (E, M).
    """
    k, part, parts = tl.program_id(0), tl.program_id(2), tl.num_programs(2)
    i = tl.load(ROW_BEGIN + k) + tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = i < tl.load(ROW_END + k)
    d = tl.arange(0, D)
    x = tl.load(X + i[:, None] * D + d[None, :], mask=inside[:, None], other=0.0)
    x_low = tl.load(X_LOW + i[:, None] * D + d[None, :], mask=inside[:, None], other=0.0)
    u = tl.load(U + i, mask=inside, other=0.0)
    first = tl.zeros((ROWS,), tl.float32)
    if E > 1:
        second = tl.zeros((ROWS,), tl.float32)
    for r in range(tl.load(FIRST + k), tl.load(FIRST + k + 1)):
        begin, end = tl.load(BEGIN + r), tl.load(END + r)
        length = (end - begin + parts - 1) // parts
        begin += part * length
        end = tl.minimum(end, begin + length)
        for start in range(begin, end, COLUMNS):
            j = start + tl.arange(0, COLUMNS)
            here = j < end
            y = tl.load(Y + j[:, None] * D + d[None, :], mask=here[:, None], other=0.0)
            y_low = tl.load(Y_LOW + j[:, None] * D + d[None, :], mask=here[:, None], other=0.0)
            product = tl.dot(x_low, tl.trans(y), input_precision="tf32")
            product = tl.dot(x, tl.trans(y_low), product, input_precision="tf32")
            product = tl.dot(x, tl.trans(y), product, input_precision="tf32")
            v = tl.load(V + j, mask=here, other=-float("inf"))
            weight = tl.exp2(u[:, None] + (v[None, :] + scale * product))
            if E == 0:
                first += tl.sum(weight, 1)
            else:
                first += tl.sum(weight * tl.load(W + j, mask=here, other=0.0)[None, :], 1)
            if E > 1:
                second += tl.sum(weight * tl.load(W + m + j, mask=here, other=0.0)[None, :], 1)
    tl.store(OUT + part * n + i, first, mask=inside)
    if E > 1:
        tl.store(OUT + parts * n + part * n + i, second, mask=inside)
