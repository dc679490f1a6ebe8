"""Comparison of numbers: the algebra, the distances, and what -0.0, NaN and infinities mean."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.checks.numbers import all_close, compare, differing

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
ARRAYS = arrays(np.float32, st.integers(0, 40), elements=FLOATS)
PAIRS = st.integers(0, 30).flatmap(
    lambda n: st.tuples(arrays(np.float32, n, elements=FLOATS), arrays(np.float32, n, elements=FLOATS))
)


@given(ARRAYS)
def test_numbers_agree_with_themselves(array):
    """Every array agrees with itself without any tolerance, NaN and infinities included."""
    assert compare(array, array.copy(), rtol=0.0, atol=0.0) is None


@given(PAIRS, st.floats(0, 1))
def test_without_rtol_the_sides_can_be_exchanged(pair, atol):
    """With an absolute tolerance alone, what disagrees does not depend on which side is golden."""
    left, right = pair
    one, other = differing(left, right, rtol=0, atol=atol), differing(right, left, rtol=0, atol=atol)
    assert (one == other).all()


@given(PAIRS, st.floats(0, 1e-2), st.floats(0, 1e-2))
def test_agrees_with_numpy(pair, rtol, atol):
    """The answer is numpy's isclose, golden being the side the tolerance is relative to."""
    left, right = pair
    with np.errstate(all="ignore"):
        wanted = np.isclose(right.astype(np.float64), left.astype(np.float64), rtol=rtol, atol=atol, equal_nan=True)
    assert (differing(left, right, rtol=rtol, atol=atol) == ~wanted).all()


@given(arrays(np.int64, st.integers(1, 30)), st.data())
def test_integers_are_exact(array, data):
    """One changed integer is found at its place however large the tolerance, also beyond 2^53."""
    place = data.draw(st.integers(0, array.size - 1))
    other = array.copy()
    other[place] ^= 1
    found = compare(array, other, rtol=1.0, atol=1e9)
    assert found is not None
    assert (found.index, found.first, found.count) == (place, place, 1)


@given(arrays(np.float32, st.integers(2, 30), elements=st.floats(-100, 100, width=32)), st.data())
def test_the_worst_place_is_named(array, data):
    """Among several disagreements the farthest is named, with the first beside it."""
    first, worst = sorted(data.draw(st.lists(st.integers(0, array.size - 1), min_size=2, max_size=2, unique=True)))
    other = array.astype(np.float64)
    other[first] += 1
    other[worst] += 1000
    found = compare(array, other, rtol=1e-5, atol=1e-6)
    assert found is not None
    assert (found.index, found.first, found.count, found.total) == (worst, first, 2, array.size)


@pytest.mark.parametrize(
    ("left", "right", "agree"),
    [
        (0.0, -0.0, True),
        (float("nan"), float("nan"), True),
        (float("inf"), float("inf"), True),
        (float("inf"), float("-inf"), False),
        (float("inf"), 1e30, False),
        (1e30, float("inf"), False),
        (float("nan"), 0.0, False),
        (0.0, float("nan"), False),
    ],
)
def test_special_numbers(left, right, agree):
    """NaN equals NaN, infinities only themselves, and the sign of zero does not matter."""
    assert all_close(np.array([left]), np.array([right]), rtol=1e-5, atol=1e-6) is agree


def test_the_distance_in_units_in_the_last_place():
    """Neighbouring float32 numbers are 1 ulp apart, also across zero and in the width of the narrower side."""
    one = np.float32(1)
    after = np.nextafter(one, np.float32(2))
    found = compare(np.array([one]), np.array([after]), rtol=0, atol=0)
    assert found is not None
    assert found.ulps == 1
    tiny = np.nextafter(np.float32(0), np.float32(1))
    across = compare(np.array([tiny]), np.array([-tiny]), rtol=0, atol=0)
    assert across is not None
    assert across.ulps == 2
    wide = compare(np.array([np.float64(one)]), np.array([after]), rtol=0, atol=0)
    assert wide is not None
    assert wide.ulps == 1


def test_sizes_are_not_compared_here():
    """Different numbers of elements are refused: a size is another check's judgement."""
    with pytest.raises(ValueError, match="cannot compare 2 elements with 3"):
        compare(np.zeros(2), np.zeros(3), rtol=0, atol=0)


def test_a_large_comparison_takes_about_as_long_as_numpy():
    """A million numbers compare in the order of numpy's isclose (3 times is the aim, 6 leaves room for noise)."""
    left = np.random.default_rng(1).normal(size=1_000_000).astype(np.float32)
    right = left * np.float32(1 + 5e-7)

    def best(call):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    assert best(lambda: compare(left, right, rtol=1e-5, atol=1e-6)) < 6 * best(lambda: np.isclose(left, right))
