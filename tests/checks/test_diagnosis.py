"""Causes: each is told where it applies, and nothing is told where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.checks.diagnosis import why_keys, why_metric, why_numbers, why_shape, why_sizes

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
STARTS = np.array([0, 2, 5])
GOLDEN = np.array([0.5, -0.25, 1.5, 2.5, -3.5, 4.5], dtype=np.float32)


@pytest.mark.parametrize(
    ("observed", "cause"),
    [
        (-GOLDEN, "opposite sign"),
        (GOLDEN * 0, "zeros where golden has numbers"),
        (np.array([0.5, -0.25, 0, 0, 0, 4.5]), "zeros where golden has numbers"),
        (GOLDEN * 2.5, "scaled by a constant: observed = 2.5 x golden"),
        (GOLDEN / np.array([2, 2, 3, 3, 3, 1]), "each datum divided by its own length: a mean where golden sums"),
        (GOLDEN * np.array([2, 2, 3, 3, 3, 1]), "each datum multiplied by its own length: a sum where golden takes"),
        (np.array([9, 0.5, 9, 1.5, 2.5, 9]), "shifted: every value stands one position late"),
        (np.array([-0.25, 9, 2.5, -3.5, 9, 9]), "shifted: every value stands one position early"),
        (np.array([-0.25, 0.5, 1.5, 2.5, -3.5, 4.5]), "the same values in another order"),
        (np.array([4.5, -0.25, 1.5, 2.5, -3.5, 0.5]), "the same values, dealt to the datums in another order"),
        (np.array([np.nan, -0.25, 1.5, 2.5, -3.5, 4.5]), "NaN where golden has numbers"),
        (np.array([np.inf, -0.25, 1.5, 2.5, -3.5, 4.5]), "an infinity where golden has numbers"),
        (np.array([7.0, 7.1, 7.2, 7.3, 7.4, 7.7]), ""),
    ],
)
def test_numbers(observed, cause):
    """Weights that came about in a known wrong way are recognised, others are not explained."""
    told = why_numbers(GOLDEN, observed, STARTS, **TOLERANCE)
    assert told.startswith(cause)
    assert bool(told) is bool(cause)


def test_another_datums_numbers_are_named():
    """Numbers that belong to another datum of equal length name that datum."""
    golden = np.array([1.0, 2.0, 3.0, 4.0, 5.5, 6.5])
    observed = np.array([3.0, 4.0, 3.0, 4.0, 9.0, 9.0])
    cause = why_numbers(golden, observed, np.array([0, 2, 4]), **TOLERANCE)
    assert cause == "of another datum: what datum 0 carries is golden's datum 1"


def test_half_precision():
    """Numbers that went through float16 are recognised."""
    golden = np.array([0.1, 0.2, 0.3, 0.7], dtype=np.float32)
    cause = why_numbers(golden, golden.astype(np.float16).astype(np.float32), np.array([0]), **TOLERANCE)
    assert cause == "rounded to half precision (float16)"


@given(arrays(np.float64, st.integers(3, 20), elements=st.floats(0.5, 100)), st.floats(1.1, 50))
def test_any_scale_is_found(golden, scale):
    """Whatever the numbers, a constant factor is named with its value."""
    assume(len(set(golden.tolist())) > 1)
    cause = why_numbers(golden, golden * scale, np.array([0]), **TOLERANCE)
    assert cause.startswith("scaled by a constant")
    assert float(cause.split("= ")[1].split(" ")[0]) == pytest.approx(scale, rel=1e-4)


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(-100, 100)), st.data())
def test_diagnosis_never_fails(golden, data):
    """Whatever came, a cause is a string: the diagnosis of a failure must not fail."""
    observed = data.draw(arrays(np.float64, golden.size, elements=st.floats()))
    with np.errstate(all="raise"):
        assert isinstance(why_numbers(golden, observed, np.array([0]), **TOLERANCE), str)


def test_sizes_keys_and_shapes():
    """Wrong cuts, key sets and shapes are named."""
    assert why_sizes([1024, 1], [1023, 2]) == "cut at 1023 instead of 1024"
    assert why_sizes([1024, 1], [1025]) == "not cut at all"
    assert why_sizes([3], [2, 1]) == "cut at 2 where golden does not cut"
    assert why_sizes([3], [3]) == ""
    assert why_keys({"a", "b"}, {"b", "c"}) == "key dropped: a; key added: c"
    assert why_shape([2, 3], [6]) == "flattened"
    assert why_shape([2, 3], [3, 2]) == "transposed"
    assert why_shape([2, 3], [2, 3, 1]) == ""


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (1.5, "unweighted mean"),
        (1.25, "mean weighted by the size"),
        (3.0, "sum over"),
        (1.0, "the first chunk"),
        (2.0, "the last chunk"),
        (9.0, ""),
    ],
)
def test_metrics(value, cause):
    """A metric that is another reduction of what the server answered per chunk is named so."""
    chunks = [({"x:mean": 1.0}, 3), ({"x:mean": 2.0}, 1)]
    assert why_metric(value, "x:mean", chunks, **TOLERANCE).startswith(cause)
    assert bool(why_metric(value, "x:mean", chunks, **TOLERANCE)) is bool(cause)
