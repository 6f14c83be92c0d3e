"""
Which blur to choose
====================

The blur σ is the one number that has to be chosen. It is a length: details below it are not looked at. This page shows
what it does, from the spacing of the points to the size of the clouds.
"""

# %%
# Two small clouds
# ----------------
# A ring and a star, both of 600 points. The spacing is the mean distance of a point to its nearest neighbour.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator
from scipy.spatial import cKDTree

import geomsink

rng = np.random.default_rng(0)


def ring(n):
    angles = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.85, 1.0, (n, 1))


def star(n):
    angles = rng.uniform(0, 2 * np.pi, n)
    radius = (0.65 + 0.35 * np.cos(5 * angles)) * rng.uniform(0.8, 1.0, n)
    return radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


x, y = ring(600), star(600)
spacing = cKDTree(x).query(x, k=2)[0][:, 1].mean()
diameter = 2.0
print(f"spacing {spacing:.3f}, diameter {diameter:.1f}, suggested blur {geomsink.suggest_blur(x, y):.3f}")

# %%
# What a plan sees
# ----------------
# A plan sends each point of the ring to many points of the star. Here the point is drawn at the mean of those, in
# the colour of the place where it started. At a blur of the spacing the star is whole. At a twentieth of the
# diameter its tips are blunt, and at a fifth only a rough outline is left. At the diameter all points go
# everywhere, and their means are in the middle.

figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), sharex=True, sharey=True)
colors = geomsink.plotting.position_colors(x)
blurs = {
    "the spacing": spacing,
    "1/20 diameter": diameter / 20,
    "1/5 diameter": diameter / 5,
    "the diameter": diameter,
}
axes[0].scatter(*x.T, c=colors, s=3)
axes[0].set_title("the ring", fontsize=9)
for ax, (name, blur) in zip(axes[1:], blurs.items(), strict=True):
    s = geomsink.solve(x, y, blur=blur)
    ax.scatter(*y.T, c="#333a46", s=3)
    ax.scatter(*geomsink.transport.barycentric_map(s).T, c=colors, s=3)
    ax.set_title(f"blur = {name}", fontsize=9)
for ax in axes:
    ax.set_aspect("equal")
    ax.axis("off")

# %%
# What the value sees
# -------------------
# Here is the divergence of ring and star, beside that of two samples of the ring, which is what chance makes of no
# difference. The gap between the curves is what can be seen. Below the spacing the value is the cost of moving one
# sample to the other, chance included. A larger blur takes chance away faster than the difference. In the end the
# difference goes, too: ring and star have the same middle, and a blur above the diameter looks at the middle alone.

other = ring(600)
sweep = np.geomspace(spacing / 3, 3 * diameter, 13)
far = np.array([geomsink.sinkhorn_divergence(x, y, blur=blur).value for blur in sweep])
near = np.array([geomsink.sinkhorn_divergence(x, other, blur=blur).value for blur in sweep])

figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
axes[0].loglog(sweep, far, "o-", label="ring and star")
axes[0].loglog(sweep, near, "o-", label="two samples of the ring")
axes[0].set_ylabel("divergence (squared length)")
axes[0].set_ylim(bottom=near.min() / 4)
axes[1].loglog(sweep, far / near, "o-", color="#7fd18b")
axes[1].set_ylabel("ratio of the two")
axes[1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
axes[1].yaxis.set_minor_locator(NullLocator())
axes[1].yaxis.set_major_formatter("{x:g}")
for ax in axes:
    ax.set_xlabel("blur (length)")
    for length, name in ((spacing, " spacing"), (diameter, " diameter")):
        ax.axvline(length, color="#8b93a1", ls="--", lw=1)
        ax.text(length, ax.get_ylim()[0], name, rotation=90, va="bottom", ha="right", color="#8b93a1", fontsize=8)
axes[0].legend()

# %%
# In one paragraph
# ----------------
# Start with `geomsink.suggest_blur`, three spacings of the points, or with a twentieth of the clouds' size. Go
# lower where detail matters and there are points enough to show it: below one spacing one compares samples rather
# than what they are samples of. Go higher where there are few points or much noise, or for gradients that see far,
# as at the start of a fit. Time is another reason: large clouds are fast where the blur is well above the spacing
# (:doc:`/sketches`), and slowest below it.
