"""The state of an SDK against its contract on one page: `python -m harness.reports.state_page report.json LEDGER`.

The page is written to stdout from a JSON report and the ledger it was judged with, which says where in the SDK each
divergence comes from. Divergences are grouped by the reason that the ledger gives, or else by check and cause, and
ordered by how much harm the worst check of the group can do to a training run.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.checks.causes import CAUSES
from harness.reports.document import Document, Result

HARM: tuple[tuple[str, frozenset[str]], ...] = (
    ("Trains another model than the contract", frozenset({"training"})),
    ("Asks the server for another training", frozenset({"weights", "plain", "order.phases", "chunks.complete"})),
    ("Stops the run, or waits where nothing comes", frozenset({"gaps", "result.hang", "wire.accepted"})),
    ("Goes on where the contract raises, or raises where it goes on", frozenset({"result.status", "error.sent"})),
    (
        "Makes a failure hard to understand or to come through",
        frozenset({"error", "faults", "heartbeat", "poll", "regularizers.error", "retry"}),
    ),
    ("Cuts or orders requests otherwise", frozenset({"chunks", "order", "forward"})),
    ("Shows in what the caller gets", frozenset({"metrics", "loss", "regularizers", "result"})),
    ("Shows on the wire only", frozenset({"wire", "session"})),
)
"""Classes of harm, worst first: a title, and the checks or whole families whose failing belongs there."""

DIVERGING = frozenset({"known", "fail", "error"})
_REASON = re.compile(r" \(known(?: (?P<kind>[a-z-]+))?: (?P<reason>.*)\)$", re.DOTALL)
_SHOWN = 4

TENSORS = ("nx", "torch")
"""Libraries worth naming on the page, where they are among the subject's."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Results that differ for one reason, the most telling first. `kind` is the ledger's; "" where it has none."""

    reason: str
    listed: bool
    kind: str
    results: tuple[Result, ...]

    @property
    def harm(self) -> int:
        """The worst class of harm of its checks, 0 being the worst."""
        return min(harm_of(result.check) for result in self.results)


def differs(result: Result) -> bool:
    """Return whether something was seen that differs. A check that could not look has nothing to show."""
    return result.outcome in DIVERGING and bool(result.expected or result.observed or result.where)


def harm_of(check: str) -> int:
    """Return the class of harm a check belongs to: its own, else its family's; the last where none is named."""
    for name in (check, check.partition(".")[0]):
        for index, (_, members) in enumerate(HARM):
            if name in members:
                return index
    return len(HARM) - 1


def divergences(results: Sequence[Result]) -> list[Divergence]:
    """Group what differs by reason, the most harmful first, and of equal harm the one with most checks."""
    groups: dict[tuple[bool, str, str], list[Result]] = defaultdict(list)
    for result in results:
        if differs(result):
            told = _REASON.search(result.message)
            kind = (told["kind"] or "") if told else ""
            reason = told["reason"] if told else f"`{result.check}`{_title(result)}"
            groups[told is not None, kind, reason].append(result)
    found = [
        Divergence(reason, listed, kind, tuple(sorted(group, key=lambda r: harm_of(r.check))))
        for (listed, kind, reason), group in groups.items()
    ]
    return sorted(found, key=lambda d: (d.harm, -len(d.results), d.reason))


def sources_of(ledger: str) -> dict[str, list[str]]:
    """Return the sources that a ledger's text names for each of its reasons, in its order."""
    sources: dict[str, list[str]] = defaultdict(list)
    for entry in tomllib.loads(ledger).get("divergence", []):
        if entry["source"] not in sources[entry["reason"]]:
            sources[entry["reason"]].append(entry["source"])
    return sources


def _taken(report: Document) -> str:
    """Say when what is judged was observed: the time a recorded run was judged in is nobody's run."""
    if report.recording is not None:
        return f"One run, recorded on {report.recording.taken}."
    return f"One run of {report.seconds:.0f} s."


def render(report: Document, sources: Mapping[str, Sequence[str]]) -> str:
    """Return the page. `sources` are the ledger's for each reason."""
    name = f"{report.sdk.name} {report.sdk.version}"
    counted = ", ".join(f"{number} {outcome.replace('_', '-')}" for outcome, number in report.totals.items() if number)
    libraries = "".join(f", {one} {report.sdk.libraries[one]}" for one in TENSORS if one in report.sdk.libraries)
    amount = f"{len(report.scenarios)} scenarios, {len(report.results)} checks, {counted}"
    lines = [
        f"# {name} against {report.contract}",
        "",
        "<!-- Written by python -m harness.reports.state_page from the JSON report of a run and the ledger. -->",
        "",
        f"{report.sdk.runtime}{libraries}: {amount}. {_taken(report)}",
        "",
        f"    parity run --sdk {report.sdk.name} --sdk-path DIR --json report.json",
        f"    python -m harness.reports.state_page report.json fixtures/ledgers/{report.sdk.name}.toml",
        "",
        "## What agrees",
        "",
        *_agreement(report),
        "",
        "## What differs",
        "",
        "The most harmful to a training run first. `DIR` is a compiled checkout. The console only counts what the",
        "ledger lists; `again.json` has what was expected and observed.",
    ]
    harm = -1
    for number, divergence in enumerate(divergences(report.results), start=1):
        if divergence.harm != harm:
            harm = divergence.harm
            lines += ["", f"### {HARM[harm][0]}"]
        lines += ["", *_section(number, divergence, sdk=report.sdk.name, sources=sources)]
    unlooked = [result for result in report.results if result.outcome != "pass" and not differs(result)]
    if unlooked:
        lines += ["", "## What could not be looked at", "", *_unlooked(unlooked)]
    return "\n".join(lines) + "\n"


def _agreement(report: Document) -> list[str]:
    by_check: dict[str, list[Result]] = defaultdict(list)
    for result in report.results:
        by_check[result.check].append(result)
    part = {check: found for check, found in by_check.items() if any(map(differs, found))}
    whole = [check for check in by_check if check not in part and any(r.outcome == "pass" for r in by_check[check])]
    lines = [
        f"{len(whole)} checks hold wherever they apply: {', '.join(f'`{check}`' for check in sorted(whole))}.",
        "",
        "| check | holds in | differs in |",
        "|---|---|---|",
    ]
    for check in sorted(part):
        holds = sum(result.outcome == "pass" for result in part[check])
        lines.append(f"| `{check}` | {holds} | {sum(map(differs, part[check]))} |")
    return lines + _awaited(report)


def _awaited(report: Document) -> list[str]:
    """Say how the scenarios train in which each call is awaited before the next is made."""
    trained = [r for r in report.results if r.scenario.endswith("-awaited") and r.check.startswith("training.")]
    if not trained:
        return []
    right = sum(result.outcome == "pass" for result in trained)
    amount = f"{right} of {len(trained)} `training.*` checks in {len({r.scenario for r in trained})} scenarios"
    return ["", f"With each call awaited before the next is made (`*-awaited`), {amount} pass."]


def _section(number: int, divergence: Divergence, *, sdk: str, sources: Mapping[str, Sequence[str]]) -> list[str]:
    worst = divergence.results[0]
    scenarios: dict[str, list[str]] = defaultdict(list)
    for result in divergence.results:
        scenarios[result.check].append(result.scenario)
    checks: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for check, found in scenarios.items():
        checks[tuple(found)].append(check)
    where = f", {worst.where}" if worst.where else ""
    lines = [f"#### {number}. {_sentence(divergence.reason)}", ""]
    if not divergence.listed:
        lines += ["In no ledger.", ""]
    elif divergence.kind:
        lines += [f"Listed as {divergence.kind}.", ""]
    lines += [f"- Red: {'; '.join(f'{_codes(names)} in {_some(found)}' for found, names in checks.items())}"]
    causes = list(dict.fromkeys(result.cause for result in divergence.results if result.cause in CAUSES))
    if causes:
        also = f" Also {_codes(causes[1:])}." if causes[1:] else ""
        lines.append(f"- Cause: {CAUSES[causes[0]].title} (`{causes[0]}`). {CAUSES[causes[0]].look}{also}")
    if divergence.listed and sources.get(divergence.reason):
        lines.append(f"- Source: {'; '.join(sources[divergence.reason])}.")
    # The whole scenario: of an entry about all its checks, one check alone may find nothing to excuse.
    lines += [
        f"- Seen in `{worst.scenario}`{where}: {_REASON.sub('', worst.message)}.",
        f"  Expected {_quoted(worst.expected)}, observed {_quoted(worst.observed)}.",
        f"- Again: `parity run --sdk {sdk} --sdk-path DIR -k {worst.scenario} --json again.json`",
    ]
    return lines


def _unlooked(results: Sequence[Result]) -> list[str]:
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        told = _REASON.search(result.message)
        groups[f"because of another divergence: {told['reason']}" if told else result.message].append(result)
    lines = []
    for message, group in groups.items():
        lines.append(f"- {len(group)} checks of {_some(list(dict.fromkeys(r.scenario for r in group)))}, {message}")
    return lines


def _codes(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _title(result: Result) -> str:
    return f": {CAUSES[result.cause].title}" if result.cause in CAUSES else ""


def _some(scenarios: Sequence[str]) -> str:
    shown = ", ".join(f"`{scenario}`" for scenario in scenarios[:_SHOWN])
    more = len(scenarios) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _quoted(text: str) -> str:
    return f"`{' '.join(text.replace('`', chr(39)).split())}`" if text else "nothing"


def main(arguments: Sequence[str]) -> None:
    """Write the page of a report, judged with a ledger, to stdout: the two files, in this order."""
    report, ledger = arguments
    document = msgspec.json.decode(Path(report).read_bytes(), type=Document)
    sys.stdout.write(render(document, sources_of(Path(ledger).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main(sys.argv[1:])
