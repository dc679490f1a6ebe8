"""Holes that stopped the server: operations held because an id before them never came."""

from __future__ import annotations

from harness.checks.causes import likely
from harness.checks.outcome import count, failed, listed, nothing, passed
from harness.checks.verdict import Case, Check, Verdict


def none(case: Case) -> Verdict:
    """Judge that the server declared no gap, but for those that golden leaves when a request is refused for good."""
    known = {(gap.model_id, missing) for gap in case.golden.gaps for missing in gap.missing}
    gaps = [gap for gap in case.observed.gaps if any((gap.model_id, seq) not in known for seq in gap.missing)]
    if gaps:
        gap = gaps[0]
        return failed(
            f"{count(len(gap.held), 'operation')} waited for ids that never came",
            expected="every id up to the highest",
            observed=f"missing {listed(gap.missing)}; held {listed(gap.held)}",
            where=f"{gap.model_id}, seq {gap.missing[0]}" if gap.missing else gap.model_id,
            cause=likely("id-skipped", f"missing {listed(gap.missing)}, or never sent"),
        )
    if not case.observed.control and not case.observed.requests:
        return nothing("no request was seen")
    if case.observed.gaps:
        return passed("operations waited for ids that never came only where golden's do")
    return passed("no operation waited for an id that never came")


CHECKS = (Check("gaps.none", "No operation waits for a seq_id that never comes, except where golden's does.", none),)
