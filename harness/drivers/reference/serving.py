"""The line of the protocol for a client of the reference's kind: reads commands, answers them, many at a time."""

from __future__ import annotations

import asyncio
import faulthandler
import hashlib
import importlib
import os
import platform
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

import harness.reference
from harness.contracts.model import Contract
from harness.drivers.protocol import (
    PROTOCOL,
    Answer,
    Command,
    DriverError,
    Evaluate,
    EvaluateAnswer,
    Hello,
    HelloAnswer,
    Run,
    RunAnswer,
    SdkInfo,
    Shutdown,
)
from harness.drivers.reference.running import ScenarioRun
from harness.reference.behaviour import Behaviour
from harness.reference.client import ReferenceClient
from harness.suite.losses.effects import DELAY, MUTATES
from harness.suite.rules import COMPUTE, FLAT, ORDERED, TIMEOUT, TRAIN

MAX_IN_FLIGHT = 16

BETWEEN_CALLS = ("cancel", "exit", "idle", "telemetry", "thread")
"""What programs do beside making calls and waiting for them, and the option of a client."""

REGULARIZERS = (TRAIN, COMPUTE, TIMEOUT, ORDERED, FLAT)
"""What it does with a loss that is taken apart."""

ClientFactory = Callable[[str, str, Executor], ReferenceClient]
"""(base URL, API key, where loss callbacks run) -> a client for one run."""


@dataclass(frozen=True, slots=True)
class ContractClients:
    """Makes a client for each run, all of one behaviour."""

    behaviour: Behaviour

    def __call__(self, base_url: str, api_key: str, workers: Executor) -> ReferenceClient:
        """Return the client of one run."""
        return ReferenceClient(base_url, api_key, self.behaviour, workers=workers)


def hello_of(contract: Contract) -> HelloAnswer:
    """Say what is driven: the reference, as old as its contract. The nonce is filled in when it is asked for."""
    folder = Path(harness.reference.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return HelloAnswer(
        protocol=PROTOCOL,
        nonce="",
        sdk=SdkInfo(
            name="reference", version=contract.release, file=str(folder / "__init__.py"), digest=digest.hexdigest()
        ),
        language="python",
        runtime=f"{platform.python_implementation()} {platform.python_version()}",
        contract=contract.id,
        capabilities=[
            *("create_model", *contract.requires, "concurrent", DELAY, MUTATES, *BETWEEN_CALLS, *REGULARIZERS),
            *(["close"] if contract.session.end else []),
        ],
        max_in_flight=MAX_IN_FLIGHT,
        libraries={name: metadata.version(name) for name in ("httpx", "numpy", "protobuf", "torch")},
    )


def serve(factory: ClientFactory, hello: HelloAnswer) -> None:
    """Answer commands until stdin ends or a shutdown is asked for, then end the process.

    stdout carries answers only: file descriptor 1 becomes stderr for everything else.
    """
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    service = _Service(factory, hello, answers)
    # Not sys.stdin, which the interpreter wants to close at its end while a thread still reads it.
    asyncio.run(service.run(os.fdopen(os.dup(0), "rb")))
    # A loss that never returns must not keep the process, unless this is the end of a user's program.
    if not service.ending:
        os._exit(0)


class _Service:
    def __init__(self, factory: ClientFactory, hello: HelloAnswer, answers: BinaryIO) -> None:
        self._factory = factory
        self._hello = hello
        self._answers = answers
        # One thread: torch is used by one loss at a time, and answers do not depend on the number of cores.
        self._workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parity-loss")
        self._running: set[asyncio.Task[None]] = set()
        self.ending = False
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def run(self, commands: BinaryIO) -> None:
        loop = asyncio.get_running_loop()
        lines = self._lines

        def read() -> None:
            for line in commands:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, b"")

        threading.Thread(target=read, name="parity-commands", daemon=True).start()
        # torch takes seconds to import: begin while the first requests are under way.
        self._workers.submit(_load_torch)
        while line := await lines.get():
            try:
                command = msgspec.json.decode(line, type=Command)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                self._refuse(line, error)
                continue
            if isinstance(command, Shutdown):
                await self._finish()
                self._answer(Answer(id=command.id, ok={}))
                return
            if isinstance(command, Hello):
                hello = msgspec.structs.replace(self._hello, nonce=command.nonce)
                self._answer(Answer(id=command.id, ok=msgspec.to_builtins(hello)))
                continue
            task = loop.create_task(self._dispatch(command))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await self._finish()

    def _refuse(self, line: bytes, error: Exception) -> None:
        """Answer a command that is none of the protocol's; a line without an id has nobody to answer."""
        try:
            number = msgspec.json.decode(line, type=_Numbered).id
        except (msgspec.MsgspecError, UnicodeDecodeError):
            sys.stderr.write(f"a line that is no command ({error}): {line[:200]!r}\n")
        else:
            self._answer(Answer(id=number, driver_error=DriverError(code="unknown-command", message=str(error))))

    async def _finish(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _dispatch(self, command: Run | Evaluate) -> None:
        try:
            result = await self._result(command)
        except Exception as error:  # noqa: BLE001 - whatever fails here is the driver's failure and is said
            said = DriverError(
                code="driver-failed", message=f"{type(error).__name__}: {error}", detail=traceback.format_exc()
            )
            self._answer(Answer(id=command.id, driver_error=said))
        else:
            self._answer(Answer(id=command.id, ok=msgspec.to_builtins(result)))
            if self.ending:
                self._lines.put_nowait(b"")

    async def _result(self, command: Run | Evaluate) -> Any:
        match command:
            case Run():
                client = self._factory(command.base_url, command.api_key, self._workers)
                client.telemetry = bool(command.client.get("telemetry"))
                run = ScenarioRun(client, command)
                steps = await run.execute()
                self.ending = run.ends_the_program
                return RunAnswer(steps=steps)
            case Evaluate():
                loop = asyncio.get_running_loop()
                return EvaluateAnswer(results=await loop.run_in_executor(self._workers, _evaluate, command.cases))

    def _answer(self, answer: Answer) -> None:
        self._answers.write(msgspec.json.encode(answer) + b"\n")
        self._answers.flush()


class _Numbered(msgspec.Struct):
    """What is read of a command that is not understood."""

    id: int


def _load_torch() -> None:
    importlib.import_module("torch").set_num_threads(1)


def _evaluate(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from harness.drivers.python import vectors

    return [vectors.evaluate_case(case) for case in cases]
