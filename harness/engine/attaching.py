"""One scenario on a driver that somebody else starts, under a debugger say, judged as in any run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from harness.drivers.attached import ANY_DRIVER, NO_HURRY, attaching
from harness.drivers.command import named
from harness.drivers.process import DriverProcess
from harness.engine.events import Event
from harness.engine.lookup import scenario_called
from harness.engine.plan import Plan
from harness.engine.prepare import open_suite, prepare
from harness.engine.run import run
from harness.locations import Locations

TIMEOUT = 3600.0
"""Seconds that the driver is told it has, unless somebody says otherwise: it must not give up at a breakpoint."""


async def attached(
    locations: Locations,
    scenario_id: str,
    *,
    contract: str | None,
    timeout: float | None,  # noqa: ASYNC109 - the scenario's, told to the driver
    keep_exchange: bool,
    pictures: bool = False,
    told: Callable[[str], object],
) -> AsyncGenerator[Event, None]:
    """Wait until a driver is attached and yield what happens while it runs the scenario.

    `told` hears how a driver is attached, whenever one is waited for: a driver that has failed, hung or left is not
    used any further. `keep_exchange` and `pictures` are those of a plan. The operation vectors are not asked for, and
    nothing is run again.

    Raises ParityError `scenario-unknown`, `driver-unnamed`, and what `DriverProcess.start` and `prepare` raise.
    """
    scenario_called(open_suite(locations), scenario_id)
    begin = attaching(told)
    first = await DriverProcess.start(ANY_DRIVER, patience=NO_HURRY, begin=begin)
    waiting = [first]

    async def start() -> DriverProcess:
        return waiting.pop() if waiting else await DriverProcess.start(spec, patience=NO_HURRY, begin=begin)

    try:
        spec = named(ANY_DRIVER, first.hello, asked=None)
        plan = prepare(
            locations,
            sdk=None,
            driver=spec,
            contract=contract,
            expression=scenario_id,
            slow=True,
            timeout=timeout or TIMEOUT,
        )
        alone = replace(_alone(plan, scenario_id, start), keep_exchange=keep_exchange, pictures=pictures)
        async with aclosing(run(alone)) as events:
            async for event in events:
                yield event
    finally:
        if waiting:
            await first.stop()


def _alone(plan: Plan, scenario_id: str, start: Callable[[], Awaitable[DriverProcess]]) -> Plan:
    only = tuple(planned for planned in plan.scenarios if planned.scenario.id == scenario_id)
    return replace(
        plan,
        scenarios=only,
        vectors=(),
        jobs=1,
        rerun=False,
        start=start,
        patience=NO_HURRY,
    )
