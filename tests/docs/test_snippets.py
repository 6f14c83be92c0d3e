"""Python of README.md and docs/ runs as printed: blocks of a page in order, in one namespace and an empty folder.

Some numbers, of points and of steps, are smaller here than they are printed.
"""

from __future__ import annotations

import doctest
import re
import textwrap
import traceback
from dataclasses import replace
from typing import Any

import pytest
import torch
from pages import PAGES, Block, blocks, name_of, prose
from standin_files import place

import geomsink

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
SMALLER = {
    "docs/index.md": {"20_000": "2_000"},
    "docs/large.md": {"20_000": "2_500"},
    "docs/unbalanced.md": {"500": "100", "450": "90", "50": "10"},
    "docs/report.md": {"2_000": "500"},
    "docs/gpu.md": {"2_000": "300"},
    "docs/generative.md": {"batch=5_000": "batch=500", "Targets(200, 250)": "Targets(20, 250)", "steps=50": "steps=20"},
    "docs/losses.md": {"1_000": "300"},
    "docs/certificates.md": {"1_000": "300"},
}
"""What is printed, and what takes its place where the page would take from five seconds to a minute."""
DIRECTIVES = ("{toctree}", "{eval-rst}")
"""Of the site: the navigation, and lists of names (`test_site.py`)."""
SEVERAL = ("py", "bash")
"""Of several processes: scripts, which `test_cluster.py` runs, and what torchrun or Slurm has to start."""
PYTHON = [page for page in PAGES if blocks(page.read_text(encoding="utf-8"), "python")]


def smaller(block: Block, page: str) -> Block:
    """With numbers as in `SMALLER`."""
    numbers = SMALLER.get(page, {})
    printed = "|".join(rf"\b{re.escape(text)}" for text in numbers)
    return replace(block, text=re.sub(printed, lambda m: numbers[m[0]], block.text)) if numbers else block


def run(block: Block, page: str, namespace: dict[str, Any]) -> None:
    """Execute a block, or fail with the page and the line of it."""
    if block.text.lstrip().startswith(">>>"):
        examples = doctest.DocTestParser().get_doctest(block.text, namespace, page, page, block.line - 1)
        said: list[str] = []
        runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
        failed = runner.run(examples, out=said.append, clear_globs=False).failed
        namespace.update(examples.globs)
        assert not failed, "".join(said)
        return
    try:
        code = compile("\n" * (block.line - 1) + block.text, page, "exec", dont_inherit=True)
        exec(code, namespace)
    except SyntaxError as error:
        raise AssertionError(f"{page}:{error.lineno}: {error}") from error
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == page]
        raise AssertionError(f"{page}:{lines[-1]}: {type(error).__name__}: {error}") from error


@pytest.fixture
def registries():
    """What a page registers is gone with it."""
    kept = [(registry, registry.names()) for registry in (geomsink.costs, geomsink.kernels)]
    yield
    for registry, names in kept:
        for name in {*registry.names()} - {*names}:
            registry.unregister(name)


@pytest.mark.parametrize("page", PYTHON, ids=name_of)
def test_python_runs_as_printed(page, tmp_path, monkeypatch, registries):
    monkeypatch.chdir(tmp_path)
    found = blocks(page.read_text(encoding="utf-8"), "python")
    place("\n".join(block.text for block in found), tmp_path)
    namespace: dict[str, Any] = {"__name__": "snippet"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in found:
            run(smaller(block, name_of(page)), name_of(page), namespace)


def test_there_is_python_to_run():
    names = {name_of(page) for page in PYTHON}
    assert {"README.md", "docs/losses.md", "docs/transport.md", "docs/generative.md"} <= names
    assert len(names) >= 8
    printed = {name_of(page): page.read_text(encoding="utf-8") for page in PYTHON}
    unknown = [text for page, numbers in SMALLER.items() for text in numbers if text not in printed[page]]
    assert unknown == [], "a number that is no longer printed needs no smaller one"
    assert sum(len(blocks(page.read_text(encoding="utf-8"), "python")) for page in PYTHON) >= 12


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_code_is_out_of_sight(page):
    """Fences have a language, and indented blocks, which nothing runs, are formulas."""
    text = page.read_text(encoding="utf-8")
    assert {block.language for block in blocks(text)} <= {"python", "sh", "text", "bibtex", *DIRECTIVES, *SEVERAL}
    indented = re.findall(r"(?:^|\n\n)((?:    [^\n]*(?:\n|$))+)", prose(text))
    assert [code for code in indented if re.search(r"geomsink|import |^ +\w+ = \w+[.(]|>>>", code)] == []


GOOD = "First.\n\n```python\na = 1\n```\n\nThen:\n\n```python\na += 1\n\nb = a\n```\n\n```sh\nls\n```\n"


def test_blocks_are_found_where_they_are():
    assert blocks(GOOD, "python") == [Block("python", "a = 1\n", 4), Block("python", "a += 1\n\nb = a\n", 10)]
    assert [block.language for block in blocks(GOOD)] == ["python", "python", "sh"]
    assert prose(GOOD).count("\n") == GOOD.count("\n") and "a" not in prose(GOOD)


def test_blocks_of_a_page_share_names():
    namespace: dict[str, Any] = {}
    for block in blocks(GOOD, "python"):
        run(block, "made-up.md", namespace)
    assert namespace["b"] == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("a = 1\n\na + b", "made-up.md:6: NameError: name 'b' is not defined"),
        ("def f():\n    return b\n\n\nf()", "made-up.md:5: NameError"),
        ("a = = 1", "made-up.md:4: invalid syntax"),
        ("import warnings\nimport geomsink\nwarnings.warn('no', geomsink.ConvergenceWarning)", "md:6: Convergence"),
        (">>> 1 + 1\n2\n>>> 1 + 2\n4", r'(?s)made-up.md", line 6,.*1 \+ 2.*Expected:\s+4\s+Got:\s+3'),
    ],
)
def test_a_block_that_fails_says_where(code, said):
    (block,) = blocks(textwrap.dedent(f"A page.\n\n```python\n{code}\n```\n"))
    with pytest.raises(AssertionError, match=said):
        run(block, "made-up.md", {})
