"""The site that `make docs` builds: its navigation names every page, its list of names every public one."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest
from pages import DOCS, PAGES, ROOT, TUTORIALS, blocks

import geomsink

RESULTS = ROOT / "benchmarks" / "results"


def loaded(file: Path):
    spec = importlib.util.spec_from_file_location(f"site_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mirror = loaded(DOCS / "site" / "mirror.py")


def named() -> list[Path]:
    """The files that the navigation names, on all pages."""
    trees = [(page, block) for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), "{toctree}")]
    return [
        (page.parent / line).resolve()
        for page, block in trees
        for line in block.text.splitlines()
        if line and not line.startswith(":")
    ]


def listed() -> dict[str, list[str]]:
    """The names that docs/api.md lists, by module."""
    found: dict[str, list[str]] = {}
    for block in blocks((DOCS / "api.md").read_text(encoding="utf-8"), "{eval-rst}"):
        module = re.search(r"currentmodule:: (\S+)", block.text)[1]
        found.setdefault(module, []).extend(re.findall(r"^   ([\w.]+)$", block.text, re.MULTILINE))
    return found


def test_the_navigation_names_every_page_once():
    pages = {page for page in PAGES if page.name not in ("README.md", "index.md")}
    expected = {*pages, *TUTORIALS, *RESULTS.glob("*.md"), ROOT / "CHANGELOG.md", DOCS / "genindex"}  # Sphinx's own
    assert sorted(named()) == sorted(expected)


def test_the_readme_names_every_page_and_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    unnamed = [page.name for page in (*DOCS.glob("*.md"), *TUTORIALS) if f"/{page.name})" not in text]
    assert sorted(unnamed) == ["index.md", "releasing.md"]
    assert len(text.splitlines()) < 120


@pytest.mark.parametrize("name", ["geomsink", "geomsink.transport", "geomsink.generative", "geomsink.shapes"])
def test_the_interface_lists_every_public_name(name):
    module = importlib.import_module(name)
    names = {public for public in module.__all__ if not hasattr(getattr(module, public), "__path__")}
    names -= {"kernels"}  # a module that has its own list
    assert names - {*listed()[name]} == set()


def test_the_interface_lists_every_function_that_draws():
    plotting = pytest.importorskip("geomsink.plotting")
    assert {name for name in plotting.__all__ if not name.isupper()} == {*listed()["geomsink.plotting"]}


def test_what_the_interface_lists_exists():
    pytest.importorskip("matplotlib")
    for module, names in listed().items():
        for name in names:
            *path, last = name.split(".")
            assert getattr(importlib.import_module(".".join([module, *path])), last).__doc__, f"{module}.{name}"


def test_the_version_stands_in_one_place():
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert geomsink.__version__ == mirror.version() == cited[1]
    assert 'version = { attr = "geomsink.__version__" }' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_links_are_turned_to_the_pages_of_the_site():
    page = DOCS / "made-up.md"
    text = (
        "[a](solver.md#ranges) [b](../benchmarks/results/soak.md) [c](tutorials/1_compare.py) [d](../CONTRIBUTING.md)\n"
        "[e](https://x.org/y.md) [f](#here) ![g](images/demo.jpg) [h](../LICENSE)\n"
        "```{toctree}\n:hidden:\n\n../benchmarks/results/soak.md\nsolver.md\ntutorials/1_compare.py\n```\n"
    )
    assert mirror.turned(text, page, page) == (
        "[a](solver.md#ranges) [b](generated/results/soak.md) [c](generated/tutorials/1_compare.rst) "
        "[d](generated/contributing.md)\n"
        "[e](https://x.org/y.md) [f](#here) ![g](images/demo.jpg) [h](../LICENSE)\n"
        "```{toctree}\n:hidden:\n\ngenerated/results/soak\nsolver\ngenerated/tutorials/1_compare\n```\n"
    )
    outside = ROOT / "CHANGELOG.md"
    assert mirror.turned("[pot](docs/pot.md)", outside, mirror.shown_at(outside)) == "[pot](../pot.md)"


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.md")), ids=lambda file: file.stem)
def test_results_are_shown_with_the_command_that_wrote_them(file):
    shown = mirror.result(file)
    script = re.search(r"python (benchmarks/\w+\.py)", shown)
    assert script and mirror.QUICK.get(file.stem, file.stem).startswith(Path(script[1]).stem)
    assert len(re.findall(r"^# ", shown.partition("```\n\n")[2], re.MULTILINE)) == 0
    assert file.read_text(encoding="utf-8").splitlines()[-1] in shown
