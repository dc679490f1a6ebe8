"""Runs the steps of one scenario on the SDK, as a user's script would."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any

from . import convert, stacks
from .callback import LossCallback
from .concurrent_calls import ConcurrentCall, start_concurrently
from .error_kinds import kind_of
from .threaded_calls import CallingThread, ThreadedCall, cancel_future

CLOSE = "close"
EXIT = "exit"
STEPS = frozenset(
    {
        "await",
        "cancel",
        "close",
        "create_model",
        "exit",
        "forward",
        "forward_backward",
        "forward_backward_custom",
        "get_info",
        "idle",
        "load_state",
        "load_state_with_optimizer",
        "optim_step",
        "save_state",
        "save_weights_for_sampler",
    }
)
Result = dict[str, Any]


class NotPossible(Exception):  # noqa: N818 - it is no error of the SDK: the step is skipped
    """A step cannot be tried, because a step it builds on has not given what it needs."""


class _Done(Enum):
    """What an action did, where it gave no result of the SDK's."""

    SUBMITTED = "unawaited"
    CLOSED = "ok"
    NOTHING = ""


class _Call:
    """One step that is submitted: its result, what to wait for, and what was noted on the way."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.result: Result = {"step": step, "status": "skipped"}
        self.waiting: Any = None
        self.path: str | None = None
        self.callback: LossCallback | None = None
        self.data: list[Any] = []
        self.data_before = ""


class ScenarioRun:
    """The steps of one `run` command, executed on a thread of their own and given up at the timeout.

    Only what the SDK raises becomes the error of a step; what fails in the driver itself is raised by `execute`, and
    what is wrong with the command (an unknown step or name, a tensor that cannot be read) by the constructor.
    """

    def __init__(self, sdk: Any, command: Mapping[str, Any]) -> None:
        self._sdk = sdk
        self._command = command
        self._service: Any = None
        self._models: dict[str, Any] = {}
        self._given = {name: [convert.read_datum(datum) for datum in data] for name, data in command["data"].items()}
        self._data: dict[str, list[Any]] = {}
        self._calls: dict[str, _Call] = {}
        for step in command["steps"]:
            self._check(step)
            if "id" in step:
                self._calls[step["id"]] = _Call(step["id"])
        self._leaves = bool(command["steps"]) and command["steps"][-1]["do"] == EXIT
        self._end = EXIT if self._leaves else CLOSE
        self._calls[self._end] = _Call(self._end)
        self._threads: dict[str, CallingThread] = {}
        self._open: tuple[_Call, str] | None = None
        self._given_up = False
        self._lock = threading.Lock()
        self._failed: Exception | None = None

    @property
    def ends_the_program(self) -> bool:
        """Whether the steps have come to an `exit`."""
        return self._leaves and self._calls[EXIT].result["status"] == "ok"

    def execute(self) -> list[Result]:
        """Run the steps for at most the command's timeout; return one result per submitted step, and `close`."""
        thread = threading.Thread(target=self._work, name="parity-steps", daemon=True)
        thread.start()
        thread.join(self._command["timeout"])
        with self._lock:
            self._given_up = True
            if self._failed is not None:
                raise self._failed
            if self._open is not None:
                call, raised_at = self._open
                call.result = {"step": call.step, "status": "hang", "raised_at": raised_at, "stacks": stacks.of_all()}
            return [_told(call) for call in self._calls.values()]

    def _check(self, step: Mapping[str, Any]) -> None:
        if step["do"] not in STEPS:
            raise ValueError(f"unknown step {step['do']!r}")
        losses = self._command["losses"]
        for key, known in (("data", self._given), ("loss", losses), ("of", self._calls), ("path_of", self._calls)):
            if key in step and step[key] not in known:
                raise ValueError(f"step {step['do']!r}: {key} {step[key]!r} is not there")

    # --- the thread of the steps --------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            for step in self._command["steps"]:
                self._do(step)
            if not self._leaves:
                if not any(step["do"] == CLOSE for step in self._command["steps"]):
                    self._do({"do": CLOSE})
                _release(self._service)
        except Exception as error:  # noqa: BLE001 - handed to the thread that answers
            with self._lock:
                self._failed = error

    def _do(self, step: Mapping[str, Any]) -> None:
        match step["do"]:
            case "await":
                self._attempt(self._calls[step["of"]], "await", self._wait)
            case "cancel":
                self._attempt(self._calls[step["of"]], "submit", _cancel)
            case "idle":
                time.sleep(step["seconds"])
            case "close" | "exit":
                # An early close of a run that ends with `exit` has no result of its own.
                call = self._calls.get(step["do"]) or _Call(step["do"])
                self._attempt(call, "submit", self._close if step["do"] == CLOSE else lambda _: _Done.CLOSED)
            case _:
                self._attempt(self._calls[step["id"]], "submit", self._submitter(step))

    def _attempt(self, call: _Call, raised_at: str, action: Callable[[_Call], Any]) -> None:
        """Try one call or one await; note its result, its error, or that it is open."""
        with self._lock:
            if self._given_up:
                return
            self._open = (call, raised_at)
        result: Result | None
        try:
            value = action(call)
        except NotPossible as reason:
            result = {"status": "skipped", "message": str(reason)}
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - every error of the SDK is a result
            result = _error(call, error, raised_at)
            call.waiting = None
        else:
            result = _result(value)
        with self._lock:
            self._open = None
            if result is not None and not self._given_up:
                call.result = {"step": call.step, **result}

    def _submitter(self, step: Mapping[str, Any]) -> Callable[[_Call], Any]:
        match step["do"]:
            case "create_model":
                return lambda _: self._create_model(step)
            case "get_info":
                return lambda _: self._model(step).get_info()
            case _:
                return lambda call: self._submit(call, step)

    def _create_model(self, step: Mapping[str, Any]) -> Any:
        if self._service is None:
            # Read by the SDK when its client is made; where no option says so, the environment has it off.
            os.environ["TINKER_TELEMETRY"] = "1" if self._command.get("client", {}).get("telemetry") else "0"
            self._service = self._sdk.ServiceClient(
                base_url=self._command["base_url"], api_key=self._command["api_key"]
            )
        created = self._service.create_lora_training_client(
            step.get("base_model", "parity/tiny-bigram"), rank=step.get("rank", 8), seed=step.get("seed")
        )
        # Newer releases return a future of the client that can be used like the client itself.
        client = created.result() if hasattr(type(created), "result") else created
        self._models[step["id"]] = client
        return client

    def _submit(self, call: _Call, step: Mapping[str, Any]) -> _Done:
        client = self._model(step)
        arguments = self._arguments(call, step)
        match step.get("style", "blocking"):
            case "concurrent":
                call.waiting = start_concurrently(getattr(client, f"{step['do']}_async"), *arguments)
            case "thread":
                model = step.get("model", "model")
                if model not in self._threads:
                    self._threads[model] = CallingThread(model)
                call.waiting = self._threads[model].call(getattr(client, step["do"]), *arguments)
            case _:
                call.waiting = getattr(client, step["do"])(*arguments)
        return _Done.SUBMITTED

    def _arguments(self, call: _Call, step: Mapping[str, Any]) -> tuple[Any, ...]:
        match step["do"]:
            case "forward" | "forward_backward":
                return self._datums(step["data"]), step.get("loss_fn", "cross_entropy")
            case "forward_backward_custom":
                call.data = self._datums(step["data"])
                call.data_before = convert.digest_of_datums(call.data)
                call.callback = LossCallback(self._command["losses"][step["loss"]], self._sdk.types.TensorData)
                return call.data, call.callback
            case "optim_step":
                return (self._sdk.types.AdamParams(**step.get("params", {})),)
            case "load_state" | "load_state_with_optimizer":
                path = self._calls[step["path_of"]].path
                if path is None:
                    raise NotPossible(f"{step['path_of']} gave no path")
                return (path,)
            case _:
                return (step["name"],)

    def _datums(self, name: str) -> list[Any]:
        if name not in self._data:
            self._data[name] = [convert.build_datum(self._sdk, datum) for datum in self._given[name]]
        return self._data[name]

    def _model(self, step: Mapping[str, Any]) -> Any:
        name = step.get("model", "model")
        if name not in self._models:
            raise NotPossible(f"{name} was not created")
        return self._models[name]

    def _wait(self, call: _Call) -> Any:
        if call.waiting is None:
            return _Done.NOTHING  # it has its result: it raised when submitted, or needs no await
        result = call.waiting.result()
        call.waiting = None
        path = getattr(result, "path", None)
        call.path = path if isinstance(path, str) else None
        return result

    def _close(self, _call: _Call) -> _Done:
        service = self._service
        if service is None:
            raise NotPossible("no client was made")
        if not hasattr(service, "close"):
            raise NotPossible("this release has no close")
        arguments = ("success",) if inspect.signature(service.close).parameters else ()
        closing = service.close(*arguments)
        if hasattr(type(closing), "result"):
            closing.result()
        return _Done.CLOSED


def _cancel(call: _Call) -> _Done:
    """Cancel what a call returned, in the way the SDK offers it."""
    waiting = call.waiting
    if waiting is None:
        return _Done.NOTHING
    if isinstance(waiting, ConcurrentCall):
        waiting.cancel()
        return _Done.NOTHING
    if not (waiting.cancel() if isinstance(waiting, ThreadedCall) else cancel_future(waiting)):
        call.waiting = None
        raise NotPossible(f"a {type(waiting).__name__} cannot be cancelled")
    return _Done.NOTHING


def _result(value: Any) -> Result | None:
    if isinstance(value, _Done):
        return {"status": value.value} if value.value else None
    return {"status": "ok", **convert.describe_result(value)}


def _error(call: _Call, error: BaseException, raised_at: str) -> Result:
    raised_by_loss = call.callback.raised if call.callback else None
    at_once = (
        raised_at == "submit"
        or (isinstance(call.waiting, ConcurrentCall) and call.waiting.ended_at_once)
        or (isinstance(call.waiting, ThreadedCall) and call.waiting.raised_in_call)
    )
    return {
        "status": "error",
        "kind": kind_of(error, raised_by_loss=raised_by_loss, at_once=at_once),
        "type": type(error).__name__,
        "message": str(error),
        "raised_at": raised_at,
    }


def _told(call: _Call) -> Result:
    if call.callback is None:
        return call.result
    unchanged = convert.digest_of_datums(call.data) == call.data_before
    return {**call.result, "saw": call.callback.saw(unchanged=unchanged)}


def _release(service: Any) -> None:
    """Let go of a client that its user cannot close: its heartbeats would outlive the run in this process."""
    if service is not None and not hasattr(service, "close"):
        with suppress(Exception):  # a courtesy to later runs; what it finds is nothing a user sees
            service.holder.close()
