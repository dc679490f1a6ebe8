"""Follow a run: hand its events to the reports, and a signal to the run."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

from harness.cli.wanted import Wanted
from harness.engine.events import Event
from harness.engine.plan import Plan
from harness.engine.run import run
from harness.errors import ParityError
from harness.gate.labelling import Labelling
from harness.reports import Report, Tally
from harness.reports.annotations import Annotations, StoppedCommands
from harness.reports.badge import badge_json
from harness.reports.console import ConsoleReport
from harness.reports.file import FileReport
from harness.reports.html import page
from harness.reports.json_report import json_text
from harness.reports.junit import junit_xml
from harness.reports.markdown import summary
from harness.reports.support import SupportReport

SWITCH_SECONDS = 0.0005
"""How long a thread computes at most when another one waits: what is judged must not keep the server from answering."""


def console(tally: Tally, *, trace: bool = False) -> Report:
    """Return the console report for this terminal: live on one, in colour unless NO_COLOR is set."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return ConsoleReport(
        sys.stdout, tally, live=terminal, colour=terminal and not os.environ.get("NO_COLOR"), trace=trace
    )


def reports(tally: Tally, wanted: Wanted) -> list[Report]:
    """Return the reports that were asked for; files first, so that they exist when the console has the last word."""
    files: tuple[tuple[Path | None, Callable[[Tally], str]], ...] = (
        (wanted.json_file, json_text),
        (wanted.junit_file, junit_xml),
        (wanted.markdown_file, summary),
        (wanted.html_file, page),
        (wanted.badge_file, badge_json),
    )
    chosen: list[Report] = [FileReport(path, tally, render) for path, render in files if path is not None]
    if wanted.support_file is not None:
        chosen.append(SupportReport(wanted.support_file, tally))
    last = console(tally, trace=wanted.trace)
    if not wanted.annotations:
        return [*chosen, last]
    token = secrets.token_hex(16)
    return [*chosen, StoppedCommands(sys.stdout, token), last, Annotations(sys.stdout, tally, token)]


def hand(handlers: Sequence[Report], event: Event) -> None:
    """Hand an event to every handler; a report that cannot be written keeps no other from being written.

    Raises ParityError `report-unwritable` when all have been told.
    """
    failed: OSError | None = None
    for handler in handlers:
        try:
            handler.handle(event)
        except OSError as error:
            if error.filename is None:  # the terminal is gone: nobody is there to be told anything
                raise
            failed = failed or error
    if failed is not None:
        raise ParityError(
            "report-unwritable",
            f"{failed.filename} cannot be written: {failed.strerror}",
            hint="the other reports are written; `parity run --record` keeps what a run observed for `parity check`",
        ) from failed


def follow(
    plan: Plan,
    tally: Tally,
    handlers: Sequence[Report],
    *,
    labelling: Labelling | None = None,
    runner: asyncio.Runner | None = None,
) -> None:
    """Run `plan` to its end, or until SIGINT, SIGTERM or SIGHUP, telling `tally` and then `handlers` every event.

    `labelling` adds to the events how the run stands against an earlier one. `runner` has the event loop, where
    something of the run lives on one already.

    Raises ParityError as `harness.engine.run.run` does.
    """
    (runner.run if runner is not None else asyncio.run)(_follow(plan, [tally, *handlers], labelling))


async def tell(
    events: AsyncGenerator[Event, None], handlers: Sequence[Report], labelling: Labelling | None = None
) -> None:
    """Hand every event to each of `handlers`, what `labelling` adds too, and close the stream however it ends."""
    async with aclosing(events):
        async for heard in events:
            for event in (heard,) if labelling is None else labelling.heard(heard):
                hand(handlers, event)


async def _follow(plan: Plan, handlers: Sequence[Report], labelling: Labelling | None) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    await tell(run(plan, stop=stop), handlers, labelling)
