"""One driver process: started, spoken to, and always ended.

A driver lives in a process group of its own. Whatever it does instead of answering (crash, garbage, silence) becomes
a `DriverFailure`, after which the process is gone; the caller starts another one. What the SDK does wrong is never a
failure: it comes back in the answer.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from harness.drivers.child import LINE_LIMIT, Child, spawn
from harness.drivers.protocol import (
    PROTOCOL,
    Answer,
    Command,
    Evaluate,
    EvaluateAnswer,
    Hello,
    HelloAnswer,
    Run,
    RunAnswer,
    Shutdown,
)
from harness.drivers.spec import DriverSpec, confirm
from harness.drivers.wire import DataEncoder
from harness.errors import ParityError
from harness.suite.data import DatumValue

STDERR_KEPT = 64 << 10
"""How much of a driver's stderr is remembered, in bytes."""

FailureKind = Literal["crash", "garbage", "silence", "driver_error"]
T = TypeVar("T")


class DriverFailure(Exception):  # noqa: N818 - it is a finding about the driver, named as reports name it
    """The driver, not the SDK, failed: nothing can be said about the subject.

    `crash`: the process ended or could not be written to. `garbage`: a line that is no answer. `silence`: no answer
    within the deadline; `stacks` has what the process wrote when it was aborted. `driver_error`: the driver says that
    it could not do what was asked (`code: message`, details in `stacks`); only then does the process live on.
    """

    def __init__(self, kind: FailureKind, message: str, *, stacks: str = "", stderr_tail: str = "") -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message
        self.stacks = stacks
        self.stderr_tail = stderr_tail


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a driver, in seconds.

    `hello`: imports of tensor libraries take seconds. `answer`: beyond the run's own timeout. `evaluate`: operation
    vectors. `end`: each stage of stopping. `last_words`: stacks and stderr of a process that is being given up.
    """

    hello: float = 120.0
    answer: float = 15.0
    evaluate: float = 120.0
    end: float = 5.0
    last_words: float = 3.0


class DriverProcess:
    """A running driver. Use `DriverProcess.start` and `stop`, or `running`.

    `tainted` says that the process should not serve another run: it failed, a call in it still hangs, or a run was
    given up. `failure` is the first failure, also one found while stopping.
    """

    hello: HelloAnswer

    def __init__(self, spec: DriverSpec, child: Child, scratch: Path, patience: Patience) -> None:
        self.spec = spec
        self.failure: DriverFailure | None = None
        self.tainted = False
        self._child = child
        self._scratch = scratch
        self._patience = patience
        self._last_id = 0
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._abandoned: set[int] = set()
        self._slots = asyncio.Semaphore(1)
        self._stopping = False
        self._gone = False
        self._ending: asyncio.Task[DriverFailure] | None = None
        self._stderr = bytearray()
        self._stderr_seen = 0
        self._stderr_task = asyncio.create_task(self._read_stderr())
        self._stdout_task = asyncio.create_task(self._read_answers())

    @classmethod
    async def start(cls, spec: DriverSpec, *, patience: Patience | None = None) -> DriverProcess:
        """Start the driver and exchange `hello`.

        Raises DriverFailure when it does not answer as it should, and ParityError when it cannot be started
        (`driver-not-started`), speaks another major version (`driver-protocol`) or drives something else
        (`sdk-mismatch`, `sdk-path-mismatch`).
        """
        scratch = Path(tempfile.mkdtemp(prefix="parity-"))
        try:
            process = await spawn(spec, scratch)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        driver = cls(spec, process, scratch, patience or Patience())
        try:
            await driver._greet()
        except BaseException:
            await driver.kill()
            raise
        return driver

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
    ) -> RunAnswer:
        """Run a scenario's steps; `timeout` in seconds is for the whole run. Waits for a free place if all are taken.

        Raises DriverFailure.
        """
        async with self._slots:
            number = self._next_id()
            file = self._scratch / f"run-{number}.bin"
            encoder = DataEncoder(file)
            command = Run(
                id=number,
                base_url=base_url,
                api_key=api_key,
                steps=[dict(step) for step in steps],
                data=encoder.data(data),
                losses={name: dict(loss) for name, loss in losses.items()},
                timeout=timeout,
            )
            encoder.save()
            try:
                answer = await self._ask(command, RunAnswer, deadline=timeout + self._patience.answer)
            finally:
                file.unlink(missing_ok=True)
        if any(step.status == "hang" for step in answer.steps):
            self.tainted = True
        return answer

    async def evaluate(self, cases: Sequence[Mapping[str, Any]]) -> EvaluateAnswer:
        """Let the driver evaluate loss graphs (the operation vectors). Raises DriverFailure."""
        async with self._slots:
            command = Evaluate(id=self._next_id(), cases=[dict(case) for case in cases])
            return await self._ask(command, EvaluateAnswer, deadline=self._patience.evaluate)

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
                f"the driver speaks protocol {hello.protocol}, this harness {PROTOCOL}",
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
            while line := await self._child.answers.readline():
                complaint = self._accept(line)
                if complaint:
                    self._begin_failing("garbage", f"{complaint}: {_excerpt(line)}")
                    return
        except ValueError:  # what readline makes of a line beyond the limit
            self._begin_failing("garbage", f"a line of more than {LINE_LIMIT >> 20} MiB on stdout")
            return
        if not self._stopping:
            self._begin_failing("crash", "")

    def _accept(self, line: bytes) -> str:
        """Take one line; return what is wrong with it, or nothing."""
        try:
            answer = msgspec.json.decode(line, type=Answer)
        except msgspec.MsgspecError as error:
            return f"a line on stdout that is no answer ({error})"
        if (answer.ok is None) == (answer.driver_error is None):
            return "an answer needs exactly one of ok and driver_error"
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
            message = f"{said.code}: {said.message}"
            tail = self._stderr_text()
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
        reading = {self._stdout_task, self._stderr_task}
        # A signal takes a moment. The ends of the pipes are the sign that all members of the group are gone; a process
        # that left the group may hold them open, so the wait is bounded.
        await asyncio.wait(reading, timeout=self._patience.last_words)
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
        for future in self._pending.values():
            future.cancel()
        await self._child.exited.wait()
        self._child.transport.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


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


def _excerpt(line: bytes) -> str:
    text = line[:120].decode("utf-8", errors="replace").rstrip("\n")
    return repr(text) + (" ..." if len(line) > 120 else "")
