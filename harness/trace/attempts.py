"""Which exchanges are the same request sent again, and which polls ask for its result.

A resend is what the server took for one, and what follows an attempt that had no effect: the same route, model and
seq_id, with the same body or the same idempotency key. Two requests that only share a seq_id stay two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.trace.model import Attempt
from mock_server.faults.script import Body, Cut, Fault, Garbage, MediaType, Refuse, Reset, Status, kind_of
from mock_server.record import Batch, Exchange

POLL = "retrieve_future"
KEY_HEADER = "x-idempotency-key"
ASKING = ("retry-after", "retry-after-ms", "x-should-retry")
DARK = "dark"
"""Stands among what an answer asks for: seconds for which connections were refused, so that attempts went unseen."""
GOOD = "200"
BROKEN = "broken"
EMPTY_BAD_REQUEST = "400 empty"

Identity = tuple[str, str, Any]


@dataclass(slots=True, eq=False)
class Sent:
    """One distinct request: its exchanges, in order of arrival, and the polls for its result."""

    exchanges: list[Exchange]
    polls: list[Exchange] = field(default_factory=list)

    @property
    def first(self) -> Exchange:
        """The first exchange whose body was read; the first one where none was."""
        return next((exchange for exchange in self.exchanges if exchange.body is not None), self.exchanges[0])

    @property
    def last(self) -> Exchange:
        """The exchange that nothing followed."""
        return self.exchanges[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """What is known of the server besides the exchanges: its fault script, and which requests it took.

    `effective` are the ordinals of exchanges whose operation took effect or failed.
    """

    faults: Sequence[Fault] = ()
    effective: Collection[int] = ()

    def fault(self, exchange: Exchange) -> Fault | None:
        """Return the instruction that hit an exchange."""
        return None if exchange.fault is None else self.faults[exchange.fault]

    def took(self, exchange: Exchange) -> bool:
        """Return whether a request took effect when it arrived."""
        match self.fault(exchange):
            case None:
                answered = exchange.status is not None and 200 <= exchange.status < 300
                return answered or exchange.ordinal in self.effective
            case Status(after_effect=after) | Reset(after_effect=after):
                return after
            case Refuse():
                return False
            case _:
                return True


def fold(exchanges: Iterable[Exchange], server: Server) -> list[Sent]:
    """Return the distinct requests among `exchanges`, which are in order of arrival and hold no background traffic."""
    found: list[Sent] = []
    by_ordinal: dict[int, Sent] = {}
    refused: dict[Identity, Sent] = {}
    by_request: dict[str, Sent] = {}
    for exchange in exchanges:
        if exchange.route == POLL:
            of = by_request.get(_text(exchange.body, "request_id"))
            # One that the client itself has left unanswered says nothing about the client's patience.
            if of is not None and (exchange.status is not None or exchange.fault is not None):
                of.polls.append(exchange)
            continue
        sent = by_ordinal.get(exchange.resend_of) if exchange.resend_of is not None else None
        identity = identity_of(exchange)
        if sent is None:
            earlier = refused.get(identity)
            if earlier is not None and _follows(exchange, earlier):
                sent = earlier
        if sent is None:
            sent = Sent([exchange])
            found.append(sent)
        else:
            sent.exchanges.append(exchange)
        by_ordinal[exchange.ordinal] = sent
        if server.took(exchange):
            refused.pop(identity, None)
        else:
            refused[identity] = sent
        request_id = _text(exchange.response, "request_id")
        if request_id:
            by_request[request_id] = sent
    return found


def identity_of(exchange: Exchange) -> Identity:
    """Return what tells requests apart besides their content: route, model, and seq_id or model_seq_id."""
    body = exchange.body if isinstance(exchange.body, Mapping) else {}
    seq = body.get("seq_id", body.get("model_seq_id"))
    return exchange.route, _text(body, "model_id"), seq if isinstance(seq, int) else None


def attempts_of(exchanges: Sequence[Exchange], server: Server) -> tuple[Attempt, ...]:
    """Return the attempts of a request or its polls; none where there is only one, which succeeded."""
    if (
        len(exchanges) == 1
        and exchanges[0].status == 200
        and answer_of(exchanges[0], server.fault(exchanges[0])) == GOOD
    ):
        return ()
    keys: dict[str, int] = {}
    first = Sent(list(exchanges)).first
    return tuple(
        Attempt(
            answer=answer_of(exchange, fault := server.fault(exchange)),
            key=keys.setdefault(exchange.headers.get(KEY_HEADER, ""), len(keys)),
            same=exchange.body is None or exchange is first or same_content(exchange, first),
            asks=asked_of(fault),
            took=server.took(exchange),
            at_ms=exchange.at_ms,
            answered_ms=exchange.at_ms if exchange.answered_ms is None else exchange.answered_ms,
        )
        for exchange in exchanges
    )


def answer_of(exchange: Exchange, fault: Fault | None) -> str:
    """Return what an exchange was answered, as `Attempt.answer` says it."""
    if not exchange.status or isinstance(fault, Cut):
        return BROKEN
    if isinstance(fault, Body | Garbage | MediaType):
        return f"{exchange.status} {kind_of(fault)}"
    if exchange.status == 400 and isinstance(fault, Status) and not fault.message:
        return EMPTY_BAD_REQUEST
    answer = exchange.response if isinstance(exchange.response, Mapping) else {}
    if exchange.route == POLL and exchange.status == 200:
        if answer.get("type") == "try_again":
            return "try_again"
        if answer.get("status") == "complete_metadata":
            return "metadata"
        if "error" in answer:
            return "failed"
    return str(exchange.status)


def asked_of(fault: Fault | None) -> dict[str, str]:
    """Return what an answer said about trying again: its headers, or how long nobody answered.

    A date is `date+3`: so many seconds from then.
    """
    if isinstance(fault, Refuse):
        return {DARK: f"{fault.seconds:g}"}
    if not isinstance(fault, Status):
        return {}
    told = {name.lower(): value for name, value in fault.headers.items() if name.lower() in ASKING}
    if fault.retry_after is not None:
        told["retry-after"] = str(fault.retry_after)
    if fault.retry_after_date is not None:
        told["retry-after"] = f"date+{fault.retry_after_date}"
    if fault.retry_after_ms is not None:
        told["retry-after-ms"] = str(fault.retry_after_ms)
    if fault.should_retry is not None:
        told["x-should-retry"] = "true" if fault.should_retry else "false"
    return told


def same_content(one: Exchange, other: Exchange) -> bool:
    """Return whether two requests carry the same body and the same data."""
    if one.body != other.body or (one.batch is None) != (other.batch is None):
        return False
    return one.batch is None or other.batch is None or _same_batch(one.batch, other.batch)


def _same_batch(one: Batch, other: Batch) -> bool:
    if len(one.datums) != len(other.datums):
        return False
    return all(
        np.array_equal(left.tokens, right.tokens)
        and left.inputs.keys() == right.inputs.keys()
        and all(
            np.array_equal(tensor.values, right.inputs[name].values, equal_nan=tensor.values.dtype.kind == "f")
            for name, tensor in left.inputs.items()
        )
        for left, right in zip(one.datums, other.datums, strict=True)
    )


def _follows(exchange: Exchange, earlier: Sent) -> bool:
    before = earlier.last
    if before.answered_ms is not None and exchange.at_ms < before.answered_ms:
        return False
    key = exchange.headers.get(KEY_HEADER)
    return (key is not None and key == before.headers.get(KEY_HEADER)) or same_content(exchange, earlier.first)


def _text(body: object, name: str) -> str:
    value = body.get(name) if isinstance(body, Mapping) else None
    return value if isinstance(value, str) else ""
