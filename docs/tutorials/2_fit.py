"""
Fit a generator to a shape
==========================

A generator is a function with parameters that turns random numbers into points. It is fitted so that its points cannot
be told from those of a shape. At each step the Sinkhorn divergence says how far off they are, and its gradient says
which way to go (Algorithm 1 of `arXiv:1706.00292 <https://arxiv.org/abs/1706.00292>`_).
"""

# %%
# A surface to be bent
# --------------------
# ``generative.Surface`` is a sphere that a small network bends. Any torch module will do that turns latent
# variables, which are random numbers, into points; `geomsink.generative.MLP` is another.

import torch

import geomsink
from geomsink import generative, plotting, shapes

torch.manual_seed(0)
generator = generative.Surface()
print(sum(p.numel() for p in generator.parameters()), "parameters")

# %%
# The fit
# -------
# The data are a shape: each evaluation of the loss draws new points of it. An evaluation says where each generated
# point should go, and with ``targets`` the generator learns that in many cheap steps. The blur falls over the
# evaluations, from rough to fine.

fit = generative.fit(
    generator,
    "shape:blob",
    geomsink.SinkhornDivergence(blur=0.2, tol=1e-2),
    batch=3_000,
    steps=8,
    targets=generative.Targets(100, 250),
    optimizer="adam",
    lr=(1e-2, 1e-4),
    blur=(0.2, 0.05),
    average=0.99,
    held_out=3_000,
    evaluate_every=2,
)
for row in fit.history[1::2]:
    print(f"step {row['step']}   loss {row['loss']:.1e}   on held-out points {row['held_out']:.1e}")

# %%
# The result
# ----------
# The fitted generator gives as many points as are asked for. Beside it is the target, and below it the loss of each
# step.

points = fit.sample(20_000).numpy()
target = shapes.sample("shape:blob", 20_000)
figure = plotting.plot_fit(target, points, fit.history, names=("the shape", "the generator"))
figure

# %%
# How good it is
# --------------
# The divergence between many new points of both has the last word. Two samples of the shape itself are not equal
# either, and their divergence is the best that a generator can reach.

got = geomsink.sinkhorn_divergence(points, target, blur=0.05)
best = geomsink.sinkhorn_divergence(shapes.sample("shape:blob", 20_000, seed=1), target, blur=0.05)
print(f"generator and shape: {got.value:.1e}; two samples of the shape: {best.value:.1e}")

# %%
# This is a short fit, for a page that is made in a minute. ``geomsink fit bunny.obj --out run`` takes larger
# batches and more steps, writes checkpoints, and goes on where it stopped. The page on :doc:`fitting generators
# </generative>` has learned costs, schedules, data that are not shapes, and several processes.
