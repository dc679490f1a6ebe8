"""The -k expression."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.selection import select
from harness.errors import ParityError

SCENARIOS = {
    "chunks/limit": ("chunks.limits", "order.seq"),
    "chunks/limit-over": ("chunks.limits",),
    "state/load": ("order.seq", "result.status"),
}


def _selected(expression):
    return [f"{planned.scenario}:{planned.check}" for planned in select(SCENARIOS, expression)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (None, ["chunks/limit:chunks.limits", "chunks/limit:order.seq", "chunks/limit-over:chunks.limits",
                "state/load:order.seq", "state/load:result.status"]),
        ("limit-", ["chunks/limit-over:chunks.limits"]),
        ("chunks/limit", ["chunks/limit:chunks.limits", "chunks/limit:order.seq"]),
        ("chunks/limit:order.seq", ["chunks/limit:order.seq"]),
        ("ORDER.seq", ["chunks/limit:order.seq", "state/load:order.seq"]),
        ("chunks and not limits", ["chunks/limit:order.seq"]),
        ("state/load or limit-over", ["chunks/limit-over:chunks.limits", "state/load:order.seq",
                                      "state/load:result.status"]),
        ("not (chunks or status)", ["state/load:order.seq"]),
        ("order and state or over", ["chunks/limit-over:chunks.limits", "state/load:order.seq"]),
    ],
)  # fmt: skip
def test_selects(expression, expected):
    """A whole id selects exactly that, another term what contains it; or binds weaker than and, and than not."""
    assert _selected(expression) == expected


@pytest.mark.parametrize(
    ("expression", "suggestion"),
    [("chunks/limt", "chunks/limit"), ("ordr", "order"), ("state/load:result.statos", "result.status"),
     ("state and chnks", "chunks")],
)  # fmt: skip
def test_an_empty_selection_suggests_the_closest_name(expression, suggestion):
    """Nothing selected is an error: green would be a lie."""
    with pytest.raises(ParityError) as caught:
        select(SCENARIOS, expression)
    assert caught.value.code == "selection-empty"
    assert suggestion in caught.value.hint


def test_an_empty_suite_is_an_error():
    """There is nothing to run, and it is said."""
    with pytest.raises(ParityError) as caught:
        select({}, None)
    assert caught.value.code == "selection-empty"


@pytest.mark.parametrize("expression", ["", "  ", "and", "a or", "(a", "a)", "not", "a b", "()", "a and or b"])
def test_refuses_a_malformed_expression(expression):
    """An expression that is no expression is not guessed at."""
    with pytest.raises(ParityError) as caught:
        select(SCENARIOS, expression)
    assert caught.value.code == "selection-malformed"


@given(st.lists(st.sampled_from(["chunks", "order", "and", "or", "not", "(", ")", "load"]), max_size=8))
def test_an_expression_and_its_negation_share_the_suite(tokens):
    """For every valid expression, `e` and `not (e)` select disjoint checks that together are all of them."""
    expression = " ".join(tokens)

    def chosen(text):
        try:
            return set(_selected(text))
        except ParityError as error:
            return None if error.code == "selection-malformed" else set()

    inside = chosen(expression)
    if inside is not None:
        outside = chosen(f"not ({expression})")
        assert inside | outside == set(_selected(None))
        assert not inside & outside
