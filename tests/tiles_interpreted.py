"""Triton's kernels, interpreted on a CPU and compared with float64: a script, since Triton reads how it runs when it is
imported. Prints a JSON object of errors by name."""

import inspect
import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
import triton.runtime.interpreter as interpreter

from geomsink import costs, engine
from geomsink.engine import pivots, tiled, triton_at_hand

SIZES = {1: (70, 90), 2: (65, 40), 3: (150, 133), 4: (64, 64), 10: (140, 100), 64: (130, 70)}
SQUARED = costs.get("sqeuclidean")


def numbers_of_scalars():
    """NumPy makes no number of an array, which Triton 3.6 asks for in loops; earlier ones do not."""
    original = interpreter._patch_lang_tensor
    if len(inspect.signature(original).parameters) < 2:
        return

    def patched(tensor, scope):
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


def relative(found, expected, sizes):
    return float(((found.double() - expected) / sizes).abs().max())


def sums(dimension, parts):
    """Errors of sums and products with all pairs and with some, and of the transpose."""
    n, m = SIZES[dimension]
    drawn = torch.Generator().manual_seed(dimension)
    x, y = (torch.rand(k, dimension, generator=drawn) + shift for k, shift in ((n, 5.0), (m, 5.1)))
    u, v = torch.randn(n, generator=drawn) + 20.0, torch.randn(m, generator=drawn) - 20.0
    epsilon = 0.01 + 0.05 * dimension
    tiles, exact = tiled.TiledPair(x, y, SQUARED), engine.pair(x.double(), y.double(), SQUARED, "dense")
    keep = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    rows = torch.tensor([[0, 50], [50, n - 3], [n - 3, n]])
    some = engine.Blocks.from_mask(rows, torch.tensor([[0, 20], [20, 30], [30, m]]), keep)
    tiled._parts = lambda *_: parts
    errors = {}
    for what, blocks in (("all", None), ("some", some)):
        found, expected = tiles.row_sums(u, v, epsilon, blocks), exact.row_sums(u.double(), v.double(), epsilon, blocks)
        errors[what] = relative(found, expected, expected.clamp(min=1e-30))
        for width in (1, 2, 3, 4) if dimension <= tiled.FEW else (1, 70):
            w = torch.randn(m, width, generator=drawn)
            given = u.double(), v.double(), epsilon
            sizes = exact.apply(*given, w.double().abs(), blocks).clamp(min=1e-30)
            found = tiles.apply(u, v, epsilon, w, blocks)
            errors[f"{what}, {width} columns"] = relative(found, exact.apply(*given, w.double(), blocks), sizes)
    without_weight = u.clone()
    without_weight[::3] = -1e30  # which stands for −∞
    found = tiles.row_sums(without_weight, v, epsilon)
    expected = exact.row_sums(without_weight.double(), v.double(), epsilon)
    errors["without weight"] = relative(found, expected, expected.clamp(min=1e-30))
    expected = exact.T.row_sums(v.double(), u.double(), epsilon)
    errors["transpose"] = relative(tiles.T.row_sums(v, u, epsilon), expected, expected)
    return errors


def choices(n, dimension, accuracy, most):
    """Whether pivots are those of torch, and how much the largest rest differs."""
    drawn = torch.Generator().manual_seed(n)
    points = 3.0 * torch.rand(3, n, dimension, generator=drawn, dtype=torch.float64)
    one, other = (find(points, accuracy, most) for find in (pivots._step_by_step, pivots._in_one_launch))
    used = torch.arange(most) < one[1][:, None]
    same = bool((one[1] == other[1]).all() and (one[0] == other[0])[used].all())
    return {"other": float(not same), "rest": float((one[2] - other[2]).abs().max())}


if __name__ == "__main__":
    numbers_of_scalars()
    found = {f"D = {d}, parts = {p}": sums(d, p) for d in SIZES for p in ((1, 3) if d in (3, 10) else (1,))}
    found["pivots"] = choices(60, 3, 1e-3, 40)
    found["pivots, few"] = choices(33, 1, 1e-2, 33)
    assert triton_at_hand.is_there(), triton_at_hand._failed
    print(json.dumps(found))
