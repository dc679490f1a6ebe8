"""The ASGI application: authentication, decoding, recording and answering, the same way for every route."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, cast

import httpx
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mock_server.handlers.call import Call, RefusalError, Reply, defect, reply
from mock_server.handlers.polling import DisconnectedError
from mock_server.record import Violation
from mock_server.recording import SECRET_HEADERS, Entry
from mock_server.routes import PREFIX, ROUTES, RouteSpec
from mock_server.tenants import Registry, Tenant
from mock_server.wire import requests
from mock_server.wire.body import MAX_BODY_BYTES, decode
from mock_server.wire.errors import WireError

UNKNOWN = RouteSpec("?", "", lambda _: reply({}), requests.Nothing)


def create_app(registry: Registry) -> ASGIApp:
    """Return the ASGI application that serves a registry's tenants."""
    endpoints = {spec.path: Endpoint(spec, registry) for spec in ROUTES}
    app = Starlette(
        routes=[
            *(Route(path, endpoint=endpoint) for path, endpoint in endpoints.items()),
            Route("/{rest:path}", endpoint=Endpoint(UNKNOWN, registry), name="unknown"),
        ]
    )
    app.router.redirect_slashes = False

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        # Nearly every path has no parameter: looking it up takes a tenth of the time of matching route after route.
        endpoint = endpoints.get(scope["path"]) if scope["type"] == "http" else None
        await (endpoint or app)(scope, receive, send)

    return dispatch


def asgi_transport(registry: Registry) -> httpx.ASGITransport:
    """Return an httpx transport that serves a registry in-process: `httpx.AsyncClient(transport=..., base_url=...)`."""
    return httpx.ASGITransport(app=create_app(registry))


class Endpoint:
    """One route as an ASGI application. Never answers a 5xx and never lets an exception out."""

    def __init__(self, spec: RouteSpec, registry: Registry) -> None:
        self._spec = spec
        self._registry = registry
        self._waits = inspect.iscoroutinefunction(spec.handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = {_text(key): _text(value) for key, value in scope["headers"]}
        key = headers.get("x-api-key")
        if key is None and self._spec.keyless:
            await _send(send, reply({"status": "ok"}))
            return
        tenant = self._registry.find(key) if key else None
        if tenant is None:
            detail = "the API key is unknown here" if key else "the header x-api-key is missing"
            await _send(send, reply({"detail": detail}, status=401))
            return
        if not self._spec.background:
            tenant.begin()
        try:
            with suppress(DisconnectedError):
                await self._serve(tenant, headers, scope, receive, send)
        finally:
            if not self._spec.background:
                tenant.end()

    async def _serve(
        self, tenant: Tenant, headers: Mapping[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        parts, size, complete = await _read(receive)
        client = scope.get("client")
        with tenant.lock:
            entry = tenant.recorder.arrive(
                tuple(client) if client else None,
                scope["method"],
                scope["path"],
                self._spec.name,
                {name: value for name, value in headers.items() if name not in SECRET_HEADERS},
                size,
            )
        answer = await self._answer(tenant, entry, parts, complete, scope, receive)
        with tenant.lock:
            tenant.recorder.answer(entry, answer.status, answer.summary)
        await _send(send, answer)

    async def _answer(
        self, tenant: Tenant, entry: Entry, parts: list[bytes], complete: bool, scope: Scope, receive: Receive
    ) -> Reply:
        """Answer a request; `parts` is emptied, so that no body is kept while it takes effect."""
        try:
            self._check_path(entry)
            if not complete:
                raise WireError(f"the body is larger than {MAX_BODY_BYTES} bytes")
            raw = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            decoded = decode(raw, entry.headers, self._spec.body, self._spec.data_under)
            del raw
            entry.encoding, entry.compressed = decoded.encoding, decoded.compressed
            entry.body, entry.batch, entry.unknown_fields = decoded.fields, decoded.batch, decoded.unknown_fields
            call = Call(tenant, entry, decoded, scope.get("path_params", {}), lambda: _hang_up(receive))
            if self._waits:
                return await cast("Awaitable[Reply]", self._spec.handler(call))
            with tenant.lock:
                return cast("Reply", self._spec.handler(call))
        except WireError as error:
            return _refuse(tenant, entry, RefusalError(422, str(error), violation="undecodable-body"))
        except RefusalError as refusal:
            return _refuse(tenant, entry, refusal)
        except (DisconnectedError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001  # a 5xx would look like the service's own and be retried for minutes
            with tenant.lock:
                return reply({"detail": defect(tenant, entry, error)}, status=422)

    def _check_path(self, entry: Entry) -> None:
        if self._spec is UNKNOWN:
            raise RefusalError(
                404, f"there is no {entry.method} {entry.path}; routes begin with {PREFIX}", violation="unknown-path"
            )
        if entry.method != self._spec.method:
            raise RefusalError(
                405, f"{entry.path} takes {self._spec.method}, not {entry.method}", violation="unknown-path"
            )


def _refuse(tenant: Tenant, entry: Entry, refusal: RefusalError) -> Reply:
    if refusal.violation is not None:
        with tenant.lock:
            tenant.recorder.violations.append(Violation(refusal.violation, refusal.detail, entry.ordinal))
    return reply({"detail": refusal.detail}, status=refusal.status)


@lru_cache(maxsize=4096)
def _text(raw: bytes) -> str:
    """Return a header's name or value. They repeat: what a record keeps of them is kept once."""
    return raw.decode("latin-1")


async def _read(receive: Receive) -> tuple[list[bytes], int, bool]:
    """Read the body and its size. False when it is larger than the bound; the rest is read and dropped."""
    parts: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        part = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        if not message.get("more_body", False):
            return parts, sum(map(len, parts)), size <= MAX_BODY_BYTES


async def _hang_up(receive: Receive) -> None:
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            return


async def _send(send: Send, answer: Reply) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                (b"content-type", answer.media_type.encode()),
                (b"content-length", str(len(answer.payload)).encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": answer.payload})
