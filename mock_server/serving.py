"""A real server on loopback, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import uvicorn
from starlette.types import ASGIApp

from mock_server.app import create_app
from mock_server.connections import make_room
from mock_server.faults.doors import Door, bound, protocol
from mock_server.faults.script import Refuse
from mock_server.replay import Replay
from mock_server.script import Script
from mock_server.tenants import Registry, Tenant

START_SECONDS = 10.0

T = TypeVar("T")


class Loopback:
    """An ASGI application, served on 127.0.0.1 from a thread of its own, as a context manager.

    The port is chosen by the system unless `port` says otherwise. OSError when it is taken.
    """

    http: Literal["httptools"] | type[asyncio.Protocol] = "httptools"

    def __init__(self, app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app = app
        self._wanted = (host, port)
        self._address: tuple[str, int] | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """The URL that an SDK takes as its base URL. RuntimeError when the server is not running."""
        return _url(self.address)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. RuntimeError when the server is not running."""
        if self._address is None:
            raise RuntimeError("the server is not running; use it as a context manager")
        return self._address

    def start(self) -> None:
        """Start serving; returns when connections are accepted."""
        make_room()
        listener = bound(self._wanted)
        listener.listen(256)
        self._address = listener.getsockname()[:2]
        self._server = _Server(
            uvicorn.Config(
                self._app,
                lifespan="off",
                loop="asyncio",
                http=self.http,
                ws="none",
                log_config=None,
                log_level="critical",
                access_log=False,
                # A client keeps idle connections as long as it likes; closing one under it would look like a fault.
                timeout_keep_alive=3600,
                timeout_graceful_shutdown=1,
                server_header=False,
                date_header=False,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="parity-server", daemon=True
        )
        self._thread.start()
        if not self._server.ready.wait(START_SECONDS):
            raise RuntimeError(f"the server did not start within {START_SECONDS:.0f} s")

    def stop(self) -> None:
        """Close connections, end the thread. What is still served is cancelled after a second."""
        if self._server is None or self._thread is None:
            return
        self._server.quit()
        self._thread.join()
        self._server = self._thread = self._address = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class MockServer(Loopback):
    """The mock server as a context manager: `with MockServer() as server:` serves `server.base_url` on 127.0.0.1.

    Several servers may run at once. OSError when the port is taken.
    """

    def __init__(self, registry: Registry | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.registry = registry or Registry()
        self._doors: dict[int, Door] = {}
        self._urls: dict[str, str] = {}
        self.http = protocol(self._doors)
        super().__init__(create_app(self.registry), host=host, port=port)

    def start(self) -> None:
        """Start serving; returns when connections are accepted."""
        super().start()
        if self.registry.open_to_all:
            # The whole server is one person's: a fault script that closes an address closes this one.
            self._running.call(self._open_main)

    def open_tenant(
        self, script: Script | None = None, *, api_key: str | None = None, replay: Replay | None = None
    ) -> Tenant:
        """Open a tenant of this server's registry; `url_of` says where it is served."""
        tenant = self.registry.open_tenant(script, api_key=api_key, replay=replay)
        if script is not None and any(isinstance(fault, Refuse) for fault in script.faults):
            door = self._running.call(self._open_door)
            self._urls[tenant.api_key] = _url(door.address)
            tenant.at_close(lambda closed: self._close_door(closed, door))
        return tenant

    def url_of(self, tenant: Tenant) -> str:
        """Return the base URL of a tenant: the server's, or one of its own where its script refuses connections."""
        return self._urls.get(tenant.api_key, self.base_url)

    def stop(self) -> None:
        """Close every tenant, answer what is held, then as any server."""
        self.registry.close()
        if self._server is not None:
            self._server.call(self._close_doors)
        super().stop()

    @property
    def _running(self) -> _Server:
        if self._server is None:
            raise RuntimeError("the server is not running; use it as a context manager")
        return self._server

    async def _open_door(self) -> Door:
        door = self._door((self.address[0], 0), reserve=True)
        await door.open()
        return door

    async def _open_main(self) -> None:
        self._door(self.address, reserve=False).adopt(self._running.servers[0])

    def _door(self, address: tuple[str, int], *, reserve: bool) -> Door:
        running = self._running
        door = Door(
            address, listen=running.listen, connections=lambda: running.server_state.connections, reserve=reserve
        )
        self._doors[door.address[1]] = door
        return door

    def _close_door(self, tenant: Tenant, door: Door) -> None:
        async def close() -> None:
            door.close()
            self._doors.pop(door.address[1], None)

        self._urls.pop(tenant.api_key, None)
        if self._server is not None:
            self._server.call(close)

    async def _close_doors(self) -> None:
        for door in self._doors.values():
            door.close()
        self._doors.clear()


def _url(address: tuple[str, int]) -> str:
    return f"http://{address[0]}:{address[1]}"


class _Server(uvicorn.Server):
    """uvicorn that says when it is up, and stops at once instead of at its next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await super().startup(sockets=sockets)
        self.ready.set()

    async def listen(self, listener: socket.socket) -> asyncio.Server:
        """Serve one more listening socket, the way the first is served."""
        kind = self.config.http_protocol_class
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            lambda: kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state),  # type: ignore[call-arg]
            sock=listener,
        )

    def call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the server's loop, from another thread, and return its result."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result()

    async def main_loop(self) -> None:
        assert self._stop is not None
        await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Do what uvicorn does without its naps of a tenth of a second."""
        loop, state = asyncio.get_running_loop(), self.server_state
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        for connection in tuple(state.connections):
            connection.shutdown()
        deadline = loop.time() + (self.config.timeout_graceful_shutdown or 0)
        while (state.connections or state.tasks) and loop.time() < deadline:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.001)
        for task in state.tasks:
            task.cancel()

    def quit(self) -> None:
        """Stop, from another thread."""
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
