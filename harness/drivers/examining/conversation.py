"""A driver that is spoken to line by line, so that it can be told what no runner would ever tell it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from harness.drivers.answers import GarbageError, excerpt, read_answer
from harness.drivers.child import LINE_LIMIT, Child, spawn
from harness.drivers.protocol import Answer
from harness.drivers.scratch import Scratch, strays
from harness.drivers.spec import DriverSpec

Found = Callable[[str, str], None]
"""(code of the finding, what was seen)"""

_TAIL = 400
"""So many bytes of stderr are shown."""

_PIPES = 3.0
"""Seconds for the pipes of a process that was killed to end."""


class Conversation:
    """One process of the driver. Whatever it writes that was not asked for is told to `found`.

    Use `begin`, and `end` whatever happened.
    """

    def __init__(self, child: Child, scratch: Scratch, found: Found) -> None:
        self._child = child
        self._scratch = scratch
        self._found = found
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._answered: set[int] = set()
        self._stderr = b""
        self.blame = ""
        self._reading = asyncio.gather(self._read_answers(), self._read_errors())

    @classmethod
    async def begin(cls, spec: DriverSpec, found: Found) -> Conversation:
        """Start the driver. Raises ParityError `driver-not-started`."""
        scratch = Scratch.make()
        try:
            return cls(await spawn(spec, scratch.path), scratch, found)
        except BaseException:
            scratch.remove()
            raise

    @property
    def alive(self) -> bool:
        """Whether the process runs and still has its stdout."""
        return not self._child.exited.is_set() and not self._child.answers.at_eof()

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._child.status

    def ask(self, cmd: str, **content: Any) -> tuple[int, bytes]:
        """Return a command with an id of its own, as the line that carries it. Its answer is expected from now on."""
        self._number += 1
        self._waiting[self._number] = asyncio.get_running_loop().create_future()
        return self._number, msgspec.json.encode({"cmd": cmd, "id": self._number, **content}) + b"\n"

    async def write(self, data: bytes) -> None:
        """Write bytes to the driver's stdin. One that has closed it is found out by whoever waits for its answer."""
        with suppress(ConnectionError):
            self._child.commands.write(data)
            await self._child.commands.drain()

    async def heard(self, number: int, *, seconds: float) -> Answer | None:
        """Wait for the answer to a command; None when there is none in time, or the process has ended."""
        gone = asyncio.ensure_future(self._child.exited.wait())
        answer = self._waiting[number]
        either: set[asyncio.Future[Any]] = {answer, gone}
        try:
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and gone.done():
                await asyncio.wait({self._reading}, timeout=_PIPES)  # what it wrote before it ended
        finally:
            gone.cancel()
        return answer.result() if answer.done() else None

    async def asked(self, cmd: str, *, seconds: float, **content: Any) -> Answer | None:
        """Send a command and wait for its answer."""
        number, line = self.ask(cmd, **content)
        # Beside the wait: a driver that does not read would block the writing for ever.
        writing = asyncio.create_task(self.write(line))
        try:
            return await self.heard(number, seconds=seconds)
        finally:
            writing.cancel()

    def instead(self, seconds: float) -> str:
        """Say what came instead of an answer."""
        if self.alive:
            return f"nothing came within {seconds:g} s"
        tail = self._stderr[-_TAIL:].decode(errors="replace").strip()
        return f"the driver {self._child.ending}" + (
            f"; its stderr ends: {' / '.join(tail.splitlines()[-3:])}" if tail else ""
        )

    def terminate(self) -> None:
        """Send SIGTERM to the group."""
        self._child.signal_group(signal.SIGTERM)

    def close_input(self) -> None:
        """End the driver's stdin."""
        self._child.commands.close()

    async def gone(self, *, seconds: float) -> bool:
        """Wait until the process has ended; say whether it did."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._child.exited.wait()
        return self._child.exited.is_set()

    def left_behind(self) -> list[int]:
        """Return the processes that the driver has left, once it has ended."""
        return strays(self._scratch.path)

    async def end(self) -> None:
        """End the process and everything it started, and wait until it is gone. Safe to call again."""
        self._child.signal_group(signal.SIGKILL)
        await asyncio.to_thread(self._scratch.end_strays)
        await asyncio.wait({self._reading}, timeout=_PIPES)
        self._reading.cancel()
        await asyncio.wait({self._reading})
        await self._child.exited.wait()
        self._child.transport.close()
        self._scratch.remove()

    async def _read_answers(self) -> None:
        answers, skipping = self._child.answers, False
        while True:
            try:
                line = await answers.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:
                self._found("line-too-long", f"a line of more than {LINE_LIMIT >> 20} MiB")
                await answers.readexactly(error.consumed)
                skipping = True
                continue
            except asyncio.IncompleteReadError as error:
                if error.partial and not skipping:
                    self._found(self.blame or "stray-output", f"a line without an end: {excerpt(error.partial)}")
                return
            if not skipping:
                self._take(line)
            skipping = False

    def _take(self, line: bytes) -> None:
        try:
            answer = read_answer(line)
        except GarbageError as error:
            self._found(self.blame or "stray-output", f"{error}: {excerpt(line)}")
            return
        if answer.id in self._answered:
            self._found("answered-twice", f"a second answer to command {answer.id}: {excerpt(line)}")
        elif answer.id in self._waiting:
            self._answered.add(answer.id)
            if not self._waiting[answer.id].cancelled():
                self._waiting[answer.id].set_result(answer)
        else:
            self._found("answer-unasked", f"an answer to command {answer.id}, which was never sent: {excerpt(line)}")

    async def _read_errors(self) -> None:
        while part := await self._child.errors.read(1 << 16):
            self._stderr = (self._stderr + part)[-(1 << 16) :]


def short(command: Mapping[str, Any] | Answer | None) -> str:
    """Return the beginning of an answer, for a finding."""
    return excerpt(msgspec.json.encode(command))
