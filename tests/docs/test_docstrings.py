"""Docstrings of all that users call are whole and true: each parameter is named and no other, what is returned and
raised is said, functions have an example, and names that are referred to exist."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

import geomsink

DOORS = (
    "geomsink", "geomsink.transport", "geomsink.generative", "geomsink.plotting", "geomsink.costs",
    "geomsink.costs.kernels", "geomsink.shapes", "geomsink.compat.geomloss", "geomsink.compat.geomloss.ot",
    "geomsink.compat.pot",
)  # fmt: skip
TORCHS = {"extra_repr"}
"""Methods that torch asks for, and no user."""
SECTIONS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns", "Notes", "Examples")


@dataclass(frozen=True)
class Public:
    """Something that users call: a function, a class, or a method of a class."""

    name: str
    thing: Any
    is_method: bool = False
    said: str | None = None

    @property
    def doc(self) -> str:
        return inspect.cleandoc(self.said or "")

    @property
    def is_class(self) -> bool:
        return inspect.isclass(self.thing)

    @property
    def parameters(self) -> list[str]:
        if self.is_class and issubclass(self.thing, Exception):
            return []
        named = inspect.signature(self.thing).parameters
        return [name for name in named if name not in ("self", "cls") and not name.startswith("_")]

    @property
    def tree(self) -> ast.AST:
        return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(self.thing))))

    @property
    def returns(self) -> bool:
        if self.is_class:
            return False
        return inspect.signature(self.thing).return_annotation not in (None, "None", inspect.Signature.empty)

    @property
    def raised(self) -> set[str]:
        """What the function itself raises, or what makes an object of the class."""
        tree = self.tree.body[0]
        if self.is_class:
            makers = [n for n in tree.body if getattr(n, "name", "") in ("__init__", "__post_init__")]
        else:
            makers = [tree]
        nodes = [n for maker in makers for n in ast.walk(maker) if isinstance(n, ast.Raise) and n.exc is not None]
        called = [n.exc.func if isinstance(n.exc, ast.Call) else n.exc for n in nodes]
        return {c.id for c in called if isinstance(c, ast.Name)} - {"AssertionError"}


def public() -> Iterator[Public]:
    seen = set()
    for place in DOORS:
        door = importlib.import_module(place)
        for name in getattr(door, "__all__", [n for n, v in vars(door).items() if n[0] != "_" and _made_in(v, door)]):
            thing = getattr(door, name)
            if id(thing) in seen or not (inspect.isroutine(thing) or inspect.isclass(thing)):
                continue
            seen.add(id(thing))
            yield Public(f"{place}.{name}", thing, said=thing.__doc__)
            if inspect.isclass(thing):
                yield from methods(f"{place}.{name}", thing)


def _made_in(thing: Any, door: ModuleType) -> bool:
    return getattr(thing, "__module__", "") == door.__name__


def methods(name: str, owner: type) -> Iterator[Public]:
    """Those that the class itself defines, by names that users write; a base of ours may describe them."""
    for attribute, found in vars(owner).items():
        plain = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
        if attribute[0] != "_" and attribute not in TORCHS and inspect.isfunction(plain):
            ours = [base for base in owner.__mro__ if base.__module__.startswith("geomsink")]
            docs = [vars(base)[attribute].__doc__ for base in ours if attribute in vars(base)]
            yield Public(f"{name}.{attribute}", plain, True, next((doc for doc in docs if doc), None))


try:
    THINGS = list(public())
except ImportError as error:  # without matplotlib figures have nothing to be looked at
    pytest.skip(str(error), allow_module_level=True)


def sections(doc: str) -> dict[str, str]:
    """The text below each heading."""
    parts = re.split(r"^([A-Z][\w ,]*)\n-{3,}\n", doc, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(section: str) -> list[str]:
    """The names that a section has entries for; a line may have several, and go on after a backslash."""
    lines = section.replace("\\\n", " ").splitlines()
    heads = [re.split(r"\s+:(?:\s|$)", line)[0] for line in lines if line and not line[0].isspace()]
    return [name.strip(" *") for head in heads for name in head.split(",") if name.strip()]


def wrong(item: Public) -> list[str]:
    """What is wrong with a docstring, one sentence each."""
    if not item.doc:
        return ["it has none"]
    found, there = [], sections(item.doc)
    found += [f"{heading!r} is no heading" for heading in there if heading not in SECTIONS]
    named, kept = entries(there.get("Parameters", "")), entries(there.get("Attributes", ""))
    said = {*named, *kept} if item.is_class else {*named}
    found += [f"the parameter {name} is not named" for name in item.parameters if name not in said]
    found += [f"{name} is named, and no parameter" for name in named if name not in item.parameters]
    if item.is_class:
        found += [f"{name} is named, and no attribute" for name in kept if name not in attributes(item.thing)]
    if item.returns and not {"Returns", "Yields"} & there.keys():
        found.append("what it returns is not said")
    errors = entries(there.get("Raises", ""))
    found += [f"{name} is raised, and not named" for name in sorted(item.raised) if not _covered(name, errors)]
    found += [f"{name} is named, and no exception" for name in errors if not _is_error(name)]
    if not (item.is_class or item.is_method) and ">>> " not in there.get("Examples", ""):
        found.append("it has no example")
    return found + [f"`{name}` does not exist" for name in referred(item.doc) if not _exists(name)]


def attributes(owner: type) -> set[str]:
    """Those of the class and its bases: defined, annotated, fields, or set by a method."""
    found = set(dir(owner))
    for base in owner.__mro__:
        if base.__module__.startswith("geomsink"):
            nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base)))))
            found |= {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
            found |= set(getattr(base, "__annotations__", ()))
    return found | ({f.name for f in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set())


def _error(name: str) -> Any:
    places = (builtins, geomsink, geomsink.engine, geomsink.generative)
    return next((getattr(place, name) for place in places if hasattr(place, name)), None)


def _is_error(name: str) -> bool:
    found = _error(name.rpartition(".")[2])
    return "." in name or (inspect.isclass(found) and issubclass(found, BaseException))


def _covered(name: str, errors: list[str]) -> bool:
    """Whether it, or what it is a kind of, is named."""
    found = _error(name)
    return name in errors or (inspect.isclass(found) and any(b.__name__ in errors for b in found.__mro__))


def referred(doc: str) -> list[str]:
    return re.findall(r"(?<!`)`(geomsink(?:\.\w+)+)`(?!`)", doc)


def _exists(name: str) -> bool:
    thing: Any = geomsink
    for part in name.split(".")[1:]:
        if not hasattr(thing, part):
            return False
        thing = getattr(thing, part)
    return True


@pytest.mark.parametrize("item", THINGS, ids=[item.name for item in THINGS])
def test_docstring_is_whole_and_true(item):
    assert wrong(item) == []


def test_all_doors_are_looked_into():
    names = {item.name for item in THINGS}
    assert len(names) > 120
    assert {
        "geomsink.sinkhorn_divergence", "geomsink.Plan.top_k", "geomsink.transport.matching", "geomsink.shapes.read",
        "geomsink.costs.register", "geomsink.costs.kernels.register", "geomsink.plotting.save",
        "geomsink.generative.fit", "geomsink.compat.pot.solve_sample", "geomsink.compat.geomloss.SamplesLoss",
    } <= names  # fmt: skip


def bad(x: float, y: float) -> float:
    """A sum; see `geomsink.sum_of`.

    Parameters
    ----------
    x, z : float

    Raises
    ------
    Mistake
    """
    if y:
        raise ValueError("y: given, expected none.")
    return x


def test_the_rules_see_what_they_forbid():
    assert wrong(Public("bad", bad, said=bad.__doc__)) == [
        "the parameter y is not named",
        "z is named, and no parameter",
        "what it returns is not said",
        "ValueError is raised, and not named",
        "Mistake is named, and no exception",
        "it has no example",
        "`geomsink.sum_of` does not exist",
    ]


class Odd:
    """Odd.

    Attributes
    ----------
    here, nowhere : int

    Raises, Warns
    -------------
    ValueError
    """

    here = 1


def test_the_rules_see_what_is_wrong_with_a_class():
    assert wrong(Public("Odd", Odd, said=Odd.__doc__)) == [
        "'Raises, Warns' is no heading",
        "nowhere is named, and no attribute",
    ]
    assert wrong(Public("none", lambda: None)) == ["it has none"]
