"""How long a session lived, the heartbeats that kept it alive, and what came after its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.trace.model import Beat
from mock_server.record import Exchange

HEARTBEAT = "session_heartbeat"
END = ("unload_model", "session/finish")
_CREATED = "create_session"
_ON_THE_WAY_MS = 250.0
"""What was sent while the answer to the end was read is no sign of life."""

_UNJUDGED = frozenset({"telemetry", "?"})


@dataclass(frozen=True, slots=True)
class Lifetime:
    """`Trace.beats`, `Trace.lived` and `Trace.late`."""

    beats: tuple[Beat, ...] = ()
    lived: tuple[float, float] | None = None
    late: tuple[str, ...] = ()


def lifetime(exchanges: Sequence[Exchange], renamed: Callable[[Any], Any]) -> Lifetime:
    """Return what there is to say of the first session. `renamed` puts aliases for the ids in a body."""
    ordered = sorted(exchanges, key=lambda exchange: exchange.ordinal)
    created = next((e for e in ordered if e.route == _CREATED and e.status == 200 and e.answered_ms is not None), None)
    if created is None or created.answered_ms is None:
        return Lifetime()
    closed = next((exchange for exchange in ordered if exchange.route in END), None)
    answered = None if closed is None else closed.answered_ms
    until = ordered[-1].at_ms if closed is None else closed.at_ms
    return Lifetime(
        beats=tuple(
            Beat(renamed(e.body) if isinstance(e.body, Mapping) else e.body, e.status, e.at_ms)
            for e in ordered
            if e.route == HEARTBEAT and e.at_ms <= until
        ),
        lived=(created.answered_ms, until),
        late=tuple(
            e.route
            for e in ordered
            if answered is not None
            and e.at_ms > answered + _ON_THE_WAY_MS
            and e.route not in _UNJUDGED
            and e.route not in END
        ),
    )
