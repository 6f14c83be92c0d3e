"""Pages of what lies outside docs/, and links between pages as the site has them.

Pages are written to be read in the repository: their links lead to its files. On the site such a link leads to the page
that shows the file; measured results, the changelog and the like become pages under ``generated/``.
"""

from __future__ import annotations

import ast
import os
import re
import textwrap
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
GENERATED = DOCS / "generated"
RESULTS = ROOT / "benchmarks" / "results"
OUTSIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""Files of the root, and their names under ``generated/``."""
QUICK = {"small_steps": "training_step"}
"""Results that are part of what another benchmark measures, and are written by its ``--quick``."""
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
TREE = re.compile(r"(?<=^```\{toctree\}\n)(.*?)(?=^```)", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^(?!:)(\S+)\.(?:md|py)$", re.MULTILINE)
"""Of the navigation: a file of the repository."""


def version() -> str:
    """From the one place where it stands, without an import."""
    file = ROOT / "geomsink" / "__init__.py"
    found = re.search(r'^__version__ = "([^"]+)"', file.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f'{file}: found no line __version__ = "...", expected one.')
    return found[1]


def shown_at(file: Path) -> Path:
    """The source of the page that shows a file of the repository; a file without one is given back."""
    if file == ROOT / "README.md":
        return DOCS / "index.md"
    if file.parent == RESULTS and file.suffix == ".md":
        return GENERATED / "results" / file.name
    if file.parent == ROOT and file.name in OUTSIDE:
        return GENERATED / OUTSIDE[file.name]
    if file.parent == DOCS / "tutorials" and file.suffix == ".py":
        return GENERATED / "tutorials" / f"{file.stem}.rst"
    if file == DOCS / "tutorials":
        return GENERATED / "tutorials" / "index.rst"
    return file


def turned(text: str, file: Path, page: Path) -> str:
    """The text of a Markdown file, with links and entries of the navigation as they are from the page that shows it."""

    def seen(target: str) -> str:
        return os.path.relpath(shown_at((file.parent / target).resolve()), page.parent)

    def entry(m: re.Match[str]) -> str:
        return os.path.splitext(seen(m[0]))[0]

    text = TREE.sub(lambda m: ENTRY.sub(entry, m[0]), text)
    return LINK.sub(lambda m: f"{m[1]}{seen(m[2])}{m[3]}", text)


def generate() -> None:
    """Make the pages of files outside docs/."""
    for file in sorted(RESULTS.glob("*.md")):
        write(shown_at(file), turned(result(file), file, shown_at(file)))
    for name in OUTSIDE:
        file = ROOT / name
        write(shown_at(file), turned(file.read_text(encoding="utf-8"), file, shown_at(file)))


def result(file: Path) -> str:
    """A title, what the benchmark says of itself and how it is called, the results as written, and their figures."""
    about, _, rest = (ast.get_docstring(ast.parse(script_of(file).read_text(encoding="utf-8"))) or "").partition("\n\n")
    call, _, _ = rest.partition("\n\n")
    called = f"```sh\n{textwrap.dedent(call)}\n```" if call.startswith("    ") else ""
    figures = [path for path in sorted(RESULTS.glob("*.png")) if path.stem.startswith(file.stem)]
    measured = re.sub(r"^#(?= )", "##", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    shown = [f"![{path.stem}]({path.name})" for path in figures]
    return "\n\n".join([f"# {file.stem}", about, called, measured, *shown]) + "\n"


def script_of(file: Path) -> Path:
    """The benchmark that wrote a file of results: of those that its name begins with, the one of the longest name."""
    name = QUICK.get(file.stem, file.stem)
    scripts = [path for path in (ROOT / "benchmarks").glob("*.py") if name.startswith(path.stem)]
    return max(scripts, key=lambda path: len(path.stem))


def write(page: Path, text: str) -> None:
    """Only where it has changed, so that a second build reads no more than it has to."""
    if page.exists() and page.read_text(encoding="utf-8") == text:
        return
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")
