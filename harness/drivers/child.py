"""A child process in a group of its own, with its pipes: what asyncio lacks, and what any driver needs."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from harness.drivers.spec import DriverSpec
from harness.errors import ParityError


class Companion(Protocol):
    """The process at the other end of the line, and its pipes: one that was started here, or somebody else's.

    `exited` is set when it has ended, as far as can be told. `status` is its exit status, negative for a signal, None
    while it runs; `ending` says how it ended, in words.
    """

    commands: asyncio.StreamWriter
    answers: asyncio.StreamReader
    errors: asyncio.StreamReader
    exited: asyncio.Event

    @property
    def pid(self) -> int:
        """Id of the process, 0 where it is not known."""

    @property
    def status(self) -> int | None:
        """Exit status."""

    @property
    def ending(self) -> str:
        """How it ended."""

    def abort(self) -> None:
        """Ask for stacks."""

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to it and everything it started."""

    def release(self) -> None:
        """Close what is left of the pipes."""


LINE_LIMIT = 16 << 20
"""The longest line accepted from a driver, in bytes."""


class Child(asyncio.subprocess.SubprocessStreamProtocol):
    """The process and its pipes.

    `asyncio.subprocess.Process.wait` is not used: up to Python 3.12 it also waits until every process that inherited
    the pipes has closed them.
    """

    transport: asyncio.SubprocessTransport
    commands: asyncio.StreamWriter
    answers: asyncio.StreamReader
    errors: asyncio.StreamReader

    def __init__(self) -> None:
        super().__init__(limit=LINE_LIMIT, loop=asyncio.get_running_loop())
        self.exited = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and the pipes."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert self.stdin is not None
        assert self.stdout is not None
        assert self.stderr is not None
        self.transport = transport
        self.commands, self.answers, self.errors = self.stdin, self.stdout, self.stderr

    def process_exited(self) -> None:
        """Note that the process has ended, whoever still holds its pipes."""
        super().process_exited()
        self.exited.set()

    @property
    def pid(self) -> int:
        """Id of the process and of its group."""
        return self.transport.get_pid()

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self.transport.get_returncode()

    @property
    def ending(self) -> str:
        """How the process ended, in words."""
        if self.status is None:
            return "closed its stdout and runs on"
        if self.status >= 0:
            return f"exited with status {self.status}"
        with suppress(ValueError):
            return f"killed by {signal.Signals(-self.status).name}"
        return f"killed by signal {-self.status}"

    def abort(self) -> None:
        """Ask for stacks: Python's faulthandler and the Go runtime print every stack on SIGABRT, then die of it."""
        with suppress(ProcessLookupError):
            self.transport.send_signal(signal.SIGABRT)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to every process of the group; a group that is gone is no error."""
        with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            os.killpg(self.pid, number)

    def release(self) -> None:
        """Close the transport."""
        self.transport.close()


async def spawn(spec: DriverSpec, scratch: Path) -> Child:
    """Start the driver with `scratch` as its HOME and TMPDIR. Raises ParityError `driver-not-started`."""
    home, temporary = scratch / "home", scratch / "tmp"
    home.mkdir()
    temporary.mkdir()
    try:
        _, process = await asyncio.get_running_loop().subprocess_exec(
            Child,
            *spec.argv,
            cwd=spec.cwd or home,
            env={**spec.env, "HOME": str(home), "TMPDIR": str(temporary)},
            start_new_session=True,
        )
    except OSError as error:
        raise ParityError(
            "driver-not-started",
            f"the driver of {spec.name} could not be started: {error}",
            hint=f"Is {spec.argv[0]} installed and executable?",
        ) from error
    return process
