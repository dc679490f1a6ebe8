"""The suite's wall time against the time the SDK itself is busy, start-up included.

The SDK's own time is that of one driver process which is given the same scenarios, as many at a time as the suite
gives it, by a loop that does nothing else: data made beforehand, nothing made into a trace, nothing judged. `parity
run --jobs 1` is the whole command: interpreter, suite and golden traces loaded, traces made and judged, reports
printed.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator

import msgspec

from harness.drivers.process import DriverProcess
from harness.engine.observe import lanes, losses_of
from harness.engine.plan import Plan
from harness.engine.prepare import prepare
from harness.locations import locate
from harness.suite.data import expand
from mock_server import MockServer

SELECTED = "not faults/"
"""Scenarios of faults are left out: they wait by design, which would hide what the harness costs, and one ends the
process that is measured."""


async def own_time(plan: Plan, server: MockServer) -> float:
    """Return the seconds that the SDK takes for the plan's scenarios when nothing is done with what it does."""
    ready = deque(
        (planned, {name: expand(spec) for name, spec in planned.scenario.stimulus.data.items()})
        for planned in plan.scenarios
    )
    began = time.perf_counter()
    driver = await DriverProcess.start(plan.spec, patience=plan.patience)

    async def lane() -> None:
        while ready:
            planned, data = ready.popleft()
            tenant = server.open_tenant(planned.scenario.stimulus.server)
            try:
                await driver.run(
                    base_url=server.url_of(tenant),
                    api_key=tenant.api_key,
                    steps=[msgspec.to_builtins(step) for step in planned.scenario.stimulus.steps],
                    data=data,
                    losses=losses_of(planned.scenario, plan.losses),
                    timeout=planned.timeout,
                )
            finally:
                tenant.close()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes(driver)):
                group.create_task(lane())
    finally:
        await driver.stop()
    return time.perf_counter() - began


def suite_time(sdk: str, *, rounds: int) -> Iterator[str]:
    """Yield a line about each SDK; both ways are measured in turn."""
    plan = prepare(locate(), sdk=sdk, jobs=1, expression=SELECTED)
    own, whole = [], []
    for _ in range(rounds):
        with MockServer() as server:
            own.append(asyncio.run(own_time(plan, server)))
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "harness", "run", "--sdk", sdk, "--jobs", "1", "-k", SELECTED],
            capture_output=True,
            check=False,
        )
        whole.append(time.perf_counter() - began)
        if done.returncode:
            raise RuntimeError(done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:])
    ratio = statistics.median(run / bare for run, bare in zip(whole, own, strict=True))
    yield (
        f"suite, {sdk:<16} {statistics.median(whole):8.1f} s   {ratio:5.2f} x the SDK's own time "
        f"({statistics.median(own):.1f} s; aim 1.15)"
    )
