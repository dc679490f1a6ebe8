"""What the loss callback saw: as many logprobs, of the shapes and dtype, with the values the server sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.checks.causes import Found, certain
from harness.checks.diagnosis import why_dtype, why_keys, why_shape
from harness.checks.outcome import count, failed, listed, nothing, passed, runs
from harness.checks.steps import both, digest, groups_of
from harness.checks.verdict import Case, Check, Verdict
from harness.drivers.protocol import Saw
from harness.trace.model import Request


def calls(case: Case) -> Verdict:
    """Judge how often the callback was called."""
    looked = 0
    for golden, seen in both(case):
        if golden.saw is None and seen.saw is None:
            continue
        if seen.status in ("hang", "skipped"):
            continue
        looked += 1
        wanted = golden.saw.calls if golden.saw else 0
        got = seen.saw.calls if seen.saw else 0
        if wanted != got:
            return failed(
                "the loss is called another number of times",
                expected=wanted,
                observed=got,
                where=golden.step,
                cause=certain("not-called" if got < wanted else "called-too-often"),
            )
    if not looked:
        return nothing(_reason(case))
    return passed(f"the loss of {count(looked, 'call')} called as often as in golden")


def saw_shape(case: Case) -> Verdict:
    """Judge number and shapes of datums and logprobs."""
    looked = 0
    for step, golden, seen in _saw(case):
        looked += 1
        if (golden.datums, golden.count) != (seen.datums, seen.count):
            return failed(
                "the loss sees another number of datums or logprobs",
                expected=f"{golden.datums} datums, {golden.count} logprobs",
                observed=f"{seen.datums} datums, {seen.count} logprobs",
                where=step,
                cause=certain("tensors-merged") if seen.count == 1 < golden.count else None,
            )
        for index, (left, right) in enumerate(zip(golden.shapes, seen.shapes, strict=False)):
            if left != right:
                return failed(
                    "the loss sees logprobs of another shape",
                    expected=left,
                    observed=right,
                    where=f"{step}, logprobs {index}",
                    cause=why_shape(left, right),
                )
        if len(golden.shapes) != len(seen.shapes):
            return failed(
                "another number of shapes", expected=len(golden.shapes), observed=len(seen.shapes), where=step
            )
    if not looked:
        return nothing(_reason(case))
    return passed("number and shapes as golden")


def saw_dtype(case: Case) -> Verdict:
    """Judge the dtypes, and that every tensor is a leaf where the library has leaves."""
    looked = 0
    for step, golden, seen in _saw(case):
        looked += 1
        wanted, got = sorted(set(golden.dtypes)), sorted(set(seen.dtypes))
        if wanted != got:
            return failed(
                "the loss sees another dtype",
                expected=listed(wanted),
                observed=listed(got),
                where=step,
                cause=why_dtype(wanted[0], got[0]) if len(wanted) == len(got) == 1 else certain("dtype-changed"),
            )
        if golden.leaves and seen.leaves is False:
            return failed(
                "logprobs are not leaves that require a gradient",
                expected="leaves",
                observed="not leaves",
                where=step,
                cause=certain("not-leaves"),
            )
    if not looked:
        return nothing(_reason(case))
    return passed("dtype as golden")


def saw_values(case: Case) -> Verdict:
    """Judge that the values are those the server sent this subject.

    Where golden's callback saw something else than the server sent golden, the subject's must have seen golden's.
    """
    looked = 0
    for step, golden, seen in _saw(case):
        groups = groups_of(case, step, "forward")
        sent = [request for group in groups for request in group.observed]
        if not any(request.outputs for request in sent) and golden.count:
            continue
        looked += 1
        as_sent = golden.digest == _digest([request for group in groups for request in group.golden])
        wanted = _digest(sent) if as_sent else golden.digest
        if seen.digest != wanted:
            return failed(
                "the loss sees other values than the server sent",
                expected=f"digest {wanted[:16]}",
                observed=f"digest {seen.digest[:16]}",
                where=step,
                cause=_why_values(sent, seen.digest),
            )
    if not looked:
        return nothing("no forward result was sent to a custom call" if list(_saw(case)) else _reason(case))
    return passed("the values the server sent")


def saw_keys(case: Case) -> Verdict:
    """Judge the input keys of the datums the callback gets."""
    looked = 0
    for step, golden, seen in _saw(case):
        looked += 1
        for index, (left, right) in enumerate(zip(golden.keys, seen.keys, strict=False)):
            if sorted(left) != sorted(right):
                return failed(
                    "the loss sees other inputs",
                    expected=listed(sorted(left)),
                    observed=listed(sorted(right)),
                    where=f"{step}, datum {index}",
                    cause=why_keys(set(left), set(right)),
                )
    if not looked:
        return nothing(_reason(case))
    return passed("the caller's inputs, as golden")


def unchanged(case: Case) -> Verdict:
    """Judge that the caller's data is afterwards what it was, unless the loss itself changes it."""
    looked = 0
    for step, golden, seen in _saw(case):
        looked += 1
        if golden.unchanged and not seen.unchanged:
            return failed(
                "the call changes the caller's data",
                expected="unchanged",
                observed="changed",
                where=step,
                cause=certain("data-mutated"),
            )
        if seen.unchanged and not golden.unchanged:
            return failed(
                "what the loss does to its data does not reach the caller's",
                expected="changed by the loss",
                observed="unchanged",
                where=step,
                cause=certain("data-copied"),
            )
    if not looked:
        return nothing(_reason(case))
    return passed("the caller's data is afterwards as in golden")


def _saw(case: Case) -> Iterator[tuple[str, Saw, Saw]]:
    for golden, seen in both(case):
        # A callback that was handed over and never called has seen nothing.
        if golden.saw is not None and seen.saw is not None and golden.saw.calls and seen.saw.calls:
            yield golden.step, golden.saw, seen.saw


def _digest(requests: Sequence[Request]) -> str:
    return digest(
        (output["logprobs"].dense(), "float32")
        for request in requests
        for output in request.outputs
        if "logprobs" in output
    )


def _why_values(sent: Sequence[Request], seen: str) -> Found | None:
    if len(sent) > 1 and _digest(list(reversed(sent))) == seen:
        return certain("outputs-reordered", "chunks in reverse order")
    if len(sent) > 1 and _digest([*sent[1:], sent[0]]) == seen:
        return certain("outputs-reordered", "the first chunk's outputs come last")
    zeros = [(np.zeros(o["logprobs"].size), "float32") for r in sent for o in r.outputs if "logprobs" in o]
    return certain("zeros-for-values") if digest(zeros) == seen else None


def _reason(case: Case) -> str:
    if not any(step.saw for step in case.golden.steps):
        return "golden calls no loss"
    return f"no loss was called (golden: {runs([s.step for s in case.golden.steps if s.saw])})"


CHECKS = (
    Check("loss.calls", "The loss is called as often as in golden: once.", calls),
    Check("loss.saw_shape", "The loss sees one logprobs tensor per datum, of golden's shapes.", saw_shape),
    Check("loss.saw_dtype", "The loss sees golden's dtype, as leaves of the graph.", saw_dtype),
    Check("loss.saw_values", "The loss sees the logprobs the server sent, in the order of the data.", saw_values),
    Check("loss.saw_keys", "The loss sees the inputs golden's loss sees.", saw_keys),
    Check(
        "loss.unchanged", "The caller's data is unchanged after the call, unless the loss itself changes it.", unchanged
    ),
)
