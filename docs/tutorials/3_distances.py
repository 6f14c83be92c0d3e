"""
A matrix of distances between twenty clouds
===========================================

Which clouds resemble each other, and how do they vary? Divergences answer as the distances of an analysis.
"""

# %%
# Twenty clouds
# -------------
# Each cloud is a sample of a surface, stretched by a factor of its own and centred. The analysis is not told which
# surface, or how much.

import matplotlib.pyplot as plt
import numpy as np

import geomsink
from geomsink import shapes

names = ["torus", "knot", "star", "cube"]
rng = np.random.default_rng(0)
kind = np.arange(20) % 4
stretch = rng.uniform(0.8, 1.25, size=20)
clouds = [shapes.procedural(names[kind[i]], 400, seed=i) * [1.0, stretch[i], 1.0] for i in range(20)]
clouds = [cloud - cloud.mean(axis=0) for cloud in clouds]

# %%
# All pairs
# ---------
# Each of the 190 pairs is solved once, and so is the problem of each cloud with itself. Clouds may have different
# sizes.

r = geomsink.pairwise(clouds, blur=0.1)
r

# %%
# The report has the matrix. It also says of each entry whether it has converged, and how far off it is.

distances = np.sqrt(r.values)
print(f"converged: {r.converged}; values are off by {np.max(r.value_errors):.0e} at most")

# %%
# Roots of divergences are lengths. Sorted by surface, the matrix shows four blocks.

order = np.argsort(kind, kind="stable")
figure, ax = plt.subplots(figsize=(6, 5))
image = ax.imshow(distances[np.ix_(order, order)], cmap="plasma")
ax.set_xticks([2, 7, 12, 17], names)
ax.set_yticks([2, 7, 12, 17], names)
figure.colorbar(image, label="root of the divergence (length)")
ax.set_title("twenty clouds, each against each")

# %%
# What varies
# -----------
# Classical multidimensional scaling places the clouds in a plane, and keeps their distances as well as a plane
# allows. It takes the leading eigenvectors of the centred matrix of squared distances.

centred = -0.5 * (distances**2 - (distances**2).mean(0) - (distances**2).mean(1)[:, None] + (distances**2).mean())
values, vectors = np.linalg.eigh(centred)
places = vectors[:, -2:] * np.sqrt(values[-2:])
figure, ax = plt.subplots(figsize=(6, 5))
for k, name in enumerate(names):
    ax.scatter(*places[kind == k].T, s=160 * stretch[kind == k] ** 3, marker="o^sD"[k], label=name, alpha=0.8)
ax.legend(title="surface")
ax.set_xlabel("second coordinate (length)")
ax.set_ylabel("first coordinate (length)")
ax.set_title("distances in a plane; the larger, the more stretched")

# %%
# The four surfaces lie apart. Within each the clouds go from the least stretched to the most, of which the analysis
# was told nothing. Where two are stretched nearly alike, chance in their 400 points may change their places.

for k, name in enumerate(names):
    mine = np.flatnonzero(kind == k)
    across = mine[np.argsort(places[mine, 0])]
    print(f"{name}: stretch of the clouds from one side to the other", stretch[across].round(2))

# %%
# :doc:`How much of a difference is chance <4_two_samples>` is the next question.
