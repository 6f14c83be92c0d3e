"""Progress on a terminal, in a notebook and in a file, with a clock that the test has in hand."""

import io
import os
import re
import struct
import sys

import numpy as np
import pytest

from geomsink import pairwise, progress, sinkhorn_divergence
from geomsink.progress import Progress

tqdm = pytest.importorskip("tqdm")


class Clock:
    """Seconds, as many as the test says."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Screen(io.StringIO):
    """What is drawn on a terminal of 80 columns, all of it."""

    encoding = "utf-8"

    def __init__(self, terminal):
        super().__init__()
        self._terminal = terminal

    def fileno(self):
        return self._terminal

    def isatty(self):
        return os.isatty(self._terminal)

    @property
    def drawn(self):
        return [line.rstrip() for line in re.split(r"[\r\n]", self.getvalue()) if "left" in line]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


@pytest.fixture(scope="module")
def terminal():
    """Of 80 columns."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield theirs
    os.close(ours)
    os.close(theirs)


@pytest.fixture
def on_screen(monkeypatch, terminal):
    """To be called from within a test: pytest puts its own stream there before each."""

    def start(drawn=0.0):
        screen = Screen(terminal)
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(progress, "DRAWN", drawn)
        return screen

    return start


def left(line: str) -> str:
    return re.search(r"(\S+) left", line).group(1)


def seconds(time: str) -> int:
    minutes, rest = time.lstrip("~≤").split(":")
    return 60 * int(minutes) + int(rest)


# ---------------------------------------------------------------------- the time left


def test_steps_are_counted(clock, on_screen):
    """Ten seconds each, but for the first, which waits for a compiler; there may be fewer of them."""
    screen = on_screen()
    with Progress(True) as bar:
        for k in range(8):
            bar.steps(f"fit  step {k} of 8", k, 8, fewer=True)
            clock.now += 100.0 if k == 0 else 10.0
    said = [left(line) for line in screen.drawn]
    assert said[0] == "?" and said[-1] == "≤00:10" and said[-2] == "≤00:20"


def test_pieces_have_no_mark_and_unknown_ones_no_time(clock, on_screen):
    screen = on_screen()
    with Progress(True) as bar:
        for k in range(5):
            bar.steps(f"permutations  {k} of 5", k, 5)
            clock.now += 60.0
    assert left(screen.drawn[-1]) == "01:00"
    with Progress(True) as bar:
        for k in range(5):
            bar.steps(f"sketch  {k} points", k, None)
            clock.now += 60.0
            assert left(screen.drawn[-1]) == "?"


def test_the_time_left_is_that_of_all_parts(clock, on_screen):
    """Two parts of a minute each and one of two, at an even pace: at the end of the first, three minutes are left."""
    screen = on_screen()
    with Progress(True) as bar:
        bar.parts([1.0, 1.0, 2.0])
        for k, part in enumerate((60.0, 60.0, 120.0)):
            bar.part(k)
            bar.begin(f"{k + 1} of 3", 1.0, 1.0)
            for step in range(21):  # errors fall as a power
                bar.update(1.0, 10.0 ** (-6.0 * step / 20), 1e-6)
                if k or step > 8:
                    now = part * step / 20 + 60.0 * k
                    assert left(screen.drawn[-1]).startswith("~")
                    assert abs(seconds(left(screen.drawn[-1])) - (240.0 - now)) <= 3.0
                clock.now += part / 20 * (step < 20)


def test_levels_and_temperatures_fill_one_bar(clock, on_screen):
    """Never backwards, and never full: another round may follow."""
    screen = on_screen()
    shares = []
    with Progress(True) as bar:
        bar.begin("xy", 1.0, 0.01)
        for level in range(3):
            bar.level(f", level {level}", level, 3)
            for epsilon in [1.0, 0.1, 0.01] if level == 0 else [0.01]:
                bar.update(epsilon, 0.5, 1e-4)
            for error in (1e-2, 1e-3, 2e-3, 1e-4):
                clock.now += 1.0
                bar.update(0.01, error, 1e-4)
                shares.append(int(re.match(r" *(\d+) %", screen.drawn[-1]).group(1)))
    assert shares == sorted(shares) and shares[0] < 25 and shares[3] == 25 and shares[7] == 50 and shares[-1] == 99


def test_a_guess_is_marked_and_absent_where_nothing_is_known(clock, on_screen):
    screen = on_screen()
    with Progress(True) as bar:
        bar.begin("xy", 1.0, 1.0)
        for error in (1.0, 0.9, 1e-2, 1e-3):
            clock.now += 1.0
            bar.update(1.0, error, 1e-6)
        bar.begin("xy, refined", 1.0, 1.0)  # over the same ground
        clock.now += 1.0
        bar.update(1.0, 1.0, 1e-6)
    assert [left(line)[0] for line in screen.drawn] == ["?", "?", "~", "~", "?"]
    with Progress(True) as bar:
        bar.unforeseen()
        bar.begin("xy", 1.0, 1.0)
        for error in (1.0, 1e-5):
            clock.now += 1.0
            bar.update(1.0, error, 1e-6)
            assert left(screen.drawn[-1]) == "?"


def test_a_long_halt_shows(clock, on_screen):
    """Where an error no longer falls, what is left grows."""
    screen = on_screen()
    with Progress(True) as bar:
        bar.begin("xy", 1.0, 1.0)
        for error in (1.0, 1e-1, 1e-2, 1e-3):
            clock.now += 1.0
            bar.update(1.0, error, 1e-6)
        before = seconds(left(screen.drawn[-1]))
        clock.now += 60.0
        bar.update(1.0, 1e-3, 1e-6)
    assert before <= 4 and seconds(left(screen.drawn[-1])) > 50


# ---------------------------------------------------------------------- where it is shown


def test_a_terminal_is_drawn_ten_times_a_second_at_most_and_left_clean(clock, on_screen):
    screen = on_screen(progress.DRAWN)
    with Progress(True) as bar:
        for k in range(1000):
            clock.now += 0.01
            bar.steps(f"fit  step {k} of 1000, and what does not fit on eighty columns is cut off at the end", k, 1000)
    assert 80 <= len(screen.drawn) <= 120 and "\n" not in screen.getvalue()
    assert all(len(line) <= 80 for line in screen.drawn)
    assert not screen.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip()


def test_a_file_gets_a_line_every_few_seconds(clock, monkeypatch):
    """The first state, one every five seconds, fewer in long jobs, and the last."""
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with Progress(True) as bar:
        for k in range(2001):
            bar.steps(f"fit  step {k:,} of 2,000", k, 2000)
            clock.now += 0.5
    lines = file.getvalue().splitlines()
    assert "\r" not in file.getvalue() and 100 < len(lines) < 130
    assert lines[0] == "  0 %  00:00, ? left  fit  step 0 of 2,000"
    assert lines[1] == "  0 %  00:05, 16:35 left  fit  step 10 of 2,000"
    assert lines[-1] == "100 %  16:40, 00:00 left  fit  step 2,000 of 2,000"


def test_notebooks_have_bars_of_their_own(clock, monkeypatch):
    """Widgets where tqdm finds them, and a line that is drawn over where it does not."""
    import tqdm.auto
    import tqdm.notebook

    made = []

    class Widget(tqdm.notebook.tqdm_notebook):
        def __init__(self, **given):
            self.given, self.n, self.words = given, 0.0, []
            made.append(self)

        def set_description_str(self, words, refresh=True):
            self.words.append(words)

        def refresh(self):
            pass

        def close(self):
            pass

    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with monkeypatch.context() as patched:
        patched.setattr(tqdm.auto, "tqdm", Widget)
        with Progress(True) as bar:
            bar.steps("fit  step 1 of 4", 1, 4)
    (widget,) = made
    assert widget.n == 25.0 and widget.words == ["00:00, ? left  fit  step 1 of 4"] and not file.getvalue()
    assert "{bar}" in widget.given["bar_format"]  # which tqdm puts its widget in the place of

    class OutStream(io.StringIO):
        __module__, encoding = "ipykernel.iostream", "utf-8"

    stream = OutStream()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(True) as bar:
        bar.steps("fit  step 1 of 4", 1, 4)
    assert "\r" in stream.getvalue() and " 25 % |██" in stream.getvalue()


# ---------------------------------------------------------------------- whole jobs


def test_a_divergence_names_its_levels(clock, on_screen):
    screen = on_screen()
    x, y = np.random.default_rng(0).random((2, 600, 2))
    sinkhorn_divergence(x, y, blur=0.1, multiscale=True, engine="dense", progress=True)
    parts = ["xx, 1 of 3", "yy, 2 of 3", "xy, 3 of 3"]
    found = [name for line in screen.drawn for name in parts if name in line]
    assert found == sorted(found, key=parts.index) and set(found) == set(parts)
    assert re.search(r"\d % \|.{8}\| \d\d:\d\d, \S+ left  xy, 3 of 3, error \S+, 256 × 256 cells", screen.getvalue())
    assert "600 × 600 points" in screen.getvalue() and all(len(line) <= 80 for line in screen.drawn)
    shares = [int(re.match(r" *(\d+) %", line).group(1)) for line in screen.drawn]
    assert shares == sorted(shares) and shares[-1] == 99


def test_pairs_of_clouds_are_one_job(clock, on_screen):
    screen = on_screen()
    random = np.random.default_rng(0)
    pairwise([random.random((n, 2)) for n in (100, 200, 300)], blur=0.1, progress=True)
    shares = [int(re.match(r" *(\d+) %", line).group(1)) for line in screen.drawn]
    # Half of what pairs are, the clouds alone are 7 of the 18 parts, if 100 × 100 is 1.
    alone = [share for share, line in zip(shares, screen.drawn, strict=True) if "clouds alone" in line]
    assert shares == sorted(shares) and max(alone) == 39 and shares[-1] == 99
