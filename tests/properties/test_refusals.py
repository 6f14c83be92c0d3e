"""Bad input is always refused, in one sentence that names the argument, and never with another exception."""

import inspect
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from wrong import CALLS, PAIR, wrongs

import geomsink

INSTEAD = {"blur": {"epsilon"}, "epsilon": {"blur"}, "shape": {"shape", "parameters"}}
"""Other arguments that a sentence may name: two of which one is given."""


def refused(name, argument, value) -> str:
    """What is wrong with how a wrong argument is refused, or nothing."""
    function, right, _ = CALLS[name]
    given = right | {argument: value}
    if argument == "iterations":
        given["differentiation"] = "unrolled"
    if argument in ("blur", "epsilon") and name != "costs.temperature":
        given.pop({"blur": "epsilon", "epsilon": "blur"}[argument], None)
    elif argument in ("blur", "epsilon"):
        given[{"blur": "epsilon", "epsilon": "blur"}[argument]] = None
    try:
        function(**given)
    except (TypeError, ValueError) as error:
        said = str(error)
        if "\n" in said or not said.endswith("."):
            return f"no sentence: {said!r}"
        names = {argument} | INSTEAD.get(argument, set())
        return "" if any(re.search(rf"(?<!\w){known}(?!\w)", said) for known in names) else f"unnamed: {said!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "taken"


@pytest.mark.parametrize("name", CALLS)
def test_bad_arguments_are_refused(name):
    function, right, _ = CALLS[name]
    if name not in ("costs.register", "kernels.register", "shapes.read"):
        function(**right)
    faults = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for argument, values in wrongs(name).items():
            for value in values:
                if fault := refused(name, argument, value):
                    faults[argument, repr(value)[:60]] = fault
    assert faults == {}


def test_all_that_can_be_called_is_called():
    """Functions of the front door and of what is done with plans."""
    known = {name.rpartition(".")[2] for name in CALLS}
    for wing in (geomsink, geomsink.transport):
        assert {name for name in wing.__all__ if inspect.isfunction(getattr(wing, name))} <= known


@given(
    st.one_of(
        arrays.arrays(arrays.scalar_dtypes() | arrays.byte_string_dtypes() | arrays.unicode_string_dtypes(),
                      arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
                     lambda inner: st.lists(inner, max_size=3), max_leaves=8),
    ),
    st.sampled_from(("x", "y", "a", "b")),
    st.booleans(),
)  # fmt: skip
def test_whatever_is_given_is_solved_or_refused(value, argument, tensor):
    """Points and weights of any kind: an answer is a number, and no other is given."""
    given = dict(PAIR)
    if tensor and isinstance(value, np.ndarray):
        try:
            value = torch.from_numpy(value.copy())
        except (TypeError, ValueError):
            return
        given["x"], given["y"] = (torch.from_numpy(given[name]) for name in "xy")
    if value is None and argument in "ab":
        return
    try:
        found = geomsink.mmd(**given | {argument: value})
    except (TypeError, ValueError) as error:
        said = str(error)
        assert "\n" not in said.partition("NumPy cannot read it")[0] and said.endswith(".")
        assert re.search(rf"(?<!\w){argument}(?!\w)", said), said
    else:
        assert bool(np.isfinite(np.asarray(found.value)).all())
