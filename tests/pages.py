"""The pages that users read, those of docs/ and of the root, taken apart for the tests of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *sorted(DOCS.glob("*.md"))]
TUTORIALS = sorted((DOCS / "tutorials").glob("*.py"))
FENCE = re.compile(r"^( *)(`{3,})[ ]*(\S*)[^\n]*\n(.*?)^ *\2 *$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Fenced code: its language, its text without the fences, and the line of the page that it starts on."""

    language: str
    text: str
    line: int


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str, *languages: str) -> list[Block]:
    """Fenced code in order, of all languages if none is named."""
    found = [Block(m[3], m[4], text.count("\n", 0, m.start(4)) + 1) for m in FENCE.finditer(text)]
    return [block for block in found if not languages or block.language in languages]


def prose(text: str) -> str:
    """A page without its fenced code, each line where it was."""
    return FENCE.sub(lambda m: "\n" * m[0].count("\n"), text)


def spans(text: str) -> list[str]:
    """`Code` within the prose, on one line each."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(text))]
