"""Revisions of the suite: which scenarios and checks were released together, never to change again.

A revision is a file `fixtures/revisions/N.json`, written once by `parity suite release`. It has what it adds: new
scenarios, each with the digest of its stimulus and its checks, and new checks of scenarios that were released before.
The suite of revision N is all that revisions 1 to N have.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec

from harness.errors import ParityError
from harness.suite.loader import Suite
from harness.suite.scenario import Judgement, Scenario

SCHEMA = 1
_ASKED = re.compile(r"(?P<check>\S+)(?: from (?P<since>\S+))?(?: until (?P<until>\S+))?")

Scored = Callable[[str, str], bool]
"""Says whether a check (second) of a scenario (first) is scored."""


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a revision has of one scenario: the digest of its stimulus, and the checks that it adds.

    A check of a range of releases says so: `error.kind until 0.15.0`, `weights.values from 0.38.0`.
    """

    stimulus: str
    checks: tuple[str, ...]


class Revision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One revision: its number, the day it was released (ISO 8601), the digest of the file before it, what it adds."""

    schema: int
    revision: int
    released: str
    before: str
    scenarios: dict[str, Frozen]


@dataclass(frozen=True, slots=True)
class Released:
    """Everything that is released up to a revision: stimuli and asked checks by scenario, with their revision."""

    stimuli: Mapping[str, tuple[str, int]]
    checks: Mapping[str, Mapping[str, int]]

    def scored(self, release: str, described: Sequence[str]) -> Scored:
        """Return what says whether a check of a scenario belongs to it at one of the described releases."""
        here = {
            scenario: frozenset(_check(asked) for asked in checks if release in _releases(asked, described))
            for scenario, checks in self.checks.items()
        }
        return lambda scenario, check: check in here.get(scenario, frozenset())


def read_revisions(folder: Path, *, newest: int, upto: int | None = None) -> Released:
    """Return what revisions 1 to `upto` (None: `newest`) in a folder have released; files up to `newest` are read.

    Raises ParityError `revisions-malformed` where a file is missing, is none, or is not the one its successor names,
    and `revision-unknown` where there is no revision `upto`.
    """
    if upto is not None and not 1 <= upto <= newest:
        raise ParityError(
            "revision-unknown",
            f"there is no revision {upto} of the suite",
            hint=f"revisions 1 to {newest} are released" if newest else "none is released yet; leave --suite out",
        )
    stimuli: dict[str, tuple[str, int]] = {}
    checks: dict[str, dict[str, int]] = {}
    before = ""
    for number in range(1, newest + 1):
        path = folder / f"{number}.json"
        revision, digest = _read(path)
        if revision.revision != number:
            _malformed(path, f"it says it is revision {revision.revision}")
        if revision.before != before:
            _malformed(path, f"the revision before it is not the one it was released after: {number - 1} has changed")
        before = digest
        if upto is not None and number > upto:
            continue
        for scenario, frozen in revision.scenarios.items():
            known = stimuli.setdefault(scenario, (frozen.stimulus, number))
            if known[0] != frozen.stimulus:
                _malformed(path, f"{scenario} has another stimulus than in revision {known[1]}")
            for asked in frozen.checks:
                if not _ASKED.fullmatch(asked):
                    _malformed(path, f"{scenario}: {asked!r} is no check with a range of releases")
                checks.setdefault(scenario, {}).setdefault(asked, number)
    return Released(stimuli, checks)


def moved(released: Released, suite: Suite, described: Sequence[str]) -> list[str]:
    """Return what is no longer as it was released: a sentence each, which says what to do."""
    sentences = []
    for scenario_id, (stimulus, number) in released.stimuli.items():
        scenario = None if scenario_id in suite.own else suite.scenarios.get(scenario_id)
        was = f"{scenario_id} was released in revision {number}"
        if scenario is None:
            sentences.append(f"{was} and is gone: bring it back, a released scenario stays")
            continue
        if suite.digest(scenario) != stimulus:
            sentences.append(
                f"{was} and its stimulus has changed: undo the change, and give the new stimulus a scenario of its own"
            )
        now = _coverage(asked_checks(scenario), described)
        for asked, since in released.checks.get(scenario_id, {}).items():
            if lost := _releases(asked, described) - now.get(_check(asked), frozenset()):
                sentences.append(
                    f"{scenario_id}:{_check(asked)} was released in revision {since} and is not asked for any more "
                    f"(at {', '.join(sorted(lost, key=described.index))}): ask for it again, a released check stays"
                )
    return sentences


def asked_checks(scenario: Scenario) -> tuple[str, ...]:
    """Return the checks of a scenario as a revision writes them, ranges of releases included."""
    judge: Judgement = scenario.judge
    ranged = []
    for also in judge.also:
        since = f" from {also.since}" if also.since else ""
        until = f" until {also.until}" if also.until else ""
        ranged += [f"{check}{since}{until}" for check in also.checks]
    return (*judge.checks, *ranged)


def next_revision(folder: Path, suite: Suite, described: Sequence[str], *, newest: int, today: str) -> Revision:
    """Return the revision after `newest`, with what is in the suite and in no revision yet; the user's own is left out.

    Raises ParityError `revision-moved` where what was released has changed, `revision-empty` where there is nothing
    to release, and what `read_revisions` raises.
    """
    released = read_revisions(folder, newest=newest)
    if sentences := moved(released, suite, described):
        raise moved_error(sentences)
    added: dict[str, Frozen] = {}
    for scenario_id, scenario in suite.scenarios.items():
        if scenario_id in suite.own:
            continue
        before = _coverage(released.checks.get(scenario_id, ()), described)
        fresh = tuple(
            asked
            for asked in asked_checks(scenario)
            if _releases(asked, described) - before.get(_check(asked), frozenset())
        )
        if fresh or scenario_id not in released.stimuli:
            added[scenario_id] = Frozen(suite.digest(scenario), fresh)
    if not added:
        raise ParityError(
            "revision-empty",
            f"revision {newest} has every scenario and check of the suite",
            hint="there is something to release when a scenario or a check is new",
        )
    return Revision(
        schema=SCHEMA,
        revision=newest + 1,
        released=today,
        before=_read(folder / f"{newest}.json")[1] if newest else "",
        scenarios=added,
    )


def written(revision: Revision) -> bytes:
    """Return the file of a revision: one line for each scenario, so that a diff shows which."""
    lines = [
        f'"{name}": {value}'
        for name, value in (
            ("schema", revision.schema),
            ("revision", revision.revision),
            ("released", json.dumps(revision.released)),
            ("before", json.dumps(revision.before)),
        )
    ]
    scenarios = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(msgspec.to_builtins(frozen))}"
        for name, frozen in sorted(revision.scenarios.items())
    )
    return ("{\n" + ",\n".join([*lines, f'"scenarios": {{\n{scenarios}\n}}']) + "\n}\n").encode()


def moved_error(sentences: Sequence[str]) -> ParityError:
    """Return the error that says what is no longer as it was released."""
    more = f", and {len(sentences) - 1} more like it" if len(sentences) > 1 else ""
    return ParityError(
        "revision-moved", f"{sentences[0]}{more}", hint="`parity suite verify` names all of them; see docs/gate.md"
    )


def _read(path: Path) -> tuple[Revision, str]:
    try:
        content = path.read_bytes()
        revision = msgspec.json.decode(content, type=Revision)
    except (OSError, msgspec.MsgspecError) as error:
        _malformed(path, str(error))
    if revision.schema != SCHEMA:
        _malformed(path, f"its schema is {revision.schema}, this parity reads {SCHEMA}")
    return revision, hashlib.sha256(content).hexdigest()


def _malformed(path: Path, why: str) -> NoReturn:
    raise ParityError(
        "revisions-malformed",
        f"{path.name}: {why}",
        hint="files in fixtures/revisions are written by `parity suite release` and never edited: take the one back "
        "that was committed",
    )


def _check(asked: str) -> str:
    return asked.partition(" ")[0]


def _releases(asked: str, described: Sequence[str]) -> frozenset[str]:
    """Return the described releases that a check is asked for at."""
    told = _ASKED.fullmatch(asked)
    assert told is not None
    first = described.index(told["since"]) if told["since"] in described else 0
    last = described.index(told["until"]) if told["until"] in described else len(described) - 1
    return frozenset(described[first : last + 1])


def _coverage(asked: Sequence[str] | Mapping[str, int], described: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the releases that each check is asked for at, all ranges together."""
    covered: dict[str, frozenset[str]] = {}
    for each in asked:
        covered[_check(each)] = covered.get(_check(each), frozenset()) | _releases(each, described)
    return covered
