"""The house: who may import whom. A room that is new needs a place in the drawing of docs/architecture.md."""

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "geomsink"
FILES = sorted(PACKAGE.rglob("*.py"))


def drawing() -> list[set[str]]:
    """The floors, from the ground up; a name is a file or a folder."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = re.search(r"## The wings.*?```text\n(.*?)```", page, re.DOTALL).group(1).splitlines()
    return [set(re.split(r"  +", line)[0].split(", ")) for line in reversed(lines)]


FLOORS = drawing()
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
KEOPS = {"pykeops", "keopscore"}
# Which files may import a package that `pip install geomsink` does not bring when they are imported themselves.
OPTIONAL = {
    "click": {"cli"},
    "rich": {"cli"},
    "matplotlib": {"plotting"},
    **{name: set() for name in ("plyfile", "trimesh", "laspy", "lazrs", "pypcd4")},
    **{name: set() for name in ("tqdm", "pytest", "geomloss", "ot", "ott", "jax")},
}
LONGEST = 400
# These take torch's default device, which is the caller's own business, unless they are told one.
MAKERS = re.compile(
    r"torch\.(arange|as_tensor|asarray|empty|eye|full|linspace|logspace|ones|rand|randint|randn|randperm|scalar_tensor|"
    r"sparse_coo_tensor|sparse_csr_tensor|tensor|tril_indices|triu_indices|vander|zeros)"
)


def place_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


def names_in(init: str) -> set[str]:
    """What a wing's own file defines or imports: what it hands on."""
    found = set()
    for node in ast.parse(init).body:
        if isinstance(node, (ast.ImportFrom, ast.Import)):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


WINGS = {path.parent.name: names_in(path.read_text(encoding="utf-8")) for path in PACKAGE.glob("*/__init__.py")}


@dataclass(frozen=True)
class Import:
    """A module's full name, the name that is taken from it, and whether importing the file imports it."""

    module: str
    name: str | None
    at_once: bool


def imports(source: str, place: tuple[str, ...]) -> Iterator[Import]:
    """All imports of the file at ``place``, such as ("engine", "keops"), under geomsink."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ("geomsink", *place[:-1])
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*start, *([node.module] if node.module else [])))
            if module == "geomsink":  # each name is a module of its own, or comes from the front door
                yield from (Import(f"geomsink.{alias.name}", None, at_once) for alias in node.names)
            else:
                yield from (Import(module, alias.name, at_once) for alias in node.names)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_once and not inside)

    return visit(ast.parse(source), True)


def violations(source: str, place: tuple[str, ...]) -> list[str]:
    """What is wrong with the imports of the file at ``place``, one sentence each."""
    here, file = place[0], "/".join(place)
    found = []
    for item in imports(source, place):
        top, *rest = item.module.split(".")
        if top == "geomsink":
            there = rest[0] if rest and rest[0] in FLOOR else "__init__"
            if there != here and FLOOR[there] >= FLOOR[here]:
                found.append(f"{file} imports {item.module}, which is not on a floor below")
            taken = rest[1] if len(rest) > 1 else item.name
            if there != here and there in WINGS and taken is not None and taken not in WINGS[there]:
                found.append(f"{file} imports {taken} of {item.module}, which its wing does not hand on")
        if top in KEOPS and here != "engine":
            found.append(f"{file} imports {top}, which only the engine knows")
        if item.at_once and top in OPTIONAL and here not in OPTIONAL[top]:
            found.append(f"{file} imports the optional {top} when it is imported itself")
    return found


def on_default_device(source: str) -> list[str]:
    """Calls that make tensors on torch's default device; parameters and buffers of modules are to be there."""
    found = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Call):
            name, says = ast.unparse(node.func), {keyword.arg for keyword in node.keywords}
            if name in ("nn.Parameter", "self.register_buffer"):
                return
            if MAKERS.fullmatch(name) and "device" not in says:
                found.append(ast.unparse(node))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(place_of(path)))
def test_file_makes_no_tensors_on_the_default_device(path):
    assert on_default_device(path.read_text(encoding="utf-8")) == []


def test_the_rule_of_devices_sees_what_it_forbids():
    source = "self.p = nn.Parameter(torch.zeros(2))\nq = torch.zeros(2)\nr = torch.ones(2, device=q.device)"
    assert on_default_device(source) == ["torch.zeros(2)"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(place_of(path)))
def test_file_keeps_to_its_floor_and_length(path):
    place, source = place_of(path), path.read_text(encoding="utf-8")
    assert violations(source, place) == []
    assert len(source.splitlines()) <= LONGEST


def test_the_drawing_has_every_room_once():
    rooms = [room for floor in FLOORS for room in sorted(floor)]
    there = {place_of(path)[0] for path in FILES}
    assert sorted(rooms) == sorted(there)


def test_every_wing_says_what_it_is():
    for wing in WINGS:
        assert ast.get_docstring(ast.parse((PACKAGE / wing / "__init__.py").read_text(encoding="utf-8"))), wing


def test_tests_lie_in_the_same_wings():
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders - {"benchmarks", "docs", "endurance", "properties"} <= set(WINGS)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_what_benchmarks_import_is_there(path):
    """Most of them are only run by hand."""
    for item in imports(path.read_text(encoding="utf-8"), ("",)):
        if item.module.split(".")[0] == "geomsink" and item.module != "geomsink":
            owner, _, last = item.module.rpartition(".")
            if hasattr(importlib.import_module(owner), last) and item.name is None:
                continue
            module = importlib.import_module(item.module)
            assert item.name is None or hasattr(module, item.name), f"{item.module} has no {item.name}"


@pytest.mark.parametrize(
    ("place", "source", "wrong"),
    [
        (("engine", "keops"), "from ..solver import Solver", "floor below"),
        (("engine", "keops"), "from ..costs import Cost", None),
        (("engine", "keops"), "import pykeops\nfrom .build import keops", None),
        (("measures", "measures"), "def f():\n    from geomsink import costs", "floor below"),
        (("measures", "measures"), "from ..shapes import read", "floor below"),
        (("costs", "registry"), "from .. import engine", "floor below"),
        (("engine", "keops"), "from .. import costs", None),
        (("solver", "sinkhorn"), "import geomsink", "floor below"),
        (("solver", "sinkhorn"), "from geomsink import solve", "floor below"),
        (("solver", "sinkhorn"), "from ..engine.keops import KeopsPair", "does not hand on"),
        (("solver", "sinkhorn"), "import geomsink.engine.keops", "does not hand on"),
        (("solver", "sinkhorn"), "from ..engine import KeopsReduction", "does not hand on"),
        (("divergences", "mmd"), "from ..costs.kernels import Kernel", None),
        (("solver", "sinkhorn"), "from keopscore.utils import x", "only the engine"),
        (("solver", "sinkhorn"), "try:\n    from matplotlib import figure\nexcept ImportError:\n    pass", "optional"),
        (("solver", "sinkhorn"), "class A:\n    import click", "optional"),
        (("progress",), "def f():\n    import tqdm", None),
        (("plotting", "scene"), "import matplotlib", None),
        (("cli", "fits"), "from geomsink import costs, solve", None),
        (("cli", "fits"), "from geomsink.__main__ import main", "floor below"),
    ],
)
def test_the_rules_see_what_they_forbid(place, source, wrong):
    found = violations(source, place)
    assert [wrong in sentence for sentence in found] == ([True] if wrong else [])


def test_only_files_in_the_house_are_looked_at():
    assert {("__init__",), ("cli", "__init__"), ("engine", "__init__")} <= {place_of(path) for path in FILES}
