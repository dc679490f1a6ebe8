"""Follow a run: hand its events to the reports, and a signal to the run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from harness.engine.plan import Plan
from harness.engine.run import run
from harness.reports import Report, Tally
from harness.reports.console import ConsoleReport
from harness.reports.json_report import JsonReport
from harness.reports.junit import JUnitReport


def console(tally: Tally, *, trace: bool = False) -> Report:
    """Return the console report for this terminal: live on one, in colour unless NO_COLOR is set."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return ConsoleReport(
        sys.stdout, tally, live=terminal, colour=terminal and not os.environ.get("NO_COLOR"), trace=trace
    )


def reports(tally: Tally, *, json_file: Path | None, junit_file: Path | None, trace: bool) -> list[Report]:
    """Return the reports that were asked for; files first, so that they exist when the console has the last word."""
    chosen: list[Report] = []
    if json_file is not None:
        chosen.append(JsonReport(json_file, tally))
    if junit_file is not None:
        chosen.append(JUnitReport(junit_file, tally))
    return [*chosen, console(tally, trace=trace)]


def follow(plan: Plan, tally: Tally, handlers: Sequence[Report]) -> None:
    """Run `plan` to its end, or until SIGINT, SIGTERM or SIGHUP, telling `tally` and then `handlers` every event.

    Raises ParityError as `harness.engine.run.run` does.
    """
    asyncio.run(_follow(plan, [tally, *handlers]))


async def _follow(plan: Plan, handlers: Sequence[Report]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    async with aclosing(run(plan, stop=stop)) as events:
        async for event in events:
            for handler in handlers:
                handler.handle(event)
