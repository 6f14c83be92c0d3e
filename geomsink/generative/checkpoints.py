"""Checkpoints that are whole or not there: written beside, moved into place, read without running what they hold."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

KEPT = 2
VERSION = 1
NAME = re.compile(r"checkpoint-(\d{9})\.pt")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, and why."""


class CheckpointWarning(UserWarning):
    """A checkpoint was passed over for the one before it."""


def existing(folder: Path) -> list[Path]:
    """Checkpoints of a folder, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if NAME.fullmatch(path.name)), reverse=True)


def path_of(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:09d}.pt"


def write(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint and keep the one before it; a process that is killed leaves all that was complete.

    Parameters
    ----------
    folder : Path
        It is made if it is not there.
    step : int
    state : dict
        Of tensors, numbers, texts and containers of them.

    Returns
    -------
    Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob("checkpoint-*.pt.part"):
        left_over.unlink(missing_ok=True)
    path = path_of(folder, step)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        torch.save({"version": VERSION, "step": step} | state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    _settle(folder)
    # Those of later steps could not be read, or this run would have gone on from them.
    before = [other for other in existing(folder) if other <= path]
    for other in set(existing(folder)) - set(before[:KEPT]):
        other.unlink(missing_ok=True)
    return path


def _settle(folder: Path) -> None:
    """The new name in its folder is to survive a loss of power, too, where folders can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU.

    Raises
    ------
    CheckpointError
        For a file that is damaged (each part has a checksum), holds anything but tensors, numbers, texts and
        containers of them, or is no checkpoint.
    """
    expected = "expected a file that a Trainer wrote."
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path}: its part {damaged} is damaged, {expected}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # whatever torch and zipfile raise on a file that they cannot make sense of
        reason = (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")
        raise CheckpointError(f"{path}: it is damaged, or holds what is not numbers ({reason}), {expected}") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        found = f"version {state.get('version')!r}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise CheckpointError(f"{path}: it holds {found} where version {VERSION} belongs, {expected}")
    return state


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The last complete checkpoint of a folder; None where there is none at all.

    Raises
    ------
    CheckpointError
        If there are checkpoints, and none can be read.

    Warns
    -----
    CheckpointWarning
        For each one that is passed over.
    """
    problems: list[CheckpointError] = []
    for path in existing(folder):
        try:
            state = read(path)
        except CheckpointError as problem:
            problems.append(problem)
            continue
        for passed_over in problems:
            warnings.warn(f"{passed_over} {path.name} is used in its place.", CheckpointWarning, stacklevel=4)
        return path, state
    if problems:
        raise problems[0]
    return None
