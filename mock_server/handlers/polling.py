"""retrieve_future: long polls, so that no client has to spin."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mock_server.futures import Failure, Future, Outcome
from mock_server.handlers.call import Call, RefusalError, Reply, reply
from mock_server.wire import requests

BRIEF_HOLD_SECONDS = 0.05
"""How long a poll is held that the script wants answered without a result: the clients ask again at once."""


class DisconnectedError(Exception):
    """The client hung up while its poll was held."""


async def retrieve_future(call: Call) -> Reply:
    """Answer a future's outcome, holding the poll until there is one, for `Tenant.hold_seconds` at most.

    The only handler that waits, so it takes the tenant's lock itself, piece by piece.
    """
    body = call.body(requests.RetrieveFuture)
    tenant, polls = call.tenant, call.tenant.script.polls
    with tenant.lock:
        future = tenant.futures.get(body.request_id)
        if future is None:
            raise RefusalError(404, f"there is no request {body.request_id!r}")
        future.polls += 1
        brief = future.polls <= polls.pending
    if brief:
        await asyncio.sleep(BRIEF_HOLD_SECONDS)
        return pending(future.request_id, polls.reply, polls.queue_state)
    outcome = await _outcome(call, future)
    if outcome is None:
        return pending(future.request_id, "try_again", polls.queue_state)
    tenant.delivered()
    future.delivered = True
    payload, media_type = outcome.encode(call.entry.headers.get("accept", ""))
    if polls.metadata_only and body.allow_metadata_only and not isinstance(outcome, Failure):
        return reply(
            {"status": "complete_metadata", "request_id": future.request_id, "response_payload_size": len(payload)}
        )
    return Reply(200, payload, media_type, outcome.summary())


async def _outcome(call: Call, future: Future) -> Outcome | None:
    """Wait for the outcome; None when the poll was held long enough.

    A held poll is also what notices a gap: an operation without an outcome waits for a lower seq_id, and when the
    tenant has been quiet for long enough, that one is not going to come.
    """
    if future.outcome is not None:
        return future.outcome
    tenant = call.tenant
    deadline = tenant.clock() + tenant.hold_seconds
    with tenant.lock:
        waiter = future.waiter()
    gone = asyncio.ensure_future(call.gone())
    try:
        while future.outcome is None:
            if future.abandoned:
                raise RefusalError(410, "the tenant was closed")
            with tenant.lock:
                quiet = tenant.quiet_left()
                if quiet <= 0 and future.model_id is not None and tenant.declare_gap(future.model_id):
                    continue
            left = deadline - tenant.clock()
            if left <= 0:
                return None
            left = min(left, quiet) if quiet > 0 else left
            await asyncio.wait({waiter, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise DisconnectedError
        return future.outcome
    finally:
        gone.cancel()
        waiter.cancel()


def pending(request_id: str, kind: str, state: str, extra: Mapping[str, Any] = MappingProxyType({})) -> Reply:
    """Answer that there is no result yet: `try_again`, or `timeout` (408)."""
    body: dict[str, Any] = {"request_id": request_id, "queue_state": state, **extra}
    if kind == "timeout":
        return reply({"detail": "the result is not ready yet", **body}, status=408)
    return reply({"type": "try_again", **body})
