"""From what a user asks for to a plan. Whatever is wrong with it is found here, before anything is started."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.checks.registry import CHECKS
from harness.contracts.model import Contract
from harness.contracts.timeline import Timeline, load_timeline
from harness.drivers.registry import parse, resolve
from harness.engine.events import PlannedCheck
from harness.engine.plan import Plan, PlannedScenario
from harness.engine.selection import select
from harness.errors import ParityError
from harness.golden.store import GoldenStore
from harness.ledger import read_ledger
from harness.locations import Locations
from harness.suite.loader import Suite, load_suite
from harness.suite.losses.vectors import load_vectors

REFERENCE = "reference"


def open_suite(locations: Locations) -> Suite:
    """Return the suite, every check that its scenarios name known to exist.

    Raises ParityError `check-unknown`, and what `load_suite` raises for malformed files.
    """
    suite = load_suite(locations.root, locations.own)
    for scenario in suite.scenarios.values():
        for check in scenario.judge.checks:
            if check not in CHECKS:
                raise ParityError(
                    "check-unknown",
                    f"scenario {scenario.id} names the check {check!r}, which does not exist",
                    hint="`parity list` shows the checks that others use; docs/checks.md has them all",
                )
    return suite


def golden_stores(locations: Locations, suite: Suite) -> Callable[[str], GoldenStore]:
    """Return what finds a scenario's golden store: the user's own scenarios have theirs in the user's folder."""
    released = GoldenStore(locations.golden)
    own = released if locations.own is None else GoldenStore(locations.own / "golden")
    return lambda scenario_id: own if scenario_id in suite.own else released


def choose(suite: Suite, expression: str | None) -> dict[str, tuple[str, ...]]:
    """Return the selected checks by scenario id; see `harness.engine.selection.select`."""
    chosen: dict[str, list[str]] = {}
    selected: Sequence[PlannedCheck] = select(
        {scenario.id: scenario.judge.checks for scenario in suite.scenarios.values()}, expression
    )
    for planned in selected:
        chosen.setdefault(planned.scenario, []).append(planned.check)
    return {scenario: tuple(checks) for scenario, checks in chosen.items()}


def own_contract(timeline: Timeline, sdk: str) -> Contract | None:
    """Return the contract that `sdk` (`tinker==0.38.0`) picks by its version; None for an SDK that claims none.

    The reference can be every described release; without a version it is the newest.

    Raises ParityError `contract-undescribed`.
    """
    name, _, version = sdk.partition("==")
    if name == REFERENCE:
        return timeline.contract_for_version(version or timeline.described[-1])
    if name == "tinker" and version:
        return timeline.contract_for_version(version)
    return None


def plan_scenarios(
    suite: Suite,
    chosen: Mapping[str, Sequence[str]],
    *,
    store_of: Callable[[str], GoldenStore],
    contract: Contract,
    described: Sequence[str],
    timeout: float | None,
) -> tuple[PlannedScenario, ...]:
    """Return the chosen scenarios with their golden traces; `store_of` returns where those of a scenario are.

    Raises ParityError `golden-missing`, `golden-stale` (the stimulus has changed since) or `golden-corrupt`.
    """
    planned = []
    for scenario_id, checks in chosen.items():
        scenario = suite.scenarios[scenario_id]
        stimulus = suite.digest(scenario)
        golden = store_of(scenario_id).load(scenario_id, contract.release, tuple(described), stimulus=stimulus)
        planned.append(
            PlannedScenario(
                scenario=scenario,
                stimulus=stimulus,
                checks=tuple(checks),
                golden=golden,
                timeout=timeout or scenario.timeout,
            )
        )
    return tuple(planned)


def suite_digest(scenarios: Sequence[PlannedScenario]) -> str:
    """Return one SHA-256 over the ids and stimuli of `scenarios`, whatever their order."""
    lines = sorted(f"{planned.scenario.id} {planned.stimulus}\n" for planned in scenarios)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def prepare(
    locations: Locations,
    *,
    sdk: str,
    sdk_path: Path | None = None,
    contract: str | None = None,
    expression: str | None = None,
    jobs: int = 2,
    timeout: float | None = None,
    keep_exchange: bool = False,
) -> Plan:
    """Return the plan of a run.

    Cheap findings come first: the environment of the SDK, which may have to be fetched, is resolved last.

    Raises ParityError for whatever keeps the run from being meaningful: a malformed scenario or ledger, an empty
    selection, an undescribed contract, a missing, stale or damaged golden trace, an unknown or unavailable SDK.
    """
    name, version = parse(sdk)
    if name == REFERENCE and sdk_path is not None:
        resolve(sdk, sdk_path=sdk_path, contract=contract or "", root=locations.root)  # raises, and says why
    timeline = load_timeline(locations.timeline)
    suite = open_suite(locations)
    chosen = choose(suite, expression)
    # A release that no contract describes can still be judged by one that is named.
    own = own_contract(timeline, sdk) if contract is None or version in ("", *timeline.described) else None
    if own is not None and version:
        version = own.release  # 0.38 is 0.38.0; the SDK will say the latter
        sdk = f"{name}=={version}"
    point = timeline.point(contract) if contract is not None else own
    if point is None:
        raise ParityError(
            "contract-unnamed",
            f"{sdk} picks no contract by its version",
            hint=f"name one, for example --contract tinker-{timeline.described[-1]}",
        )
    ledger = read_ledger(
        locations.ledger(name),
        version=version or point.release,
        contract=point.id,
        own_contract=own is not None and (own.id == point.id or name == REFERENCE),
        scenarios={scenario.id: scenario.judge.checks for scenario in suite.scenarios.values()},
        contracts=tuple(f"tinker-{release}" for release in timeline.described),
    )
    scenarios = plan_scenarios(
        suite,
        chosen,
        store_of=golden_stores(locations, suite),
        contract=point,
        described=timeline.described,
        timeout=timeout,
    )
    arguments = ["--sdk", sdk]
    if sdk_path is not None:
        arguments += ["--sdk-path", str(sdk_path)]
    if contract is not None:
        arguments += ["--contract", contract]
    if locations.own is not None:
        arguments += ["--fixtures", str(locations.own)]
    return Plan(
        spec=resolve(sdk, sdk_path=sdk_path, contract=point.id, root=locations.root),
        contract=point,
        scenarios=scenarios,
        losses=suite.losses,
        suite=suite_digest(scenarios),
        ledger=ledger,
        vectors=load_vectors(locations.operation_vectors),
        jobs=jobs,
        keep_exchange=keep_exchange,
        arguments=tuple(arguments),
    )
