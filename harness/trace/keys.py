"""Idempotency keys that more than one request carries.

The attempts of one request share a key, or begin anew with another. A poll is a request of its own; one that repeats
the poll before it, which was not answered with success, may have that one's key. Requests without a key are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.trace.attempts import KEY_HEADER, Sent
from harness.trace.model import SharedKey
from mock_server.record import Exchange


def shared_keys(requests: Iterable[Sent]) -> tuple[SharedKey, ...]:
    """Return the keys that several requests or polls carry, by first use."""
    uses: dict[str, list[tuple[int, str]]] = {}
    for sent in requests:
        name = _name(sent.first)
        for key, ordinal in _first_uses(sent.exchanges):
            uses.setdefault(key, []).append((ordinal, name))
        for key, ordinal in _polls(sent.polls):
            uses.setdefault(key, []).append((ordinal, f"a poll for {name}"))
    found = []
    for places in uses.values():
        if len(places) > 1:
            (ordinal, first), (_, again) = sorted(places)[:2]
            found.append((ordinal, SharedKey(first, again, len(places))))
    return tuple(shared for _, shared in sorted(found, key=lambda entry: entry[0]))


def _first_uses(exchanges: Iterable[Exchange]) -> Iterable[tuple[str, int]]:
    """Return each key of the attempts of one request, with the ordinal of the first that carries it."""
    seen: dict[str, int] = {}
    for exchange in exchanges:
        if key := exchange.headers.get(KEY_HEADER, ""):
            seen.setdefault(key, exchange.ordinal)
    return seen.items()


def _polls(polls: Sequence[Exchange]) -> Iterable[tuple[str, int]]:
    """Return the key of each poll that is no repetition of the one before, and its ordinal."""
    before: Exchange | None = None
    for poll in polls:
        key = poll.headers.get(KEY_HEADER, "")
        repeats = before is not None and before.status != 200 and before.headers.get(KEY_HEADER, "") == key
        if key and not repeats:
            yield key, poll.ordinal
        before = poll


def _name(exchange: Exchange) -> str:
    seq = exchange.body.get("seq_id") if isinstance(exchange.body, Mapping) else None
    return exchange.route if seq is None else f"{exchange.route} seq {seq}"
