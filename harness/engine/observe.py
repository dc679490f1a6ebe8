"""Run one scenario once, on one driver, against one tenant: stimulus in, trace out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from harness.drivers.process import DriverFailure, DriverProcess
from harness.suite.data import expand
from harness.suite.scenario import ForwardBackwardCustom, Loss, Scenario
from harness.trace.model import Trace
from harness.trace.normalise import make_trace
from harness.trace.replay import answers
from mock_server import MockServer
from mock_server.record import Record

LANES = 4
"""So many scenarios at most share a driver process, whatever it offers.

More would gain nothing on a few cores, and a client that gets no time for seconds looks silent to the server, which
then takes a request that has not been sent yet for one that is missing.
"""


def lanes(driver: DriverProcess) -> int:
    """Return how many scenarios `driver` is given at a time."""
    return max(1, min(LANES, driver.hello.max_in_flight))


@dataclass(frozen=True, slots=True)
class Observation:
    """What one run of a scenario left: the server's record and, unless the driver failed, the trace."""

    record: Record
    trace: Trace | None
    failure: DriverFailure | None


def losses_of(scenario: Scenario, losses: Mapping[str, Loss]) -> dict[str, dict[str, Any]]:
    """Return the loss graphs that the steps of `scenario` name, as JSON-like values."""
    names = {step.loss for step in scenario.stimulus.steps if isinstance(step, ForwardBackwardCustom)}
    return {name: msgspec.to_builtins(losses[name]) for name in sorted(names)}


async def observe(
    scenario: Scenario,
    *,
    stimulus: str,
    contract: str,
    losses: Mapping[str, Loss],
    timeout: float,  # noqa: ASYNC109 - the scenario's limit, told to the driver
    driver: DriverProcess,
    server: MockServer,
    replay: Trace | None = None,
) -> Observation:
    """Run `scenario` on `driver` as a tenant of its own and return what was seen.

    `stimulus` is the scenario's digest and `contract` the contract id; both are written into the trace. With `replay`,
    operations are answered as in that trace. A failure of the driver is part of the observation; nothing is raised for
    it.
    """
    data = await asyncio.to_thread(lambda: {name: expand(spec) for name, spec in scenario.stimulus.data.items()})
    tenant = server.open_tenant(scenario.stimulus.server, replay=answers(replay) if replay is not None else None)
    try:
        try:
            answer = await driver.run(
                base_url=server.base_url,
                api_key=tenant.api_key,
                steps=[msgspec.to_builtins(step) for step in scenario.stimulus.steps],
                data=data,
                losses=losses_of(scenario, losses),
                timeout=timeout,
            )
        except DriverFailure as failure:
            return Observation(record=tenant.record(), trace=None, failure=failure)
        record = tenant.record()
    finally:
        tenant.close()
    trace = await asyncio.to_thread(make_trace, scenario.id, stimulus, contract, record, answer.steps)
    return Observation(record=record, trace=trace, failure=None)
