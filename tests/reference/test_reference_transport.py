"""Retries and polls, against a server that answers what it is told."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import msgspec
import pytest

from harness.contracts.timeline import load_timeline
from harness.locations import locate
from harness.reference.errors import BadOutputError, CallError, HttpStatusError, RequestFailedError, TransportError
from harness.reference.rules import backs_off, fails
from harness.reference.transport import PollRules, Transport

TIMELINE = load_timeline(locate().timeline)
OLD, NEW = TIMELINE.point("tinker-0.14.0"), TIMELINE.point("tinker-0.38.0")
OK = (200, {"fine": True})
PATIENT = PollRules(NEW.polling, backs_off)
FIRST, SECOND = 0.4375, 0.875
"""The middles of what the SDK draws from: 0.375 to 0.5 and 0.75 to 1 second."""


def _run(answers, ask, contract=NEW):
    """Ask a transport whose requests meet these answers in order: (status, JSON or bytes, headers), None to hang up.

    Return the result or the CallError, what was seen (path, headers, body) and how long was waited. Time passes by
    waiting alone.
    """
    seen, waits, left = [], [], list(answers)

    def meet(request):
        seen.append((request.url.path, request.headers, json.loads(request.content)))
        answer = left.pop(0)
        if answer is None:
            raise httpx.ConnectError("hung up", request=request)
        status, content, *extra = answer
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"content-type": "application/json", **(extra[0] if extra else {})}
        return httpx.Response(status, content=raw, headers=headers)

    async def sleep(seconds):
        waits.append(seconds)

    async def scenario():
        carrier = httpx.MockTransport(meet)
        transport = Transport(
            *("http://server", "tml-key"),
            user_agent="test",
            retry=contract.retry,
            sleep=sleep,
            clock=lambda: sum(waits),
            carrier=carrier,
        )
        try:
            return await ask(transport)
        except CallError as error:
            return error
        finally:
            await transport.close()

    return asyncio.run(scenario()), seen, waits


def _submit(*answers, route="optim_step", contract=NEW):
    headers = {"content-type": "application/json"}
    return _run(answers, lambda transport: transport.submit("optim_step", b"{}", headers, route=route), contract)


def _retrieve(*answers, rules=PATIENT):
    async def ask(transport):
        response = await transport.retrieve(
            lambda allowed: json.dumps({"allowed": allowed}).encode(), {}, rules=rules, roundtrip=0.5
        )
        return response.json()

    return _run(answers, ask)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_submit_is_tried_again(status):
    """The same idempotency key and a counted retry after half a second, then one."""
    result, seen, waits = _submit((status, {}), (status, {}), OK)
    assert result == {"fine": True}
    assert waits == [FIRST, SECOND]
    assert [headers["x-stainless-retry-count"] for _, headers, _ in seen] == ["0", "1", "2"]
    assert len({headers["x-idempotency-key"] for _, headers, _ in seen}) == 1
    assert {path for path, _, _ in seen} == {"/api/v1/optim_step"}
    assert {headers["x-api-key"] for _, headers, _ in seen} == {"tml-key"}


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_other_statuses_end_a_submit(status):
    """They are the caller's to see, at once."""
    result, seen, _ = _submit((status, {"detail": "no"}))
    assert isinstance(result, HttpStatusError)
    assert result.status == status
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "60"}, 60.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "60.5"}, FIRST),
        ({"retry-after": "0"}, FIRST),
        ({"retry-after": "-1"}, FIRST),
        ({"retry-after": "nan"}, FIRST),
        ({"retry-after": "soon"}, FIRST),
        ({"retry-after-ms": "61000", "retry-after": "7"}, FIRST),
    ],
)
def test_retry_after_is_honoured_up_to_a_minute(asked, waited):
    """More than 0 and at most 60 seconds replace the delay; the first header that can be read counts."""
    assert _submit((429, {}, asked), OK)[2] == [waited]


def test_retry_after_can_be_a_date():
    """An HTTP date is the time until then."""
    then = datetime.now(UTC) + timedelta(seconds=30)
    (waited,) = _submit((503, {}, {"retry-after": format_datetime(then, usegmt=True)}), OK)[2]
    assert 20 < waited <= 30
    assert _submit((503, {}, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}), OK)[2] == [FIRST]


def test_x_should_retry_overrules_the_status():
    """True makes any status one that is tried again; false ends the attempts, not the rounds."""
    result, seen, _ = _submit((404, {}, {"x-should-retry": "true"}), OK)
    assert result == {"fine": True}
    assert len({headers["x-idempotency-key"] for _, headers, _ in seen}) == 1
    result, seen, waits = _submit((500, {}, {"x-should-retry": "false"}), OK)
    assert result == {"fine": True}
    assert waits == [1.0]
    assert len({headers["x-idempotency-key"] for _, headers, _ in seen}) == 2


def test_a_broken_connection_is_tried_again():
    """As an answer that says so would be."""
    result, seen, waits = _submit(None, OK)
    assert result == {"fine": True}
    assert len(seen) == 2
    assert waits == [FIRST]


def test_a_round_of_attempts_ends_after_ten_retries():
    """Eleven requests with delays up to ten seconds; the next round, a second later, has another key."""
    _, seen, waits = _submit(*[(500, {})] * 11, OK)
    assert waits[:10] == pytest.approx([0.875 * nominal for nominal in (0.5, 1, 2, 4, 8, *[10] * 5)])
    assert waits[10:] == [1.0]
    assert [headers["x-stainless-retry-count"] for _, headers, _ in seen] == [*map(str, range(11)), "0"]
    keys = [headers["x-idempotency-key"] for _, headers, _ in seen]
    assert len(set(keys[:11])) == 1
    assert keys[11] not in keys[:11]


def test_a_submit_gives_up_after_five_minutes():
    """Rounds begin again after 1, 2, 4 ... 30 seconds while less than 300 have passed since the first attempt."""
    for answer, error in (((500, {}), HttpStatusError), (None, TransportError)):
        result, seen, waits = _submit(*[answer] * 200)
        assert isinstance(result, error)
        assert 300 <= sum(waits) < 400
        assert len(seen) == 11 * (1 + sum(1 for wait in waits if wait in (1.0, 2.0, 4.0, 8.0)))


def test_a_session_is_not_created_again_by_rounds():
    """It gets one round of attempts."""
    result, seen, _ = _submit(*[(500, {})] * 11, route="create_session")
    assert isinstance(result, HttpStatusError)
    assert len(seen) == 11


def test_saves_are_sent_once_per_round():
    """In 0.38.0 only rounds try them again, each with its own key; in 0.14.0 they are as any other request."""
    _, seen, waits = _submit((500, {}), (500, {}), OK, route="save_weights")
    assert waits == [1.0, 2.0]
    assert len({headers["x-idempotency-key"] for _, headers, _ in seen}) == 3
    _, seen, waits = _submit((500, {}), OK, route="save_weights", contract=OLD)
    assert waits == [FIRST]


def test_an_empty_bad_request_counts_as_a_broken_connection():
    """In 0.38.0 it begins a new round after a second, with a budget; one with a message, and in 0.14.0, it is final."""
    empty = (400, b"")
    result, seen, waits = _submit(empty, OK)
    assert result == {"fine": True}
    assert waits == [1.0]
    assert len({headers["x-idempotency-key"] for _, headers, _ in seen}) == 2
    assert isinstance(_submit((400, {"detail": "no"}))[0], HttpStatusError)
    assert isinstance(_submit(empty, contract=OLD)[0], HttpStatusError)
    few = msgspec.structs.replace(NEW, retry=msgspec.structs.replace(NEW.retry, empty_bad_requests=2))
    result, seen, _ = _submit(*[empty] * 3, contract=few)
    assert isinstance(result, HttpStatusError)
    assert len(seen) == 3
    _, seen, waits = _retrieve(empty, empty, OK)
    assert waits == [1.0, 2.0]


def test_an_answer_that_is_no_json_object():
    """It cannot be used, and is no reason to ask again."""
    for content in (b"<html>", b"[1]"):
        assert isinstance(_submit((200, content))[0], BadOutputError)


def test_a_poll_asks_again_at_once():
    """408, 5xx, try_again and a 400 with budget only keep the pace; iterations count, the roundtrip is told once."""
    again = {"type": "try_again", "queue_state": "active"}
    result, seen, waits = _retrieve((408, {}), (500, {}), (200, again), (400, {"detail": "?"}), OK)
    assert result == {"fine": True}
    assert waits == pytest.approx([0.05] * 4)
    assert [headers["x-tinker-request-iteration"] for _, headers, _ in seen] == ["0", "1", "2", "3", "4"]
    roundtrips = [headers.get("x-tinker-create-promise-roundtrip-time") for _, headers, _ in seen]
    assert roundtrips == ["0.5", None, None, None, None]


def test_a_poll_after_metadata_wants_the_payload():
    """Only the requests after the metadata do not allow it again."""
    _, seen, _ = _retrieve((200, {"status": "complete_metadata"}), (408, {}), OK)
    assert [body["allowed"] for _, _, body in seen] == [True, False, False]


def test_bad_requests_have_a_budget():
    """Three retries and then the error, counted anew after a 408; none where the release has none."""
    bad = (400, {"detail": "?"})
    result, seen, _ = _retrieve(*[bad] * 4)
    assert isinstance(result, HttpStatusError)
    assert len(seen) == 4
    assert _retrieve(*[bad] * 3, (408, {}), *[bad] * 3, OK)[0] == {"fine": True}
    assert isinstance(_retrieve(*[bad] * 3, (500, {}), bad)[0], HttpStatusError)
    result, seen, _ = _retrieve(bad, rules=PollRules(OLD.polling, fails))
    assert isinstance(result, HttpStatusError)
    assert len(seen) == 1


def test_too_many_requests():
    """Waiting 1, 2, 4 seconds, or an error, as the release does."""
    assert _retrieve(*[(429, {})] * 3, OK)[2] == [1.0, 2.0, 4.0]
    assert isinstance(_retrieve((429, {}), rules=PollRules(OLD.polling, fails))[0], HttpStatusError)


def test_a_poll_survives_a_broken_connection():
    """It waits longer each time and goes on."""
    result, _, waits = _retrieve(None, None, OK)
    assert result == {"fine": True}
    assert waits == [1.0, 2.0]


def test_an_operation_that_failed():
    """The server's message reaches the caller."""
    result, _, _ = _retrieve((200, {"error": "bad input", "category": "user"}))
    assert isinstance(result, RequestFailedError)
    assert str(result) == "bad input"
    for status in (404, 410):
        assert isinstance(_retrieve((status, {}))[0], HttpStatusError)
