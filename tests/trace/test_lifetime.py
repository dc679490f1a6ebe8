"""How long a session lived, and what was seen of it meanwhile and afterwards."""

from __future__ import annotations

from test_normalise import exchange, trace_of

from harness.golden.canonical import canonical
from harness.golden.document import from_document, to_document
from harness.trace.model import Beat

BODY = {"session_id": "s-4f1a"}
START = exchange(0, "create_session", {}, response={"session_id": "s-4f1a"})
FINISH = exchange(40, "session/finish", {})


def _beat(ordinal, **changes):
    return exchange(ordinal, "session_heartbeat", BODY, **changes)


def test_a_session_lives_until_it_is_closed():
    """From the answer to create_session to the arrival of its end; heartbeats have aliases, statuses and times."""
    trace = trace_of(START, _beat(20), _beat(30, status=410), FINISH)
    assert trace.lived == (5.0, 400.0)
    alias = {"session_id": "session-1"}
    assert trace.beats == (Beat(alias, 200, 200.0), Beat(alias, 410, 300.0))


def test_a_session_that_is_not_closed_lives_until_the_last_request():
    """Whatever that was."""
    assert trace_of(START, _beat(20), exchange(70, "retrieve_future", {})).lived == (5.0, 700.0)


def test_without_a_session_there_is_no_life():
    """A refused session is none."""
    refused = exchange(0, "create_session", {}, status=403)
    assert trace_of(refused, _beat(20)).lived is None
    assert trace_of().beats == ()


def test_what_comes_after_the_end_is_late():
    """Heartbeats and polls after the end are named, and are no heartbeats of the session; telemetry is nobody's."""
    trace = trace_of(
        START, FINISH, _beat(70), exchange(80, "retrieve_future", {}), exchange(90, "telemetry", {}), _beat(100)
    )
    assert trace.late == ("session_heartbeat", "retrieve_future", "session_heartbeat")
    assert trace.beats == ()


def test_what_was_on_its_way_at_the_end_is_not_late():
    """A quarter of a second after the answer to the end, nobody is blamed."""
    assert trace_of(START, FINISH, exchange(60, "retrieve_future", {})).late == ()


def test_golden_keeps_one_heartbeat_of_each_kind_and_no_time():
    """How many there were depends on the machine; body and status come back from the document."""
    golden = canonical(trace_of(START, _beat(20), _beat(30), _beat(35, status=500), FINISH))
    alias = {"session_id": "session-1"}
    assert golden.beats == (Beat(alias, 200), Beat(alias, 500))
    assert golden.lived is None
    again = from_document(to_document(golden), contract="tinker-0.38.0")
    assert again.beats == golden.beats
