"""Which exchanges are one request sent again, what each was answered, and which polls belong to it."""

from __future__ import annotations

import numpy as np
import pytest
from test_normalise import exchange

from harness.trace.normalise import make_trace
from mock_server.faults.script import Body, Cut, Failed, Garbage, MediaType, Pending, Refuse, Reset, Status
from mock_server.record import Batch, Datum, Record

STEP = {"model_id": "m-77", "seq_id": 1}
OTHER = {**STEP, "adam_params": {}}


def _trace(*exchanges, faults=()):
    return make_trace("a/b", "d" * 64, "tinker-0.38.0", Record(exchanges), (), faults=faults)


def _answers(attempts):
    return [attempt.answer for attempt in attempts]


def _key(name):
    return {"x-idempotency-key": name}


def test_a_request_that_succeeds_at_once_has_no_attempts():
    """Nothing is kept where there is nothing to say."""
    (request,) = _trace(exchange(0, "optim_step", STEP)).requests
    assert (request.sends, request.attempts, request.polls) == (1, (), ())


def test_attempts_are_one_request():
    """What follows a refusal with the same body is the next attempt; keys are numbered, times are the record's."""
    trace = _trace(
        exchange(0, "optim_step", STEP, status=503, headers=_key("a")),
        exchange(1, "optim_step", STEP, status=503, headers=_key("a")),
        exchange(2, "optim_step", STEP, headers=_key("b")),
    )
    (request,) = trace.requests
    assert (request.sends, request.status) == (3, 200)
    assert _answers(request.attempts) == ["503", "503", "200"]
    assert [attempt.key for attempt in request.attempts] == [0, 0, 1]
    assert [attempt.took for attempt in request.attempts] == [False, False, True]
    assert [(a.at_ms, a.answered_ms) for a in request.attempts] == [(0.0, 5.0), (10.0, 15.0), (20.0, 25.0)]


def test_a_changed_body_is_an_attempt_under_the_same_key_only():
    """Under another key, another body is another request, which carries the same seq_id."""
    refused = exchange(0, "optim_step", STEP, status=503, headers=_key("a"))
    (one,) = _trace(refused, exchange(1, "optim_step", OTHER, headers=_key("a"))).requests
    assert [attempt.same for attempt in one.attempts] == [True, False]
    two = _trace(refused, exchange(1, "optim_step", OTHER, headers=_key("b"))).requests
    assert [request.seq_id for request in two] == [1, 1]


def test_changed_data_is_a_changed_body():
    """Data is compared number by number."""

    def batch(token):
        return Batch((Datum(np.array([token], dtype=np.int64), {}),), {})

    body = {"model_id": "m-77", "seq_id": 1, "loss_fn": "cross_entropy"}
    sent = [
        exchange(0, "forward_backward", body, status=500, batch=batch(1)),
        exchange(1, "forward_backward", body, status=500, batch=batch(1)),
        exchange(2, "forward_backward", body, batch=batch(2)),
    ]
    assert [attempt.same for attempt in _trace(*sent).requests[0].attempts] == [True, True, False]


def test_what_succeeded_is_not_sent_again():
    """The same body under the same id after a success is a request of its own, unless the server says otherwise."""
    assert len(_trace(exchange(0, "optim_step", STEP), exchange(1, "optim_step", STEP)).requests) == 2
    assert len(_trace(exchange(0, "optim_step", STEP), exchange(1, "optim_step", STEP, resend_of=0)).requests) == 1


def test_a_request_that_overtakes_the_answer_is_another_one():
    """An attempt follows the answer to the one before."""
    sent = [exchange(0, "optim_step", STEP, status=503, answered_ms=50.0), exchange(1, "optim_step", STEP)]
    assert len(_trace(*sent).requests) == 2


def test_control_requests_have_attempts():
    """create_model is known by model_seq_id, create_session by its key or body."""
    made = {"session_id": "s-4f1a", "model_seq_id": 0}
    trace = _trace(
        exchange(0, "create_session", {"tags": []}, status=500),
        exchange(1, "create_session", {"tags": []}),
        exchange(2, "create_model", made, status=429),
        exchange(3, "create_model", {**made, "model_seq_id": 1}),
        exchange(4, "create_model", made),
    )
    assert [_answers(request.attempts) for request in trace.control] == [["500", "200"], ["429", "200"], []]


def test_the_turn_of_a_request_ends_with_its_last_attempt():
    """What is sent between two attempts was not sent after the request's answer."""
    trace = _trace(
        exchange(0, "optim_step", STEP, status=503),
        exchange(1, "save_weights", {"model_id": "m-77", "seq_id": 2}),
        exchange(2, "optim_step", STEP),
        exchange(3, "save_weights", {"model_id": "m-77", "seq_id": 3}),
    )
    assert [request.sent_after for request in trace.requests] == [0, 0, 2]


@pytest.mark.parametrize(
    ("fault", "status", "answer", "took"),
    [
        (Status(route="optim_step", status=503, message="no"), 503, "503", False),
        (Status(route="optim_step", status=503, after_effect=True), 503, "503", True),
        (Status(route="optim_step", status=400, message="no"), 400, "400", False),
        (Status(route="optim_step", status=400), 400, "400 empty", False),
        (Reset(route="optim_step"), None, "broken", False),
        (Reset(route="optim_step", after_effect=True), None, "broken", True),
        (Refuse(route="optim_step", seconds=1), 0, "broken", False),
        (Cut(route="optim_step"), 200, "broken", True),
        (Garbage(route="optim_step"), 200, "200 garbage", True),
        (Body(route="optim_step"), 200, "200 body", True),
        (MediaType(route="optim_step"), 200, "200 media_type", True),
        (Failed(route="optim_step"), 200, "200", True),
    ],
)
def test_what_an_instruction_makes_of_an_attempt(fault, status, answer, took):
    """An answer is what reached the client; an effect is the server's."""
    sent = [exchange(0, "optim_step", STEP, status=status, fault=0), exchange(1, "optim_step", STEP, resend_of=0)]
    first = _trace(*sent, faults=(fault,)).requests[0].attempts[0]
    assert (first.answer, first.took) == (answer, took)


def test_what_an_answer_asks_for():
    """Retry-After in its spellings, a date as seconds from then, and x-should-retry."""
    told = {"retry_after_ms": 250, "should_retry": False, "headers": {"x-other": "1"}}
    faults = (
        Status(route="optim_step", status=429, retry_after_date=3),
        Status(route="optim_step", status=429, retry_after=0.5, **told),
    )
    trace = _trace(
        exchange(0, "optim_step", STEP, status=429, fault=0),
        exchange(1, "optim_step", STEP, status=429, fault=1),
        exchange(2, "optim_step", STEP),
        faults=faults,
    )
    assert [dict(attempt.asks) for attempt in trace.requests[0].attempts] == [
        {"retry-after": "date+3"},
        {"retry-after": "0.5", "retry-after-ms": "250", "x-should-retry": "false"},
        {},
    ]


def test_a_refused_connection_hides_what_follows():
    """For how long it was refused is kept: attempts meanwhile are in no record."""
    sent = [exchange(0, "optim_step", STEP, status=None, fault=0), exchange(1, "optim_step", STEP, resend_of=0)]
    (request,) = _trace(*sent, faults=(Refuse(route="optim_step", seconds=1.5),)).requests
    assert [dict(attempt.asks) for attempt in request.attempts] == [{"dark": "1.5"}, {}]


def test_polls_belong_to_their_operation():
    """By the request_id the submit was answered with; one that nobody answered does not count."""
    faults = (Pending(route="retrieve_future"), Reset(route="retrieve_future"))
    poll = {"request_id": "req-1"}
    trace = _trace(
        exchange(0, "optim_step", STEP, response={"request_id": "req-1"}),
        exchange(1, "retrieve_future", poll, response={"type": "try_again"}, fault=0),
        exchange(2, "retrieve_future", {"request_id": "req-2"}, status=404),
        exchange(3, "retrieve_future", poll, response={"status": "complete_metadata"}),
        exchange(4, "retrieve_future", poll, status=None, answered_ms=None, fault=1),
        exchange(5, "retrieve_future", poll, response={"status": "failed", "error": "no"}),
        exchange(6, "retrieve_future", poll, status=None, answered_ms=None),
        faults=faults,
    )
    (request,) = trace.requests
    assert _answers(request.polls) == ["try_again", "metadata", "broken", "failed"]


def test_a_body_that_was_not_read_is_known_by_its_key():
    """The server takes the next one for its resend; the request is what that one carries."""
    trace = _trace(
        exchange(0, "optim_step", None, status=None, fault=0),
        exchange(1, "optim_step", STEP, resend_of=0),
        faults=(Reset(route="optim_step", when="headers"),),
    )
    (request,) = trace.requests
    assert (request.model, request.seq_id, request.sends) == ("m-77", 1, 2)
    assert [(attempt.answer, attempt.same) for attempt in request.attempts] == [("broken", True), ("200", True)]
