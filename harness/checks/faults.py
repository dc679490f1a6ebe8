"""Whether the faults of a scenario were met at all: a run that never met them proves nothing about them."""

from __future__ import annotations

from harness.checks.causes import certain
from harness.checks.outcome import count, failed, nothing, passed
from harness.checks.verdict import Case, Check, Verdict


def consumed(case: Case) -> Verdict:
    """Judge that every instruction of the fault script was played as often as golden's run met it."""
    wanted, seen = case.golden.faults, case.observed.faults
    if not any(instruction.played for instruction in wanted):
        return nothing("golden meets no fault" if wanted else "golden's server has no fault script")
    if len(wanted) != len(seen) or not (case.observed.control or case.observed.requests):
        return nothing("no request was seen")
    for number, (golden, observed) in enumerate(zip(wanted, seen, strict=True), start=1):
        if observed.played >= golden.played:
            continue
        met = f"it counted {count(observed.seen, 'request')}" if observed.seen else "no such request was sent"
        return failed(
            f"fault {number} ({golden.kind} on {golden.route}) was not consumed: {met}",
            expected=f"played {count(golden.played, 'time')}",
            observed=f"played {count(observed.played, 'time')}",
            where=f"fault {number}",
            cause=certain("fault-not-met", met),
        )
    met_count = sum(instruction.played > 0 for instruction in wanted)
    return passed(f"{count(met_count, 'fault')} met as often as in golden")


CHECKS = (Check("faults.consumed", "Every fault of the script is met as often as in golden.", consumed),)
