"""One driver process: started, spoken to, and always ended.

A driver lives in a process group of its own. Whatever it does instead of answering (crash, garbage, silence) becomes
a `DriverFailure`, after which the process is gone; the caller starts another one. What the SDK does wrong is never a
failure: it comes back in the answer.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.drivers.answers import GarbageError, excerpt, read_answer, shortened
from harness.drivers.child import LINE_LIMIT, Companion, spawn
from harness.drivers.failure import DriverFailure, FailureKind, Patience
from harness.drivers.protocol import (
    PROTOCOL,
    Command,
    Evaluate,
    EvaluateAnswer,
    Hello,
    HelloAnswer,
    Run,
    RunAnswer,
    Shutdown,
    StepResult,
)
from harness.drivers.scratch import Scratch
from harness.drivers.spec import DriverSpec, confirm
from harness.drivers.wire import DataEncoder
from harness.errors import ParityError
from harness.suite.data import DatumValue

STDERR_KEPT = 64 << 10
"""How much of a driver's stderr is remembered, in bytes."""

EXIT = "exit"
"""The step after which a process ends on purpose, and its result."""

Begin = Callable[[DriverSpec, Path], Awaitable[Companion]]
"""(how it is started, its scratch folder) -> the process"""

T = TypeVar("T")


class DriverProcess:
    """A running driver. Use `DriverProcess.start` and `stop`, or `running`.

    `tainted` says that the process should not serve another run: it failed, a call in it still hangs, or a run was
    given up. `failure` is the first failure, also one found while stopping.
    """

    hello: HelloAnswer

    def __init__(self, spec: DriverSpec, child: Companion, scratch: Scratch, patience: Patience) -> None:
        self.spec = spec
        self.failure: DriverFailure | None = None
        self.tainted = False
        self._child = child
        self._scratch = scratch
        self._patience = patience
        self._last_id = 0
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._abandoned: set[int] = set()
        self._heard: dict[int, Callable[[bytes], object]] = {}
        self._slots = asyncio.Semaphore(1)
        self._stopping = False
        self._leaving = False
        self._gone = False
        self._ending: asyncio.Task[DriverFailure] | None = None
        self._stderr = bytearray()
        self._stderr_seen = 0
        self._stderr_task = asyncio.create_task(self._read_stderr())
        self._stdout_task = asyncio.create_task(self._read_answers())

    @classmethod
    async def start(cls, spec: DriverSpec, *, patience: Patience | None = None, begin: Begin = spawn) -> DriverProcess:
        """Start the driver and exchange `hello`. `begin` starts it, or waits for one that somebody else starts.

        Raises DriverFailure when it does not answer as it should, and ParityError when it cannot be started
        (`driver-not-started`), speaks another major version (`driver-protocol`) or drives something else
        (`sdk-mismatch`, `sdk-path-mismatch`).
        """
        driver = await cls.launch(spec, patience=patience, begin=begin)
        await driver.greet()
        return driver

    @classmethod
    async def launch(cls, spec: DriverSpec, *, patience: Patience | None = None, begin: Begin = spawn) -> DriverProcess:
        """Start the process only; it has to be greeted before it can run anything. Raises as `start` does."""
        scratch = Scratch.make()
        try:
            process = await begin(spec, scratch.path)
        except BaseException:
            scratch.remove()
            raise
        return cls(spec, process, scratch, patience or Patience())

    async def greet(self) -> None:
        """Exchange `hello`. Raises as `start` does; the process is gone then."""
        try:
            await self._greet()
        except BaseException:
            await self.kill()
            raise

    @property
    def pid(self) -> int:
        """Process id, which is the id of its group too."""
        return self._child.pid

    async def run(
        self,
        *,
        base_url: str,
        api_key: str,
        steps: Sequence[Mapping[str, Any]],
        data: Mapping[str, Sequence[DatumValue]],
        losses: Mapping[str, Mapping[str, Any]],
        timeout: float,  # noqa: ASYNC109 - the SDK's limit, sent to the driver; the deadline here lies beyond it
        client: Mapping[str, Any] | None = None,
        heard: Callable[[bytes], object] | None = None,
    ) -> RunAnswer:
        """Run a scenario's steps; `timeout` in seconds is for the whole run. Waits for a free place if all are taken.

        `heard` is told the driver's line as it came, before anything is made of it. Steps that end with `exit` end the
        process; it must have no other run then. Raises DriverFailure.
        """
        self._leaving = bool(steps) and steps[-1]["do"] == EXIT
        async with self._slots:
            number = self._next_id()
            if heard is not None:
                self._heard[number] = heard
            file = self._scratch.path / f"run-{number}.bin"
            encoder = DataEncoder(file)
            command = Run(
                id=number,
                base_url=base_url,
                api_key=api_key,
                steps=[dict(step) for step in steps],
                data=encoder.data(data),
                losses={name: dict(loss) for name, loss in losses.items()},
                timeout=timeout,
                client=dict(client or {}),
            )
            encoder.save()
            try:
                answer = await self._ask(command, RunAnswer, deadline=timeout + self._patience.answer)
            finally:
                self._heard.pop(number, None)
                file.unlink(missing_ok=True)
        if any(step.status == "hang" for step in answer.steps):
            self.tainted = True
        return await self._see_off(answer) if self._leaving else answer

    async def evaluate(self, cases: Sequence[Mapping[str, Any]]) -> EvaluateAnswer:
        """Let the driver evaluate loss graphs (the operation vectors). Raises DriverFailure."""
        async with self._slots:
            command = Evaluate(id=self._next_id(), cases=[dict(case) for case in cases])
            return await self._ask(command, EvaluateAnswer, deadline=self._patience.evaluate)

    def give_up(self, why: str) -> None:
        """End a process that floods the server; its runs in flight fail."""
        if not self._stopping:
            self._begin_failing("flood", why)

    async def stop(self) -> None:
        """End the process in good order: `shutdown`, end of stdin, SIGTERM, SIGKILL; the whole group, leaving nothing.

        What goes wrong is kept in `failure`. Safe to call again and after a failure.
        """
        self._stopping = True
        try:
            if self._ending is None and not self._gone:
                await self._ask_to_end()
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End the process group now and wait until it is gone."""
        if self._gone:
            return
        self._stopping = self._gone = True
        self._child.signal_group(signal.SIGKILL)
        # Nothing below waits on the driver's good will: every member of the group is dead.
        await _finished(asyncio.create_task(self._clean_up()))

    async def _see_off(self, answer: RunAnswer) -> RunAnswer:
        """Wait until a process that said it would end has ended; what it did instead becomes the result of `exit`."""
        self.tainted = True
        last = answer.steps[-1] if answer.steps else None
        if last is None or last.step != EXIT or last.status != "ok":
            return answer
        if not await _within(self._child.exited.wait(), self._patience.leave):
            mark = self._stderr_seen
            self._child.abort()
            await _within(self._child.exited.wait(), self._patience.last_words)
            await asyncio.wait({self._stderr_task}, timeout=self._patience.last_words)
            stuck = StepResult(step=EXIT, status="hang", raised_at="submit", stacks=self._stderr_text(since=mark))
            return RunAnswer([*answer.steps[:-1], stuck])
        if self._child.status != 0:
            return RunAnswer([*answer.steps[:-1], StepResult(step=EXIT, status="error", message=self._child.ending)])
        return answer

    # --- speaking -----------------------------------------------------------------------------------------------------

    async def _greet(self) -> None:
        nonce = secrets.token_hex(8)
        command = Hello(id=self._next_id(), protocol=PROTOCOL, nonce=nonce)
        hello = await self._ask(command, HelloAnswer, deadline=self._patience.hello)
        if hello.nonce != nonce:
            raise await self._fail("garbage", f"hello echoed the nonce {hello.nonce!r} instead of {nonce!r}")
        if hello.protocol.partition(".")[0] != PROTOCOL.partition(".")[0]:
            raise ParityError(
                "driver-protocol",
                f"the driver speaks protocol {shortened(hello.protocol)}, this harness {PROTOCOL}",
                hint="The major versions must be equal: use a driver and a harness of the same generation.",
            )
        confirm(self.spec, hello.sdk)
        self.hello = hello
        self._slots = asyncio.Semaphore(max(1, hello.max_in_flight))

    async def _ask(self, command: Command, kind: type[T], *, deadline: float) -> T:
        answer = await self._request(command, deadline=deadline)
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise await self._fail("garbage", f"an answer that is no {kind.__name__}: {error}") from error

    async def _request(self, command: Command, *, deadline: float) -> dict[str, Any]:
        if self._ending is not None:
            raise await asyncio.shield(self._ending)
        name = type(command).__name__.lower()
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[command.id] = future
        writing = asyncio.create_task(self._write(msgspec.json.encode(command) + b"\n"))
        try:
            done, _ = await asyncio.wait({future}, timeout=deadline)
        except asyncio.CancelledError:
            self._pending.pop(command.id, None)
            self._abandoned.add(command.id)
            self.tainted = True
            raise
        finally:
            writing.cancel()
        if not done:
            raise await self._fail("silence", f"no answer to {name} within {deadline:g} s", abort=True)
        return future.result()

    async def _write(self, line: bytes) -> None:
        with suppress(ConnectionError):  # the reader finds out why
            self._child.commands.write(line)
            await self._child.commands.drain()

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    # --- listening ----------------------------------------------------------------------------------------------------

    async def _read_answers(self) -> None:
        try:
            while (line := await self._child.answers.readline()).endswith(b"\n"):
                complaint = self._accept(line)
                if complaint:
                    self._begin_failing("garbage", f"{complaint}: {excerpt(line)}")
                    return
        except ValueError:  # what readline makes of a line beyond the limit
            self._begin_failing("garbage", f"a line of more than {LINE_LIMIT >> 20} MiB on stdout")
            return
        left = self._leaving and not self._pending
        if not (self._stopping or left):
            self._begin_failing("crash", "")

    def _accept(self, line: bytes) -> str:
        """Take one line; return what is wrong with it, or nothing."""
        try:
            answer = read_answer(line)
        except GarbageError as error:
            return str(error)
        if answer.id in self._heard:
            self._heard[answer.id](line)
        if answer.id in self._abandoned:
            self._abandoned.discard(answer.id)
            return ""
        future = self._pending.pop(answer.id, None)
        if future is None:
            again = 0 < answer.id <= self._last_id
            return (
                f"a second answer to command {answer.id}" if again else f"an answer to command {answer.id}, never sent"
            )
        if answer.driver_error is not None:
            said = answer.driver_error
            message, tail = f"{said.code}: {said.message}", self._stderr_text()
            future.set_exception(DriverFailure("driver_error", message, stacks=said.detail, stderr_tail=tail))
        else:
            future.set_result(answer.ok or {})
        return ""

    async def _read_stderr(self) -> None:
        while chunk := await self._child.errors.read(1 << 16):
            self._stderr += chunk
            self._stderr_seen += len(chunk)
            del self._stderr[:-STDERR_KEPT]

    def _stderr_text(self, *, since: int = 0) -> str:
        count = self._stderr_seen - since
        kept = self._stderr[-count:] if count else b""
        return bytes(kept).decode("utf-8", errors="replace")

    # --- failing and ending -------------------------------------------------------------------------------------------

    def _begin_failing(self, kind: FailureKind, message: str, *, abort: bool = False) -> asyncio.Task[DriverFailure]:
        """Let the first failure end the process; later ones are its consequences."""
        if self._ending is None:
            self.tainted = True
            self._ending = asyncio.create_task(self._end_failed(kind, message, abort=abort))
        return self._ending

    async def _fail(self, kind: FailureKind, message: str, *, abort: bool = False) -> DriverFailure:
        return await asyncio.shield(self._begin_failing(kind, message, abort=abort))

    async def _end_failed(self, kind: FailureKind, message: str, *, abort: bool) -> DriverFailure:
        mark = self._stderr_seen
        if abort:
            self._child.abort()
        if abort or kind == "crash":
            await _within(self._child.exited.wait(), self._patience.last_words)
        if kind == "crash":
            message = self._child.ending
        self._child.signal_group(signal.SIGKILL)
        await asyncio.wait({self._stderr_task}, timeout=self._patience.last_words)
        stacks = self._stderr_text(since=mark) if abort else ""
        failure = DriverFailure(kind, message, stacks=stacks, stderr_tail=self._stderr_text())
        self.failure = self.failure or failure
        for future in self._pending.values():
            future.set_exception(failure)
            future.exception()  # the request of a deadline raises it itself and looks no more
        self._pending.clear()
        return failure

    async def _ask_to_end(self) -> None:
        patience = self._patience.end
        number = self._next_id()
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[number] = answered
        await _within(self._write(msgspec.json.encode(Shutdown(id=number)) + b"\n"), patience)
        waiting: set[asyncio.Future[Any]] = {answered, self._stdout_task}
        await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        self._child.commands.close()
        if not await _within(self._child.exited.wait(), patience):
            self.failure = self.failure or DriverFailure(
                "silence", f"still running {patience:g} s after shutdown and end of stdin"
            )
            self._child.signal_group(signal.SIGTERM)
            await _within(self._child.exited.wait(), patience)
        elif self._child.status != 0:
            await asyncio.wait({self._stderr_task}, timeout=self._patience.last_words)
            message = f"{self._child.ending} after shutdown"
            self.failure = self.failure or DriverFailure("crash", message, stderr_tail=self._stderr_text())
        if answered.done() and not answered.cancelled():
            answered.exception()

    async def _clean_up(self) -> None:
        if self._ending is not None:
            await asyncio.wait({self._ending})
        await asyncio.to_thread(self._scratch.end_strays)  # those that left the group
        reading = {self._stdout_task, self._stderr_task}
        # A signal takes a moment. The ends of the pipes are the sign that all members of the group are gone; the wait
        # is bounded, because where there is no /proc a process that left the group may hold them open.
        await asyncio.wait(reading, timeout=self._patience.last_words)
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
        for future in self._pending.values():
            future.cancel()
        await self._child.exited.wait()
        self._child.release()
        self._scratch.remove()


@asynccontextmanager
async def running(spec: DriverSpec, *, patience: Patience | None = None) -> AsyncIterator[DriverProcess]:
    """Start a driver and stop it at the end of the block, however the block ends."""
    driver = await DriverProcess.start(spec, patience=patience)
    try:
        yield driver
    except asyncio.CancelledError:
        await driver.kill()
        raise
    finally:
        await driver.stop()


async def _within(waiting: Any, seconds: float) -> bool:
    """Wait for a coroutine for at most `seconds`; say whether it finished."""
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return False
    return True


async def _finished(task: asyncio.Task[None]) -> None:
    """Wait for a task that must finish, also when the waiter is cancelled meanwhile."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
