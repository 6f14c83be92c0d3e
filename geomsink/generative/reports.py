"""Where the row of numbers of each step goes: memory, a file, TensorBoard, a progress bar."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from ..atomic import about, clear, replacing
from ..progress import Progress

Row = dict[str, Any]
FORMATS = (".csv", ".jsonl")


class Log:
    """Rows in a file, one a line; those after the step that a run is resumed from are taken out first.

    Parameters
    ----------
    path : Path
        ``.csv`` has a line of names on top and nothing where a number is None; ``.jsonl`` has an object a line.
    columns : list of str
        Names of the numbers of a row, ``"step"`` first.
    step : int
        The last step that is done.

    Raises
    ------
    ValueError
        For another extension, and for a file that is there and is not such a log.
    """

    def __init__(self, path: Path, columns: list[str], step: int):
        if path.suffix not in FORMATS:
            raise ValueError(f"log: {path} given, expected a name that ends in {' or '.join(FORMATS)}.")
        self._path, self._columns = path, columns
        self.rows = [row for row in self._read() if row["step"] <= step]
        path.parent.mkdir(parents=True, exist_ok=True)
        clear(path)
        header = ",".join(columns) + "\n" if path.suffix == ".csv" else ""
        with replacing(path) as file:
            file.write((header + "".join(map(self._line, self.rows))).encode())
        # Nothing that was put in the place of the file that was just written.
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0))

    def _read(self) -> list[Row]:
        if not self._path.exists():
            return []
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]  # the last one may have been cut by a kill
            if self._path.suffix == ".jsonl":
                rows = [json.loads(line) for line in whole]
            else:
                if whole and whole[0].strip() != ",".join(self._columns):
                    raise ValueError("its columns are others")
                rows = [
                    {name: _number(name, text) for name, text in zip(self._columns, line, strict=True)}
                    for line in csv.reader(whole[1:])
                ]
            if not all(list(row) == self._columns for row in rows):
                raise ValueError("its columns are others")
            for row in rows:
                if not isinstance(row["step"], int) or not all(_is_number(row[name]) for name in ("loss", "seconds")):
                    raise ValueError(f"it has a row of step {row['step']!r} without numbers")
        except (ValueError, AttributeError, TypeError, RecursionError, csv.Error) as error:
            expected = f"expected no file or one with {', '.join(self._columns)}"
            raise ValueError(f"log: {self._path} is not a log of such a run ({error}); {expected}.") from error
        return rows

    def _line(self, row: Row) -> str:
        if self._path.suffix == ".jsonl":
            return json.dumps(row) + "\n"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow("" if value is None else value for value in row.values())
        return text.getvalue()

    def write(self, row: Row) -> None:
        """A row, all of it or nothing."""
        line = self._line(row).encode()
        before = os.fstat(self._file).st_size
        with about(self._path):
            try:
                while line:
                    line = line[os.write(self._file, line) :]
            except OSError:
                os.ftruncate(self._file, before)
                raise

    def settle(self) -> None:
        """To the disk, before a checkpoint says that these steps are done."""
        with about(self._path):
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(name: str, text: str) -> Any:
    if name == "step":
        return int(text)
    return float(text) if text else None


class Board:
    """Rows as curves in TensorBoard, in ``folder/tensorboard``.

    Raises
    ------
    ImportError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ImportError(
                "tensorboard=True needs the package tensorboard: pip install 'geomsink[tensorboard]'."
            ) from None
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, row: Row) -> None:
        for name, value in row.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self._writer.close()


class Bar:
    """A progress bar of steps, of which there may be ``fewer``, with the loss and its value on held-out data.

    Raises
    ------
    ImportError
        If tqdm is not installed.
    """

    def __init__(self, steps: int, step: int, fewer: bool):
        self._bar, self._steps, self._fewer, self._held_out = Progress(True), steps, fewer, ""
        self._show(step, "")

    def write(self, row: Row) -> None:
        if row["held_out"] is not None:
            self._held_out = f", held out {row['held_out']:.3e}"
        self._show(row["step"], f", loss {row['loss']:.3e}{self._held_out}")

    def _show(self, step: int, numbers: str) -> None:
        self._bar.steps(f"step {step:,} of {self._steps:,}{numbers}", step, self._steps, self._fewer)

    def close(self) -> None:
        self._bar.close()
