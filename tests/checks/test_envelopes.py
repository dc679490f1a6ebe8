"""The envelopes of delays: what the contract says after each answer, and that the reference keeps to it."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import contract

from harness.checks.envelopes import Envelope, of_attempts, of_polls, too_many
from harness.reference.errors import CallError
from harness.reference.rules import TOO_MANY_REQUESTS
from harness.reference.transport import PollRules, Transport
from harness.trace.model import Attempt

NEW, OLD = contract("0.38.0"), contract("0.14.0")


def _attempts(*answers, **asks):
    """Return these attempts and the one that follows them; every answer asks for the same."""
    headers = {name.replace("_", "-"): value for name, value in asks.items()}
    return [*(Attempt(answer, asks=headers) for answer in answers), Attempt("200")]


def _sides(envelopes):
    return [(envelope.least, envelope.most) for envelope in envelopes]


def test_delays_double_up_to_the_longest():
    """Less up to a quarter; ten retries, and then a round begins after a second, two, four."""
    delays = _sides(of_attempts(NEW.retry, "optim_step", _attempts(*["503"] * 12)))
    assert delays[:3] == [(0.375, 0.5), (0.75, 1.0), (1.5, 2.0)]
    assert delays[5:10] == [(7.5, 10.0)] * 5
    assert delays[10:] == [(1.0, 1.0), (0.375, 0.5)]


@pytest.mark.parametrize(
    ("asks", "sides"),
    [
        ({"retry_after": "7"}, (7.0, 7.0)),
        ({"retry_after_ms": "250", "retry_after": "7"}, (0.25, 0.25)),
        ({"retry_after": "date+3"}, (2.0, 3.0)),
        ({"retry_after": "61"}, (0.375, 0.5)),
        ({"retry_after": "0"}, (0.375, 0.5)),
        ({"retry_after": "soon"}, (0.375, 0.5)),
        ({"x_should_retry": "false"}, (1.0, 1.0)),
        ({"x_should_retry": "true"}, (0.375, 0.5)),
    ],
)
def test_what_an_answer_asks_for(asks, sides):
    """A usable Retry-After replaces the delay, x-should-retry the status: what it forbids is left to the next round."""
    assert _sides(of_attempts(NEW.retry, "optim_step", _attempts("503", **asks))) == [sides]


def test_routes_with_one_attempt_have_rounds_only():
    """Saves of 0.38.0; in 0.14.0 they are as any other request."""
    made = _attempts("503", "503", "503")
    assert _sides(of_attempts(NEW.retry, "save_weights", made)) == [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0)]
    assert _sides(of_attempts(OLD.retry, "save_weights", made)) == [(0.375, 0.5), (0.75, 1.0), (1.5, 2.0)]


def test_polls_wait_after_a_broken_connection_and_a_429():
    """Longer each time, from the beginning after any other answer; a 400 without a body is one where it counts so."""
    polls = _attempts("broken", "429", "try_again", "400 empty", "408")
    now = (0.0, NEW.polling.again_within)
    assert _sides(of_polls(NEW.polling, polls, empty_is_broken=True)) == [(1, 1), (2, 2), now, (1, 1), now]
    assert _sides(of_polls(OLD.polling, polls, empty_is_broken=False))[3] == now


def test_attempts_that_nobody_saw_are_waited_for():
    """While connections are refused attempts go unseen; the next one seen may come after several delays."""
    made = [Attempt("broken", asks={"dark": "1.5"}), Attempt("200")]
    assert _sides(of_attempts(NEW.retry, "optim_step", made)) == [(0.375, 3.5)]
    assert _sides(of_polls(NEW.polling, made, empty_is_broken=True)) == [(1.0, 3.0)]


def test_an_envelope_is_wider_above_than_below():
    """A delay can be late by half and two seconds, early by a tenth and 20 ms."""
    envelope = Envelope(0.375, 0.5)
    assert [envelope.holds(seconds) for seconds in (0.31, 0.32, 0.5, 2.7, 2.8)] == [False, True, True, True, False]


def test_polls_are_counted_in_every_second():
    """The worst second counts, wherever it begins."""
    most = NEW.polling.most_per_second
    slow = [Attempt("408", at_ms=100.0 * n) for n in range(100)]
    burst = [Attempt("408", at_ms=4000.0 + n) for n in range(most)]
    assert too_many(NEW.polling, slow) == 0
    assert too_many(NEW.polling, [*slow[:41], *burst]) == most + 10
    assert too_many(NEW.polling, burst) == 0


ANSWERS = st.sampled_from(["408", "409", "429", "500", "503", "broken"])
ASKED = st.sampled_from([{}, {"retry-after": "3"}, {"retry-after-ms": "1500"}, {"x-should-retry": "false"}])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(ANSWERS, ASKED), max_size=16), st.sampled_from(["optim_step", "save_weights"]))
def test_the_reference_stays_inside(answers, route):
    """Whatever a submit is answered, the reference's waits are within the envelopes computed from the answers."""
    told = [(answer, {} if answer == "broken" else asks) for answer, asks in answers]
    waits = asyncio.run(_submit(told, route))
    made = [*(Attempt(answer, asks=asks) for answer, asks in told), Attempt("200")]
    envelopes = list(of_attempts(NEW.retry, route, made))
    assert len(waits) == len(envelopes)
    assert all(e.least <= wait <= e.most for e, wait in zip(envelopes, waits, strict=True)), (envelopes, waits)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["408", "429", "503", "broken"]), max_size=12))
def test_the_references_polls_stay_inside(answers):
    """Whatever a poll is answered, the reference's waits are within the envelopes."""
    waits = asyncio.run(_poll(answers))
    made = [*map(Attempt, answers), Attempt("200")]
    envelopes = list(of_polls(NEW.polling, made, empty_is_broken=True))
    assert len(waits) == len(envelopes)
    assert all(e.least <= wait <= e.most for e, wait in zip(envelopes, waits, strict=True)), (envelopes, waits)


def _transport(answers, waits, *, clock=lambda: 0.0):
    left = [*answers, ("200", {})]

    def meet(request):
        answer, headers = left.pop(0)
        waits.append(0.0)
        if answer == "broken":
            raise httpx.ConnectError("hung up", request=request)
        return httpx.Response(int(answer), json={}, headers=headers)

    async def sleep(seconds):
        waits[-1] += seconds

    return Transport(
        *("http://server", "tml-key"),
        user_agent="test",
        retry=NEW.retry,
        sleep=sleep,
        clock=clock,
        carrier=httpx.MockTransport(meet),
    )


async def _submit(answers, route):
    """Return how long was waited after each answer, the last one excepted."""
    waits = []
    transport = _transport(answers, waits)
    try:
        await transport.submit(route, b"{}", {})
    except CallError as error:
        raise AssertionError(error) from error
    finally:
        await transport.close()
    return waits[:-1]


async def _poll(answers):
    waits = []
    transport = _transport([(answer, {}) for answer in answers], waits, clock=lambda: sum(waits))
    rules = PollRules(NEW.polling, TOO_MANY_REQUESTS[NEW.polling.too_many_requests])
    try:
        await transport.retrieve(lambda _: b"{}", {}, rules=rules, roundtrip=0.0)
    finally:
        await transport.close()
    return waits[:-1]
