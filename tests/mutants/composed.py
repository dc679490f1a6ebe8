"""Clients that get a loss with regularizers wrong: its gradient, its report, its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from breadth import NO_BACKWARD, NO_RESULT
from mutant import Mutant, checks

from harness.reference.calls import Pending
from harness.reference.client import ReferenceClient
from harness.reference.encoding import PassOutput
from harness.reference.errors import NoGradientError
from harness.reference.regularizers import composing
from harness.reference.regularizers.flat import Flat
from harness.reference.regularizers.pipeline import STRUCTURED
from harness.reference.regularizers.results import Called
from harness.reference.regularizers.spec import Composition, Regularizer
from harness.reference.regularizers.telemetry import BaseLoss, LossReport, RegularizerReport
from harness.reference.training import TrainingClient

if TYPE_CHECKING:
    import torch
from structured import CALLED, LATER, OFFLINE, REPORT, TRAINED, WITHOUT, Change, scenarios_of, structured

Terms = Sequence[tuple[Regularizer, Called]]
WITH_BASE = tuple(name for name in TRAINED if name != "regularizers/a-datum-each")
"""Those whose base alone has a gradient for every datum."""
SOME = (*scenarios_of("several tracking compute-several weight-zero without-base"), *WITHOUT)


class TellsNothing(ReferenceClient):
    """Composes as it should, and keeps the report to itself."""

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its custom calls without reports."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
        right = made.forward_backward_custom

        async def custom(*given: Any, **options: Any) -> Pending[PassOutput]:
            pending = await right(*given, **options)

            async def silent() -> PassOutput:
                output = await pending.result()
                kept = {name: value for name, value in output.metrics.items() if not name.startswith("custom/")}
                return replace(output, metrics=kept, report=None)

            return Pending(self.spawn(silent()), pending.type)

        made.forward_backward_custom = custom  # type: ignore[method-assign]
        return made


def _weighing(weigh: Callable[[float], float]) -> Change:
    """Compose with other weights; what is reported stays right."""

    def compose(base: Called | None, terms: Terms) -> torch.Tensor:
        return composing.compose(base, [(replace(each, weight=weigh(each.weight)), called) for each, called in terms])

    return structured(compose=compose)


def _detached(base: Called | None, terms: Terms) -> torch.Tensor:
    """Add the regularizers to the value and not to the gradient."""
    if base is None or not base.loss.requires_grad:
        return composing.compose(base, terms)
    return composing.compose(base, [(each, replace(called, loss=called.loss.detach())) for each, called in terms])


def _base_detached(base: Called | None, terms: Terms) -> torch.Tensor:
    if base is None or not any(called.loss.requires_grad for _, called in terms):
        return composing.compose(base, terms)
    return composing.compose(replace(base, loss=base.loss.detach()), terms)


def _last_forgotten(base: Called | None, terms: Terms) -> torch.Tensor:
    return composing.compose(base, terms[:-1] if len(terms) > 2 else terms)


def _read_without(*args: Any, **options: Any) -> Composition:
    read = STRUCTURED.read(*args, **options)
    return read if read.base is None else replace(read, regularizers=())


def _zeros_where_missing(total: torch.Tensor, leaves: composing.Leaves) -> list[Any]:
    try:
        return composing.differentiate(total, leaves)
    except NoGradientError:
        copies = zip(*leaves, strict=True)
        found = [[leaf.grad for leaf in each if leaf.grad is not None] or [0 * each[0].detach()] for each in copies]
        return [sum(each[1:], each[0]).numpy() for each in found]


def _every_part_needed(base: Called | None, terms: Terms) -> torch.Tensor:
    for each, called in terms:
        if not called.loss.requires_grad:
            raise NoGradientError(f"{each.name} has no gradient")
    return composing.compose(base, terms)


def _normalised(gradients: Sequence[Any]) -> float:
    """Measure, and divide what was measured by its norm: the very arrays that are sent."""
    norm = STRUCTURED.norm(gradients)
    for each in gradients:
        if each is not None and norm:
            each /= norm
    return norm


def _reporting(change: Callable[[LossReport], LossReport]) -> Change:
    return structured(report=lambda *parts: change(STRUCTURED.report(*parts)))


def _terms(change: Callable[[RegularizerReport], RegularizerReport]) -> Change:
    """Change each regularizer of the report, and nothing else."""
    return _reporting(
        lambda report: msgspec.structs.replace(
            report, regularizers={name: change(term) for name, term in report.regularizers.items()}
        )
    )


class _Terse(msgspec.Struct, omit_defaults=True):
    """A report that leaves out what is null."""

    version: int
    loss_total: float
    regularizers: dict[str, RegularizerReport]
    regularizer_total: float
    base_loss: BaseLoss | None = None
    total_grad_norm: float | None = None


def _terse(report: LossReport) -> Any:
    return _Terse(**{name: getattr(report, name) for name in report.__struct_fields__})


def _by_completion(report: LossReport) -> LossReport:
    """Put the regularizers of the suite that wait for each other into the order in which they end."""
    names = list(report.regularizers)
    turned = names[::-1] if set(names) == {"first", "middle", "last"} else names
    return msgspec.structs.replace(report, regularizers={name: report.regularizers[name] for name in turned})


def _by_hash(report: LossReport) -> LossReport:
    """Order many regularizers as a map does that keeps no order."""
    many = report.regularizers
    ordered = sorted(many, key=lambda name: name[::-1]) if len(many) > 32 else list(many)
    return msgspec.structs.replace(report, regularizers={name: many[name] for name in ordered})


def _norms_added(report: LossReport) -> LossReport:
    if report.total_grad_norm is None:
        return report
    base = 0.0 if report.base_loss is None else report.base_loss.grad_norm or 0.0
    added = base + sum(term.grad_norm_weighted or 0.0 for term in report.regularizers.values())
    return msgspec.structs.replace(report, total_grad_norm=added)


def _zero_norms(report: LossReport) -> LossReport:
    terms = {
        name: term if term.grad_norm is None else msgspec.structs.replace(term, grad_norm=0.0, grad_norm_weighted=0.0)
        for name, term in report.regularizers.items()
    }
    return msgspec.structs.replace(report, regularizers=terms)


def _replaced(**changes: Callable[[RegularizerReport], Any]) -> Callable[[RegularizerReport], RegularizerReport]:
    return lambda term: msgspec.structs.replace(term, **{key: change(term) for key, change in changes.items()})


def _norm_of_parts(gradients: Sequence[Any]) -> float:
    return float(sum(np.linalg.norm(each) for each in gradients if each is not None))


def _flat(change: Callable[[Mapping[str, float]], dict[str, float]]) -> Change:
    def flat(report: LossReport) -> Flat:
        right = STRUCTURED.flat(report)
        return replace(right, metrics=change(right.metrics))

    return structured(flat=flat)


def _names_cleaned(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name.replace(".", "_"): value for name, value in metrics.items()}


def _without_weights(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith("/weight:mean")}


def _empty_is_none(base: Any, regularizers: Any, **options: Any) -> Composition:
    read = STRUCTURED.read(base, regularizers, **options)
    return read if read.regularizers else replace(read, reported=False)


def _idle_dropped(base: Any, regularizers: Any, **options: Any) -> Composition:
    read = STRUCTURED.read(base, regularizers, **options)
    return replace(read, regularizers=tuple(each for each in read.regularizers if each.weight))


def _always_reported(base: Any, regularizers: Any, **options: Any) -> Composition:
    return replace(STRUCTURED.read(base, regularizers, **options), reported=True)


def _told(**changes: Any) -> Change:
    """Change what a report says beside its numbers."""

    def report(*given: Any) -> LossReport:
        return msgspec.structs.replace(STRUCTURED.report(*given), **changes)

    return structured(report=report)


def _always_tracked(base: Any, regularizers: Any, **options: Any) -> Composition:
    return STRUCTURED.read(base, regularizers, **{**options, "track_grad_norms": True})


WEIGHTS = checks("weights.values")


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "regularizers-reported-not-trained",
        "Regularizers are in the value and the report, and not in the gradient that is sent.",
        WEIGHTS | checks("regularizers.norms"),
        "The backward pass is that of the base alone. The norm of the whole is that of what is sent.",
        scenarios=(*WITH_BASE, *WITHOUT),
        change=structured(compose=_detached),
    ),
    Mutant(
        "regularizers-ignored",
        "Regularizers beside a base are accepted and never used.",
        WEIGHTS | CALLED | checks("metrics.values regularizers.names regularizers.norms"),
        "The call trains on the base loss alone, and its report names nothing.",
        scenarios=(*WITH_BASE, *OFFLINE, *WITHOUT),
        silences=checks("regularizers.contributions"),
        change=structured(read=_read_without),
    ),
    Mutant(
        "base-not-trained",
        "The base is in the value, and not in the gradient that is sent.",
        WEIGHTS | checks("regularizers.norms"),
        "A gradient that starts with the first regularizer.",
        scenarios=SOME,
        change=structured(compose=_base_detached),
    ),
    Mutant(
        "weight-not-applied",
        "Regularizers are added without their weights.",
        WEIGHTS | checks("metrics.values regularizers.norms"),
        "As if every weight were 1; what is reported of each part is right.",
        scenarios=SOME,
        change=_weighing(lambda _: 1.0),
    ),
    Mutant(
        "weight-applied-twice",
        "Regularizers are added with the square of their weight.",
        WEIGHTS | checks("metrics.values regularizers.norms"),
        "A contribution that is weighted again where it is added up.",
        scenarios=(*TRAINED, *OFFLINE, *WITHOUT),
        change=_weighing(lambda weight: weight * weight),
    ),
    Mutant(
        "last-regularizer-forgotten",
        "Of more than two regularizers the last one is left out of the sum.",
        WEIGHTS | checks("metrics.values regularizers.norms"),
        "A loop that ends one too early; two are not enough to show it.",
        scenarios=(*scenarios_of("several sixty-four compute-several one"), *WITHOUT),
        change=structured(compose=_last_forgotten),
    ),
    Mutant(
        "tracking-changes-the-gradient",
        "Where norms are tracked the gradient is divided by its norm.",
        WEIGHTS,
        "What is measured is what is sent: tracking must leave it alone.",
        scenarios=(*scenarios_of("tracking one several"), *WITHOUT),
        change=structured(norm=_normalised),
    ),
    Mutant(
        "missing-gradient-of-the-whole-as-zeros",
        "Where the whole has no gradient, zeros are sent.",
        checks("result.status error.sent error.after"),
        "The call succeeds where it must fail, and the client is usable; no error is left.",
        silences=checks("error.kind error.raised_at"),
        scenarios=scenarios_of("no-gradient nothing-to-train one"),
        change=structured(differentiate=_zeros_where_missing),
    ),
    Mutant(
        "every-part-needs-a-gradient",
        "A regularizer without a gradient fails the call.",
        checks("result.status chunks.complete"),
        "A constant is a regularizer like any other; nothing is sent backward.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=scenarios_of("constant-term returns-number"),
        change=structured(compose=_every_part_needed),
    ),
    # --- the report ---------------------------------------------------------------------------------------------------
    Mutant(
        "no-report",
        "A call with regularizers tells nothing of them.",
        checks("regularizers.document"),
        "What each part contributed is what the caller asked for.",
        silences=REPORT - checks("regularizers.document"),
        scenarios=scenarios_of("one several without-base"),
        client=TellsNothing,
    ),
    Mutant(
        "base-missing-from-the-report",
        "The report has no base, although there is one.",
        checks("regularizers.document"),
        "null says that only regularizers contributed.",
        scenarios=scenarios_of("several one compute-several without-base"),
        change=_told(base_loss=None),
    ),
    Mutant(
        "base-made-up-in-the-report",
        "The report has a base where there is none.",
        checks("regularizers.document"),
        "A base of 0 is not no base.",
        scenarios=scenarios_of("without-base compute-without-base"),
        change=_told(base_loss=BaseLoss(0.0, None, {})),
    ),
    Mutant(
        "report-of-another-version",
        "The report says that it is of version 2.",
        checks("regularizers.document"),
        "Another version is another meaning: nobody may read it as the first.",
        scenarios=scenarios_of("several compute-several"),
        change=_told(version=2),
    ),
    Mutant(
        "old-calls-report",
        "A custom loss without regularizers has a report, too.",
        checks("result.type metrics.names"),
        "Who asked for nothing gets what a custom loss has always given.",
        scenarios=("custom/sum-literal", "custom/nonlinear", "regularizers/one"),
        change=structured(read=_always_reported),
    ),
    Mutant(
        "empty-list-is-none",
        "An empty list of regularizers counts as none at all.",
        checks("regularizers.document"),
        "Who passes a list gets a report, however long the list is.",
        silences=REPORT - checks("regularizers.document regularizers.contributions"),
        scenarios=("regularizers/empty-list",),
        change=structured(read=_empty_is_none),
    ),
    Mutant(
        "weight-zero-left-out",
        "A regularizer of weight 0 is not computed.",
        checks("regularizers.names regularizers.calls"),
        "It is there to be watched. What is sent is the same.",
        scenarios=scenarios_of("weight-zero compute-weight-zero one"),
        change=structured(read=_idle_dropped),
    ),
    Mutant(
        "nulls-left-out",
        "What is null is left out of the report.",
        checks("regularizers.document"),
        "Nulls are explicit: a reader tells what there is not from what it does not know.",
        scenarios=scenarios_of("tracking names compute-several without-base one"),
        change=_reporting(_terse),
    ),
    Mutant(
        "regularizers-by-completion",
        "The report has the regularizers in the order in which they ended.",
        checks("regularizers.order"),
        "Which of two tasks ends first is nobody's decision.",
        scenarios=scenarios_of("side-by-side compute-side-by-side in-time concurrent several"),
        change=_reporting(_by_completion),
    ),
    Mutant(
        "regularizers-in-a-map",
        "More than 32 regularizers come in an order of their own.",
        checks("regularizers.order"),
        "Some maps keep the order of a few keys and of no more.",
        scenarios=scenarios_of("sixty-four compute-sixty-four several"),
        change=_reporting(_by_hash),
    ),
    Mutant(
        "weighted-values",
        "The value of a regularizer is reported after weighting.",
        checks("regularizers.values"),
        "Weights change over a training; values are to be compared.",
        scenarios=(*TRAINED, *OFFLINE, *WITHOUT),
        change=_terms(_replaced(value=lambda term: term.weight * term.value)),
    ),
    Mutant(
        "values-for-contributions",
        "The contribution of a regularizer is its value.",
        checks("regularizers.contributions"),
        "It contributes weight times value.",
        scenarios=SOME,
        change=_terms(_replaced(contribution=lambda term: term.value)),
    ),
    Mutant(
        "contributions-weighted-twice",
        "The contribution of a regularizer is weighted twice.",
        checks("regularizers.contributions"),
        "It contributes weight times value, once.",
        scenarios=scenarios_of("several without-base design-example compute-several training-on-regularizers")
        + WITHOUT,
        change=_terms(_replaced(contribution=lambda term: term.weight * term.weight * term.value)),
    ),
    Mutant(
        "total-without-regularizers",
        "loss_total is the base alone.",
        checks("regularizers.total"),
        "The number that is plotted is not the one that is trained.",
        scenarios=SOME,
        change=_reporting(
            lambda report: msgspec.structs.replace(
                report, loss_total=0.0 if report.base_loss is None else report.base_loss.value
            )
        ),
    ),
    Mutant(
        "norms-exchanged",
        "Norms before and after weighting are exchanged.",
        checks("regularizers.norms"),
        "grad_norm is of the value, grad_norm_weighted of the contribution.",
        scenarios=(*TRAINED, *OFFLINE, *WITHOUT),
        change=_terms(
            _replaced(grad_norm=lambda term: term.grad_norm_weighted, grad_norm_weighted=lambda term: term.grad_norm)
        ),
    ),
    Mutant(
        "norms-added-up",
        "The norm of the whole is the sum of the norms of its parts.",
        checks("regularizers.norms"),
        "Gradients of parts point apart, or against each other.",
        scenarios=scenarios_of("cancels-base compute-cancels-base several weight-hundred design-example"),
        change=_reporting(_norms_added),
    ),
    Mutant(
        "norms-of-zero",
        "The norm of every regularizer is 0.",
        checks("regularizers.norms"),
        "A gradient that was lost on the way to an adapter, and nobody noticed.",
        scenarios=(*TRAINED, *OFFLINE, *WITHOUT),
        change=_reporting(_zero_norms),
    ),
    Mutant(
        "norms-per-datum",
        "A norm is the sum of the norms of the datums.",
        checks("regularizers.norms"),
        "It is that of all logprobs as one vector; with one datum it is the same.",
        scenarios=scenarios_of("several two-dimensions chunked a-datum-each design-example one"),
        change=structured(norm=_norm_of_parts),
    ),
    Mutant(
        "norms-unasked",
        "Norms are there where none was asked for.",
        checks("regularizers.norms"),
        "They cost a backward pass for each part.",
        scenarios=scenarios_of("tracking names metrics one"),
        change=structured(read=_always_tracked),
    ),
    Mutant(
        "part-metrics-lost",
        "The metrics of regularizers are not reported.",
        checks("regularizers.custom"),
        "They are in no other place.",
        scenarios=scenarios_of("several metrics weight-zero built-in-sizes compute-built-in-pairs one"),
        change=_terms(_replaced(custom=lambda _: {})),
    ),
    Mutant(
        "flat-names-cleaned",
        "Dots in names of the flat form become underscores.",
        checks("regularizers.flat"),
        "Metric names may hold what names of regularizers may hold.",
        scenarios=scenarios_of("names one"),
        change=_flat(_names_cleaned),
    ),
    Mutant(
        "flat-without-weights",
        "The flat form has no weights.",
        checks("regularizers.flat"),
        "Without them nobody can read a report out of it.",
        scenarios=SOME,
        change=_flat(_without_weights),
    ),
)
