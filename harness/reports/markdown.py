"""Markdown: the summary of a job, failures first. Text of a subject stays text in it, whatever it holds."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterator, Sequence

from harness.engine.events import CheckJudged, ScenarioFinished
from harness.reports.standing import counted, standing_lines, standings_of
from harness.reports.tally import HELD, OUTCOMES, Tally, by_area, fails
from harness.reports.text import cause_of, count, for_terminal

ROOM = 500_000
"""Bytes for what is said about failing scenarios: GitHub takes a summary of a step up to 1 MiB."""

_SIDE = 1200
_FINDINGS = 12
_LINES = 200
_MARKUP = re.compile(r"[&<>\\`*_\[\]|~@#:]|www\.", re.IGNORECASE)


def inline(text: str) -> str:
    """Return `text` as one line of Markdown that shows it and means nothing: no markup, no link, no mention."""
    plain = " ".join(for_terminal(text).split())
    return _MARKUP.sub(lambda found: f"{found[0][:-1]}&#{ord(found[0][-1])};", plain)


def block(text: str) -> str:
    """Return `text` as a preformatted block that shows it as it is; long text is cut."""
    shown = for_terminal(text)
    if len(shown) > _SIDE:
        shown = f"{shown[:_SIDE]}... ({len(shown)} characters)"
    return f"<pre>{html.escape(shown, quote=False)}</pre>"


def summary(tally: Tally) -> str:
    """Return the summary of a run: the verdict, what diverges, a table by area."""
    started = tally.started
    name = f"{inline(started.sdk)} {inline(started.version)} against {inline(started.contract)}" if started else ""
    lines = [f"## parity: {name}", "", _verdict(tally), ""]
    lines += _told(tally)
    lines += _failures(tally)
    lines += _baseline(tally)
    lines += _ledger(tally)
    lines += _areas(tally)
    return "\n".join(lines).rstrip() + "\n"


def _verdict(tally: Tally) -> str:
    many = ", ".join(
        f"{number} {outcome.replace('_', '-')}" for outcome in OUTCOMES if (number := tally.totals[outcome])
    )
    sentence = "Everything held" if tally.exit_status == HELD else "Something diverged"
    if tally.interrupted:
        sentence = "Interrupted"
    return f"**{sentence}**: {many or 'nothing judged'}."


def _told(tally: Tally) -> Iterator[str]:
    """Say what was judged, where it is not simply everything, now."""
    if tally.recording is not None:
        taken = tally.recording
        yield f"Recorded on {inline(taken.taken)} by parity {inline(taken.parity)}."
        for names, told in ((taken.stale, "changed since, not judged"), (taken.unplanned, "not recorded, not judged")):
            if names:
                yield f"{count(len(names), 'scenario')} {told}: {', '.join(map(inline, names))}."
        yield ""
    slow = {check.scenario for check in (tally.started.slow if tally.started else ())}
    if slow:
        yield f"{count(len(slow), 'slow scenario')} left out (`--slow` includes them)."
        yield ""


def _failures(tally: Tally) -> Iterator[str]:
    bad: dict[str, list[CheckJudged]] = {}
    for result in tally.in_plan_order():
        if fails(result):
            bad.setdefault(result.scenario, []).append(result)
    if not bad:
        return
    number = sum(map(len, bad.values()))
    yield f"### {count(number, 'check')} in {count(len(bad), 'scenario')}"
    yield ""
    room, left = ROOM, []
    for scenario, results in bad.items():
        section = list(_section(tally, scenario, results))
        room -= sum(len(line.encode("utf-8", "replace")) + 1 for line in section)
        if room < 0:
            left.append(scenario)
        else:
            yield from section
    if left:
        yield f"And {count(len(left), 'scenario')} more: {', '.join(map(inline, left[:200]))}."
        yield ""


def _section(tally: Tally, scenario: str, results: Sequence[CheckJudged]) -> Iterator[str]:
    run = tally.scenarios.get(scenario)
    yield f"<details><summary><b>{inline(scenario)}</b> {count(len(results), 'check')}: {_names(results)}</summary>"
    yield ""
    if run and run.title:
        yield inline(run.title)
        yield ""
    for result in results[:_FINDINGS]:
        yield f"**{inline(result.check)}** {result.outcome.replace('_', '-')}: {inline(result.message[:_SIDE])}"
        yield ""
        if result.expected or result.observed:
            yield from ("Expected", "", block(result.expected or "-"), "", "Observed", "")
            yield from (block(result.observed or "-"), "")
        told = [("Where", result.where), ("Cause", cause_of(result))]
        if where := [f"{name}: {inline(value[:_SIDE])}" for name, value in told if value]:
            yield from ("<br>".join(where), "")
    if len(results) > _FINDINGS:
        yield from (f"And {count(len(results) - _FINDINGS, 'check')} more.", "")
    if note := _note(run):
        yield from (inline(note), "")
    arguments = tally.started.arguments if tally.started else ()
    yield from (block(shlex.join(["parity", "run", *arguments, "-k", scenario])), "", "</details>", "")


def _names(results: Sequence[CheckJudged]) -> str:
    names = ", ".join(inline(result.check) for result in results[:3])
    return f"{names}, ..." if len(results) > 3 else names


def _note(run: ScenarioFinished | None) -> str:
    if run is None:
        return ""
    repeated = f"{run.failed_runs} of {run.runs} runs failed" if run.runs > 1 else ""
    return "; ".join(part for part in (repeated, run.note) if part)


def _baseline(tally: Tally) -> Iterator[str]:
    """Say how the run stands against an earlier report, as the console does."""
    held = tally.baseline
    if held is None:
        return
    standings = standings_of(tally)
    yield from (f"### Against {inline(held.version)}: {counted(standings)}", "")
    told = [*held.apart, *standing_lines(standings)]
    if told:
        yield from (f"<pre>{html.escape(for_terminal(chr(10).join(told[:_LINES])), quote=False)}</pre>", "")
    if len(told) > _LINES:
        yield from (f"And {count(len(told) - _LINES, 'line')} more.", "")


def _ledger(tally: Tally) -> Iterator[str]:
    if tally.unused:
        yield from ("### Ledger entries that excuse nothing", "")
        yield from (f"- {inline(entry.title)}: {inline(entry.reason)}" for entry in tally.unused)
        yield ""


def _areas(tally: Tally) -> Iterator[str]:
    rows = by_area(tally.results)
    if not rows:
        return
    columns = [outcome for outcome in OUTCOMES if outcome == "pass" or tally.totals[outcome]]
    yield f"| area | {' | '.join(outcome.replace('_', '-') for outcome in columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for area in sorted(rows):
        yield f"| {inline(area)} | {' | '.join(str(rows[area][outcome] or '-') for outcome in columns)} |"
