"""Parts of a run that take about equally long, the same on every machine that has the same suite.

A part is decided by the scenarios that are selected, by how long they took when costs were recorded, and by nothing
of the machine. Exclusive scenarios run alone and slow ones wait side by side: their time weighs accordingly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import msgspec

from harness.engine.digests import whole_digest
from harness.engine.events import Shard
from harness.engine.plan import Plan
from harness.engine.prepare import digest_of
from harness.errors import ParityError
from harness.suite.scenario import Scenario

_BESIDE_QUICK = 4
_BESIDE_SLOW = 8
_LEAST = 0.02
_UNKNOWN_QUICK = 0.2
_UNKNOWN_SLOW = 10.0


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many seconds scenarios took, and with which SDK."""

    subject: str
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its scenarios, in order of their id, and the estimate of how long it takes, in seconds."""

    scenarios: tuple[str, ...]
    seconds: float


def read_costs(path: Path) -> Mapping[str, float]:
    """Return the recorded seconds by scenario, none where there is no file. Raises ParityError `costs-malformed`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Costs).seconds
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise ParityError(
            "costs-malformed",
            f"{path.name} cannot be read: {error}",
            hint="`parity suite costs REPORT` writes it; without the file, costs are estimated",
        ) from error


def written_costs(seconds: Mapping[str, float], *, subject: str) -> bytes:
    """Return the file of costs."""
    rounded = {scenario: round(took, 2) for scenario, took in sorted(seconds.items())}
    return (json.dumps({"subject": subject, "seconds": rounded}, indent=1) + "\n").encode()


def parts(scenarios: Sequence[Scenario], of: int, costs: Mapping[str, float]) -> tuple[Part, ...]:
    """Return `of` parts that take about equally long; every scenario is in exactly one, and no part is empty.

    Raises ParityError `shard-empty` where there are fewer scenarios than parts.
    """
    if of > len(scenarios):
        raise ParityError(
            "shard-empty",
            f"{of} shards of {len(scenarios)} selected scenarios would leave some empty",
            hint=f"take {len(scenarios)} shards at most",
        )
    weights = _weights(scenarios, costs)
    bins: list[list[str]] = [[] for _ in range(of)]
    loads = [0.0] * of
    # The longest first, each to the part that has the least so far.
    for scenario in sorted(weights, key=lambda scenario: (-weights[scenario], scenario)):
        place = min(range(of), key=lambda number: (loads[number], number))
        bins[place].append(scenario)
        loads[place] += weights[scenario]
    return tuple(Part(tuple(sorted(names)), round(load, 2)) for names, load in zip(bins, loads, strict=True))


def _weights(scenarios: Sequence[Scenario], costs: Mapping[str, float]) -> dict[str, float]:
    """Return what each scenario adds to the time of a part, in seconds; of one never recorded, what is usual."""
    quick = [costs[s.id] for s in scenarios if s.id in costs and not s.slow]
    slow = [costs[s.id] for s in scenarios if s.id in costs and s.slow]
    usual = {False: median(quick) if quick else _UNKNOWN_QUICK, True: median(slow) if slow else _UNKNOWN_SLOW}
    weights = {}
    for scenario in scenarios:
        took = costs.get(scenario.id, usual[scenario.slow] * scenario.repeat)
        beside = 1 if scenario.exclusive else _BESIDE_SLOW if scenario.slow else _BESIDE_QUICK
        weights[scenario.id] = max(_LEAST, took / beside)
    return weights


def sharded(plan: Plan, index: int, of: int, *, costs: Mapping[str, float]) -> Plan:
    """Return the plan of the `index`-th of `of` parts, counted from 1. Raises ParityError `shard-empty`."""
    mine = set(parts([planned.scenario for planned in plan.scenarios], of, costs)[index - 1].scenarios)
    scenarios = tuple(planned for planned in plan.scenarios if planned.scenario.id in mine)
    checks = {planned.scenario.id: planned.checks for planned in plan.scenarios}
    return replace(
        plan,
        scenarios=scenarios,
        suite=digest_of(scenarios),
        edition=msgspec.structs.replace(plan.edition, shard=Shard(index, of, whole_digest(plan.stimuli, checks))),
    )
