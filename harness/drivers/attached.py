"""A driver that the runner did not start: two named pipes that somebody connects a process to, under a debugger say."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

from harness.drivers.child import LINE_LIMIT
from harness.drivers.failure import Patience
from harness.drivers.process import Begin
from harness.drivers.spec import DriverSpec

ANY_DRIVER = DriverSpec(argv=(), name="", version="")
"""Whatever somebody attaches is believed what it says it drives."""

NO_HURRY = Patience(hello=1e6, answer=1e6, evaluate=1e6, leave=1e6, end=5.0, last_words=1.0)
"""Nobody is hurried who stands at a breakpoint; a driver that was told to end has some seconds to do so."""

_LOOK_AGAIN = 0.05


class Attached:
    """Somebody's process at the other end of two named pipes. It is never signalled, and gone when its stdout ends."""

    pid = 0
    ending = "closed its stdout"

    def __init__(
        self,
        commands: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        reading: asyncio.ReadTransport,
        exited: asyncio.Event,
    ) -> None:
        self.commands = commands
        self.answers = answers
        self.errors = asyncio.StreamReader()
        self.errors.feed_eof()  # its stderr is its owner's
        self.exited = exited
        self._reading = reading

    @property
    def status(self) -> int | None:
        """Return 0 once it is gone: how it ended cannot be seen."""
        return 0 if self.exited.is_set() else None

    def abort(self) -> None:
        """Do nothing: whoever started it can look at its stacks."""

    def signal_group(self, number: signal.Signals) -> None:
        """Leave the process alone; where it is to be gone, it is not listened to any more."""
        if number == signal.SIGKILL:
            self.release()
            self.exited.set()

    def release(self) -> None:
        """Close both pipes."""
        self.commands.close()
        self._reading.close()


class _Answers(asyncio.StreamReaderProtocol):
    """Reads answers, and notes their end."""

    def __init__(self, reader: asyncio.StreamReader, exited: asyncio.Event) -> None:
        super().__init__(reader)
        self._exited = exited

    def eof_received(self) -> bool | None:
        """Note that no writer is left."""
        self._exited.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more is read."""
        self._exited.set()
        super().connection_lost(exc)


def attaching(told: Callable[[str], object]) -> Begin:
    """Return what makes the pipes, tells how a driver is connected to them, and waits until one is."""

    async def attach(_spec: DriverSpec, folder: Path) -> Attached:
        commands, answers = folder / "commands", folder / "answers"
        os.mkfifo(commands, 0o600)
        os.mkfifo(answers, 0o600)
        # Opened before anybody writes: a shell that opens it for writing does not wait. Its end is heard of only once a
        # writer has come and gone.
        reading = os.open(answers, os.O_RDONLY | os.O_NONBLOCK)
        told(f"< {shlex.quote(str(commands))} > {shlex.quote(str(answers))}")
        try:
            writing = await _opened(commands)
        except BaseException:
            os.close(reading)
            raise
        loop = asyncio.get_running_loop()
        reader, exited = asyncio.StreamReader(limit=LINE_LIMIT), asyncio.Event()
        source, _ = await loop.connect_read_pipe(lambda: _Answers(reader, exited), os.fdopen(reading, "rb", 0))
        sink, flow = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop=loop), os.fdopen(writing, "wb", 0)
        )
        return Attached(asyncio.StreamWriter(sink, flow, None, loop), reader, source, exited)

    return attach


async def _opened(commands: Path) -> int:
    """Open a named pipe for writing as soon as somebody reads it."""
    while True:
        try:
            return os.open(commands, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads it yet
                raise
        await asyncio.sleep(_LOOK_AGAIN)
