"""Turn-taking as a pure rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_server.sequencing import Hole, Turns

ids = st.sets(st.integers(1, 40), max_size=20)


@given(st.integers(1, 30).flatmap(lambda n: st.permutations(range(1, n + 1))))
def test_any_arrival_order_takes_effect_in_id_order(arrivals: list[int]) -> None:
    """A complete set of ids takes effect as 1, 2, 3, ..., each exactly once, and nothing stays held."""
    turns: Turns[int] = Turns()
    effect = [done for seq_id in arrivals for done in turns.admit(seq_id, seq_id)]
    assert effect == sorted(arrivals)
    assert turns.held == ()
    assert turns.hole() is None


@given(ids.flatmap(lambda chosen: st.permutations(sorted(chosen))))
def test_nothing_overtakes_a_missing_id(arrivals: list[int]) -> None:
    """With ids missing, exactly the gapless prefix takes effect; skipping the hole releases the rest in order."""
    turns: Turns[int] = Turns()
    effect = [done for seq_id in arrivals for done in turns.admit(seq_id, seq_id)]
    present = set(arrivals)
    prefix = next(n for n in range(1, 99) if n not in present) - 1
    assert effect == list(range(1, prefix + 1))
    waiting = sorted(i for i in arrivals if i > prefix)
    hole = turns.hole()
    if waiting:
        assert hole == Hole(tuple(i for i in range(prefix + 1, waiting[-1]) if i not in present), tuple(waiting))
    else:
        assert hole is None
    assert turns.skip() == waiting
    assert turns.held == ()
    assert turns.next_id == max(arrivals, default=0) + 1


def test_a_missing_id_that_comes_after_the_skip_takes_effect_at_once() -> None:
    """A late request is not lost: its turn is over, so it is executed on arrival."""
    turns: Turns[str] = Turns()
    assert turns.admit(1, "a") == ["a"]
    assert turns.admit(3, "c") == []
    assert turns.skip() == ["c"]
    assert turns.admit(2, "b") == ["b"]
    assert turns.admit(4, "d") == ["d"]


def test_items_without_an_id_do_not_wait() -> None:
    """Releases before 0.3.0 send no seq_id: arrival is all there is."""
    turns: Turns[str] = Turns()
    assert turns.admit(2, "held") == []
    assert turns.admit(None, "free") == ["free"]


def test_an_id_cannot_be_held_twice() -> None:
    """Telling resends apart is the caller's duty; a second item under a held id is refused."""
    turns: Turns[str] = Turns()
    turns.admit(2, "one")
    with pytest.raises(ValueError, match="already held"):
        turns.admit(2, "two")
