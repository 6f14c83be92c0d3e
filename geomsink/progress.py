"""Progress of a long job, shown by tqdm where it is asked for: how far it is, and how long it will still take."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any, Protocol

from .counts import flag

BAR = "{percentage:3.0f} % |{bar:8}| {desc}"
"""What a narrow terminal has no room for is cut off at the end."""
IN_NOTEBOOKS = "{percentage:3.0f} % |{bar}| {desc}"
DRAWN = 0.1
"""Seconds from one drawing of a bar to the next."""
SAID, SHARE = 5.0, 0.02
"""The same of lines, where there is no terminal: so many seconds, and this share of the time so far at least."""
FORESEEN = 0.1
"""Share of a job after which a guess of the time left is worth showing."""
BEHIND = 0.05
"""Share of a job from which on it is not going up and down but over the same ground again."""
NEARLY = 0.99
"""Share of a job beyond which a guess does not go: there may be another round, between finer sketches."""
POINTS = 0.5
"""Share that the last of several levels, that of the points, has of a problem."""


class Progress:
    """How far a job of several parts is: a bar on a terminal and in notebooks, and a line every few seconds elsewhere.

    The time left is that of the whole job. A ``~`` marks a guess from the shares of the time that parts usually have, a
    ``≤`` steps of which there may be fewer; pieces that are counted have no mark, and ``?`` says that nothing is known.

    Parameters
    ----------
    show : bool
        Without it nothing is shown, and tqdm is not needed.

    Raises
    ------
    TypeError
        For anything but True or False.
    ImportError
        If progress is to be shown and tqdm is not installed.
    """

    def __init__(self, show: bool):
        self._display = _display() if flag("progress", show) else None
        self._name = self._level = ""
        self.parts([1.0])
        self._annealed, self._first_error = False, math.nan
        self._foreseen, self._first, self._began = True, 0, monotonic()
        self._done, self._marks = 0.0, [(self._began, 0.0)]

    def parts(self, times: Sequence[float]) -> None:
        """The parts of the job, by what they take of the time."""
        total = sum(times)
        self._ends = [sum(times[:k]) / total for k in range(len(times) + 1)]
        self.part(0)

    def part(self, k: int) -> None:
        """The k-th part begins."""
        self._part, self._within = (self._ends[k], self._ends[k + 1]), (0.0, 1.0)

    def unforeseen(self) -> None:
        """Nobody knows how much there is to do."""
        self._foreseen = False

    def begin(self, name: str, start: float, target: float) -> None:
        """A new problem, annealed from one temperature to another."""
        self._name, self._start, self._target = name, start, target
        self.level("")

    def level(self, name: str, k: int = 0, n: int = 1) -> None:
        """The k-th of n levels of the problem; the name says between what."""
        self._level, self._first_error, self._annealed = name, math.nan, False
        last = k == n - 1
        begin = 0.0 if n == 1 else POINTS if last else POINTS * k / (n - 1)
        self._within = begin, 1.0 if last else POINTS * (k + 1) / (n - 1)

    def update(self, epsilon: float, error: float, tol: float) -> None:
        """An evaluation at temperature ``epsilon`` with that marginal error."""
        if self._display is None:
            return
        if epsilon > self._target:
            self._annealed = True
            share = 0.5 * math.log(self._start / epsilon) / math.log(self._start / self._target)
            state = f"ε {epsilon:.1e}"
        else:
            if math.isnan(self._first_error):
                self._first_error = error
            wanted = math.log(max(self._first_error / tol, 1.0 + 1e-9))
            share = min(math.log(max(self._first_error / max(error, tol), 1.0)) / wanted, 1.0)
            share = 0.5 + 0.5 * share if self._annealed else share
            state = f"error {error:.0e}"
        begin, end = self._within
        self._show(f"{self._name}, {state}{self._level}", begin + (end - begin) * max(share, 0.0))

    def steps(self, text: str, done: int, total: int | None, fewer: bool = False) -> None:
        """So many steps or pieces are done, of all, where it is known how many these are; or of fewer, it may be."""
        if self._display is None:
            return
        if total is None:
            self.unforeseen()
        if self._part[1] < 1.0 or total is None:  # other steps follow
            self._show(text, done / total if total else 0.0)
            return
        share = done / total
        if self._name != "steps":  # before them was something else, and they take their own time
            self._name, self._first, self._marks = "steps", done, [(monotonic(), self._of_job(share))]
        self._show(text, share, ("≤" if fewer else "") if done > self._first + 1 else "?")

    def _of_job(self, share: float) -> float:
        begin, end = self._part
        return begin + (end - begin) * share

    def _show(self, text: str, share: float, mark: str = "~") -> None:
        """That share of the part is done."""
        assert self._display is not None
        now, done = monotonic(), min(self._of_job(share), NEARLY if mark == "~" else 1.0)
        again, self._done = done < self._done - BEHIND, max(self._done, done)
        if self._done > self._marks[-1][1]:
            self._marks.append((now, self._done))
        left = "?"
        if self._foreseen and not again and mark != "?" and (mark != "~" or self._done >= FORESEEN):
            left = self._left(now, mark)
        self._display.show(self._done, f"{_time(now - self._began)}, {left} left  {text}")

    def _left(self, now: float, mark: str) -> str:
        """By the pace of the later half of what was done: first steps wait for compilers and trees."""
        half = 0.5 * (self._marks[0][1] + self._done)
        since, then = max((m for m in self._marks if m[1] <= half), default=self._marks[0])
        if not self._done > then:
            return "?"
        return mark + _time((1.0 - self._done) * (now - since) / (self._done - then))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing more is shown."""
        if self._display is not None:
            self._display.close()


class _Display(Protocol):
    def show(self, share: float, words: str) -> None: ...

    def close(self) -> None: ...


class _Bar:
    """Redrawn in its place, and gone at the end."""

    def __init__(self, tqdm: Any, form: str):
        self._bar = tqdm(total=100, bar_format=form, leave=False, dynamic_ncols=True)
        self._next = -math.inf

    def show(self, share: float, words: str) -> None:
        self._bar.n = 100.0 * share
        self._bar.set_description_str(words, refresh=False)
        if (now := monotonic()) >= self._next:
            self._next = now + DRAWN
            self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


class _Lines:
    """For files: the first state, one every few seconds, and the last."""

    def __init__(self) -> None:
        self._file, self._began, self._next, self._unsaid = sys.stderr, monotonic(), -math.inf, ""

    def show(self, share: float, words: str) -> None:
        self._unsaid = f"{100.0 * share:3.0f} %  {words}"
        if (now := monotonic()) >= self._next:
            self._next = now + max(SAID, SHARE * (now - self._began))
            self.close()

    def close(self) -> None:
        if self._unsaid and self._file is not None:
            print(self._unsaid, file=self._file, flush=True)
        self._unsaid = ""


def _display() -> _Display:
    try:
        from tqdm.auto import tqdm
        from tqdm.notebook import tqdm_notebook
    except ImportError:
        raise ImportError("progress=True needs the package tqdm: pip install 'geomsink[cli]'.") from None
    if issubclass(tqdm, tqdm_notebook):
        return _Bar(tqdm, IN_NOTEBOOKS)
    stream = sys.stderr
    # Without ipywidgets, what a notebook shows of a stream goes back to the line's beginning as a terminal does.
    in_place = stream is not None and (stream.isatty() or type(stream).__module__.startswith("ipykernel"))
    return _Bar(tqdm, BAR) if in_place else _Lines()


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
