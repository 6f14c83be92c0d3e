"""C++ source of a reduction: KeOps' formula, inside a loop that a CPU compiler can vectorise.

KeOps turns a LazyTensor expression into C++ statements for one pair (i, j). Its own CPU loop around
them reads the points with a stride, adds into a double accumulator pair by pair, and walks all j for
each i. The loop written here

* reads the j-variables coordinate by coordinate (structure of arrays), so that loads are contiguous;
* sums one tile of terms in the working precision and the partial sums in double;
* reuses a tile of j for a block of rows, so that it stays in the first-level cache;
* takes its rows and columns as lists of ranges (block-sparse reductions), balanced over threads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ROWS = 64
"""Rows that share a tile of columns."""
CACHED = 4096
"""Numbers in a tile of columns, which is read once for each row: half of a small first-level cache."""

MANY = 12
"""From this many numbers a column on, GCC must order a pair's operations so that they stay in registers."""

_TEMPLATE = """{pragma}
#include "vectormath.h"

namespace geomsink {{

typedef {real} real;

struct Value {{
    real {members};
}};

// The formula for one pair; a function of its own, so that its arrays become registers.
static inline __attribute__((always_inline)) Value pair(const real *xi, const real *pp, int64_t stride,
                                                               int64_t j{parameters}) {{
{load_j}
    real fout[{dim}];
{formula}
    Value value = {{{values}}};
    return value;
}}

static inline void rows(int64_t i0, int64_t i1, int64_t stride, int64_t n_ranges, const int64_t *begin,
                        const int64_t *end, real *out, const real *const *args) {{
    double acc[{rows}][{dim}];
    for (int64_t i = i0; i < i1; i++)
        for (int d = 0; d < {dim}; d++) acc[i - i0][d] = {initial};
{pointers}
{load_p}
    for (int64_t range = 0; range < n_ranges; range++)
        for (int64_t j0 = begin[range]; j0 < end[range]; j0 += {tile}) {{
            const int64_t j1 = j0 + {tile} < end[range] ? j0 + {tile} : end[range];
            for (int64_t i = i0; i < i1; i++) {{
{load_i}
{declare_partial}
#pragma omp simd reduction({op}:{partial_names})
                for (int64_t j = j0; j < j1; j++) {{
                    const Value value = pair(xi, pp, stride, j{arguments});
{accumulate}
                }}
{flush}
            }}
        }}
    for (int64_t i = i0; i < i1; i++)
        for (int d = 0; d < {dim}; d++) out[i * {dim} + d] = (real)acc[i - i0][d];
}}

}}  // namespace geomsink

// Variables over j are stored coordinate by coordinate, one every `stride` numbers.
// Rows of block k are row_begin[k] .. row_end[k]; its column ranges are first[k] .. first[k + 1].
extern "C" void geomsink_reduce(int64_t stride, int64_t n_blocks, const int64_t *row_begin,
                                const int64_t *row_end, const int64_t *first, const int64_t *begin,
                                const int64_t *end, {real} *out, const {real} *const *args, int threads) {{
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t k = 0; k < n_blocks; k++)
        for (int64_t i0 = row_begin[k]; i0 < row_end[k]; i0 += {rows}) {{
            const int64_t i1 = i0 + {rows} < row_end[k] ? i0 + {rows} : row_end[k];
            geomsink::rows(i0, i1, stride, first[k + 1] - first[k], begin + first[k], end + first[k], out, args);
        }}
}}
"""


@dataclass(frozen=True)
class Formula:
    """A KeOps reduction over j: what it computes, and the layout of its arguments.

    Attributes
    ----------
    text : str
        The KeOps formula, ``Sum_Reduction(...)`` or ``Max_Reduction(...)``, reduced over j.
    aliases : tuple of str
        KeOps' declarations of its variables, if any.
    n_args : int
        Number of arguments.
    real : str
        ``"float"`` or ``"double"``.
    """

    text: str
    aliases: tuple[str, ...]
    n_args: int
    real: str


_INVERSE_ROOT = re.compile(r"\(\((\S+)==0\.0f\)\? 0\.0f : 1\.0f/sqrt\(\1\)\)")
"""How KeOps writes x^(-1/2), or 0 at 0: with a branch, around which compilers do not vectorise."""


def _load(indices: list[int], dims: list[int], local: str, address: str, indent: int) -> str:
    """Copies of variables into the local array ``local``; ``address`` has {a} (argument) and {d} (coordinate)."""
    lines = [f"real {local}[{max(sum(dims), 1)}];"]
    offset = 0
    for index, dim in zip(indices, dims, strict=True):
        for d in range(dim):
            lines.append(f"{local}[{offset + d}] = " + address.format(a=index, d=d, dim=dim) + ";")
        offset += dim
    return "\n".join(" " * indent + line for line in lines)


def tile(numbers: int) -> int:
    """Columns that are summed in the working precision before they are added to a sum in double, from the numbers that
    each column has."""
    return max(64, CACHED // max(numbers, 1))


def source(formula: Formula) -> str:
    """The C++ source of a reduction, with the entry point ``geomsink_reduce``."""
    from keopscore.formulas.GetReduction import GetReduction
    from keopscore.utils.code_gen_utils import Var_loader, c_array

    reduction = GetReduction(formula.text, aliases=list(formula.aliases))
    kind = type(reduction).__name__
    variables = Var_loader(reduction)
    dim = reduction.formula.dim
    real = formula.real
    table = variables.table(
        c_array(real, variables.dimx, "xi"),
        c_array(real, variables.dimy, "yj"),
        c_array(real, variables.dimp, "pp"),
    )
    partial = [f"partial{d}" for d in range(dim)]
    if kind == "Sum_Reduction":
        op, initial = "+", "0"
        accumulate = [f"{p} += value.v{d};" for d, p in enumerate(partial)]
        flush = [f"acc[i - i0][{d}] += {p};" for d, p in enumerate(partial)]
        start = "0"
    else:
        op, initial = "max", "-INFINITY"
        accumulate = [f"{p} = value.v{d} > {p} ? value.v{d} : {p};" for d, p in enumerate(partial)]
        flush = [f"acc[i - i0][{d}] = {p} > acc[i - i0][{d}] ? {p} : acc[i - i0][{d}];" for d, p in enumerate(partial)]
        start = "-INFINITY"
    return _TEMPLATE.format(
        pragma='#pragma GCC optimize("schedule-insns", "sched-pressure")' if variables.dimy > MANY else "",
        real=real,
        rows=ROWS,
        tile=tile(variables.dimy),
        dim=dim,
        op=op,
        initial=initial,
        pointers="\n".join(f"    const real *__restrict arg{k} = args[{k}];" for k in range(formula.n_args)),
        load_p=_load(variables.indsp, variables.dimsp, "pp", "arg{a}[{d}]", 4),
        load_i=_load(variables.indsi, variables.dimsx, "xi", "arg{a}[i * {dim} + {d}]", 16),
        load_j=_load(variables.indsj, variables.dimsy, "yj", "arg{a}[{d} * stride + j]", 4),
        members=", ".join(f"v{d}" for d in range(dim)),
        values=", ".join(f"fout[{d}]" for d in range(dim)),
        parameters="".join(f", const real *__restrict arg{k}" for k in variables.indsj),
        arguments="".join(f", arg{k}" for k in variables.indsj),
        declare_partial="\n".join(f"                real {p} = {start};" for p in partial),
        partial_names=",".join(partial),
        formula=_INVERSE_ROOT.sub(r"inverse_root(\1)", str(reduction.formula(c_array(real, dim, "fout"), table))),
        accumulate="\n".join(" " * 20 + line for line in accumulate),
        flush="\n".join(" " * 16 + line for line in flush),
    )
