"""Differences of JSON-like bodies: exact about keys, null and booleans, indifferent to the spelling of a number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.checks.causes import certain, likely
from harness.checks.structure import differences, same, told

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON)
def test_a_value_is_the_same_as_itself(value):
    """Nothing differs from itself."""
    assert same(value, value)
    assert differences(value, value) == []


@given(JSON, JSON)
def test_both_sides_agree_on_whether_something_differs(left, right):
    """Whether two bodies differ does not depend on which side is golden, and a difference is never empty."""
    assert same(left, right) is same(right, left)
    assert bool(differences(left, right)) is not same(left, right)


def test_null_is_not_left_out():
    """A key with null and a missing key differ, and the cause says which way."""
    found = differences({"a": 1, "b": None}, {"a": 1})
    assert [(d.path, d.expected, d.observed) for d in found] == [("b", "null", "(left out)")]
    assert told(found)[3] == certain("absent-for-null", "b")
    assert told(differences({"a": 1}, {"a": 1, "b": None}))[3] == certain("null-for-absent", "b")


def test_a_renamed_key_is_named():
    """A value that moved to another key is called by both names."""
    found = differences({"p": {"optimizer": True}}, {"p": {"load_optimizer_state": True}})
    assert told(found)[3] == likely("key-renamed", "p.optimizer is called p.load_optimizer_state")


def test_numbers_by_value_and_booleans_by_kind():
    """1 and 1.0 are the same number; true and 1 are not the same value."""
    assert same({"k": 1}, {"k": 1.0})
    assert not same({"k": 1}, {"k": True})
    assert not same({"k": 0.0}, {"k": False})
