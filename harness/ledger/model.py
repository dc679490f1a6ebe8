"""A ledger and how it turns a verdict into an outcome.

An entry is a promise: this check of this scenario fails, for this cause. It is kept when the check fails as listed
(`known`), and broken when the check passes (`fixed`, so that the entry gets removed), when it fails for another cause
(`fail`, so that a new bug cannot hide behind an old one), and when its time is over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from msgspec import Meta, Struct

from harness.checks.verdict import Outcome, Verdict

ANY = "*"
_OTHERWISE = " (listed in the ledger, but with "
_ADDED = re.compile(r" \((?:listed in the ledger, but with |listed as failing sometimes|known [a-z-]+: |known until )")
Kind = Literal["bug", "missing-feature", "by-design"]


class Divergence(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One known divergence.

    `scenario` and `check` are ids, or patterns in which `*` stands for any part; a pattern claims that every match
    fails, and `covers` says how many pairs it may match at most. `versions` is a version specifier of the subject
    (`>=0.18,<0.25`). `contract` is the contract it diverges from; "" means the subject's own, so that a run against
    another contract is not silenced by it. `kind` says whether it should be mended. `reason` says what the SDK does,
    `source` how that is known. `cause` is the code the verdict must name, "" that it names none; `message` a part of
    what it must say. From `expires` on the entry excuses nothing. With the rate `sometimes`, for a race, the check may
    also pass. With the outcome `not_run` the entry excuses checks that cannot look, because what they judge never came:
    a consequence of what another entry lists. It claims nothing about a check that can look.
    """

    scenario: str
    check: str
    versions: str
    kind: Kind
    reason: str
    source: str
    contract: str = ""
    cause: str = ""
    message: str = ""
    covers: Annotated[int, Meta(ge=1)] | None = None
    ticket: str = ""
    expires: date | None = None
    rate: Literal["always", "sometimes"] = "always"
    outcome: Literal["fail", "not_run"] = "fail"

    def covers_pair(self, *, scenario: str, check: str) -> bool:
        """Return whether the entry speaks about this check of this scenario."""
        return _matches(self.scenario, scenario) and _matches(self.check, check)

    def describes(self, verdict: Verdict) -> bool:
        """Return whether `verdict` fails, or cannot look, as listed."""
        return (self.outcome, self.cause) == (verdict.outcome, verdict.cause) and self.message in verdict.message

    def expired(self, today: date) -> bool:
        """Return whether the time of the entry is over."""
        return self.expires is not None and today >= self.expires

    @property
    def pattern(self) -> bool:
        """Whether the entry may cover more than one pair."""
        return ANY in self.scenario or ANY in self.check

    @property
    def title(self) -> str:
        """`scenario:check`, as errors name the entry."""
        return f"{self.scenario}:{self.check}"

    @property
    def key(self) -> tuple[str, ...]:
        """What tells the entry from every other one in its file."""
        return (self.scenario, self.check, self.versions, self.contract, self.cause, self.message)


def _matches(pattern: str, name: str) -> bool:
    # Square brackets and question marks are in no id: only the asterisk is a pattern.
    return pattern == name or (ANY in pattern and fnmatchcase(name, pattern))


class Judged(Struct, frozen=True):
    """A verdict after the ledger: the final outcome, its message, and the entry that it is `known` by."""

    outcome: Outcome
    message: str
    entry: Divergence | None = None


class Account(Struct, frozen=True):
    """What one entry was good for in a run.

    `known` is how many of its pairs failed as listed, `passed` how many passed. `unused`: it covers pairs that were
    planned, and neither excused one nor was contradicted by one, so that it says nothing any more. `entry` is a digest
    of what tells the entry from all others, so that the accounts of parts of a run can be added up.
    """

    title: str
    kind: Kind
    reason: str
    ticket: str
    rate: str
    known: int
    passed: int
    unused: bool
    entry: str = ""


class Ledger(Struct, frozen=True):
    """The entries that apply to one run: the subject's version and the contract already matched.

    `own` are those of the user's ledger; where they speak about a pair, those of the shipped one are not asked.
    `today` is the day that entries expire by.
    """

    entries: tuple[Divergence, ...] = ()
    own: tuple[Divergence, ...] = ()
    today: date = date.min

    def about(self, *, scenario: str, check: str) -> tuple[Divergence, ...]:
        """Return the entries that speak about a check of a scenario."""
        for layer in (self.own, self.entries):
            if found := tuple(entry for entry in layer if entry.covers_pair(scenario=scenario, check=check)):
                return found
        return ()

    def settle(self, verdict: Verdict, *, scenario: str, check: str) -> Judged:
        """Return the outcome of a check of a scenario, given its verdict.

        `not_run` stays what it is, unless an entry of that outcome speaks about it: one that excuses a divergence does
        not excuse a check that could not look.
        """
        about = self.about(scenario=scenario, check=check)
        listed = [entry for entry in about if entry.outcome == "fail"]
        if verdict.outcome == "not_run":
            excused = (entry for entry in about if entry.describes(verdict) and not entry.expired(self.today))
            entry = next(excused, None)
            return Judged("not_run", verdict.message) if entry is None else _known(verdict, entry)
        if not listed:
            return Judged(verdict.outcome, verdict.message)
        if verdict.outcome == "pass":
            always = [entry for entry in listed if entry.rate == "always"]
            if always:
                return Judged("fixed", f"listed as a known divergence, but it holds: {always[0].reason}")
            return Judged("pass", f"{verdict.message} (listed as failing sometimes)")
        described = [entry for entry in listed if entry.describes(verdict)]
        for entry in described:
            if not entry.expired(self.today):
                return _known(verdict, entry)
        if described:
            return Judged("fail", f"{verdict.message} (known until {described[0].expires}, which is over)")
        ways = " or ".join(dict.fromkeys(_way(entry) for entry in listed))
        return Judged("fail", f"{verdict.message}{_OTHERWISE}{ways})")

    def account(self, outcomes: Mapping[tuple[str, str], tuple[Outcome, str]]) -> tuple[Account, ...]:
        """Return what each entry was good for that covers planned pairs.

        `outcomes` has, by scenario and check, the final outcome and the cause of every planned pair.
        """
        mine: dict[Divergence, list[tuple[Outcome, str]]] = {}
        for (scenario, check), told in outcomes.items():
            for entry in self.about(scenario=scenario, check=check):
                mine.setdefault(entry, []).append(told)
        return tuple(_account(entry, told) for entry, told in mine.items())


def _known(verdict: Verdict, entry: Divergence) -> Judged:
    return Judged("known", f"{verdict.message} (known {entry.kind}: {entry.reason})", entry)


def _account(entry: Divergence, told: Sequence[tuple[Outcome, str]]) -> Account:
    known = sum(outcome == "known" and cause == entry.cause for outcome, cause in told)
    passed = sum(outcome in {"pass", "fixed"} for outcome, _ in told)
    contradicted = any(outcome in {"fail", "fixed", "error", "not_run"} for outcome, _ in told)
    # A race may end in several ways, each with an entry: one of them is seen in a run.
    raced = entry.rate == "sometimes" and any(outcome in {"known", "pass"} for outcome, _ in told)
    unused = not known and not contradicted and not raced
    return Account(
        entry.title, entry.kind, entry.reason, entry.ticket, entry.rate, known, passed, unused, entry=_digest(entry)
    )


def _digest(entry: Divergence) -> str:
    told = "\0".join((*entry.key, entry.outcome, entry.rate, str(entry.expires)))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def unlisted(message: str) -> str:
    """Return what the verdict of a failure said, without what the ledger had to add."""
    return _ADDED.split(message, maxsplit=1)[0]


def _way(entry: Divergence) -> str:
    cause = f"cause {entry.cause!r}" if entry.cause else "no cause"
    return f"{cause} and message {entry.message!r}" if entry.message else cause


def pairs(entry: Divergence, scenarios: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Return the pairs of scenario and check of a suite that an entry covers."""
    return [
        (scenario, check)
        for scenario, checks in scenarios.items()
        for check in checks
        if entry.covers_pair(scenario=scenario, check=check)
    ]
