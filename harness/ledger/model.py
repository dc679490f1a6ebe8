"""A ledger and how it turns a verdict into an outcome.

An entry is a promise: this check of this scenario fails, in this way. It is kept when the check fails as listed
(`known`), and broken both when the check passes (`fixed`, so that the entry gets removed) and when it fails in
another way (`fail`, so that a new bug cannot hide behind an old one).
"""

from __future__ import annotations

from msgspec import Struct

from harness.checks.verdict import Outcome, Verdict

ANY = "*"


class Divergence(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One known divergence.

    `scenario` and `check` are ids; one of the two, never both, can be `*`, which claims that every match fails.
    `versions` is a version specifier of the subject (`>=0.18,<0.25`). `contract` is the contract it diverges from;
    "" means the subject's own, so that a run against another contract is not silenced by it. `reason` says what the
    SDK does, `source` which other release, documentation or issue it contradicts. With `message` (a part of it) or
    `cause` (the whole) the entry holds only for a failure that says so.
    """

    scenario: str
    check: str
    versions: str
    reason: str
    source: str
    contract: str = ""
    message: str = ""
    cause: str = ""

    def covers(self, *, scenario: str, check: str) -> bool:
        """Return whether the entry speaks about this check of this scenario."""
        return self.scenario in (ANY, scenario) and self.check in (ANY, check)

    def describes(self, verdict: Verdict) -> bool:
        """Return whether the failing `verdict` fails as listed."""
        return self.message in verdict.message and self.cause in ("", verdict.cause)

    @property
    def title(self) -> str:
        """`scenario:check`, as errors name the entry."""
        return f"{self.scenario}:{self.check}"


class Judged(Struct, frozen=True):
    """A verdict after the ledger: the final outcome and its message."""

    outcome: Outcome
    message: str


class Ledger(Struct, frozen=True):
    """The entries that apply to one run: the subject's version and the contract already matched."""

    entries: tuple[Divergence, ...] = ()

    def settle(self, verdict: Verdict, *, scenario: str, check: str) -> Judged:
        """Return the outcome of a check of a scenario, given its verdict.

        `not_run` stays what it is: an entry excuses a divergence, not a check that could not look.
        """
        listed = [entry for entry in self.entries if entry.covers(scenario=scenario, check=check)]
        if not listed or verdict.outcome == "not_run":
            return Judged(verdict.outcome, verdict.message)
        if verdict.outcome == "pass":
            return Judged("fixed", f"listed as a known divergence, but it holds: {listed[0].reason}")
        for entry in listed:
            if entry.describes(verdict):
                return Judged("known", f"{verdict.message} (known: {entry.reason})")
        wanted = listed[0]
        parts = [
            f"message {wanted.message!r}" if wanted.message else "",
            f"cause {wanted.cause!r}" if wanted.cause else "",
        ]
        listed_as = " and ".join(part for part in parts if part)
        return Judged("fail", f"{verdict.message} (listed in the ledger, but with {listed_as})")
