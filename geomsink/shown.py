"""Results as people meet them: a line at a prompt, a table with a chart in a notebook, a number in a formula."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT, EDGE = 260, 70, 6
"""Of a chart, in pixels, and what is left free around its line."""
GOOD, BAD, LINE = "#2e8b57", "#c0392b", "#d98324"
"""Colours that are read on a light and on a dark page."""

Facts = dict[str, Any]


class Curve(NamedTuple):
    """Points of a line, the level that it is to come down to if there is one, and what is up and what across."""

    points: Sequence[tuple[float, float]]
    level: float | None = None
    up: str = "value"
    across: str = "steps"


class Words(str):
    """A fact that says by itself what it is."""


class Shown:
    """What is shown of a result in the place of all its fields: its facts, one after the other.

    Examples
    --------
    >>> class Result(Shown):
    ...     def _facts(self):
    ...         return {"value": 0.1 + 0.2, "state": state(True, "converged"), "points": sizes((500, 2_000))}
    >>> Result()
    Result(value=0.3, converged, 500 × 2,000 points)
    >>> "<td>500 × 2,000 points</td>" in Result()._repr_html_()
    True
    """

    def _facts(self) -> Facts:
        """By their names, in order; those that are None are left out."""
        raise AssertionError("each result says its own")

    def _curve(self) -> Curve | None:
        """How it was come by, for the chart."""
        return None

    def __repr__(self) -> str:
        return line(self, self._facts())

    def _repr_html_(self) -> str:
        """For notebooks; what names and messages hold is escaped."""
        facts = {name: fact for name, fact in self._facts().items() if fact is not None}
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name.replace('_', ' '))}</th>{_cell(fact)}</tr>"
            for name, fact in facts.items()
        )
        curve = self._curve()
        return f"<div><b>{type(self).__name__}</b><table>{rows}</table>{'' if curve is None else chart(curve)}</div>"


class Valued(Shown):
    """A result that is one number: ``float(result)`` and ``format(result, ".3f")`` are those of the number.

    Examples
    --------
    >>> class Result(Valued):
    ...     value = 2 / 3
    >>> float(Result()) == 2 / 3, f"{Result():.3f}"
    (True, '0.667')
    """

    def _number(self) -> Any:
        return self.value  # type: ignore[attr-defined]

    def __float__(self) -> float:
        """The number, without autograd history.

        Raises
        ------
        TypeError
            For a batch, which has several.
        """
        value = self._number()
        if getattr(value, "ndim", 0):
            raise TypeError(
                f"float: a {type(self).__name__} of a batch with {len(value)} values was given, expected one of a "
                "single problem; the values are numbers of an array."
            )
        return float(value.detach() if hasattr(value, "detach") else value)

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else str(self)


def line(result: object, facts: Facts) -> str:
    """The name of its class, and the facts."""
    known = [(name, fact) for name, fact in facts.items() if fact is not None]
    said = (text(fact) if isinstance(fact, Words) else f"{name}={text(fact)}" for name, fact in known)
    return f"{type(result).__name__}({', '.join(said)})"


def text(fact: Any, digits: int = 6) -> str:
    """A number in so many digits; of an array of them, how many there are and between what."""
    if isinstance(fact, (Words, bool)):
        return str(fact)
    if isinstance(fact, (str, tuple)):
        return repr(fact)
    value = fact.detach() if hasattr(fact, "detach") else fact
    if getattr(value, "ndim", 0):
        return f"<{len(value)} numbers, {float(value.min()):.{digits}g} to {float(value.max()):.{digits}g}>"
    return f"{value:,}" if isinstance(value, int) else f"{float(value):.{digits}g}"


def state(converged: bool, status: str) -> Words:
    """Whether a result is what was asked for, and why not."""
    return Words(status if converged else f"not converged: {status}" if status != "converged" else "not converged")


def sizes(shape: Sequence[int], what: str = "points") -> Words:
    """Of two clouds (N, M), or of the largest ones of a batch (B, N, M)."""
    *batch, n, m = shape
    return Words(f"{f'batch of {batch[0]:,}, ' if batch else ''}{n:,} × {m:,} {what}")


def seconds(time: float) -> Words:
    return Words(f"{time:.2g} s" if time < 10.0 else f"{time:,.0f} s")


def interval(lower: Any, upper: Any, what: str = "certified") -> Words | None:
    """What a value is certain to be between."""
    return None if lower is None or upper is None else Words(f"{what} in [{text(lower, 9)}, {text(upper, 9)}]")


def _cell(fact: Any) -> str:
    color = ""
    if isinstance(fact, Words):
        color = GOOD if fact == "converged" else BAD if fact.startswith("not converged") else ""
    style = f" style='color:{color}'" if color else ""
    return f"<td{style}>{html.escape(text(fact))}</td>"


def chart(curve: Curve) -> str:
    """A line as SVG, and a line of words below it; empty where less than two of its heights are finite.

    It is logarithmic where all heights are positive.

    Examples
    --------
    >>> print(chart(Curve([(1, 1.0), (2, 0.1), (3, 0.01)], up="loss")).split("</svg>")[1])
    <div><small>loss: 1 to 0.01 in 3 steps</small></div>
    """
    points, level, *names = curve
    known = [(float(x), float(y)) for x, y in points if math.isfinite(y)]
    positive = [(x, y) for x, y in known if y > 0.0]
    logarithmic = len(positive) > 1 and min(y for _, y in known) >= 0.0
    drawn = positive if logarithmic else known
    if len(drawn) < 2:
        return ""
    height = math.log10 if logarithmic else float
    levels = [height(level)] if level is not None and (level > 0.0 or not logarithmic) else []
    ups = [height(y) for _, y in drawn]
    left, right, low, high = drawn[0][0], drawn[-1][0], min(ups + levels), max(ups + levels)

    def across(x: float) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * (x - left) / ((right - left) or 1.0)

    def down(up: float) -> float:
        return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (up - low) / ((high - low) or 1.0)

    corners = " ".join(f"{across(x):.1f},{down(up):.1f}" for (x, _), up in zip(drawn, ups, strict=True))
    dashes = "".join(
        f'<line x1="{EDGE}" x2="{WIDTH - EDGE}" y1="{down(up):.1f}" y2="{down(up):.1f}" stroke="currentColor" '
        'stroke-dasharray="4 4" opacity="0.5"/>'
        for up in levels
    )
    said = f"{names[0]}: {drawn[0][1]:.3g} to {drawn[-1][1]:.3g} in {right:,.0f} {names[1]}"
    said += f"; dashed: {level:.3g}" if levels else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" role="img">'
        f'<title>{said}</title>{dashes}<polyline points="{corners}" fill="none" stroke="{LINE}" stroke-width="2"/>'
        f"</svg><div><small>{said}</small></div>"
    )
