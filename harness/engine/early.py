"""The first driver process of a run, started while the plan is still being made.

An SDK imports for seconds, and so does whoever makes the plan: side by side they cost the time of one. What a plan
decides cannot be known here, so that the process is used only where the plan turns out to start the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.contracts.timeline import load_timeline
from harness.drivers.environments import has_environment
from harness.drivers.failure import DriverFailure
from harness.drivers.process import DriverProcess
from harness.drivers.registry import parse, resolve
from harness.drivers.spec import DriverSpec
from harness.errors import ParityError
from harness.locations import Locations

if TYPE_CHECKING:
    from harness.engine.plan import Plan


class HeadStart:
    """At most one driver process that is starting, and the event loop that it and its run belong to."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self._driver: DriverProcess | None = None
        self._greeting: asyncio.Task[None] | None = None

    async def begin(self, spec: DriverSpec) -> None:
        """Start a process and greet it, without waiting for its answer: that can wait in the pipe, unread.

        A process that cannot be started is no process; whoever starts it again is told why.
        """
        with suppress(ParityError):
            self._driver = await DriverProcess.launch(spec)
            self._greeting = asyncio.create_task(self._driver.greet())
            for _ in range(2):  # the request begins, and its line is written
                await asyncio.sleep(0)

    def used_by(self, plan: Plan) -> Plan:
        """Return the plan with what was begun as its first process, where the plan starts the same."""
        driver = self._driver
        if driver is None or plan.start is not None or driver.spec != plan.spec:
            return plan
        return replace(plan, start=lambda: self._take(plan))

    async def _take(self, plan: Plan) -> DriverProcess:
        driver, self._driver = self._driver, None
        if driver is None or self._greeting is None:
            return await DriverProcess.start(plan.spec, patience=plan.patience)
        await self._greeting
        return driver

    async def end(self) -> None:
        """End the process where nobody took it."""
        driver, self._driver = self._driver, None
        if driver is None:
            return
        if self._greeting is not None:
            self._greeting.cancel()
            with suppress(asyncio.CancelledError, DriverFailure, ParityError):
                await self._greeting
        await driver.kill()


@contextmanager
def head_start(
    locations: Locations, sdk: str | None, *, sdk_path: Path | None, contract: str | None
) -> Iterator[HeadStart]:
    """Begin to start the driver that a run of `sdk` will most likely want, if nothing has to be built for it.

    The run has to happen within the context, on `HeadStart.runner`. A process that is not used is ended. Nothing is
    raised: whatever is wrong with what was asked for, whoever makes the plan says it.
    """
    with asyncio.Runner() as runner:
        head = HeadStart(runner)
        spec = None if sdk is None else _likely(locations, sdk, sdk_path, contract)
        try:
            if spec is not None:
                runner.run(head.begin(spec))
            yield head
        finally:
            runner.run(head.end())


def _likely(locations: Locations, sdk: str, sdk_path: Path | None, contract: str | None) -> DriverSpec | None:
    try:
        name, version = parse(sdk)
        if name == "tinker":
            return resolve(sdk, sdk_path=sdk_path) if has_environment(name, version) else None
        if name != "reference":
            return None  # needs a compiled checkout or a release, which may have to be built
        if not version and contract is None:
            contract = f"tinker-{load_timeline(locations.timeline).described[-1]}"
        return resolve(sdk, sdk_path=sdk_path, contract=contract, root=locations.root)
    except ParityError:
        return None
