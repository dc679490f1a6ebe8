"""Every check there is, by its stable id (`docs/checks.md`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness.checks import chunks, error, forward, gaps, loss, metrics, order, result, session, training, weights, wire
from harness.checks.verdict import Case, Check, Verdict
from harness.errors import ParityError

_FAMILIES = (session, wire, chunks, order, gaps, forward, weights, metrics, loss, result, error, training)

CHECKS: Mapping[str, Check] = MappingProxyType({check.id: check for family in _FAMILIES for check in family.CHECKS})
"""All checks by id, in the order in which a reader would ask: wire first, consequences last."""


def judge(check_id: str, case: Case) -> Verdict:
    """Return what a check says about a case.

    Raises ParityError `check-unknown` when there is no check of that id.
    """
    check = CHECKS.get(check_id)
    if check is None:
        raise ParityError(
            "check-unknown",
            f"there is no check {check_id!r}",
            hint="the checks are: " + ", ".join(CHECKS),
        )
    return check.judge(case)
