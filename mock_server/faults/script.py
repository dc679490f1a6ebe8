"""The schema of fault scripts: one instruction per fault, tied to a route and to which of its requests are hit.

An instruction counts the requests of its route that match its filters, from 1, resends included. It hits those from
the `at`-th on, `times` in a row. Of several instructions that would hit the same request, the first one plays.

`status` and `reset` happen before the request takes effect, unless `after_effect` is set; `refuse` always does.
Every other kind changes an answer that the server really gave: the request took effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

Route = Literal[
    "healthz",
    "client/config",
    "client/dynamic_config",
    "get_server_capabilities",
    "create_session",
    "session_heartbeat",
    "session/finish",
    "telemetry",
    "create_model",
    "get_info",
    "unload_model",
    "forward",
    "forward_backward",
    "optim_step",
    "save_weights",
    "load_weights",
    "save_weights_for_sampler",
    "retrieve_future",
]
"""The canonical names of the route table (`mock_server.routes`)."""

OPERATIONS = frozenset(
    {"forward", "forward_backward", "optim_step", "save_weights", "load_weights", "save_weights_for_sampler"}
)
"""Routes whose requests are operations on a model: they have a seq_id and a future."""

_NO_MODEL = frozenset(
    {
        "healthz",
        "client/config",
        "client/dynamic_config",
        "get_server_capabilities",
        "create_session",
        "session_heartbeat",
        "session/finish",
        "telemetry",
        "create_model",
    }
)

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]
ErrorStatus = Annotated[int, Meta(ge=400, le=599)]
QueueState = Literal["active", "paused_capacity", "paused_rate_limit"]


class FaultBase(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """Which requests an instruction hits.

    A forward pass is `forward`, to whichever route its release sends it; before its body is read only the route counts.
    `times`: `always` is every one from the `at`-th on. `seq_id` counts only requests with that seq_id; for
    `retrieve_future`, polls for the result of the operation with that seq_id. `model` counts only requests of the
    n-th model that the tenant created, from 1.
    """

    route: Route
    at: Positive = 1
    times: Positive | Literal["always"] = 1
    seq_id: Positive | None = None
    model: Positive | None = None


class Status(FaultBase, frozen=True, tag="status", kw_only=True):
    """An error status. The body is `{"detail": message}`, or empty without a message.

    `retry_after` is written as `Retry-After` in seconds, as it stands; `retry_after_date` as the HTTP date that many
    seconds from now; `retry_after_ms` as `retry-after-ms`. `should_retry` is written as `x-should-retry`. `headers`
    are written verbatim.
    """

    status: ErrorStatus
    message: str | None = None
    retry_after: int | float | None = None
    retry_after_date: int | None = None
    retry_after_ms: int | float | None = None
    should_retry: bool | None = None
    headers: dict[str, str] = {}
    after_effect: bool = False


class Delay(FaultBase, frozen=True, tag="delay", kw_only=True):
    """The answer comes that many seconds late. The request takes effect before the wait."""

    seconds: Seconds


class Refuse(FaultBase, frozen=True, tag="refuse", kw_only=True):
    """The request is reset, all connections with it, and connections are refused for that many seconds."""

    seconds: Seconds


class Reset(FaultBase, frozen=True, tag="reset", kw_only=True):
    """The connection is reset (RST) instead of an answer.

    `when`: `headers` (the body is not read; no filter can be used) or `body` (after it was read). With `after_effect`
    the request takes effect and its answer is lost.
    """

    when: Literal["headers", "body"] = "body"
    after_effect: bool = False


class Cut(FaultBase, frozen=True, tag="cut", kw_only=True):
    """The answer's body ends after `after` bytes, before its last one at the latest, though its length was announced.

    `by`: the connection is `reset` or properly `close`d.
    """

    after: Annotated[int, Meta(ge=0)] = 0
    by: Literal["reset", "close"] = "close"


class Stall(FaultBase, frozen=True, tag="stall", kw_only=True):
    """The answer's body stops after `after` bytes, before its last one at the latest, and goes on after `seconds`."""

    seconds: Seconds
    after: Annotated[int, Meta(ge=0)] = 0


class Slow(FaultBase, frozen=True, tag="slow", kw_only=True):
    """The answer's body comes in `pieces`, spread evenly over `seconds`."""

    seconds: Seconds
    pieces: Annotated[int, Meta(ge=2)] = 10


class MediaType(FaultBase, frozen=True, tag="media_type", kw_only=True):
    """The answer has another content type; its body is what it would have been. Empty: no content type at all."""

    media_type: str = "text/html; charset=utf-8"


class Body(FaultBase, frozen=True, tag="body", kw_only=True):
    """The answer's body is `text` (nothing by default), under the content type of the answer."""

    text: str = ""


class Garbage(FaultBase, frozen=True, tag="garbage", kw_only=True):
    """The answer's body cannot be parsed: broken JSON or broken protobuf, whichever it would have been."""


class Pending(FaultBase, frozen=True, tag="pending", kw_only=True):
    """A poll is answered `try_again` or 408 after `hold` seconds, whether there is a result or not."""

    reply: Literal["try_again", "timeout"] = "try_again"
    queue_state: QueueState = "active"
    queue_state_reason: str | None = None
    hold: Seconds = 0.05


class Failed(FaultBase, frozen=True, tag="failed", kw_only=True):
    """A failed result. On `retrieve_future` that poll is answered so; on an operation, its future fails.

    An operation that fails so has no effect. `shape`: `official` is `{"error": message, "category": category}`, as
    the official SDK reads it; `tinkex` is `{"status": "failed", "error": {"message", "category"}}`; `both` is the
    latter with the category at the top too.
    """

    shape: Literal["official", "tinkex", "both"] = "official"
    category: Literal["user", "server", "unknown"] = "user"
    message: str = "scripted failure"


class Withhold(FaultBase, frozen=True, tag="withhold", kw_only=True):
    """A poll is held until the result of the operation `until` (a seq_id of the same model) was delivered.

    For `seconds` at most; then the poll is answered 408, as any that was held for too long.
    """

    until: Positive
    seconds: Seconds = 5.0


Fault = Status | Delay | Refuse | Reset | Cut | Stall | Slow | MediaType | Body | Garbage | Pending | Failed | Withhold


def kind_of(fault: Fault) -> str:
    """Return the kind of an instruction as scripts spell it."""
    return str(fault.__struct_config__.tag)


def problems(faults: Sequence[Fault]) -> list[tuple[str, str]]:
    """Return what the schema cannot say is wrong with a fault script: (place, sentence), in order."""
    found = [(f"faults[{index}]", what) for index, fault in enumerate(faults) for what in _alone(fault)]
    for index, fault in enumerate(faults):
        for earlier in faults[:index]:
            if _same_requests(fault, earlier) and _overlap(fault, earlier):
                found.append((f"faults[{index}]", "hits requests that an earlier instruction already hits"))
                break
    return found


def _alone(fault: Fault) -> list[str]:
    said = []
    if fault.seq_id is not None and fault.route not in OPERATIONS | {"retrieve_future"}:
        said.append(f"seq_id: requests of {fault.route} have none")
    if fault.model is not None and fault.route in _NO_MODEL:
        said.append(f"model: requests of {fault.route} name none")
    for name in ("seconds", "hold", "retry_after", "retry_after_ms"):
        value = getattr(fault, name, None)
        if value is not None and not math.isfinite(value):
            said.append(f"{name}: is not a finite number")
    match fault:
        case Pending() | Withhold() if fault.route != "retrieve_future":
            said.append(f"kind: {kind_of(fault)} is for polls, its route is retrieve_future")
        case Failed() if fault.route not in OPERATIONS | {"retrieve_future"}:
            said.append("kind: only operations and retrieve_future have results that fail")
        case Withhold() if fault.seq_id is None or fault.seq_id == fault.until:
            said.append("until: needs a seq_id to hold back, another one than it waits for")
        case Reset() if fault.when == "headers" and fault.after_effect:
            said.append("after_effect: a request whose body is not read has no effect")
        case Reset() if fault.when == "headers" and (fault.seq_id is not None or fault.model is not None):
            said.append("when: before the body is read, seq_id and model are not known")
        case Status() if sum(value is not None for value in (fault.retry_after, fault.retry_after_date)) > 1:
            said.append("retry_after: is given twice")
        case Status() if any("\n" in text or "\r" in text or not text.isascii() for text in _header_texts(fault)):
            said.append("headers: one line of ASCII each")
        case MediaType() if "\n" in fault.media_type or "\r" in fault.media_type or not fault.media_type.isascii():
            said.append("media_type: one line of ASCII")
        case _:
            pass
    return said


def _header_texts(fault: Status) -> list[str]:
    return [*fault.headers, *fault.headers.values()]


def _same_requests(one: Fault, other: Fault) -> bool:
    return (one.route, one.seq_id, one.model) == (other.route, other.seq_id, other.model)


def _overlap(one: Fault, other: Fault) -> bool:
    return one.at < _end(other) and other.at < _end(one)


def _end(fault: Fault) -> float:
    return math.inf if fault.times == "always" else fault.at + fault.times
