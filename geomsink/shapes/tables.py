"""Points in text, a row for each: columns between commas, semicolons, tabs or blanks, with or without names."""

import csv
import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any, BinaryIO

import numpy as np

from geomsink.shapes.columns import choose, coordinates, counts
from geomsink.shapes.contents import COMMENT, Columns, Contents, decoded, lines_of, real, split_comment

Row = tuple[int, list[str]]

HEAD = 100
"""Rows that are looked at before it is decided what they are."""
OPENS = re.compile(rf"{COMMENT.pattern}|(?:^|(?<=[\s\w.)]))//")
"""A comment of a table."""
LIKE_A_NUMBER = re.compile(r"\s*[+-]?\.?\d")
MISSING = ("", "na", "n/a", "null", "none")


def parse_table(file: BinaryIO, columns: Columns | None = None) -> Contents:
    """Read a table; which columns are coordinates, `choose` says.

    Raises
    ------
    ValueError
        With the number of the line, if it has another number of columns or what should be a number is none.
    """
    text = decoded(file.read())
    bare, comments = _without_comments(lines_of(text))
    filled = list(islice((k for k, line in enumerate(bare) if line), 3))
    if not filled:
        return Contents(np.empty((0, 0)))
    announced = _count(bare, filled)
    if announced is not None:
        bare[filled.pop(0)] = ""
    delimiter = _delimiter(bare[filled[min(1, len(filled) - 1)]])
    lines = (line.replace("\t", " ") for line in bare) if delimiter == " " else iter(bare)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    head = list(islice(_numbered(reader), HEAD))
    names = _names(head)
    if names is not None:
        del head[0]
    if not head:
        return Contents(np.empty((0, 0)))
    width, spare = _width(head, names)
    numbers = _numbers(head, width)
    if names is None:
        names = _commented(comments[: filled[0]], width)
    elif len(names) == width - 1 and counts(numbers[:, 0]):
        names = ["", *names]  # R leaves the numbers of rows without a name
    if names is not None:
        names = names[:width] if spare else names
        if len(names) != width and not (columns is not None and all(isinstance(item, int) for item in columns)):
            raise ValueError(f"line {head[0][0]}: found {width} columns under {len(names)} names")
    chosen, said = choose(names, width, columns, numbers)
    values, convert = array("d"), real if "_" in text else float
    pick = itemgetter(*chosen) if len(chosen) > 1 else lambda row: (row[chosen[0]],)
    for line, row in chain(head, _numbered(reader)):
        if len(row) != width + spare or (spare and row[-1].strip()):
            raise ValueError(f"line {line}: found {len(row)} columns, expected {width}")
        try:
            values.extend(map(convert, pick(row)))
        except ValueError:
            del values[len(values) - len(values) % len(chosen) :]  # of a row that was taken in part
            values.extend(_cell(word, line) for word in pick(row))
    points = np.array(values, dtype=np.float64).reshape(-1, len(chosen))
    if announced is not None and announced != len(points):
        raise ValueError(f"it has {len(points)} points where {announced} are announced")
    return Contents(points, said=said)


def _without_comments(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines, and the comments of each."""
    comments = [""] * len(lines)
    bare = [line.strip(" \t") for line in lines]
    for k, line in enumerate(bare):
        if "#" in line or "//" in line:
            content, comment = split_comment(line, OPENS)
            comments[k], bare[k] = comment.strip(), content.rstrip(" \t")
    return bare, comments


def _count(bare: list[str], filled: list[int]) -> int | None:
    """How many points a first line announces that holds nothing else."""
    first = bare[filled[0]]
    if len(filled) > 1 and first.isdecimal() and not bare[filled[1]].isdecimal():
        return int(first) if len(re.split(r"[\s,;]+", bare[filled[1]])) > 1 else None
    return None


def _delimiter(line: str) -> str:
    if ";" in line:
        return ";"
    if "\t" in line and all(len(word.split()) < 2 for word in line.split("\t")):
        return "\t"
    return "," if "," in line else " "


def _numbered(reader: Any) -> Iterator[Row]:
    """Rows that are not empty, with the numbers of their lines."""
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _names(head: Sequence[Row]) -> list[str] | None:
    """The names of the columns, if the first row has them."""
    first = [word.strip() for word in head[0][1]]
    if not any(map(_is_number, first)) and any(word.lower() not in MISSING for word in first):
        # Numbers that cannot be read, such as 1.0D0 and 1,5, are no names.
        return None if all(LIKE_A_NUMBER.match(word) for word in first if word) else first
    # Tables of unnamed columns are written with the numbers of the columns on top, and nothing above those of the rows.
    numbers = [str(k) for k in range(len(first))]
    if first == ["", *numbers[:-1]]:
        return first
    others = [word for _, row in head[1:] for word in row]
    if first == numbers and others and not any(word.strip().lstrip("+-").isdecimal() for word in others):
        return first
    return None


def _commented(comments: Sequence[str], width: int) -> list[str] | None:
    """The names that the last comment before the points has, if they are such."""
    for comment in reversed(comments):
        if comment:
            names = re.split(r"[\s,;]+", comment)
            return names if len(names) == width and coordinates(names) else None
    return None


def _width(head: Sequence[Row], names: Sequence[str] | None) -> tuple[int, int]:
    """The number of columns, and 1 if each row ends with a separator that nothing follows."""
    width = len(head[0][1])
    unnamed = names is None or len(names) < width or not names[-1].strip()
    spare = width > 1 and unnamed and all(not row[-1].strip() for _, row in head)
    return width - spare, int(spare)


def _numbers(head: Sequence[Row], width: int) -> np.ndarray:
    """The first rows, with NaN for what is no number."""
    found = np.full((len(head), width), np.nan)
    for k, (_, row) in enumerate(head):
        for j, word in enumerate(row[:width]):
            if _is_number(word):
                found[k, j] = real(word)
    return found


def _cell(word: str, line: int) -> float:
    """A number, or NaN for a cell that is empty."""
    if word.strip().lower() in MISSING:
        return float("nan")
    try:
        return real(word)
    except ValueError:
        raise ValueError(f"line {line}: found {word[:40]!r}, expected a number; columns= (--columns) chooses") from None


def _is_number(word: str) -> bool:
    try:
        real(word)
    except ValueError:
        return False
    return True
