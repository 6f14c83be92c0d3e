"""Progress of a long solve, shown by tqdm where it is asked for."""

from __future__ import annotations

import math
from typing import Any

from .counts import flag

BAR = "{percentage:3.0f} % |{bar:8}| {elapsed}, {remaining} left  {desc}"
"""What a narrow terminal has no room for is cut off at the end."""


class Progress:
    """A bar that fills as the temperature, and then the marginal error, come down; once for each level of a problem.

    Parameters
    ----------
    show : bool
        Without it nothing is shown, and tqdm is not needed.

    Raises
    ------
    TypeError
        For anything but True or False.
    ImportError
        If a bar is asked for and tqdm is not installed.
    """

    def __init__(self, show: bool):
        self._bar: Any = None
        self._name = self._level = ""
        self._first_error = math.nan
        if flag("progress", show):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                raise ImportError("progress=True needs the package tqdm: pip install 'geomsink[cli]'.") from None
            self._bar = tqdm(total=100, bar_format=BAR, leave=False, dynamic_ncols=True)

    def begin(self, name: str, start: float, target: float) -> None:
        """A new problem, annealed from one temperature to another."""
        self._name, self._start, self._target = name, start, target
        self.level("")

    def level(self, name: str) -> None:
        """The next level of the problem; the name says between what."""
        self._level, self._first_error = name, math.nan
        if self._bar is not None:
            self._bar.reset()

    def update(self, epsilon: float, error: float, tol: float) -> None:
        """An evaluation at temperature ``epsilon`` with that marginal error."""
        if self._bar is None:
            return
        if epsilon > self._target:
            share = 0.5 * math.log(self._start / epsilon) / math.log(self._start / self._target)
        else:
            if math.isnan(self._first_error):
                self._first_error = error
            wanted = math.log(max(self._first_error / tol, 1.0 + 1e-9))
            share = 0.5 + 0.5 * math.log(max(self._first_error / max(error, tol), 1.0)) / wanted
        self._bar.n = max(self._bar.n, min(100 * share, 100))
        state = f"error {error:.0e}" if epsilon <= self._target else f"ε {epsilon:.1e}"
        self._bar.set_description_str(f"{self._name}, {state}{self._level}")

    def pieces(self, name: str, done: int, total: int | None) -> None:
        """So many points are done, of all, where it is known how many these are."""
        if self._bar is None:
            return
        self._bar.n = 100.0 * done / total if total else 0
        self._bar.set_description_str(f"{name}  {done:,}{f' of {total:,}' if total else ''} points")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
