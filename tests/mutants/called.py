"""Clients that call the parts of a structured loss wrongly, or are wrong about those that fail."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from breadth import NO_BACKWARD, NO_RESULT
from mutant import Mutant, checks
from structured import CALLED, LATER, OFFLINE, TRAINED, WITHOUT, scenarios_of, structured

from harness.reference.behaviour import Behaviour
from harness.reference.errors import CallError, PartFailedError
from harness.reference.regularizers import calling, composing
from harness.reference.regularizers.pipeline import STRUCTURED
from harness.reference.regularizers.results import Called
from harness.reference.regularizers.spec import Composition, is_async

FAILING = scenarios_of(
    "raises async-raises base-raises not-scalar returns-loss returns-nothing returns-texts returns-triple"
)


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


async def _flag_of_the_call_wins(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    plain = [replace(each, run_in_executor=each.run_in_executor or None) for each in regularizers]
    return await calling.call_regularizers(plain, data, logprobs, **options)


_LEFT: list[asyncio.Future[Any]] = []


async def _left_running(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    def shielded(fn: Any) -> Any:
        async def called(*given: Any) -> Any:
            # Held, or it would be collected, and end with that.
            _LEFT.append(asyncio.ensure_future(fn(*given)))
            return await asyncio.shield(_LEFT[-1])

        return called

    left = [replace(each, fn=shielded(each.fn)) if is_async(each.fn) else each for each in regularizers]
    return await calling.call_regularizers(left, data, logprobs, **options)


async def _plain_ones_never_late(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
    limit = options.pop("limit")
    unlimited = not any(is_async(each.fn) for each in regularizers)
    return await calling.call_regularizers(regularizers, data, logprobs, limit=None if unlimited else limit, **options)


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

    return structured(call_regularizers=summed)(behaviour)


def _summing(fn: Any) -> Any:
    def plain(data: Any, logprobs: Any) -> Any:
        result = fn(data, logprobs)
        if isinstance(result, tuple) and len(result) == 2 and hasattr(result[0], "sum"):
            return result[0].sum(), result[1]
        return result

    return plain


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


MUTANTS: tuple[Mutant, ...] = (
    # --- how parts are called -----------------------------------------------------------------------------------------
    Mutant(
        "regularizers-in-turn",
        "Regularizers are awaited one after the other.",
        checks("result.status chunks.complete regularizers.calls"),
        "Of two that wait for each other the first never ends; the others are never called.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=scenarios_of("side-by-side in-time executor"),
        change=structured(call_regularizers=_in_turn),
    ),
    Mutant(
        "regularizers-in-turn-offline",
        "Regularizers are awaited one after the other, offline.",
        checks("result.status regularizers.calls"),
        "As with a server.",
        silences=LATER - CALLED,
        scenarios=scenarios_of("compute-side-by-side"),
        change=structured(call_regularizers=_in_turn),
    ),
    Mutant(
        "executor-ignored",
        "run_sync_in_executor and the flags of entries change nothing.",
        checks("result.status chunks.complete regularizers.calls"),
        "A plain function that waits for another one waits in vain.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=scenarios_of("executor"),
        change=structured(call_regularizers=_without_threads),
    ),
    Mutant(
        "executor-flags-of-entries-ignored",
        "Only the call's run_sync_in_executor counts.",
        checks("result.status chunks.complete regularizers.calls loss.calls"),
        "An entry's own flag goes before the call's. The client refuses the second call.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=scenarios_of("executor-each"),
        change=structured(call_regularizers=_own_flags_ignored),
    ),
    Mutant(
        "regularizers-called-twice",
        "Regularizers are called once for their value and once for their gradient.",
        CALLED | checks("loss.calls"),
        "A random callback is not the same the second time. Without a base, the first regularizer is the loss.",
        scenarios=(*TRAINED, *OFFLINE, *WITHOUT),
        change=structured(call_regularizers=_twice),
    ),
    Mutant(
        "coroutine-functions-only",
        "What returns something to await has to be written `async def`.",
        checks("result.status chunks.complete regularizers.calls"),
        "A plain function may return an awaitable.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=scenarios_of("async-and-sync"),
        change=structured(call_regularizers=_coroutines_only),
    ),
    Mutant(
        "flag-of-the-call-wins",
        "run_sync_in_executor gives a thread also to an entry that wants none.",
        checks("result.status error.sent error.after"),
        "What the entry says itself goes before what the call says of all.",
        silences=checks("error.kind error.raised_at regularizers.error"),
        scenarios=scenarios_of("flag-of-the-entry"),
        change=structured(call_regularizers=_flag_of_the_call_wins),
    ),
    # --- errors -------------------------------------------------------------------------------------------------------
    Mutant(
        "failing-regularizers-skipped",
        "A regularizer that fails counts as 0.",
        checks("result.status error.sent error.after"),
        "The rest is trained as if nothing had been asked for.",
        silences=checks("error.kind error.raised_at regularizers.error"),
        scenarios=(*(name for name in FAILING if name != "regularizers/base-raises"), "regularizers/times-out"),
        change=structured(call_regularizers=_failures_skipped),
    ),
    Mutant(
        "failing-regularizers-skipped-offline",
        "A regularizer that fails counts as 0, offline.",
        checks("result.status"),
        "The report says 0 of what was never computed.",
        silences=checks("error.kind regularizers.error"),
        scenarios=scenarios_of("compute-raises compute-not-scalar compute-times-out"),
        change=structured(call_regularizers=_failures_skipped),
    ),
    Mutant(
        "vector-regularizer-summed",
        "A regularizer that is no scalar is summed in silence.",
        checks("result.status error.sent error.after"),
        "The contract refuses it.",
        silences=checks("error.kind error.raised_at regularizers.error"),
        scenarios=scenarios_of("not-scalar"),
        change=_vector_summed,
    ),
    Mutant(
        "name-lost",
        "The error of a regularizer does not say which one.",
        checks("regularizers.error"),
        "Of sixty-four regularizers one took too long: the user wants to know which.",
        scenarios=(
            *(name for name in FAILING if name != "regularizers/base-raises"),
            *scenarios_of("times-out compute-times-out compute-raises compute-not-scalar base-raises"),
        ),
        change=structured(call_regularizers=_nameless),
    ),
    Mutant(
        "base-blamed",
        "The error of a regularizer is blamed on the base.",
        checks("regularizers.error"),
        "The user looks for a mistake where there is none.",
        scenarios=scenarios_of("raises times-out base-raises"),
        change=structured(call_regularizers=_base_blamed),
    ),
    Mutant(
        "base-unnamed",
        "The error of the base does not say that it is the base's.",
        checks("regularizers.error"),
        "Base and regularizers may raise the same.",
        scenarios=scenarios_of("base-raises base-returns-loss compute-base-raises raises"),
        change=structured(call_base=_base_in_its_own_words),
    ),
    Mutant(
        "cancellation-swallowed",
        "A call that is cancelled while its regularizers run takes them for 0 and goes on.",
        checks("result.status error.sent error.after"),
        "The caller has given the call up; a backward pass is sent and trained on.",
        silences=checks("error.kind error.raised_at"),
        scenarios=scenarios_of("cancelled"),
        change=structured(call_regularizers=_cancel_swallowed),
    ),
    Mutant(
        "timeout-ignored",
        "regularizer_timeout limits nothing.",
        checks("result.hang"),
        "What never ends is waited for; the client is never closed.",
        silences=checks("session.end error.kind error.raised_at error.after regularizers.error loss.calls"),
        scenarios=scenarios_of("times-out"),
        change=structured(call_regularizers=_patient),
    ),
    Mutant(
        "others-left-running",
        "When a regularizer fails the others go on.",
        checks("regularizers.ended"),
        "The call is over, and something of it still computes.",
        scenarios=scenarios_of("others-cancelled compute-others-cancelled"),
        change=structured(call_regularizers=_left_running),
    ),
    Mutant(
        "plain-ones-never-late",
        "regularizer_timeout does not count for what cannot be interrupted.",
        checks("result.status error.sent error.after"),
        "A limit means the same of every regularizer.",
        silences=checks("error.kind error.raised_at regularizers.error"),
        scenarios=scenarios_of("late"),
        change=structured(call_regularizers=_plain_ones_never_late),
    ),
    Mutant(
        "plain-ones-never-late-offline",
        "The same, offline.",
        checks("result.status"),
        "As with a server.",
        silences=checks("error.kind regularizers.error"),
        scenarios=scenarios_of("compute-late"),
        change=structured(call_regularizers=_plain_ones_never_late),
    ),
    Mutant(
        "given-up-at-once",
        "Regularizers with a time limit are given up at once.",
        checks("result.status chunks.complete"),
        "The limit of the caller is half a minute.",
        silences=NO_RESULT | NO_BACKWARD | LATER - CALLED,
        scenarios=scenarios_of("in-time"),
        change=structured(call_regularizers=_impatient),
    ),
    Mutant(
        "nothing-is-zero",
        "A call with neither base nor regularizers trains on something.",
        checks("result.status error.sent weights.values"),
        "There is nothing to compose; what is sent for it stands where the weights of the next call do.",
        silences=checks("error.kind error.raised_at"),
        scenarios=scenarios_of("nothing"),
        change=structured(read=_nothing_is_zero),
    ),
    Mutant(
        "refuses-nothing",
        "Names that are taken or empty are changed, weights that are no weights are taken for 1.",
        checks("result.status error.sent error.after weights.values"),
        "What the caller gets is not what was declared.",
        silences=checks("error.kind error.raised_at"),
        scenarios=scenarios_of("names-refused weights-refused"),
        change=structured(read=_lenient),
    ),
    Mutant(
        "refuses-nothing-offline",
        "The same, offline.",
        checks("result.status error.after"),
        "As with a server.",
        silences=checks("error.kind"),
        scenarios=scenarios_of("compute-names-refused compute-weights-refused"),
        change=structured(read=_lenient),
    ),
)
