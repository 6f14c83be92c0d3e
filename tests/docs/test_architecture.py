"""What docs/architecture.md names exists: files, folders, and names of the package."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from pages import ROOT, spans

PACKAGE = ROOT / "geomsink"
PAGE = ROOT / "docs" / "architecture.md"
DOTTED = re.compile(r"@?([^\W\d]\w*(?:\.[^\W\d]\w*)*)(?:\(.*\)|=\S*)?")
"""A name, with what it is called with or set to."""


def defined(tree: ast.AST) -> Iterator[str]:
    """Names of functions, classes, parameters, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def names() -> frozenset[str]:
    """All that the package defines, with its modules and folders, and what Python brings."""
    found = {name for tree in trees().values() for name in defined(tree)}
    modules = {part for path in trees() for part in path.relative_to(ROOT).with_suffix("").parts}
    return frozenset({*found, *modules, *dir(builtins), *keyword.kwlist})


@cache
def members() -> dict[str, frozenset[str]]:
    """Of each class, what its body and those of its bases define; a class with bases from elsewhere is left out."""
    nodes = [node for tree in trees().values() for node in ast.walk(tree)]
    classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
    plain = {"object", "ABC", "Protocol", "Generic", "NamedTuple", "Enum"}

    def of(name: str, seen: frozenset[str] = frozenset()) -> set[str] | None:
        if name in plain:
            return set()
        if name not in classes or name in seen:
            return None
        inherited = [of(_head(base), seen | {name}) for base in classes[name].bases]
        if any(part is None for part in inherited):
            return None
        return {*defined(classes[name])}.union(*(part for part in inherited if part is not None))

    return {name: frozenset(found) for name in classes if (found := of(name)) is not None}


def _head(base: ast.expr) -> str:
    """The name of a base: of ``module.Base[T]``, ``Base``."""
    base = base.value if isinstance(base, ast.Subscript) else base
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")


@cache
def others() -> frozenset[str]:
    """Packages that geomsink imports, whose names are not looked into."""
    nodes = [node for tree in trees().values() for node in ast.walk(tree)]
    plain = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    chosen = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return frozenset({*plain, *(module.partition(".")[0] for module in chosen)} - {"geomsink"})


def is_path(span: str) -> bool:
    return " " not in span and ("/" in span or span.endswith(".py"))


def exists(path: str) -> bool:
    """Under the root or the package; a star stands for any name."""
    wanted = path.strip("/")
    return any(next(place.glob(wanted), None) is not None for place in (ROOT, PACKAGE)) if wanted else False


def is_known(dotted: str) -> bool:
    first, *rest = dotted.split(".")
    if first in others():
        return True
    if not {first, *rest} <= names():
        return False
    return all(b in members()[a] for a, b in pairwise([first, *rest]) if a in members())


def unknown_names(text: str) -> list[str]:
    """The code spans of a page that look like a path or a Python name, and are none of this checkout.

    A path contains a slash or ends in .py, or names a file of the root. A name may be dotted, and have arguments or a
    value: ``choose(problem)``, ``tol=1e-3``. Other spans, such as formulas and commands, are passed over.
    """
    wrong = []
    for span in spans(text):
        if is_path(span):
            known = exists(span)
        else:
            name = DOTTED.fullmatch(span)
            known = name is None or is_known(name[1]) or exists(span)
        if not known:
            wrong.append(span)
    return wrong


def test_all_that_the_page_names_exists():
    text = PAGE.read_text(encoding="utf-8")
    assert len(spans(text)) >= 50
    assert unknown_names(text) == []


@pytest.mark.parametrize(
    "span",
    [
        "engine/",
        "geomsink/engine",
        "engine/*.h",
        "tests/conftest.py",
        "choose.py",
        "divergences/options.py",
        "Makefile",
        "README.md",
        "Options",
        "Options.live_epsilon",
        "Options.live_epsilon()",
        "geomsink.solve",
        "geomsink.solve(x, y, blur=0.05)",
        "SinkhornDivergence.forward",
        "marginal_error",
        "tol=1e-3",
        "multiscale=False",
        "float",
        "torch.nn.Module",
        "python -m geomsink",
        "P = diag(u) K diag(v)",
        '"auto"',
    ],
)
def test_what_exists_is_known(span):
    assert unknown_names(f"See `{span}`.") == []


@pytest.mark.parametrize(
    "span",
    [
        "engines/",
        "engine/none.py",
        "none.py",
        "OneLevelOfNone",
        "Options.nothing_of_it",
        "Options.row_sums",
        "geomsink.solve_nothing",
        "geomsink.solve_nothing(x, y)",
        "no_option=1",
    ],
)
def test_what_does_not_exist_is_named(span):
    assert unknown_names(f"`solve` and `{span}`,\nthen `geomsink.solve`.") == [span]


def test_code_in_fences_is_not_looked_at():
    assert unknown_names("```python\n`none.py`\n```\n`none.py`, `a.b/\nc`") == ["none.py"]
