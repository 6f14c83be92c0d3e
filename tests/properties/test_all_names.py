"""No public name is forgotten: each is in a property, or is said to be none that has any."""

import ast
from pathlib import Path

import pytest

import geomsink
from geomsink import transport

FOLDER = Path(__file__).parent
COVERED = {
    "test_divergences": {"sinkhorn_divergence", "solve"},
    "test_gradients": {"SinkhornDivergence", "EntropicOT", "MMD"},
    "test_comparisons": {
        "mmd", "hausdorff_divergence", "c_transform", "wasserstein_bounds", "pairwise", "two_sample_test",
        "suggest_blur", "partial_transport", "matching",
    },
    "test_sketches": {"sketch"},
    "test_costs": {"costs", "kernels", "engine", "FeatureCost", "MatrixCost"},
    "test_transport": {
        "transport", "barycentric_map", "entropic_map", "displacement", "transfer", "barycenter", "quantize",
        "gradient_flow", "interpolate", "register",
    },
    "test_around": {
        "shapes", "compat", "plotting", "generative", "Divergence", "Solution", "HausdorffDivergence", "Discrepancy",
        "Plan", "Entries", "Approximation", "Pairwise", "WassersteinBounds", "TwoSampleTest", "Sketch", "LinearSolve",
    },
}  # fmt: skip
ELSEWHERE = {
    "ConvergenceWarning": "which is an error in all tests that do not ask for it",
    "LinearSolveWarning": "tests/derivatives",
    "Group": "tests/processes, where there are several",
    "ProcessesError": "tests/processes",
    **dict.fromkeys(
        ("FittedMeasure", "Flow", "History", "Matching", "Registration", "Votes"), "results, by their calls"
    ),
}


def test_every_public_name_has_a_property():
    named = set().union(*COVERED.values())
    assert named | set(ELSEWHERE) == set(geomsink.__all__) | set(transport.__all__)
    assert not named & set(ELSEWHERE)


@pytest.mark.parametrize("file", COVERED)
def test_it_is_in_that_file(file):
    """As a name, an attribute or a word, in a function that hypothesis calls or at the file's top."""
    tree = ast.parse((FOLDER / f"{file}.py").read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    given = [f for f in tree.body if isinstance(f, ast.FunctionDef) and "given" in map(_called, f.decorator_list)]
    assert given and COVERED[file] <= used


def _called(decorator: ast.expr) -> str:
    return decorator.func.id if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) else ""
