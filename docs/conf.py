"""The site that ``make docs`` builds: the pages of this folder, the package's docstrings, tutorials and results."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "site"))

import mirror

project = "geomsink"
author = "geomsink authors"
copyright = "geomsink authors, under the MIT licence"
version = release = mirror.version()

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "templates", "tutorials", "generated/backreferences"]
templates_path = ["templates"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
default_role = "py:obj"
myst_heading_anchors = 4

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"geomsink {release}"
html_static_path = ["site/static"]
html_css_files = ["geomsink.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "monokai"

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "generated/tutorials",
    "backreferences_dir": "generated/backreferences",
    "filename_pattern": "",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "ignore_repr_types": r"matplotlib\.|geomsink\.plotting\.",  # a figure is shown as an image
    "first_notebook_cell": "# In a checkout of geomsink: pip install -e '.[plot]'\n%matplotlib inline",
    "show_signature": False,
    "write_computation_times": False,
    "download_all_examples": False,
    "doc_module": ("geomsink",),
    "reference_url": {"geomsink": None},
    "image_scrapers": ("figures",),
    "reset_modules": ("figures.style",),
}


suppress_warnings = ["ref.python"]  # a name in a docstring that several classes have leads to one of them


def setup(app: Any) -> None:
    app.connect("builder-inited", lambda _: mirror.generate())
    app.connect("source-read", turn_links)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)


def turn_links(app: Any, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    if page.suffix == ".md" and mirror.GENERATED not in page.parents:
        source[0] = mirror.turned(source[0], page, page)


def read_docstring(_: Any, __: str, ___: str, ____: Any, _____: Any, lines: list[str]) -> None:
    """What Sphinx would misread: |t − 1|, an absolute value, and attributes that are described together."""
    names = re.compile(r"(\w+(?:, \w+)+) : (.*)")
    kept: list[str] = []
    for line in lines:
        together = names.fullmatch(line)
        kept += [f"{name} : {together[2]}" for name in together[1].split(", ")] if together else [line]
    lines[:] = [re.sub(r"(``.*?``)|\|", lambda m: m[1] or r"\|", line) for line in kept]
