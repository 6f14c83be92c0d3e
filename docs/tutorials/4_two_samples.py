"""
Are two samples from one distribution?
======================================

A divergence between two samples is never zero. A permutation test says whether it is larger than chance makes it. If
both samples are from one distribution, it does not matter which point belongs to which.
"""

# %%
# Two samples that differ a little
# --------------------------------
# Points on a sphere, and on a sphere that is stretched by a half along one axis.

import matplotlib.pyplot as plt
import numpy as np

import geomsink

rng = np.random.default_rng(1)


def sphere(n, stretch=1.0):
    points = rng.normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True) * [stretch, 1.0, 1.0]


x, y = sphere(300), sphere(300, stretch=1.5)

# %%
# The test
# --------
# All points are put together and dealt out again at random, many times. The p-value is the share of deals whose
# divergence is at least as large as the observed one. Choose the blur without looking at the p-value: here it is
# the one that is suggested for the clouds.

blur = geomsink.suggest_blur(x, y)
test = geomsink.two_sample_test(x, y, blur=blur, permutations=99)
print(f"blur {blur:.2f}")
test

# %%
# And two samples of one sphere, where a small p would be a false alarm:

same = geomsink.two_sample_test(sphere(300), sphere(300), blur=blur, permutations=99)
same

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for ax, shown, title in zip(axes, (test, same), ("stretched by a half", "one distribution"), strict=True):
    ax.hist(shown.null, bins=20)
    ax.axvline(shown.statistic, color="#f2a65a", lw=2, label="as observed")
    ax.set_title(f"{title}: p = {shown.p_value:.2f}")
    ax.set_xlabel("divergence of a deal")
axes[0].set_ylabel("deals")
axes[0].legend()

# %%
# The blur is the scale at which one looks. A larger one has more power against differences in place and extent, and
# a smaller one against differences of detail. Below the spacing of the points there is little to see but chance
# (:doc:`6_blur`).
