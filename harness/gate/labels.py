"""How each check stands against an earlier report.

Of the subject a result says one of four things: the check `holds` (also where the ledger says it should not), it
`diverges` (also where the ledger excuses that), it could not be `judged` although it was planned, or the subject does
not offer what it is about. What the ledger decided is left to the ledger; the cause tells one divergence from another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from harness.checks.verdict import Outcome
from harness.engine.events import CheckJudged, Label, Labelled
from harness.ledger.model import unlisted
from harness.reports.document import Document, Result

_NUMBER = re.compile(r"[-+]?\d+(?:[.,:]\d+)*(?:e[-+]?\d+)?")

_DIVERGES = "diverges: "

Pair = tuple[str, str]
"""A scenario and a check of it."""


class Stand(Struct, frozen=True):
    """What one report says about one check: the outcome, whether that is required, and what it failed of."""

    outcome: Outcome
    required: bool = False
    of: str = ""

    @property
    def holds(self) -> bool:
        """Whether the subject does what golden does, whatever its ledger says."""
        return self.outcome in {"pass", "fixed"}

    @property
    def fails(self) -> bool:
        """Whether the subject was found wrong, or could not be judged where it should have been."""
        return self.outcome in {"fail", "known", "error", "not_run"} or self.required


def stand(result: Result | CheckJudged, *, required: bool = False) -> Stand:
    """Return what a result says. What it failed of is its cause, or else its message without the numbers in it."""
    said = unlisted(result.message).partition("\n")[0]
    of = result.cause or _NUMBER.sub("#", said)
    kind = _DIVERGES if result.outcome in {"fail", "known"} else f"{result.outcome}: "
    return Stand(result.outcome, required, f"{kind}{of}")


def label(
    old: Stand | None, new: Stand, *, why_absent: str = "", changed_stimulus: bool = False
) -> tuple[Label | None, str]:
    """Return how a check stands, and the reason where that says more; None where nothing is worth saying.

    `old` is None where the earlier report has no such check: `why_absent` is "" where the suite did not have it then,
    or else the reason. The rules, in order:

    - without an earlier result it is `new-in-suite`, or `not-comparable` where it was only left out
    - with another stimulus it is `not-comparable`
    - what holds is `fixed` where it did not hold before
    - what the ledger lists is `known`, whatever was before: the ledger decides
    - what fails is `new` where it did not fail before, `known` where it failed of the same, else `changed`
    - what the subject no longer offers is `not-comparable` where it was judged before
    """
    if old is None:
        return ("not-comparable", why_absent) if why_absent else ("new-in-suite", "")
    if changed_stimulus:
        return "not-comparable", "its stimulus has changed since"
    if new.holds:
        return (None, "") if old.holds else ("fixed", "")
    if new.outcome == "known":
        return "known", "" if old.fails else "listed since"
    if new.fails:
        if not old.fails:
            return "new", ""
        return ("known", "") if old.of == new.of else ("changed", f"it was {old.of.removeprefix(_DIVERGES)}")
    return (None, "") if not old.holds and not old.fails else ("not-comparable", "not offered any more")


class Earlier:
    """An earlier report, ready to be asked about single checks."""

    def __init__(self, document: Document, digest: str) -> None:
        self.document = document
        self.digest = digest
        required = {(remark.scenario, remark.check) for remark in document.remarks if remark.required}
        self.stands: Mapping[Pair, Stand] = {
            (result.scenario, result.check): stand(result, required=(result.scenario, result.check) in required)
            for result in document.results
        }
        self._stimuli = {run.scenario: run.stimulus for run in document.scenarios}
        self._slow = {(left.scenario, check) for left in document.left_out for check in left.ids}
        self._stale = set(document.recording.stale) | set(document.recording.unplanned) if document.recording else set()

    def labelled(self, pair: Pair, new: Stand, *, stimulus: str, selection: str = "") -> Labelled | None:
        """Return how a check stands against this report; None where nothing is worth saying.

        `stimulus` is the digest that the check's scenario has now, `selection` the expression of `-k` now.
        """
        before = self._stimuli.get(pair[0], stimulus)
        found, said = label(
            self.stands.get(pair),
            new,
            why_absent=self._why_absent(pair, selection),
            changed_stimulus=before != stimulus,
        )
        return None if found is None else Labelled(*pair, found, said)

    def _why_absent(self, pair: Pair, selection: str) -> str:
        if pair in self._slow:
            return "slow, and left out then"
        if pair[0] in self._stale:
            return "not in the recording that was judged then"
        if self.document.run.selection not in ("", selection):
            return f"not selected then (-k {self.document.run.selection!r})"
        return ""


def apart(
    old: Document, *, version: str, parity: str, revision: int, runtime: str, dependencies: Mapping[str, str]
) -> tuple[str, ...]:
    """Return what else is different between an earlier report and now, one sentence each."""
    sides = (
        ("version", old.sdk.version, version),
        ("parity", old.run.parity, parity),
        ("suite revision", str(old.run.revision), str(revision)),
        ("runtime", old.sdk.runtime, runtime),
    )
    told = [f"{name}: {before or 'unknown'}, now {now or 'unknown'}" for name, before, now in sides if before != now]
    if old.sdk.dependencies and dependencies:
        for name in sorted((old.sdk.dependencies.keys() | dependencies.keys()) - {old.sdk.name}):
            before, now = old.sdk.dependencies.get(name, "none"), dependencies.get(name, "none")
            if before != now:
                told.append(f"{name}: {before}, now {now}")
    return tuple(told)
