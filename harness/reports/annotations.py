"""GitHub annotations: workflow commands on stdout, where GitHub reads them.

GitHub takes any line of a step's output that looks like a command for one, also when it is the text of a subject that
the console report repeats. So while the console speaks, commands are stopped with a token that no subject knows.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TextIO

from harness.engine.events import CheckJudged, Event, RunFinished, RunStarted
from harness.reports.tally import HELD, OUTCOMES, Tally, fails
from harness.reports.text import cause_of, for_terminal

AT_MOST = 10
"""So many errors GitHub shows of one step; the last of them says how many there are besides."""

_MESSAGE = 1500


class StoppedCommands:
    """Stands before the console: from the first event on, nothing in the output is a command."""

    def __init__(self, stream: TextIO, token: str) -> None:
        self._stream = stream
        self._token = token

    def handle(self, event: Event) -> None:
        """Stop commands on the first event."""
        if isinstance(event, RunStarted):
            self._stream.write(f"::stop-commands::{self._token}\n")
            self._stream.flush()


class Annotations:
    """Stands behind the console: on the last event commands work again, and the annotations are written."""

    def __init__(self, stream: TextIO, tally: Tally, token: str) -> None:
        self._stream = stream
        self._tally = tally
        self._token = token

    def handle(self, event: Event) -> None:
        """Write everything on the last event."""
        if isinstance(event, RunFinished):
            self._stream.write(f"::{self._token}::\n")
            self._stream.writelines(f"{line}\n" for line in commands(self._tally))
            self._stream.flush()


def commands(tally: Tally) -> list[str]:
    """Return the workflow commands: an error for each scenario that diverges, and a notice with the totals.

    Unused ledger entries are errors too. Known divergences are in the notice only.
    """
    errors = [*_scenarios(tally), *_entries(tally)]
    if len(errors) > AT_MOST:
        rest = len(errors) - (AT_MOST - 1)
        told = f"{rest} more like these; the JSON report has them all"
        errors = [*errors[: AT_MOST - 1], command("error", "parity: more", told)]
    counted = ", ".join(
        f"{number} {outcome.replace('_', '-')}" for outcome in OUTCOMES if (number := tally.totals[outcome])
    )
    started = tally.started
    title = f"parity: {started.sdk} {started.version} against {started.contract}" if started else "parity"
    held = "interrupted" if tally.interrupted else "everything held" if tally.exit_status == HELD else "diverged"
    return [*errors, command("notice", title, f"{counted or 'nothing judged'}: {held}")]


def command(name: str, title: str, message: str) -> str:
    """Return one workflow command in one line, escaped as GitHub's own toolkit does, control characters spelled."""
    shown = for_terminal(message)
    if len(shown) > _MESSAGE:
        shown = f"{shown[:_MESSAGE]}..."
    return f"::{name} title={_property(for_terminal(title))}::{_data(shown)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _scenarios(tally: Tally) -> Iterator[str]:
    bad: dict[str, list[CheckJudged]] = {}
    for result in tally.in_plan_order():
        if fails(result):
            bad.setdefault(result.scenario, []).append(result)
    arguments = tally.started.arguments if tally.started else ()
    for scenario, results in bad.items():
        first = results[0]
        others = f" and {len(results) - 1} more" if len(results) > 1 else ""
        told = [f"{first.outcome.replace('_', '-')}: {first.message}"]
        if first.expected or first.observed:
            told.append(f"expected {first.expected or 'nothing'}, observed {first.observed or 'nothing'}")
        told += [part for part in (first.where, cause_of(first)) if part]
        told.append(f"again: {shlex.join(['parity', 'run', *arguments, '-k', scenario])}")
        yield command("error", f"{scenario}: {first.check}{others}", "\n".join(told))


def _entries(tally: Tally) -> Iterator[str]:
    for entry in tally.unused:
        told = f"the ledger lists it, but nothing was excused by it: {entry.reason}"
        yield command("error", f"unused ledger entry: {entry.title}", told)
