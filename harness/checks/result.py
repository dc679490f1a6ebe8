"""What the caller gets: status, type, outputs and fields of each step."""

from __future__ import annotations

import re
from collections import Counter

from harness.checks.alignment import name_of
from harness.checks.causes import Found, certain, likely
from harness.checks.outcome import count, failed, listed, nothing, passed, runs, short
from harness.checks.resends import answers
from harness.checks.steps import both, digest, groups_of, result_group, sent_outputs
from harness.checks.structure import differences, told
from harness.checks.verdict import Case, Check, Verdict
from harness.drivers.protocol import StepResult, TensorSummary
from mock_server.record import Tensor

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_LANGUAGE = re.compile(r"/python\d[\d.]*/(?!site-packages/)|/Lib/(?!site-packages/)")
_PLACES = 4
_ENDED = ("ok", "error", "unawaited")


def status(case: Case) -> Verdict:
    """Judge how each step ended, up to the first that fails in golden; what follows is `error.after`'s."""
    looked = 0
    for golden, seen in both(case):
        # Whether a client can be closed at all is session.end's judgement.
        if seen.status in _ENDED and not (golden.step == "close" and golden.status == "skipped"):
            looked += 1
            if golden.status != seen.status:
                return failed(
                    f"{golden.step} ends with {seen.status}",
                    expected=_ending(golden),
                    observed=_ending(seen),
                    where=golden.step,
                    cause=_why_status(case, golden, seen),
                )
        if golden.status == "error":
            break
    if not looked:
        return nothing("no step ended")
    return passed(f"{count(looked, 'step')} ended as in golden")


def hang(case: Case) -> Verdict:
    """Judge that no call was left open."""
    if not case.observed.steps:
        return nothing("no step was run")
    stuck = [step for step in case.observed.steps if step.status == "hang"]
    if stuck:
        golden = {step.step: step for step in case.golden.steps}
        first = stuck[0]
        return failed(
            f"{first.step} was still open when the time was up",
            expected=_ending(golden[first.step]) if first.step in golden else "an end",
            observed="hang",
            where=first.step,
            cause=likely("id-skipped", "the server declared a gap")
            if case.observed.gaps
            else certain("still-waiting", _last_heard(case, first)),
        )
    return passed("every call ended")


def _last_heard(case: Case, stuck: StepResult) -> str:
    """Return the last request of a call that is still open and what became of it, and where the program stands."""
    sent = [request for group in groups_of(case, stuck.step) for request in group.observed]
    told = "no request of it was seen"
    if sent:
        last = max(sent, key=lambda request: request.arrival)
        asked = f"its result {runs([poll.answer for poll in last.polls])}" if last.polls else "its result not asked for"
        told = f"last {name_of(last)}, answered {answers(last.attempts)[-1]}, {asked}"
    wanted = sum(len(group.golden) for group in groups_of(case, stuck.step))
    if len(sent) < wanted:
        told = f"waits to send: {len(sent)} of {count(wanted, 'request')} seen; {told}"
    places = _stands(stuck.stacks)
    return f"{told}; stands in {listed(places, limit=_PLACES)}" if places else told


def _stands(stacks: str) -> list[str]:
    """Return where each thread and task of Python stacks stands: its innermost frame, the language's waiting aside."""
    places: dict[str, None] = {}
    for block in re.split(r"\n(?=\S)", stacks):
        frames = [
            f"{path.rsplit('/', 1)[-1]}:{line} {name}"
            for path, line, name in _FRAME.findall(block)
            if not _LANGUAGE.search(path)
        ]
        if frames:
            places[frames[-1]] = None
    return list(places)


def kind(case: Case) -> Verdict:
    """Judge the type of results. SDKs name modules differently, so the last part of the name is compared."""
    looked = 0
    for golden, seen in both(case):
        if golden.status != "ok" or seen.status != "ok" or not golden.type or not seen.type:
            continue
        looked += 1
        if golden.report is None and seen.report is not None:
            return failed(
                f"{golden.step} has a report of a loss that was not taken apart",
                expected="none",
                observed="a report",
                where=golden.step,
                cause=certain("key-added", "the report"),
            )
        if _last(golden.type) != _last(seen.type):
            return failed(
                f"{golden.step} is of another type",
                expected=golden.type,
                observed=seen.type,
                where=golden.step,
                cause=certain("type-changed", f"{seen.type} for {golden.type}"),
            )
    if not looked:
        return nothing("no result with a type was seen")
    return passed(f"{count(looked, 'result')} of golden's types")


def outputs(case: Case) -> Verdict:
    """Judge that outputs are what the server sent this subject, one per datum, in the order of the data."""
    looked = 0
    for golden, seen in both(case):
        if golden.outputs is None or golden.status != "ok" or seen.status != "ok":
            continue
        group = result_group(case, golden.step)
        if group is not None and not group.observed:
            continue
        looked += 1
        sent = sent_outputs(group) if group else []
        failure = _judge_outputs(golden, seen, sent)
        if failure is not None:
            return failure
    if not looked:
        if not any(step.outputs is not None for step in case.golden.steps):
            return nothing("no result of golden has outputs")
        return nothing("no result with outputs was seen")
    return passed(f"outputs of {count(looked, 'result')} as the server sent them")


def fields(case: Case) -> Verdict:
    """Judge named fields of results, such as the path of a saved state."""
    looked = 0
    for golden, seen in both(case):
        if not golden.fields or golden.status != "ok" or seen.status != "ok":
            continue
        looked += 1
        # A driver of a newer minor version may report more than golden names.
        known = {key: value for key, value in seen.fields.items() if key in golden.fields}
        found = differences(golden.fields, known)
        if found:
            expected, observed, path, cause = told(found)
            return failed(
                f"{golden.step} has other fields",
                expected=expected,
                observed=observed,
                where=f"{golden.step}, {path}",
                cause=cause,
            )
    if not looked:
        return nothing(
            "no result with fields was seen" if any(s.fields for s in case.golden.steps) else "none in golden"
        )
    return passed(f"fields of {count(looked, 'result')} as golden")


def _why_status(case: Case, golden: StepResult, seen: StepResult) -> Found | None:
    if seen.status == "error":
        return certain("raised", f"{seen.type}: {short(seen.message)}")
    if golden.status != "error" or seen.status != "ok":
        return None
    if golden.kind == "no_gradient":
        backward = [r.batch for r in case.observed.requests if r.effect == "forward_backward" and r.batch is not None]
        weights = [d.inputs["weights"] for batch in backward for d in batch.datums if "weights" in d.inputs]
        if any(w.size and not w.values.any() for w in weights):
            return certain("zeros-for-missing-gradient")
    return certain("error-swallowed")


def _judge_outputs(golden: StepResult, seen: StepResult, sent: list[dict[str, Tensor]]) -> Verdict | None:
    wanted, got = golden.outputs or [], seen.outputs or []
    if len(wanted) != len(got):
        return failed(
            f"{golden.step} has another number of outputs",
            expected=len(wanted),
            observed=len(got),
            where=golden.step,
            cause=certain("outputs-lost") if len(got) < len(wanted) else None,
        )
    for index, (left, right) in enumerate(zip(wanted, got, strict=True)):
        place = f"{golden.step}, output {index}"
        if left.keys() != right.keys():
            return failed(
                "an output has other keys",
                expected=listed(sorted(left)),
                observed=listed(sorted(right)),
                where=place,
            )
        for key in sorted(left):
            if (left[key].dtype, left[key].shape) != (right[key].dtype, right[key].shape):
                return failed(
                    f"{key} has another form",
                    expected=_form(left[key]),
                    observed=_form(right[key]),
                    where=f"{place}, {key}",
                )
    if len(sent) != len(got):
        return None
    for index, (right, output) in enumerate(zip(got, sent, strict=True)):
        for key in sorted(right.keys() & output.keys()):
            expected = digest([(output[key].dense(), right[key].dtype)])
            if expected != right[key].digest:
                return failed(
                    f"{key} is not what the server sent",
                    expected=listed(output[key].dense()[:8].tolist()),
                    observed=listed(right[key].first),
                    where=f"{golden.step}, output {index}, {key}",
                    cause=_why(got, sent, key),
                )
    return None


def _why(got: list[dict[str, TensorSummary]], sent: list[dict[str, Tensor]], key: str) -> Found | None:
    mine = Counter(output[key].digest for output in got if key in output)
    dtype = next(output[key].dtype for output in got if key in output)
    theirs = Counter(digest([(output[key].dense(), dtype)]) for output in sent if key in output)
    return certain("outputs-reordered") if mine == theirs else None


def _form(tensor: TensorSummary) -> str:
    return f"{tensor.dtype} {tensor.shape}"


def _last(name: str) -> str:
    return name.replace("::", ".").rsplit(".", 1)[-1]


def _ending(step: StepResult) -> str:
    return f"error ({step.kind or 'of no kind'})" if step.status == "error" else step.status


CHECKS = (
    Check("result.status", "Each step ends as in golden, up to the first that fails there.", status),
    Check("result.hang", "No call is still open when the time is up.", hang),
    Check(
        "result.type",
        "Results are of golden's types, by the last part of their names; a report only as in golden.",
        kind,
    ),
    Check("result.outputs", "Outputs are what the server sent, one per datum, in the order of the data.", outputs),
    Check("result.fields", "Named fields of results are golden's.", fields),
)
