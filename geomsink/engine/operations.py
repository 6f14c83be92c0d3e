"""Operations that KeOps writes badly for CUDA, written anew.

Its powers are ``powf`` whatever the precision, which the flag ``-use_fast_math`` makes exp2(m log2 x): not a number
where x < 0, and of seven digits in double; second derivatives of distances have them. Its bounds become a branch for
each pair: a product with one column took 21.75 instructions a pair, and takes 16.75.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LARGEST = 64
"""A higher integer power is left to CUDA's ``pow`` of doubles."""


def mend() -> None:
    """Give KeOps the code of this file, for CUDA and for floats and doubles alone."""
    from keopscore.formulas.maths.ClampInt import ClampInt
    from keopscore.formulas.maths.Pow import Pow_Impl
    from keopscore.formulas.maths.Powf import Powf

    for operation, code in ((ClampInt, clamped), (Pow_Impl, integer_power), (Powf, power)):
        operation.ScalarOpFun = _on_cuda(code, operation.ScalarOpFun)


def _on_cuda(code: Callable[..., str], elsewhere: Callable[..., Any]) -> Callable[..., Any]:
    """KeOps' function from C++ variables, the last of which may be integers, to the C++ of a number."""
    from keopscore.utils.code_gen_utils import c_variable

    def written(*given: Any) -> Any:
        other = elsewhere(*given)
        if other.dtype not in ("float", "double"):
            return other
        here = code(other.dtype, *(number if isinstance(number, int) else number.id for number in given))
        return c_variable(other.dtype, f"\n#ifdef __CUDACC__\n{here}\n#else\n{other.id}\n#endif\n")

    return written


def clamped(real: str, x: str, low: int, high: int) -> str:
    """x between two integers; NaN stays what it is. Three instructions, where choices of choices are a branch.

    Examples
    --------
    >>> clamped("float", "x", -1, 2)
    '(x != x ? x : fmaxf(-1.0f, fminf(x, 2.0f)))'
    """
    of = "f" if real == "float" else ""
    return f"({x} != {x} ? {x} : fmax{of}({low}.0{of}, fmin{of}({x}, {high}.0{of})))"


def integer_power(real: str, x: str, m: int) -> str:
    """x^m, as products.

    Examples
    --------
    >>> integer_power("double", "x", 3)
    '((x) * (x) * (x))'
    """
    if m < 0:
        return f"(({real})1 / {integer_power(real, x, -m)})"
    if m == 0:
        return f"(({real})1)"
    if m == 1:
        return f"({x})"
    if m > LARGEST:
        return f"(({real})pow((double)({x}), {m}.0))"
    half = integer_power(real, x, m // 2)
    return f"({half} * {half} * ({x}))" if m % 2 else f"({half} * {half})"


def power(real: str, x: str, m: str) -> str:
    """x^m for x ≥ 0."""
    return f"{'powf' if real == 'float' else 'pow'}({x}, {m})"
