"""Traffic of the reference in a scenario, through the recording proxy: what a recording is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.drivers.process import running
from harness.drivers.registry import resolve
from harness.engine.observe import losses_of
from harness.engine.prepare import open_suite
from harness.locations import locate
from harness.recording.proxy import RecordingProxy
from harness.recording.raw import RawExchange
from harness.suite.data import expand
from mock_server import MockServer

ROOT = Path(__file__).parents[2]


def traffic(scenario_ids: Sequence[str], contract: str) -> dict[str, tuple[RawExchange, ...]]:
    """Return what the reference and a mock server said, by scenario, as the proxy between them saw it."""
    return asyncio.run(_traffic(scenario_ids, contract))


async def _traffic(scenario_ids: Sequence[str], contract: str) -> dict[str, tuple[RawExchange, ...]]:
    suite = open_suite(locate(ROOT))
    seen: dict[str, tuple[RawExchange, ...]] = {}
    with MockServer() as server:
        async with running(resolve("reference", contract=contract, root=ROOT)) as driver:
            for scenario_id in scenario_ids:
                scenario = suite.scenarios[scenario_id]
                tenant = server.open_tenant(scenario.stimulus.server)
                with RecordingProxy(server.base_url) as proxy:
                    await driver.run(
                        base_url=proxy.base_url,
                        api_key=tenant.api_key,
                        steps=[msgspec.to_builtins(step) for step in scenario.stimulus.steps],
                        data={name: expand(spec) for name, spec in scenario.stimulus.data.items()},
                        losses=losses_of(scenario, suite.losses),
                        timeout=scenario.timeout,
                    )
                    seen[scenario_id] = proxy.exchanges()
                tenant.close()
    return seen
