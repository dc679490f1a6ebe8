"""Listening addresses that can be closed for a while, and the HTTP protocol that knows which one a request came to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mock_server.connections import GuardedConnection
from mock_server.faults.connection import EXTENSION, Connection, reset

Listen = Callable[[socket.socket], Awaitable[asyncio.Server]]


class Door:
    """One address on loopback: open, dark (connections are refused) or closed for good. Used on the server's loop.

    `reserve` keeps the port bound while it is dark, so that nobody else gets it. `connections` are those of the whole
    server.
    """

    def __init__(
        self, address: tuple[str, int], *, listen: Listen, connections: Callable[[], Iterable[object]], reserve: bool
    ) -> None:
        self._reserved = bound(address, shared=True) if reserve else None
        self.address: tuple[str, int] = self._reserved.getsockname()[:2] if self._reserved else address
        self.dark = True
        self._listen = listen
        self._connections = connections
        self._listener: asyncio.Server | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Accept connections from now on."""
        listener = bound(self.address, shared=self._reserved is not None)
        listener.listen(256)
        try:
            self._listener = await self._listen(listener)
        except asyncio.CancelledError:  # it was closed, or went dark again, in the middle of this
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
            raise
        self.dark = False

    def adopt(self, listener: asyncio.Server) -> None:
        """Take over a listener of this address that is open already."""
        self._listener, self.dark = listener, False

    def go_dark(self, seconds: float) -> None:
        """Reset all connections and refuse new ones for that long."""
        self._end()
        if self._reopening is not None:
            self._reopening.cancel()
        self._reopening = asyncio.get_running_loop().create_task(self._reopen(seconds))

    def close(self) -> None:
        """Close for good."""
        self._closed = True
        if self._reopening is not None:
            self._reopening.cancel()
        self._end()
        if self._reserved is not None:
            self._reserved.close()

    async def _reopen(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not self._closed:
            await self.open()

    def _end(self) -> None:
        self.dark = True
        if self._listener is not None:
            self._listener.close()
        self._listener = None
        for connection in tuple(self._connections()):
            if isinstance(connection, HttpToolsProtocol) and connection.server == self.address:
                reset(connection.transport)


def bound(address: tuple[str, int], *, shared: bool = False) -> socket.socket:
    """Return a TCP socket bound to an address; `shared` lets several be bound to it. OSError when it is taken."""
    # asyncio turns Nagle's algorithm off for sockets that name TCP; with it, every answer takes 40 ms
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def protocol(doors: Mapping[int, Door]) -> type[HttpToolsProtocol]:
    """Return the HTTP protocol of one server, with a `Connection` in every scope. `doors` are by port."""

    class Connected(GuardedConnection):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            door = self._door()
            if door is not None and door.dark:
                # Accepted by the system just before its address was closed.
                reset(transport)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["extensions"] = {EXTENSION: Connection(self.transport, self._door())}  # type: ignore[dict-item]

        def _door(self) -> Door | None:
            return doors.get(self.server[1] or 0) if self.server else None

    return Connected
