"""A real server on loopback, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from mock_server.app import create_app
from mock_server.replay import Replay
from mock_server.script import Script
from mock_server.tenants import Registry, Tenant

START_SECONDS = 10.0


class Loopback:
    """An ASGI application, served on 127.0.0.1 from a thread of its own, as a context manager.

    The port is chosen by the system unless `port` says otherwise. OSError when it is taken.
    """

    def __init__(self, app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app = app
        self._address = (host, port)
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """The URL that an SDK takes as its base URL. RuntimeError when the server is not running."""
        if self._socket is None:
            raise RuntimeError("the server is not running; use it as a context manager")
        host, port = self._socket.getsockname()[:2]
        return f"http://{host}:{port}"

    def start(self) -> None:
        """Start serving; returns when connections are accepted."""
        # asyncio turns Nagle's algorithm off for sockets that name TCP; with it, every answer takes 40 ms
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(self._address)
        except OSError:
            bound.close()
            raise
        bound.listen(256)
        self._socket = bound
        self._server = _Server(
            uvicorn.Config(
                self._app,
                lifespan="off",
                loop="asyncio",
                http="httptools",
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
            target=self._server.run, kwargs={"sockets": [bound]}, name="parity-server", daemon=True
        )
        self._thread.start()
        if not self._server.ready.wait(START_SECONDS):
            raise RuntimeError(f"the server did not start within {START_SECONDS:.0f} s")

    def stop(self) -> None:
        """Close connections, end the thread. What is still served is cancelled after a second."""
        if self._server is None or self._thread is None or self._socket is None:
            return
        self._server.quit()
        self._thread.join()
        self._socket.close()
        self._server = self._thread = self._socket = None

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
        super().__init__(create_app(self.registry), host=host, port=port)

    def open_tenant(
        self, script: Script | None = None, *, api_key: str | None = None, replay: Replay | None = None
    ) -> Tenant:
        """Open a tenant of this server's registry."""
        return self.registry.open_tenant(script, api_key=api_key, replay=replay)

    def stop(self) -> None:
        """Close every tenant, answer what is held, then as any server."""
        self.registry.close()
        super().stop()


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

    async def main_loop(self) -> None:
        assert self._stop is not None
        await self._stop.wait()

    def quit(self) -> None:
        """Stop, from another thread."""
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
