"""One attempt at a scenario: observed, judged check by check, held against the ledger."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from harness.checks.registry import CHECKS, judge
from harness.checks.verdict import Case, Verdict
from harness.drivers.answers import shortened
from harness.drivers.failure import DriverFailure
from harness.drivers.process import DriverProcess
from harness.engine.events import CheckJudged, ScenarioPictured
from harness.engine.exchange import around, render
from harness.engine.observe import Observation, traced, watch
from harness.engine.picture import picture
from harness.engine.plan import Plan, PlannedScenario
from harness.suite.loader import required_capabilities
from harness.suite.losses.parts import compositions
from harness.suite.rules import looked_at
from harness.trace.model import Trace
from mock_server import MockServer
from mock_server.record import Record

RED = frozenset({"fail", "fixed", "error", "not_run"})
"""Outcomes after which a scenario is run again before it is reported."""

# Where the SDK itself writes its version on the wire, by SDK name: a stale or shadowed installation shows there.
_VERSION_HEADERS = {"tinker": "x-stainless-package-version"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of every planned check of one scenario, after its runs (or none, where not `attempted`).

    It was run `runs` times; in `failed_runs` of them a check did not hold, whatever the ledger says about it.
    `pictured` is what the shown run looked like, where that is asked for. `packed` is what was observed, where the run
    is recorded.
    """

    results: tuple[CheckJudged, ...]
    seconds: float = 0.0
    exchange: str = ""
    around: str = ""
    failure: DriverFailure | None = None
    attempted: bool = True
    runs: int = 1
    failed_runs: int = 0
    pictured: ScenarioPictured | None = None
    packed: bytes = b""

    @property
    def red(self) -> bool:
        """Whether any check keeps the run from holding (a missing capability aside: a rerun cannot bring it)."""
        return any(result.outcome in RED for result in self.results)


def all_alike(
    planned: PlannedScenario, outcome: str, message: str, *, required: bool = False
) -> tuple[CheckJudged, ...]:
    """Return the same outcome, with the same reason, for every planned check of a scenario."""
    return tuple(
        CheckJudged(planned.scenario.id, check, outcome, message, required=required)  # type: ignore[arg-type] # callers pass a literal outcome
        for check in planned.checks
    )


def describe_failure(failure: DriverFailure) -> str:
    """Return what a driver's failure was, with its stacks and last words."""
    parts = [f"the driver failed ({failure.kind}): {failure.message}"]
    if failure.stacks.strip():
        parts.append(f"stacks:\n{failure.stacks.strip()}")
    tail = failure.stderr_tail.strip()
    if tail and tail not in failure.stacks:
        parts.append("stderr ends:\n" + "\n".join(line[:500] for line in tail.splitlines()[-20:]))
    return "\n".join(parts)


def version_on_the_wire(record: Record, *, name: str, version: str) -> str:
    """Return what is wrong with the version the SDK wrote into its requests, or ""."""
    header = _VERSION_HEADERS.get(name, "")
    seen = {exchange.headers[header] for exchange in record.exchanges if header in exchange.headers}
    if seen <= {version}:
        return ""
    return f"the driver says {name} {version}, but requests say {shortened(', '.join(sorted(seen)))} ({header})"


_Round = dict[str, Verdict | CheckJudged]
"""What the checks said about one run; a check that failed itself has its final outcome."""


def _case(plan: Plan, planned: PlannedScenario, observed: Trace) -> Case:
    return Case(
        golden=planned.golden,
        observed=observed,
        contract=plan.contract,
        tolerance=planned.scenario.judge.tolerance,
        script=planned.scenario.stimulus.server,
        compositions=compositions(planned.scenario, plan.losses),
    )


def _judge_all(plan: Plan, planned: PlannedScenario, observed: Trace) -> _Round:
    case = _case(plan, planned, observed)
    return {check: _judged(check, planned.scenario.id, case) for check in planned.checks}


def _judged(check: str, scenario: str, case: Case) -> Verdict | CheckJudged:
    try:
        return judge(check, case)
    except Exception:  # noqa: BLE001 - a defect of a check must not take the other verdicts with it
        return CheckJudged(scenario, check, "error", f"the check itself failed:\n{traceback.format_exc().strip()}")


def _over_all(check: str, rounds: Sequence[_Round], *, repeat: int) -> Verdict | CheckJudged:
    """Return what a check says about all runs of a scenario: the first that does not hold, and how many do not."""
    found = [each[check] for each in rounds]
    wrong = [verdict for verdict in found if verdict.outcome != "pass"]
    if repeat == 1:
        return found[0]
    if wrong:
        told = f"{len(wrong)} of {len(rounds)} runs do not hold; the first: {wrong[0].message}"
        return msgspec.structs.replace(wrong[0], message=told)
    if len(rounds) < repeat:
        return Verdict("not_run", f"only {len(rounds)} of {repeat} runs were made: the process could not go on")
    return found[-1]


def _settled(plan: Plan, planned: PlannedScenario, check: str, verdict: Verdict | CheckJudged) -> CheckJudged:
    if isinstance(verdict, CheckJudged):
        return verdict
    settled = plan.ledger.settle(verdict, scenario=planned.scenario.id, check=check)
    return CheckJudged(
        planned.scenario.id,
        check,
        settled.outcome,
        settled.message,
        verdict.expected,
        verdict.observed,
        verdict.where,
        verdict.cause,
        certainty=verdict.certainty,
        detail=verdict.detail,
    )


def lacking(plan: Plan, planned: PlannedScenario, capabilities: Iterable[str]) -> tuple[CheckJudged, ...]:
    """Return the outcome of a scenario that needs what a driver does not declare; empty where it declares all."""
    missing = sorted(required_capabilities(planned.scenario, plan.losses) - {"create_model", *capabilities})
    if not missing:
        return ()
    required = [name for name in missing if name in plan.contract.requires]
    said = f"the driver does not declare {', '.join(missing)}"
    if required:
        said += f"; {plan.contract.id} requires {', '.join(required)}"
    return all_alike(planned, "unsupported", said, required=bool(required))


def beyond(
    plan: Plan, planned: PlannedScenario, capabilities: Iterable[str]
) -> tuple[PlannedScenario, tuple[CheckJudged, ...]]:
    """Return a scenario with the checks that a driver can be judged by, and the outcome of the others.

    A check that looks at a capability which the scenario has something for, and which the driver does not declare, is
    `unsupported`.
    """
    declared = frozenset(capabilities)
    offered = looked_at(planned.scenario, plan.losses) - declared
    unsupported = []
    for check in planned.checks:
        if missing := sorted(CHECKS[check].looks_at & offered):
            said = f"the driver does not declare {', '.join(missing)}"
            unsupported.append(CheckJudged(planned.scenario.id, check, "unsupported", said))
    left_out = {judged.check for judged in unsupported}
    checks = tuple(check for check in planned.checks if check not in left_out)
    return replace(planned, checks=checks), tuple(unsupported)


def judge_runs(
    plan: Plan, planned: PlannedScenario, seen: Sequence[Observation], *, capabilities: Iterable[str]
) -> Attempt:
    """Return the outcome of every planned check, from what was seen in the runs of a scenario.

    `capabilities` are those that the driver declares.
    """
    whole = planned
    planned, unsupported = beyond(plan, planned, capabilities)
    judged = _judge_runs(plan, planned, seen)
    by_check = {result.check: result for result in (*judged.results, *unsupported)}
    return replace(judged, results=tuple(by_check[check] for check in whole.checks))


def _judge_runs(plan: Plan, planned: PlannedScenario, seen: Sequence[Observation]) -> Attempt:
    repeat = planned.scenario.repeat
    rounds: list[_Round] = []
    shown = Observation(Record(), None, None)
    failed = 0
    for observation in seen:
        trouble = _trouble(plan, observation)
        if trouble:
            return Attempt(
                all_alike(planned, "error", trouble),
                exchange=render(observation.record) if plan.keep_exchange else "",
                failure=observation.failure,
                pictured=_pictured(plan, planned, observation),
                runs=len(rounds) + 1,
                failed_runs=failed + 1,
            )
        assert observation.trace is not None
        rounds.append(_judge_all(plan, planned, observation.trace))
        lost = any(verdict.outcome != "pass" for verdict in rounds[-1].values())
        if not failed:
            shown = observation  # the first that does not hold is shown, or else the last
        failed += lost
    results = tuple(_settled(plan, planned, check, _over_all(check, rounds, repeat=repeat)) for check in planned.checks)
    return Attempt(
        results=results,
        exchange=render(shown.record) if plan.keep_exchange and any(r.outcome != "pass" for r in results) else "",
        around=next((told for r in results if r.outcome == "fail" and (told := around(shown.record, r.where))), ""),
        runs=len(rounds),
        failed_runs=failed,
        pictured=_pictured(plan, planned, shown),
    )


def _pictured(plan: Plan, planned: PlannedScenario, shown: Observation) -> ScenarioPictured | None:
    if not plan.pictures:
        return None
    case = None if shown.trace is None else _case(plan, planned, shown.trace)
    return picture(planned.scenario.id, shown.record, case)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in the runs of one attempt, not judged yet, and the seconds they took; or why none was made.

    `capabilities` are those that the driver declares.
    """

    runs: tuple[Observation, ...] = ()
    seconds: float = 0.0
    unsupported: tuple[CheckJudged, ...] = ()
    capabilities: tuple[str, ...] = ()


async def watch_runs(plan: Plan, planned: PlannedScenario, *, driver: DriverProcess, server: MockServer) -> Seen:
    """Run `planned` once on `driver`, or as often as it says."""
    if unsupported := lacking(plan, planned, driver.hello.capabilities):
        return Seen(unsupported=unsupported)
    began = time.monotonic()
    runs: list[Observation] = []
    while len(runs) < planned.scenario.repeat and not (runs and (driver.tainted or _trouble(plan, runs[-1]))):
        runs.append(
            await watch(
                planned.scenario,
                losses=plan.losses,
                timeout=planned.timeout,
                driver=driver,
                server=server,
                replay=planned.golden if plan.replay else None,
            )
        )
    return Seen(tuple(runs), time.monotonic() - began, capabilities=tuple(driver.hello.capabilities))


async def judged(plan: Plan, planned: PlannedScenario, seen: Seen) -> Attempt:
    """Return the outcome of each planned check, from what was seen."""
    if seen.unsupported:
        return Attempt(seen.unsupported)
    runs, attempt = await asyncio.to_thread(_made_and_judged, plan, planned, seen)
    packed = await plan.recorder.pack(planned, runs, seconds=seen.seconds) if plan.recorder is not None else b""
    return replace(attempt, seconds=seen.seconds, packed=packed)


def _made_and_judged(plan: Plan, planned: PlannedScenario, seen: Seen) -> tuple[list[Observation], Attempt]:
    """Return the runs with their traces, and the outcome of each check."""
    stimulus, contract = planned.stimulus, plan.contract.id
    runs = [traced(planned.scenario, run, stimulus=stimulus, contract=contract) for run in seen.runs]
    return runs, judge_runs(plan, planned, runs, capabilities=seen.capabilities)


def _trouble(plan: Plan, observation: Observation) -> str:
    """Return why a run says nothing about the subject, or ""."""
    if observation.failure is not None:
        return describe_failure(observation.failure)
    defects = [violation.message for violation in observation.record.violations if violation.code == "server-defect"]
    if defects:
        return f"the mock server itself failed: {defects[0]}"
    return version_on_the_wire(observation.record, name=plan.spec.name, version=plan.spec.version)
