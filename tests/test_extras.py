"""What `pip install geomsink` does not bring: without it one sentence says what to install, before any work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOR_DEVELOPMENT = {"test", "lint", "docs", "cuda-check", "peers", "digits"}
"""Groups that nothing in the package asks for."""
IMPORTED_AS = {"scikit-learn": "sklearn"}
"""Where that is not the package's name."""

PLY = "from pathlib import Path; Path('a.ply').write_text('ply'); geomsink.shapes.read('a.ply')"
SAID = {
    ("shapes", "plyfile"): (PLY, "reading .ply files needs"),
    ("shapes", "trimesh"): (PLY.replace(".ply", ".glb"), "reading .glb files needs"),
    ("scans", "laspy"): (PLY.replace(".ply", ".las"), "reading .las files needs"),
    ("scans", "lazrs"): (PLY.replace(".ply", ".laz"), "reading .laz files needs"),
    ("scans", "pypcd4"): (PLY.replace(".ply", ".pcd"), "reading .pcd files needs"),
    ("plot", "matplotlib"): ("solved.plot()", "figures need"),
    ("cli", "click"): ("command()", "geomsink: the command line needs"),
    ("cli", "rich"): ("command()", "geomsink: the command line needs"),
    ("cli", "tqdm"): ("geomsink.solve(x, x, blur=0.1, progress=True)", "progress=True needs"),
    ("tensorboard", "tensorboard"): (
        "geomsink.generative.fit(generator, x, loss, steps=1, folder='run', tensorboard=True)",
        "tensorboard=True needs",
    ),
}
"""By group and package as imported: what asks for it, and how the sentence begins."""

WITHOUT = """
import json, sys
from contextlib import redirect_stderr
from io import StringIO

cases = json.load(sys.stdin)
missing = set()

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
missing.update(package for package, _ in cases)
import torch
import geomsink
from geomsink.__main__ import main
from geomsink.solver import Solver

x = torch.rand(5, 2)
generator, loss = geomsink.generative.Ellipse(), geomsink.SinkhornDivergence(blur=0.1)
solved = geomsink.sinkhorn_divergence(x, x, blur=0.5, engine="dense")

def work(self, *args, **kwargs):
    raise AssertionError("it began to work")

def command():
    with redirect_stderr(StringIO()) as said:
        try:
            main()
        except SystemExit as end:
            assert end.code == 2
    raise ImportError(said.getvalue().removesuffix("\\n"))

Solver.__init__ = work
said = []
for package, code in cases:
    missing.clear()
    missing.add(package)
    for name in [name for name in sys.modules if name.partition(".")[0] == package or name.startswith("geomsink.cli")]:
        del sys.modules[name]
    try:
        exec(code)
        said.append("nothing")
    except ImportError as error:
        said.append(str(error))
json.dump(said, sys.stdout)
"""


def groups() -> dict[str, list[str]]:
    """The optional packages of pyproject.toml as they are imported, by group; `all` names others as geomsink's."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", project, re.MULTILINE | re.DOTALL)[1]
    found = {}
    for group, text in re.findall(r"^([\w-]+) = \[(.*?)\]$", listed, re.MULTILINE | re.DOTALL):
        names = re.findall(r'"([A-Za-z][\w-]*)(?:\[([\w,]+)\])?', text)
        found[group] = [
            IMPORTED_AS.get(name, name)
            for package, parts in names
            for name in ([package] if package == "geomsink" or not parts else [package, *parts.split(",")])
        ]
    return found


GROUPS = groups()
FOR_USERS = [group for group in GROUPS if group not in {*FOR_DEVELOPMENT, "all"}]


def python(code: str, folder: Path, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, cwd=folder, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[tuple[str, str], str]:
    """What is said where one package is missing, each in its turn, in one process that starts without any."""
    cases = json.dumps([(package, code) for (_, package), (code, _) in SAID.items()])
    return dict(zip(SAID, json.loads(python(WITHOUT, tmp_path_factory.mktemp("without"), cases)), strict=True))


@pytest.mark.parametrize("group", FOR_USERS)
def test_a_missing_package_is_named_with_the_group_that_brings_it(group, said):
    for package in GROUPS[group]:
        sentence = f"{SAID[group, package][1]} the package {package}: pip install 'geomsink[{group}]'"
        assert said[group, package].removesuffix(".") == sentence


def test_every_group_is_looked_at():
    assert {(group, package) for group in FOR_USERS for package in GROUPS[group]} == set(SAID)
    assert FOR_DEVELOPMENT - set(GROUPS) == set()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    together = re.search(r'^all = \["geomsink\[(.*)\]"\]$', project, re.MULTILINE)[1].split(",")
    assert [group for group in FOR_USERS if group not in together] == ["tensorboard"], "the rest is in `all`"


def test_an_import_of_geomsink_imports_no_optional_package(tmp_path):
    optional = {package for packages in GROUPS.values() for package in packages} - {"geomsink", "setuptools"}
    optional |= {"IPython", "pandas", "tkinter"}
    after = python("import geomsink, sys; print(*sys.modules)", tmp_path).split()
    assert "geomsink.solver" in after
    of_torch = python("import torch, scipy, sys; print(*sys.modules)", tmp_path).split()
    assert {name for name in after if "." not in name and name not in of_torch} & optional == set()


def test_the_site_says_what_each_group_brings():
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    assert rows.pop("all") == "the four above"
    assert {group: packages.split(", ") for group, packages in rows.items()} == {g: GROUPS[g] for g in FOR_USERS}
