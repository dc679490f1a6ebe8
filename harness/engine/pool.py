"""A pool of driver processes that works through scenarios.

A process that failed, or in which a call still hangs, finishes what else it has in flight and is replaced. Whatever
ends the pool, no process is left behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from harness.drivers.process import DriverFailure, DriverProcess
from harness.engine.attempt import Attempt, all_alike, attempt, describe_failure
from harness.engine.observe import lanes
from harness.engine.plan import Plan, PlannedScenario
from mock_server import MockServer

START_ATTEMPTS = 2
"""So many starts in a row may fail before the pool gives up: a driver that never starts is one finding, not many."""

Begun = Callable[[PlannedScenario], None]
Done = Callable[[PlannedScenario, Attempt], None]
Greet = Callable[[DriverProcess], Awaitable[str]]


class Pool:
    """Runs scenarios on up to `plan.jobs` driver processes and tells `begun` and `done` about each.

    Each process takes several scenarios at a time if it offers to (`lanes`); another process is started only when there
    are more than that. With `alone` every scenario gets a fresh process to itself. `greet` is awaited with the first
    process before any scenario starts; a sentence from it says why the driver cannot be trusted, and nothing is run.
    """

    def __init__(
        self,
        plan: Plan,
        server: MockServer,
        *,
        begun: Begun,
        done: Done,
        greet: Greet | None = None,
        alone: bool = False,
    ) -> None:
        self._plan = plan
        self._server = server
        self._begun = begun
        self._done = done
        self._greet = greet
        self._alone = alone
        self._waiting: deque[PlannedScenario] = deque()
        self._trusted = asyncio.Event()
        self._failed_starts = 0
        self._given_up = ""
        self._distrusted = False
        self._live: set[DriverProcess] = set()

    async def work(self, scenarios: Sequence[PlannedScenario]) -> None:
        """Run every scenario once, in order of start.

        Raises ParityError when the driver cannot be started at all or drives something else.
        """
        self._waiting.extend(scenarios)
        if not self._waiting:
            return
        try:
            first = await self._start()
            capacity = 1 if self._alone or first is None else lanes(first)
            processes = max(1, min(self._plan.jobs, -(-len(self._waiting) // capacity)))
            async with asyncio.TaskGroup() as group:
                for number in range(processes):
                    group.create_task(self._serve(first if number == 0 else None))
                await self._earn_trust(first)
            self._refuse_the_rest()
        finally:
            await self._kill_all()

    async def _earn_trust(self, first: DriverProcess | None) -> None:
        if first is not None and self._greet is not None:
            complaint = await self._greet(first)
            self._distrusted = bool(complaint)
            self._given_up = self._given_up or complaint
        self._trusted.set()

    def _refuse_the_rest(self) -> None:
        """Give what was never run its outcome: the driver gave no chance to."""
        while self._waiting:
            planned = self._waiting.popleft()
            self._begun(planned)
            outcome = "error" if self._distrusted else "not_run"
            self._done(planned, Attempt(all_alike(planned, outcome, self._given_up), attempted=False))

    async def _serve(self, driver: DriverProcess | None) -> None:
        """Be one process after the other until nothing waits."""
        while self._waiting and not self._given_up:
            # Started before the first one has earned trust: importing an SDK takes seconds.
            driver = driver or await self._start()
            await self._trusted.wait()
            if driver is None:
                continue
            places = 1 if self._alone else lanes(driver)
            async with asyncio.TaskGroup() as group:
                for _ in range(min(places, len(self._waiting))):
                    group.create_task(self._lane(driver))
            await self._end(driver)
            driver = None
        if driver is not None:
            await self._end(driver)

    async def _lane(self, driver: DriverProcess) -> None:
        """Run one scenario after the other on `driver`; stop when it should not serve another one."""
        while self._waiting and not driver.tainted and not self._given_up:
            planned = self._waiting.popleft()
            self._begun(planned)
            self._done(planned, await attempt(self._plan, planned, driver=driver, server=self._server))
            if self._alone:
                return

    async def _end(self, driver: DriverProcess) -> None:
        await driver.stop()
        self._live.discard(driver)

    async def _kill_all(self) -> None:
        """End what is still alive: only a pool that was cut short has any."""
        for driver in tuple(self._live):
            await driver.kill()
            self._live.discard(driver)

    async def _start(self) -> DriverProcess | None:
        """Start a process; when it fails, the next scenario gets the failure as its outcome."""
        try:
            driver = await DriverProcess.start(self._plan.spec, patience=self._plan.patience)
        except DriverFailure as failure:
            self._failed_starts += 1
            if self._waiting:
                planned = self._waiting.popleft()
                self._begun(planned)
                results = all_alike(planned, "error", describe_failure(failure))
                self._done(planned, Attempt(results, failure=failure))
            if self._failed_starts >= START_ATTEMPTS:
                self._given_up = f"the driver cannot be started ({failure.kind}): {failure.message}"
            return None
        self._live.add(driver)
        self._failed_starts = 0
        return driver
