"""Docstrings of all that users call are whole and true: every parameter is named and no other, and what a function
returns, raises and is used like is said."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

import geomsink
from geomsink import compat, costs, generative, kernels, shapes, transport

try:
    from geomsink import plotting
except ImportError:
    plotting = None

HEADINGS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns", "Notes", "Examples", "References", "See Also")
DOORS = {
    "geomsink": geomsink,
    "geomsink.transport": transport,
    "geomsink.generative": generative,
    "geomsink.plotting": plotting,
    "geomsink.costs": costs,
    "geomsink.kernels": kernels,
    "geomsink.shapes": shapes,
    "geomsink.compat.geomloss": compat.geomloss,
    "geomsink.compat.geomloss.ot": compat.geomloss.ot,
    "geomsink.compat.pot": compat.pot,
}


@dataclass(frozen=True)
class Public:
    """Something that users call: a function, a class, or a method of a class."""

    name: str
    thing: Any
    owner: type | None = None

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.thing) or ""

    @property
    def is_class(self) -> bool:
        return inspect.isclass(self.thing)

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Those that are given by their names, or in their place."""
        if self.is_class and issubclass(self.thing, BaseException):
            return {}
        found = inspect.signature(self.thing).parameters
        return {name: p for name, p in found.items() if name not in ("self", "cls") and not name.startswith("_")}

    @property
    def source(self) -> ast.AST:
        return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(self.thing))))


def names_of(door: ModuleType) -> list[str]:
    return list(getattr(door, "__all__", [n for n in vars(door) if not n.startswith("_")]))


def public() -> Iterator[Public]:
    seen = set()
    for place, door in DOORS.items():
        for name in names_of(door) if door is not None else []:
            thing = getattr(door, name)
            if id(thing) in seen or not (inspect.isroutine(thing) or inspect.isclass(thing)):
                continue
            if not (thing.__module__ or "").startswith("geomsink"):
                continue
            seen.add(id(thing))
            yield Public(f"{place}.{name}", thing)
            if inspect.isclass(thing):
                yield from methods(f"{place}.{name}", thing)


def methods(name: str, owner: type) -> Iterator[Public]:
    """Those that the class itself defines, by names that users write."""
    for attribute, found in vars(owner).items():
        plain = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
        if not attribute.startswith("_") and inspect.isfunction(plain) and plain.__module__.startswith("geomsink"):
            yield Public(f"{name}.{attribute}", plain, owner)


THINGS = list(public())
IDS = [item.name for item in THINGS]


def sections(doc: str) -> dict[str, str]:
    """The text below each heading."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", doc, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(section: str) -> list[str]:
    """The names that a section has entries for; a line may have several, and go on after a backslash."""
    lines = section.replace("\\\n", " ").splitlines()
    heads = [line for line in lines if line and not line[0].isspace()]
    return [name.strip(" *`") for head in heads for name in re.split(r"\s+:(?:\s|$)", head)[0].split(",") if name.strip()]


def spoken(doc: str) -> set[str]:
    """Words that a docstring has as code, for those of few parameters that say all in a sentence."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"``([^`]+)``", doc))))


def undocumented(item: Public) -> list[str]:
    """Parameters that no entry names."""
    named = sections(item.doc)
    said = {*entries(named.get("Parameters", "")), *(entries(named.get("Attributes", "")) if item.is_class else ())}
    return [name for name in item.parameters if name not in said]


def invented(item: Public) -> list[str]:
    """Entries of parameters that are not there."""
    said = entries(sections(item.doc).get("Parameters", ""))
    return [name for name in said if name not in item.parameters]


def attributes_invented(item: Public) -> list[str]:
    """Entries of attributes that neither the class nor its fields or methods have."""
    there = {*dir(item.thing), *(f.name for f in dataclasses.fields(item.thing))} if dataclasses.is_dataclass(item.thing) else {
        *dir(item.thing)}
    there |= {node.attr for node in ast.walk(item.source) if isinstance(node, ast.Attribute)}
    there |= {node.target.id for node in ast.walk(item.source) if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    for base in item.thing.__mro__[1:]:
        if base.__module__.startswith("geomsink"):
            there |= {*getattr(base, "__annotations__", ())}
    return [name for name in entries(sections(item.doc).get("Attributes", "")) if name not in there]


if __name__ == "__main__":
    for item in THINGS:
        s = sections(item.doc)
        un, inv = undocumented(item), invented(item)
        ret = not item.is_class and inspect.signature(item.thing).return_annotation not in (None, "None", inspect.Signature.empty)
        print(item.name, "|", "UN", un, "INV", inv, "ATTR", attributes_invented(item) if item.is_class else "", "NORET" if ret and "Returns" not in s and "Yields" not in s else "",
          "NORAISE" if "Raises" not in s else "", "NOEX" if "Examples" not in s and item.owner is None else "", "NODOC" if not item.doc else "")
