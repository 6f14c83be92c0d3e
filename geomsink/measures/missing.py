"""Items of a batch that are NaN or infinite, where their answers are to be NaN and those of the others are not."""

from __future__ import annotations

import torch
from torch import Tensor

Names = list[tuple[str, str]]


def mended(arrays: dict[str, Tensor], sides: list[tuple[str | None, Names]]) -> tuple[dict[str, Tensor], Tensor | None]:
    """A batch whose items are all finite: points of another item, and equal weights, are in the place of what is not.

    Parameters
    ----------
    arrays : dict of str to Tensor
        Points and weights under their names.
    sides : list of (kind, names)
        Of the two batches: None for tensors (B, N, D), which may be single clouds; and the names of points and weights,
        of each item of other kinds.

    Returns
    -------
    arrays, and which items were not finite, shape (B,), bool
        None if all were, and for single clouds, which are left as they are; so is what has the wrong shape.

    Examples
    --------
    >>> x = torch.tensor([[[torch.nan], [1.0]], [[2.0], [3.0]]])
    >>> arrays, lost = mended({"x": x}, [(None, [("x", "a")])])
    >>> arrays["x"][..., 0].tolist(), lost.tolist()
    ([[2.0, 3.0], [2.0, 3.0]], [True, False])
    """
    arrays, found = dict(arrays), []
    for kind, names in sides:
        whole = arrays[names[0][0]]
        if kind is None and whole.ndim != 3:
            return arrays, None
        found.append(_of_tensor(arrays, *names[0]) if kind is None else _of_items(arrays, names))
    if any(one.shape != found[0].shape for one in found):
        return arrays, None
    lost = torch.stack(found).any(0)
    return arrays, lost if bool(lost.any()) else None


def _of_tensor(arrays: dict[str, Tensor], of_points: str, of_weights: str) -> Tensor:
    points, weights = arrays[of_points], arrays.get(of_weights)
    lost = ~points.isfinite().flatten(1).all(1)
    if weights is not None and weights.shape == points.shape[:-1]:
        lost = lost | ~weights.isfinite().all(1)
        arrays[of_weights] = torch.where(lost[:, None], 1.0 / weights.shape[1], weights)
    good = points[int(lost.long().argmin())].detach() if not bool(lost.all()) else torch.ones_like(points[0])
    arrays[of_points] = torch.where(lost[:, None, None], good, points)
    return lost


def _of_items(arrays: dict[str, Tensor], names: Names) -> Tensor:
    sound = [torch.stack([arrays[name].isfinite().all() for name in pair if name in arrays]).all() for pair in names]
    lost = ~torch.stack(sound)
    of_items = lost.tolist()  # at once: a GPU is waited for
    good = next((arrays[p].detach() for (p, _), bad in zip(names, of_items, strict=True) if not bad), None)
    for (of_points, of_weights), bad in zip(names, of_items, strict=True):
        points = arrays[of_points]
        if bad and points.ndim == 2:
            n = len(points)
            rows = None if good is None else torch.arange(n, device=good.device) % len(good)
            arrays[of_points] = torch.ones_like(points) if good is None else good[rows]
            if of_weights in arrays:
                arrays[of_weights] = torch.full_like(arrays[of_weights], 1.0 / n, requires_grad=False)
    return lost
