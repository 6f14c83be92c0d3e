"""The scripts of docs/cluster.md: workers that make sketches which are merged, and processes that know each other."""

import os
from pathlib import Path

import numpy as np
import pytest
from outcomes import free_port, needs_gloo, together
from pages import ROOT, blocks

import geomsink

PAGE = ROOT / "docs" / "cluster.md"
BLOCKS = blocks(PAGE.read_text(encoding="utf-8"), "py")
EXAMPLES = {
    library: block.text for block in BLOCKS for library in ("joblib", "dask") if f"from {library} import" in block.text
}


def test_both_are_shown():
    assert set(EXAMPLES) == {"joblib", "dask"} and all(len(text.splitlines()) <= 10 for text in EXAMPLES.values())


@pytest.mark.parametrize("library", EXAMPLES)
def test_merged_sketches_are_the_cloud(library, tmp_path, monkeypatch):
    pytest.importorskip({"joblib": "joblib", "dask": "dask.bag"}[library])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    points = geomsink.shapes.sample("shape:knot", 4000, seed=0)
    other = geomsink.shapes.sample("shape:star", 2000, seed=1)
    for k, part in enumerate(np.array_split(points, 4)):
        np.save(Path(f"part-{k}.npy"), part)
    namespace = {"__name__": "snippet"}
    exec(EXAMPLES[library], namespace)
    whole = namespace["whole"]
    assert whole.count == 4000
    expected = geomsink.sinkhorn_divergence(points, other, blur=0.1).value
    assert geomsink.sinkhorn_divergence(whole, other, blur=0.1).value == pytest.approx(expected, rel=1e-4)


def distance(folder, port):
    os.chdir(folder)
    os.environ["MASTER_PORT"] = str(port)
    namespace = {}
    exec(BLOCKS[0].text.replace("blur=0.05", "blur=0.2"), namespace)  # few points are enough for it
    return namespace["result"].value


@needs_gloo
def test_a_script_of_several_processes(tmp_path):
    clouds = [geomsink.shapes.sample(f"shape:{name}", 1500, seed=0) for name in ("knot", "star")]
    for name, points in zip("ab", clouds, strict=True):
        for k, part in enumerate(np.array_split(points, 2)):
            np.save(tmp_path / f"{name}-{k}.npy", part)
    outcomes = together(distance, 2, tmp_path, free_port(), joined=False)
    expected = geomsink.sinkhorn_divergence(*clouds, blur=0.2).value
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert [outcome.value for outcome in outcomes] == pytest.approx([expected] * 2, rel=1e-5)
