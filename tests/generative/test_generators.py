"""The ready generators, their latent variables, and points from them."""

import math

import pytest
import torch
from torch import nn

from geomsink import generative
from geomsink.generative import MLP, Ellipse, Images, Surface, sample
from geomsink.generative.generators import rebuilt, recipe
from geomsink.generative.latents import sampler

READY = {
    "mlp": lambda: MLP(3, 5, width=8, depth=2),
    "sphere": lambda: Surface(width=8, depth=1),
    "spheres": lambda: Surface(patches=3, frequencies=4, width=8),
    "squares": lambda: Surface("square", patches=4, frequencies=4, width=8),
    "disc": lambda: Ellipse(3),
    "ring": lambda: Ellipse(base="ring"),
    "gaussian": lambda: Ellipse(base="gaussian"),
    "images": lambda: Images(size=16, channels=3, width=8),
}
SHAPES = dict(mlp=(5,), disc=(3,), ring=(2,), gaussian=(2,), images=(3, 16, 16))


@pytest.mark.parametrize("name", READY)
def test_ready_generators(name):
    """Points of the right form, the same from the same seed, gradients everywhere, and a twin from a few numbers."""
    torch.manual_seed(0)
    generator = READY[name]()
    points = sample(generator, 50, seed=3)
    assert points.shape == (50, *SHAPES.get(name, (3,))) and not points.requires_grad
    assert torch.equal(points, sample(generator, 50, seed=3)) and not torch.equal(points, sample(generator, 50, seed=4))
    assert len(points.flatten(1).unique(dim=0)) == 50
    generator(generator.latent(64)).square().sum().backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in generator.parameters() if p.numel())
    twin = rebuilt(recipe(generator))
    twin.load_state_dict(generator.state_dict())
    assert torch.equal(points, sample(twin, 50, seed=3))


def test_images_lie_within_their_range():
    points = sample(Images(), 20)
    assert points.min() > 0 and points.max() < 1


def test_images_do_not_influence_each_other():
    generator = Images().train()
    z = generator.latent(4)
    torch.testing.assert_close(generator(z)[1], generator(z[1:2])[0], rtol=0, atol=1e-6)


def test_surfaces_begin_in_the_middle_of_the_unit_cube():
    torch.manual_seed(0)
    for surface in (Surface(), Surface(patches=6), Surface("square", patches=6)):
        points = sample(surface, 2000)
        assert points.min() > -0.1 and points.max() < 1.1
        torch.testing.assert_close(points.mean(0), torch.full((3,), 0.5), rtol=0, atol=0.25)


def test_latent_laws():
    """Moments of 2·10⁴ draws, within five standard deviations."""
    torch.manual_seed(0)
    n = 20_000
    u = Surface(patches=4).latent(n)
    torch.testing.assert_close(u[:, :3].norm(dim=1), torch.ones(n))
    assert u[:, :3].mean(0).norm() < 0.03
    assert u[:, 3].unique().tolist() == [0, 1, 2, 3]
    for dim, base, second in ((2, "disc", 1 / 4), (3, "disc", 1 / 5), (2, "ring", 1 / 2), (2, "gaussian", 1.0)):
        z = Ellipse(dim, base=base).latent(n)
        torch.testing.assert_close(z.T @ z / n, second * torch.eye(dim), rtol=0, atol=0.05 * second)
    r = Ellipse(base="disc").latent(n).norm(dim=1)
    assert r.max() <= 1 and abs((r < 0.5).float().mean() - 0.25) < 0.016


def test_axes_and_angle_of_an_ellipse():
    ellipse, angle = Ellipse(), 2.2
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    other = torch.tensor([[0.6, -0.8], [0.8, 0.6]])  # of the latent variables, which changes no cloud
    with torch.no_grad():
        ellipse.matrix.copy_(turn @ torch.diag(torch.tensor([3.0, 0.5])) @ other)
    torch.testing.assert_close(ellipse.axes, torch.tensor([3.0, 0.5]))
    assert ellipse.angle == pytest.approx(angle, abs=1e-6)
    with pytest.raises(ValueError, match="^angle: this ellipsoid has 3 dimensions, expected 2"):
        _ = Ellipse(3).angle


def test_samples_in_chunks():
    generator = MLP(2, 3, width=8).train()
    points = sample(generator, 40_000)
    assert points.shape == (40_000, 3) and generator.training
    with pytest.raises(ValueError, match="^n: 0 given"):
        sample(generator, 0)


def test_latents_of_all_kinds():
    generator = nn.Linear(2, 3).double()
    uniform = torch.distributions.Uniform(torch.zeros(2), torch.ones(2))
    for latent in (2, (2,), uniform, lambda n: torch.rand(n, 2)):
        z = sampler(latent, generator)(7)
        assert z.shape == (7, 2) and z.dtype == torch.float64
    assert sample(nn.Identity(), 100, latent=uniform).min() >= 0
    whole = sampler(lambda n: torch.arange(n), generator)(3)  # labels stay whole numbers
    assert whole.dtype == torch.int64


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: MLP(0, 2), ValueError, "^noise: 0 given, expected a whole number of at least 1"),
        (lambda: MLP(1, 2, width=1.5), TypeError, "^width: a float was given"),
        (lambda: Surface("cube"), ValueError, "^base: 'cube' given, expected 'sphere' or 'square'"),
        (lambda: Surface(radius=0.0), ValueError, "^radius: 0.0 given, expected a positive number"),
        (lambda: Ellipse(base="square"), ValueError, "^base: 'square' given, expected 'disc', 'ring' or 'gaussian'"),
        (lambda: Images(size=12), ValueError, "^size: 12 given, expected a power of two"),
        (lambda: Images(size=4), ValueError, "^size: 4 given, expected a whole number of at least 8"),
        (lambda: Images(width=20), ValueError, "^width: 20 given, expected a multiple of 8"),
        (
            lambda: sampler(None, nn.Linear(1, 1)),
            TypeError,
            r"^latent: None given, but Linear has no method latent\(n\)",
        ),
        (lambda: sampler("normal", MLP(1, 1)), TypeError, "^latent: a str was given, expected a whole number"),
        (
            lambda: sampler(lambda n: torch.rand(3, 1), MLP(1, 1))(4),
            ValueError,
            r"^latent: shape \(3, 1\) was drawn for 4",
        ),
        (lambda: generative.sample(MLP(1, 1), 5, seed=-1), ValueError, "^seed: -1 given"),
    ],
)
def test_bad_arguments_are_refused(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()
