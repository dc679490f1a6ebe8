"""Clients that write requests, headers or session traffic wrongly, or misuse the caller's loss and data."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import numpy as np
from halfway import Watched
from mutant import Mutant, checks

from harness.reference.behaviour import Behaviour
from harness.reference.calls import Call
from harness.reference.client import ReferenceClient
from harness.reference.custom_loss import declared_dtype
from harness.reference.errors import CallError
from harness.reference.values import Array, TensorValue

KEYED = (
    "session/lifecycle",
    "custom/sum-literal",
    "order/plain-concurrent",
    "chunks/count-1025",
    "futures/try-again",
    "faults/submit-retried-middle",
)


class NeverEnds(ReferenceClient):
    """Closes its connections without ending the session."""

    async def close(self, *, call: str = "") -> bool:
        """Close without a word."""
        del call
        await self.abandon()
        return True


class StartsBackwards(ReferenceClient):
    """Creates the session before it asks for its configuration."""

    async def _start(self, route: str) -> None:
        order = self.behaviour.contract.session.start
        await super()._start(order[len(order) - 1 - order.index(route)])


class AsksTwice(ReferenceClient):
    """Asks for the model's info twice when it is created."""

    async def post(self, route: str, values: Mapping[str, Any], call: Call | None) -> dict[str, Any]:
        """Send get_info twice, everything else once."""
        answer = await super().post(route, values, call)
        return await super().post(route, values, call) if route == "get_info" else answer


class NamesNoMethod(ReferenceClient):
    """Leaves out which public method a request belongs to."""

    async def send(self, route: str, content: bytes, content_type: str, call: Call | None) -> dict[str, Any]:
        """Send without the method."""
        anonymous = None if call is None else replace(call, method="")
        return await super().send(route, content, content_type, anonymous)


class OneKey(Watched):
    """Makes one idempotency key, when it is created."""

    async def leaving(self, request: httpx.Request) -> None:
        """Use the one key."""
        request.headers["x-idempotency-key"] = "constant"


class KeyPerCall(Watched):
    """Makes an idempotency key for each pass of a call, whatever it is cut into."""

    async def leaving(self, request: httpx.Request) -> None:
        """Name the pass."""
        if request.url.path.endswith(("/forward", "/forward_backward")):
            of = [request.headers.get(name, "") for name in ("x-parity-call", "x-parity-phase")]
            request.headers["x-idempotency-key"] = "-".join(of)


class KeyPerResult(Watched):
    """Makes the idempotency key of a poll of the result that it asks for."""

    async def leaving(self, request: httpx.Request) -> None:
        """Name the result."""
        if request.url.path.endswith("/retrieve_future"):
            request.headers["x-idempotency-key"] = json.loads(request.content)["request_id"]


class UnknownPath(ReferenceClient):
    """Sends a request to a path that no release knows before each optimizer step."""

    async def post(self, route: str, values: Mapping[str, Any], call: Call | None) -> dict[str, Any]:
        """Knock at a door that is not there, then go on."""
        if route == "optim_step":
            with contextlib.suppress(CallError):
                await self.send("optimizer_step", b"{}", "application/json", call)
        return await super().post(route, values, call)


def _acceptless(behaviour: Behaviour) -> Behaviour:
    def body(route: str, given: Mapping[str, Any]) -> Any:
        filled = behaviour.body(route, given)
        if route == "retrieve_future":
            return {key: value for key, value in filled.items() if key != "allow_metadata_only"}
        return filled

    return replace(behaviour, body=body)


def _nulls(behaviour: Behaviour) -> Behaviour:
    def body(route: str, given: Mapping[str, Any]) -> Any:
        filled = behaviour.body(route, given)
        return {**filled, "user_metadata": None} if route == "create_model" else filled

    return replace(behaviour, body=body)


def _stranger(behaviour: Behaviour) -> Behaviour:
    def body(route: str, given: Mapping[str, Any]) -> Any:
        filled = behaviour.body(route, given)
        return {**filled, "load_optimizer_state": True} if route == "load_weights" else filled

    return replace(behaviour, body=body)


def _typed_chunks(behaviour: Behaviour) -> Behaviour:
    wire = behaviour.contract.wire
    elements = {**wire.elements, "chunk": {**wire.elements["chunk"], "type": "encoded_text"}}
    contract = msgspec.structs.replace(behaviour.contract, wire=msgspec.structs.replace(wire, elements=elements))
    return replace(behaviour, contract=contract)


def _doubles(behaviour: Behaviour) -> Behaviour:
    def widened(tensor: TensorValue) -> Array:
        return declared_dtype(tensor).astype(np.float64)

    return replace(behaviour, leaf_dtype=widened)


def _halved(behaviour: Behaviour) -> Behaviour:
    def noisy(tensor: TensorValue) -> Array:
        return declared_dtype(tensor) * np.float32(0.5)

    return replace(behaviour, leaf_dtype=noisy)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "session-never-ends",
        "The client is closed without ending its session.",
        checks("session.end"),
        "0.38.0 says why it leaves.",
        client=NeverEnds,
    ),
    Mutant(
        "session-first",
        "The session is created before the client has its configuration.",
        checks("session.start"),
        "The routes are right, their order is not.",
        client=StartsBackwards,
    ),
    Mutant(
        "info-twice",
        "get_info is asked twice when a model is created.",
        checks("session.model"),
        "One request too many.",
        client=AsksTwice,
    ),
    Mutant(
        "method-unnamed",
        "Requests do not name the public method they belong to.",
        checks("wire.headers"),
        "x-sdk-method is part of 0.38.0's requests.",
        client=NamesNoMethod,
    ),
    Mutant(
        "constant-key",
        "Every request carries the same idempotency key.",
        checks("wire.keys"),
        "A server that knows resends by their key takes the second request for the first one sent again.",
        scenarios=KEYED,
        client=OneKey,
    ),
    Mutant(
        "key-per-call",
        "The chunks of a pass share an idempotency key.",
        checks("wire.keys"),
        "Chunks are requests of their own.",
        scenarios=("chunks/count-1025", "faults/submit-retried-middle", "custom/sum-literal"),
        client=KeyPerCall,
    ),
    Mutant(
        "key-per-result",
        "All polls for a result carry the same idempotency key.",
        checks("wire.keys"),
        "A server that knows resends by their key answers: not yet, for ever.",
        scenarios=("futures/try-again", "futures/metadata-only", "custom/sum-literal"),
        client=KeyPerResult,
    ),
    Mutant(
        "unknown-path",
        "A request goes to a path that no release knows.",
        checks("wire.accepted"),
        "A strict server answers 404; a lax one hides the mistake for years.",
        client=UnknownPath,
    ),
    Mutant(
        "metadata-not-allowed",
        "retrieve_future does not say whether metadata alone is allowed.",
        checks("wire.retrieval", "poll.attempts"),
        "0.14.0 and later allow it; a server that announces the size first is asked once less.",
        silences=checks("poll.rate"),
        change=_acceptless,
    ),
    Mutant(
        "null-for-absent",
        "create_model says user_metadata: null.",
        checks("wire.bodies"),
        "0.38.0 omits what has no value; servers have rejected nulls.",
        change=_nulls,
    ),
    Mutant(
        "unknown-field",
        "load_weights carries load_optimizer_state.",
        checks("wire.bodies", "wire.known_fields"),
        "No release knows the field.",
        change=_stranger,
    ),
    Mutant(
        "chunk-type-named",
        "0.15.0 names the type of its chunks.",
        checks("wire.forms"),
        "The key appears in a later era.",
        contract="tinker-0.15.0",
        change=_typed_chunks,
    ),
    Mutant(
        "leaves-float64",
        "The callback gets float64 logprobs.",
        checks("loss.saw_dtype"),
        "Every release differentiates in float32.",
        change=_doubles,
    ),
    Mutant(
        "logprobs-halved",
        "The callback gets other logprobs than the server sent.",
        checks("loss.saw_values", "weights.values", "metrics.values", "training.gradient", "training.parameters"),
        "The loss is computed on numbers of its own; everything after it follows.",
        change=_halved,
    ),
)
