"""What a handler gets and gives, and how a submission is executed once."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from msgspec import Struct
from starlette.types import Message, Receive, Send

from mock_server.execution import UncomputableError
from mock_server.faults.script import OPERATIONS
from mock_server.futures import JSON, Failure, Future, Outcome, PassResult, Result
from mock_server.record import Operation, Violation
from mock_server.recording import Entry
from mock_server.replay import NotInTraceError
from mock_server.tenants import Model, Submission, Tenant
from mock_server.wire import json_codec
from mock_server.wire.body import Decoded, says

KEY_HEADER = "x-idempotency-key"

S = TypeVar("S", bound=Struct)
Identity = tuple[str | int | None, ...]


class RefusalError(Exception):
    """A request that is answered by an error status. `violation` is the code to record where no era allows it."""

    def __init__(self, status: int, detail: str, *, violation: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.violation = violation


class Call(Struct, frozen=True, eq=False):
    """One decoded request of a known tenant.

    `gone` returns when the client has hung up. `fails` is how the operation fails instead of taking effect, where a
    fault script says so.
    """

    tenant: Tenant
    entry: Entry
    decoded: Decoded
    params: Mapping[str, str]
    gone: Callable[[], Awaitable[None]]
    fails: Failure | None = None

    def body(self, kind: type[S]) -> S:
        """Return the typed body."""
        message = self.decoded.message
        assert isinstance(message, kind), "the route table names the struct the handler reads"
        return message


class Reply(Struct, frozen=True, eq=False):
    """An answer: bytes for the client, `summary` for the record.

    `leave` sends the answer where an instruction of a fault script disturbs it; with status 0 there is none to send.
    """

    status: int
    payload: bytes
    media_type: str
    summary: Any
    headers: tuple[tuple[str, str], ...] = ()
    leave: Callable[[Reply, Send, Receive], Awaitable[None]] | None = None

    def head(self) -> Message:
        """Return the ASGI message that opens the response."""
        length = (b"content-length", b"%d" % len(self.payload))
        headers = [(b"content-type", self.media_type.encode()), length] if self.media_type else [length]
        if self.headers:
            headers += [(name.encode(), value.encode()) for name, value in self.headers]
        return {"type": "http.response.start", "status": self.status, "headers": headers}


def reply(body: Mapping[str, Any], *, status: int = 200) -> Reply:
    """Answer a small JSON object."""
    return Reply(status, json_codec.encode(body), JSON, body)


def once(call: Call, identity: Identity | None, name: str, start: Callable[[], dict[str, Any]]) -> Reply:
    """Start something once per identity: a resend gets the first answer again, another body is refused.

    `identity` None means that the request carries nothing to tell a resend by; then its `x-idempotency-key` is used,
    if it has one. `name` is how the refusal names the identity.
    """
    tenant, entry = call.tenant, call.entry
    key = entry.headers.get(KEY_HEADER)
    if identity is None and key is not None:
        identity, name = ("key", entry.route, key), f"{KEY_HEADER} {key}"
    first = tenant.submissions.get(identity) if identity is not None else None
    if first is not None:
        before = first.entry
        if before.route == entry.route and says(call.decoded, before.encoding, before.body, before.batch):
            entry.resend_of = _first(before)
            return reply(first.answer)
        raise RefusalError(
            422,
            f"{name} was used before, by {before.route} (request {_first(before)}), with another body",
            violation="seq-reused",
        )
    answer = start()
    if identity is not None:
        tenant.submissions[identity] = Submission(entry, answer)
    return reply(answer)


def attempt_identities(route: str, headers: Mapping[str, str], fields: Mapping[str, Any]) -> list[Identity]:
    """Return by what a request can be known again when it is resent, though it never took effect."""
    found: list[Identity] = []
    if route in OPERATIONS and fields.get("seq_id"):
        found.append((route, "seq", fields.get("model_id"), fields["seq_id"]))
    if fields.get("model_seq_id") is not None:
        found.append((route, "model", fields.get("session_id"), fields["model_seq_id"]))
    if KEY_HEADER in headers:
        found.append((route, "key", headers[KEY_HEADER]))
    return found


def _first(entry: Entry) -> int:
    """Return the ordinal of the first attempt at a request."""
    return entry.ordinal if entry.resend_of is None else entry.resend_of


def find_model(call: Call, model_id: str) -> Model:
    """Return a model of the tenant. RefusalError 404 for an unknown one, 410 when its session is finished."""
    model = call.tenant.models.get(model_id)
    if model is None:
        raise RefusalError(404, f"there is no model {model_id!r}")
    session = call.tenant.sessions.get(model.session_id or "")
    if session is not None and session.finished is not None:
        raise RefusalError(410, f"session {session.session_id} is finished")
    return model


def operate(call: Call, kind: str, model_id: str, seq_id: int | None, effect: Callable[[Model], Outcome]) -> Reply:
    """Submit an operation on a model: answered at once by a future, taking effect in its turn."""
    model = find_model(call, model_id)

    def start() -> dict[str, Any]:
        future = new_future(call, model.model_id, seq_id)
        for run in model.turns.admit(seq_id, lambda: _take_effect(call, model, kind, seq_id, effect, future)):
            run()
        return {"request_id": future.request_id, "model_id": model.model_id}

    identity = None if seq_id is None else ("seq", model_id, seq_id)
    return once(call, identity, f"seq_id {seq_id} of model {model_id}", start)


def new_future(call: Call, model_id: str | None, seq_id: int | None = None) -> Future:
    """Open a future under a new request id."""
    future = Future(call.tenant.hand_out("request"), model_id, seq_id)
    call.tenant.futures[future.request_id] = future
    return future


def settled(call: Call, model_id: str | None, body: Mapping[str, Any]) -> Future:
    """Open a future that already has its result."""
    future = new_future(call, model_id)
    future.settle(Result(body))
    return future


def defect(tenant: Tenant, entry: Entry, error: BaseException) -> str:
    """Record that the server itself failed and return the message to answer."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = (
        f"defect of the parity mock server, not of the client: {type(error).__name__}: {error} "
        f"({place.name}, line {place.lineno})"
    )
    tenant.recorder.violate(Violation("server-defect", message, entry.ordinal))
    return message


def _take_effect(
    call: Call,
    model: Model,
    kind: str,
    seq_id: int | None,
    effect: Callable[[Model], Outcome],
    future: Future,
) -> None:
    tenant, entry = call.tenant, call.entry
    try:
        if model.unloaded:
            outcome: Outcome = Failure(f"model {model.model_id} was unloaded")
        elif call.fails is not None:
            model.trainer.pass_over(kind, call.decoded.batch)
            outcome = call.fails
        else:
            model.trainer.begin(kind, call.decoded.batch)
            outcome = effect(model)
    except NotInTraceError as error:
        batch = call.decoded.batch
        sent = kind if batch is None else f"{kind} with {len(batch.datums)} datums"
        named = sent if seq_id is None else f"{sent}, seq_id {seq_id}"
        tenant.recorder.violate(Violation("not-in-trace", f"{named}: {error}", entry.ordinal))
        outcome = Failure(str(error))
    except UncomputableError as error:
        outcome = Failure(str(error))
    except Exception as error:  # noqa: BLE001  # a defect must reach the record, and must not stop the other turns
        outcome = Failure(defect(tenant, entry, error), "server")
    if isinstance(outcome, Failure):
        tenant.recorder.failures[_first(entry)] = outcome.message
    else:
        passed = outcome.outcome if isinstance(outcome, PassResult) else None
        metrics = passed.metrics if passed else outcome.summary().get("metrics", {})
        outputs = passed.outputs if passed else ()
        tenant.recorder.operations.append(Operation(model.model_id, seq_id, kind, _first(entry), outputs, metrics))
    future.settle(outcome)
