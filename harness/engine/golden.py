"""Golden traces of the whole timeline: computed by the reference, stored, verified."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.contracts.timeline import Timeline, load_timeline
from harness.drivers.process import DriverProcess, running
from harness.drivers.registry import resolve
from harness.engine.certify import moved_certificates
from harness.engine.observe import lanes, observe
from harness.engine.prepare import REFERENCE, choose, open_suite
from harness.errors import ParityError
from harness.golden.store import GoldenStore, Key
from harness.locations import Locations
from harness.suite.loader import Suite
from harness.trace.model import Trace
from mock_server import MockServer

Say = Callable[[str], object]


def emit(locations: Locations, *, expression: str | None, say: Say) -> None:
    """Compute the traces of the selected scenarios at every described release, and store what differs.

    Where there are the user's own scenarios, these are meant and their folder is written to, nothing else. Without an
    expression, traces of scenarios that no longer exist are removed.

    Raises ParityError `golden-not-computed` when the reference does not come through, `root-read-only` where the
    traces are part of the installed package, `selection-empty`, and what `prepare` raises.
    """
    suite, timeline = open_suite(locations), load_timeline(locations.timeline)
    store, mine = _place(locations, suite)
    if locations.own is None:
        locations.refuse_installed()
    chosen = tuple(scenario for scenario in choose(suite, expression) if scenario in mine)
    if expression is not None and not chosen:
        raise ParityError(
            "selection-empty",
            f"-k {expression!r} selects none of your own scenarios in {locations.own}",
            hint="golden traces of the suite's scenarios are emitted without --fixtures",
        )
    traces = compute(suite, chosen, timeline, root=locations.root)
    emitted = store.emit(traces, timeline.described, complete=expression is None)
    for name in emitted.written:
        say(f"wrote    {name}")
    for name in emitted.removed:
        say(f"removed  {name}")
    say(f"{len(emitted.written)} written, {len(emitted.removed)} removed, {len(emitted.unchanged)} unchanged")


def verify(locations: Locations, *, say: Say) -> list[str]:
    """Return what is wrong with the golden traces, one sentence each.

    Damaged or unlisted files, traces that the reference no longer computes, and certificates that speak about
    another set. Where there are the user's own scenarios, it is about theirs and no others. Raises
    ParityError as `emit` does.
    """
    suite, timeline = open_suite(locations), load_timeline(locations.timeline)
    store, mine = _place(locations, suite)
    problems = store.check_files()
    if problems:
        return problems  # what is damaged cannot be compared
    problems += [
        f"golden traces of {scenario}, which is no scenario" for scenario in store.scenarios() if scenario not in mine
    ]
    traces = compute(suite, mine, timeline, root=locations.root)
    for stale in store.verify(traces, timeline.described):
        problems += [f"{stale.scenario} at {stale.release}: {difference}" for difference in stale.differences[:10]]
    if locations.own is None:
        problems += moved_certificates(locations)
    if not problems:
        say(f"{len(mine)} scenarios at {len(timeline.described)} releases: golden traces hold")
    return problems


def _place(locations: Locations, suite: Suite) -> tuple[GoldenStore, tuple[str, ...]]:
    """Return the store that is meant and the scenarios that belong there: the user's own, or else the suite's."""
    if locations.own is None:
        return GoldenStore(locations.golden), tuple(suite.scenarios)
    return GoldenStore(locations.own / "golden"), tuple(sorted(suite.own))


def compute(suite: Suite, scenarios: Sequence[str], timeline: Timeline, *, root: Path) -> dict[Key, Trace]:
    """Return the reference's trace of each scenario at each described release; `root` holds the timeline.

    Raises ParityError `golden-not-computed`.
    """
    return asyncio.run(_compute(suite, scenarios, timeline, root))


async def _compute(suite: Suite, scenarios: Sequence[str], timeline: Timeline, root: Path) -> dict[Key, Trace]:
    traces: dict[Key, Trace] = {}
    processes = asyncio.Semaphore(max(1, min(4, os.cpu_count() or 1)))

    async def point(release: str) -> None:
        async with processes, running(resolve(REFERENCE, contract=f"tinker-{release}", root=root)) as driver:
            places = asyncio.Semaphore(lanes(driver))

            async def one(scenario_id: str) -> None:
                async with places:
                    traces[scenario_id, release] = await _golden(
                        suite, scenario_id, contract=f"tinker-{release}", driver=driver, server=server
                    )

            async with asyncio.TaskGroup() as group:
                for scenario_id in scenarios:
                    group.create_task(one(scenario_id))

    with MockServer() as server:
        try:
            async with asyncio.TaskGroup() as group:
                for release in timeline.described:
                    group.create_task(point(release))
        except* ParityError as errors:
            raise _first(errors) from errors
    return traces


def _first(group: BaseExceptionGroup[ParityError]) -> ParityError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ParityError)
    return error


async def _golden(suite: Suite, scenario_id: str, *, contract: str, driver: DriverProcess, server: MockServer) -> Trace:
    scenario = suite.scenarios[scenario_id]
    observation = await observe(
        scenario,
        stimulus=suite.digest(scenario),
        contract=contract,
        losses=suite.losses,
        timeout=scenario.timeout,
        driver=driver,
        server=server,
    )
    trace = observation.trace
    wrong = ""
    if trace is None:
        wrong = str(observation.failure)
    elif hanging := [step.step for step in trace.steps if step.status == "hang"]:
        wrong = f"steps did not end: {', '.join(hanging)}"
    elif trace.violations or trace.gaps:
        wrong = "; ".join([*(str(violation) for violation in trace.violations), *(str(gap) for gap in trace.gaps)])
    if wrong or trace is None:
        raise ParityError(
            "golden-not-computed",
            f"the reference did not come through {scenario_id} at {contract}: {wrong}",
            hint=f"parity run --sdk reference --contract {contract} -k {scenario_id} --trace",
        )
    return trace
