"""From optimal transport to kernels: the whole path in ε, its ends, and what theory says is monotone on it."""

import warnings

import numpy as np
import pytest
from reference import squared_distances
from scipy.optimize import linear_sum_assignment

import geomsink
from geomsink import mmd, sinkhorn_divergence, solve

PATH = np.geomspace(1e-3, 1e7, 31)


@pytest.fixture(scope="module")
def clouds():
    random = np.random.default_rng(0)
    return random.random((40, 2)), random.random((40, 2)) * [0.7, 0.9] + [0.2, 0.0]


@pytest.fixture(scope="module")
def path(clouds):
    return [solve(*clouds, epsilon=epsilon, tol=1e-10, max_iter=20_000) for epsilon in PATH]


def assigned(x, y):
    C = squared_distances(x, y)
    return C[linear_sum_assignment(C)].mean()


def test_what_is_monotone(path):
    """OT_ε = min_P ⟨P, C⟩ + ε KL(P) is a minimum of lines in ε that rise: it rises, and is concave; its slope KL(P_ε)
    falls from log N, and ⟨P_ε, C⟩ rises with ε."""
    values, costs = (np.array([getattr(s, name) for s in path]) for name in ("value", "transport_cost"))
    entropies = (values - costs) / PATH
    rounding = 1e-8 * costs.max()  # of the marginal error 1e-10 times potentials of some ten
    assert all(s.converged for s in path)
    assert (np.diff(values) > -rounding).all() and (np.diff(costs) > -rounding).all()
    assert (np.diff(entropies)[:20] < 1e-8).all() and 0.85 * np.log(40) < entropies[0] < np.log(40)
    chords = np.diff(values) / np.diff(PATH)
    assert (np.diff(chords)[:20] < 1e-8).all()
    # ... and each slope lies between the chords at its sides.
    assert (entropies[1:21] <= chords[:20] + 1e-8).all() and (entropies[:20] >= chords[:20] - 1e-8).all()


def test_the_cold_end_is_optimal_transport(clouds, path):
    """At ε, OT_0 ≤ ⟨P_ε, C⟩ ≤ OT_ε ≤ OT_0 + ε log N."""
    exact = assigned(*clouds)
    for s in path[:10]:
        assert exact <= s.transport_cost + 1e-9 <= s.value + 2e-9 <= exact + s.epsilon * np.log(40) + 3e-9
    assert path[0].transport_cost == pytest.approx(exact, rel=1e-2)
    sharp = sinkhorn_divergence(*clouds, epsilon=1e-3, form="sharp", tol=1e-8, max_iter=20_000).value
    assert sharp == pytest.approx(exact, rel=1e-2)


def test_the_warm_end_is_a_kernel_distance(clouds, path):
    """S_ε → ½ ⟨α − β, −C (α − β)⟩, with a difference of order C/ε: 1e-6 from ε = 10⁶ C on."""
    limit = mmd(*clouds, kernel="-sqeuclidean").value
    x, y = clouds
    assert limit == pytest.approx(
        ((x.mean(0) - y.mean(0)) ** 2).sum(), rel=1e-10
    )  # of squared distances, in closed form
    for epsilon in (1e6, 1e7, np.inf):
        found = sinkhorn_divergence(*clouds, epsilon=epsilon, tol=1e-4).value
        assert found == pytest.approx(limit, rel=1e-6)
    assert path[-1].value == pytest.approx(squared_distances(x, y).mean(), rel=1e-6)
    for cost in ("euclidean", "power:1.5"):
        found = sinkhorn_divergence(*clouds, epsilon=1e7, cost=cost, tol=1e-4).value
        assert found == pytest.approx(mmd(*clouds, kernel=f"-{cost}").value, rel=1e-6)


def test_divergences_stay_between_their_ends(clouds):
    """For squared distances S_ε falls from the transport cost to the kernel distance on these clouds, and is never
    above OT_0 (1/2 OT_ε(α, α) ≥ 0 is what debiasing takes away)."""
    values = [sinkhorn_divergence(*clouds, epsilon=e, tol=1e-9, max_iter=20_000).value for e in PATH[::3]]
    assert (np.diff(values) < 1e-9).all() and values[0] < assigned(*clouds) + PATH[0] * np.log(40)


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
@pytest.mark.parametrize("epsilon", [1e7, 1e8, 3e9, 1e16])
def test_the_limit_is_not_said_to_be_more_right_than_it_is(epsilon, tol):
    """S_ε = S_∞ − ‖C̄‖²/2ε + … with costs less their means over rows and columns; close clouds make that count."""
    r = np.random.default_rng(0)
    x, y = r.normal(size=(54, 1)), r.normal(size=(19, 1)) + 0.02

    def transport(u, v):
        C = (u - v.T) ** 2
        centred = C - C.mean(0) - C.mean(1, keepdims=True) + C.mean()
        return C.mean() - (centred**2).mean() / (2 * epsilon)

    exact = transport(x, y) - 0.5 * transport(x, x) - 0.5 * transport(y, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", geomsink.ConvergenceWarning)
        s = sinkhorn_divergence(x, y, epsilon=epsilon, tol=tol)
    assert abs(s.value - exact) <= s.value_error + 1e-14
    if s.converged:
        assert abs(s.value - exact) <= 1e-2 * tol * exact
    if epsilon == 1e16:
        assert s.converged
