"""What an SDK with structured regularizers reports: its document, its numbers, its flat form, its errors.

Numbers are held against values from outside the reference: closed forms of the scenario, else the loss graph computed
in float64 on the logprobs that this subject was sent. A number that is made of others is held against those that the
report itself has, where these are wrong: each check owns one property.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from harness.checks.causes import Found, certain, likely
from harness.checks.composing import why_zero_norm
from harness.checks.flat_form import flat_form
from harness.checks.outcome import count, failed, listed, nothing, passed
from harness.checks.report_form import Malformed, malformed
from harness.checks.reports import Told, agree, number, reason, reported, told
from harness.checks.steps import both
from harness.checks.verdict import Case, Check, Verdict

TRAIN, COMPUTE = "regularizers.train", "regularizers.compute"
ORDERED, FLAT = "regularizers.ordered", "regularizers.flat"

Claim = tuple[str, float | None, Any]
"""A place in a report, what has to be there, and what is."""


def document(case: Case) -> Verdict:
    """Judge the form of the report: every key there, none besides, each of its kind, nulls explicit."""
    looked = 0
    found: list[tuple[str, Malformed]] = []
    for golden, seen in reported(case):
        looked += 1
        if seen.report is None:
            return failed(
                f"{golden.step} has no report",
                expected="a report",
                observed="none",
                where=golden.step,
                cause=certain("report-missing"),
            )
        based = (golden.report or {}).get("base_loss") is not None
        found += [(golden.step, wrong) for wrong in malformed(seen.report, based=based)]
    if not found:
        return _all(case, looked, "of the documented form")
    # A report without a version lacks it everywhere: what else has another form is told first.
    found.sort(key=lambda each: each[1].place == "version")
    step, wrong = found[0]
    return failed(
        f"the report of {step} has another form",
        expected=_places((each.place, each.expected) for _, each in found),
        observed=_places((each.place, each.observed) for _, each in found),
        where=f"{step}, {wrong.place}",
        cause=certain(wrong.cause, wrong.place),
    )


def names(case: Case) -> Verdict:
    """Judge which regularizers a report names."""
    looked = 0
    for each in told(case):
        looked += 1
        expected, seen = set(each.numbers.terms), set(each.named)
        if expected != seen:
            missing = expected - seen
            return failed(
                f"the report of {each.step} names other regularizers",
                expected=listed(sorted(expected)) or "none",
                observed=listed(sorted(seen)) or "none",
                where=each.step,
                cause=certain("key-dropped" if missing else "key-added", listed(sorted(missing or seen - expected))),
            )
    return _all(case, looked, "with the regularizers that were declared")


def order(case: Case) -> Verdict:
    """Judge the order of the regularizers in a report: that of their declaration."""
    looked = 0
    for each in told(case):
        declared = [name for name in each.numbers.terms if name in each.named]
        seen = [name for name in each.named if name in each.numbers.terms]
        looked += 1
        if declared != seen:
            ended = [term.name for term in _by_end(each)]
            return failed(
                f"the report of {each.step} has its regularizers in another order",
                expected=listed(declared),
                observed=listed(seen),
                where=each.step,
                cause=likely("completion-order") if seen == ended else None,
            )
    return _all(case, looked, "in the order of declaration")


def values(case: Case) -> Verdict:
    """Judge the value of the base and of each regularizer, before weighting."""

    def claims(each: Told) -> Iterator[Claim]:
        if each.numbers.base is not None and each.base:
            yield "base_loss.value", each.numbers.base.value, each.base.get("value")
        for name, term in _terms(each):
            yield f"regularizers.{name}.value", term.part.value, each.part(name).get("value")

    def why(each: Told, place: str, expected: float | None, observed: float) -> Found | None:
        if expected and observed == -expected:
            return likely("opposite-sign", place)
        name = place.removeprefix("regularizers.").removesuffix(".value")
        term = each.numbers.terms.get(name)
        if term is not None and agree(case, term.contribution, observed):
            return likely("weight-in-value", f"{place} is golden's contribution")
        return None

    return _numbers(case, claims, why, "value")


def contributions(case: Case) -> Verdict:
    """Judge each regularizer's weight, and its contribution: the weight times the value."""

    def claims(each: Told) -> Iterator[Claim]:
        for name, term in _terms(each):
            part = each.part(name)
            yield f"regularizers.{name}.weight", term.weight, part.get("weight")
            stated = number(part.get("value"))
            own = term.weight * stated if isinstance(stated, float) else term.contribution
            given = part.get("contribution")
            yield f"regularizers.{name}.contribution", _either(case, term.contribution, own, given), given

    def why(each: Told, place: str, expected: float | None, observed: float) -> Found | None:
        if not place.endswith(".contribution") or expected is None:
            return None
        name = place.removeprefix("regularizers.").removesuffix(".contribution")
        term = each.numbers.terms[name]
        if agree(case, term.part.value, observed):
            return likely("weight-not-applied", f"{place} is the value")
        twice = term.weight * term.contribution
        return likely("weight-applied-twice", place) if agree(case, twice, observed) else None

    return _numbers(case, claims, why, "contribution")


def total(case: Case) -> Verdict:
    """Judge the sum of the contributions, and the whole: the base plus that sum."""

    def claims(each: Told) -> Iterator[Claim]:
        numbers = each.numbers
        stated = [number(each.part(name).get("contribution")) for name in numbers.terms]
        own = sum(value for value in stated if isinstance(value, float))
        given = each.report.get("regularizer_total")
        yield "regularizer_total", _either(case, numbers.regularizer_total, own, given), given
        base, summed = number(each.base.get("value")), number(given)
        whole = (base if isinstance(base, float) else 0.0) + (summed if isinstance(summed, float) else own)
        given = each.report.get("loss_total")
        yield "loss_total", _either(case, numbers.loss_total, whole, given), given

    def why(each: Told, place: str, _expected: float | None, observed: float) -> Found | None:
        base = each.numbers.base
        if place == "loss_total" and base is not None and agree(case, base.value, observed):
            return likely("regularizer-ignored", "loss_total is the base alone")
        if place == "loss_total" and agree(case, each.numbers.regularizer_total, observed):
            return likely("base-ignored", "loss_total is the regularizers alone")
        plain = sum(term.part.value for term in each.numbers.terms.values())
        before = 0.0 if place == "regularizer_total" or base is None else base.value
        return likely("weight-not-applied", place) if agree(case, before + plain, observed) else None

    return _numbers(case, claims, why, "total")


def norms(case: Case) -> Verdict:
    """Judge gradient norms: before weighting, after it, of the base and of the whole; null where none was asked for."""

    def claims(each: Told) -> Iterator[Claim]:
        numbers, tracked = each.numbers, each.composition.tracked
        if numbers.base is not None and each.base:
            yield "base_loss.grad_norm", numbers.base.grad_norm if tracked else None, each.base.get("grad_norm")
        for name, term in _terms(each):
            part, place = each.part(name), f"regularizers.{name}"
            yield f"{place}.grad_norm", term.part.grad_norm if tracked else None, part.get("grad_norm")
            weighted = term.grad_norm_weighted if tracked else None
            yield f"{place}.grad_norm_weighted", weighted, part.get("grad_norm_weighted")
        yield "total_grad_norm", numbers.total_grad_norm if tracked else None, each.report.get("total_grad_norm")

    def why(each: Told, place: str, expected: float | None, observed: float) -> Found | None:
        if expected is None:
            return None
        if observed == 0.0:
            return why_zero_norm(case, each) or certain("zeros-for-values", f"{place} is 0.0")
        if place == "total_grad_norm":
            return _why_total_norm(case, each, observed)
        name, _, kind = place.removeprefix("regularizers.").rpartition(".")
        term = each.numbers.terms.get(name)
        other = None if term is None else term.grad_norm_weighted if kind == "grad_norm" else term.part.grad_norm
        return likely("norm-of-other-weighting", place) if other is not None and agree(case, other, observed) else None

    return _numbers(case, claims, why, "norm")


def custom(case: Case) -> Verdict:
    """Judge the metrics of the parts: their names and numbers."""
    looked = 0
    for each in told(case):
        looked += 1
        parts = [("base_loss", each.numbers.base, each.base)]
        parts += [(f"regularizers.{name}", term.part, each.part(name)) for name, term in _terms(each)]
        for place, expected, part in parts:
            seen = part.get("custom")
            if expected is None or not isinstance(seen, Mapping):
                continue  # the form of the document is another check's
            if expected.custom.keys() != seen.keys():
                return failed(
                    f"{place} has other metrics",
                    expected=listed(sorted(expected.custom)) or "none",
                    observed=listed(sorted(seen)) or "none",
                    where=f"{each.step}, {place}.custom",
                    cause=certain("key-dropped" if expected.custom.keys() - seen.keys() else "key-added"),
                )
            for name, value in expected.custom.items():
                if not agree(case, value, number(seen[name])):
                    return failed(
                        f"the metric {name} of {place} differs",
                        expected=value,
                        observed=seen[name],
                        where=f"{each.step}, {place}.custom.{name}",
                    )
    return _all(case, looked, "with the parts' own metrics")


def flat(case: Case) -> Verdict:
    """Judge the flat form: the names and numbers that the subject's own report has, under the documented names."""
    looked = 0
    for each in told(case):
        looked += 1
        expected, seen = flat_form(each.report), each.seen.flat
        if seen is None:
            return failed(
                f"{each.step} has no flat form",
                expected=count(len(expected), "metric"),
                observed="none",
                where=each.step,
                cause=certain("report-missing"),
            )
        if expected.keys() != seen.keys():
            missing = sorted(expected.keys() - seen.keys())
            more = sorted(seen.keys() - expected.keys())
            return failed(
                f"the flat form of {each.step} has other names",
                expected=listed(missing) or "no more",
                observed=listed(more) or "these are left out",
                where=each.step,
                cause=certain("key-dropped" if missing else "key-added", listed(missing or more)),
            )
        for name, value in expected.items():
            if not agree(case, value, number(seen[name])):
                return failed(
                    f"{name} differs from the report",
                    expected=value,
                    observed=seen[name],
                    where=f"{each.step}, {name}",
                )
    return _all(case, looked, "in their flat form, too")


def error(case: Case) -> Verdict:
    """Judge which part an error is blamed on, by kind of part and by name."""
    looked = 0
    for golden, seen in both(case):
        if golden.failed is None or seen.status != "error":
            continue
        looked += 1
        wanted = _blamed(golden.failed.part, golden.failed.name)
        got = "no part" if seen.failed is None else _blamed(seen.failed.part, seen.failed.name)
        if wanted != got:
            lost = seen.failed is None or (seen.failed.part == golden.failed.part and seen.failed.name is None)
            return failed(
                f"{golden.step} blames another part",
                expected=wanted,
                observed=got,
                where=golden.step,
                cause=certain("name-lost") if lost else None,
            )
    if not looked:
        if not any(step.failed for step in case.golden.steps):
            return nothing("no error of golden is blamed on a part")
        return nothing("no step failed whose error golden blames on a part")
    return passed(f"{count(looked, 'error')} blamed on golden's part")


def calls(case: Case) -> Verdict:
    """Judge how often each regularizer was called."""
    looked = 0
    for golden, seen in both(case):
        if golden.saw is None or not golden.saw.regularizers or seen.saw is None:
            continue
        if seen.status in ("hang", "skipped"):
            continue
        looked += 1
        for name, wanted in golden.saw.regularizers.items():
            got = seen.saw.regularizers.get(name, 0)
            if wanted != got:
                return failed(
                    f"{name} is called another number of times",
                    expected=wanted,
                    observed=got,
                    where=f"{golden.step}, {name}",
                    cause=certain("not-called" if got < wanted else "called-too-often"),
                )
    if not looked:
        return nothing("no step called regularizers")
    return passed(f"the regularizers of {count(looked, 'call')} called as often as in golden")


def ended(case: Case) -> Verdict:
    """Judge whether every asynchronous regularizer that was called has ended when the call has."""
    looked = 0
    for golden, seen in both(case):
        if golden.saw is None or not golden.saw.ended or seen.saw is None or seen.status in ("hang", "skipped"):
            continue
        looked += 1
        for name, wanted in golden.saw.ended.items():
            called = seen.saw.regularizers.get(name, 0)
            left = golden.saw.regularizers.get(name, 0) - wanted
            if called - seen.saw.ended.get(name, 0) > left:
                return failed(
                    f"{name} goes on when the call is over",
                    expected=f"{count(called, 'call')} of it, each at its end",
                    observed=f"{count(seen.saw.ended.get(name, 0), 'end')} of {count(called, 'call')}",
                    where=f"{golden.step}, {name}",
                    cause=certain("left-running", name),
                )
    if not looked:
        return nothing("no step called asynchronous regularizers")
    return passed(f"the asynchronous regularizers of {count(looked, 'call')} have ended with it")


def _places(told: Iterable[tuple[str, str]]) -> str:
    return listed(dict.fromkeys(f"{place}: {what}" for place, what in told))


# --- what they share --------------------------------------------------------------------------------------------------


def _all(case: Case, looked: int, what: str) -> Verdict:
    return passed(f"{count(looked, 'report')} {what}") if looked else nothing(reason(case))


def _terms(each: Told) -> list[tuple[str, Any]]:
    """Return the regularizers that the report names, in the order of declaration. Which it names is another check's."""
    return [(name, term) for name, term in each.numbers.terms.items() if name in each.named]


def _numbers(
    case: Case,
    claims: Callable[[Told], Iterator[Claim]],
    why: Callable[[Told, str, float | None, float], Found | None],
    what: str,
) -> Verdict:
    looked = 0
    for each in told(case):
        for place, expected, given in claims(each):
            looked += 1
            observed = number(given)
            if not agree(case, expected, observed):
                return failed(
                    f"{place} differs",
                    expected="null" if expected is None else expected,
                    observed="null" if observed is None else observed,
                    where=f"{each.step}, {place}",
                    cause=why(each, place, expected, observed) if isinstance(observed, float) else None,
                )
    return passed(f"{count(looked, what)} as computed apart") if looked else nothing(reason(case))


def _either(case: Case, right: float, own: float, given: Any) -> float:
    """Return what a number has to be that is made of others: right, or right by the others that the report states.

    Where those are right both are the same; where they are not, another check says so.
    """
    return own if agree(case, own, number(given)) and not agree(case, right, number(given)) else right


def _why_total_norm(case: Case, each: Told, observed: float) -> Found | None:
    numbers = each.numbers
    base = 0.0 if numbers.base is None else numbers.base.grad_norm or 0.0
    if agree(case, base + sum(term.grad_norm_weighted or 0.0 for term in numbers.terms.values()), observed):
        return likely("norms-added", "the sum of the norms of the parts")
    if agree(case, base, observed):
        return likely("regularizer-ignored", "the norm of the base alone")
    return None


def _by_end(each: Told) -> list[Any]:
    """Return the regularizers in the order in which they end, as far as they wait for each other."""
    apart = each.composition.loss.apart
    waiting = list((apart and apart.regularizers) or ())
    ended: list[Any] = []
    while waiting:
        ready = next(term for term in waiting if term.after not in {other.name for other in waiting})
        waiting.remove(ready)
        ended.append(ready)
    return ended


def _blamed(part: str, name: str | None) -> str:
    return part if part == "base" else f"{part} {name or '(not told)'}"


def _check(name: str, says: str, judge: Callable[[Case], Verdict], *more: str) -> Check:
    return Check(f"regularizers.{name}", says, judge, frozenset({TRAIN, COMPUTE, *more}))


CHECKS = (
    _check("document", "The report has the documented keys, kinds and nulls, and a base where there is one.", document),
    _check("names", "The report names the regularizers that were declared: none dropped, none added.", names),
    _check("order", "The report has them in the order of declaration, whichever ends first.", order, ORDERED),
    _check("values", "Base and regularizers have the values that their graphs have in float64.", values),
    _check("contributions", "Each regularizer has its weight, and contributes weight times value.", contributions),
    _check("total", "The whole is the base plus the sum of the contributions.", total),
    _check("norms", "Gradient norms are those of the float64 gradients; null where none was asked for.", norms),
    _check("custom", "Each part has its own metrics, and no others.", custom),
    _check("flat", "The flat form has the report's numbers under the documented names.", flat, FLAT),
    _check("error", "An error is blamed on the part that golden blames, by name.", error),
    _check("calls", "Each regularizer is called as often as in golden: once.", calls),
    _check("ended", "No asynchronous regularizer goes on when its call is over.", ended),
)
