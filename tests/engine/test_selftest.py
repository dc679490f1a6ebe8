"""What the self-test says about a mutant: survived, died of another cause, died of a consequence, or equivalent."""

from __future__ import annotations

import pytest

from harness.engine import selftest as module
from harness.engine.prepare import prepare
from harness.engine.selftest import (
    LEAST_PAIRS,
    LEAST_SCENARIOS,
    MANY,
    POINTS,
    Expected,
    Killed,
    counted,
    proven,
    shortfalls,
)
from harness.locations import locate


def _killed(
    failed: dict[str, list[str]],
    *,
    silent: dict[str, list[str]] | None = None,
    scenarios=("a/b", "a/c"),
    contract="tinker-0.38.0",
):
    mutant = Expected(
        name="sign",
        says="s",
        because="b",
        contract=contract,
        scenarios=tuple(scenarios),
        reddens=frozenset({"weights.values"}),
        silences=frozenset(),
        follows=frozenset({"training.gradient"}),
        equivalent="",
    )
    return Killed(mutant, failed, silent or {}, ())


def test_a_mutant_that_dies_as_expected_is_no_complaint() -> None:
    """The expected check is red; a declared consequence may be, and need not."""
    assert not _killed({"weights.values": ["a/b"]}).complaints
    assert not _killed({"weights.values": ["a/b"], "training.gradient": ["a/c"]}).complaints


def test_a_survivor_is_a_complaint_whatever_follows() -> None:
    """A consequence does not stand in for its cause."""
    assert _killed({"training.gradient": ["a/b"]}).complaints == ["weights.values survived"]


def test_another_red_check_is_a_complaint() -> None:
    """What is neither expected nor a consequence is named with its scenario; so is a check that saw nothing."""
    both = _killed({"weights.values": ["a/b"], "order.seq": ["a/c"]}, silent={"loss.calls": ["a/b"]})
    assert both.complaints == [
        "order.seq was not expected in a/c",
        "loss.calls found nothing to look at in a/b",
    ]


def test_a_mistake_that_shows_everywhere_proves_no_scenario() -> None:
    """A mutant counts for the scenarios it is caught in, unless those are many and all it was run on."""
    few = [f"a/{number}" for number in range(MANY)]
    many = [*few, "a/more"]
    assert _killed({"weights.values": few}, scenarios=few).caught_in == set(few)
    assert _killed({"weights.values": many}, scenarios=many).caught_in == set()
    assert _killed({"weights.values": many}, scenarios=[*many, "a/green"]).caught_in == set(many)


def test_pairs_are_counted_once_and_broad_mutants_apart() -> None:
    """A pair that several mutants redden is one pair; a mutant that shows everywhere counts for the first number."""
    few = [f"a/{number}" for number in range(MANY + 1)]
    broad = _killed({"wire.headers": few}, scenarios=few)
    one = _killed({"weights.values": ["a/1", "a/2"]}, scenarios=few)
    two = _killed({"weights.values": ["a/2"], "order.seq": ["a/2"]}, scenarios=few)
    assert counted([broad, one, two]) == (MANY + 1 + 3, 3)
    assert counted([]) == (0, 0)


def _point(contract: str, *, scenarios: int, pairs: int) -> Killed:
    """Return a mutant that reddens so many pairs in so many scenarios, and spares one scenario more."""
    names = [f"a/{number}" for number in range(scenarios)]
    failed: dict[str, list[str]] = {}
    for number in range(pairs):
        failed.setdefault(f"check.{number // scenarios}", []).append(names[number % scenarios])
    return _killed(failed, scenarios=[*names, "a/green"], contract=contract)


def test_a_point_counts_its_own_mutants_only() -> None:
    """What is red at one contract point says nothing about another; nor does a mutant that shows everywhere."""
    many = [f"b/{number}" for number in range(MANY + 1)]
    results = [
        _killed({"weights.values": ["a/b"], "order.seq": ["a/b"]}, contract="tinker-0.7.0"),
        _killed({"weights.values": ["a/b", "a/c"]}, contract="tinker-0.15.0"),
        _killed({"weights.values": ["a/c"]}, contract="tinker-0.15.0"),
        _killed({"wire.headers": many}, scenarios=many, contract="tinker-0.15.0"),
        _killed({"wire.headers": many}, scenarios=many, contract="tinker-0.38.0"),
    ]
    assert proven(results) == {"tinker-0.7.0": (1, 2), "tinker-0.15.0": (2, 2), "tinker-0.38.0": (0, 0)}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    ("scenarios", "pairs", "short"),
    [
        (LEAST_SCENARIOS, LEAST_PAIRS, False),
        (LEAST_SCENARIOS, LEAST_PAIRS - 1, True),
        (LEAST_SCENARIOS - 1, LEAST_PAIRS, True),
        (0, 0, True),
    ],
)
def test_a_point_with_too_little_proven_is_named(point: str, scenarios: int, pairs: int, *, short: bool) -> None:
    """Each of the points needs its scenarios and its pairs, also when no mutant was run there at all."""
    enough = [_point(other, scenarios=LEAST_SCENARIOS, pairs=LEAST_PAIRS) for other in POINTS if other != point]
    mine = [_point(point, scenarios=scenarios, pairs=pairs)] if scenarios else []
    named = [
        f"too little is proven at {point}: {scenarios} scenarios and {pairs} pairs, where 50 and 200 are asked for"
    ]
    assert shortfalls([*enough, *mine]) == (named if short else [])


@pytest.mark.parametrize("spared", ["", "a check", "a scenario", "a mutant", POINTS[0]])
def test_whatever_no_mutant_reddens_ends_with_1(spared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check or a scenario that stays green under every mutant is named; so are a survivor and a point without any."""
    planned = prepare(locate(), sdk="reference").checks
    scenarios = sorted({each.scenario for each in planned})
    last = max(each.check for each in planned)
    failed: dict[str, list[str]] = {}
    for each in planned:
        if (spared, each.check) == ("a check", last) or (spared, each.scenario) == ("a scenario", scenarios[-1]):
            continue
        failed.setdefault(each.check, []).append(each.scenario)
    mutants = [
        Expected(
            name=f"mutant-{index}-{point}",
            says="s",
            because="b",
            contract=point,
            scenarios=(scenario,),
            reddens=frozenset(failed) if index or spared != "a mutant" else frozenset({*failed, "no.check"}),
            silences=frozenset(),
            follows=frozenset(),
            equivalent="",
        )
        for index, scenario in enumerate(scenarios)
        for point in POINTS
        if point != spared
    ]

    async def hunt(_plan: object, mutant: Expected) -> Killed:
        # Each is caught in its own scenario, by every check, so that nothing but `spared` is left over.
        return Killed(
            mutant, {check: [s for s in mutant.scenarios if s in seen] for check, seen in failed.items()}, {}, ()
        )

    monkeypatch.setattr(module, "catalogue", lambda _locations: tuple(mutants))
    monkeypatch.setattr(module, "_hunt", hunt)
    said: list[str] = []
    status = module.selftest(locate(), expression=None, jobs=1, say=said.append)
    assert status == (1 if spared else 0)
    named = {"a check": f"no mutant reddens {last}", "a scenario": f"no mutant reddens {scenarios[-1]}"}
    assert [line for line in said if line.startswith("no mutant reddens")] == [
        named[each] for each in named if each == spared
    ]
    assert any("no.check survived" in line for line in said) is (spared == "a mutant")
    assert [line for line in said if line.startswith("too little is proven")] == (
        [f"too little is proven at {spared}: 0 scenarios and 0 pairs, where 50 and 200 are asked for"]
        if spared in POINTS
        else []
    )
