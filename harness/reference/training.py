"""A model of the reference client: the calls that train it, in their order, with their ids.

Every call that submits is a plain function that takes its ids before it returns, so that the order of calls is the
order of ids; its result is awaited later (`Pending.result`). `forward_backward_custom` is a coroutine: it returns when
the contract lets the official SDK's plain call return. Its first part, up to the ids of the forward pass, runs without
suspension, so that a task made of it has taken them at its first step.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.reference.calls import Call, Pending
from harness.reference.chunking import Bounds, Limits
from harness.reference.custom_loss import (
    LOSS_FN,
    CustomResult,
    LossFn,
    await_loss,
    call_loss,
    make_leaves,
    read_loss,
)
from harness.reference.encoding import PassOutput, PassRequest, json_object, route_of
from harness.reference.errors import CallCancelledError, InvalidInputError
from harness.reference.regularizers import pipeline
from harness.reference.regularizers.flat import place_of
from harness.reference.regularizers.spec import Composition, PartFn, Regularizer, RegularizerSpec, is_async
from harness.reference.regularizers.telemetry import StepReport
from harness.reference.transport import now
from harness.reference.values import Array, Datum, datum_from
from harness.suite.data import DatumValue

if TYPE_CHECKING:
    import torch

    from harness.reference.client import ReferenceClient


class TrainingClient:
    """One model of a session. `info` is what get_info answered when it was created, where the contract asks then."""

    def __init__(self, client: ReferenceClient, model_id: str, info: dict[str, Any] | None) -> None:
        self.model_id = model_id
        self._client = client
        self._behaviour = client.behaviour
        self._info = info
        self._turns = self._behaviour.turns()
        self._last_custom: asyncio.Future[None] | None = None
        self._steps = 0

    # --- public calls -------------------------------------------------------------------------------------------------

    def forward(self, data: Sequence[DatumValue], loss_fn: str, *, call: str = "") -> Pending[PassOutput]:
        """Compute logprobs; the gradient stays as it is."""
        return self._plain(data, loss_fn, Call(call, "TrainingClient.forward"), forward_only=True)

    def forward_backward(self, data: Sequence[DatumValue], loss_fn: str, *, call: str = "") -> Pending[PassOutput]:
        """Compute logprobs and accumulate the gradient of a server-side loss."""
        return self._plain(data, loss_fn, Call(call, "TrainingClient.forward_backward"), forward_only=False)

    async def forward_backward_custom(
        self,
        data: Sequence[DatumValue],
        base_loss_fn: LossFn | PartFn | None = None,
        regularizers: Sequence[Regularizer | RegularizerSpec] | None = None,
        *,
        track_grad_norms: bool = False,
        run_sync_in_executor: bool = False,
        regularizer_timeout: float | None = None,
        loss_fn: LossFn | PartFn | None = None,
        call: str = "",
    ) -> Pending[PassOutput]:
        """Accumulate the gradient of the caller's loss: a forward pass, the loss, a backward pass with its gradient.

        The loss is `base_loss_fn`, or `base_loss_fn` (or nothing) plus the weighted `regularizers`, in the order in
        which they are declared; `loss_fn` is the older name of `base_loss_fn`. With `regularizers`, if only an empty
        list, or with `track_grad_norms` the result has a report, and its metrics have the report's flat form.
        `run_sync_in_executor` lets synchronous regularizers run in threads, `regularizer_timeout` is in seconds and for
        each regularizer. A base loss that is not asynchronous runs in another thread.

        Raises InvalidInputError, before anything is sent, for arguments that cannot be used. Where the contract's plain
        call blocks, errors of the forward pass and the loss are raised here, else by the result.
        """
        behaviour = self._behaviour
        if loss_fn is not None:
            if base_loss_fn is not None:
                raise InvalidInputError("base_loss_fn and loss_fn are two names of one argument; pass one")
            base_loss_fn = loss_fn
        composition = behaviour.structured.read(
            base_loss_fn,
            regularizers,
            track_grad_norms=track_grad_norms,
            run_sync_in_executor=run_sync_in_executor,
            timeout=regularizer_timeout,
        )
        as_ever = not composition.reported and not is_async(base_loss_fn)
        loss: LossFn | Composition = base_loss_fn if as_ever and base_loss_fn is not None else composition
        datums = self._datums(data)
        forward = behaviour.forward_inputs(datums)
        bounds = self._cut(forward)
        behaviour.empty_custom(len(bounds))
        taken = self._turns.reserve(behaviour.reservation.at_call(len(bounds)))
        scheduled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        scheduled.add_done_callback(lambda future: future.cancelled() or future.exception())
        before, self._last_custom = self._last_custom, scheduled
        label = Call(call, "TrainingClient.forward_backward_custom")
        work = self._custom(datums, forward, bounds, taken, loss, label, before, scheduled)
        task = self._client.spawn(self._logged(work, self._steps))
        try:
            await behaviour.custom_call(scheduled)
        except asyncio.CancelledError:
            task.cancel()
            raise
        return Pending(task, "ForwardBackwardOutput")

    def optim_step(self, params: Mapping[str, float], *, call: str = "") -> Pending[dict[str, Any]]:
        """Apply the accumulated gradient. `params` are the AdamParams that the caller set."""
        self._steps += 1
        return self._submit("optim_step", "OptimStep", params, Call(call, "TrainingClient.optim_step"))

    def save_state(self, name: str, *, call: str = "") -> Pending[dict[str, Any]]:
        """Save parameters and optimizer state; the result has `path`."""
        return self._submit("save_weights", "SaveWeights", {"path": name}, Call(call, "TrainingClient.save_state"))

    def load_state(self, path: str, *, call: str = "") -> Pending[dict[str, Any]]:
        """Load parameters; the optimizer starts afresh."""
        label = Call(call, "TrainingClient.load_state")
        return self._submit("load_weights", "LoadWeights", {"path": path, "optimizer": False}, label)

    def load_state_with_optimizer(self, path: str, *, call: str = "") -> Pending[dict[str, Any]]:
        """Load parameters and optimizer state."""
        label = Call(call, "TrainingClient.load_state_with_optimizer")
        return self._submit("load_weights", "LoadWeights", {"path": path, "optimizer": True}, label)

    def save_weights_for_sampler(self, name: str, *, call: str = "") -> Pending[dict[str, Any]]:
        """Save parameters for sampling; the result has `path`."""
        label = Call(call, "TrainingClient.save_weights_for_sampler")
        return self._submit("save_weights_for_sampler", "SaveWeightsForSampler", {"path": name}, label)

    async def get_info(self, *, call: str = "") -> dict[str, Any]:
        """Return what the server knows about the model, asked now or remembered as the contract says."""
        if self._behaviour.remembers_info and self._info is not None:
            return self._info
        return await self._client.post("get_info", {"model_id": self.model_id}, Call(call, "TrainingClient.get_info"))

    # --- operations ---------------------------------------------------------------------------------------------------

    def _submit(self, route: str, request_type: str, values: Mapping[str, Any], call: Call) -> Pending[dict[str, Any]]:
        ids = self._turns.reserve(1)
        seq_id = self._behaviour.seq_id(ids[0])
        given = {**values, "model_id": self.model_id, "seq_id": seq_id}
        work = self._operate(route, request_type, given, call, ids[0])
        return Pending(self._client.spawn(work), f"{request_type}Response")

    async def _operate(
        self, route: str, request_type: str, values: Mapping[str, Any], call: Call, turn: int
    ) -> dict[str, Any]:
        started = now()
        async with self._turns.take(turn, turn):
            submitted = await self._client.post(route, values, call)
        return json_object(await self._client.poll(submitted, request_type, call, roundtrip=now() - started))

    # --- passes -------------------------------------------------------------------------------------------------------

    def _datums(self, data: Sequence[DatumValue]) -> list[Datum]:
        behaviour = self._behaviour
        return [datum_from(value, sparse=behaviour.sparse, nested=behaviour.nested) for value in data]

    def _limits(self) -> Limits:
        chunking = self._behaviour.contract.chunking
        if not chunking.from_client_config:
            return Limits(chunking.max_count, chunking.max_bytes)
        config = self._client.config
        return Limits(
            int(config.get("fwdbwd_max_chunk_len", chunking.max_count)),
            int(config.get("fwdbwd_max_chunk_bytes_count", chunking.max_bytes)),
        )

    def _cut(self, data: Sequence[Datum]) -> Bounds:
        return self._behaviour.cut([self._behaviour.estimate(datum) for datum in data], self._limits())

    def _plain(
        self, data: Sequence[DatumValue], loss_fn: str, call: Call, *, forward_only: bool
    ) -> Pending[PassOutput]:
        datums = self._datums(data)
        bounds = self._cut(datums)
        self._behaviour.empty_plain(len(bounds))
        ids = self._turns.reserve(len(bounds))
        chunks = [datums[start:end] for start, end in bounds]
        work = self._run_pass(chunks, ids, loss_fn, call, forward_only=forward_only)
        return Pending(self._client.spawn(work), "ForwardBackwardOutput")

    async def _run_pass(
        self, chunks: Sequence[Sequence[Datum]], ids: range, loss_fn: str, call: Call, *, forward_only: bool
    ) -> PassOutput:
        behaviour = self._behaviour
        parallel = self._client.config.get("parallel_fwdbwd_chunks", True)
        plan = (behaviour.order if parallel else behaviour.serial_order)(ids)
        polls: dict[int, asyncio.Task[PassOutput]] = {}

        async def submit(index: int) -> None:
            async with self._turns.take(*plan.turns[index]):
                behaviour.check_finite(chunks[index])
                request = PassRequest(
                    model_id=self.model_id,
                    seq_id=behaviour.seq_id(ids[index]),
                    data=chunks[index],
                    loss_fn=loss_fn,
                    forward_only=forward_only,
                )
                wire = behaviour.contract.wire
                encoded = behaviour.codec.encode(request, wire)
                route = route_of(wire, forward_only=forward_only)
                started = now()
                submitted = await self._client.send(route, encoded.content, encoded.content_type, call)
            polls[index] = self._client.spawn(
                self._poll_pass(submitted, call, forward_only=forward_only, roundtrip=now() - started)
            )

        unsent = len(chunks)
        for wave in plan.waves:
            sent = await asyncio.gather(*(submit(index) for index in wave), return_exceptions=True)
            unsent -= len(wave)
            for error in sent:
                if error is not None:
                    # The turns of chunks that will never be sent pass, so that later calls are not left waiting.
                    self._turns.skip(unsent)
                    raise error
        parts = await asyncio.gather(*(polls[index] for index in range(len(chunks))))
        return PassOutput(
            output_type=parts[0].output_type if parts else "",
            outputs=[output for part in parts for output in part.outputs],
            metrics=behaviour.reduce([part.metrics for part in parts], [len(part.outputs) for part in parts]),
        )

    async def _poll_pass(
        self, submitted: Mapping[str, Any], call: Call, *, forward_only: bool, roundtrip: float
    ) -> PassOutput:
        request_type = "Forward" if forward_only else "ForwardBackward"
        content = await self._client.poll(submitted, request_type, call, roundtrip=roundtrip)
        return self._behaviour.codec.decode(content)

    # --- the custom loss ----------------------------------------------------------------------------------------------

    async def _custom(
        self,
        datums: list[Datum],
        forward: list[Datum],
        bounds: Bounds,
        taken: range,
        loss: LossFn | Composition,
        call: Call,
        before: asyncio.Future[None] | None,
        scheduled: asyncio.Future[None],
    ) -> PassOutput:
        behaviour = self._behaviour
        later = behaviour.reservation.backward(taken, len(bounds))
        started = False
        try:
            chunks = [forward[start:end] for start, end in bounds]
            ids = behaviour.reservation.forward(taken, len(bounds))
            ahead = Call(call.label, call.method, "forward")
            output = await self._run_pass(chunks, ids, LOSS_FN, ahead, forward_only=True)
            result = await self._differentiate(datums, output, loss)
            sizes = [behaviour.estimate(datum) for datum in result.data]
            backward_bounds = behaviour.backward_cut(behaviour.cut, bounds, sizes, self._limits())
            if later is None:
                # Losses of concurrent calls may end in any order; ids follow the order of the calls.
                if before is not None:
                    await asyncio.wait([before])
                later = self._turns.reserve(len(backward_bounds))
            started = True
            if not scheduled.done():
                scheduled.set_result(None)
            back = Call(call.label, call.method, "backward")
            chunks = [result.data[start:end] for start, end in backward_bounds]
            output = await self._run_pass(chunks, later, LOSS_FN, back, forward_only=False)
            metrics = behaviour.merge(output.metrics, result.metrics, result.value)
            return PassOutput(output.output_type, output.outputs, metrics, result.report)
        except (Exception, asyncio.CancelledError) as error:
            if later is not None and not started:
                self._turns.skip(len(later))
            cancelled = CallCancelledError("the call was cancelled")
            failure = error if isinstance(error, Exception) else cancelled
            behaviour.after_failure(self._turns, failure)
            if not scheduled.done():
                scheduled.set_exception(failure)
            raise

    async def _logged(self, work: Coroutine[Any, Any, PassOutput], step: int) -> PassOutput:
        """Do the work of a custom call, and append its report, if it has one, to the client's file."""
        output = await work
        if output.report is not None and self._client.reports is not None:
            try:
                self._client.reports.append(StepReport(step, self.model_id, output.report))
            except (OSError, UnicodeError) as error:
                # The gradient is on the server: a call that failed here would be made again, and count twice.
                path = self._client.reports.path
                warnings.warn(f"the report of a step could not be written to {path}: {error}", stacklevel=2)
        return output

    async def _differentiate(self, data: list[Datum], output: PassOutput, loss: LossFn | Composition) -> CustomResult:
        loop, workers = asyncio.get_running_loop(), self._client.workers
        if not isinstance(loss, Composition):
            leaves, result = await loop.run_in_executor(workers, self._call, data, output, loss)
            if isinstance(result, CustomResult):
                return result
            return await loop.run_in_executor(workers, self._settle, data, leaves, await await_loss(result))
        behaviour = self._behaviour
        computed = await pipeline.run(
            loss, data, lambda: self._leaves(output), workers=workers, structured=behaviour.structured
        )
        metrics = dict(computed.metrics)
        if loss.reported:
            # A metric of the base that is called like one of the report is only there as the base's own.
            metrics = {name: number for name, number in metrics.items() if place_of(name) is None}
            metrics.update(behaviour.structured.flat(computed.report).metrics)
        return CustomResult(
            data=await loop.run_in_executor(workers, self._backward, data, computed.gradients),
            metrics=metrics,
            value=computed.value,
            report=computed.report if loss.reported else None,
        )

    def _call(
        self, data: list[Datum], output: PassOutput, loss_fn: LossFn
    ) -> tuple[list[torch.Tensor], CustomResult | Awaitable[Any]]:
        """Run in a worker thread: leaves, the caller's loss and, if it need not be awaited, what follows from it."""
        leaves = self._leaves(output)
        result = call_loss(loss_fn, data, leaves)
        return leaves, result if inspect.isawaitable(result) else self._settle(data, leaves, result)

    def _settle(self, data: list[Datum], leaves: list[torch.Tensor], result: Any) -> CustomResult:
        """Run in a worker thread: the gradient of the loss, the backward datums."""
        loss, metrics, value = read_loss(result)
        gradients = self._behaviour.gradients(loss, leaves)
        return CustomResult(data=self._backward(data, gradients), metrics=metrics, value=value)

    def _leaves(self, output: PassOutput) -> list[torch.Tensor]:
        behaviour = self._behaviour
        return make_leaves(output.outputs, shape=behaviour.leaf_shape, numbers=behaviour.leaf_dtype)

    def _backward(self, data: list[Datum], gradients: Sequence[Array]) -> list[Datum]:
        behaviour = self._behaviour
        pairs = behaviour.pair(data, gradients)
        return behaviour.linearize(pairs, sparse=behaviour.sparse, weigh=behaviour.weigh)
