"""The reference client: a session and its models, over HTTP, behaving as a contract says.

Every call that submits is a plain function that takes its ids before it returns, so that the order of calls is the
order of ids; its result is awaited later (`Pending.result`). `forward_backward_custom` is a coroutine: it returns when
the contract lets the official SDK's plain call return. Its first part, up to the ids of the forward pass, runs without
suspension, so that a task made of it has taken them at its first step.

`call` is a label that the requests of a call carry (`x-parity-call`, `x-parity-phase`), for golden traces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from harness.reference.behaviour import Behaviour
from harness.reference.chunking import Bounds, Limits
from harness.reference.custom_loss import LOSS_FN, CustomResult, LossFn, call_loss, make_leaves
from harness.reference.encoding import JSON, PassOutput, PassRequest, json_bytes, route_of
from harness.reference.errors import BadOutputError
from harness.reference.transport import PollRules, Transport, now
from harness.reference.values import Datum, datum_from
from harness.suite.data import DatumValue

T = TypeVar("T")

HEARTBEAT_SECONDS = 10.0
CREATE_METHOD = "ServiceClient.create_lora_training_client"


@dataclass(frozen=True, slots=True)
class Pending(Generic[T]):
    """A submitted call. `type` is the name of the result's type in the official SDK."""

    task: asyncio.Task[T]
    type: str

    async def result(self) -> T:
        """Wait for the result. Raises a CallError when the call failed. A cancelled wait leaves the call alone."""
        return await asyncio.shield(self.task)


@dataclass(frozen=True, slots=True)
class Call:
    """Which public call a request belongs to: its label, its phase in a custom call, its method in the official SDK."""

    label: str
    method: str
    phase: str = ""


class ReferenceClient:
    """One session. Belongs to one event loop. `workers` runs loss callbacks; None for the loop's own executor."""

    def __init__(self, base_url: str, api_key: str, behaviour: Behaviour, *, workers: Executor | None = None) -> None:
        self.behaviour = behaviour
        self.workers = workers
        self.config: dict[str, Any] = dict(behaviour.contract.session.client_config)
        self.session_id = ""
        self._transport = Transport(base_url, api_key, user_agent=f"parity-reference/{behaviour.contract.release}")
        self._starting = asyncio.Lock()
        self._models = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create a LoRA model, starting the session first where there is none, and wait until it is ready."""
        number = self._models
        self._models += 1
        contract = self.behaviour.contract
        async with self._starting:
            if not self.session_id:
                for route in contract.session.start:
                    await self._start(route)
        made = Call(label=call, method=CREATE_METHOD)
        values = {
            "session_id": self.session_id,
            "model_seq_id": number,
            "base_model": base_model,
            "rank": rank,
            "seed": seed,
        }
        answer = await self.operation("create_model", "CreateModel", values, made)
        model_id = answer.get("model_id")
        if not isinstance(model_id, str):
            raise BadOutputError("create_model: the result names no model")
        info = None
        if "get_info" in contract.session.model:
            info = await self.post("get_info", {"model_id": model_id}, made)
        return TrainingClient(self, model_id, info)

    async def close(self, *, call: str = "") -> bool:
        """End the session, where the contract has an end, and close every connection. Say whether it has."""
        end = self.behaviour.contract.session.end
        if self.session_id:
            for route in end:
                await self.post(route, {}, Call(label=call, method="ServiceClient.close"))
        await self.abandon()
        return bool(end)

    async def abandon(self) -> None:
        """Drop everything that is under way and close every connection, without a word to the server."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._transport.close()

    # --- for models ---------------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something that ends with the client at the latest. An error that nobody awaits is not reported."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def post(self, route: str, values: Mapping[str, Any], call: Call | None) -> dict[str, Any]:
        """Send the contract's body of a route and return the answer."""
        given = {"sdk_version": self.behaviour.contract.release, **values}
        return await self.send(route, json_bytes(self.behaviour.body(route, given)), JSON, call)

    async def send(self, route: str, content: bytes, content_type: str, call: Call | None) -> dict[str, Any]:
        """Send a body and return the answer."""
        path = f"sessions/{self.session_id}/finish" if route == "session/finish" else route
        headers = {**self._headers(call), "content-type": content_type, "accept": JSON}
        if content_type != JSON and self.config.get("proto_compress_fwdbwd"):
            import zstandard

            content = zstandard.compress(content)
            headers["content-encoding"] = "zstd"
        return await self._transport.submit(path, content, headers)

    async def operation(self, route: str, request_type: str, values: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """Submit an operation and wait for its JSON result."""
        started = now()
        submitted = await self.post(route, values, call)
        content = await self.poll(submitted, request_type, call, roundtrip=now() - started)
        return json_object(content)

    async def poll(self, submitted: Mapping[str, Any], request_type: str, call: Call, *, roundtrip: float) -> bytes:
        """Wait for the result of a submitted operation and return its bytes.

        Raises BadOutputError when it is of another content type than the contract asks for.
        """
        contract = self.behaviour.contract
        request_id = submitted.get("request_id")
        if not isinstance(request_id, str):
            raise BadOutputError(f"{request_type}: the answer names no request_id")
        accept = contract.wire.accept[request_type]
        response = await self._transport.retrieve(
            lambda allowed: json_bytes(
                self.behaviour.body("retrieve_future", {"request_id": request_id, "allow_metadata_only": allowed})
            ),
            {**self._headers(call), "accept": accept, "x-tinker-request-type": request_type},
            rules=PollRules(contract.polling.bad_request_retries, self.behaviour.rate_limit_delay),
            roundtrip=roundtrip,
        )
        got = response.headers.get("content-type", "")
        if accept not in got:
            raise BadOutputError(f"{request_type}: the result is {got or 'of no content type'}, not {accept}")
        return response.content

    def _headers(self, call: Call | None) -> dict[str, str]:
        if call is None:
            return {}
        values = {"sdk_version": self.behaviour.contract.release, "sdk_method": call.method}
        templates = self.behaviour.contract.wire.call_headers
        headers = {name: str(values.get(value.removeprefix("$"), value)) for name, value in templates.items()}
        if call.label:
            headers["x-parity-call"] = call.label
        if call.phase:
            headers["x-parity-phase"] = call.phase
        return headers

    async def _start(self, route: str) -> None:
        answer = await self.post(route, {}, None)
        if route == "client/config":
            self.config.update({name: answer[name] for name in self.config if name in answer})
        if route == "create_session":
            self.session_id = str(answer["session_id"])
            self.spawn(self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self.post("session_heartbeat", {"session_id": self.session_id}, None)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


class TrainingClient:
    """One model of a session. `info` is what get_info answered when it was created, where the contract asks then."""

    def __init__(self, client: ReferenceClient, model_id: str, info: dict[str, Any] | None) -> None:
        self.model_id = model_id
        self._client = client
        self._behaviour = client.behaviour
        self._info = info
        self._turns = self._behaviour.turns()
        self._last_custom: asyncio.Future[None] | None = None

    # --- public calls -------------------------------------------------------------------------------------------------

    def forward(self, data: Sequence[DatumValue], loss_fn: str, *, call: str = "") -> Pending[PassOutput]:
        """Compute logprobs; the gradient stays as it is."""
        return self._plain(data, loss_fn, Call(call, "TrainingClient.forward"), forward_only=True)

    def forward_backward(self, data: Sequence[DatumValue], loss_fn: str, *, call: str = "") -> Pending[PassOutput]:
        """Compute logprobs and accumulate the gradient of a server-side loss."""
        return self._plain(data, loss_fn, Call(call, "TrainingClient.forward_backward"), forward_only=False)

    async def forward_backward_custom(
        self, data: Sequence[DatumValue], loss_fn: LossFn, *, call: str = ""
    ) -> Pending[PassOutput]:
        """Accumulate the gradient of the caller's loss: a forward pass, the loss, a backward pass with its gradient.

        The callback runs in another thread. Where the contract's plain call blocks, errors of the forward pass and the
        loss are raised here, else by the result.
        """
        behaviour = self._behaviour
        datums = self._datums(data)
        forward = behaviour.forward_inputs(datums)
        bounds = self._cut(forward)
        behaviour.empty_custom(len(bounds))
        taken = self._turns.reserve(behaviour.reservation.at_call(len(bounds)))
        scheduled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        scheduled.add_done_callback(lambda future: future.cancelled() or future.exception())
        before, self._last_custom = self._last_custom, scheduled
        label = Call(call, "TrainingClient.forward_backward_custom")
        task = self._client.spawn(self._custom(datums, forward, bounds, taken, loss_fn, label, before, scheduled))
        await behaviour.custom_call(scheduled)
        return Pending(task, "ForwardBackwardOutput")

    def optim_step(self, params: Mapping[str, float], *, call: str = "") -> Pending[dict[str, Any]]:
        """Apply the accumulated gradient. `params` are the AdamParams that the caller set."""
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
        loss_fn: LossFn,
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
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(self._client.workers, self._differentiate, datums, output, loss_fn)
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
            return PassOutput(output_type=output.output_type, outputs=output.outputs, metrics=metrics)
        except Exception as error:
            if later is not None and not started:
                self._turns.skip(len(later))
            behaviour.after_failure(self._turns, error)
            if not scheduled.done():
                scheduled.set_exception(error)
            raise

    def _differentiate(self, data: list[Datum], output: PassOutput, loss_fn: LossFn) -> CustomResult:
        """Run in a worker thread: leaves, the caller's loss, its gradient, the backward datums."""
        behaviour = self._behaviour
        leaves = make_leaves(output.outputs, shape=behaviour.leaf_shape, numbers=behaviour.leaf_dtype)
        loss, metrics, value = call_loss(loss_fn, data, leaves)
        pairs = behaviour.pair(data, behaviour.gradients(loss, leaves))
        backward = behaviour.linearize(pairs, sparse=behaviour.sparse, weigh=behaviour.weigh)
        return CustomResult(data=backward, metrics=metrics, value=value)


def json_object(content: bytes) -> dict[str, Any]:
    """Read a JSON result. Raises BadOutputError when it is no object."""
    import json

    try:
        value = json.loads(content)
    except ValueError as error:
        raise BadOutputError(f"the result is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadOutputError("the result is no JSON object")
    return value
