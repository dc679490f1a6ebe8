"""Playing an instruction on the request it hits. Waiting is done by timers of the event loop, never by a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from msgspec.structs import replace
from starlette.types import Message, Receive, Send

from mock_server.faults.connection import Connection
from mock_server.faults.script import (
    Body,
    Cut,
    Delay,
    Failed,
    Fault,
    Garbage,
    MediaType,
    Pending,
    Refuse,
    Reset,
    Slow,
    Stall,
    Status,
    Withhold,
    kind_of,
)
from mock_server.futures import JSON, PROTOBUF, Failure
from mock_server.handlers.call import Call, Reply, reply
from mock_server.handlers.polling import DisconnectedError, pending
from mock_server.wire import json_codec, requests

BROKEN_JSON = b'{"broken": '
BROKEN_PROTOBUF = b"\x0a\xff\xff\xff\xff"
"""A length-delimited field whose length has no end."""

_STEP_SECONDS = 0.01

Handle = Callable[[], Awaitable[Reply]]


def needs_connection(fault: Fault) -> bool:
    """Tell whether an instruction can only be played on a real connection."""
    return isinstance(fault, Refuse | Reset | Cut | Stall | Slow)


def prevents_effect(fault: Fault) -> bool:
    """Tell whether a request that an instruction hits has no effect."""
    return isinstance(fault, Refuse) or (isinstance(fault, Status | Reset) and not fault.after_effect)


async def play(fault: Fault, call: Call, handle: Handle, connection: Connection | None) -> Reply:
    """Answer a request that an instruction hits.

    `handle` lets the request take effect and returns its ordinary answer. `connection` is there where the instruction
    needs one.
    """
    if needs_connection(fault):
        assert connection is not None
        return await _disturb(fault, handle, connection)
    match fault:
        case Status():
            if fault.after_effect:
                await handle()
            return _status(fault)
        case Delay():
            answer = await handle()
            await _pause(call, fault.seconds)
            return answer
        case MediaType():
            return replace(await handle(), media_type=fault.media_type)
        case Body():
            return replace(await handle(), payload=fault.text.encode(), summary=fault.text)
        case Garbage():
            answer = await handle()
            broken = BROKEN_PROTOBUF if answer.media_type == PROTOBUF else BROKEN_JSON
            return replace(answer, payload=broken, summary=broken.decode("latin-1"))
        case Pending():
            await _pause(call, fault.hold)
            extra = {} if fault.queue_state_reason is None else {"queue_state_reason": fault.queue_state_reason}
            return pending(_asked_for(call), fault.reply, fault.queue_state, extra)
        case Failed():
            call.tenant.delivered()
            return reply(failure(fault).summary())
        case Withhold():
            if await _until_delivered(call, fault):
                return await handle()
            return pending(_asked_for(call), "timeout", "active")
        case _:
            raise TypeError(f"{kind_of(fault)} is not played here")


async def _disturb(fault: Fault, handle: Handle, connection: Connection) -> Reply:
    match fault:
        case Refuse():
            connection.refuse(fault.seconds)
            return _lost()
        case Reset():
            if fault.after_effect:
                await handle()
            connection.reset()
            return _lost()
        case Cut() | Stall() | Slow():
            return replace(await handle(), leave=_Leave(fault, connection))
        case _:
            raise TypeError(f"{kind_of(fault)} needs no connection")


def failure(fault: Failed) -> Failure:
    """Return the failed result that an instruction asks for."""
    return Failure(fault.message, fault.category, fault.shape)


def _status(fault: Status) -> Reply:
    headers = dict(fault.headers)
    if fault.retry_after is not None:
        headers["retry-after"] = str(fault.retry_after)
    if fault.retry_after_date is not None:
        headers["retry-after"] = formatdate(time.time() + fault.retry_after_date, usegmt=True)
    if fault.retry_after_ms is not None:
        headers["retry-after-ms"] = str(fault.retry_after_ms)
    if fault.should_retry is not None:
        headers["x-should-retry"] = "true" if fault.should_retry else "false"
    body = {} if fault.message is None else {"detail": fault.message}
    payload = json_codec.encode(body) if body else b""
    return Reply(fault.status, payload, JSON if body else "", body, tuple(headers.items()))


def _lost() -> Reply:
    return Reply(0, b"", "", None, leave=_nothing)


async def _nothing(answer: Reply, send: Send, receive: Receive) -> None:  # noqa: ARG001  # as every way an answer leaves
    await _gone(receive)


class _Leave:
    """How a disturbed answer leaves: its head at once, its body as the instruction says."""

    def __init__(self, fault: Cut | Stall | Slow, connection: Connection) -> None:
        self._fault = fault
        self._connection = connection

    async def __call__(self, answer: Reply, send: Send, receive: Receive) -> None:
        fault, payload = self._fault, answer.payload
        await send(answer.head())
        if isinstance(fault, Slow):
            await self._trickle(payload, send, receive)
            return
        # before the last byte: what arrived whole would be no fault
        at = min(fault.after, max(len(payload) - 1, 0))
        if at:
            await send(_part(payload[:at]))
        if isinstance(fault, Stall):
            if not await _gone(receive, fault.seconds):
                await send(_part(payload[at:], more=False))
            return
        if fault.by == "reset":
            self._connection.reset()
        else:
            self._connection.close()
        await _gone(receive)

    async def _trickle(self, payload: bytes, send: Send, receive: Receive) -> None:
        assert isinstance(self._fault, Slow)
        pieces = self._fault.pieces
        size = max(1, -(-len(payload) // pieces))
        for start in range(0, size * pieces, size):
            if await _gone(receive, self._fault.seconds / pieces):
                return
            await send(_part(payload[start : start + size]))
        await send(_part(b"", more=False))


def _part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _gone(receive: Receive, seconds: float | None = None) -> bool:
    """Wait until the connection is gone, for `seconds` at most. Returns whether it is."""

    async def disconnect() -> None:
        message: Any = {}
        while message.get("type") != "http.disconnect":
            message = await receive()

    try:
        await asyncio.wait_for(disconnect(), seconds)
    except TimeoutError:
        return False
    return True


async def _pause(call: Call, seconds: float) -> None:
    """Wait that long. Raises DisconnectedError when the client hangs up meanwhile."""
    try:
        await asyncio.wait_for(call.gone(), seconds)
    except TimeoutError:
        return
    raise DisconnectedError


async def _until_delivered(call: Call, fault: Withhold) -> bool:
    """Hold a poll back until the result of another operation of the same model was delivered; whether it was."""
    tenant = call.tenant
    asked = tenant.futures.get(_asked_for(call))
    deadline = tenant.clock() + fault.seconds
    while tenant.clock() < deadline:
        with tenant.lock:
            if tenant.closed or any(
                future.delivered and future.seq_id == fault.until and asked and future.model_id == asked.model_id
                for future in tenant.futures.values()
            ):
                return True
        await _pause(call, _STEP_SECONDS)
    return False


def _asked_for(call: Call) -> str:
    return call.body(requests.RetrieveFuture).request_id
