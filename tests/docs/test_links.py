"""Links of the pages lead to files and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import PAGES, name_of, prose

LINK = re.compile(r"""\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)|(?:src|href)=["']([^"']+)["']""")


def links(text: str) -> list[str]:
    """The targets of all links and images that are not elsewhere on the web."""
    found = [m[1] or m[2] for m in LINK.finditer(re.sub(r"`[^`]*`", "", prose(text)))]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them: small letters, blanks as hyphens, no punctuation."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", prose(text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        again = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in found)
        found.add(f"{name}-{again}" if again else name)
    return found


def broken(text: str, page: Path) -> list[str]:
    """The links of a page's text that lead nowhere."""

    def leads(target: str) -> bool:
        name, _, anchor = target.partition("#")
        path = page.parent / name
        if name and not path.exists():
            return False
        return not anchor or anchor in anchors(path.read_text(encoding="utf-8") if name else text)

    return [target for target in links(text) if not leads(target)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    assert broken(page.read_text(encoding="utf-8"), page) == []


def test_there_are_links():
    found = {name_of(page): links(page.read_text(encoding="utf-8")) for page in PAGES}
    assert len(found["README.md"]) >= 20
    assert any("#" in target for target in found["docs/benchmarks.md"])


def test_broken_links_are_seen(tmp_path):
    (tmp_path / "other.md").write_text("# What `f` is (so far)\n\n```sh\n# none\n```\n", encoding="utf-8")
    text = """# Here
[a](other.md) [b](other.md#what-f-is-so-far) [two
lines](#here) [web](https://x.org/none) ![c](none.png) [d](other.md#none) [e](#there) <img src="none.gif">
`x[0](none.py)`
"""
    assert broken(text, tmp_path / "page.md") == ["none.png", "other.md#none", "#there", "none.gif"]
