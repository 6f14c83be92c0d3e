"""What a fit tells on the way: logs, progress, TensorBoard."""

import json
import sys

import pytest
from fitting_cases import distance, gaussian, target

from geomsink import SinkhornDivergence
from geomsink.generative import fit


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_logs(tmp_path, suffix):
    path = tmp_path / f"numbers{suffix}"
    fitted = fit(gaussian(), target(20), SinkhornDivergence(blur=1.0), steps=4, held_out=5, evaluate_every=3, log=path)
    lines = path.read_text().splitlines()
    names = ["step", "loss", "held_out", "blur", "gradient_norm", "marginal_error", "seconds"]
    if suffix == ".csv":
        assert lines[0] == ",".join(names)
        rows = [[float(text) if text else None for text in line.split(",")] for line in lines[1:]]
    else:
        rows = [list(json.loads(line).values()) for line in lines]
    assert rows == [[row[name] for name in names] for row in fitted.history]
    assert [row[2] is not None for row in rows] == [False, False, True, True]


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    for name, text in (
        ("a.csv", "x,y\n1,2\n"),
        ("b.jsonl", "[1]\n"),
        ("c.jsonl", "hello\n"),
        ("d.jsonl", "[" * 10**5 + "\n"),
    ):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(ValueError, match=f"^log: .*{name} is not a log of such a run"):
            fit(gaussian(), target(20), distance, steps=1, log=path)
        assert path.read_text() == text
    with pytest.raises(ValueError, match=r"^log: .* expected a name that ends in \.csv or \.jsonl"):
        fit(gaussian(), target(20), distance, steps=1, log=tmp_path / "log.txt")


def test_the_bar_shows_the_loss_and_its_held_out_value(capsys):
    pytest.importorskip("tqdm")
    fitted = fit(gaussian(), target(20), distance, steps=3, held_out=5, evaluate_every=1, progress=True)
    shown = capsys.readouterr().err
    assert f"loss {fitted.loss:.3e}, held out {fitted.history[-1]['held_out']:.3e}" in shown and "step 3 of 3" in shown


@pytest.mark.parametrize(("option", "package"), [("progress", "tqdm.auto"), ("tensorboard", "torch.utils.tensorboard")])
def test_missing_packages_are_named(monkeypatch, tmp_path, option, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"^{option}=True needs the package .*: pip install 'geomsink\["):
        fit(gaussian(), target(20), distance, steps=1, folder=tmp_path, **{option: True})


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fitted = fit(gaussian(), target(20), distance, steps=3, folder=tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row["loss"] for row in fitted.history])
