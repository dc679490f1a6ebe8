"""A plan in, typed events out.

The first pass runs every scenario on a pool of driver processes. What does not hold is run again, alone in a fresh
process, and only then reported. However a run ends, every planned check has exactly one outcome.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import msgspec
from msgspec.structs import replace

from harness.checks.verdict import Outcome
from harness.drivers.failure import DriverFailure
from harness.drivers.process import DriverProcess
from harness.engine.attempt import RED, Attempt, all_alike, describe_failure
from harness.engine.events import (
    Event,
    LedgerHeld,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    ScenarioStarted,
    SubjectReady,
)
from harness.engine.plan import Plan, PlannedScenario
from harness.engine.pool import Pool
from harness.engine.vectors import distrust
from harness.errors import ParityError
from mock_server import MockServer

SLOW_AT_ONCE = 8
"""So many processes at most wait through slow scenarios side by side: they cost memory, hardly any time."""

INTERRUPTED = "interrupted"
"""The message of every check that a signal kept from being judged."""


Wanted = AsyncIterator[Sequence[PlannedScenario]]
"""Scenarios that are wanted together, as they come to be wanted."""


async def run(
    plan: Plan, *, stop: asyncio.Event | None = None, wanted: Wanted | None = None
) -> AsyncGenerator[Event, None]:
    """Yield what happens while `plan` is run, from `RunStarted` to `RunFinished`.

    With `wanted`, only what comes from there is run, as it comes, and a driver is kept in between.

    When `stop` is set, drivers are killed, what was not judged becomes `not_run`, and the stream ends in good order.
    No process and no server outlives the stream, however it ends.

    Raises ParityError when the driver cannot be started or drives something else.
    """
    yield RunStarted(
        sdk=plan.spec.name,
        version=plan.spec.version,
        contract=plan.contract.id,
        suite=plan.suite,
        planned=plan.checks,
        jobs=plan.jobs,
        arguments=plan.arguments,
        slow=plan.slow,
        edition=replace(plan.edition, stimuli=plan.stimuli, replay=plan.replay),
    )
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    work = asyncio.create_task(_Run(plan, events, wanted).execute(stop or asyncio.Event()))
    try:
        while (event := await events.get()) is not None:
            yield event
        await work
    finally:
        await _ended(work)


class _Run:
    """One execution of a plan: what was begun, what is settled, what still has to be run again."""

    def __init__(self, plan: Plan, events: asyncio.Queue[Event | None], wanted: Wanted | None) -> None:
        self._plan = plan
        self._wanted = wanted
        self._events = events
        self._settled: set[str] = set()
        self._first: dict[str, tuple[PlannedScenario, Attempt]] = {}
        self._subject: SubjectReady | None = None
        self._outcomes: dict[tuple[str, str], tuple[Outcome, str]] = {}

    async def execute(self, stop: asyncio.Event) -> None:
        """Work through the plan, or until `stop` is set; always end the stream."""
        began = time.monotonic()
        work = asyncio.create_task(self._work())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            interrupted = not work.done()
            if interrupted:
                await _ended(work)
                self._settle_interrupted()
            else:
                await work
                if accounts := self._plan.ledger.account(self._outcomes):
                    self._events.put_nowait(LedgerHeld(accounts))
            if self._plan.recorder is not None:
                self._plan.recorder.end(whole=not interrupted)
            self._events.put_nowait(RunFinished(time.monotonic() - began, interrupted=interrupted))
        finally:
            stopped.cancel()
            await _ended(work)
            if self._plan.recorder is not None:
                self._plan.recorder.end(whole=False)  # changes nothing where it has ended already
            self._events.put_nowait(None)

    async def _work(self) -> None:
        with MockServer() as server:
            lasting = self._wanted is not None
            pool = Pool(
                self._plan, server, begun=self._begun, done=self._after_first, greet=self._greet, lasting=lasting
            )
            try:
                if self._wanted is None:
                    await self._through(self._plan.scenarios, pool, server)
                else:
                    async for some in self._wanted:
                        await self._through(some, pool, server)
            except BaseExceptionGroup as group:
                raise _first_of(group) from group
            finally:
                await pool.close()

    async def _through(self, scenarios: Sequence[PlannedScenario], pool: Pool, server: MockServer) -> None:
        """Run scenarios, and again alone what does not hold; afterwards every one of them is settled."""
        slow = [planned for planned in scenarios if planned.scenario.slow]
        await pool.work([planned for planned in scenarios if not planned.scenario.slow])
        await pool.work(slow, processes=overlapping(self._plan, slow))
        again = [planned for name, (planned, _) in self._first.items() if name not in self._settled]
        slow = [planned for planned in again if planned.scenario.slow]
        fresh = Pool(self._plan, server, begun=self._begun, done=self._after_second, alone=True)
        await fresh.work([planned for planned in again if not planned.scenario.slow])
        await fresh.work(slow, processes=overlapping(self._plan, slow))

    def _begun(self, planned: PlannedScenario) -> None:
        self._events.put_nowait(ScenarioStarted(planned.scenario.id))

    async def _greet(self, driver: DriverProcess) -> str:
        """Introduce the subject and let it prove that it computes losses right."""
        hello = driver.hello
        self._subject = SubjectReady(
            sdk=msgspec.to_builtins(hello.sdk),
            language=hello.language,
            runtime=hello.runtime,
            libraries=hello.libraries,
            capabilities=tuple(hello.capabilities),
            dependencies=dict(self._plan.spec.dependencies),
        )
        self._events.put_nowait(self._subject)
        if self._plan.recorder is not None:
            self._plan.recorder.begin(self._plan, hello)
        try:
            return await distrust(driver, self._plan.vectors)
        except DriverFailure as failure:
            return describe_failure(failure)

    def _after_first(self, planned: PlannedScenario, attempt: Attempt) -> None:
        # A race that was lost once is lost, whatever the next run shows.
        raced = planned.scenario.repeat > 1 and attempt.failure is None
        if attempt.red and attempt.attempted and self._plan.rerun and not raced:
            self._first[planned.scenario.id] = (planned, attempt)
        else:
            self._settle(planned, attempt)

    def _after_second(self, planned: PlannedScenario, attempt: Attempt) -> None:
        _, first = self._first[planned.scenario.id]
        self._settle(planned, attempt, reruns=1, note=_compare(first, attempt))

    def _settle(self, planned: PlannedScenario, attempt: Attempt, *, reruns: int = 0, note: str = "") -> None:
        self._settled.add(planned.scenario.id)
        if self._plan.recorder is not None:
            self._plan.recorder.keep(planned, attempt.packed, reruns=reruns, note=note)
        for result in attempt.results:
            pair = (result.scenario, result.check)
            if pair in self._plan.unscored:
                self._events.put_nowait(replace(result, unscored=True))
                continue
            self._outcomes[pair] = result.outcome, result.cause
            self._events.put_nowait(result)
        if attempt.pictured is not None:
            self._events.put_nowait(attempt.pictured)
        self._events.put_nowait(
            ScenarioFinished(
                scenario=planned.scenario.id,
                title=planned.scenario.title,
                seconds=attempt.seconds,
                reruns=reruns,
                note=note,
                exchange=attempt.exchange,
                around=attempt.around,
                runs=attempt.runs,
                failed_runs=attempt.failed_runs,
            )
        )

    def _settle_interrupted(self) -> None:
        for planned in self._plan.scenarios:
            if planned.scenario.id in self._settled:
                continue
            if planned.scenario.id in self._first:
                _, attempt = self._first[planned.scenario.id]
                self._settle(planned, attempt, note="not run again: interrupted")
            else:
                self._settle(planned, Attempt(all_alike(planned, "not_run", INTERRUPTED)))


def overlapping(plan: Plan, slow: Sequence[PlannedScenario]) -> int:
    """Return how many processes slow scenarios are spread over."""
    return max(plan.jobs, min(SLOW_AT_ONCE, len(slow)))


def _compare(first: Attempt, second: Attempt) -> str:
    """Say what the second attempt showed about the first."""
    before = [result.check for result in first.results if result.outcome in RED]
    how = f"the driver failed: {first.failure.kind}" if first.failure else ", ".join(before)
    if not second.red:
        return f"failed first ({how}), passed when run again alone"
    after = [result.check for result in second.results if result.outcome in RED]
    if first.failure is None and second.failure is None and before != after:
        return f"failed first in {how}; run again alone it failed in {', '.join(after)}"
    if (first.failure is None) != (second.failure is None):
        return f"failed first ({how}), differently when run again alone"
    return "failed again alone in a fresh process"


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error a group is about: what the user can mend, if there is such a thing."""
    found: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop(0)
        if isinstance(error, BaseExceptionGroup):
            stack.extend(error.exceptions)
        else:
            found.append(error)
    return next((error for error in found if isinstance(error, ParityError)), found[0])


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel `task` and wait until it is over."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # whoever cares has awaited the task itself
