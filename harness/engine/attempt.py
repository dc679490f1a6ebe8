"""One attempt at a scenario: observed, judged check by check, held against the ledger."""

from __future__ import annotations

import asyncio
import time
import traceback
from dataclasses import dataclass

from harness.checks.registry import judge
from harness.checks.verdict import Case, Verdict
from harness.drivers.process import DriverFailure, DriverProcess
from harness.engine.events import CheckJudged
from harness.engine.exchange import around, render
from harness.engine.observe import observe
from harness.engine.plan import Plan, PlannedScenario
from harness.ledger import Ledger
from harness.suite.loader import required_capabilities
from harness.trace.model import Trace
from mock_server import MockServer
from mock_server.record import Record

RED = frozenset({"fail", "fixed", "error", "not_run"})
"""Outcomes after which a scenario is run again before it is reported."""

# Where the SDK itself writes its version on the wire, by SDK name: a stale or shadowed installation shows there.
_VERSION_HEADERS = {"tinker": "x-stainless-package-version"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of every planned check of one scenario, after one run of it (or none, where not `attempted`)."""

    results: tuple[CheckJudged, ...]
    seconds: float = 0.0
    exchange: str = ""
    around: str = ""
    failure: DriverFailure | None = None
    attempted: bool = True

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
        parts.append("stderr ends:\n" + "\n".join(tail.splitlines()[-20:]))
    return "\n".join(parts)


def version_on_the_wire(record: Record, *, name: str, version: str) -> str:
    """Return what is wrong with the version the SDK wrote into its requests, or ""."""
    header = _VERSION_HEADERS.get(name, "")
    seen = {exchange.headers[header] for exchange in record.exchanges if header in exchange.headers}
    if seen <= {version}:
        return ""
    return f"the driver says {name} {version}, but requests say {', '.join(sorted(seen))} ({header})"


def _judged(check: str, scenario: str, case: Case, ledger: Ledger) -> CheckJudged:
    try:
        verdict: Verdict = judge(check, case)
    except Exception:  # noqa: BLE001 - a defect of a check must not take the other verdicts with it
        return CheckJudged(scenario, check, "error", f"the check itself failed:\n{traceback.format_exc().strip()}")
    settled = ledger.settle(verdict, scenario=scenario, check=check)
    return CheckJudged(
        scenario,
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


def _judge_all(plan: Plan, planned: PlannedScenario, observed: Trace) -> tuple[CheckJudged, ...]:
    case = Case(
        golden=planned.golden,
        observed=observed,
        contract=plan.contract,
        tolerance=planned.scenario.judge.tolerance,
        script=planned.scenario.stimulus.server,
    )
    return tuple(_judged(check, planned.scenario.id, case, plan.ledger) for check in planned.checks)


async def attempt(plan: Plan, planned: PlannedScenario, *, driver: DriverProcess, server: MockServer) -> Attempt:
    """Run `planned` once on `driver` and return the outcome of each of its checks."""
    lacking = sorted(required_capabilities(planned.scenario) - {"create_model", *driver.hello.capabilities})
    if lacking:
        required = [name for name in lacking if name in plan.contract.requires]
        said = f"the driver does not declare {', '.join(lacking)}"
        if required:
            said += f"; {plan.contract.id} requires {', '.join(required)}"
        return Attempt(all_alike(planned, "unsupported", said, required=bool(required)))
    began = time.monotonic()
    observation = await observe(
        planned.scenario,
        stimulus=planned.stimulus,
        contract=plan.contract.id,
        losses=plan.losses,
        timeout=planned.timeout,
        driver=driver,
        server=server,
        replay=planned.golden if plan.replay else None,
    )
    defects = [violation.message for violation in observation.record.violations if violation.code == "server-defect"]
    stale = version_on_the_wire(observation.record, name=plan.spec.name, version=plan.spec.version)
    if observation.failure is not None:
        results = all_alike(planned, "error", describe_failure(observation.failure))
    elif defects:
        results = all_alike(planned, "error", f"the mock server itself failed: {defects[0]}")
    elif stale:
        results = all_alike(planned, "error", stale)
    else:
        assert observation.trace is not None
        results = await asyncio.to_thread(_judge_all, plan, planned, observation.trace)
    red = any(result.outcome != "pass" for result in results)
    return Attempt(
        results=results,
        seconds=time.monotonic() - began,
        exchange=render(observation.record) if plan.keep_exchange and red else "",
        around=next(
            (told for r in results if r.outcome == "fail" and (told := around(observation.record, r.where))), ""
        ),
        failure=observation.failure,
    )
