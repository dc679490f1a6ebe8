"""From what a user asks for to a plan. Whatever is wrong with it is found here, before anything is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from msgspec.structs import replace

from harness.checks.registry import CHECKS
from harness.contracts.model import Contract
from harness.contracts.timeline import Timeline, load_timeline
from harness.drivers.command import DriverCommand
from harness.drivers.registry import Surroundings, parse, resolve
from harness.drivers.spec import DriverSpec
from harness.engine.digests import suite_digest
from harness.engine.events import Edition, PlannedCheck
from harness.engine.introduce import introduced
from harness.engine.plan import Plan, PlannedScenario
from harness.engine.selection import select
from harness.errors import ParityError
from harness.golden.store import GoldenStore
from harness.ledger import Known, Ledger, Subject, read_ledger
from harness.locations import Locations
from harness.suite.judging import Asked, check_ranges, checks_at, every_check
from harness.suite.loader import Suite, load_suite
from harness.suite.losses.vectors import load_vectors
from harness.suite.revisions import moved, moved_error, read_revisions

REFERENCE = "reference"
CLAIMING = frozenset({"tinkex"})
"""SDKs with versions of their own, whose code says which release of the official SDK they keep to."""


def open_suite(locations: Locations) -> Suite:
    """Return the suite, every check and every release that its scenarios name known to exist.

    Raises ParityError `check-unknown`, `judge-invalid` for ranges of releases, and what `load_suite` and
    `load_timeline` raise for malformed files.
    """
    suite = load_suite(locations.root, locations.own)
    described = load_timeline(locations.timeline).described
    for scenario in suite.scenarios.values():
        check_ranges(scenario, described, place=f"scenario {scenario.id}")
        for check in every_check(scenario.judge):
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


def choose(suite: Suite, expression: str | None, *, asked: Asked = every_check) -> dict[str, tuple[str, ...]]:
    """Return the selected ones of the checks that are asked for, by scenario id; see `selection.select`."""
    chosen: dict[str, list[str]] = {}
    selected: Sequence[PlannedCheck] = select(
        {scenario.id: asked(scenario.judge) for scenario in suite.scenarios.values()}, expression
    )
    for planned in selected:
        chosen.setdefault(planned.scenario, []).append(planned.check)
    return {scenario: tuple(checks) for scenario, checks in chosen.items()}


def without_slow(
    suite: Suite, chosen: Mapping[str, tuple[str, ...]], *, slow: bool
) -> tuple[dict[str, tuple[str, ...]], tuple[PlannedCheck, ...]]:
    """Return the selection without slow scenarios, and their checks; with `slow`, everything stays.

    Raises ParityError `selection-empty` when nothing is left.
    """
    kept = {scenario: checks for scenario, checks in chosen.items() if slow or not suite.scenarios[scenario].slow}
    left_out = tuple(
        PlannedCheck(scenario, check) for scenario, checks in chosen.items() if scenario not in kept for check in checks
    )
    if not kept:
        raise ParityError(
            "selection-empty", f"only slow scenarios are selected: {', '.join(chosen)}", hint="--slow includes them"
        )
    return kept, left_out


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


def _claimed(timeline: Timeline, spec: DriverSpec, *, named: bool) -> Contract | None:
    """Return the contract the SDK claims; None where it claims none, or one not described while another is `named`.

    Raises ParityError `contract-undescribed`.
    """
    if not spec.contract:
        return None
    try:
        return timeline.point(spec.contract)
    except ParityError:
        if named:
            return None
        raise


def plan_scenarios(
    suite: Suite,
    chosen: Mapping[str, Sequence[str]],
    *,
    store_of: Callable[[str], GoldenStore],
    contract: Contract,
    described: Sequence[str],
    timeout: float | None,
) -> tuple[PlannedScenario, ...]:
    """Return the chosen scenarios with their golden traces: files checked, not yet read.

    `store_of` returns where those of a scenario are.

    Raises ParityError `golden-missing`, `golden-stale` (the stimulus has changed since) or `golden-corrupt`.
    """
    planned = []
    for scenario_id, checks in chosen.items():
        scenario = suite.scenarios[scenario_id]
        stimulus = suite.digest(scenario)
        stored = store_of(scenario_id).find(scenario_id, contract.release, tuple(described), stimulus=stimulus)
        planned.append(
            PlannedScenario(
                scenario=scenario,
                stimulus=stimulus,
                checks=tuple(checks),
                stored=stored,
                timeout=timeout or scenario.timeout,
            )
        )
    return tuple(planned)


def digest_of(scenarios: Sequence[PlannedScenario]) -> str:
    """Return one SHA-256 over the ids and stimuli of `scenarios`, whatever their order."""
    return suite_digest({planned.scenario.id: planned.stimulus for planned in scenarios})


def current_edition(locations: Locations) -> Edition:
    """Return which parity and which suite judges."""
    return Edition(parity=metadata.version("parity"), revision=locations.revision)


def not_scored(
    locations: Locations, suite: Suite, chosen: Mapping[str, Sequence[str]], *, revision: int, release: str
) -> frozenset[tuple[str, str]]:
    """Return the chosen pairs of scenario and check that are later than a revision. The user's own always count.

    Raises ParityError `revision-unknown`, `revisions-malformed`, `revision-moved` where the suite is not what was
    released, and `selection-empty` where nothing that is chosen counts.
    """
    described = load_timeline(locations.timeline).described
    released = read_revisions(locations.revisions, newest=locations.revision, upto=revision)
    if sentences := moved(released, suite, described):
        raise moved_error(sentences)
    scored = released.scored(release, described)
    pairs = [(scenario, check) for scenario, checks in chosen.items() for check in checks]
    unscored = frozenset(pair for pair in pairs if pair[0] not in suite.own and not scored(*pair))
    if len(unscored) == len(pairs):
        raise ParityError(
            "selection-empty",
            f"none of the {len(pairs)} selected checks is scored in revision {revision}",
            hint="leave --suite out, or select what the revision has",
        )
    return unscored


def ledger_for(
    locations: Locations,
    subject: Subject,
    *,
    suite: Suite,
    described: Sequence[str],
    overlay: Path | None,
) -> Ledger:
    """Return what is known of a subject's divergences, today. Raises ParityError as `read_ledger` does."""
    known = Known(
        {scenario.id: every_check(scenario.judge) for scenario in suite.scenarios.values()},
        tuple(f"tinker-{release}" for release in described),
    )
    return read_ledger(locations.ledger(subject.sdk), subject, known, overlay=overlay, today=datetime.now(UTC).date())


def driven_by(driver: DriverCommand, sdk: str | None) -> list[str]:
    """Return the arguments of `parity run` for a driver of the user's own; none where parity.toml says it all."""
    return [*(("--driver", driver.text) if driver.typed else ()), *(("--sdk", sdk) if sdk is not None else ())]


def prepare(
    locations: Locations,
    *,
    sdk: str | None,
    driver: DriverCommand | DriverSpec | None = None,
    sdk_path: Path | None = None,
    contract: str | None = None,
    expression: str | None = None,
    jobs: int = 2,
    timeout: float | None = None,
    keep_exchange: bool = False,
    pictures: bool = False,
    slow: bool = False,
    ledger: Path | None = None,
    revision: int | None = None,
    python: str | None = None,
    constraints: Path | None = None,
) -> Plan:
    """Return the plan of a run. Slow scenarios are left out unless `slow`.

    `driver` is a driver of the user's own, or how one is started that has said what it drives; `sdk` may then be None,
    and the driver is asked. `ledger` is the user's own, which overlays the one that parity has of the SDK. With
    `revision`, what is later than that revision of the suite is run and not scored. `python` and `constraints` say what
    the environment of a Python SDK is made of.

    Cheap findings come first: the environment of the SDK, which may have to be fetched, is resolved last, unless its
    code has to say which contract it keeps.

    Raises ParityError for whatever keeps the run from being meaningful: a malformed scenario or ledger, an empty
    selection, an undescribed contract, a missing, stale or damaged golden trace, an unknown or unavailable SDK.
    """
    if driver is not None and sdk_path is not None:
        raise ParityError(
            "sdk-path-unsupported",
            "a driver of your own finds its SDK itself",
            hint="Leave --sdk-path away; name the folder in the command line or in driver.environment of parity.toml.",
        )
    asked = sdk
    surroundings = Surroundings(python, constraints)
    if driver is not None:
        surroundings.refuse("a driver of your own")
    spec: DriverSpec | None = None
    if driver is not None:
        spec = driver if isinstance(driver, DriverSpec) else introduced(driver, sdk=sdk)
        name, version, sdk = spec.name, spec.version, f"{spec.name}=={spec.version}"
    elif sdk is None:
        raise ParityError(
            "sdk-missing",
            "nothing says what is to be driven",
            hint="Say --sdk tinker==0.38.0, or --driver COMMAND for a driver of your own.",
        )
    else:
        name, version = parse(sdk)
    if name == REFERENCE and sdk_path is not None:
        resolve(sdk, sdk_path=sdk_path, contract=contract or "", root=locations.root)  # raises, and says why
    timeline = load_timeline(locations.timeline)
    suite = open_suite(locations)
    if spec is not None or name in CLAIMING:
        # Which contract the SDK claims stands in its code: it has to be there first.
        spec = spec or resolve(sdk, sdk_path=sdk_path, surroundings=surroundings)
        version = spec.version
        own = _claimed(timeline, spec, named=contract is not None)
    else:
        # A release that no contract describes can still be judged by one that is named.
        own = own_contract(timeline, sdk) if contract is None or version in ("", *timeline.described) else None
    if own is not None and version and spec is None:
        version = own.release  # 0.38 is 0.38.0; the SDK will say the latter
        sdk = f"{name}=={version}"
    point = timeline.point(contract) if contract is not None else own
    if point is None:
        raise ParityError(
            "contract-unnamed",
            f"{sdk} picks no contract by its version{'' if driver is None else ', and its driver claims none'}",
            hint=f"name one, for example --contract tinker-{timeline.described[-1]}",
        )
    selected = choose(suite, expression, asked=checks_at(point.release, timeline.described))
    chosen, left_out = without_slow(suite, selected, slow=slow)
    unscored: frozenset[tuple[str, str]] = frozenset()
    if revision is not None:
        unscored = not_scored(locations, suite, chosen, revision=revision, release=point.release)
    is_own = own is not None and (own.id == point.id or name == REFERENCE)
    known = ledger_for(
        locations,
        Subject(name, version or point.release, point.id, is_own),
        suite=suite,
        described=timeline.described,
        overlay=ledger,
    )
    scenarios = plan_scenarios(
        suite,
        chosen,
        store_of=golden_stores(locations, suite),
        contract=point,
        described=timeline.described,
        timeout=timeout,
    )
    arguments = driven_by(driver, asked) if isinstance(driver, DriverCommand) else ["--sdk", sdk]
    if sdk_path is not None:
        arguments += ["--sdk-path", str(sdk_path)]
    if contract is not None:
        arguments += ["--contract", contract]
    if locations.own is not None:
        arguments += ["--fixtures", str(locations.own)]
    if slow:
        arguments.append("--slow")
    if timeout is not None:
        arguments += ["--timeout", f"{timeout:g}"]
    if ledger is not None:
        arguments += ["--ledger", str(ledger)]
    if revision is not None:
        arguments += ["--suite", str(revision)]
    arguments += surroundings.arguments
    return Plan(
        spec=spec or resolve(sdk, sdk_path=sdk_path, contract=point.id, root=locations.root, surroundings=surroundings),
        contract=point,
        scenarios=scenarios,
        losses=suite.losses,
        suite=digest_of(scenarios),
        ledger=known,
        vectors=load_vectors(locations.operation_vectors),
        jobs=jobs,
        keep_exchange=keep_exchange,
        pictures=pictures,
        slow=left_out,
        arguments=tuple(arguments),
        own_contract=is_own,
        unscored=unscored,
        edition=replace(current_edition(locations), scored=revision or 0, selection=expression or ""),
    )
