"""Running commands in tests."""

import json

import numpy as np
from click.testing import CliRunner

from geomsink.cli import cli


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def run_json(*arguments):
    """What a command reports, with its exit code."""
    done = run(*arguments, "--json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout), done.exit_code


def rows_of(done):
    """The rows of a table, by name."""
    rows = [line.split("  ", 1) for line in done.stdout.splitlines() if not line.startswith(" ")]
    return {name: text.strip() for name, text in rows}


def colors_in(path):
    """The share of a figure that is drawn on, and how many colours it has."""
    from matplotlib.image import imread

    image = imread(path)[:, :, :3]
    drawn = np.abs(image - image[0, 0]).max(axis=2) > 0.05
    # To hundredths, as one number each: rows are sorted twenty times as slowly.
    return drawn.mean(), len(np.unique((100 * image).round().astype(int) @ [1, 101, 101**2]))
