"""Clients that do the wrong thing when a request, or a part of a call, does not come through."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import msgspec
from mutant import Mutant, checks
from patience import numbers

from harness.reference.behaviour import Behaviour
from harness.reference.calls import Call
from harness.reference.client import ReferenceClient
from harness.reference.errors import HttpStatusError, RequestFailedError, TransportError
from harness.reference.order import Plan, Turns

REFUSED = ("faults/submit-first", "faults/submit-middle", "faults/submit-last", "faults/forward-submit-middle")
REFUSED_CUSTOM = ("faults/custom-forward-submit", "faults/custom-backward-submit")
FAILED = ("faults/result-first", "faults/result-middle", "faults/result-last", "faults/forward-result-middle")
FAILED_CUSTOM = ("faults/custom-forward-result", "faults/custom-backward-result")
SENT_AGAIN = ("faults/submit-retried-middle", "faults/submit-lost-middle")
AT_ONCE = ("faults/poll-not-yet-at-once", "faults/poll-timeout-at-once", "faults/poll-errors-at-once")

TRAINED = "training.gradient training.parameters"


def one_round(behaviour: Behaviour, **changes: Any) -> Behaviour:
    """Change the contract's retries, and let what was given up stay so."""
    again = msgspec.structs.replace(behaviour.contract.retry.again, within=0.0)
    return numbers("retry", again=again, **changes)(behaviour)


def _retries_refusals(behaviour: Behaviour) -> Behaviour:
    statuses = (*behaviour.contract.retry.statuses, "400")
    return one_round(behaviour, statuses=statuses, attempts=2, first_delay=0.1)


class _Stuck(Turns):
    """Turns that only pass for what was really sent."""

    def skip(self, count: int) -> None:
        """Let no turn pass."""

    @asynccontextmanager
    async def take(self, first: int, last: int) -> AsyncIterator[None]:
        """Take a turn, and let the next come."""
        try:
            async with super().take(first, last):
                yield
        finally:
            super().skip(1)


def _all_at_once(behaviour: Behaviour) -> Behaviour:
    def together(ids: range) -> Plan:
        return Plan(waves=(tuple(range(len(ids))),), turns=tuple((ids[0], ids[-1]) for _ in ids))

    return replace(behaviour, order=together)


class AsksAgain(ReferenceClient):
    """Asks for a failed result a second time."""

    async def poll(self, submitted: Mapping[str, Any], request_type: str, call: Call, *, roundtrip: float) -> bytes:
        """Hope that it was a mistake."""
        try:
            return await super().poll(submitted, request_type, call, roundtrip=roundtrip)
        except RequestFailedError:
            return await super().poll(submitted, request_type, call, roundtrip=roundtrip)


class BlamesTheConnection(ReferenceClient):
    """Tells the caller of a failed operation that the connection failed."""

    async def poll(self, submitted: Mapping[str, Any], request_type: str, call: Call, *, roundtrip: float) -> bytes:
        """Lose what the server said."""
        try:
            return await super().poll(submitted, request_type, call, roundtrip=roundtrip)
        except RequestFailedError as error:
            raise TransportError("something went wrong") from error


class Watched(ReferenceClient):
    """Has a say in each HTTP request before it leaves."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._transport._http.event_hooks = {"request": [self.leaving], "response": []}

    async def leaving(self, request: httpx.Request) -> None:
        """Let it go."""


class NewKeys(Watched):
    """Makes an idempotency key for each attempt."""

    async def leaving(self, request: httpx.Request) -> None:
        """Replace the key."""
        request.headers["x-idempotency-key"] = str(uuid.uuid4())


class WaitsOnce(Watched):
    """Waits for seconds before the second poll of a result."""

    async def leaving(self, request: httpx.Request) -> None:
        """Dawdle."""
        if request.headers.get("x-tinker-request-iteration") == "1":
            await asyncio.sleep(6.0)


class _ByHand(Watched):
    """Sends a pass again by itself; its key is made of the body it began with."""

    key = ""

    async def leaving(self, request: httpx.Request) -> None:
        """Use the key of the first attempt."""
        if self.key and request.url.path.endswith("forward_backward"):
            request.headers["x-idempotency-key"] = self.key

    def again(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what is sent the second time."""
        raise NotImplementedError

    async def send(self, route: str, content: bytes, content_type: str, call: Call | None) -> dict[str, Any]:
        """Send a pass, and what `again` makes of it where that does not come through."""
        if route != "forward_backward":
            return await super().send(route, content, content_type, call)
        try:
            self.key = str(uuid.uuid4())
            return await super().send(route, content, content_type, call)
        except (HttpStatusError, TransportError):
            await asyncio.sleep(self.behaviour.contract.retry.first_delay)
            return await super().send(route, json.dumps(self.again(json.loads(content))).encode(), content_type, call)
        finally:
            self.key = ""


class LeavesSomethingOut(_ByHand):
    """Sends a request again without a part that it had."""

    def again(self, body: dict[str, Any]) -> dict[str, Any]:
        """Leave the loss's configuration out."""
        kept = {key: value for key, value in body["forward_backward_input"].items() if key != "loss_fn_config"}
        return {**body, "forward_backward_input": kept}


class BeginsAnew(_ByHand):
    """Sends a request again as another one, after everything else."""

    def again(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take an id that nothing has."""
        self.key = str(uuid.uuid4())
        return {**body, "seq_id": 5}


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "refusals-retried",
        "A 400 is sent again.",
        checks("retry.attempts"),
        "A refusal with a reason is final.",
        # Not REFUSED_CUSTOM: half a call waits there, and a second of silence on a busy machine is a gap.
        contract="tinker-0.15.0",
        scenarios=REFUSED,
        change=_retries_refusals,
    ),
    Mutant(
        "turns-never-pass",
        "The turns of chunks that are never sent do not pass.",
        checks("result.hang", "error.after"),
        "What the official SDK does: the next call waits for ever.",
        scenarios=("faults/submit-middle-then-step", "faults/submit-last-then-step"),
        change=lambda behaviour: replace(behaviour, turns=_Stuck),
    ),
    Mutant(
        "turns-never-pass-serial",
        "0.15.0, too, waits for the turns of chunks that are never sent.",
        checks("result.hang", "error.after"),
        "In turn, it is the chunks after the refused one that are never sent.",
        contract="tinker-0.15.0",
        scenarios=("faults/submit-first-then-step", "faults/submit-middle-then-step", *REFUSED_CUSTOM),
        change=lambda behaviour: replace(behaviour, turns=_Stuck),
    ),
    Mutant(
        "first-chunk-not-held",
        "All chunks leave together, the first among them.",
        checks("order.seq"),
        "The first chunk is sent although another one was refused, under the id that golden never uses.",
        scenarios=("faults/submit-middle", "faults/submit-last"),
        change=_all_at_once,
    ),
    Mutant(
        "failed-result-asked-again",
        "A failed result is asked for once more.",
        checks("poll.attempts"),
        "What failed stays failed.",
        scenarios=(*FAILED, *FAILED_CUSTOM),
        client=AsksAgain,
    ),
    Mutant(
        "failure-called-transport",
        "A failed operation is reported as a failed connection.",
        checks("error.kind"),
        "The caller tries again what can never work.",
        scenarios=FAILED,
        client=BlamesTheConnection,
    ),
    Mutant(
        "usable-after-half",
        "0.38.0 goes on after half of a custom call was lost.",
        checks("error.after", "error.sent", "gaps.none"),
        "The release refuses: an optimizer step would apply half a gradient, after ids that are never used.",
        scenarios=(*FAILED_CUSTOM, *REFUSED_CUSTOM),
        change=lambda behaviour: replace(behaviour, after_failure=lambda _turns, _error: None),
    ),
    Mutant(
        "retries-hurried",
        "The first retry comes after 50 ms.",
        checks("retry.gaps"),
        "Below the envelope: the contract waits 0.375 to 0.5 seconds.",
        scenarios=SENT_AGAIN,
        change=numbers("retry", first_delay=0.05),
    ),
    Mutant(
        "retries-dawdle",
        "The first retry comes after five seconds.",
        checks("retry.gaps"),
        "Above the envelope.",
        scenarios=SENT_AGAIN,
        change=numbers("retry", first_delay=5.0),
    ),
    Mutant(
        "retries-none",
        "Nothing is sent again.",
        checks("retry.attempts retry.once result.status chunks.complete order.seq order.arrival gaps.none", TRAINED),
        "A busy server ends the call: the chunk has no effect, the first one is never sent, the rest is trained on.",
        silences=checks("retry.gaps retry.same_request result.outputs metrics.values"),
        scenarios=SENT_AGAIN,
        change=lambda behaviour: one_round(behaviour, attempts=1),
    ),
    Mutant(
        "key-per-attempt",
        "Each attempt has an idempotency key of its own.",
        checks("retry.same_request"),
        "A server that knows resends by their key counts them twice.",
        scenarios=SENT_AGAIN,
        client=NewKeys,
    ),
    Mutant(
        "resend-is-other-body",
        "0.15.0 leaves loss_fn_config out when it sends a pass again.",
        checks("retry.same_request"),
        "A server may refuse it: the same seq_id with another body.",
        contract="tinker-0.15.0",
        scenarios=("faults/submit-retried-middle",),
        client=LeavesSomethingOut,
        change=lambda behaviour: one_round(behaviour, attempts=1),
    ),
    Mutant(
        "resend-is-new-request",
        "0.15.0 sends what was not acknowledged as a new request.",
        checks("retry.attempts retry.same_request retry.once chunks.complete order.arrival gaps.none", TRAINED),
        "It took effect the first time: its gradient is counted twice, and the id it has now is another's.",
        silences=checks("retry.gaps"),
        contract="tinker-0.15.0",
        scenarios=("faults/submit-lost-middle",),
        client=BeginsAnew,
        change=lambda behaviour: one_round(behaviour, attempts=1),
    ),
    Mutant(
        "polls-in-a-loop",
        "A result is asked for again without a pace.",
        checks("poll.rate"),
        "What the official SDK does: a server that answers at once is asked hundreds of times a second.",
        scenarios=AT_ONCE,
        change=numbers("polling", most_per_second=1_000_000),
    ),
    Mutant(
        "polls-dawdle",
        "The second poll comes after six seconds.",
        checks("poll.rate"),
        "Above the envelope: not yet is asked again at once.",
        scenarios=AT_ONCE,
        client=WaitsOnce,
    ),
    Mutant(
        "polls-give-up",
        "A 408 or a 5xx ends the wait for a result.",
        checks("result.status", "poll.attempts", "faults.consumed"),
        "A slow operation looks like a failed one.",
        silences=checks("poll.rate", "result.outputs"),
        scenarios=("faults/poll-timeout-at-once", "faults/poll-errors-at-once"),
        change=numbers("polling", at_once=()),
    ),
)
