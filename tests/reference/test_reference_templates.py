"""Templates of bodies."""

from __future__ import annotations

from harness.reference.templates import fill, placeholders

TEMPLATE = {"a": "$a", "b": {"c": "$c?", "d": ["$a", 1, None]}, "n": "$null", "t": "text", "f": False}


def test_placeholders_become_values():
    """Values, nested; everything else stands for itself."""
    filled = fill(TEMPLATE, {"a": 1, "c": [2]})
    assert filled == {"a": 1, "b": {"c": [2], "d": [1, 1, None]}, "n": None, "t": "text", "f": False}


def test_missing_values_are_null_or_omitted():
    """`$name` is null where there is no value, `$name?` leaves its key out; false and zero are values."""
    assert fill(TEMPLATE, {"c": None}) == {"a": None, "b": {"d": [None, 1, None]}, "n": None, "t": "text", "f": False}
    assert fill({"x": "$x?", "y": "$y?"}, {"x": 0, "y": False}) == {"x": 0, "y": False}


def test_placeholders_are_found_everywhere():
    """Names without their question mark; null is none."""
    assert placeholders(TEMPLATE) == {"a", "c"}
