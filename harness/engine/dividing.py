"""How a run would be divided, without an SDK to run."""

from __future__ import annotations

from harness.contracts.timeline import load_timeline
from harness.engine.prepare import choose, open_suite, without_slow
from harness.engine.sharding import Part, parts, read_costs
from harness.locations import Locations
from harness.suite.judging import checks_at


def divided(
    locations: Locations, of: int, *, expression: str | None, contract: str | None, slow: bool
) -> tuple[Part, ...]:
    """Return the parts that `--shard 1/of` to `--shard of/of` run.

    Without a contract it is the newest described one. Raises ParityError `selection-empty`, `selection-malformed`,
    `contract-undescribed`, `shard-empty`, and what `open_suite` raises.
    """
    suite, timeline = open_suite(locations), load_timeline(locations.timeline)
    point = timeline.point(contract or f"tinker-{timeline.described[-1]}")
    selected = choose(suite, expression, asked=checks_at(point.release, timeline.described))
    chosen, _ = without_slow(suite, selected, slow=slow)
    return parts([suite.scenarios[scenario] for scenario in chosen], of, read_costs(locations.costs))
