"""The tutorials run, with fewer points and steps than they are printed with; `make docs` runs them as printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pages import TUTORIALS

SMALLER = {
    "1_compare.py": {"100_000": "2_500", "10_000": "300"},
    "2_fit.py": {"3_000": "200", "20_000": "500", "Targets(100, 250)": "Targets(5, 50)", "steps=8": "steps=2"},
    "3_distances.py": {"400": "30"},
    "4_two_samples.py": {"300": "30", "permutations=99": "permutations=9"},
    "5_time_series.py": {"n=600": "n=40"},
    "6_blur.py": {"600": "50", "13)": "3)"},
}
"""What is printed, and what takes its place: all of them take some seconds together."""


def smaller(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    for printed, number in SMALLER[file.name].items():
        assert re.search(rf"\b{re.escape(printed)}", text), f"{file.name}: {printed} is no longer printed"
        text = re.sub(rf"\b{re.escape(printed)}", number, text)
    return text


@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_tutorials_run(file, tmp_path, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    namespace: dict[str, Any] = {"__name__": "tutorial"}
    try:
        exec(compile(smaller(file), file.name, "exec", dont_inherit=True), namespace)
    finally:
        plt.close("all")
    assert namespace["figure"].axes


@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_tutorials_have_a_title_and_lead_on(file):
    """Sphinx's own checks are made by `make docs`: here is that names of pages within them exist."""
    text = file.read_text(encoding="utf-8")
    title, line = text.splitlines()[1:3]
    assert text.startswith('"""\n') and set(line) == {"="} and len(line) == len(title)
    assert len(text.split("\n# %%\n")) >= 5
    names = re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", text)
    places = [
        file.parents[1] / f"{name[1:]}.md" if name.startswith("/") else file.parent / f"{name}.py" for name in names
    ]
    assert names and [place.name for place in places if not place.is_file()] == []


def test_all_have_smaller_numbers():
    assert [file.name for file in TUTORIALS] == [*SMALLER]
