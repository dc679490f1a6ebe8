"""`parity work`: scenarios as they are asked for, for programs such as the pytest plugin."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from harness.cli import Settings, with_fixtures
from harness.cli.planning import Asked, planned, with_plan

if TYPE_CHECKING:
    from harness.engine.plan import Plan, PlannedScenario


@click.command("work")
@with_plan
@with_fixtures
def work_command(settings: Settings, *, asked: Asked) -> None:
    """Run the scenarios whose ids come on stdin, and write what happens to stdout, one JSON object a line.

    Ids on one line are run together. The first line out has the plan, before anything is started; a driver lives from
    one line in to the next. The end of stdin ends it.

    Exit status: 0 whatever the verdicts are, 2 when it could not be run or was interrupted.
    """
    plan = planned(settings.locations(), asked, keep_exchange=False)
    raise SystemExit(asyncio.run(_work(plan)))


async def _work(plan: Plan) -> int:
    from msgspec.json import encode

    from harness.engine.events import RunFinished
    from harness.engine.run import run

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    status = 0
    async with aclosing(run(plan, stop=stop, wanted=_wanted(plan))) as events:
        async for event in events:
            sys.stdout.buffer.write(encode(event) + b"\n")
            sys.stdout.buffer.flush()
            if isinstance(event, RunFinished) and event.interrupted:
                status = 2
    return status


async def _wanted(plan: Plan) -> AsyncIterator[list[PlannedScenario]]:
    """Yield the scenarios that lines of stdin name, each the first time it is named. Raises ParityError as `named`."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    # A daemon: a signal ends the program although stdin has not.
    threading.Thread(target=read, daemon=True, name="stdin").start()
    waiting = {planned.scenario.id: planned for planned in plan.scenarios}
    known = frozenset(waiting)
    while line := await lines.get():
        names = line.split()
        if strangers := [name for name in names if name not in known]:
            from harness.errors import ParityError

            raise ParityError(
                "scenario-unknown",
                f"there is no scenario {strangers[0]!r} in the plan",
                hint="the first line out names those that are planned",
            )
        if some := [waiting.pop(name) for name in dict.fromkeys(names) if name in waiting]:
            yield some
