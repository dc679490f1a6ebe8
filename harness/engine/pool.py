"""A pool of driver processes that works through scenarios.

A process that failed, or in which a call still hangs, finishes what else it has in flight and is replaced. Whatever
ends the pool, no process is left behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from harness.drivers.failure import DriverFailure
from harness.drivers.process import DriverProcess
from harness.engine.attempt import Attempt, Seen, all_alike, describe_failure, judged, watch_runs
from harness.engine.observe import lanes
from harness.engine.plan import Plan, PlannedScenario
from harness.errors import ParityError
from harness.suite.rules import ends_process
from mock_server import MockServer

START_ATTEMPTS = 2
"""So many starts in a row may fail before the pool gives up: a driver that never starts is one finding, not many."""

Begun = Callable[[PlannedScenario], None]
Done = Callable[[PlannedScenario, Attempt], None]
Greet = Callable[[DriverProcess], Awaitable[str]]


class Pool:
    """Runs scenarios on up to `plan.jobs` driver processes and tells `begun` and `done` about each.

    Each process takes several scenarios at a time if it offers to (`lanes`); another process is started only when there
    are more than that. With `alone` every scenario gets a fresh process to itself. `greet` is
    awaited with the first process before any scenario starts; a sentence from it says why the driver cannot be trusted,
    and nothing is run. With `lasting` one process lives on from one call of `work` to the next, until `close`.
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
        lasting: bool = False,
    ) -> None:
        self._plan = plan
        self._server = server
        self._begun = begun
        self._done = done
        self._greet = greet
        self._alone = alone
        self._lasting = lasting
        self._waiting: deque[PlannedScenario] = deque()
        self._leaving: deque[PlannedScenario] = deque()
        self._exclusive: deque[PlannedScenario] = deque()
        self._trusted = asyncio.Event()
        self._failed_starts = 0
        self._given_up = ""
        self._distrusted = False
        self._live: set[DriverProcess] = set()

    async def work(self, scenarios: Sequence[PlannedScenario], *, processes: int = 0) -> None:
        """Run every scenario once, in order of start, on up to `processes` processes instead of the plan's jobs.

        Those that are exclusive come last, one after the other with nothing beside them. Can be called again.

        Raises ParityError when the driver cannot be started at all or drives something else.
        """
        for planned in scenarios:
            exclusive, leaves = planned.scenario.exclusive, ends_process(planned.scenario)
            (self._exclusive if exclusive else self._leaving if leaves else self._waiting).append(planned)
        if not scenarios or self._given_up:
            self._refuse_the_rest()
            return
        reading = asyncio.create_task(_read_ahead(scenarios))
        try:
            first = next(iter(self._live), None) or await self._start()
            capacity = 1 if self._alone or first is None else lanes(first)
            useful = max(-(-len(self._waiting) // capacity), len(self._leaving))
            async with asyncio.TaskGroup() as group:
                for number in range(max(1, min(processes or self._plan.jobs, useful))):
                    group.create_task(self._serve(first if number == 0 else None, self._waiting, self._leaving))
                await self._earn_trust(first)
            left = [driver for driver in self._live if not driver.tainted]
            for driver in tuple(self._live):
                if driver not in left[:1] or not (self._exclusive or self._lasting):
                    await self._end(driver)
            await self._serve(left[0] if left and self._exclusive else None, self._exclusive)
            self._refuse_the_rest()
            kept = next((driver for driver in self._live if self._lasting and not driver.tainted), None)
            for driver in tuple(self._live):
                if driver is not kept:
                    await self._end(driver)
        except BaseException:
            await self._kill_all()
            raise
        finally:
            reading.cancel()

    async def close(self) -> None:
        """End what lives on, in good order unless that is cut short."""
        try:
            for driver in tuple(self._live):
                await self._end(driver)
        finally:
            await self._kill_all()

    async def _earn_trust(self, first: DriverProcess | None) -> None:
        if first is not None and self._greet is not None and not self._trusted.is_set():
            complaint = await self._greet(first)
            self._distrusted = bool(complaint)
            self._given_up = self._given_up or complaint
        self._trusted.set()

    def _refuse_the_rest(self) -> None:
        """Give what was never run its outcome: the driver gave no chance to."""
        while planned := self._next(self._waiting, self._leaving, self._exclusive):
            self._begun(planned)
            outcome = "error" if self._distrusted else "not_run"
            self._done(planned, Attempt(all_alike(planned, outcome, self._given_up), attempted=False))

    @staticmethod
    def _next(*queues: deque[PlannedScenario]) -> PlannedScenario | None:
        return next((queue.popleft() for queue in queues if queue), None)

    async def _serve(self, driver: DriverProcess | None, *queues: deque[PlannedScenario]) -> None:
        """Be one process after the other until nothing waits in `queues`; only those of the first share a process.

        The last process lives on, unless it should serve no other scenario.
        """
        while any(queues) and not self._given_up:
            # Started before the first one has earned trust: importing an SDK takes seconds.
            driver = driver or await self._start(*queues)
            await self._trusted.wait()
            if driver is None:
                continue
            queue = next((queue for queue in queues if queue), None)
            if queue is None:
                break
            places = lanes(driver) if queue is self._waiting and not self._alone else 1
            async with asyncio.TaskGroup() as group:
                for _ in range(min(places, len(queue))):
                    group.create_task(self._lane(driver, queue))
            if driver.tainted or self._alone:
                await self._end(driver)
                driver = None

    async def _lane(self, driver: DriverProcess, queue: deque[PlannedScenario]) -> None:
        """Run one scenario after the other on `driver`; stop when it should not serve another one.

        What was seen in one is judged while the next one runs, where no other lane would use the process meanwhile.
        """
        ahead = queue is self._waiting and lanes(driver) == 1
        place = asyncio.Semaphore(1)
        async with asyncio.TaskGroup() as judging:
            while queue and not driver.tainted and not self._given_up:
                planned = queue.popleft()
                self._begun(planned)
                seen = await watch_runs(self._plan, planned, driver=driver, server=self._server)
                await place.acquire()  # no more than one waits to be judged: what was seen can be large
                work = judging.create_task(self._judge(planned, seen, place))
                if not ahead:
                    await work
                if self._alone:
                    return

    async def _judge(self, planned: PlannedScenario, seen: Seen, place: asyncio.Semaphore) -> None:
        try:
            self._done(planned, await judged(self._plan, planned, seen))
        finally:
            place.release()

    async def _end(self, driver: DriverProcess) -> None:
        await driver.stop()
        self._live.discard(driver)

    async def _kill_all(self) -> None:
        """End what is still alive: only a pool that was cut short has any."""
        for driver in tuple(self._live):
            await driver.kill()
            self._live.discard(driver)

    async def _start(self, *queues: deque[PlannedScenario]) -> DriverProcess | None:
        """Start a process; when it fails, the next scenario of `queues` (of all) gets the failure as its outcome."""
        try:
            if self._plan.start is not None:
                driver = await self._plan.start()
            else:
                driver = await DriverProcess.start(self._plan.spec, patience=self._plan.patience)
        except DriverFailure as failure:
            self._failed_starts += 1
            planned = self._next(*(queues or (self._waiting, self._leaving, self._exclusive)))
            if planned is not None:
                self._begun(planned)
                results = all_alike(planned, "error", describe_failure(failure))
                self._done(planned, Attempt(results, failure=failure))
            if self._failed_starts >= START_ATTEMPTS:
                self._given_up = f"the driver cannot be started ({failure.kind}): {failure.message}"
            return None
        self._live.add(driver)
        self._failed_starts = 0
        return driver


async def _read_ahead(scenarios: Sequence[PlannedScenario]) -> None:
    """Read golden traces while the driver starts: it needs seconds, and nobody else needs this process then."""
    for planned in scenarios:
        with suppress(ParityError):  # whoever judges the scenario hears of it
            await asyncio.to_thread(planned.stored)
