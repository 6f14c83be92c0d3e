"""Commands of README.md and docs/: those of geomsink run as printed, others name what there is."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from cli_tools import run
from pages import DOCS, PAGES, ROOT, blocks, name_of, prose, spans
from standin_files import place

from geomsink.cli import cli

TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
WARM = "--blur 0.2 --tol-loss 0.01"
SHORTER = {
    "geomsink divergence bunny.obj igea.ply --blur 0.05 --plot figure.png": "--samples 5000",
    "geomsink divergence shape:knot shape:star --samples 50000 --json": "--samples 10000",
    "geomsink divergence bunny.obj igea.ply --certify --tol-gap 1e-3": "--samples 2000",
    "geomsink barycenter bunny.obj spot.obj igea.ply --samples 2000 --out mean.ply --plot mean.png": "--samples 200 "
    + WARM,
    "geomsink barycenter bunny.obj spot.obj igea.ply --weights 1,1,2 --samples 200 --out mean.ply": WARM,
    "geomsink flow spot.obj horse.ply --samples 2000 --out end.ply --plot flow.gif": "--samples 200 " + WARM,
    "geomsink flow spot.obj horse.ply --samples 200 --out end.ply --plot frames.png": WARM,
    "geomsink fit bunny.obj --out run": "--steps 2 --batch 100 --inner 20 --held-out 100",
    "geomsink demo": "--samples 5000",
}
"""What is added to commands that take from five seconds to two minutes: fewer points or steps, a higher temperature."""


def lines(text: str) -> Iterator[str]:
    """Of the sh blocks, without their comments."""
    for block in blocks(text, "sh"):
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield shlex.join(words)


def of_geomsink(text: str) -> list[str]:
    return [line for line in lines(text) if line.startswith("geomsink ")]


def of_benchmarks(text: str) -> list[tuple[str, list[str]]]:
    """Each script that is called, with its options: those of "`python a.py --b`, and `--c`" are both of a.py."""
    printed = " ".join((prose(text) + "\n".join(lines(text))).split())
    found = re.finditer(r"python (benchmarks/\S+\.py)([^`]*)(?:`,? and `(--[^`]*)`)?", printed)
    return [(m[1], re.findall(r"--[\w-]+", f"{m[2]} {m[3] or ''}")) for m in found]


def unparsed(command: str) -> str:
    """What is wrong with a command's name and options; what it is given may be a placeholder."""
    _, name, *words = shlex.split(command)
    if name not in cli.commands:
        return f"{command}: there is no command {name}"
    parameters = cli.commands[name].params
    known = {"--help", *(option for one in parameters for option in (*one.opts, *one.secondary_opts))}
    wrong = [word for word in words if re.match("--?[a-z]", word) and word.partition("=")[0] not in known]
    return f"{command}: no option {', '.join(wrong)}" if wrong else ""


def options_of(script: Path) -> set[str]:
    """Those that its parser takes."""
    calls = [node for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    added = [call.args for call in calls if getattr(call.func, "attr", "") == "add_argument"]
    return {word.value for words in added for word in words if isinstance(word, ast.Constant)} | {"--help"}


def unknown(line: str) -> str:
    """What is wrong with a line that is not run here."""
    if line.startswith("make "):
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return "" if line.split()[1] in targets else f"{line}: no such target"
    if line.startswith("pip install "):
        groups = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
        wrong = [group for named in re.findall(r"\[(.*?)\]", line) for group in named.split(",") if group not in groups]
        return f"{line}: no group {', '.join(wrong)}" if wrong else ""
    if line.startswith(("geomsink ", "python benchmarks/")):
        return ""
    return f"{line}: neither run nor checked"


@pytest.mark.parametrize("page", [page for page in PAGES if of_geomsink(TEXTS[page])], ids=name_of)
def test_commands_run_as_printed(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = of_geomsink(TEXTS[page])
    place("\n".join(commands), tmp_path)
    for command in commands:
        done = run(*shlex.split(command)[1:], *SHORTER.get(command, "").split())
        assert done.exit_code == 0, f"{name_of(page)}: {command}: {done.output}"
        words = shlex.split(command)
        made = [word for option, word in pairwise(words) if option in ("--out", "--plot")]
        assert [name for name in made if not (tmp_path / name).exists()] == [], command


def test_there_are_commands_to_run():
    printed = [command for page in PAGES for command in of_geomsink(TEXTS[page])]
    assert len(printed) >= 12
    assert {command.split()[1] for command in printed} == set(cli.commands)
    assert set(SHORTER) <= set(printed), "a command that is no longer printed needs no shortening"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_within_sentences_parse(page):
    named = [span for span in spans(TEXTS[page]) if span.startswith("geomsink ")]
    assert [wrong for span in named if (wrong := unparsed(span))] == []
    assert [wrong for line in lines(TEXTS[page]) if (wrong := unknown(line))] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_benchmarks_have_the_options_that_are_printed(page):
    for script, options in of_benchmarks(TEXTS[page]):
        assert (ROOT / script).is_file(), script
        assert set(options) <= options_of(ROOT / script), script


def test_benchmarks_are_found_with_their_options():
    found = of_benchmarks(TEXTS[DOCS / "benchmarks.md"])
    assert len(found) >= 8
    assert ("benchmarks/shapes.py", ["--seeds"]) in found
    against = [options for script, options in found if script == "benchmarks/against_peers.py"]
    assert against == [["--sizes", "--peers", "--timeout", "--reference-tol"], ["--sizes", "--timeout"]]


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("geomsink fit SHAPE --out DIR", False),
        ("geomsink sample DIR -n 100000 out.ply", False),
        ("geomsink flow A B --no-normalize", False),
        ("geomsink flow A B --temperature 3", True),
        ("geomsink fly A B", True),
    ],
)
def test_commands_that_do_not_parse_are_seen(command, wrong):
    assert bool(unparsed(command)) == wrong


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("make demo", False),
        ("make figures", True),
        ("pip install -e '.[all]'", False),
        ("pip install -e '.[shapes,plots]'", True),
        ("rm -rf run", True),
    ],
)
def test_other_lines_that_name_nothing_are_seen(line, wrong):
    assert bool(unknown(line)) == wrong


def test_placed_files_are_readable_without_scans(tmp_path):
    from geomsink import shapes

    named = place("bunny.obj spot.obj igea.ply horse.ply scan.ply model.ply", tmp_path, scans=tmp_path)
    assert len(named) == 6
    assert all(len(shapes.read(tmp_path / name)) >= 320 for name in named)
