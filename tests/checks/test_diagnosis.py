"""Causes: each is told where it applies, and nothing is told where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.checks.causes import CAUSES, certain, likely
from harness.checks.diagnosis import why_dtype, why_keys, why_metric, why_numbers, why_shape, why_sizes

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
STARTS = np.array([0, 2, 5])
GOLDEN = np.array([0.5, -0.25, 1.5, 2.5, -3.5, 4.5], dtype=np.float32)


def _told(found):
    return (found.code, found.certainty) if found else None


@pytest.mark.parametrize(
    ("observed", "cause"),
    [
        (-GOLDEN, ("opposite-sign", "certain")),
        (GOLDEN * 0, ("zeros-for-values", "certain")),
        (np.array([0.5, -0.25, 0, 0, 0, 4.5]), ("zeros-for-values", "certain")),
        (GOLDEN * 2.5, ("scaled", "certain")),
        (GOLDEN / np.array([2, 2, 3, 3, 3, 1]), ("mean-for-sum", "certain")),
        (GOLDEN * np.array([2, 2, 3, 3, 3, 1]), ("sum-for-mean", "certain")),
        (np.array([9, 0.5, 9, 1.5, 2.5, 9]), ("shifted", "certain")),
        (np.array([-0.25, 9, 2.5, -3.5, 9, 9]), ("shifted", "certain")),
        (np.array([-0.25, 0.5, 1.5, 2.5, -3.5, 4.5]), ("values-reordered", "likely")),
        (np.array([4.5, -0.25, 1.5, 2.5, -3.5, 0.5]), ("wrong-datum", "likely")),
        (np.array([np.nan, -0.25, 1.5, 2.5, -3.5, 4.5]), ("not-finite", "certain")),
        (np.array([np.inf, -0.25, 1.5, 2.5, -3.5, 4.5]), ("not-finite", "certain")),
        (np.array([7.0, 7.1, 7.2, 7.3, 7.4, 7.7]), None),
    ],
)
def test_numbers(observed, cause):
    """Weights that came about in a known wrong way are recognised, others are not explained."""
    assert _told(why_numbers(GOLDEN, observed, STARTS, **TOLERANCE)) == cause


def test_what_is_the_same_everywhere_is_only_likely():
    """Equal numbers with the other sign could be another constant: nothing certain can be said."""
    golden = np.full(4, -1.0)
    assert _told(why_numbers(golden, -golden, np.array([0, 2]), **TOLERANCE)) == ("opposite-sign", "likely")


def test_the_number_of_datums_is_told_from_another_factor():
    """A factor that follows the number of datums of each call is certain; one that happens to equal it is likely."""
    two = np.array([2, 2, 2])
    same = why_numbers(GOLDEN, GOLDEN * 2, STARTS, **TOLERANCE, datums=two)
    assert _told(same) == ("scaled-by-n", "likely")
    calls = np.array([2, 2, 1])
    each = why_numbers(GOLDEN, GOLDEN / np.array([2, 2, 2, 2, 2, 1]), STARTS, **TOLERANCE, datums=calls)
    assert _told(each) == ("scaled-by-n", "certain")
    assert _told(why_numbers(GOLDEN, GOLDEN * 3, STARTS, **TOLERANCE, datums=two)) == ("scaled", "certain")


def test_the_number_of_datums_is_named_whatever_the_values():
    """Equal weights divided by the number of datums are told as that, likely: the factor could be another's."""
    golden = np.full(6, -1.0)
    found = why_numbers(golden, golden / 3, STARTS, **TOLERANCE, datums=np.array([3, 3, 3]))
    assert found == likely("scaled-by-n", "observed = golden divided by the number of datums, 3")


def test_the_number_of_datums_that_is_also_each_length_is_only_likely():
    """Where each datum is as long as its call has datums, either may be the factor."""
    golden = np.arange(1.0, 6.0)
    starts, datums = np.array([0, 2, 4]), np.array([2, 2, 1])
    found = why_numbers(golden, golden / np.array([2, 2, 2, 2, 1]), starts, **TOLERANCE, datums=datums)
    assert _told(found) == ("scaled-by-n", "likely")


def test_a_reversal_of_two_is_not_a_certain_shift():
    """In datums of one or two values a shift and a reversal look alike; a third value tells them apart."""
    golden = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    short = np.array([0, 2, 4])
    assert _told(why_numbers(golden, np.array([2.0, 1, 4, 3, 5]), short, **TOLERANCE)) == ("values-reordered", "likely")
    assert _told(why_numbers(golden, np.array([0.0, 1, 0, 3, 0]), short, **TOLERANCE)) == ("shifted", "likely")
    assert _told(why_numbers(golden, np.array([3.0, 1, 2, 5, 4]), np.array([0, 3]), **TOLERANCE)) == (
        "shifted",
        "certain",
    )


def test_a_constant_in_the_place_of_zeros():
    """Ones where golden has zeros are a default that was filled in."""
    found = why_numbers(np.zeros(3), np.ones(3), np.array([0]), **TOLERANCE)
    assert _told(found) == ("default-filled", "certain")


def test_numbers_where_golden_has_none():
    """A finite number for a NaN of golden's is named; the other way round it is a NaN."""
    nan = np.array([np.nan, 1.0])
    assert _told(why_numbers(nan, np.array([0.0, 1.0]), np.array([0]), **TOLERANCE)) == (
        "finite-for-not-finite",
        "certain",
    )


def test_another_datums_numbers_are_named():
    """Numbers that belong to another datum of equal length name that datum."""
    golden = np.array([1.0, 2.0, 3.0, 4.0, 5.5, 6.5])
    observed = np.array([3.0, 4.0, 3.0, 4.0, 9.0, 9.0])
    cause = why_numbers(golden, observed, np.array([0, 2, 4]), **TOLERANCE)
    assert _told(cause) == ("wrong-datum", "certain")
    assert cause.detail == "what datum 0 carries is golden's datum 1"


def test_half_precision():
    """Numbers that went through float16 are recognised."""
    golden = np.array([0.1, 0.2, 0.3, 0.7], dtype=np.float32)
    cause = why_numbers(golden, golden.astype(np.float16).astype(np.float32), np.array([0]), **TOLERANCE)
    assert (cause.code, cause.detail) == ("rounded", "float16")


@given(arrays(np.float64, st.integers(3, 20), elements=st.floats(0.5, 100)), st.floats(1.1, 50))
def test_any_scale_is_found(golden, scale):
    """Whatever the numbers, a constant factor is named with its value."""
    assume(len(set(golden.tolist())) > 1)
    cause = why_numbers(golden, golden * scale, np.array([0]), **TOLERANCE)
    assert cause.code == "scaled"
    assert float(cause.detail.split("= ")[1].split(" ")[0]) == pytest.approx(scale, rel=1e-4)


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(-100, 100)), st.data())
def test_diagnosis_never_fails(golden, data):
    """Whatever came, there is a known cause or none: the diagnosis of a failure must not fail."""
    observed = data.draw(arrays(np.float64, golden.size, elements=st.floats()))
    with np.errstate(all="raise"):
        found = why_numbers(golden, observed, np.array([0]), **TOLERANCE)
    assert found is None or found.code in CAUSES


def test_sizes_keys_and_shapes():
    """Wrong cuts, key sets, shapes and dtypes are named."""
    assert _told(why_sizes([1024, 1], [1023, 2])) == ("cut-off-by-one", "likely")
    assert _told(why_sizes([1024, 1], [900, 125])) == ("limit-differs", "likely")
    assert _told(why_sizes([1024, 1], [1025])) == ("not-cut", "certain")
    assert _told(why_sizes([3], [2, 1])) == ("limit-differs", "likely")
    assert why_sizes([3], [3]) is None
    assert why_keys({"a", "b"}, {"b", "c"}) == certain("key-dropped", "a; added: c")
    assert why_keys({"a"}, {"a", "b"}) == certain("key-added", "b")
    assert why_keys({"a"}, {"a", "b"}, callers=frozenset("b")) == certain("input-leaked", "b")
    assert why_keys({"x_1", "x"}, {"x_2", "x"}) == certain("suffix-off-by-one", "x_2 for x_1")
    assert why_shape([2, 3], [6]) == certain("flattened")
    assert why_shape([2, 3], [3, 2]) == certain("transposed")
    assert why_shape([6], [2, 3]) == certain("unflattened")
    assert why_shape([6], [2, 2]) is None
    assert why_shape([2], None) == certain("shape-unnamed")
    assert why_shape([2, 3], [2, 3, 1]) is None
    assert why_dtype("float32", "float64") == certain("dtype-widened", "float64 for float32")
    assert why_dtype("float32", "int64") == certain("dtype-changed", "int64 for float32")


@pytest.mark.parametrize(
    ("value", "code", "detail"),
    [
        (1.5, "reduction-unweighted", "unweighted mean over the chunks"),
        (1.25, "reduction-changed", "mean weighted by the size of the chunks"),
        (3.0, "reduction-changed", "sum over the chunks"),
        (1.0, "reduction-changed", "the first chunk's value"),
        (2.0, "reduction-changed", "the last chunk's value"),
    ],
)
def test_metrics(value, code, detail):
    """A metric that is another reduction of what the server answered per chunk is named so."""
    chunks = [({"x:mean": 1.0}, 3), ({"x:mean": 2.0}, 1)]
    assert why_metric(value, "x:mean", chunks, **TOLERANCE) == likely(code, detail)


def test_a_metric_that_is_no_reduction_is_not_explained():
    """A value that no reduction gives has no cause."""
    assert why_metric(9.0, "x:mean", [({"x:mean": 1.0}, 3), ({"x:mean": 2.0}, 1)], **TOLERANCE) is None
