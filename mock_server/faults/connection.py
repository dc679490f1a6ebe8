"""What a fault does to a real connection: resets it, closes it early, makes its address refuse others.

The server puts a `Connection` into each request's ASGI scope; the in-process adapters have none.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from typing import Any, Protocol

EXTENSION = "parity.connection"

_NO_LINGER = struct.pack("ii", 1, 0)


class NoConnectionError(RuntimeError):
    """A fault that needs a real connection, on a request that came in without one."""


class NoDoorError(RuntimeError):
    """A fault that closes an address, on a request to an address that others share."""


class Door(Protocol):
    """An address that can be closed for a while."""

    dark: bool

    def go_dark(self, seconds: float) -> None:
        """Reset all connections and refuse new ones for that long."""


class Connection:
    """The connection of one request."""

    __slots__ = ("_door", "_transport")

    def __init__(self, transport: asyncio.Transport, door: Door | None) -> None:
        self._transport = transport
        self._door = door

    def reset(self) -> None:
        """Reset the connection (RST). What was written before is on its way."""
        reset(self._transport)

    def close(self) -> None:
        """Close the connection after what was written."""
        self._transport.close()

    def refuse(self, seconds: float) -> None:
        """Reset every connection of this address, and refuse new ones for that long. Raises NoDoorError."""
        if self._door is None:
            raise NoDoorError(
                "connections can only be refused at an address of the tenant's own: MockServer.url_of(tenant)"
            )
        self._door.go_dark(seconds)


def reset(transport: asyncio.Transport) -> None:
    """Close a connection by RST instead of FIN."""
    bound = transport.get_extra_info("socket")
    if bound is not None and bound.fileno() >= 0:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def connection_of(scope: Mapping[str, Any]) -> Connection:
    """Return the connection a request came in on. Raises NoConnectionError where there is none."""
    found = (scope.get("extensions") or {}).get(EXTENSION)
    if not isinstance(found, Connection):
        raise NoConnectionError(
            "this fault disturbs a connection, and a request that is answered in-process has none: serve the tenant "
            "with MockServer"
        )
    return found
