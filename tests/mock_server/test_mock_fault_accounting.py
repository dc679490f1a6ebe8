"""Which request an instruction hits: for any script and any sequence of requests."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mock_server.faults.accounting import Instructions
from mock_server.faults.script import Fault, Reset, problems

ROUTES = ("forward_backward", "optim_step")
SMALL = st.integers(1, 3)

faults = st.lists(
    st.builds(
        lambda route, at, times, seq_id, model, unread: _fault(
            route=route, at=at, times=times, **({"when": "headers"} if unread else {"seq_id": seq_id, "model": model})
        ),
        st.sampled_from(ROUTES),
        SMALL,
        st.one_of(SMALL, st.just("always")),
        st.one_of(st.none(), SMALL),
        st.one_of(st.none(), SMALL),
        st.booleans(),
    ),
    max_size=4,
).filter(lambda script: not problems(script))

requests = st.lists(st.tuples(st.sampled_from(ROUTES), SMALL, SMALL), max_size=12)


def _fault(**fields: Any) -> Fault:
    return msgspec.convert({"kind": "reset", **{k: v for k, v in fields.items() if v is not None}}, Fault)


def _play(script: list[Fault], sent: list[tuple[str, int, int]]) -> tuple[Instructions, list[int | None]]:
    instructions = Instructions(script)
    chosen: list[int | None] = []
    for ordinal, (route, seq_id, model) in enumerate(sent):
        index = instructions.unread(route)
        if index is None:
            index = instructions.decoded(route, seq_id=seq_id, model=model)
        if index is not None:
            instructions.hit(index, ordinal)
        chosen.append(index)
    return instructions, chosen


@given(faults, requests)
def test_an_instruction_is_played_on_its_own_route_and_filters_and_as_often_as_it_says(
    script: list[Fault], sent: list[tuple[str, int, int]]
) -> None:
    """Hits are among the matching requests, in order, at most `times`, none before the `at`-th it counted."""
    instructions, chosen = _play(script, sent)
    for index, (fault, use) in enumerate(zip(script, instructions.uses(), strict=True)):
        mine = [ordinal for ordinal, who in enumerate(chosen) if who == index]
        assert list(use.hits) == mine
        matching = [
            ordinal
            for ordinal, (route, seq_id, model) in enumerate(sent)
            if route == fault.route and fault.seq_id in (None, seq_id) and fault.model in (None, model)
        ]
        assert set(mine) <= set(matching)
        assert use.seen <= len(matching)
        if fault.times != "always":
            assert len(mine) <= fault.times
        assert all(matching.index(ordinal) >= fault.at - 1 for ordinal in mine)
        assert use.consumed == (len(mine) >= (1 if fault.times == "always" else fault.times))


@given(faults.filter(lambda script: len(script) == 1), requests)
def test_a_single_instruction_hits_exactly_its_window(script: list[Fault], sent: list[tuple[str, int, int]]) -> None:
    """Alone, it hits the `at`-th matching request and the following ones, `times` in a row."""
    (fault,) = script
    instructions, _ = _play(script, sent)
    matching = [
        ordinal
        for ordinal, (route, seq_id, model) in enumerate(sent)
        if route == fault.route and fault.seq_id in (None, seq_id) and fault.model in (None, model)
    ]
    end = None if fault.times == "always" else fault.at - 1 + fault.times
    assert list(instructions.uses()[0].hits) == matching[fault.at - 1 : end]


@given(faults, requests)
def test_a_request_is_hit_by_the_first_instruction_that_is_due(
    script: list[Fault], sent: list[tuple[str, int, int]]
) -> None:
    """Where several are due, the earlier in the script plays; one that resets before the body is read comes first."""
    _, chosen = _play(script, sent)
    seen = [0] * len(script)
    for (route, seq_id, model), who in zip(sent, chosen, strict=True):
        due = [
            index
            for index, fault in enumerate(script)
            if fault.route == route
            and fault.seq_id in (None, seq_id)
            and fault.model in (None, model)
            and seen[index] + 1 >= fault.at
            and (fault.times == "always" or seen[index] + 1 < fault.at + fault.times)
        ]
        unread = [index for index in due if isinstance(script[index], Reset) and script[index].when == "headers"]
        assert who == next(iter(unread or due), None)
        for index, fault in enumerate(script):
            known = (None,) if unread else (None, seq_id)
            if fault.route == route and fault.seq_id in known and fault.model in ((None,) if unread else (None, model)):
                seen[index] += 1
