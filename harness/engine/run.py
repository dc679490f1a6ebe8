"""A plan in, typed events out.

The first pass runs every scenario on a pool of driver processes. What does not hold is run again, alone in a fresh
process, and only then reported. However a run ends, every planned check has exactly one outcome.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import msgspec

from harness.drivers.process import DriverFailure, DriverProcess
from harness.engine.attempt import RED, Attempt, all_alike, describe_failure
from harness.engine.events import (
    Event,
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

INTERRUPTED = "interrupted"
"""The message of every check that a signal kept from being judged."""


async def run(plan: Plan, *, stop: asyncio.Event | None = None) -> AsyncGenerator[Event, None]:
    """Yield what happens while `plan` is run, from `RunStarted` to `RunFinished`.

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
    )
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    work = asyncio.create_task(_Run(plan, events).execute(stop or asyncio.Event()))
    try:
        while (event := await events.get()) is not None:
            yield event
        await work
    finally:
        await _ended(work)


class _Run:
    """One execution of a plan: what was begun, what is settled, what still has to be run again."""

    def __init__(self, plan: Plan, events: asyncio.Queue[Event | None]) -> None:
        self._plan = plan
        self._events = events
        self._settled: set[str] = set()
        self._first: dict[str, tuple[PlannedScenario, Attempt]] = {}
        self._subject: SubjectReady | None = None

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
            self._events.put_nowait(RunFinished(time.monotonic() - began, interrupted=interrupted))
        finally:
            stopped.cancel()
            await _ended(work)
            self._events.put_nowait(None)

    async def _work(self) -> None:
        with MockServer() as server:
            try:
                await Pool(self._plan, server, begun=self._begun, done=self._after_first, greet=self._greet).work(
                    self._plan.scenarios
                )
                again = [planned for planned, _ in self._first.values()]
                await Pool(self._plan, server, begun=self._begun, done=self._after_second, alone=True).work(again)
            except BaseExceptionGroup as group:
                raise _first_of(group) from group

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
        )
        self._events.put_nowait(self._subject)
        try:
            return await distrust(driver, self._plan.vectors)
        except DriverFailure as failure:
            return describe_failure(failure)

    def _after_first(self, planned: PlannedScenario, attempt: Attempt) -> None:
        if attempt.red and attempt.attempted and self._plan.rerun:
            self._first[planned.scenario.id] = (planned, attempt)
        else:
            self._settle(planned, attempt)

    def _after_second(self, planned: PlannedScenario, attempt: Attempt) -> None:
        _, first = self._first[planned.scenario.id]
        self._settle(planned, attempt, reruns=1, note=_compare(first, attempt))

    def _settle(self, planned: PlannedScenario, attempt: Attempt, *, reruns: int = 0, note: str = "") -> None:
        self._settled.add(planned.scenario.id)
        for result in attempt.results:
            self._events.put_nowait(result)
        self._events.put_nowait(
            ScenarioFinished(
                scenario=planned.scenario.id,
                title=planned.scenario.title,
                seconds=attempt.seconds,
                reruns=reruns,
                note=note,
                exchange=attempt.exchange,
                around=attempt.around,
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
