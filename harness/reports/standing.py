"""How checks stand against an earlier report, as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import get_args

from msgspec import Struct

from harness.engine.events import Label
from harness.reports.tally import Tally
from harness.reports.text import for_terminal

LABELS: tuple[Label, ...] = get_args(Label)
ONE_BY_ONE = frozenset({"new", "changed"})
"""Labels of which every check is shown with what it says."""

_WIDTH = 100
_COLUMN = 16
_MOST = 40
"""So many scenarios at most are named under one label: the JSON has them all."""


class Standing(Struct, frozen=True):
    """One check, its label and the label's reason, and what the check says now."""

    label: Label
    scenario: str
    check: str
    said: str = ""
    message: str = ""


def standings_of(tally: Tally) -> list[Standing]:
    """Return how the checks of a run stand against its baseline; empty without one."""
    said = {(result.scenario, result.check): result.message for result in tally.results}
    labels = tally.baseline.labels if tally.baseline else ()
    return [
        Standing(each.label, each.scenario, each.check, each.said, said[each.scenario, each.check]) for each in labels
    ]


def standing_lines(standings: Sequence[Standing]) -> list[str]:
    """Return what there is to read.

    New and changed checks come one by one, mended ones and those new in the suite by scenario, those that are not
    comparable by reason. Known ones are only counted.
    """
    lines: list[str] = []
    for label in LABELS:
        mine = [each for each in standings if each.label == label]
        if label in ONE_BY_ONE:
            for each in mine:
                lines += _one(each)
        elif label == "not-comparable":
            lines += _by_reason(mine)
        elif label != "known":
            lines += _by_scenario(label, mine)
    return lines


def counted(standings: Sequence[Standing]) -> str:
    """Return how many checks have each label, labels that none has left out."""
    counts = [(label, sum(each.label == label for each in standings)) for label in LABELS]
    return ", ".join(f"{number} {label}" for label, number in counts if number) or "nothing is different"


def _by_scenario(label: Label, mine: Sequence[Standing]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for each in mine:
        groups.setdefault(each.scenario, []).append(each.check)
    lines = [line for name, checks in list(groups.items())[:_MOST] for line in _folded(label, _named(name, checks))]
    return [*lines, f"{'':{_COLUMN}}... and {len(groups) - _MOST} scenarios more"] if len(groups) > _MOST else lines


def _named(scenario: str, checks: Sequence[str]) -> str:
    return f"{scenario}  {', '.join(checks)}"


def _by_reason(mine: Sequence[Standing]) -> list[str]:
    groups: dict[str, list[Standing]] = {}
    for each in mine:
        groups.setdefault(each.said, []).append(each)
    lines: list[str] = []
    for said, those in groups.items():
        scenarios = list(dict.fromkeys(each.scenario for each in those))
        lines += _folded("not-comparable", f"{len(those)} of {', '.join(scenarios)}: {said}", said)
    return lines


def _one(each: Standing) -> list[str]:
    first = for_terminal(each.message).partition("\n")[0]
    lines = _folded(each.label, f"{each.scenario}  {each.check}  {first}")
    if each.said:
        lines += [f"{'':{_COLUMN}}{part}" for part in textwrap.wrap(each.said, _WIDTH - _COLUMN)]
    return lines


def _folded(label: str, text: str, said: str = "") -> list[str]:
    """Return a text beside its label, in a few lines; `said` is kept at its end where the text has to be cut."""
    safe, end = for_terminal(text), f" ...: {for_terminal(said)}" if said else " ..."
    end = end if len(end) < _WIDTH - _COLUMN else " ..."
    parts = textwrap.wrap(safe, _WIDTH - _COLUMN, break_on_hyphens=False, max_lines=4, placeholder=end)
    return [f"{label if at == 0 else '':<{_COLUMN}}{part}" for at, part in enumerate(parts)]
