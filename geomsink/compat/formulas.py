"""KeOps' formulas, which GeomLoss's users write as strings, as expressions of costs.

A formula is Python: it is parsed by `ast`, and evaluated on torch tensors and on LazyTensors alike. A value is a
number, or has its coordinates along the last axis, of which a number for each pair has one.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import costs
from ..costs import Cost, root


def cost_of(text: str) -> Cost:
    """The cost of a formula in X and Y, such as ``"IntCst(1) - (X|Y) / (Norm2(X)*Norm2(Y))"``.

    Multiples of ‖x − y‖ and ‖x − y‖² are the registry's, which have cells and bounds; any other one is summed over all
    pairs, and may be asymmetric.

    Raises
    ------
    ValueError
        For what is no formula, or has other names in it: one sentence.

    Examples
    --------
    >>> cost_of("(SqDist(X,Y) / IntCst(2))").quadratic
    0.5
    >>> cost_of("Sum(Abs(X - Y))")(torch.zeros(1, 2), torch.tensor([[3.0, -4.0]]))
    tensor([[7.]])
    """
    tree = _parsed(text)
    known = _known(tree)
    return known or Cost(name=text, expression=Formula(text), symmetric=False)


@dataclass(frozen=True)
class Formula:
    """A formula as an expression of points that broadcast; compared and pickled by its text."""

    text: str

    def __call__(self, x: Any, y: Any) -> Any:
        value = _value(_parsed(self.text), {"X": x, "Y": y})
        if isinstance(value, (int, float)):
            value = _spread(value, x - y)
        if isinstance(value, Tensor):
            if value.shape[-1] != 1:
                raise ValueError(f"cost: formula {self.text!r} has {value.shape[-1]} numbers a pair, expected one.")
            return value[..., 0].expand(torch.broadcast_tensors(x[..., 0], y[..., 0])[0].shape)
        return value


def _sum(v: Any) -> Any:
    return v.sum(-1, keepdim=True) if isinstance(v, Tensor) else v.sum(-1)


def _dot(u: Any, v: Any) -> Any:
    return _sum(u * v)


def _norm(v: Any) -> Any:
    return root(_dot(v, v), 0.5)


def _width(v: Any) -> int:
    """How many coordinates a value has."""
    return v.shape[-1] if isinstance(v, Tensor) else v.ndim


def _check_range(name: str, v: Any, start: Any, length: Any) -> None:
    """Refuse coordinates that a value does not have: torch would cut them off, and KeOps read beyond."""
    whole = type(start) is int and type(length) is int
    if not (whole and start >= 0 and length >= 1 and start + length <= _width(v)):
        given = f"{start}" if name == "Elem" else f"{start}, {length}"
        found = given if whole else "what is no whole number"
        raise ValueError(f"cost: {name} is given {found}, expected coordinates from 0 to {_width(v) - 1}.")


def _elem(v: Any, k: Any) -> Any:
    _check_range("Elem", v, k, 1)
    return v[..., k : k + 1] if isinstance(v, Tensor) else v.elem(k)


def _extract(v: Any, start: Any, length: Any) -> Any:
    _check_range("Extract", v, start, length)
    return v[..., start : start + length] if isinstance(v, Tensor) else v.extract(start, length)


def _beside(u: Any, v: Any) -> tuple[Any, Any]:
    """Two values, of which one may be a number, as two with coordinates."""
    if isinstance(u, (int, float)):
        return _spread(u, v), v
    return u, _spread(v, u) if isinstance(v, (int, float)) else v


def _spread(number: float, v: Any) -> Any:
    """A number for each of the points or pairs that a value is of; KeOps' products with 0 are no values."""
    return _elem(v, 0) - _elem(v, 0) + number


def _atan2(u: Any, v: Any) -> Any:
    u, v = _beside(u, v)
    return u.atan2(v)


def _concat(u: Any, v: Any) -> Any:
    u, v = _beside(u, v)
    if not isinstance(u, Tensor):
        return u.concat(v)
    shape = torch.broadcast_tensors(u[..., 0], v[..., 0])[0].shape
    return torch.cat((u.expand(*shape, -1), v.expand(*shape, -1)), -1)


def _relu(v: Any) -> Any:
    if isinstance(v, (int, float)):
        return max(v, 0)
    return v.clamp(min=0) if isinstance(v, Tensor) else v.relu()


def _step(v: Any) -> Any:
    if isinstance(v, (int, float)):
        return int(v >= 0)
    return (v >= 0).to(v) if isinstance(v, Tensor) else v.step()


def _largest(v: Any) -> Any:
    """Over coordinates; KeOps' own is no function of LazyTensors."""
    if isinstance(v, Tensor):
        return v.amax(-1, keepdim=True)
    return functools.reduce(lambda most, k: most + (v.elem(k) - most).relu(), range(1, v.ndim), v.elem(0))


def _clamp(v: Any, low: Any, high: Any) -> Any:
    return low + _relu(v - low) - _relu(v - high)


def _if_else(v: Any, yes: Any, no: Any) -> Any:
    return no + _step(v) * (yes - no)


def _weighted(weights: Any, v: Any) -> Any:
    return _dot(weights, v * v)


FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "Abs": (1, abs),
    "Acos": (1, lambda v: v.acos()),
    "Add": (2, operator.add),
    "Asin": (1, lambda v: v.asin()),
    "Atan": (1, lambda v: v.atan()),
    "Atan2": (2, _atan2),
    "Clamp": (3, _clamp),
    "ClampInt": (3, _clamp),
    "Concat": (2, _concat),
    "Cos": (1, lambda v: v.cos()),
    "Divide": (2, operator.truediv),
    "Elem": (2, _elem),
    "Exp": (1, lambda v: v.exp()),
    "Extract": (3, _extract),
    "IfElse": (3, _if_else),
    "IntCst": (1, lambda k: k),
    "IntInv": (1, lambda k: 1 / k),
    "Inv": (1, lambda v: 1 / v),
    "Log": (1, lambda v: v.log()),
    "Max": (1, _largest),
    "Min": (1, lambda v: -_largest(-v)),
    "Minus": (1, operator.neg),
    "Mult": (2, operator.mul),
    "Norm2": (1, _norm),
    "Normalize": (1, lambda v: v / _norm(v)),
    "Pow": (2, operator.pow),
    "Powf": (2, operator.pow),
    "RatCst": (2, operator.truediv),
    "ReLU": (1, _relu),
    "Rsqrt": (1, lambda v: 1 / root(v, 0.5)),
    "Scalprod": (2, _dot),
    "Sign": (1, lambda v: v.sign()),
    "Sin": (1, lambda v: v.sin()),
    "SqDist": (2, lambda u, v: _dot(u - v, u - v)),
    "SqNorm2": (1, lambda v: _dot(v, v)),
    "Sqrt": (1, lambda v: root(v, 0.5)),
    "Square": (1, lambda v: v * v),
    "Step": (1, _step),
    "Subtract": (2, operator.sub),
    "Sum": (1, _sum),
    "WeightedSqDist": (3, lambda w, u, v: _weighted(w, u - v)),
    "WeightedSqNorm": (2, _weighted),
    "XLogX": (1, lambda v: torch.xlogy(v, v) if isinstance(v, Tensor) else v.xlogx()),
}
"""KeOps' functions of numbers and vectors, with how many arguments they have."""
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.BitOr: _dot,
}


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> ast.expr:
    """The tree of a formula, in which everything is known."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"cost: {text!r} is no formula ({error}); expected one of KeOps in X and Y.") from None
    _check(text, tree)
    return tree


def _check(text: str, node: ast.expr) -> None:
    expected = f"expected X, Y, numbers, + - * / | **, and KeOps' functions {', '.join(FUNCTIONS)}"
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        parts = [node.operand]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        count, parts = FUNCTIONS[node.func.id][0], node.args
        if len(parts) != count or node.keywords:
            found = f"{node.func.id} with {len(parts) + len(node.keywords)} arguments"
            raise ValueError(f"cost: formula {text!r} has {found}, expected {count}.")
    elif (isinstance(node, ast.Name) and node.id in ("X", "Y")) or _is_number(node):
        parts = []
    else:
        raise ValueError(f"cost: formula {text!r} has {ast.unparse(node)}; {expected}.")
    for part in parts:
        _check(text, part)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _value(node: ast.expr, variables: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return variables[node.id]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, variables)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        function, parts = OPERATORS[type(node.op)], [node.left, node.right]
    else:
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        function, parts = FUNCTIONS[node.func.id][1], node.args
    values = [_value(part, variables) for part in parts]
    if all(isinstance(value, (int, float)) for value in values):
        return _constant(node, function, values)
    return function(*values)


def _constant(node: ast.expr, function: Callable[..., Any], values: list[Any]) -> int | float:
    """A function of numbers alone, as one: a whole number of whole ones, where it is."""
    points = [torch.tensor([float(value)], dtype=torch.float64, device="cpu") for value in values]
    if function in (_elem, _extract):
        points[1:] = values[1:]
    found = function(*points)
    if found.numel() != 1 or not bool(found.isfinite()):
        kind = f"{found.numel()} numbers" if found.numel() != 1 else f"{float(found)}"
        raise ValueError(f"cost: {ast.unparse(node)} is {kind}, expected a finite constant.")
    number = float(found)
    whole = number.is_integer() and abs(number) < 2**53 and all(isinstance(value, int) for value in values)
    return int(number) if whole else number


KNOWN = {
    ast.dump(_parsed(text)): costs.power(p)
    for text, p in (
        ("Norm2(X-Y)", 1.0), ("SqDist(X,Y)", 2.0), ("SqNorm2(X-Y)", 2.0), ("Sum(Square(X-Y))", 2.0),
        ("(X-Y)|(X-Y)", 2.0), ("Sqrt(SqDist(X,Y))", 1.0),
    )
}  # fmt: skip
"""Formulas of the registry's costs."""


def _known(node: ast.expr) -> Cost | None:
    """A multiple of one of the registry's costs."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        sides = (node.left, node.right), (node.right, node.left)
        for part, factor in sides if isinstance(node.op, ast.Mult) else sides[:1]:
            ground, number = _known(part), _number(factor)
            if ground is not None and number is not None and 0 < number < math.inf:
                return ground.scaled(number if isinstance(node.op, ast.Mult) else 1.0 / number)
    return KNOWN.get(ast.dump(node))


def _number(node: ast.expr) -> float | None:
    """A constant's, if it is one."""
    if any(isinstance(part, ast.Name) and part.id in ("X", "Y") for part in ast.walk(node)):
        return None
    return float(_value(node, {}))
