"""The reference client: a session, over HTTP, behaving as a contract says. Its models are in `training`.

`call` is a label that the requests of a call carry (`x-parity-call`, `x-parity-phase`), for golden traces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar

from harness.reference.behaviour import Behaviour
from harness.reference.calls import Call
from harness.reference.encoding import JSON, json_bytes, json_object
from harness.reference.errors import BadOutputError, CallError, HttpStatusError
from harness.reference.regularizers.telemetry import ReportLog
from harness.reference.training import TrainingClient
from harness.reference.transport import PollRules, Transport, now

T = TypeVar("T")

CREATE_METHOD = "ServiceClient.create_lora_training_client"


class ReferenceClient:
    """One session. Belongs to one event loop. `workers` runs loss callbacks; None for the loop's own executor.

    With `telemetry` the first failure of a call is reported. `reports` is the file that the reports of structured
    custom losses are appended to.
    """

    def __init__(self, base_url: str, api_key: str, behaviour: Behaviour, *, workers: Executor | None = None) -> None:
        self.behaviour = behaviour
        self.workers = workers
        self.config: dict[str, Any] = dict(behaviour.contract.session.client_config)
        self.session_id = ""
        self.telemetry = False
        self.reports: ReportLog | None = None
        self._reported = False
        self._transport = Transport(
            base_url,
            api_key,
            user_agent=f"parity-reference/{behaviour.contract.release}",
            retry=behaviour.contract.retry,
        )
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

    async def report(self, failure: BaseException) -> None:
        """Tell /telemetry of a failed call. Nobody waits for it, and what becomes of it is nobody's concern."""
        event = {"event": "UNHANDLED_EXCEPTION", "error_type": type(failure).__name__, "error_message": str(failure)}
        body = {"session_id": self.session_id, "sdk_version": self.behaviour.contract.release, "events": [event]}
        await self.send("telemetry", json_bytes(body), JSON, None)

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
        return await self._transport.submit(path, content, headers, route=route)

    async def operation(self, route: str, request_type: str, values: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """Submit an operation and wait for its JSON result."""
        started = now()
        submitted = await self.post(route, values, call)
        content = await self.poll(submitted, request_type, call, roundtrip=now() - started)
        return json_object(content)

    async def poll(self, submitted: Mapping[str, Any], request_type: str, call: Call, *, roundtrip: float) -> bytes:
        """Wait for the result of a submitted operation and return its bytes.

        Raises BadOutputError where the contract asks for protobuf and gets something else. What is to be JSON is read
        as JSON under any other content type (run: 0.7.0, 0.15.0, 0.38.0).
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
            rules=PollRules(contract.polling, self.behaviour.rate_limit_delay),
            roundtrip=roundtrip,
        )
        got = response.headers.get("content-type", "")
        if accept != JSON and accept not in got:
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
        session = self.behaviour.contract.session
        while True:
            await asyncio.sleep(session.heartbeat_seconds)
            try:
                await self.post("session_heartbeat", {"session_id": self.session_id}, None)
            except HttpStatusError as error:
                if error.status in session.heartbeat_stops_at:
                    return
            except CallError:
                pass  # the next one may come through

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if failure is not None and self.telemetry and not self._reported:
            self._reported = True
            self.spawn(self.report(failure))
