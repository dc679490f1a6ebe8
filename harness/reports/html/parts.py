"""What a page can do without, the most telling first, and how much of it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Literal, NamedTuple

from harness.checks.verdict import Outcome
from harness.engine.events import CheckJudged
from harness.reports.html.block import folded
from harness.reports.tally import Tally, fails

Kind = Literal["title", "unused", "message", "sides", "note", "picture"]

_WORST: tuple[Outcome, ...] = ("fail", "error", "fixed", "not_run", "known", "unsupported", "pass")


class Part(NamedTuple):
    """A title, note or picture of scenario `of`, message or sides of its `check`, or the unused ledger entry `of`."""

    kind: Kind
    of: str
    check: str = ""


def rank(results: Iterable[CheckJudged]) -> int:
    """Return how bad the worst of the results is: 0 where one fails the run."""
    return min(0 if result.required else _WORST.index(result.outcome) for result in results)


def by_weight(tally: Tally, results: Mapping[str, Sequence[CheckJudged]]) -> list[Part]:
    """Return all parts, in the order in which they are kept.

    Titles, messages of what fails, what else was said of it, then of what does not fail; pictures, those of scenarios
    that hold last. Among equals areas take turns, so that none has everything and another nothing.
    """
    order = _spread(results)
    found = [result for result in _in_turns([results[name] for name in order]) if result.outcome != "pass"]
    bad, other = [each for each in found if fails(each)], [each for each in found if not fails(each)]
    return [
        *(Part("title", name) for name in order if name in tally.scenarios),
        *(Part("unused", str(number)) for number in range(len(tally.unused))),
        *(Part("message", each.scenario, each.check) for each in bad),
        *(Part("sides", each.scenario, each.check) for each in bad if has_sides(each)),
        *(Part("message", each.scenario, each.check) for each in other),
        *(Part("sides", each.scenario, each.check) for each in other if has_sides(each)),
        *(Part("note", name) for name in order if name in tally.scenarios and _noted(tally, name)),
        *(Part("picture", name) for name in order if name in tally.pictures),
    ]


def has_sides(result: CheckJudged) -> bool:
    """Return whether more than a message was said."""
    return bool(result.expected or result.observed or result.where or result.detail)


def fitting(parts: Sequence[Part], build: Callable[[frozenset[Part]], Any], *, room: int) -> str:
    """Return the block of what is built of all parts, or of as many of the first ones as fit in `room` bytes."""
    block = folded(build(frozenset(parts)))
    if len(block) <= room:
        return block
    enough, too_many = 0, len(parts)
    block = folded(build(frozenset()))
    while too_many - enough > 1:
        middle = (enough + too_many) // 2
        tried = folded(build(frozenset(parts[:middle])))
        if len(tried) <= room:
            enough, block = middle, tried
        else:
            too_many = middle
    return block


def _spread(results: Mapping[str, Sequence[CheckJudged]]) -> list[str]:
    """Return the scenarios, the worst first; of those that are as bad the first of each area, then the second ones."""
    turns: dict[tuple[int, str], count[int]] = {}
    keys = {}
    for name in sorted(results):
        worst, area = rank(results[name]), name.partition("/")[0]
        keys[name] = (worst, next(turns.setdefault((worst, area), count())), area)
    return sorted(results, key=lambda name: keys[name])


def _in_turns(rows: Sequence[Sequence[CheckJudged]]) -> list[CheckJudged]:
    """Return the first of every row, then the second ones."""
    longest = max(map(len, rows), default=0)
    return [row[place] for place in range(longest) for row in rows if place < len(row)]


def _noted(tally: Tally, name: str) -> bool:
    run = tally.scenarios[name]
    return bool(run.note or run.around)
