"""The synthetic experiments in benchmarks/, small: what they find, not only that they run."""

import argparse
import json
import math

import pytest
import torch


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)  # a fit has a process of its own, but not here


def reports(module, report, folder):
    """Text and figure of a report as it is read again from its file."""
    import common

    path = folder / "report.json"
    common.write(path, report, module.markdown(report))
    module.draw(json.loads(path.read_text()), path.with_suffix(".png"))
    assert path.with_suffix(".png").stat().st_size > 10_000
    return path.with_suffix(".md").read_text()


# ---------------------------------------------------------------------------- ellipses


def test_ellipses_are_found(tmp_path, monkeypatch):
    """To 7 %: batches of 120 leave a bias of four in the axes, and 60 steps a noise of one."""
    import ellipses

    monkeypatch.setattr(ellipses, "FITTED", 2.0)
    setting = dict(epsilon=ellipses.FITTED, lr=0.1, seed=0)
    fit = ellipses.fit(setting | dict(iterations=ellipses.ENTROPIC, batch=120, steps=60))
    assert fit["centre"] < 0.05 and fit["axes"] < 0.07 and fit["angle"] < 0.05
    assert fit["path"][0]["centre"] > 1.0
    small = setting | dict(batch=40, steps=30)
    columns = (1, 10, ellipses.SHARP)
    needed = [(0.1, 1), (0.1, ellipses.SHARP), (2.0, 10), (2.0, ellipses.SHARP)]  # the others fill the tables
    sweep = [
        ellipses.fit(small | dict(epsilon=e, iterations=count, steps=30 if (e, count) in needed else 10))
        for e in (0.1, 2.0)
        for count in columns
    ]
    by = {(row["epsilon"], row["iterations"]): row for row in sweep}
    # One iteration leads elsewhere where ε is low; ten lead where convergence does where it is higher.
    assert by[0.1, 1]["centre"] > 3 * by[0.1, ellipses.SHARP]["centre"]
    many, converged = by[2.0, 10], by[2.0, ellipses.SHARP]
    torch.testing.assert_close(
        torch.tensor(many["centre_found"] + many["axes_found"]),
        torch.tensor(converged["centre_found"] + converged["axes_found"]), rtol=5e-3, atol=5e-3,
    )  # fmt: skip
    sweep += [ellipses.fit(small | dict(epsilon=e, iterations=ellipses.ENTROPIC, steps=10)) for e in (0.1, 2.0)]
    text = reports(ellipses, {"about": "", "fits": [fit], "sweep": sweep}, tmp_path)
    assert f"The largest error of a centre or an axis is {max(fit['centre'], fit['axes']):.2%}" in text


def test_errors_of_ellipses():
    import ellipses

    moved = ellipses.truth()
    exact = ellipses.errors(moved)
    assert max(exact.values()) < 1e-6
    with torch.no_grad():
        moved.centre += torch.tensor([0.3, 0.4])
        moved.matrix *= 1.1
    assert ellipses.errors(moved) == pytest.approx(dict(centre=0.25, axes=0.1, angle=0.0), abs=1e-6)


# -------------------------------------------------------------------------- degenerate


def test_only_transport_and_energy_see_a_disjoint_circle():
    import degenerate

    dim, n, thetas = 20, 60, [0.0, 1.0, 3.0]
    found = {name: degenerate.profile(loss, thetas, dim, n) for name, loss in degenerate.losses(dim, 60).items()}
    divergence = found["S_ε"]
    # A translation adds its square, exactly: the rest is the two samples' own divergence.
    assert [v - divergence["values"][0] for v in divergence["values"]] == pytest.approx([0, 1, 9], abs=1e-9)
    assert divergence["gradients"] == pytest.approx([0, 2, 6], abs=1e-9)
    assert min(found["MMD, energy"]["gradients"][1:]) > 0.5
    for name in ("JS, kernel density", "JS, discriminator"):
        assert found[name]["values"][1:] == pytest.approx([math.log(2)] * 2, abs=1e-3)
        assert max(map(abs, found[name]["gradients"][1:])) < 1e-2
    for name in ("JS, kernel density", "MMD, Gaussian"):
        assert max(map(abs, found[name]["gradients"][1:])) < 1e-12
    assert abs(found["JS, discriminator"]["values"][0]) < 0.3


def test_density_estimates_of_overlapping_clouds():
    """Against the integral, in one dimension and for two uniform laws that share half: JS = ½ log 2."""
    import degenerate

    x = torch.linspace(0, 20, 1500, dtype=torch.float64)[:, None]
    assert float(degenerate.kernel_density_js(x, x + 10)) == pytest.approx(0.5 * math.log(2), abs=0.02)
    y = x + 10
    z = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(degenerate.kernel_density_js(z, y), z)
    shifted = [float(degenerate.kernel_density_js(x + h, y)) for h in (1e-4, -1e-4)]
    assert float(gradient.sum()) == pytest.approx((shifted[0] - shifted[1]) / 2e-4, rel=1e-5)


def test_descents_from_a_disjoint_circle(tmp_path, monkeypatch):
    import degenerate

    monkeypatch.setattr(degenerate, "RATES", (0.1,))
    dim, n, steps = 20, 40, 30
    report = {
        "about": "",
        "dim": dim,
        "n": n,
        "thetas": [-1.0, 0.0, 1.0],
        "shown": [0.0, 1.0],
        "steps": steps,
        "losses": {},
    }
    for name in ("S_ε", "MMD, Gaussian", "JS, kernel density"):
        loss = degenerate.losses(dim, 0)[name]
        case = degenerate.profile(loss, report["thetas"], dim, n)
        case["shift"] = degenerate.descend(lambda: degenerate.Moved(dim, 3.0), loss, dim, n, steps)
        case["affine"] = degenerate.descend(lambda: degenerate.Affine(dim), loss, dim, n, steps)
        report["losses"][name] = case | {"seconds": 0.0}
    ends = {name: {key: case[key]["path"] for key in ("shift", "affine")} for name, case in report["losses"].items()}
    for key in ("shift", "affine"):
        assert ends["S_ε"][key][-1] < 0.15 * ends["S_ε"][key][0]
        for name in ("MMD, Gaussian", "JS, kernel density"):
            assert ends[name][key][-1] > 0.99 * ends[name][key][0]
    assert "θ alone" in reports(degenerate, report, tmp_path)


# ----------------------------------------------------------------------- interpolation


def test_closed_forms_of_gaussians():
    """Gradients against differences of values, limits against their formulas, and values against large samples."""
    import interpolation

    case = interpolation.Case("", "sqeuclidean", 2)
    for epsilon in (0.0, 0.5, 10.0):
        here = interpolation.gaussian(case, epsilon)
        for k in range(2):
            values = []
            for step in (1e-5, -1e-5):
                near = argparse.Namespace(
                    dim=2, shift=case.shift, scales=case.scales + step * torch.eye(2, dtype=torch.float64)[k]
                )
                values.append(float(interpolation.gaussian(near, epsilon)["value"]))
            assert float(here["A"][k, k]) == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-8)
    bures = float((case.scales - 1).square().sum() + case.shift.square().sum())
    assert float(interpolation.gaussian(case, 0.0)["value"]) == pytest.approx(bures)
    assert float(interpolation.gaussian(case, 1e6)["value"]) == pytest.approx(interpolation.SHIFT**2, rel=1e-4)
    exact, sampled = interpolation.gaussian(case, 1.0), interpolation.large_sample(case, 1.0, 1024)
    # Quasi-random points: about 1 / n, with logarithms.
    torch.testing.assert_close(sampled["value"][0], exact["value"], rtol=0.02, atol=0)
    for key in ("c", "A"):
        assert float((sampled[key] - exact[key]).norm() / exact[key].norm()) < 0.02


def test_deviation_of_known_samples():
    import interpolation

    random = torch.Generator().manual_seed(0)
    samples = 3.0 + torch.tensor([1.0, 0.0]) + 0.5 * torch.randn(20_000, 2, generator=random)
    found = interpolation.deviation(samples, torch.tensor([3.0, 3.0]))
    size = math.sqrt(18)
    # Within a few standard errors of 20,000 samples.
    assert found == pytest.approx(
        dict(bias=1 / size, deviation=math.sqrt(0.5) / size, error=math.sqrt(1.5) / size), rel=0.02
    )


def test_bias_falls_from_transport_to_kernels(tmp_path):
    import interpolation

    report = {"about": "", "replicates": 20, "cases": []}
    for case in interpolation.CASES[1:]:
        rows, ot = [], interpolation.population(case, 0.0, 512)
        for epsilon in (0.0, 1.0, 10.0, math.inf):
            own = interpolation.population(case, epsilon, 512)
            rows += [interpolation.measure(case, epsilon, n, 20, own, ot) for n in (20, 40)]
        report["cases"].append({"name": case.name, "rows": rows})
    wide = {(float(row["epsilon"]), row["batch"]): row for row in report["cases"][0]["rows"]}
    bias = {key: row["own"]["value"]["bias"] for key, row in wide.items()}
    # Eight dimensions: transport between few points is far above that of the measures, and S_ε comes down to it.
    assert bias[0.0, 20] > bias[0.0, 40] > max(2.0, 1.7 * bias[10.0, 40])
    for key in ("value", "A"):
        error = {e: wide[e, 40]["ot"][key]["error"] for e in (0.0, 1.0, 10.0, math.inf)}
        assert min(error[1.0], error[10.0]) < 0.9 * error[0.0]
    assert "Is there a sweet spot?" in reports(interpolation, report, tmp_path)


def test_ends_of_the_interpolation():
    """Assignments and kernels against S_ε at a low and at a high ε, values and gradients."""
    import interpolation

    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 3, 8, 2, generator=random, dtype=torch.float64)
    for case in (interpolation.Case("", "sqeuclidean", 2), interpolation.Case("", "euclidean", 2)):
        for end, near in ((0.0, 2e-3), (math.inf, 1e6)):
            values, gradients = interpolation.evaluate(case, x, y, end)
            close, also = interpolation.evaluate(case, x, y, near)
            torch.testing.assert_close(close, values, rtol=2e-2, atol=1e-4)
            assert float((also - gradients).norm() / gradients.norm()) < 0.05
