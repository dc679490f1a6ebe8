"""Shards: every scenario in exactly one, none empty, the same everywhere, and about equally long."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.dividing import divided
from harness.engine.prepare import open_suite, prepare
from harness.engine.sharding import parts, read_costs, sharded, written_costs
from harness.errors import ParityError
from harness.locations import locate

PLACES = locate(Path(__file__).parents[2])
SUITE = open_suite(PLACES)
SCENARIOS = st.lists(st.sampled_from(list(SUITE.scenarios.values())), min_size=1, max_size=60, unique_by=lambda s: s.id)
COSTS = st.dictionaries(st.sampled_from(list(SUITE.scenarios)), st.floats(0, 100, allow_nan=False), max_size=60)


@given(SCENARIOS, COSTS, st.integers(1, 12), st.randoms(use_true_random=False))
def test_every_scenario_is_in_one_part_whatever_the_order(scenarios, costs, of, random):
    """Parts are disjoint, complete and not empty; they do not depend on the order that scenarios come in."""
    of = min(of, len(scenarios))
    found = parts(scenarios, of, costs)
    names = [name for part in found for name in part.scenarios]
    assert sorted(names) == sorted(scenario.id for scenario in scenarios)
    assert len(names) == len(set(names))
    assert all(part.scenarios for part in found)
    shuffled = list(scenarios)
    random.shuffle(shuffled)
    assert parts(shuffled, of, costs) == found


@given(SCENARIOS, COSTS, st.integers(1, 12))
def test_parts_are_balanced(scenarios, costs, of):
    """No part is longer than the mean and the longest scenario together, the bound of taking the longest first."""
    of = min(of, len(scenarios))
    found = parts(scenarios, of, costs)
    longest = max(part.seconds for part in parts(scenarios, len(scenarios), costs))
    assert max(part.seconds for part in found) <= sum(part.seconds for part in found) / of + longest + 0.01 * (of + 1)


def test_an_exclusive_scenario_weighs_its_time_and_a_slow_one_a_part_of_it():
    """Exclusive ones run alone, slow ones wait side by side."""
    slow = next(s for s in SUITE.scenarios.values() if s.slow and not s.exclusive)
    quick, other = (s for s, _ in zip((s for s in SUITE.scenarios.values() if not s.slow), range(2), strict=False))
    alone = msgspec.structs.replace(other, exclusive=True)
    costs = {slow.id: 8.0, alone.id: 8.0, quick.id: 8.0}
    seconds = [parts([scenario], 1, costs)[0].seconds for scenario in (slow, quick, alone)]
    assert seconds == sorted(set(seconds))
    assert seconds[2] == 8.0


def test_more_parts_than_scenarios_are_refused():
    """A job that runs nothing would be green."""
    with pytest.raises(ParityError) as caught:
        parts(list(SUITE.scenarios.values())[:2], 3, {})
    assert caught.value.code == "shard-empty"


def test_a_plan_in_parts_has_what_the_plan_has():
    """The plans of all shards together are the plan; each knows the digest of the whole."""
    plan = prepare(PLACES, sdk="reference", expression="chunks/")
    shards = [sharded(plan, index, 3, costs={}) for index in (1, 2, 3)]
    together = [planned.scenario.id for shard in shards for planned in shard.scenarios]
    assert sorted(together) == [planned.scenario.id for planned in plan.scenarios]
    assert len({shard.edition.shard.whole for shard in shards}) == 1
    assert len({shard.suite for shard in shards}) == 3
    assert [shard.edition.shard.index for shard in shards] == [1, 2, 3]


def test_the_plan_without_an_sdk_is_the_one_that_runs():
    """What `parity plan` shows is what `--shard` runs."""
    plan = prepare(PLACES, sdk="reference", expression="chunks/")
    costs = read_costs(PLACES.costs)
    for index, part in enumerate(divided(PLACES, 3, expression="chunks/", contract=None, slow=False), start=1):
        ran = {planned.scenario.id for planned in sharded(plan, index, 3, costs=costs).scenarios}
        assert ran == set(part.scenarios)


def test_costs_are_read_as_they_were_written(tmp_path):
    """Seconds to the hundredth; a file that is none is refused, a missing one is no cost at all."""
    file = tmp_path / "costs.json"
    assert read_costs(file) == {}
    file.write_bytes(written_costs({"b/two": 1.234, "a/one": 0.5}, subject="tinkex 0.4.0"))
    assert read_costs(file) == {"a/one": 0.5, "b/two": 1.23}
    file.write_text("[]", "utf-8")
    with pytest.raises(ParityError) as caught:
        read_costs(file)
    assert caught.value.code == "costs-malformed"


def test_recorded_costs_are_of_scenarios_of_the_suite():
    """The committed file speaks about scenarios that exist; those it lacks are estimated."""
    assert read_costs(PLACES.costs).keys() <= SUITE.scenarios.keys()
