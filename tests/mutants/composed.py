"""Clients that get a loss with regularizers wrong: its gradient, its report, its errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from breadth import NO_BACKWARD, NO_RESULT
from mutant import Mutant, checks

from harness.reference.behaviour import Behaviour
from harness.reference.calls import Pending
from harness.reference.client import ReferenceClient
from harness.reference.encoding import PassOutput
from harness.reference.errors import CallError, NoGradientError, PartFailedError
from harness.reference.regularizers import calling, composing
from harness.reference.regularizers.flat import Flat
from harness.reference.regularizers.pipeline import STRUCTURED
from harness.reference.regularizers.results import Called
from harness.reference.regularizers.spec import Composition, Regularizer
from harness.reference.regularizers.telemetry import BaseLoss, LossReport, RegularizerReport
from harness.reference.training import TrainingClient

if TYPE_CHECKING:
    import torch

Terms = Sequence[tuple[Regularizer, Called]]
Reported = Sequence[tuple[str, RegularizerReport]]
Change = Callable[[Behaviour], Behaviour]


def _all(*names: str) -> tuple[str, ...]:
    return tuple(f"regularizers/{name}" for name in " ".join(names).split())


TRAINED = _all(
    "design-example one several tracking without-base weight-zero weight-hundred sixty-four names async-and-sync",
    "side-by-side executor executor-each cancels-base metrics constant-term a-datum-each chunked two-dimensions",
    "concurrent training training-on-regularizers built-in-sizes built-in-divergences built-in-pairs in-time",
    "returns-number",
)
OFFLINE = _all(
    "compute-design-example compute-several compute-without-base compute-weight-zero compute-sixty-four",
    "compute-async-and-sync compute-side-by-side compute-cancels-base compute-built-in-sizes",
    "compute-built-in-divergences compute-built-in-pairs",
)
WITH_BASE = tuple(name for name in TRAINED if name != "regularizers/a-datum-each")
"""Those whose base alone has a gradient for every datum."""

WITHOUT = ("custom/sum-literal", "regularizers/empty-list")
"""Nothing to get wrong: a mutant that is run here, too, is not caught everywhere."""

SOME = (*_all("several tracking compute-several weight-zero without-base"), *WITHOUT)
FAILING = _all("raises async-raises base-raises not-scalar returns-loss returns-nothing returns-texts returns-triple")
REPORT = checks(
    "regularizers.document regularizers.names regularizers.order regularizers.values regularizers.contributions",
    "regularizers.total regularizers.norms regularizers.custom regularizers.flat",
)
"""Checks that find nothing where there is no report."""


def _structured(**changes: Any) -> Change:
    return lambda behaviour: replace(behaviour, structured=replace(behaviour.structured, **changes))


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


# --- what is added up -------------------------------------------------------------------------------------------------


def _weighing(weigh: Callable[[float], float]) -> Change:
    """Compose with other weights; what is reported stays right."""

    def compose(base: Called | None, terms: Terms) -> torch.Tensor:
        return composing.compose(base, [(replace(each, weight=weigh(each.weight)), called) for each, called in terms])

    return _structured(compose=compose)


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


# --- what is reported -------------------------------------------------------------------------------------------------


def _reporting(change: Callable[[LossReport], LossReport]) -> Change:
    return _structured(report=lambda *parts: change(STRUCTURED.report(*parts)))


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

    return _structured(flat=flat)


def _names_cleaned(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name.replace(".", "_"): value for name, value in metrics.items()}


def _without_weights(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith("/weight:mean")}


# --- how parts are called ---------------------------------------------------------------------------------------------


async def _in_turn(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    """Call one regularizer after the other."""
    found: list[Called] = []
    for regularizer, leaves in zip(regularizers, logprobs, strict=True):
        found += await calling.call_regularizers([regularizer], data, [leaves], **options)
    return found


async def _without_threads(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    plain = [replace(each, run_in_executor=None) for each in regularizers]
    return await calling.call_regularizers(plain, data, logprobs, **{**options, "in_executor": False})


async def _own_flags_ignored(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    plain = [replace(each, run_in_executor=None) for each in regularizers]
    return await calling.call_regularizers(plain, data, logprobs, **options)


async def _twice(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    await calling.call_regularizers(regularizers, data, logprobs, **options)
    return await calling.call_regularizers(regularizers, data, logprobs, **options)


async def _failures_skipped(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    """Take a constant for a regularizer that fails."""
    import torch

    found: list[Called] = []
    for regularizer, leaves in zip(regularizers, logprobs, strict=True):
        try:
            found += await calling.call_regularizers([regularizer], data, [leaves], **options)
        except CallError:
            found.append(Called(torch.zeros(()), 0.0, {}))
    return found


async def _nameless(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    """Lose the name of the regularizer that fails."""
    try:
        return await calling.call_regularizers(regularizers, data, logprobs, **options)
    except CallError as error:
        error.part = None
        raise


async def _impatient(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    """Give every regularizer a quarter of a second, whatever the caller says."""
    return await calling.call_regularizers(regularizers, data, logprobs, **{**options, "limit": 1e-9})


async def _patient(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    return await calling.call_regularizers(regularizers, data, logprobs, **{**options, "limit": None})


async def _base_blamed(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    try:
        return await calling.call_regularizers(regularizers, data, logprobs, **options)
    except CallError as error:
        error.part = calling.BASE
        raise


async def _cancel_swallowed(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    """Take constants for the regularizers of a call that is cancelled, and go on."""
    import torch

    try:
        return await calling.call_regularizers(regularizers, data, logprobs, **options)
    except asyncio.CancelledError:
        return [Called(torch.zeros(()), 0.0, {}) for _ in regularizers]


async def _base_in_its_own_words(fn: Any, data: Any, logprobs: Any, *, workers: Any) -> Called:
    try:
        return await calling.call_base(fn, data, logprobs, workers=workers)
    except PartFailedError as error:
        error.part = None
        raise


async def _coroutines_only(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    """Refuse what returns something to await and is not `async def` itself."""
    for each in regularizers:
        if not asyncio.iscoroutinefunction(each.fn) and getattr(each.fn, "__name__", "") == "<lambda>":
            raise PartFailedError(composing.part_of(each), "it returned a coroutine, not (loss, metrics)")
    return await calling.call_regularizers(regularizers, data, logprobs, **options)


def _vector_summed(behaviour: Behaviour) -> Behaviour:
    """Sum a regularizer that is a vector."""

    async def summed(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
        return await calling.call_regularizers(
            [replace(each, fn=_summing(each.fn)) for each in regularizers], data, logprobs, **options
        )

    return _structured(call_regularizers=summed)(behaviour)


def _summing(fn: Any) -> Any:
    def plain(data: Any, logprobs: Any) -> Any:
        result = fn(data, logprobs)
        if isinstance(result, tuple) and len(result) == 2 and hasattr(result[0], "sum"):
            return result[0].sum(), result[1]
        return result

    return plain


async def _first_datums(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    """Show regularizers the first two datums only, as a client does that calls them for one chunk."""
    return await calling.call_regularizers(regularizers, data[:2], [each[:2] for each in logprobs], **options)


# --- what is refused --------------------------------------------------------------------------------------------------


def _lenient(base: Any, regularizers: Any, **options: Any) -> Composition:
    """Mend what has to be refused: names are made different, weights are made good."""
    mended = []
    for place, each in enumerate(regularizers or ()):
        weight = each["weight"]
        good = weight if 0 <= weight < float("inf") else 1.0
        taken = each["name"] in ("", *(other["name"] for other in mended))
        mended.append({**each, "name": f"term-{place}" if taken else each["name"], "weight": good})
    return STRUCTURED.read(base, None if regularizers is None else mended, **options)


def _nothing_is_zero(base: Any, regularizers: Any, **options: Any) -> Composition:
    if base is None and not regularizers:
        return STRUCTURED.read(lambda _data, logprobs: (sum(each.sum() for each in logprobs), {}), [], **options)
    return STRUCTURED.read(base, regularizers, **options)


def _empty_is_none(base: Any, regularizers: Any, **options: Any) -> Composition:
    read = STRUCTURED.read(base, regularizers, **options)
    return read if read.regularizers else replace(read, reported=False)


def _idle_dropped(base: Any, regularizers: Any, **options: Any) -> Composition:
    read = STRUCTURED.read(base, regularizers, **options)
    return replace(read, regularizers=tuple(each for each in read.regularizers if each.weight))


def _always_tracked(base: Any, regularizers: Any, **options: Any) -> Composition:
    return STRUCTURED.read(base, regularizers, **{**options, "track_grad_norms": True})


WEIGHTS = checks("weights.values")
CALLED = checks("regularizers.calls")
TRAINING = checks("training.gradient training.parameters")
LATER = REPORT | CALLED

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "regularizers-reported-not-trained",
        "Regularizers are in the value and the report, and not in the gradient that is sent.",
        WEIGHTS | checks("regularizers.norms"),
        "The backward pass is that of the base alone. The norm of the whole is that of what is sent.",
        scenarios=(*WITH_BASE, *WITHOUT),
        change=_structured(compose=_detached),
    ),
    Mutant(
        "regularizers-ignored",
        "Regularizers beside a base are accepted and never used.",
        WEIGHTS | CALLED | checks("metrics.values regularizers.names regularizers.norms"),
        "The call trains on the base loss alone, and its report names nothing.",
        scenarios=(*WITH_BASE, *OFFLINE, *WITHOUT),
        silences=checks("regularizers.contributions"),
        change=_structured(read=_read_without),
    ),
    Mutant(
        "base-not-trained",
        "The base is in the value, and not in the gradient that is sent.",
        WEIGHTS | checks("regularizers.norms"),
        "A gradient that starts with the first regularizer.",
        scenarios=SOME,
        change=_structured(compose=_base_detached),
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
        scenarios=(*_all("several sixty-four compute-several one"), *WITHOUT),
        change=_structured(compose=_last_forgotten),
    ),
    Mutant(
        "tracking-changes-the-gradient",
        "Where norms are tracked the gradient is divided by its norm.",
        WEIGHTS,
        "What is measured is what is sent: tracking must leave it alone.",
        scenarios=(*_all("tracking one several"), *WITHOUT),
        change=_structured(norm=_normalised),
    ),
    Mutant(
        "missing-gradient-of-the-whole-as-zeros",
        "Where the whole has no gradient, zeros are sent.",
        checks("result.status error.sent error.after"),
        "The call succeeds where it must fail, and the client is usable; no error is left.",
        silences=checks("error.kind error.raised_at"),
        scenarios=_all("no-gradient nothing-to-train one"),
        change=_structured(differentiate=_zeros_where_missing),
    ),
    Mutant(
        "every-part-needs-a-gradient",
        "A regularizer without a gradient fails the call.",
        checks("result.status chunks.complete"),
        "A constant is a regularizer like any other; nothing is sent backward.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=_all("constant-term returns-number"),
        change=_structured(compose=_every_part_needed),
    ),
    # --- the report ---------------------------------------------------------------------------------------------------
    Mutant(
        "no-report",
        "A call with regularizers tells nothing of them.",
        checks("regularizers.document"),
        "What each part contributed is what the caller asked for.",
        silences=REPORT - checks("regularizers.document"),
        scenarios=_all("one several without-base"),
        client=TellsNothing,
    ),
    Mutant(
        "empty-list-is-none",
        "An empty list of regularizers counts as none at all.",
        checks("regularizers.document"),
        "Who passes a list gets a report, however long the list is.",
        silences=REPORT - checks("regularizers.document regularizers.contributions"),
        scenarios=("regularizers/empty-list",),
        change=_structured(read=_empty_is_none),
    ),
    Mutant(
        "weight-zero-left-out",
        "A regularizer of weight 0 is not computed.",
        checks("regularizers.names regularizers.calls"),
        "It is there to be watched. What is sent is the same.",
        scenarios=_all("weight-zero compute-weight-zero one"),
        change=_structured(read=_idle_dropped),
    ),
    Mutant(
        "nulls-left-out",
        "What is null is left out of the report.",
        checks("regularizers.document"),
        "Nulls are explicit: a reader tells what there is not from what it does not know.",
        scenarios=_all("tracking names compute-several without-base one"),
        change=_reporting(_terse),
    ),
    Mutant(
        "regularizers-by-completion",
        "The report has the regularizers in the order in which they ended.",
        checks("regularizers.order"),
        "Which of two tasks ends first is nobody's decision.",
        scenarios=_all("side-by-side compute-side-by-side in-time concurrent several"),
        change=_reporting(_by_completion),
    ),
    Mutant(
        "regularizers-in-a-map",
        "More than 32 regularizers come in an order of their own.",
        checks("regularizers.order"),
        "Some maps keep the order of a few keys and of no more.",
        scenarios=_all("sixty-four compute-sixty-four several"),
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
        scenarios=_all("several without-base design-example compute-several training-on-regularizers") + WITHOUT,
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
        scenarios=_all("cancels-base compute-cancels-base several weight-hundred design-example"),
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
        scenarios=_all("several two-dimensions chunked a-datum-each design-example one"),
        change=_structured(norm=_norm_of_parts),
    ),
    Mutant(
        "norms-unasked",
        "Norms are there where none was asked for.",
        checks("regularizers.norms"),
        "They cost a backward pass for each part.",
        scenarios=_all("tracking names metrics one"),
        change=_structured(read=_always_tracked),
    ),
    Mutant(
        "part-metrics-lost",
        "The metrics of regularizers are not reported.",
        checks("regularizers.custom"),
        "They are in no other place.",
        scenarios=_all("several metrics weight-zero built-in-sizes compute-built-in-pairs one"),
        change=_terms(_replaced(custom=lambda _: {})),
    ),
    Mutant(
        "flat-names-cleaned",
        "Dots in names of the flat form become underscores.",
        checks("regularizers.flat"),
        "Metric names may hold what names of regularizers may hold.",
        scenarios=_all("names one"),
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
    # --- how parts are called -----------------------------------------------------------------------------------------
    Mutant(
        "regularizers-in-turn",
        "Regularizers are awaited one after the other.",
        checks("result.status chunks.complete regularizers.calls"),
        "Of two that wait for each other the first never ends; the others are never called.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=_all("side-by-side in-time executor"),
        change=_structured(call_regularizers=_in_turn),
    ),
    Mutant(
        "regularizers-in-turn-offline",
        "Regularizers are awaited one after the other, offline.",
        checks("result.status regularizers.calls"),
        "As with a server.",
        silences=LATER - CALLED,
        scenarios=_all("compute-side-by-side"),
        change=_structured(call_regularizers=_in_turn),
    ),
    Mutant(
        "executor-ignored",
        "run_sync_in_executor and the flags of entries change nothing.",
        checks("result.status chunks.complete regularizers.calls"),
        "A plain function that waits for another one waits in vain.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=_all("executor"),
        change=_structured(call_regularizers=_without_threads),
    ),
    Mutant(
        "executor-flags-of-entries-ignored",
        "Only the call's run_sync_in_executor counts.",
        checks("result.status chunks.complete regularizers.calls loss.calls"),
        "An entry's own flag goes before the call's. The client refuses the second call.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=_all("executor-each"),
        change=_structured(call_regularizers=_own_flags_ignored),
    ),
    Mutant(
        "regularizers-called-twice",
        "Regularizers are called once for their value and once for their gradient.",
        CALLED | checks("loss.calls"),
        "A random callback is not the same the second time. Without a base, the first regularizer is the loss.",
        scenarios=(*TRAINED, *OFFLINE, *WITHOUT),
        change=_structured(call_regularizers=_twice),
    ),
    Mutant(
        "coroutine-functions-only",
        "What returns something to await has to be written `async def`.",
        checks("result.status chunks.complete regularizers.calls"),
        "A plain function may return an awaitable.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=_all("async-and-sync"),
        change=_structured(call_regularizers=_coroutines_only),
    ),
    # --- errors -------------------------------------------------------------------------------------------------------
    Mutant(
        "failing-regularizers-skipped",
        "A regularizer that fails counts as 0.",
        checks("result.status error.sent error.after"),
        "The rest is trained as if nothing had been asked for.",
        silences=checks("error.kind error.raised_at regularizers.error"),
        scenarios=(*(name for name in FAILING if name != "regularizers/base-raises"), "regularizers/times-out"),
        change=_structured(call_regularizers=_failures_skipped),
    ),
    Mutant(
        "failing-regularizers-skipped-offline",
        "A regularizer that fails counts as 0, offline.",
        checks("result.status"),
        "The report says 0 of what was never computed.",
        silences=checks("error.kind regularizers.error"),
        scenarios=_all("compute-raises compute-not-scalar compute-times-out"),
        change=_structured(call_regularizers=_failures_skipped),
    ),
    Mutant(
        "vector-regularizer-summed",
        "A regularizer that is no scalar is summed in silence.",
        checks("result.status error.sent error.after"),
        "The contract refuses it.",
        silences=checks("error.kind error.raised_at regularizers.error"),
        scenarios=_all("not-scalar"),
        change=_vector_summed,
    ),
    Mutant(
        "name-lost",
        "The error of a regularizer does not say which one.",
        checks("regularizers.error"),
        "Of sixty-four regularizers one took too long: the user wants to know which.",
        scenarios=(
            *(name for name in FAILING if name != "regularizers/base-raises"),
            *_all("times-out compute-times-out compute-raises compute-not-scalar base-raises"),
        ),
        change=_structured(call_regularizers=_nameless),
    ),
    Mutant(
        "base-blamed",
        "The error of a regularizer is blamed on the base.",
        checks("regularizers.error"),
        "The user looks for a mistake where there is none.",
        scenarios=_all("raises times-out base-raises"),
        change=_structured(call_regularizers=_base_blamed),
    ),
    Mutant(
        "base-unnamed",
        "The error of the base does not say that it is the base's.",
        checks("regularizers.error"),
        "Base and regularizers may raise the same.",
        scenarios=_all("base-raises base-returns-loss compute-base-raises raises"),
        change=_structured(call_base=_base_in_its_own_words),
    ),
    Mutant(
        "cancellation-swallowed",
        "A call that is cancelled while its regularizers run takes them for 0 and goes on.",
        checks("result.status error.sent error.after"),
        "The caller has given the call up; a backward pass is sent and trained on.",
        silences=checks("error.kind error.raised_at"),
        scenarios=_all("cancelled"),
        change=_structured(call_regularizers=_cancel_swallowed),
    ),
    Mutant(
        "timeout-ignored",
        "regularizer_timeout limits nothing.",
        checks("result.hang"),
        "What never ends is waited for; the client is never closed.",
        silences=checks("session.end error.kind error.raised_at error.after regularizers.error loss.calls"),
        scenarios=_all("times-out"),
        change=_structured(call_regularizers=_patient),
    ),
    Mutant(
        "given-up-at-once",
        "Regularizers with a time limit are given up at once.",
        checks("result.status chunks.complete"),
        "The limit of the caller is half a minute.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=_all("in-time"),
        change=_structured(call_regularizers=_impatient),
    ),
    Mutant(
        "nothing-is-zero",
        "A call with neither base nor regularizers trains on something.",
        checks("result.status error.sent weights.values"),
        "There is nothing to compose; what is sent for it stands where the weights of the next call do.",
        silences=checks("error.kind error.raised_at"),
        scenarios=_all("nothing"),
        change=_structured(read=_nothing_is_zero),
    ),
    Mutant(
        "refuses-nothing",
        "Names that are taken or empty are changed, weights that are no weights are taken for 1.",
        checks("result.status error.sent error.after weights.values"),
        "What the caller gets is not what was declared.",
        silences=checks("error.kind error.raised_at"),
        scenarios=_all("names-refused weights-refused"),
        change=_structured(read=_lenient),
    ),
    Mutant(
        "refuses-nothing-offline",
        "The same, offline.",
        checks("result.status error.after"),
        "As with a server.",
        silences=checks("error.kind"),
        scenarios=_all("compute-names-refused compute-weights-refused"),
        change=_structured(read=_lenient),
    ),
)
