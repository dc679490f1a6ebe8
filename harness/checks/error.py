"""Failures: of which kind, raised where, what was sent, and whether the client works afterwards."""

from __future__ import annotations

from collections import Counter

from harness.checks.alignment import align
from harness.checks.causes import Found, certain
from harness.checks.outcome import count, failed, listed, nothing, passed, short
from harness.checks.steps import both
from harness.checks.verdict import Case, Check, Verdict
from harness.drivers.protocol import StepResult
from harness.trace.model import Request


def kind(case: Case) -> Verdict:
    """Judge the kind of the first failure."""
    first = _first(case)
    if isinstance(first, str):
        return nothing(first)
    golden, seen = first
    if golden.kind != seen.kind:
        return failed(
            f"{golden.step} fails in another way",
            expected=golden.kind or "no kind",
            observed=seen.kind or "no kind",
            where=golden.step,
            cause=certain("raised", f"{seen.type}: {short(seen.message)}"),
        )
    return passed(f"{golden.step} fails with {golden.kind}")


def raised_at(case: Case) -> Verdict:
    """Judge whether the first failure comes from the call or from waiting."""
    first = _first(case)
    if isinstance(first, str):
        return nothing(first)
    golden, seen = first
    if golden.raised_at != seen.raised_at:
        return failed(
            f"{golden.step} raises elsewhere",
            expected=golden.raised_at or "nowhere",
            observed=seen.raised_at or "nowhere",
            where=golden.step,
            cause=certain("raised-elsewhere"),
        )
    return passed(f"{golden.step} raises from {golden.raised_at}")


def sent(case: Case) -> Verdict:
    """Judge that exactly golden's operations were sent: nothing missing, nothing after the failure."""
    if not any(step.status == "error" for step in case.golden.steps):
        return nothing("no step of golden fails")
    if not case.observed.control and not case.observed.requests:
        return nothing("no request was seen")
    aligned = align(case)
    for request in aligned.extra:
        return failed(
            f"{request.effect} is sent and golden sends none here",
            expected=_counts(case.golden.requests),
            observed=_counts(case.observed.requests),
            where=f"{request.effect} seq {request.seq_id}",
            cause=certain("sent-after-failure" if request.batch is None or request.batch.datums else "chunk-empty"),
        )
    for group in aligned.groups:
        if not group.observed:
            return failed(
                f"{group.name} is not sent",
                expected=_counts(case.golden.requests),
                observed=_counts(case.observed.requests),
                where=group.name,
                cause=certain("not-sent"),
            )
    for pair in aligned.pairs:
        if len(pair.golden.datums) != len(pair.observed.datums):
            return failed(
                f"another number of datums in {pair.effect}",
                expected=len(pair.golden.datums),
                observed=len(pair.observed.datums),
                where=pair.effect,
            )
    return passed(f"{count(len(case.observed.requests), 'operation')} sent, as in golden")


def after(case: Case) -> Verdict:
    """Judge how the steps after the first failure end, and of which kind their errors are."""
    failing = next((i for i, s in enumerate(case.golden.steps) if s.status == "error"), None)
    if failing is None:
        return nothing("no step of golden fails")
    later = {step.step for step in case.golden.steps[failing + 1 :]}
    if not later:
        return nothing("no step of golden follows the failure")
    looked = 0
    for golden, seen in both(case):
        # Whether a client can be closed at all is session.end's judgement.
        if golden.step not in later or golden.status == "skipped" or seen.status == "skipped":
            continue
        looked += 1
        if (golden.status, golden.kind) != (seen.status, seen.kind):
            return failed(
                f"{golden.step}, after the failure, ends with {_ending(seen)}",
                expected=_ending(golden),
                observed=_ending(seen),
                where=golden.step,
                cause=_why(golden, seen),
            )
    if not looked:
        return nothing("no step after the failure ended")
    return passed(f"{count(looked, 'step')} after the failure ended as in golden")


def _first(case: Case) -> tuple[StepResult, StepResult] | str:
    failing = next((step for step in case.golden.steps if step.status == "error"), None)
    if failing is None:
        return "no step of golden fails"
    for golden, seen in both(case):
        if golden is failing:
            return (golden, seen) if seen.status == "error" else f"{golden.step} did not fail but ended {seen.status}"
    return f"{failing.step} was not run"


def _ending(step: StepResult) -> str:
    return f"error ({step.kind or 'of no kind'})" if step.status == "error" else step.status


def _why(golden: StepResult, seen: StepResult) -> Found | None:
    if seen.status == "hang":
        return certain("hangs-after-failure")
    if golden.kind == "client_poisoned" and seen.status != "error":
        return certain("not-poisoned")
    if seen.kind == "client_poisoned":
        return certain("poisoned")
    return certain("raised", f"{seen.type}: {short(seen.message)}") if seen.status == "error" else None


def _counts(requests: tuple[Request, ...]) -> str:
    effects = Counter(request.effect for request in requests)
    return listed(f"{number} x {effect}" for effect, number in sorted(effects.items())) or "nothing"


CHECKS = (
    Check("error.kind", "The first failure is of golden's kind.", kind),
    Check("error.raised_at", "The first failure is raised where golden's is: by the call, or by waiting.", raised_at),
    Check("error.sent", "Exactly golden's operations are sent: nothing more after a failure.", sent),
    Check("error.after", "Steps after the first failure end as in golden.", after),
)
