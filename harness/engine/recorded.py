"""Judging a recorded run: the same verdicts as when it was live, by today's golden traces, checks and ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from harness.checks.verdict import Outcome
from harness.contracts.timeline import load_timeline
from harness.drivers.failure import DriverFailure
from harness.drivers.protocol import StepResult
from harness.drivers.spec import DriverSpec
from harness.engine.attempt import Attempt, all_alike, judge_runs, lacking
from harness.engine.events import (
    CheckJudged,
    Event,
    LedgerHeld,
    RecordingOpened,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    ScenarioStarted,
    SubjectReady,
)
from harness.engine.observe import Observation
from harness.engine.plan import Plan, PlannedScenario
from harness.engine.prepare import (
    REFERENCE,
    choose,
    current_edition,
    digest_of,
    golden_stores,
    ledger_for,
    open_suite,
    plan_scenarios,
)
from harness.engine.recorder import steps_of
from harness.errors import ParityError
from harness.ledger import Subject
from harness.locations import Locations
from harness.recording.runs import RecordedRun, RoundEntry, read_run
from harness.suite.judging import checks_at
from harness.trace.normalise import make_trace
from mock_server.record import Record


def judge_run(
    locations: Locations,
    folder: Path,
    *,
    contract: str | None = None,
    ledger: Path | None = None,
    keep_exchange: bool = False,
    pictures: bool = False,
) -> Iterator[Event]:
    """Yield what a run with these observations would have said, from `RunStarted` to `RunFinished`.

    A scenario is judged when its stimulus is still the recorded one. `contract` is the recorded one unless another is
    named; `ledger` is the user's own; `keep_exchange` and `pictures` are those of a plan.

    Raises ParityError as `read_run` and `prepare` do, and `recording-stale` where no scenario can be judged.
    """
    began = time.monotonic()
    taken = read_run(folder, golden=locations.golden)
    plan, opened = _plan(locations, taken, contract=contract, ledger=ledger)
    plan = replace(plan, keep_exchange=keep_exchange, pictures=pictures)
    yield RunStarted(
        sdk=plan.spec.name,
        version=plan.spec.version,
        contract=plan.contract.id,
        suite=plan.suite,
        planned=plan.checks,
        jobs=1,
        arguments=plan.arguments,
        edition=msgspec.structs.replace(plan.edition, stimuli=plan.stimuli),
    )
    yield opened
    driven = taken.header.driven
    yield SubjectReady(
        sdk={"name": driven.name, "version": driven.version, "file": "", "digest": driven.digest},
        language=driven.language,
        runtime=driven.runtime,
        libraries=driven.libraries,
        capabilities=driven.capabilities,
    )
    outcomes: dict[tuple[str, str], tuple[Outcome, str]] = {}
    for planned in plan.scenarios:
        yield ScenarioStarted(planned.scenario.id)
        for event in _judged(plan, planned, taken):
            if isinstance(event, CheckJudged):
                outcomes[event.scenario, event.check] = event.outcome, event.cause
            yield event
    if accounts := plan.ledger.account(outcomes):
        yield LedgerHeld(accounts)
    yield RunFinished(time.monotonic() - began)


def _plan(
    locations: Locations, taken: RecordedRun, *, contract: str | None, ledger: Path | None
) -> tuple[Plan, RecordingOpened]:
    header = taken.header
    driven = header.driven
    suite, timeline = open_suite(locations), load_timeline(locations.timeline)
    point = timeline.point(contract or header.contract)
    chosen = choose(suite, None, asked=checks_at(point.release, timeline.described))
    digests = {scenario_id: suite.digest(suite.scenarios[scenario_id]) for scenario_id in chosen}
    stale = tuple(sorted(name for name, stimulus in header.stimuli.items() if digests.get(name) != stimulus))
    fresh = {name: checks for name, checks in chosen.items() if header.stimuli.get(name) == digests[name]}
    if not fresh:
        raise ParityError(
            "recording-stale",
            f"none of the {len(header.stimuli)} recorded scenarios is as it was when the recording was taken",
            hint=f"record again: parity run --sdk {driven.name}=={driven.version} --record DIR",
        )
    scenarios = plan_scenarios(
        suite,
        fresh,
        store_of=golden_stores(locations, suite),
        contract=point,
        described=timeline.described,
        timeout=None,
    )
    arguments = ["--sdk", f"{driven.name}=={driven.version}"]
    if point.id != driven.contract:
        arguments += ["--contract", point.id]
    plan = Plan(
        spec=DriverSpec(argv=(), name=driven.name, version=driven.version),
        contract=point,
        scenarios=scenarios,
        losses=suite.losses,
        suite=digest_of(scenarios),
        ledger=ledger_for(
            locations,
            Subject(driven.name, driven.version, point.id, driven.name == REFERENCE or point.id == driven.contract),
            suite=suite,
            described=timeline.described,
            overlay=ledger,
        ),
        arguments=tuple(arguments),
        edition=current_edition(locations),
    )
    unplanned = tuple(name for name in chosen if name not in header.stimuli)
    return plan, RecordingOpened(header.taken, header.parity, stale, unplanned)


def _judged(plan: Plan, planned: PlannedScenario, taken: RecordedRun) -> Iterator[Event]:
    name = planned.scenario.id
    entry = taken.scenarios.get(name)
    declared = taken.header.driven.capabilities
    if unsupported := lacking(plan, planned, declared):
        judged = Attempt(unsupported)
    elif entry is None:
        judged = Attempt(all_alike(planned, "not_run", "it was planned, but nothing of it was recorded"))
    else:
        judged = judge_runs(plan, planned, _seen(plan, planned, taken), capabilities=declared)
    yield from judged.results
    if judged.pictured is not None:
        yield judged.pictured
    reruns, note = taken.reruns.get(name, (0, ""))
    yield ScenarioFinished(
        scenario=name,
        title=planned.scenario.title,
        seconds=0.0 if entry is None else entry.seconds,
        reruns=reruns,
        note=note,
        exchange=judged.exchange,
        around=judged.around,
        runs=judged.runs,
        failed_runs=judged.failed_runs,
    )


def _seen(plan: Plan, planned: PlannedScenario, taken: RecordedRun) -> list[Observation]:
    """Return what was seen, from recorded lines and records; the traces are made of them anew."""
    name = planned.scenario.id
    entry = taken.scenarios[name]
    return [
        _observation(plan, planned, each, record)
        for each, record in zip(entry.rounds, taken.records(name), strict=True)
    ]


def _observation(plan: Plan, planned: PlannedScenario, entry: RoundEntry, record: Record) -> Observation:
    scenario = planned.scenario
    if entry.failure is not None:
        told = entry.failure
        kind: Any = told.kind  # as this driver process called it then
        failure = DriverFailure(kind, told.message, stacks=told.stacks, stderr_tail=told.stderr_tail)
        return Observation(record, None, failure)
    try:
        steps = steps_of(entry.line.encode()) if entry.steps is None else msgspec.convert(entry.steps, list[StepResult])
    except msgspec.ValidationError as error:
        raise ParityError(
            "recording-malformed",
            f"{scenario.id}: the results of its steps cannot be read: {error}",
            hint="record again: parity run --record DIR",
        ) from error
    faults = scenario.stimulus.server.faults
    trace = make_trace(scenario.id, planned.stimulus, plan.contract.id, record, steps, faults=faults)
    return Observation(record, trace, None)
