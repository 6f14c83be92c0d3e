"""The house: who may import whom. A file that is new needs a floor in `FLOORS`."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "geomsink"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up. A name is a file or a folder; files of a folder may import each other.
FLOORS = [
    "guards",
    "measures",
    "costs",
    "plotting",
    "progress",
    "shapes",
    "kernels",
    "engine",
    "generative",
    "solver",
    "multiscale",
    "certificates",
    "derivatives",
    "plan",
    "divergences",
    "compat",
    "transport",
    "__init__",
    "cli",
    "__main__",
]
KEOPS = {"pykeops", "keopscore"}
# Which files may import a package that `pip install geomsink` does not bring when they are imported themselves.
OPTIONAL = {
    "click": {"cli"},
    "rich": {"cli"},
    "matplotlib": {"plotting"},
    **{name: set() for name in ("plyfile", "trimesh", "tqdm", "pytest", "geomloss", "ot", "ott", "jax")},
}
LONGEST = 400


@dataclass(frozen=True)
class Import:
    """A module's full name, and whether importing the file imports it."""

    module: str
    at_once: bool


def imports(source: str, place: tuple[str, ...]) -> Iterator[Import]:
    """All imports of the file at ``place``, such as ("engine", "keops"), under geomsink."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ("geomsink", *place[:-1])
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*start, *([node.module] if node.module else [])))
            if module == "geomsink":  # each name is a module of its own, or comes from the front door
                yield from (Import(f"geomsink.{alias.name}", at_once) for alias in node.names)
            else:
                yield Import(module, at_once)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_once and not inside)

    return visit(ast.parse(source), True)


def violations(source: str, place: tuple[str, ...]) -> list[str]:
    """What is wrong with the imports of the file at ``place``, one sentence each."""
    here = place[0]
    found = []
    for item in imports(source, place):
        top, *rest = item.module.split(".")
        if top == "geomsink":
            there = rest[0] if rest and rest[0] in FLOORS else "__init__"
            if there != here and FLOORS.index(there) > FLOORS.index(here):
                found.append(f"{'/'.join(place)} imports {item.module}, which is on a floor above")
        if top in KEOPS and here != "engine":
            found.append(f"{'/'.join(place)} imports {top}, which only the engine knows")
        if item.at_once and top in OPTIONAL and here not in OPTIONAL[top]:
            found.append(f"{'/'.join(place)} imports the optional {top} when it is imported itself")
    return found


def place_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(place_of(path)))
def test_file_keeps_to_its_floor_and_length(path):
    place, source = place_of(path), path.read_text(encoding="utf-8")
    assert place[0] in FLOORS, "a new file needs a floor"
    assert violations(source, place) == []
    assert len(source.splitlines()) <= LONGEST


@pytest.mark.parametrize(
    ("place", "source", "wrong"),
    [
        (("engine", "keops"), "from ..solver import Solver", "floor above"),
        (("engine", "keops"), "from ..costs import Cost", None),
        (("engine", "keops"), "import pykeops\nfrom .build import keops", None),
        (("measures", "measures"), "def f():\n    from geomsink import costs", "floor above"),
        (("costs", "registry"), "from .. import engine", "floor above"),
        (("engine", "keops"), "from .. import costs", None),
        (("solver", "sinkhorn"), "import geomsink", "floor above"),
        (("solver", "sinkhorn"), "from geomsink import solve", "floor above"),
        (("solver", "sinkhorn"), "from keopscore.utils import x", "only the engine"),
        (("solver", "sinkhorn"), "try:\n    from matplotlib import figure\nexcept ImportError:\n    pass", "optional"),
        (("solver", "sinkhorn"), "class A:\n    import click", "optional"),
        (("progress",), "def f():\n    import tqdm", None),
        (("plotting",), "import matplotlib", None),
        (("cli",), "from geomsink import costs, solve", None),
        (("cli",), "from geomsink.__main__ import main", "floor above"),
    ],
)
def test_the_rules_see_what_they_forbid(place, source, wrong):
    found = violations(source, place)
    assert [wrong in sentence for sentence in found] == ([True] if wrong else [])


def test_only_files_in_the_house_are_looked_at():
    assert {("__init__",), ("cli", "__init__"), ("engine", "__init__")} <= {place_of(path) for path in FILES}
