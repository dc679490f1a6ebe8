"""Runs the steps of one scenario on the reference client, many runs side by side on one event loop."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_args

import msgspec

from harness.drivers.protocol import FailedPart, Run, StepResult, TensorSummary
from harness.drivers.python import spelling
from harness.drivers.reference.parts import WatchedParts
from harness.drivers.reference.watching import WatchedLoss
from harness.drivers.wire import decode_datum, summarise
from harness.reference.calls import Pending
from harness.reference.client import ReferenceClient
from harness.reference.encoding import PassOutput
from harness.reference.errors import CallCancelledError, CallError
from harness.reference.regularizers import pipeline
from harness.reference.regularizers.flat import KEY
from harness.reference.regularizers.telemetry import to_builtins
from harness.reference.training import TrainingClient
from harness.reference.values import datum_from
from harness.suite import scenario
from harness.suite.data import DatumValue

CLOSE = "close"
EXIT = "exit"


_KEYS = {
    str(kind.__struct_config__.tag): frozenset({"do", *kind.__struct_encode_fields__})
    for kind in get_args(scenario.Step)
}


def _understood(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step without the keys that a newer minor version of the protocol has added to it."""
    return {key: value for key, value in step.items() if key in _KEYS.get(str(step.get("do")), step)}


class _NotPossible(Exception):  # noqa: N818 - it is no error of the client: the step is skipped
    """A step cannot be tried, because a step it builds on has not given what it needs."""


class _Open:
    """One submitted step: its result so far, what to wait for, and its callback."""

    def __init__(self, step: str) -> None:
        self.result = StepResult(step=step, status="skipped")
        self.waiting: Callable[[], Awaitable[tuple[str, Any]]] | None = None
        self.cancel: Callable[[], object] | None = None
        self.loss: WatchedLoss | WatchedParts | None = None


class ScenarioRun:
    """The steps of one `run` command."""

    def __init__(self, client: ReferenceClient, command: Run) -> None:
        self._client = client
        self._command = command
        self._steps = [msgspec.convert(_understood(step), scenario.Step) for step in command.steps]
        self._data: dict[str, list[DatumValue]] = {}
        self._models: dict[str, TrainingClient] = {}
        self._paths: dict[str, str] = {}
        self._leaves = bool(self._steps) and isinstance(self._steps[-1], scenario.Exit)
        submitted = [step.id for step in self._steps if hasattr(step, "id")]
        self._open = {step: _Open(step) for step in [*submitted, EXIT if self._leaves else CLOSE]}
        self._started: list[asyncio.Task[Any]] = []
        self._last_made: dict[str, asyncio.Task[Any]] = {}
        self._current: tuple[_Open, str] | None = None

    @property
    def ends_the_program(self) -> bool:
        """Whether the steps have come to an `exit`."""
        return self._leaves and self._open[EXIT].result.status == "ok"

    async def execute(self) -> list[StepResult]:
        """Run the steps for at most the command's timeout; return one result per submitted step, and `close`.

        The call that is open at the timeout is a hang; what was not reached is skipped. Raises what failed in the
        driver itself.
        """
        work = asyncio.get_running_loop().create_task(self._work())
        try:
            done, _ = await asyncio.wait({work}, timeout=self._command.timeout)
            if done:
                work.result()
            elif self._current is not None:
                call, raised_at = self._current
                call.result = msgspec.structs.replace(
                    call.result, status="hang", raised_at=raised_at, stacks=stacks_of(work)
                )
        finally:
            for task in (work, *self._started):
                task.cancel()
            await asyncio.gather(work, *self._started, return_exceptions=True)
            await self._client.abandon()
        return [self._told(call) for call in self._open.values()]

    async def _work(self) -> None:
        closed = False
        for step in self._steps:
            match step:
                case scenario.Await():
                    await self._attempt(self._open[step.of], "await", self._wait)
                case scenario.Cancel():
                    await self._attempt(self._open[step.of], "submit", _cancel)
                case scenario.Idle():
                    await asyncio.sleep(step.seconds)
                case scenario.Close():
                    # An early close of a run that ends with `exit` has no result of its own.
                    await self._attempt(self._open.get(CLOSE) or _Open(CLOSE), "submit", self._close)
                    closed = True
                case scenario.Exit():
                    self._open[EXIT].result = StepResult(step=EXIT, status="ok")
                case _:
                    await self._attempt(self._open[step.id], "submit", self._submitter(step))
        if not closed and not self._leaves:
            await self._attempt(self._open[CLOSE], "submit", self._close)

    async def _attempt(self, call: _Open, raised_at: str, action: Callable[[_Open], Awaitable[None]]) -> None:
        """Try one call or one await; note its result, its error, or that it is open."""
        self._current = (call, raised_at)
        step = call.result.step
        try:
            await action(call)
        except _NotPossible as reason:
            call.result = StepResult(step=step, status="skipped", message=str(reason))
        except CallError as error:
            call.waiting = None
            call.result = StepResult(
                step=step,
                status="error",
                kind=error.kind,
                type=type(error).__name__,
                message=str(error),
                raised_at="await" if raised_at == "await" else "submit",
                failed=None if error.part is None else FailedPart(error.part.part, error.part.name),
            )
        self._current = None

    # --- submitting ---------------------------------------------------------------------------------------------------

    def _submitter(self, step: Any) -> Callable[[_Open], Awaitable[None]]:
        match step:
            case scenario.CreateModel():
                return lambda call: self._create_model(call, step)
            case scenario.GetInfo():
                return lambda call: self._get_info(call, step)
            case scenario.ComputeRegularizers():
                return lambda call: self._compute(call, step)
            case _:
                return lambda call: self._submit(call, step)

    async def _create_model(self, call: _Open, step: scenario.CreateModel) -> None:
        model = await self._client.create_model(step.base_model, rank=step.rank, seed=step.seed, call=step.id)
        self._models[step.id] = model
        call.result = StepResult(step=step.id, status="ok", type="TrainingClient", fields={"model_id": model.model_id})

    async def _get_info(self, call: _Open, step: scenario.GetInfo) -> None:
        info = await self._model(step.model).get_info(call=step.id)
        call.result = StepResult(step=step.id, status="ok", type="GetInfoResponse", fields=_fields(info, "model_id"))

    async def _compute(self, call: _Open, step: scenario.ComputeRegularizers) -> None:
        given = self._datums(step.data)
        parts = call.loss = WatchedParts(self._command.losses[step.loss], given)
        behaviour = self._client.behaviour
        computed = await pipeline.compute(
            [datum_from(datum, sparse=behaviour.sparse, nested=behaviour.nested) for datum in given],
            [datum.inputs[step.logprobs].array.copy() for datum in given],
            parts.base,
            parts.regularizers,
            **_options(step),
            structured=behaviour.structured,
        )
        call.result = StepResult(
            step=step.id,
            status="ok",
            type=type(computed.report).__name__,
            report=to_builtins(computed.report),
            flat=_metrics(behaviour.structured.flat(computed.report).metrics),
        )

    async def _submit(self, call: _Open, step: Any) -> None:
        begin = self._beginner(call, step)
        if step.style == "blocking":
            pending = await begin()

            async def wait_plain() -> tuple[str, Any]:
                return pending.type, await pending.result()

            call.waiting, call.cancel = wait_plain, pending.cancel
        else:
            task = self._start(begin, after=self._last_made.get(step.model) if step.style == "thread" else None)
            if step.style == "thread":
                self._last_made[step.model] = task
            # Its first part runs before the next step starts; what it raises is raised by the await.
            await asyncio.sleep(0)

            async def wait() -> tuple[str, Any]:
                await asyncio.wait([task])
                if task.cancelled():
                    raise CallCancelledError("the call was cancelled before it was made")
                return task.result().type, await task.result().result()

            def cancel() -> None:
                if not task.done():
                    task.cancel()
                elif not task.cancelled() and task.exception() is None:
                    task.result().cancel()

            call.waiting, call.cancel = wait, cancel
        call.result = StepResult(step=step.id, status="unawaited")

    def _start(self, begin: Callable[[], Any], *, after: asyncio.Task[Any] | None) -> asyncio.Task[Any]:
        """Make a call beside the steps, after the call that is made before it."""

        async def made() -> Pending[Any]:
            if after is not None:
                await asyncio.wait([after])
            pending: Pending[Any] = await begin()
            return pending

        task = asyncio.get_running_loop().create_task(made())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._started.append(task)
        return task

    def _beginner(self, call: _Open, step: Any) -> Callable[[], Any]:
        """Return the coroutine function that makes the call and gives what is pending."""
        model = self._model(step.model)
        label = step.id
        match step:
            case scenario.Forward():
                data = self._datums(step.data)
                return _later(lambda: model.forward(data, step.loss_fn, call=label))
            case scenario.ForwardBackward():
                data = self._datums(step.data)
                return _later(lambda: model.forward_backward(data, step.loss_fn, call=label))
            case scenario.ForwardBackwardCustom():
                data = self._datums(step.data)
                graph = self._command.losses[step.loss]
                if graph.get("apart") is not None and not graph["apart"].get("folded"):
                    parts = call.loss = WatchedParts(graph, data)
                    return lambda: model.forward_backward_custom(
                        data, parts.base, parts.regularizers, **_options(step), call=label
                    )
                loss = call.loss = WatchedLoss(graph, data)
                return lambda: model.forward_backward_custom(data, loss, call=label)
            case scenario.OptimStep():
                return _later(lambda: model.optim_step(step.params, call=label))
            case scenario.SaveState():
                return _later(lambda: model.save_state(step.name, call=label))
            case scenario.SaveWeightsForSampler():
                return _later(lambda: model.save_weights_for_sampler(step.name, call=label))
            case scenario.LoadState():
                path = self._path(step.path_of)
                return _later(lambda: model.load_state(path, call=label))
            case scenario.LoadStateWithOptimizer():
                path = self._path(step.path_of)
                return _later(lambda: model.load_state_with_optimizer(path, call=label))
        raise ValueError(f"unknown step {step!r}")

    def _datums(self, name: str) -> list[DatumValue]:
        if name not in self._data:
            self._data[name] = [decode_datum(datum) for datum in self._command.data[name]]
        return self._data[name]

    def _model(self, name: str) -> TrainingClient:
        if name not in self._models:
            raise _NotPossible(f"{name} was not created")
        return self._models[name]

    def _path(self, step: str) -> str:
        if step not in self._paths:
            raise _NotPossible(f"{step} gave no path")
        return self._paths[step]

    # --- waiting and telling ------------------------------------------------------------------------------------------

    async def _wait(self, call: _Open) -> None:
        if call.waiting is None:
            return  # it has its result: it raised when submitted, or needs no await
        waiting, call.waiting = call.waiting, None
        kind, value = await waiting()
        step = call.result.step
        if isinstance(value, PassOutput):
            call.result = StepResult(
                step=step,
                status="ok",
                type=kind,
                outputs=[_summaries(output) for output in value.outputs],
                metrics=_metrics(value.metrics),
                report=None if value.report is None else to_builtins(value.report),
                flat=None if value.report is None else _flat(value.metrics),
            )
            return
        metrics = value.get("metrics")
        fields = _fields(value, "path")
        if fields:
            self._paths[step] = fields["path"]
        call.result = StepResult(
            step=step, status="ok", type=kind, metrics=None if metrics is None else _metrics(metrics), fields=fields
        )

    async def _close(self, call: _Open) -> None:
        if not self._client.session_id:
            raise _NotPossible("no session was started")
        if not await self._client.close(call=CLOSE):
            raise _NotPossible("this release has no close")
        call.result = StepResult(step=CLOSE, status="ok")

    def _told(self, call: _Open) -> StepResult:
        if call.loss is None or (isinstance(call.loss, WatchedParts) and not call.loss.any):
            return call.result
        return msgspec.structs.replace(call.result, saw=call.loss.saw())


def stacks_of(work: asyncio.Task[Any]) -> str:
    """Return where a run stands: its own chain of awaits, and those of the loop's other tasks, outermost first."""
    return "\n".join(_awaits(task) for task in [work, *(other for other in asyncio.all_tasks() if other is not work)])


def _awaits(task: asyncio.Task[Any]) -> str:
    lines = [f"Task {task.get_name()}:\n"]
    # asyncio shows only the outermost frame of a suspended task; the rest is behind what it awaits.
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            lines += traceback.format_stack(frame, limit=1)
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "".join(lines)


async def _cancel(call: _Open) -> None:
    """Cancel what a call returned, unless it has its result."""
    if call.waiting is not None and call.cancel is not None:
        call.cancel()


def _later(begin: Callable[[], Pending[Any]]) -> Callable[[], Any]:
    async def started() -> Pending[Any]:
        return begin()

    return started


def _summaries(output: Mapping[str, Any]) -> dict[str, TensorSummary]:
    return {name: summarise(tensor.dense(), dtype=tensor.dtype, shape=tensor.shape) for name, tensor in output.items()}


def _metrics(metrics: Mapping[str, Any]) -> dict[str, float | int | str | None]:
    return {name: _spelled(value) for name, value in metrics.items()}


def _spelled(value: Any) -> float | int | str | None:
    if value is None or isinstance(value, bool):
        return None if value is None else repr(value)
    if isinstance(value, int):
        return spelling.spell_int(value)
    return spelling.spell_float(value) if isinstance(value, float) else repr(value)


def _flat(metrics: Mapping[str, Any]) -> dict[str, float | int | str | None]:
    """Return the metrics of a result that are the flat form of its report."""
    return _metrics({name: value for name, value in metrics.items() if KEY.fullmatch(name)})


def _options(step: scenario.ForwardBackwardCustom | scenario.ComputeRegularizers) -> dict[str, Any]:
    return {
        "track_grad_norms": step.track_grad_norms,
        "run_sync_in_executor": step.run_sync_in_executor,
        "regularizer_timeout": step.regularizer_timeout,
    }


def _fields(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: result[name]} if isinstance(result.get(name), str) else {}
