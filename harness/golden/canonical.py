"""What a golden trace keeps: nothing that another equal run would have otherwise.

Ids, versions and ports are already aliases and placeholders (`harness.trace.normalise`). Here times go: the order of
arrival becomes one that no race decides, messages and stacks are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import msgspec

from harness.trace.model import Beat, Request, Trace

_AT_THE_END = frozenset({"session/finish", "unload_model"})


def canonical(trace: Trace) -> Trace:
    """Return the trace as golden.

    Models come one after the other, requests by id. Where a pass's first chunk arrived last, the chunks 2..n were sent
    together, in an order that differs from run to run: they arrive by id, when everything before the pass was
    answered, and chunk 1 when they were. What takes turns with nothing (get_info) comes after the requests that do.
    """
    control = sorted(trace.control, key=lambda r: r.arrival)
    head = [r for r in control if r.route not in _AT_THE_END]
    tail = [r for r in control if r.route in _AT_THE_END]
    rank = 0
    start: list[Request] = []
    for number, request in enumerate(head):
        start.append(replace(request, arrival=rank, sent_after=number))
        rank += 1
    requests: list[Request] = []
    for _, group in groupby(trace.requests, key=lambda r: r.model):
        placed = _model(list(group), rank)
        requests.extend(placed)
        rank += len(placed)
    end = [
        replace(request, arrival=rank + number, sent_after=len(head) + number) for number, request in enumerate(tail)
    ]
    return replace(
        trace,
        control=tuple(map(_timeless, start + end)),
        requests=tuple(map(_timeless, requests)),
        steps=tuple(msgspec.structs.replace(step, message="", stacks="") for step in trace.steps),
        # Steps of different models take effect in any order, those of one in one.
        training=tuple(sorted(trace.training, key=lambda state: state.model)),
        beats=_distinct(trace.beats),
        lived=None,
    )


def _distinct(beats: Sequence[Beat]) -> tuple[Beat, ...]:
    """Return one heartbeat of each kind: how many there were is a matter of time."""
    kept: list[Beat] = []
    for beat in beats:
        if all((beat.body, beat.status) != (other.body, other.status) for other in kept):
            kept.append(Beat(beat.body, beat.status))
    return tuple(kept)


def _model(requests: list[Request], rank: int) -> list[Request]:
    """Give the requests of one model, in canonical order, their arrival and what they were sent after."""
    placed: list[Request] = []
    answered = 0
    turns = [r for r in requests if r.seq_id is not None]
    for _, group in groupby(turns, key=lambda r: (r.effect, r.call, r.phase, "" if r.batch else r.seq_id)):
        members = list(group)
        first, rest = members[0], members[1:]
        if rest and first.arrival > max(request.arrival for request in rest):
            last = answered + len(rest)
            placed.append(replace(first, arrival=rank + last, sent_after=last))
            placed.extend(
                replace(request, arrival=rank + answered + number, sent_after=answered)
                for number, request in enumerate(rest)
            )
        else:
            placed.extend(
                replace(request, arrival=rank + answered + number, sent_after=answered + number)
                for number, request in enumerate(members)
            )
        answered += len(members)
    others = [r for r in requests if r.seq_id is None]
    placed.extend(
        replace(request, arrival=rank + answered + number, sent_after=number) for number, request in enumerate(others)
    )
    return placed


def _timeless(request: Request) -> Request:
    """Leave out when attempts were made, and the header in which a client names itself.

    Nobody has to be called like the reference. Whether the poll that brings the result is made before the run ends
    depends on who waits for it, so that it is not kept.
    """
    polls = list(request.polls)
    while polls and polls[-1].answer == "200":
        polls.pop()
    return replace(
        request,
        headers={name: value for name, value in request.headers.items() if name != "user-agent"},
        attempts=tuple(replace(attempt, at_ms=-1.0, answered_ms=-1.0) for attempt in request.attempts),
        polls=tuple(replace(poll, key=0, same=True, took=False, at_ms=-1.0, answered_ms=-1.0) for poll in polls),
    )
