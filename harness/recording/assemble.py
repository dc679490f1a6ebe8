"""From raw exchanges to a record: what the mock server writes down while it serves, worked out afterwards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.recording.journal import IDENTITIES, PRIVATE, api_path
from harness.recording.raw import RawExchange
from harness.recording.scrub import scrub, scrub_headers, scrub_text
from mock_server.record import Exchange, Operation, Record, Violation
from mock_server.routes import PREFIX, ROUTES, RouteSpec
from mock_server.wire.body import Decoded, decode, same_content
from mock_server.wire.errors import WireError
from mock_server.wire.results import Metrics, Outputs, decode_json, json_result, protobuf_result

_PROTOBUF = "application/x-protobuf"
_OPERATIONS = frozenset(
    {"forward", "forward_backward", "load_weights", "optim_step", "save_weights", "save_weights_for_sampler"}
)
_PATTERNS = tuple((re.compile(re.sub(r"\{\w+\}", "[^/]+", spec.path)), spec) for spec in ROUTES)


@dataclass(slots=True, eq=False)
class _Submitted:
    """An operation whose result is awaited."""

    ordinal: int
    model_id: str
    seq_id: int | None
    kind: str
    settled: bool = False


@dataclass(slots=True, eq=False)
class _Assembly:
    """The record being made."""

    scrubbing: bool
    exchanges: list[Exchange] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    submitted: dict[str, _Submitted] = field(default_factory=dict)
    seen: dict[tuple[str, ...], tuple[int, str, Decoded]] = field(default_factory=dict)

    def name(self, kind: str, identifier: object) -> None:
        """Note the stable name of an id the service handed out."""
        if isinstance(identifier, str) and identifier and identifier not in self.aliases:
            self.numbers[kind] = self.numbers.get(kind, 0) + 1
            self.aliases[identifier] = f"{kind}-{self.numbers[kind]}"


def assemble(raw: Sequence[RawExchange], *, scrubbing: bool = True) -> Record:
    """Return the record of raw exchanges, in the order in which their requests were sent.

    What cannot be decoded is a violation, as on the mock server; requests to paths outside the service's API are left
    out. Operations are those whose result was asked for and came. `scrubbing` takes secrets out; API keys, cookies and
    other secret headers are never kept.
    """
    made = _Assembly(scrubbing)
    for exchange in sorted(raw, key=lambda e: e.at_ms):
        path = api_path(exchange.path)
        if path is not None and path.removeprefix(PREFIX) not in IDENTITIES:
            _add(made, exchange, path)
    return Record(
        exchanges=tuple(made.exchanges),
        operations=tuple(made.operations),
        violations=tuple(made.violations),
        aliases=made.aliases,
        failures=made.failures,
    )


def _route(method: str, path: str) -> RouteSpec | None:
    return next((spec for pattern, spec in _PATTERNS if spec.method == method and pattern.fullmatch(path)), None)


def _add(made: _Assembly, raw: RawExchange, path: str) -> None:
    spec = _route(raw.method, path)
    route = spec.name if spec is not None else "?"
    ordinal = len(made.exchanges)
    decoded: Decoded | None = None
    if spec is None:
        made.violations.append(Violation("unknown-path", scrub_text(f"there is no {raw.method} {path}"), ordinal))
    else:
        try:
            decoded = decode(raw.body, raw.headers, spec.body, spec.data_under)
        except WireError as error:
            made.violations.append(Violation("undecodable-body", scrub_text(str(error)), ordinal))
    fields: Any = dict(decoded.fields) if decoded is not None and route not in PRIVATE else {}
    resend_of = _resend(made, route, ordinal, decoded, raw) if decoded is not None else None
    answer = _answered(made, route, ordinal, fields, raw, first=resend_of is None)
    made.exchanges.append(
        Exchange(
            ordinal=ordinal,
            at_ms=raw.at_ms,
            answered_ms=raw.answered_ms,
            connection=raw.connection,
            method=raw.method,
            path=scrub_text(path) if made.scrubbing else path,
            route=route,
            headers=scrub_headers(raw.headers),
            encoding=decoded.encoding if decoded is not None else "none",
            compressed=decoded.compressed if decoded is not None else False,
            size=len(raw.body),
            body=_kept(fields, scrubbing=made.scrubbing),
            batch=decoded.batch if decoded is not None else None,
            unknown_fields=decoded.unknown_fields if decoded is not None and route not in PRIVATE else (),
            status=raw.status,
            response=_kept(answer, scrubbing=made.scrubbing),
            resend_of=resend_of,
        )
    )


def _kept(value: Any, *, scrubbing: bool) -> Any:
    """Return what is kept of a body. One that nests without end must not cost the rest of the recording."""
    try:
        clean = scrub(value)
    except RecursionError:
        return {"unreadable": "nested too deeply"}
    return clean if scrubbing else value


def _resend(made: _Assembly, route: str, ordinal: int, decoded: Decoded, raw: RawExchange) -> int | None:
    """Return the ordinal of the request that this one repeats; a used id with another body is a violation."""
    fields = decoded.fields
    seq_id, key = fields.get("seq_id"), raw.headers.get("x-idempotency-key")
    if isinstance(seq_id, int) and seq_id and route in _OPERATIONS:
        identity: tuple[str, ...] = ("seq", str(fields.get("model_id")), str(seq_id))
    elif key is not None and route not in ("retrieve_future", "session_heartbeat"):
        identity = ("key", route, key)
    else:
        return None
    first = made.seen.setdefault(identity, (ordinal, route, decoded))
    if first[0] == ordinal:
        return None
    if first[1] == route and same_content(first[2], decoded):
        return first[0]
    made.violations.append(
        Violation("seq-reused", f"{' '.join(identity)} was used before, by {first[1]} (request {first[0]})", ordinal)
    )
    return None


def _answered(
    made: _Assembly, route: str, ordinal: int, fields: Mapping[str, Any], raw: RawExchange, *, first: bool
) -> Any:
    """Read an answer: ids are named, operations and their results noted. Returns what is kept of it."""
    if raw.status is None or not raw.response:
        return None
    if _PROTOBUF in raw.media_type:
        try:
            outputs, metrics = protobuf_result(raw.response)
        except WireError as error:
            return {"unreadable": str(error)}
        _settle(made, fields, outputs, metrics)
        return {"type": "forward_backward", "loss_fn_outputs": len(outputs), "metrics": dict(metrics)}
    try:
        body = decode_json(raw.response)
    except WireError:
        return {"unreadable": f"{len(raw.response)} bytes of {raw.media_type or 'no media type'}"}
    if not isinstance(body, dict) or raw.status >= 400:
        return body
    made.name("session", body.get("session_id"))
    if route == "create_model" or body.get("type") == "create_model":
        made.name("model", body.get("model_id"))
    made.name("sampling-session", body.get("sampling_session_id"))
    if route == "retrieve_future":
        return _result(made, fields, body)
    made.name("request", body.get("request_id"))
    if first and route in _OPERATIONS and isinstance(body.get("request_id"), str):
        kind = "forward" if fields.get("forward_only") is True else route
        seq_id = fields.get("seq_id") or None
        made.submitted[body["request_id"]] = _Submitted(ordinal, str(fields.get("model_id", "")), seq_id, kind)
    return body


def _result(made: _Assembly, fields: Mapping[str, Any], body: dict[str, Any]) -> Any:
    operation = made.submitted.get(str(fields.get("request_id")))
    pending = body.get("type") == "try_again" or body.get("status") == "complete_metadata"
    if operation is None or pending:
        return body
    if body.get("status") == "failed" or "error" in body:
        made.failures[operation.ordinal] = scrub_text(str(body.get("error", "")))
        return body
    try:
        outputs, metrics = json_result(body)
    except WireError as error:
        return {"unreadable": str(error)}
    _settle(made, fields, outputs, metrics)
    return {**body, "loss_fn_outputs": len(outputs)} if "loss_fn_outputs" in body else body


def _settle(made: _Assembly, fields: Mapping[str, Any], outputs: Outputs, metrics: Metrics) -> None:
    operation = made.submitted.get(str(fields.get("request_id")))
    if operation is None or operation.settled:
        return
    operation.settled = True
    made.operations.append(
        Operation(operation.model_id, operation.seq_id, operation.kind, operation.ordinal, outputs, metrics)
    )
