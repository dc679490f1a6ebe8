"""Clients that are wrong about their session, its end and its clients: heartbeats, close, cancellation, telemetry."""

from __future__ import annotations

import asyncio
import atexit
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import httpx
import msgspec
from mutant import Mutant, checks

from harness.reference.behaviour import Behaviour, fill_body
from harness.reference.calls import Pending
from harness.reference.client import ReferenceClient
from harness.reference.custom_loss import LossFn
from harness.reference.encoding import PassOutput
from harness.reference.errors import CallCancelledError, CallError, HttpStatusError, TransportError
from harness.reference.order import Turns
from harness.reference.rules import poison
from harness.reference.training import TrainingClient
from harness.reference.values import Datum
from harness.suite.data import DatumValue

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
P = ParamSpec("P")
WAITING = ("faults/heartbeat",)


# --- heartbeats -------------------------------------------------------------------------------------------------------


def _session(**changes: Any) -> Callable[[Behaviour], Behaviour]:
    def change(behaviour: Behaviour) -> Behaviour:
        session = msgspec.structs.replace(behaviour.contract.session, **changes)
        return replace(behaviour, contract=msgspec.structs.replace(behaviour.contract, session=session))

    return change


def _untyped(behaviour: Behaviour) -> Behaviour:
    def body(route: str, given: Mapping[str, Any]) -> Any:
        filled = fill_body(behaviour.contract, route, given)
        return {"session_id": filled["session_id"]} if route == "session_heartbeat" else filled

    return replace(behaviour, body=body)


def _resent(behaviour: Behaviour) -> Behaviour:
    retry = msgspec.structs.replace(behaviour.contract.retry, attempts_of={})
    return replace(behaviour, contract=msgspec.structs.replace(behaviour.contract, retry=retry))


class NeverBeats(ReferenceClient):
    """Says nothing between calls."""

    async def _beat(self) -> None:
        return


class StopsBeating(ReferenceClient):
    """Takes one failure for the end."""

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.behaviour.contract.session.heartbeat_seconds)
            try:
                await self.post("session_heartbeat", {"session_id": self.session_id}, None)
            except CallError:
                return


class BeatsElsewhere(ReferenceClient):
    """Says that it is there where nobody listens, and takes no notice of the answer."""

    async def _beat(self) -> None:
        body = json.dumps({"session_id": self.session_id}).encode()
        while True:
            await asyncio.sleep(self.behaviour.contract.session.heartbeat_seconds)
            with suppress(CallError):
                await self._transport.submit("heartbeat", body, {"content-type": "application/json"})


class _Inline(Executor):
    """Runs what it is given where it is given it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call at once."""
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class LossOnTheLoop(ReferenceClient):
    """Computes losses on the loop that sends heartbeats."""

    def __init__(self, base_url: str, api_key: str, behaviour: Behaviour, *, workers: Executor | None = None) -> None:
        super().__init__(base_url, api_key, behaviour, workers=_Inline())
        del workers


# --- the end ----------------------------------------------------------------------------------------------------------


class ClosesNothing(ReferenceClient):
    """Tells the server that the session is over, and goes on."""

    async def close(self, *, call: str = "") -> bool:
        """Finish the session; keep heartbeats and polls."""
        abandon = self.abandon
        self.abandon = self._nothing  # type: ignore[method-assign]
        try:
            return await super().close(call=call)
        finally:
            self.abandon = abandon  # type: ignore[method-assign]

    async def _nothing(self) -> None:
        return


class KeepsTheProcess(ReferenceClient):
    """Has a thread that the end of the program waits for."""

    def __init__(self, base_url: str, api_key: str, behaviour: Behaviour, *, workers: Executor | None = None) -> None:
        super().__init__(base_url, api_key, behaviour, workers=workers)
        threading.Thread(target=threading.Event().wait, name="mutant", daemon=False).start()


class FinishesAtExit(ReferenceClient):
    """Finishes the session when the program ends, though nobody closed the client."""

    def __init__(self, base_url: str, api_key: str, behaviour: Behaviour, *, workers: Executor | None = None) -> None:
        super().__init__(base_url, api_key, behaviour, workers=workers)
        atexit.register(self._finish, base_url, {"x-api-key": api_key})

    def _finish(self, base_url: str, headers: dict[str, str]) -> None:
        address = f"{base_url}/api/v1/sessions/{self.session_id}/finish"
        httpx.post(address, json={"reason": {"type": "success"}}, headers=headers, trust_env=False)


# --- cancellation -----------------------------------------------------------------------------------------------------


def _cancelled_is_usable(behaviour: Behaviour) -> Behaviour:
    def after(turns: Turns, error: Exception) -> None:
        if not isinstance(error, CallCancelledError):
            poison(turns, error)

    return replace(behaviour, after_failure=after)


class _PoisonousPending(Pending[PassOutput]):
    """A plain call whose cancellation poisons its client."""

    turns: Turns

    def cancel(self) -> None:
        super().cancel()
        self.turns.poison(CallCancelledError("cancelled"))


class _AlteredPasses(ReferenceClient):
    """Hands what plain passes return to `altered` before the caller gets it."""

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its plain passes altered."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
        plain = made.forward_backward

        def altered(data: Sequence[DatumValue], loss_fn: str, *, call: str = "") -> Pending[PassOutput]:
            return self.altered(made, plain(data, loss_fn, call=call))

        made.forward_backward = altered  # type: ignore[method-assign]
        return made

    def altered(self, model: TrainingClient, pending: Pending[PassOutput]) -> Pending[PassOutput]:
        """Return what the caller gets instead."""
        raise NotImplementedError


class PoisonedByCancel(_AlteredPasses):
    """Refuses everything after a plain call was cancelled."""

    def altered(self, model: TrainingClient, pending: Pending[PassOutput]) -> Pending[PassOutput]:
        """Poison when it is cancelled."""
        poisonous = _PoisonousPending(pending.task, pending.type)
        object.__setattr__(poisonous, "turns", model._turns)
        return poisonous


# --- several clients --------------------------------------------------------------------------------------------------


class SharesOneLoss(ReferenceClient):
    """Keeps the loss of the latest call, for all of its clients."""

    latest: LossFn

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its losses shared."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
        plain = made.forward_backward_custom

        def shared(datums: Sequence[Datum], leaves: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
            return self.latest(datums, leaves)

        async def custom(data: Sequence[DatumValue], loss_fn: LossFn, *, call: str = "") -> Pending[PassOutput]:
            self.latest = loss_fn
            return await plain(data, shared, call=call)

        made.forward_backward_custom = custom  # type: ignore[method-assign]
        return made


# --- configuration ----------------------------------------------------------------------------------------------------


class StartsWithoutConfig(ReferenceClient):
    """Takes its defaults when the configuration is refused."""

    async def _start(self, route: str) -> None:
        try:
            await super()._start(route)
        except HttpStatusError:
            if route != "client/config":
                raise


class DoesNotWaitForConfig(ReferenceClient):
    """Goes on while the configuration is on its way."""

    async def _start(self, route: str) -> None:
        if route == "client/config":
            self.spawn(super()._start(route))
            await asyncio.sleep(0.05)  # it is asked for first, and that is all
        else:
            await super()._start(route)


def _config_asked_once(behaviour: Behaviour) -> Behaviour:
    retry = behaviour.contract.retry
    attempts = {**retry.attempts_of, "client/config": 1}
    again = msgspec.structs.replace(retry.again, not_for=(*retry.again.not_for, "client/config"))
    changed = msgspec.structs.replace(retry, attempts_of=attempts, again=again)
    return replace(behaviour, contract=msgspec.structs.replace(behaviour.contract, retry=changed))


# --- telemetry --------------------------------------------------------------------------------------------------------


class WaitsForTelemetry(_AlteredPasses):
    """Raises the error of a call once telemetry was accepted."""

    def altered(self, model: TrainingClient, pending: Pending[PassOutput]) -> Pending[PassOutput]:
        """Report a failure until it is accepted."""
        del model

        async def reported() -> PassOutput:
            try:
                return await pending.result()
            except CallError as failure:
                while True:
                    try:
                        await self.report(failure)
                    except CallError:
                        await asyncio.sleep(1.0)
                    else:
                        raise

        return Pending(self.spawn(reported()), pending.type)


class RaisesOfTelemetry(_AlteredPasses):
    """Raises what went wrong with telemetry instead of what went wrong."""

    def altered(self, model: TrainingClient, pending: Pending[PassOutput]) -> Pending[PassOutput]:
        """Replace the error."""
        del model

        async def replaced() -> PassOutput:
            try:
                return await pending.result()
            except CallError as failure:
                raise TransportError("telemetry cannot be reached") from failure

        return Pending(self.spawn(replaced()), pending.type)


MUTANTS = (
    Mutant(
        "beats-too-often",
        "A heartbeat every five seconds.",
        checks("heartbeat.period"),
        "The contract says ten: twice the load on the service.",
        scenarios=WAITING,
        change=_session(heartbeat_seconds=5.0),
    ),
    Mutant(
        "beats-too-seldom",
        "A heartbeat every twenty seconds.",
        checks("heartbeat.period"),
        "The service may take the session for abandoned in between.",
        scenarios=WAITING,
        change=_session(heartbeat_seconds=20.0),
    ),
    Mutant(
        "beats-never",
        "No heartbeats.",
        checks("heartbeat.period"),
        "A client that has nothing to do loses its session; there is no body to look at.",
        scenarios=WAITING,
        silences=checks("heartbeat.body"),
        client=NeverBeats,
    ),
    Mutant(
        "beats-elsewhere",
        "Heartbeats go to /api/v1/heartbeat.",
        checks("heartbeat.period", "wire.accepted"),
        "No release has that path: the service never hears of the client and ends its session.",
        scenarios=WAITING,
        silences=checks("heartbeat.body"),
        client=BeatsElsewhere,
    ),
    Mutant(
        "beat-without-type",
        "Heartbeats of 0.38.0 carry no type.",
        checks("heartbeat.body"),
        "Since 0.18 every JSON body of the SDK names its type.",
        scenarios=WAITING,
        change=_untyped,
    ),
    Mutant(
        "beats-end-at-failure",
        "One heartbeat that fails is the last.",
        checks("heartbeat.failure"),
        "A hiccup of the service ends the session two minutes later.",
        scenarios=("faults/heartbeat-fails",),
        client=StopsBeating,
    ),
    Mutant(
        "beats-resent",
        "A heartbeat that fails is sent again at once.",
        checks("heartbeat.failure"),
        "The next one comes anyway; a service in trouble gets several from every client.",
        scenarios=("faults/heartbeat-fails",),
        change=_resent,
    ),
    Mutant(
        "beats-after-410",
        "Heartbeats go on after a 410.",
        checks("heartbeat.failure"),
        "Since 0.38.0 a 410 ends them: the session is over.",
        scenarios=("faults/heartbeat-gone",),
        change=_session(heartbeat_stops_at=()),
    ),
    Mutant(
        "loss-on-the-loop",
        "Losses are computed on the loop that sends heartbeats.",
        checks("heartbeat.period"),
        "A loss that takes longer than the period costs a heartbeat.",
        scenarios=("faults/slow-loss-heartbeats",),
        client=LossOnTheLoop,
    ),
    Mutant(
        "polls-after-close",
        "close() leaves polls running.",
        checks("session.silent"),
        "What nobody waits for any more is asked for until the process ends.",
        scenarios=("faults/close-in-flight",),
        client=ClosesNothing,
    ),
    Mutant(
        "beats-after-close",
        "close() leaves the heartbeat running.",
        checks("session.silent"),
        "A long process that makes one client after the other keeps every session alive.",
        scenarios=("faults/closed-is-silent",),
        client=ClosesNothing,
    ),
    Mutant(
        "process-kept",
        "A thread of the client keeps the process.",
        checks("result.hang"),
        "A script that has come to its end does not end; after a hang nothing is said about closing.",
        silences=checks("session.end"),
        scenarios=("faults/exit-in-flight",),
        client=KeepsTheProcess,
    ),
    Mutant(
        "finished-at-exit",
        "The end of the program finishes the session.",
        checks("session.end"),
        "Only close() says that a session was a success.",
        scenarios=("faults/exit-in-flight",),
        client=FinishesAtExit,
    ),
    Mutant(
        "usable-after-cancel",
        "A cancelled custom call leaves a client of 0.38.0 usable.",
        checks("error.after error.sent order.gapless gaps.none"),
        "Cancelling is a failure like any other: the gradient of the call is missing, and the id of its backward pass.",
        scenarios=("faults/cancel-custom",),
        change=_cancelled_is_usable,
    ),
    Mutant(
        "poisoned-by-cancel",
        "A cancelled plain call poisons the client.",
        checks("error.after error.sent training.steps"),
        "In every release the client goes on after a plain call was cancelled; here nothing more is sent or trained.",
        silences=checks("training.gradient"),
        scenarios=("faults/cancel-plain",),
        client=PoisonedByCancel,
    ),
    Mutant(
        "one-loss-for-all",
        "The loss of the latest call is used for every client.",
        checks("loss.calls weights.values metrics.names"),
        "Eight clients at once train on the loss of one of them, which is called for all.",
        scenarios=("faults/eight-clients-threads", "faults/eight-clients-asyncio"),
        client=SharesOneLoss,
    ),
    Mutant(
        "starts-without-config",
        "A refused configuration is ignored.",
        checks("result.status session.start"),
        "The user believes the client works, and its data is cut by limits nobody has given.",
        silences=checks("error.kind error.raised_at"),
        scenarios=("faults/config-refused",),
        client=StartsWithoutConfig,
    ),
    Mutant(
        "config-not-awaited",
        "The client starts while its configuration is on its way.",
        checks("chunks.boundaries"),
        "The first call is cut by the defaults.",
        scenarios=("faults/config-late",),
        client=DoesNotWaitForConfig,
    ),
    Mutant(
        "config-asked-once",
        "A configuration that fails with 503 is not asked for again.",
        checks("retry.attempts result.status session.start session.end"),
        "A client that starts with the server does not start at all: no session, no model, no end.",
        silences=checks("retry.gaps retry.same_request session.model"),
        scenarios=("faults/config-fails-once",),
        change=_config_asked_once,
    ),
    Mutant(
        "waits-for-telemetry",
        "The error of a call is raised once telemetry was accepted.",
        checks("result.hang error.sent"),
        "Where there is no /telemetry, the caller never learns that the call failed, and makes no other.",
        silences=checks("error.kind error.raised_at error.after session.end"),
        scenarios=("faults/telemetry-missing",),
        client=WaitsForTelemetry,
    ),
    Mutant(
        "error-of-telemetry",
        "What went wrong with telemetry is raised instead of what went wrong.",
        checks("error.kind"),
        "The caller looks for the mistake in the wrong place.",
        scenarios=("faults/telemetry-fails",),
        client=RaisesOfTelemetry,
    ),
)
