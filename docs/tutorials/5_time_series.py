"""
A time series of clouds
=======================

A cloud is measured again and again: how fast does it change, and when did something happen?
"""

# %%
# Thirty frames
# -------------
# A ring turns slowly and grows. From frame 18 on, some of its points have gathered in the middle.

import matplotlib.pyplot as plt
import numpy as np

import geomsink

rng = np.random.default_rng(0)


def frame(t, n=600):
    angles = rng.uniform(0, 2 * np.pi, n)
    ring = (1 + 0.01 * t) * np.stack([np.cos(angles), 0.6 * np.sin(angles)], axis=1)
    turn = 0.03 * t
    points = ring @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    if t >= 18:
        points[: n // 10] *= 0.2
    return points + 0.03 * rng.normal(size=(n, 2))


frames = [frame(t) for t in range(30)]

# %%
# From frame to frame, and from the first
# ---------------------------------------
# All problems of a kind are one batch.

steps = geomsink.sinkhorn_divergence(frames[:-1], frames[1:], blur=0.1)
since = geomsink.sinkhorn_divergence(frames[:1] * 29, frames[1:], blur=0.1)
print(f"converged: {steps.converged and since.converged}, in {steps.seconds + since.seconds:.1f} s")

# %%
# Chance alone gives a divergence, too: that between two samples of one frame. Below it there is nothing to see.

chance = geomsink.sinkhorn_divergence([frame(0) for _ in range(10)], [frame(0) for _ in range(10)], blur=0.1).value
figure, ax = plt.subplots(figsize=(8, 3.5))
ax.plot(range(1, 30), np.sqrt(steps.value), "o-", label="since the frame before")
ax.plot(range(1, 30), np.sqrt(since.value), "o-", label="since the first frame")
ax.axhspan(0, np.sqrt(chance.max()), alpha=0.2, lw=0, label="by chance")
ax.set_xlabel("frame")
ax.set_ylabel("root of the divergence (length)")
ax.legend()

# %%
# The jump is where the steps stand out:

print("largest step: to frame", 1 + int(np.argmax(steps.value)))

# %%
# What moved where
# ----------------
# The displacement of a point leads to where the next frame has it, and the effect of the blur is taken off. Around
# the jump the long arrows are those of the points that went to the middle.

r = geomsink.sinkhorn_divergence(frames[17], frames[18], blur=0.1)
moves = geomsink.transport.displacement(r)
figure, ax = plt.subplots(figsize=(6, 4.5))
ax.scatter(*frames[18].T, s=4, alpha=0.6)
ax.quiver(*frames[17].T, *moves.T, np.linalg.norm(moves, axis=1), angles="xy", scale_units="xy", scale=1, cmap="plasma")
ax.set_aspect("equal")
ax.set_title("from frame 17 to frame 18")

# %%
# Frames may arrive one at a time, each a little different from the last. Give then each solve the last result,
# ``init=``, or use the module `geomsink.SinkhornDivergence`, which remembers it. The answer is the same, and comes
# sooner (:doc:`/losses`).
