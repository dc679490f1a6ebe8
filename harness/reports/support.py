"""A support table for the README of an SDK: what works, in words, kept up to date between two marks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.atomic import write_whole
from harness.engine.events import CheckJudged, Event, RunFinished
from harness.errors import ParityError
from harness.reports.markdown import inline
from harness.reports.tally import Tally, fails
from harness.reports.text import encodable

BEGIN, END = "<!-- parity:support -->", "<!-- /parity:support -->"

AREAS: Mapping[str, str] = {
    "chunks": "Cutting data into requests",
    "custom": "Custom losses",
    "errors": "Errors",
    "faults": "Retries and faults",
    "futures": "Waiting for results",
    "metrics": "Metrics",
    "order": "Order of requests",
    "printed": "Documented examples",
    "regularizers": "Regularizers",
    "session": "Sessions and models",
    "state": "Saving and loading",
    "training": "Training",
}
"""What the folders of the suite are about; a folder of the user's own stands for itself."""

STATES = ("holds", "differs as listed", "unsupported", "diverges")


def state_of(result: CheckJudged) -> str:
    """Return what a result comes to, one of `STATES`."""
    if fails(result):
        return "diverges"
    return {"unsupported": "unsupported", "known": "differs as listed"}.get(result.outcome, "holds")


def support_table(tally: Tally) -> str:
    """Return the table: one row per area of scenarios, with how many of its checks hold, and how the others do not."""
    rows: dict[str, dict[str, int]] = {}
    for result in tally.in_plan_order():
        if result.unscored:
            continue
        row = rows.setdefault(result.scenario.partition("/")[0], dict.fromkeys(STATES, 0))
        row[state_of(result)] += 1
    started = tally.started
    subject = f"{started.sdk} {started.version}" if started else ""
    lines = [f"| {inline(subject)} | {' | '.join(STATES)} |", f"|---|{'---:|' * len(STATES)}"]
    for area, row in sorted(rows.items(), key=lambda entry: AREAS.get(entry[0], entry[0])):
        cells = " | ".join(str(row[state] or "-") for state in STATES)
        lines.append(f"| {inline(AREAS.get(area, area))} | {cells} |")
    by = f"Checks of `parity`, by the contract {inline(started.contract)}." if started else ""
    return "\n".join([*lines, "", by]).rstrip() + "\n"


def placed(text: str, table: str) -> str:
    """Return `text` with `table` between its two marks. Raises ParityError `support-unmarked` where there are none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ParityError(
            "support-unmarked",
            f"the file has no {BEGIN} followed by {END}",
            hint="write the two marks where the table is to stand, each on a line of its own; or name a new file",
        )
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def check_marks(path: Path) -> None:
    """Raise ParityError `support-unmarked` where `path` is a file that has no place for a table."""
    try:
        placed(path.read_text(encoding="utf-8"), "")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ParityError(
            "report-unwritable", f"{path} cannot be read: {error}", hint="--support names a README, or a new file"
        ) from error


class SupportReport:
    """Puts the table into a file when the run has come to its end; an interrupted one says nothing about support.

    OSError where it cannot be written, ParityError `support-unmarked` where the marks are gone.
    """

    def __init__(self, path: Path, tally: Tally) -> None:
        self._path = path
        self._tally = tally

    def handle(self, event: Event) -> None:
        """Write the file on the last event."""
        if isinstance(event, RunFinished) and not event.interrupted:
            old = self._path.read_text(encoding="utf-8") if self._path.exists() else f"{BEGIN}{END}\n"
            write_whole(self._path, encodable(placed(old, support_table(self._tally))).encode())
