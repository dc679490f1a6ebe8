"""Retries and polls, against a server that answers what it is told."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from harness.reference.errors import BadOutputError, CallError, HttpStatusError, RequestFailedError, TransportError
from harness.reference.rules import backs_off, fails
from harness.reference.transport import PollRules, Transport

OK = (200, {"fine": True})
PATIENT = PollRules(bad_request_retries=3, rate_limit_delay=backs_off)


def _run(answers, ask):
    """Ask a transport whose requests meet these answers in order: (status, JSON or bytes, headers), None to hang up.

    Return the result or the CallError, what was seen (path, headers, body) and how long was waited.
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
        transport = Transport("http://server", "tml-key", user_agent="test", sleep=sleep, carrier=carrier)
        try:
            return await ask(transport)
        except CallError as error:
            return error
        finally:
            await transport.close()

    return asyncio.run(scenario()), seen, waits


def _submit(*answers):
    return _run(answers, lambda transport: transport.submit("optim_step", b"{}", {"content-type": "application/json"}))


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
    assert waits == [0.5, 1.0]
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


def test_retry_after_is_honoured_up_to_a_minute():
    """A number of seconds in (0, 60] replaces the delay; anything else does not."""
    answers = [(429, {}, {"retry-after": value}) for value in ("7", "61", "soon", "0")]
    assert _submit(*answers, OK)[2] == [7.0, 1.0, 2.0, 4.0]


def test_a_broken_connection_is_tried_again():
    """As an answer that says so would be."""
    result, seen, waits = _submit(None, OK)
    assert result == {"fine": True}
    assert len(seen) == 2
    assert waits == [0.5]


def test_a_submit_gives_up_after_ten_retries():
    """Eleven requests, delays up to ten seconds."""
    result, seen, waits = _submit(*[(500, {})] * 11)
    assert isinstance(result, HttpStatusError)
    assert len(seen) == 11
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, *[10.0] * 5]
    assert isinstance(_submit(*[None] * 11)[0], TransportError)


def test_an_answer_that_is_no_json_object():
    """It cannot be used, and is no reason to ask again."""
    for content in (b"<html>", b"[1]"):
        assert isinstance(_submit((200, content))[0], BadOutputError)


def test_a_poll_asks_again_at_once():
    """408, 5xx, try_again and a 400 with budget cost no time; iterations count, the roundtrip is told once."""
    again = {"type": "try_again", "queue_state": "active"}
    result, seen, waits = _retrieve((408, {}), (500, {}), (200, again), (400, {}), OK)
    assert result == {"fine": True}
    assert waits == []
    assert [headers["x-tinker-request-iteration"] for _, headers, _ in seen] == ["0", "1", "2", "3", "4"]
    roundtrips = [headers.get("x-tinker-create-promise-roundtrip-time") for _, headers, _ in seen]
    assert roundtrips == ["0.5", None, None, None, None]


def test_a_poll_after_metadata_wants_the_payload():
    """Only the requests after the metadata do not allow it again."""
    _, seen, _ = _retrieve((200, {"status": "complete_metadata"}), (408, {}), OK)
    assert [body["allowed"] for _, _, body in seen] == [True, False, False]


def test_bad_requests_have_a_budget():
    """Three retries and then the error; none where the release has none."""
    result, seen, _ = _retrieve(*[(400, {})] * 4)
    assert isinstance(result, HttpStatusError)
    assert len(seen) == 4
    result, seen, _ = _retrieve((400, {}), rules=PollRules(0, fails))
    assert isinstance(result, HttpStatusError)
    assert len(seen) == 1


def test_too_many_requests():
    """Waiting 1, 2, 4 seconds, or an error, as the release does."""
    assert _retrieve(*[(429, {})] * 3, OK)[2] == [1.0, 2.0, 4.0]
    assert isinstance(_retrieve((429, {}), rules=PollRules(3, fails))[0], HttpStatusError)


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
