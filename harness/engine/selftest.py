"""The harness against clients that are wrong on purpose, and against its own unsteadiness.

A mutant is the reference client with one mistake (`tests/mutants`). It must die by exactly the checks that are written
down for it, and by no driver error; a correct client must stay green however often and in whatever order it is run.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from harness.drivers.registry import PYTHON_VARIABLES
from harness.drivers.spec import DriverSpec, base_environment
from harness.engine.events import CheckJudged, ScenarioFinished
from harness.engine.plan import Plan
from harness.engine.prepare import prepare
from harness.engine.run import run
from harness.errors import ParityError
from harness.locations import Locations

Say = Callable[[str], object]

MANY = 10
"""A mutant that is caught in more scenarios than this, and in all it is run on, proves nothing about any of them."""


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


def selftest(locations: Locations, *, expression: str | None, jobs: int, say: Say) -> int:
    """Run every mutant whose name contains `expression` and print the kill matrix; 0 when all died as expected.

    Without an expression, every check id that a scenario names, and every scenario, must be reddened by some mutant.
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
    killed = []
    for mutant in mutants:
        result = asyncio.run(_hunt(locations, mutant, jobs=jobs))
        killed.append(result)
        same = f" (no difference: {mutant.equivalent})" if mutant.equivalent else ""
        say(f"{'ok  ' if not result.complaints else 'FAIL'} {mutant.name}: {mutant.says}{same}")
        for complaint in result.complaints:
            say(f"       {complaint}")
    survivors = _matrix(locations, killed, say=say) if expression is None else []
    failed = sum(bool(result.complaints) for result in killed)
    equal = sum(bool(mutant.equivalent) for mutant in mutants)
    say(f"{len(killed) - failed} of {len(killed)} mutants ended as expected, {equal} of them equivalent")
    for survivor in survivors:
        say(f"no mutant reddens {survivor}")
    return 1 if failed or survivors else 0


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


async def _hunt(locations: Locations, mutant: Expected, *, jobs: int) -> Killed:
    judged = await _outcomes(_plan(locations, mutant, jobs=jobs))
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


def _plan(locations: Locations, mutant: Expected, *, jobs: int) -> Plan:
    plan = prepare(locations, sdk="reference", contract=mutant.contract, jobs=jobs)
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


def _matrix(locations: Locations, killed: Sequence[Killed], *, say: Say) -> list[str]:
    """Print check by mutant and scenario by mutant; return the checks and scenarios that no mutant reddens."""
    plan = prepare(locations, sdk="reference")
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
