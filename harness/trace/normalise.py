"""Make a trace from what the server saw and what the user saw. Pure: the same record gives the same trace.

What differs between two equal runs is taken out here: ids become aliases, versions and keys become placeholders,
resends and polls are folded, heartbeats, telemetry and refreshes are left out, and requests are put in canonical
order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from harness.drivers.protocol import StepResult
from harness.trace.attempts import POLL, Sent, Server, attempts_of, fold
from harness.trace.keys import shared_keys
from harness.trace.lifetime import lifetime
from harness.trace.model import Instruction, Request, Retrieval, Trace, TrainingState
from mock_server.faults.script import Fault
from mock_server.record import Exchange, FaultUse, Gap, Operation, Record, Violation

CALL_HEADER = "x-parity-call"
PHASE_HEADER = "x-parity-phase"

PASSES = ("forward", "forward_backward")
"""Effects whose requests carry data."""

_CONTROL_ROUTES = frozenset(
    {
        "auth/token",
        "client/config",
        "client/dynamic_config",
        "create_model",
        "create_session",
        "get_server_capabilities",
        "healthz",
        "session/finish",
        "unload_model",
    }
)
_BACKGROUND_ROUTES = frozenset({POLL, "session_heartbeat", "telemetry"})
_LEFT_OUT = _BACKGROUND_ROUTES | {"?"}
"""Background traffic is judged elsewhere or not at all; an unknown path is a violation, not a step of the run."""

_ONCE_ROUTES = frozenset({"client/dynamic_config"})

_KEPT_HEADERS = frozenset({"accept", "content-encoding", "content-type", "user-agent"})
_KEPT_PREFIXES = ("x-idempotency-key", "x-sdk-", "x-stainless-", "x-tinker-")
_PLACEHOLDERS = {
    "x-idempotency-key": "<key>",
    "x-sdk-version": "<version>",
    "x-stainless-arch": "<arch>",
    "x-stainless-os": "<os>",
    "x-stainless-package-version": "<version>",
    "x-stainless-runtime-version": "<version>",
    "x-tinker-create-promise-roundtrip-time": "<seconds>",
}
_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.+-]*")
_VERSION_KEYS = frozenset({"sdk_version"})


def make_trace(
    scenario_id: str,
    stimulus_digest: str,
    contract_id: str,
    record: Record,
    steps: Sequence[StepResult],
    *,
    faults: Sequence[Fault] = (),
) -> Trace:
    """Return the trace of one scenario run.

    `record` is what the server saw of the run, `steps` what the driver answered, `faults` the server's fault script.
    Calls and phases are taken from the labels of the reference (`x-parity-call`, `x-parity-phase`), which are dropped
    from the headers; a subject sends none, so that its requests carry empty ones.
    """
    rename = _renamer(record.aliases)
    operations = {operation.request: operation for operation in record.operations}
    server = Server(faults, operations.keys() | record.failures.keys())
    sendings = _sendings(record.exchanges, server)
    kept = _kept(sendings)
    ranks = {sent.first.ordinal: rank for rank, (sent, _) in enumerate(kept)}
    answered = _answered_before(kept)
    control: list[Request] = []
    requests: list[Request] = []
    for sent, is_control in kept:
        ordinals = [exchange.ordinal for exchange in sent.exchanges]
        request = _request(
            sent,
            arrival=ranks[sent.first.ordinal],
            sent_after=answered[sent.first.ordinal],
            operation=next((operations[ordinal] for ordinal in ordinals if ordinal in operations), None),
            failure=next((record.failures[ordinal] for ordinal in ordinals if ordinal in record.failures), ""),
            server=server,
            rename=rename,
        )
        (control if is_control else requests).append(request)
    requests.sort(key=_canonical)
    life = lifetime(record.exchanges, lambda body: _renamed(body, rename))
    return Trace(
        scenario=scenario_id,
        stimulus=stimulus_digest,
        contract=contract_id,
        control=tuple(control),
        requests=tuple(requests),
        retrievals=_retrievals(record.exchanges),
        steps=tuple(msgspec.structs.replace(step, fields=_renamed(step.fields, rename)) for step in steps),
        training=tuple(
            TrainingState(rename(state.model_id), state.gradient, state.parameters) for state in record.optimizer_states
        ),
        violations=tuple(Violation(v.code, rename(v.message), v.request) for v in record.violations),
        gaps=tuple(Gap(rename(gap.model_id), gap.missing, gap.held) for gap in record.gaps),
        unknown_fields=tuple(sorted({name for e in record.exchanges for name in e.unknown_fields})),
        faults=tuple(_instruction(use) for use in record.faults),
        beats=life.beats,
        lived=life.lived,
        late=life.late,
        shared_keys=shared_keys(sendings),
    )


def effect_of(route: str, body: object) -> str:
    """Return the effect of a request: its route, except that forward_backward with `forward_only` is `forward`."""
    if route == "forward_backward" and isinstance(body, Mapping) and body.get("forward_only") is True:
        return "forward"
    return route


def _instruction(use: FaultUse) -> Instruction:
    # How often what is always played was hit is a matter of pace.
    played = min(len(use.hits), use.times or 1)
    return Instruction(use.kind, use.route, use.times, played, use.seen)


def _canonical(request: Request) -> tuple[str, bool, int, int]:
    """Order by model, then seq_id; what has no seq_id comes after, by arrival."""
    seq = request.seq_id
    return (request.model, seq is None, 0 if seq is None else seq, request.arrival)


def _sendings(exchanges: Sequence[Exchange], server: Server) -> list[Sent]:
    """Return the distinct requests, in order of arrival, without background traffic."""
    ordered = sorted(exchanges, key=lambda e: e.ordinal)
    return fold((e for e in ordered if e.route == POLL or e.route not in _LEFT_OUT), server)


def _kept(sendings: Sequence[Sent]) -> list[tuple[Sent, bool]]:
    """Return the requests a trace keeps, in order of arrival, and whether each is a control request."""
    kept: list[tuple[Sent, bool]] = []
    once: set[str] = set()
    # A model that has been sent an operation is set up: every get_info before that belongs to its set-up.
    set_up: set[str] = set()
    for sent in sendings:
        route = sent.first.route
        if route in once:
            continue
        if route in _ONCE_ROUTES:
            once.add(route)
        is_control = route in _CONTROL_ROUTES
        if not is_control:
            model = _field(sent.first.body, "model_id")
            is_control = route == "get_info" and model not in set_up
            if route != "get_info":
                set_up.add(model)
        kept.append((sent, is_control))
    return kept


def _answered_before(kept: Sequence[tuple[Sent, bool]]) -> dict[int, int]:
    """Per request, how many of its kind were answered for the last time when it arrived, by its first ordinal.

    Kinds are the control requests, and per model the requests with a seq_id, and those without: only requests that
    take turns with each other are counted together.
    """
    kinds: dict[tuple[str, bool, bool], list[Sent]] = {}
    for sent, is_control in kept:
        model = "" if is_control else _field(sent.first.body, "model_id")
        kinds.setdefault((model, is_control, _seq_id(sent.first.body) is None), []).append(sent)
    counts: dict[int, int] = {}
    for members in kinds.values():
        done = sorted(sent.last.answered_ms for sent in members if sent.last.answered_ms is not None)
        finished = 0
        for sent in sorted(members, key=lambda member: member.first.at_ms):
            while finished < len(done) and done[finished] <= sent.first.at_ms:
                finished += 1
            counts[sent.first.ordinal] = finished
    return counts


def _request(
    sent: Sent,
    *,
    arrival: int,
    sent_after: int,
    operation: Operation | None,
    failure: str,
    server: Server,
    rename: Callable[[str], str],
) -> Request:
    exchange = sent.first
    body = exchange.body
    if isinstance(body, Mapping):
        body = {key: value for key, value in body.items() if key != "seq_id"}
    return Request(
        route=exchange.route,
        effect=effect_of(exchange.route, exchange.body),
        model=rename(_field(exchange.body, "model_id")),
        seq_id=_seq_id(exchange.body),
        arrival=arrival,
        sent_after=sent_after,
        sends=len(sent.exchanges),
        encoding=exchange.encoding,
        headers=_headers(exchange.headers),
        body=_renamed(body, rename),
        batch=exchange.batch,
        status=sent.last.status,
        call=exchange.headers.get(CALL_HEADER, ""),
        phase=exchange.headers.get(PHASE_HEADER, ""),
        outputs=operation.outputs if operation else (),
        metrics=dict(operation.metrics) if operation else {},
        failure=rename(failure),
        attempts=attempts_of(sent.exchanges, server),
        polls=attempts_of(sent.polls, server) if sent.polls else (),
    )


def _field(body: object, name: str) -> str:
    value = body.get(name) if isinstance(body, Mapping) else None
    return value if isinstance(value, str) else ""


def _seq_id(body: object) -> int | None:
    value = body.get("seq_id") if isinstance(body, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    kept = {}
    for name in sorted(headers):
        if name in _KEPT_HEADERS or name.startswith(_KEPT_PREFIXES):
            kept[name] = _PLACEHOLDERS.get(name) or _VERSION.sub("<version>", headers[name])
    return kept


def _retrievals(exchanges: Sequence[Exchange]) -> tuple[Retrieval, ...]:
    seen = {
        (
            exchange.headers.get("x-tinker-request-type", ""),
            exchange.headers.get("accept", ""),
            tuple(sorted(exchange.body)) if isinstance(exchange.body, Mapping) else (),
        )
        for exchange in exchanges
        if exchange.route == POLL
    }
    return tuple(Retrieval(*key) for key in sorted(seen))


def _renamer(aliases: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that puts aliases for ids: whole strings first, then ids inside a string.

    Ids of operations (futures) are handed out by the thousand and never appear inside another string, so they are
    replaced as whole strings only.
    """
    kinds = ("session", "model", "sampl", "tinker")
    inside = [key for key, alias in aliases.items() if key and alias.startswith(kinds)]
    inside.sort(key=lambda key: (-len(key), key))
    pattern = re.compile("|".join(map(re.escape, inside))) if inside else None

    def rename(text: str) -> str:
        if text in aliases:
            return aliases[text]
        return pattern.sub(lambda found: aliases[found.group()], text) if pattern else text

    return rename


def _renamed(value: Any, rename: Callable[[str], str], *, key: str = "") -> Any:
    if isinstance(value, str):
        return "<version>" if key in _VERSION_KEYS else rename(value)
    if isinstance(value, Mapping):
        return {name: _renamed(entry, rename, key=name) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(entry, rename) for entry in value]
    return value
