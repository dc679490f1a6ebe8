"""Connections of clients that mean harm: heads without end, and connections that are opened and left alone."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Collection
from typing import Any, ClassVar

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_FRAMING = 1 << 20
"""Bound on what a request has besides its body, in bytes: its head, the sizes of its chunks, its trailers."""

MAX_WAITING = 256
"""So many connections may have sent no head; beyond that the oldest of them is closed."""

MAX_IDLE = 2000
"""So many connections may be idle between requests; beyond that the one that is idle for longest is closed."""

MAX_QUEUED = 20_000
"""So many requests may wait for the answers to earlier ones of their connections, about 2.5 kB each; beyond that the
connection with most of them is closed. No SDK sends a request before the answer to the last one of its connection."""

_FILES = 8192
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


def make_room() -> None:
    """Allow this process as many open files as the bounds above need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class GuardedConnection(HttpToolsProtocol):
    """A connection that is closed when it sends too much head, or is one too many that does nothing.

    Each subclass counts its own connections: a server has one of its own.
    """

    waiting: ClassVar[dict[GuardedConnection, None]] = {}
    idle: ClassVar[dict[GuardedConnection, None]] = {}
    queued: ClassVar[dict[GuardedConnection, None]] = {}
    _framing = 0

    def __init_subclass__(cls) -> None:
        cls.waiting, cls.idle, cls.queued = {}, {}, {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for a head."""
        super().connection_made(transport)
        self.flow = _QueueFlow(transport, self.pipeline)
        self.waiting[self] = None
        _close_oldest(self.waiting, MAX_WAITING)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.waiting.pop(self, None)
        self.idle.pop(self, None)
        self.queued.pop(self, None)
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; answer 431 when too much of it is no body."""
        self._framing += len(data)
        super().data_received(data)
        if self._framing > MAX_FRAMING and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        if self.pipeline and not self.transport.is_closing():
            self.queued[self] = None
            if sum(len(connection.pipeline) for connection in self.queued) > MAX_QUEUED:
                most = max(self.queued, key=lambda connection: len(connection.pipeline))
                del self.queued[most]
                most.transport.abort()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._framing = 0
        self.idle.pop(self, None)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Serve the request."""
        self.waiting.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._framing -= len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Be idle, unless another request has come already."""
        super().on_response_complete()
        if not self.pipeline:
            self.queued.pop(self, None)
        if not self.pipeline and not self.transport.is_closing():
            self.idle[self] = None
            _close_oldest(self.idle, MAX_IDLE)


class _QueueFlow(FlowControl):
    """Reads on only when no request of the connection waits for the answer to an earlier one.

    uvicorn's reads on after each answer, and one read may hold thousands of small requests.
    """

    def __init__(self, transport: asyncio.Transport, queue: Collection[object]) -> None:
        super().__init__(transport)
        self._queue = queue

    def resume_reading(self) -> None:
        """Read on, if nothing waits."""
        if not self._queue:
            super().resume_reading()


def _close_oldest(connections: dict[GuardedConnection, Any], most: int) -> None:
    if len(connections) > most:
        oldest = next(iter(connections))
        del connections[oldest]
        oldest.transport.abort()
