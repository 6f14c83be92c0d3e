"""
Are two samples from one distribution?
======================================

A divergence between two samples is never zero. A permutation test says whether it is larger than chance makes it: if both
are from one distribution, it does not matter which point belongs to which sample.
"""

# %%
# Two samples that differ a little
# --------------------------------
# Points on a sphere, and on a sphere that is stretched by a half along one axis.

import matplotlib.pyplot as plt
import numpy as np

import geomsink

rng = np.random.default_rng(0)


def sphere(n, stretch=1.0):
    points = rng.normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True) * [stretch, 1.0, 1.0]


x, y = sphere(300), sphere(300, stretch=1.5)

# %%
# The test
# --------
# All points are put together and dealt out again at random, many times. The deals are one batch, solved together.


def test(x, y, blur, deals=99):
    together = np.concatenate([x, y])
    orders = [np.arange(len(together)), *(rng.permutation(len(together)) for _ in range(deals))]
    found = geomsink.sinkhorn_divergence(
        [together[order[: len(x)]] for order in orders], [together[order[len(x) :]] for order in orders], blur=blur
    )
    observed, chance = found.value[0], found.value[1:]
    return observed, chance, (1 + np.sum(chance >= observed)) / (1 + deals)


observed, chance, p = test(x, y, blur=0.6)
print(f"divergence {observed:.5f}; by chance {chance.mean():.5f}; p = {p:.2f}")

# %%
# And two samples of one sphere, where a small p would be a false alarm:

same, same_chance, same_p = test(sphere(300), sphere(300), blur=0.6)
print(f"divergence {same:.5f}; by chance {same_chance.mean():.5f}; p = {same_p:.2f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for ax, value, values, title in zip(
    axes, (observed, same), (chance, same_chance), ("stretched by a half", "one distribution"), strict=True
):
    ax.hist(values, bins=20)
    ax.axvline(value, color="#f2a65a", lw=2, label="as observed")
    ax.set_title(title)
    ax.set_xlabel("divergence of a deal")
axes[0].legend()

# %%
# The blur is the scale at which one looks: a larger one has more power against differences in place and extent, a smaller
# one against differences of detail, and below the spacing of the points there is little to see but chance
# (:doc:`6_blur`).
