"""Every check there is, by its stable id (`docs/checks.md`)."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from types import MappingProxyType

from harness.checks import (
    chunks,
    error,
    faults,
    forward,
    gaps,
    heartbeat,
    loss,
    metrics,
    order,
    poll,
    regularizers,
    result,
    retry,
    session,
    training,
    weights,
    wire,
)
from harness.checks.verdict import Case, Check, Verdict
from harness.errors import ParityError

_FAMILIES = (
    faults,
    session,
    heartbeat,
    wire,
    chunks,
    order,
    gaps,
    retry,
    poll,
    forward,
    weights,
    metrics,
    loss,
    result,
    error,
    regularizers,
    training,
)

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
    # A check makes many small objects and no cycles: walking over all of them, again and again, is what made judging
    # 200,000 datums cost more than ten times 20,000.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return check.judge(case)
    finally:
        if collecting:
            gc.enable()
