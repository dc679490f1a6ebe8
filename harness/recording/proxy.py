"""A proxy on loopback that hands every request on and keeps what was said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harness.errors import ParityError
from harness.recording.raw import RawExchange
from mock_server.serving import Loopback

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_CONNECT_SECONDS = 30.0


class RecordingProxy(Loopback):
    """`with RecordingProxy("https://host") as proxy:` - an SDK takes `proxy.base_url`; `proxy.exchanges()` has it all.

    Bodies pass unchanged, in both directions, compressed as they are. A request the upstream does not answer gets a
    502 that says why, and is kept without a status. Each exchange is given to `keep`, in a thread, before the client
    has its answer; without one `exchanges` has them. OSError when the port is taken; ParityError `upstream-malformed`.
    """

    def __init__(
        self,
        upstream: str,
        *,
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
        keep: Callable[[RawExchange], None] | None = None,
    ) -> None:
        self._upstream = _checked(upstream)
        self._clock = clock
        self._opened = clock()
        self._kept: list[RawExchange] = []
        self._keep = keep or self._kept.append
        self._connections: dict[object, str] = {}
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(Starlette(routes=[Route("/{rest:path}", self._serve, methods=_METHODS)]), port=port)

    def exchanges(self) -> tuple[RawExchange, ...]:
        """Return what was said so far, where nobody else keeps it. Safe from any thread."""
        return tuple(self._kept)

    async def _serve(self, request: Request) -> Response:
        body = await request.body()
        at = self._now()
        headers = [(name, value) for name, value in request.headers.raw if name.decode() not in _HOP_BY_HOP]
        target = self._upstream + request.scope["raw_path"].decode("ascii")
        if request.url.query:
            target += f"?{request.url.query}"
        status, media_type, plain = None, "", b""
        try:
            async with _answered(self._http(), request.method, target, headers, body) as answer:
                raw = b"".join([part async for part in answer.aiter_raw()])
                status, media_type = answer.status_code, answer.headers.get("content-type", "")
                passed = [(n, v) for n, v in answer.headers.raw if n.decode("latin-1").lower() not in _HOP_BY_HOP]
            plain = _decompressed(answer.headers, raw)
            response = Response(raw, status)
            response.raw_headers = [*passed, (b"content-length", str(len(raw)).encode())]
        except httpx.HTTPError as error:
            response = Response(f"the upstream did not answer: {type(error).__name__}: {error}", 502)
        exchange = RawExchange(
            at_ms=at,
            answered_ms=self._now() if status is not None else None,
            connection=self._connections.setdefault(request.client, f"c{len(self._connections) + 1}"),
            method=request.method,
            path=request.url.path,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.raw},
            body=body,
            status=status,
            media_type=media_type,
            response=plain,
        )
        # A large body takes a while to write down; other requests do not wait for it.
        await asyncio.to_thread(self._keep, exchange)
        return response

    def stop(self) -> None:
        """Break off what the upstream still holds, then stop as any server."""
        client, loop = self._client, self._loop
        if client is not None and loop is not None:
            asyncio.run_coroutine_threadsafe(client.aclose(), loop).result(_CONNECT_SECONDS)
            self._client = None
        super().stop()

    def _http(self) -> httpx.AsyncClient:
        """Return the client, made on the server's own loop."""
        if self._client is None:
            self._loop = asyncio.get_running_loop()
            # A poll may be held as long as the upstream likes; who asked hangs up when they have had enough.
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
                limits=httpx.Limits(max_connections=None),
                trust_env=urlsplit(self._upstream).hostname not in _LOCAL,
            )
        return self._client

    def _now(self) -> float:
        return (self._clock() - self._opened) * 1000.0


@asynccontextmanager
async def _answered(
    client: httpx.AsyncClient, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> AsyncIterator[httpx.Response]:
    request = httpx.Request(method, target, headers=headers, content=body)
    answer = await client.send(request, stream=True)
    try:
        yield answer
    finally:
        await answer.aclose()


def _decompressed(headers: httpx.Headers, raw: bytes) -> bytes:
    """Return a body without its content-encoding, or as it is where that cannot be read."""
    try:
        return httpx.Response(200, headers=headers, content=raw).content
    except httpx.DecodingError:
        return raw


def _checked(upstream: str) -> str:
    parts = urlsplit(upstream)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ParityError(
            "upstream-malformed",
            f"--upstream {upstream!r} is no base URL",
            hint="name scheme and host, for example --upstream http://127.0.0.1:8000",
        )
    return upstream.rstrip("/")
