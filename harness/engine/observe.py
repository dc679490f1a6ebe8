"""Run one scenario once, on one driver, against one tenant: stimulus in, trace out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from harness.drivers.failure import DriverFailure
from harness.drivers.process import DriverProcess
from harness.drivers.protocol import StepResult
from harness.suite.data import expand
from harness.suite.rules import client_options, losses_used
from harness.suite.scenario import Loss, Scenario
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
    """What one run of a scenario left: the server's record and, unless the driver failed, the trace made of it.

    `line` is the driver's answer as it came, empty where none came; `steps` is what was made of it, with what the end
    of a process added.
    """

    record: Record
    trace: Trace | None
    failure: DriverFailure | None
    line: bytes = b""
    steps: tuple[StepResult, ...] = ()


def losses_of(scenario: Scenario, losses: Mapping[str, Loss]) -> dict[str, dict[str, Any]]:
    """Return the loss graphs that the steps of `scenario` name, as JSON-like values."""
    return {name: msgspec.to_builtins(losses[name]) for name in losses_used(scenario)}


async def watch(
    scenario: Scenario,
    *,
    losses: Mapping[str, Loss],
    timeout: float,  # noqa: ASYNC109 - the scenario's limit, told to the driver
    driver: DriverProcess,
    server: MockServer,
    replay: Trace | None = None,
) -> Observation:
    """Run `scenario` on `driver` as a tenant of its own and return what was seen, no trace made of it yet.

    With `replay`, operations are answered as in that trace. A failure of the driver is part of the observation; nothing
    is raised for it.
    """
    data = await asyncio.to_thread(lambda: {name: expand(spec) for name, spec in scenario.stimulus.data.items()})
    tenant = server.open_tenant(scenario.stimulus.server, replay=answers(replay) if replay is not None else None)
    loop = asyncio.get_running_loop()
    # Nothing can be judged by a record that was cut off, and a process that floods takes the time of the others.
    tenant.quota.on_exceeded = lambda what: loop.call_soon_threadsafe(driver.give_up, what)
    lines: list[bytes] = []
    try:
        try:
            answer = await driver.run(
                base_url=server.url_of(tenant),
                api_key=tenant.api_key,
                steps=[msgspec.to_builtins(step) for step in scenario.stimulus.steps],
                data=data,
                losses=losses_of(scenario, losses),
                timeout=timeout,
                client=client_options(scenario),
                heard=lines.append,
            )
            if tenant.quota.exceeded:
                raise DriverFailure("flood", tenant.quota.exceeded)
        except DriverFailure as failure:
            return Observation(record=tenant.record(), trace=None, failure=failure, line=b"".join(lines))
        record = tenant.record()
    finally:
        tenant.close()
    return Observation(record=record, trace=None, failure=None, line=b"".join(lines), steps=tuple(answer.steps))


def traced(scenario: Scenario, seen: Observation, *, stimulus: str, contract: str) -> Observation:
    """Return what was seen in a run of `scenario` with its trace, unless the driver failed.

    `stimulus` is the scenario's digest and `contract` the contract id; both are written into the trace.
    """
    if seen.failure is not None:
        return seen
    faults = scenario.stimulus.server.faults
    return replace(seen, trace=make_trace(scenario.id, stimulus, contract, seen.record, seen.steps, faults=faults))
