"""The ASGI application: authentication, decoding, recording and answering, the same way for every route."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping
from functools import lru_cache
from typing import Any, cast

import httpx
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mock_server.faults import hitting
from mock_server.faults.connection import NoConnectionError, connection_of
from mock_server.handlers.call import Call, RefusalError, Reply, defect, reply
from mock_server.handlers.polling import DisconnectedError
from mock_server.intake import Intake
from mock_server.limits import kept_of_head, kept_of_model
from mock_server.record import Violation
from mock_server.recording import SECRET_HEADERS, Entry
from mock_server.routes import PREFIX, ROUTES, RouteSpec
from mock_server.tenants import Registry, Tenant
from mock_server.wire import requests
from mock_server.wire.body import decode
from mock_server.wire.errors import TooLargeError, WireError

_MAX_DETAIL = 1000
_REPEATED = 512
"""A header's value that is longer, in bytes, is not expected again."""

_STATEFUL = frozenset({"create_model", "optim_step", "save_weights", "save_weights_for_sampler", "load_weights"})
"""Routes after which one more state of a model is kept."""

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
        headers, kept, size = _headers(tuple(scope["headers"]))
        key = headers.get("x-api-key")
        if key is None and self._spec.keyless:
            await _send(send, reply({"status": "ok"}))
            return
        tenant = self._registry.find(key) if key else None
        if tenant is None:
            detail = "the API key is unknown here" if key else "the header x-api-key is missing"
            await _send(send, reply({"detail": detail}, status=401))
            return
        tenant.quota.enter()
        tenant.quota.keep(size + len(scope["path"]))
        if not self._spec.background:
            tenant.begin()
        try:
            await self._serve(tenant, kept, scope, receive, send)
        except DisconnectedError:
            pass
        finally:
            tenant.quota.leave()
            if not self._spec.background:
                tenant.end()

    async def _serve(self, tenant: Tenant, kept: Mapping[str, str], scope: Scope, receive: Receive, send: Send) -> None:
        if tenant.quota.exceeded:
            await _send(send, reply({"detail": f"flooded: {tenant.quota.exceeded}"}, status=422))
            return

        def arrive(size: int) -> Entry:
            client = scope.get("client")
            return tenant.recorder.arrive(
                tuple(client) if client else None,
                scope["method"],
                scope["path"],
                self._spec.name,
                kept,
                size,
            )

        if tenant.faults is not None and hitting.reset_unread(
            tenant, self._spec.name, lambda: arrive(0), lambda: connection_of(scope)
        ):
            await _hang_up(receive)
            return
        intake = Intake(tenant.quota, _announced(kept))
        try:
            await _read(tenant, receive, intake)
            with tenant.lock:
                entry = arrive(intake.size)
            answer = await self._answer(tenant, entry, intake, scope, receive)
        except _ClosedError:
            await _send(send, reply({"detail": "the tenant was closed"}, status=410))
            return
        finally:
            intake.drop()
        if answer.status:
            with tenant.lock:
                tenant.recorder.answer(entry, answer.status, answer.summary)
        if answer.leave is not None:
            await answer.leave(answer, send, receive)
            return
        await _send(send, answer)

    async def _answer(self, tenant: Tenant, entry: Entry, intake: Intake, scope: Scope, receive: Receive) -> Reply:
        """Answer a request. Its body is in memory only here, until it is decoded: one body at a time on this loop."""
        try:
            self._check_path(entry)
            decoded = decode(intake.take(), entry.headers, self._spec.body, self._spec.data_under)
            tenant.quota.keep(decoded.kept + self._kept_of_models(tenant))
            entry.encoding, entry.compressed = decoded.encoding, decoded.compressed
            entry.body, entry.batch, entry.unknown_fields = decoded.fields, decoded.batch, decoded.unknown_fields
            call = Call(tenant, entry, decoded, scope.get("path_params", {}), lambda: _hang_up(receive))
            if tenant.faults is None:
                return await self._handle(call)
            return await hitting.answer(call, self._handle, lambda: connection_of(scope))
        except TooLargeError as error:
            return _refuse(tenant, entry, RefusalError(413, str(error), violation="body-too-large"))
        except WireError as error:
            return _refuse(tenant, entry, RefusalError(422, str(error), violation="undecodable-body"))
        except RefusalError as refusal:
            return _refuse(tenant, entry, refusal)
        except (DisconnectedError, NoConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001  # a 5xx would look like the service's own and be retried for minutes
            with tenant.lock:
                return reply({"detail": defect(tenant, entry, error)}, status=422)

    async def _handle(self, call: Call) -> Reply:
        """Let a request take effect and return its answer, a refusal included."""
        try:
            if self._waits:
                return await cast("Awaitable[Reply]", self._spec.handler(call))
            with call.tenant.lock:
                return cast("Reply", self._spec.handler(call))
        except RefusalError as refusal:
            return _refuse(call.tenant, call.entry, refusal)

    def _kept_of_models(self, tenant: Tenant) -> int:
        script = tenant.script
        stateful = self._spec.name in _STATEFUL and script.logprobs.kind == "model"
        return kept_of_model(script.model.vocab) if stateful else 0

    def _check_path(self, entry: Entry) -> None:
        if self._spec is UNKNOWN:
            raise RefusalError(
                404, f"there is no {entry.method} {entry.path}; routes begin with {PREFIX}", violation="unknown-path"
            )
        if entry.method != self._spec.method:
            raise RefusalError(
                405, f"{entry.path} takes {self._spec.method}, not {entry.method}", violation="unknown-path"
            )


class _ClosedError(Exception):
    """The tenant was closed while a body was read."""


def _refuse(tenant: Tenant, entry: Entry, refusal: RefusalError) -> Reply:
    detail = refusal.detail if len(refusal.detail) <= _MAX_DETAIL else f"{refusal.detail[:_MAX_DETAIL]}..."
    if refusal.violation is not None:
        with tenant.lock:
            tenant.recorder.violate(Violation(refusal.violation, detail, entry.ordinal))
    return reply({"detail": detail}, status=refusal.status)


def _text(raw: bytes) -> str:
    """Return a header's name or value. They repeat: what a record keeps of them is kept once."""
    return _repeated(raw) if len(raw) <= _REPEATED else raw.decode("latin-1")


@lru_cache(maxsize=4096)
def _repeated(raw: bytes) -> str:
    return raw.decode("latin-1")


@lru_cache(maxsize=64)  # few: heads may be large
def _headers(raw: tuple[tuple[bytes, bytes], ...]) -> tuple[Mapping[str, str], Mapping[str, str], int]:
    """Return headers, what a record keeps of them, and the memory that takes; small requests repeat them."""
    headers = {_text(name): _text(value) for name, value in raw}
    kept = {name: value for name, value in headers.items() if name not in SECRET_HEADERS}
    return headers, kept, kept_of_head(kept)


def _announced(headers: Mapping[str, str]) -> int | None:
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


async def _read(tenant: Tenant, receive: Receive, intake: Intake) -> None:
    """Read the body to its end; what is too large is read and dropped.

    Raises _ClosedError where the tenant was closed before the body had come.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def give_up() -> None:
        if task in tenant.unread:
            task.cancel()

    tenant.unread[task] = lambda: loop.call_soon_threadsafe(give_up)
    try:
        while True:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            intake.add(message.get("body", b""))
            if not message.get("more_body", False):
                return
    except asyncio.CancelledError:
        if not tenant.closed:
            raise
        task.uncancel()
        raise _ClosedError from None
    finally:
        del tenant.unread[task]


async def _hang_up(receive: Receive) -> None:
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            return


async def _send(send: Send, answer: Reply) -> None:
    await send(answer.head())
    await send({"type": "http.response.body", "body": answer.payload})
