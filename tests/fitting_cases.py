"""Small fits: data, a generator and a loss that cost nothing."""

import torch

from geomsink.generative import Ellipse


def target(n, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=random) @ torch.tensor([[1.5, 0.4], [0.0, 0.6]]) + torch.tensor([2.0, -1.0])


def gaussian():
    return Ellipse(base="gaussian")


def distance(x, y):
    """Cheap, smooth, and zero for equal means and second moments: for tests of the loop around the loss."""
    return (x.mean(0) - y.mean(0)).square().sum() + (x.T @ x / len(x) - y.T @ y / len(y)).square().sum()


def weights(generator):
    return torch.cat([p.detach().reshape(-1) for p in generator.parameters()])
