"""
Compare two large clouds
========================

The main job: two clouds of a hundred thousand points, one number that says how different they are, and a report of how
right that number is.
"""

# %%
# Two clouds
# ----------
# Points are arrays of shape (N, D). Here they are drawn from two surfaces that are given by formulas;
# ``shapes.sample("scan.ply", 100_000, normalize=True)`` draws them from a file.

import geomsink
from geomsink import plotting, shapes

x = shapes.sample("shape:knot", 100_000)
y = shapes.sample("shape:star", 100_000)
x.shape, x.dtype

# %%
# One call
# --------
# ``blur`` is a length, in the units of the coordinates: details below it are not looked at. Both surfaces lie in
# the unit cube, so that 0.05 is a twentieth of their size.

r = geomsink.sinkhorn_divergence(x, y, blur=0.05)
r

# %%
# The cost is the squared distance, and so the value is in squared units of length. Its root is a length: about how
# far the points of the one surface have to move to become those of the other.

print(f"about {r.length:.3f} of the cube's side")

# %%
# What was done to get there
# --------------------------
# Large clouds are not compared pair by pair. Where the blur is well above the spacing of the points, a few thousand
# points stand for each cloud. Some of their weights are negative. An audit of all points then says what that did to
# the result.

a = r.xy.approximation
print(r.xy.strategy, "in", r.xy.n_iter, "cycles, on", r.xy.engine, "in", r.dtype)
print("points that stood for all:", a.nodes, "- marginal error found by the audit:", f"{a.audit:.1e}")

# %%
# Where the two differ
# --------------------
# The colour of a point is its debiased potential: what it adds to the value. Bright points are the ones that cost.
# The curve below is the marginal error, the share of the mass that the plan puts in the wrong place. An evaluation
# sums over all rows or all columns of the plan, and two of them are a cycle. A figure shows itself in a notebook;
# ``plotting.save(figure, "figure.png")`` writes it to a file.

figure = plotting.plot_divergence(r, x, y, names=("knot", "star"))
figure

# %%
# What no difference looks like
# -----------------------------
# Two samples of one surface are not equal, and so their divergence is not zero. Compare a value with this one
# before it is called large.

again = shapes.sample("shape:knot", 100_000, seed=1)
same = geomsink.sinkhorn_divergence(x, again, blur=0.05)
print(f"two samples of the knot: {same.value:.1e}; knot and star: {r.value:.1e}")

# %%
# To be certain
# -------------
# ``value_error`` is an estimate. ``certify=True`` gives an interval that contains the answer, whatever the solve
# was like: rounding and all approximations are accounted for. Here it is for a tenth of the points, so that this
# page is made quickly.

c = geomsink.sinkhorn_divergence(x[:10_000], y[:10_000], blur=0.05, certify=True)
print(f"{c.lower:.5f} <= {c.value:.5f} <= {c.upper:.5f}")

# %%
# Where to go from here: :doc:`which blur to choose <6_blur>`, :doc:`how to read the report </report>`, and
# :doc:`clouds that do not fit into memory </large>`.
