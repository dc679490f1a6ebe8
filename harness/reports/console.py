"""The console report: progress while it runs, then failures first, then a table, then one sentence."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TextIO

from msgspec.structs import replace

from harness.checks.causes import CAUSES
from harness.checks.verdict import Outcome
from harness.engine.events import (
    CheckJudged,
    Event,
    RecordingOpened,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    SubjectReady,
)
from harness.reports.standing import counted, standing_lines, standings_of
from harness.reports.tally import HELD, OUTCOMES, Tally, by_area, fails
from harness.reports.text import cause_of, count, for_terminal

_COLOURS: Mapping[str, str] = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}
_SHOWN: Mapping[Outcome, str] = {outcome: outcome.replace("_", "-") for outcome in OUTCOMES}
_WIDTH = 100
_SCREEN = 40
"""A failing scenario takes at most so many lines, its exchange by --trace aside."""

_SCRIPTED = "tinker"
"""The SDK whose scripts name its code; for any other one `parity repro` gives lines, which do not."""

_SIDE = 46
_ROWS = 4
_AROUND = 7
_NAMED = 2


@dataclass(frozen=True, slots=True)
class Painted:
    """Text to be shown in a colour, where there are colours."""

    colour: str
    text: str


Line = tuple["str | Painted", ...]
"""One line to be written, in parts."""


class ConsoleReport:
    """Writes a run to `stream` as it happens.

    `live` redraws one progress line (a terminal); otherwise each finished scenario is a line. `colour` uses ANSI
    colours. `trace` adds the exchange of every scenario with a failing check. Text of the subject is never written
    raw: its control characters are spelled.
    """

    def __init__(self, stream: TextIO, tally: Tally, *, live: bool, colour: bool, trace: bool = False) -> None:
        self._stream = stream
        self._tally = tally
        self._live = live
        self._colour = colour
        self._trace = trace

    def handle(self, event: Event) -> None:
        """Write what `event` adds."""
        match event:
            case RunStarted():
                self._begin(event)
            case SubjectReady():
                self._introduce(event)
            case RecordingOpened():
                self._recording(event)
            case ScenarioFinished():
                self._scenario(event)
            case RunFinished():
                self._end(event)
        if self._live and not isinstance(event, RunFinished):
            self._progress()

    # --- while it runs ------------------------------------------------------------------------------------------------

    def _begin(self, event: RunStarted) -> None:
        scenarios = {check.scenario for check in event.planned}
        edition = event.edition
        part = f"shard {edition.shard.index} of {edition.shard.of}, " if edition.shard else ""
        self._line(
            f"{event.sdk} {event.version} against {event.contract}: "
            f"{part}{count(len(scenarios), 'scenario')}, {count(len(event.planned), 'check')}"
        )
        if edition.scored:
            self._line(f"scored by suite revision {edition.scored}; what is later is run and decides nothing")

    def _introduce(self, event: SubjectReady) -> None:
        file = str(event.sdk.get("file", ""))
        # Every library is in the JSON report; what computes the numbers is what a reader may want to know now.
        library = next((f"{name} {event.libraries[name]}" for name in ("torch", "nx") if name in event.libraries), "")
        self._line(Painted("dim", "  ".join(part for part in (event.runtime, library, file) if part)))

    def _recording(self, event: RecordingOpened) -> None:
        self._line(f"recorded on {event.taken} by parity {event.parity}")
        for word, told, names in (
            ("stale", "changed since, not judged", event.stale),
            ("new", "not recorded, not judged", event.unplanned),
        ):
            if names:
                self._line(Painted("yellow", f"{word:<6}"), f"{count(len(names), 'scenario')} {told}:")
                for text in textwrap.wrap(", ".join(names), _WIDTH - 7):
                    self._line(f"       {text}")

    def _scenario(self, event: ScenarioFinished) -> None:
        if self._live:
            return
        results = self._tally.of_scenario(event.scenario)
        bad = [result for result in results if fails(result)]
        told = ", ".join(
            f"{number} {_SHOWN[outcome]}"
            for outcome in OUTCOMES
            if (number := sum(result.outcome == outcome for result in results)) and outcome != "pass"
        )
        word = Painted("red", "FAIL") if bad else Painted("green", "ok  ")
        note = f"  ({event.note})" if event.note else ""
        if event.runs > 1:
            note = f"  {_runs(event)}{note}"
        many = f"{count(len(results), 'check')}{', ' + told if told else ''}"
        self._line(word, f" {event.scenario}  {many}  {event.seconds:.2f} s{note}")

    def _progress(self) -> None:
        planned = self._tally.started.planned if self._tally.started else ()
        scenarios = len({check.scenario for check in planned})
        failing = sum(fails(result) for result in self._tally.results)
        now = " ".join(self._tally.running[:2])
        text = f"[{len(self._tally.scenarios)}/{scenarios}] {failing} failing  {now}"
        self._stream.write("\r\x1b[K" + for_terminal(text)[: _WIDTH - 1])
        self._stream.flush()

    # --- at the end ---------------------------------------------------------------------------------------------------

    def _end(self, event: RunFinished) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
        for scenario in dict.fromkeys(result.scenario for result in self._tally.in_plan_order()):
            self._failures(scenario)
        self._notes()
        self._ledger()
        self._unscored()
        self._baseline()
        self._table()
        self._verdict(event)
        self._stream.flush()

    def _failures(self, scenario: str) -> None:
        bad = [result for result in self._tally.of_scenario(scenario) if fails(result)]
        if not bad or all(result.outcome == "not_run" and result.message == "interrupted" for result in bad):
            return
        run = self._tally.scenarios.get(scenario)
        head: list[Line] = [("",), (Painted("bold", _cut(f"{scenario}  {run.title if run else ''}")),)]
        tail = self._tail(scenario, bad, run)
        for line in [*head, *_findings(bad, _SCREEN - len(head) - len(tail)), *tail]:
            self._line(*line)
        if self._trace and run and run.exchange:
            self._line("  exchange")
            for text in run.exchange.splitlines():
                self._line(f"    {text}")

    def _tail(self, scenario: str, bad: Sequence[CheckJudged], run: ScenarioFinished | None) -> list[Line]:
        """Return what follows the findings: the exchange around the first, and how to see it again."""
        lines: list[Line] = []
        if run and run.around:
            lines.append(("  around    the first failure that has a place on the wire",))
            lines += [(_cut(f"    {text}"),) for text in run.around.splitlines()[:_AROUND]]
        if run and run.runs > 1:
            lines.append((f"  repeated  {_runs(run)}",))
        if run and run.note:
            lines.append((f"  note      {run.note}",))
        lines.append((f"  again     {self._command(scenario)}",))
        lines.append((f"  by hand   {self._by_hand(scenario)}",))
        # What follows from something else is explained there: its own code says little.
        causes = [result.cause for result in bad if result.cause in CAUSES]
        plain = bad[0].check if bad[0].outcome != "error" else "error"
        code = next((cause for cause in causes if cause != "follows"), (causes or [plain])[0])
        lines.append((f"  meaning   parity explain {code}",))
        return lines

    def _command(self, scenario: str) -> str:
        arguments = self._tally.started.arguments if self._tally.started else ()
        return shlex.join(["parity", "run", *arguments, "-k", scenario])

    def _by_hand(self, scenario: str) -> str:
        started = self._tally.started
        arguments = list(started.arguments) if started else []
        given = dict(zip(arguments[::2], arguments[1::2], strict=False))
        sdk = given.get("--sdk", f"{started.sdk}=={started.version}" if started else "")
        command = ["parity", "repro", scenario, "--sdk", sdk]
        if "--sdk-path" in given and sdk.startswith(f"{_SCRIPTED}=="):
            command += ["--sdk-path", given["--sdk-path"]]
        if "--fixtures" in given:
            command += ["--fixtures", given["--fixtures"]]
        return shlex.join(command)

    def _notes(self) -> None:
        """Say which scenarios only held when run again: a green table must not hide it."""
        held_later = [
            run
            for run in self._tally.scenarios.values()
            if run.note and not any(fails(result) for result in self._tally.of_scenario(run.scenario))
        ]
        for run in sorted(held_later, key=lambda run: run.scenario):
            self._line(Painted("yellow", "note"), f" {run.scenario}: {run.note}")

    def _ledger(self) -> None:
        """Say which entries say nothing any more, and how often a race was lost."""
        for entry in self._tally.ledger:
            if entry in self._tally.unused:
                told = f" {entry.title}: the ledger lists it, but nothing was excused by it: {entry.reason}"
                self._line(Painted("red", "unused"), told)
            elif entry.rate == "sometimes":
                judged = entry.known + entry.passed
                self._line(Painted("yellow", "race"), f"  {entry.title}: failed as listed in {entry.known} of {judged}")

    def _unscored(self) -> None:
        """Name what does not hold and decides nothing."""
        lost = [r for r in self._tally.in_plan_order() if r.unscored and fails(replace(r, unscored=False))]
        for result in lost:
            said = f"{result.scenario}:{result.check}  {_SHOWN[result.outcome]}: {result.message}"
            self._line(Painted("yellow", "unscored"), f" {_cut(said.partition(chr(10))[0], _WIDTH - 9)}")

    def _baseline(self) -> None:
        """Say how the run stands against the earlier report: what is new first, what is known only counted."""
        held = self._tally.baseline
        if held is None:
            return
        results = {(result.scenario, result.check): result for result in self._tally.results}
        labelled = [(each, results[each.scenario, each.check]) for each in held.labels]
        standings = standings_of(self._tally)
        name = self._tally.started.sdk if self._tally.started else ""
        self._line("")
        self._line(f"against {name} {held.version} (baseline of parity {held.parity}): {counted(standings)}")
        for text in [*(f"{'':16}{part}" for part in held.apart), *standing_lines(standings)]:
            self._line(text)
        if unlisted := sum(each.label == "known" and fails(result) for each, result in labelled):
            told = (
                f"{count(unlisted, 'check')} failed in the baseline too, but no ledger lists that: the ledger decides"
            )
            self._line(Painted("yellow", told))

    def _table(self) -> None:
        """One row per area: the family of the check."""
        rows = by_area(self._tally.results)
        if not rows:
            return
        columns = [outcome for outcome in OUTCOMES if outcome == "pass" or self._tally.totals[outcome]]
        width = max(len("area"), *(len(area) for area in rows))
        self._line("")
        heads = "".join(f"{_SHOWN[outcome]:>{max(13, len(outcome) + 2)}}" for outcome in columns)
        self._line(Painted("dim", f"{'area':<{width}}{heads}"))
        for area in sorted(rows):
            counts = [(outcome, str(rows[area][outcome] or "-")) for outcome in columns]
            cells = "".join(f"{count:>{max(13, len(outcome) + 2)}}" for outcome, count in counts)
            self._line(f"{area:<{width}}{cells}")

    def _verdict(self, event: RunFinished) -> None:
        totals = self._tally.totals
        told = ", ".join(f"{totals[outcome]} {_SHOWN[outcome]}" for outcome in OUTCOMES if totals[outcome])
        status = self._tally.exit_status
        if event.interrupted:
            sentence = Painted("red", "interrupted")
        elif status == HELD:
            sentence = Painted("green", "everything held")
        else:
            sentence = Painted("red", "something diverged")
        self._line("")
        slow = self._tally.started.slow if self._tally.started else ()
        if slow:
            scenarios = count(len({check.scenario for check in slow}), "slow scenario")
            self._line(f"{scenarios}, {count(len(slow), 'check')}, left out (--slow includes them)")
        self._line(f"{told or 'nothing judged'} in {event.seconds:.1f} s: ", sentence)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _line(self, *parts: str | Painted) -> None:
        """Write one line; every part is made safe here, so that nothing can be forgotten."""
        if self._live:
            self._stream.write("\r\x1b[K")
        for part in parts:
            text = for_terminal(part.text if isinstance(part, Painted) else part)
            code = _COLOURS[part.colour] if isinstance(part, Painted) and self._colour else ""
            self._stream.write(f"\x1b[{code}m{text}\x1b[0m" if code else text)
        self._stream.write("\n")
        if not self._live:
            self._stream.flush()


def _findings(bad: Sequence[CheckJudged], room: int) -> list[Line]:
    """Return the findings of a scenario in at most `room` lines; those that do not fit are named."""
    groups = _alike(bad)
    lines: list[Line] = []
    for number, (result, checks) in enumerate(groups):
        finding = _finding(result, checks)
        last = number == len(groups) - 1
        left = room - len(lines) - (0 if last else _NAMED)
        if len(finding) > left and lines:
            names = [check for _, more in groups[number:] for check in more]
            told = textwrap.wrap(
                f"{len(names)} more: {', '.join(names)}", _WIDTH - 4, max_lines=_NAMED, placeholder=" ..."
            )
            return [*lines, *((f"    {text}" if at else f"  ... {text}",) for at, text in enumerate(told))]
        if len(finding) > left:
            cut = len(finding) - max(left, 2) + 1
            finding = [*finding[: max(left, 2) - 1], (f"    ... {count(cut, 'line')} more in the JSON report",)]
        lines += finding
    return lines


def _finding(result: CheckJudged, checks: Sequence[str]) -> list[Line]:
    """Return one finding: what failed, both sides, where, and why."""
    first, *rest = result.message.splitlines() or [""]
    which = checks[0] if len(checks) == 1 else f"{checks[0]} and {len(checks) - 1} more"
    room = _WIDTH - 3 - len(_SHOWN[result.outcome])
    said, *more = textwrap.wrap(for_terminal(f"{which}  {first}"), room, max_lines=4, placeholder=" ...")
    lines: list[Line] = [("  ", Painted("red", _SHOWN[result.outcome]), f" {said}")]
    lines += [(f"    {line}",) for line in more]
    lines += [(_cut(f"    {line}"),) for line in rest]
    if result.expected or result.observed:
        lines += _beside(result.expected, result.observed)
    for name, value in (("where", result.where), ("cause", cause_of(result))):
        if value:
            text = " ".join(for_terminal(value).split())
            wrapped = textwrap.wrap(text, _WIDTH - 14, max_lines=4, placeholder=" ...")
            lines += [(f"    {name if at == 0 else '':<9} {part}",) for at, part in enumerate(wrapped)]
    return lines


def _beside(expected: str, observed: str) -> list[Line]:
    """Return both sides, next to each other."""
    sides = [_folded(expected), _folded(observed)]
    rows = list(zip_longest(*sides, fillvalue=""))
    width = min(_SIDE, max(len("expected"), *map(len, sides[0])))
    lines: list[Line] = [(Painted("dim", f"    {'expected':<{width}} | observed"),)]
    return lines + [(f"    {left:<{width}} | {right}".rstrip(),) for left, right in rows]


def _folded(text: str) -> list[str]:
    safe = for_terminal(text).expandtabs(4) or "-"
    lines = [part for line in safe.splitlines() for part in textwrap.wrap(line, _SIDE) or [""]]
    return lines if len(lines) <= _ROWS else [*lines[: _ROWS - 1], "..."]


def _cut(text: str, width: int = _WIDTH) -> str:
    safe = for_terminal(text)
    return safe if len(safe) <= width else safe[: width - 3] + "..."


def _alike(results: Sequence[CheckJudged]) -> list[tuple[CheckJudged, list[str]]]:
    """Put results that say the same together: a driver that failed is one finding, however many checks it cost."""
    groups: dict[tuple[str, ...], tuple[CheckJudged, list[str]]] = {}
    for result in results:
        said = (result.outcome, result.message, result.expected, result.observed, result.where, result.cause)
        groups.setdefault(said, (result, []))[1].append(result.check)
    return list(groups.values())


def _runs(event: ScenarioFinished) -> str:
    return f"{event.failed_runs} of {event.runs} runs failed" if event.failed_runs else f"{event.runs} runs held"
