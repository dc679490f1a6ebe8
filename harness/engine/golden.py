"""Golden traces of the whole timeline: computed by the reference, stored, verified."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from harness.checks.registry import judge
from harness.checks.verdict import Case
from harness.contracts.timeline import Timeline, load_timeline
from harness.drivers.failure import Patience
from harness.drivers.process import DriverProcess, running
from harness.drivers.registry import resolve
from harness.engine.certify import moved_certificates
from harness.engine.observe import lanes, traced, watch
from harness.engine.prepare import REFERENCE, choose, open_suite
from harness.engine.run import SLOW_AT_ONCE
from harness.errors import ParityError
from harness.golden.store import GoldenStore, Key
from harness.locations import Locations
from harness.suite.judging import checks_at, every_check
from harness.suite.loader import Suite
from harness.suite.losses.parts import compositions
from harness.suite.rules import ends_process
from harness.trace.model import Trace
from mock_server import MockServer
from mock_server.record import Gap

Say = Callable[[str], object]

UNHURRIED = Patience(leave=60.0)
LATE = 120.0
"""Golden is computed by many processes at once and judges none: each may take its time to end, and seconds more."""


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

    Damaged or unlisted files, traces that the reference no longer computes, checks of a range of releases that find
    nothing to look at in one, and certificates that speak about another set. Where there are the user's own
    scenarios, it is about theirs and no others. Raises ParityError as `emit` does.
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
    problems += _checks_without_ground(suite, traces, timeline)
    for stale in store.verify(traces, timeline.described):
        problems += [f"{stale.scenario} at {stale.release}: {difference}" for difference in stale.differences[:10]]
    if locations.own is None:
        problems += moved_certificates(locations)
    if not problems:
        say(f"{len(mine)} scenarios at {len(timeline.described)} releases: golden traces hold")
    return problems


def _checks_without_ground(suite: Suite, traces: Mapping[Key, Trace], timeline: Timeline) -> Iterator[str]:
    for (name, release), trace in traces.items():
        scenario = suite.scenarios[name]
        if not scenario.judge.also:
            continue
        contract = timeline.point(f"tinker-{release}")
        tolerance, script = scenario.judge.tolerance, scenario.stimulus.server
        case = Case(
            golden=trace,
            observed=trace,
            contract=contract,
            tolerance=tolerance,
            script=script,
            compositions=compositions(scenario, suite.losses),
        )
        for check in checks_at(release, timeline.described)(scenario.judge):
            if (verdict := judge(check, case)).outcome != "pass":
                yield f"{name} asks for {check} at {release}: {verdict.message}"


def _place(locations: Locations, suite: Suite) -> tuple[GoldenStore, tuple[str, ...]]:
    """Return the store that is meant and the scenarios that belong there: the user's own, or else the suite's."""
    if locations.own is None:
        return GoldenStore(locations.golden), tuple(suite.scenarios)
    return GoldenStore(locations.own / "golden"), tuple(sorted(suite.own))


def compute(suite: Suite, scenarios: Sequence[str], timeline: Timeline, *, root: Path) -> dict[Key, Trace]:
    """Return the reference's trace of each scenario at each described release; `root` holds the timeline.

    Releases whose contracts differ in nothing but their name have one trace: the reference knows nothing else of them.

    Raises ParityError `golden-not-computed`.
    """
    same = alike(timeline)
    computed = asyncio.run(_compute(suite, scenarios, tuple(dict.fromkeys(same.values())), root))
    return {
        (name, release): replace(computed[name, first], contract=f"tinker-{release}")
        for release, first in same.items()
        for name in scenarios
    }


def alike(timeline: Timeline) -> dict[str, str]:
    """Return, for each described release, the first whose contract says the same, id and release aside."""
    said = {
        release: msgspec.structs.replace(timeline.point(f"tinker-{release}"), id="", release="")
        for release in timeline.described
    }
    return {release: next(first for first, other in said.items() if other == own) for release, own in said.items()}


async def _compute(suite: Suite, scenarios: Sequence[str], releases: Sequence[str], root: Path) -> dict[Key, Trace]:
    traces: dict[Key, Trace] = {}
    chosen = [suite.scenarios[scenario_id] for scenario_id in scenarios]
    leaving = [scenario.id for scenario in chosen if ends_process(scenario)]
    slow = [scenario.id for scenario in chosen if scenario.slow and scenario.id not in leaving]
    alone = [scenario.id for scenario in chosen if scenario.exclusive and scenario.id not in {*slow, *leaving}]
    quick = [scenario.id for scenario in chosen if scenario.id not in {*slow, *leaving, *alone}]
    processes = asyncio.Semaphore(max(1, min(4, os.cpu_count() or 1)))
    # What waits on purpose takes memory and hardly any time: more of it fits beside each other.
    waiting = asyncio.Semaphore(SLOW_AT_ONCE)

    async def some(release: str, ids: Sequence[str], *, idle: bool = False, one_by_one: bool = False) -> None:
        if not ids:
            return
        contract = f"tinker-{release}"
        async with (
            waiting if idle else processes,
            running(resolve(REFERENCE, contract=contract, root=root), patience=UNHURRIED) as driver,
        ):
            at_once = 1 if one_by_one else driver.hello.max_in_flight if idle else lanes(driver)
            places = asyncio.Semaphore(at_once)

            async def one(scenario_id: str) -> None:
                async with places:
                    traces[scenario_id, release] = await _golden(
                        suite, scenario_id, contract=contract, driver=driver, server=server
                    )

            async with asyncio.TaskGroup() as group:
                for scenario_id in ids:
                    group.create_task(one(scenario_id))

    with MockServer() as server:
        try:
            async with asyncio.TaskGroup() as group:
                for release in releases:
                    group.create_task(some(release, quick))
                    group.create_task(some(release, slow, idle=True))
                    for scenario_id in leaving:
                        group.create_task(some(release, [scenario_id]))
            # What judges the arrival of racing calls is no more beside others here than in a run.
            for release in releases:
                await some(release, alone, one_by_one=True)
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
    seen = await watch(scenario, losses=suite.losses, timeout=scenario.timeout + LATE, driver=driver, server=server)
    stimulus = suite.digest(scenario)
    made = await asyncio.to_thread(traced, scenario, seen, stimulus=stimulus, contract=contract)
    trace = made.trace
    wrong = ""
    if trace is None:
        wrong = str(seen.failure)
    elif hanging := [step.step for step in trace.steps if step.status == "hang"]:
        wrong = f"steps did not end: {', '.join(hanging)}"
    elif found := [*trace.violations, *_unexplained(trace), *trace.shared_keys]:
        wrong = "; ".join(map(str, found))
    if wrong or trace is None:
        raise ParityError(
            "golden-not-computed",
            f"the reference did not come through {scenario_id} at {contract}: {wrong}",
            hint=f"parity run --sdk reference --contract {contract} -k {scenario_id} --trace",
        )
    # Elsewhere a heartbeat only shows how long the run took on this machine.
    heartbeats = any(check.startswith("heartbeat.") for check in every_check(scenario.judge))
    return trace if heartbeats else replace(trace, beats=())


def _unexplained(trace: Trace) -> list[Gap]:
    """Return the holes that no request leaves which the server's script refused for good."""
    refused = {r.model for r in trace.requests if r.attempts and not any(attempt.took for attempt in r.attempts)}
    return [gap for gap in trace.gaps if gap.model_id not in refused]
