"""The harness against clients that are wrong on purpose, and against its own unsteadiness.

A mutant is the reference client with one mistake (`tests/mutants`). It must die by exactly the checks that are written
down for it, and by no driver error; a correct client must stay green however often and in whatever order it is run.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from harness.drivers.registry import PYTHON_VARIABLES
from harness.drivers.spec import DriverSpec, base_environment
from harness.engine.events import CheckJudged, ScenarioFinished
from harness.engine.plan import Plan
from harness.engine.prepare import open_suite, prepare
from harness.engine.run import SLOW_AT_ONCE, run
from harness.errors import ParityError
from harness.locations import Locations
from harness.suite.scenario import Scenario

Say = Callable[[str], object]

MANY = 10
"""A mutant that is caught in more scenarios than this, and in all it is run on, proves nothing about any of them."""

POINTS = ("tinker-0.7.0", "tinker-0.15.0", "tinker-0.38.0")
"""The contract points at which enough must be proven: the first, the last with JSON passes and the last described."""

LEAST_SCENARIOS = 50
"""In how many scenarios some mutant must be caught at each of POINTS."""

LEAST_PAIRS = 200
"""How many different pairs of scenario and check must have turned red at each of POINTS."""


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One mutant as its catalogue lists it: what is wrong, where it is run, what must turn red and why.

    `follows` may turn red as well, as consequences. An `equivalent` mutant says why nothing can.
    """

    name: str
    says: str
    because: str
    contract: str
    scenarios: tuple[str, ...]
    reddens: frozenset[str]
    silences: frozenset[str]
    follows: frozenset[str]
    equivalent: str


@dataclass(frozen=True, slots=True)
class Killed:
    """How one mutant died: scenarios by failing check, by check that found nothing, and what went wrong besides."""

    mutant: Expected
    failed: dict[str, list[str]]
    silent: dict[str, list[str]]
    errors: tuple[str, ...]

    @property
    def complaints(self) -> list[str]:
        """Return how this differs from what is written down; empty when it does not."""
        sides = [
            ("survived", self.mutant.reddens - self.failed.keys(), {}),
            ("was not expected in", self.failed.keys() - self.mutant.reddens - self.mutant.follows, self.failed),
            ("found something to look at", self.mutant.silences - self.silent.keys(), {}),
            ("found nothing to look at in", self.silent.keys() - self.mutant.silences, self.silent),
        ]
        told = [
            " ".join([check, how, ", ".join(seen.get(check, [])[:3])]).rstrip()
            for how, checks, seen in sides
            for check in sorted(checks)
        ]
        return [*self.errors[:3], *told]

    @property
    def caught_in(self) -> set[str]:
        """Return the scenarios that tell this mutant from a right client.

        A mistake that shows in every one of many scenarios, such as a header that is never sent, says nothing about
        any of them: then there are none.
        """
        found = {scenario for scenarios in self.failed.values() for scenario in scenarios}
        return set() if len(found) > MANY and found == set(self.mutant.scenarios) else found

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """Return the pairs of scenario and check that turned red."""
        return {(scenario, check) for check, scenarios in self.failed.items() for scenario in scenarios}


def counted(killed: Iterable[Killed]) -> tuple[int, int]:
    """Return how many pairs of scenario and check turned red, and how many of them in a scenario that tells a mutant.

    A mutant that shows in every one of many scenarios counts for the first number only; see `Killed.caught_in`.
    """
    results = list(killed)
    every = set().union(*(result.pairs for result in results))
    told = set().union(*(result.pairs for result in results if result.caught_in))
    return len(every), len(told)


def proven(killed: Iterable[Killed]) -> dict[str, tuple[int, int]]:
    """Return, by contract point of the mutants, in how many scenarios they were caught and how many pairs turned red.

    Only mutants that do not show everywhere count; see `Killed.caught_in`.
    """
    pairs: dict[str, set[tuple[str, str]]] = {}
    for result in killed:
        pairs.setdefault(result.mutant.contract, set()).update(result.pairs if result.caught_in else ())
    return {point: (len({scenario for scenario, _ in seen}), len(seen)) for point, seen in pairs.items()}


def shortfalls(killed: Iterable[Killed]) -> list[str]:
    """Return which of POINTS have fewer than LEAST_SCENARIOS scenarios or LEAST_PAIRS pairs, in words."""
    found = proven(killed)
    counts = [(point, *found.get(point, (0, 0))) for point in POINTS]
    return [
        f"too little is proven at {point}: {scenarios} scenarios and {pairs} pairs, "
        f"where {LEAST_SCENARIOS} and {LEAST_PAIRS} are asked for"
        for point, scenarios, pairs in counts
        if scenarios < LEAST_SCENARIOS or pairs < LEAST_PAIRS
    ]


def catalogue(locations: Locations) -> tuple[Expected, ...]:
    """Return the mutants. Raises ParityError `mutants-missing` outside a checkout, `mutants-malformed`."""
    driver = locations.root / "tests" / "mutants" / "driver.py"
    if not driver.is_file():
        raise ParityError(
            "mutants-missing",
            f"{locations.root} holds no tests/mutants",
            hint="the self-test needs a checkout of parity; --root names it",
        )
    listed = subprocess.run([sys.executable, "-s", str(driver), "--list"], capture_output=True, check=False)
    try:
        return msgspec.json.decode(listed.stdout, type=tuple[Expected, ...])
    except msgspec.MsgspecError as error:
        tail = listed.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ParityError(
            "mutants-malformed", f"{driver.name}: {' '.join([str(error), *tail])}", hint=f"run {driver} --list"
        ) from error


def selftest(locations: Locations, *, expression: str | None, jobs: int, slow: bool = False, say: Say) -> int:
    """Run every mutant whose name contains `expression` and print the kill matrix; 0 when all died as expected.

    Without an expression, every check id that a scenario names, and every scenario, must be reddened by some mutant,
    and at each of POINTS at least LEAST_SCENARIOS scenarios and LEAST_PAIRS pairs of scenario and check.
    Mutants that are told by slow scenarios, and these scenarios, are left out unless `slow`.
    Raises ParityError `selection-empty` when no mutant is selected, and what `prepare` raises.
    """
    every = catalogue(locations)
    mutants = [mutant for mutant in every if expression is None or expression in mutant.name]
    if not mutants:
        raise ParityError(
            "selection-empty",
            f"no mutant is called anything with {expression!r}",
            hint=f"there are {', '.join(mutant.name for mutant in every)}",
        )
    scenarios = open_suite(locations).scenarios
    waiting = {mutant.name for mutant in mutants if any(scenarios[name].slow for name in mutant.scenarios)}
    quick = [mutant for mutant in mutants if mutant.name not in waiting]
    # What judges a race is run by one mutant alone, so that no other takes its machine.
    racing = {mutant.name for mutant in quick if any(_judges_a_race(scenarios[name]) for name in mutant.scenarios)}
    plans = {contract: _whole_plan(locations, contract) for contract in sorted({each.contract for each in mutants})}
    killed = []
    for chosen, places in (
        ([mutant for mutant in quick if mutant.name not in racing], jobs),
        ([mutant for mutant in quick if mutant.name in racing], 1),
        ([mutant for mutant in mutants if mutant.name in waiting] if slow else [], SLOW_AT_ONCE),
    ):
        killed += asyncio.run(_hunt_at_once(locations, plans, chosen, places=places, say=say))
    survivors = _matrix(locations, killed, slow=slow, say=say) if expression is None else []
    failed = sum(bool(result.complaints) for result in killed)
    equal = sum(bool(result.mutant.equivalent) for result in killed)
    say(f"{len(killed) - failed} of {len(killed)} mutants ended as expected, {equal} of them equivalent")
    pairs, told = counted(killed)
    say(f"{pairs} different scenario:check pairs turned red, {told} of them by mutants that do not show everywhere")
    for point, (caught, reddened) in proven(killed).items():
        say(f"at {point}: {reddened} of these pairs, in {caught} scenarios")
    short = shortfalls(killed) if expression is None else []
    if waiting and not slow:
        say(f"{len(waiting)} mutants are left out, which slow scenarios tell (--slow)")
    for survivor in survivors:
        say(f"no mutant reddens {survivor}")
    for shortfall in short:
        say(shortfall)
    return 1 if failed or survivors or short else 0


def steady(
    locations: Locations, *, sdk: str, repetitions: int, jobs: int, seed: int, expression: str | None, say: Say
) -> int:
    """Run a correct client again and again, its scenarios in another order each time; 0 when every run was green.

    A failing scenario is not given a second chance here. Raises what `prepare` raises.
    """
    plan = replace(prepare(locations, sdk=sdk, expression=expression, jobs=jobs), rerun=False)
    shuffler = random.Random(seed)
    red = 0
    for repetition in range(1, repetitions + 1):
        order = list(plan.scenarios)
        shuffler.shuffle(order)
        found = asyncio.run(_outcomes(replace(plan, scenarios=tuple(order))))
        wrong = [
            f"{judged.scenario}:{judged.check} {judged.outcome}" for judged in found if judged.outcome not in GREEN
        ]
        red += bool(wrong)
        if wrong:
            say(f"repetition {repetition}: {', '.join(wrong[:5])}")
    say(f"{sdk}: {repetitions - red} of {repetitions} shuffled repetitions green, {len(plan.checks)} checks each")
    return 1 if red else 0


GREEN = ("pass", "known", "unsupported")


def _tell(result: Killed, *, say: Say) -> None:
    mutant = result.mutant
    same = f" (no difference: {mutant.equivalent})" if mutant.equivalent else ""
    say(f"{'ok  ' if not result.complaints else 'FAIL'} {mutant.name}: {mutant.says}{same}")
    for complaint in result.complaints:
        say(f"       {complaint}")


async def _hunt_at_once(
    locations: Locations, plans: Mapping[str, Plan], mutants: Sequence[Expected], *, places: int, say: Say
) -> list[Killed]:
    """Run so many mutants side by side, each with one driver; tell of each in their order."""
    free = asyncio.Semaphore(places)

    async def hunt(mutant: Expected, plan: Plan) -> Killed:
        async with free:
            return await _hunt(plan, mutant)

    wanted = [(mutant, _plan(locations, plans[mutant.contract], mutant)) for mutant in mutants]
    tasks = [asyncio.create_task(hunt(mutant, plan)) for mutant, plan in wanted]
    killed = []
    try:
        for task in tasks:
            killed.append(await task)
            _tell(killed[-1], say=say)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return killed


async def _hunt(plan: Plan, mutant: Expected) -> Killed:
    judged = await _outcomes(plan)
    failed: dict[str, list[str]] = {}
    silent: dict[str, list[str]] = {}
    errors = []
    for result in judged:
        match result.outcome:
            case "fail":
                failed.setdefault(result.check, []).append(result.scenario)
            case "not_run":
                silent.setdefault(result.check, []).append(result.scenario)
            case "error" | "unsupported":
                errors.append(f"{result.scenario}:{result.check} {result.outcome}: {result.message[:200]}")
    return Killed(mutant, failed, silent, tuple(errors))


def _judges_a_race(scenario: Scenario) -> bool:
    return scenario.exclusive or scenario.repeat > 1


def _whole_plan(locations: Locations, contract: str) -> Plan:
    return prepare(locations, sdk="reference", contract=contract, jobs=1, slow=True)


def _plan(locations: Locations, plan: Plan, mutant: Expected) -> Plan:
    """Return the plan of a mutant, of the plan of every scenario at its contract point."""
    wanted = set(mutant.scenarios)
    scenarios = tuple(planned for planned in plan.scenarios if planned.scenario.id in wanted)
    if missing := wanted - {planned.scenario.id for planned in scenarios}:
        raise ParityError(
            "mutants-malformed",
            f"mutant {mutant.name} names scenarios that do not exist: {', '.join(sorted(missing))}",
            hint="tests/mutants names scenarios by id",
        )
    driver = locations.root / "tests" / "mutants" / "driver.py"
    spec = DriverSpec(
        argv=(sys.executable, "-s", str(driver), mutant.name),
        name="mutant",
        version=mutant.contract.removeprefix("tinker-"),
        env=base_environment(PYTHON_VARIABLES),
    )
    return replace(plan, spec=spec, scenarios=scenarios, rerun=False, vectors=())


async def _outcomes(plan: Plan) -> list[CheckJudged]:
    found = []
    async for event in run(plan):
        if isinstance(event, CheckJudged):
            found.append(event)
        elif isinstance(event, ScenarioFinished):
            continue
    return found


def _matrix(locations: Locations, killed: Sequence[Killed], *, slow: bool, say: Say) -> list[str]:
    """Print check by mutant and scenario by mutant; return the checks and scenarios that no mutant reddens."""
    plan = prepare(locations, sdk="reference", slow=slow)
    by_check: dict[str, list[str]] = {check: [] for check in sorted({planned.check for planned in plan.checks})}
    by_scenario: dict[str, list[str]] = {planned.scenario.id: [] for planned in plan.scenarios}
    for result in killed:
        for check in result.failed:
            by_check.setdefault(check, []).append(result.mutant.name)
        for scenario in result.caught_in:
            by_scenario[scenario].append(result.mutant.name)
    for table in (by_check, by_scenario):
        width = max(map(len, table))
        say("")
        for row, names in table.items():
            say(f"{row:<{width}}  {len(names):>2}  {_shortened(names)}")
    say("")
    return [row for table in (by_check, by_scenario) for row, names in table.items() if not names]


def _shortened(names: Iterable[str], *, most: int = 6) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
