"""Clients that are right on ordinary data and wrong at an edge: odd values and shapes, odd answers, several models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import torch
from mutant import Mutant, checks

from harness.reference.behaviour import Behaviour
from harness.reference.calls import Call, Pending
from harness.reference.chunking import Bounds, Limits, own_bounds
from harness.reference.client import ReferenceClient
from harness.reference.custom_loss import (
    LossFn,
    declared_dtype,
    gradients_of,
    linearize,
    targets_and_weights,
    truncating,
)
from harness.reference.encoding import PassOutput
from harness.reference.errors import BadOutputError, HttpStatusError, NoGradientError
from harness.reference.order import PER_PASS, Plan
from harness.reference.reduction import Metrics, Number
from harness.reference.rules import go_on, refuse_nonfinite
from harness.reference.training import TrainingClient
from harness.reference.values import Array, Datum, TensorValue, dense, refuse_nested
from harness.suite.data import DatumValue, InputValue

Pairs = Sequence[tuple[Datum, Array]]
Sparse = Callable[[Array], TensorValue]
Weigh = Callable[[Array], Array]
DIES = "result.status"
NO_ERROR = checks("error.kind error.raised_at")
NO_RESULT = checks("metrics.names metrics.values result.outputs")
NO_BACKWARD = checks("weights.keys weights.values weights.shape weights.dtype weights.layout weights.targets")


# --- values -----------------------------------------------------------------------------------------------------------


def _clips(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, weigh=lambda gradient: np.clip(-gradient, -1000, 1000))


def _rounds(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, weigh=lambda gradient: np.round(-gradient, 5))


def _positive_zero(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, weigh=lambda gradient: -gradient + np.float32(0))


def _finite(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, weigh=lambda gradient: np.nan_to_num(-gradient, posinf=0, neginf=0))


def _finite_only(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, check_finite=refuse_nonfinite)


def _zero_is_missing(behaviour: Behaviour) -> Behaviour:
    def gradients(loss: torch.Tensor, leaves: Sequence[torch.Tensor]) -> list[Array]:
        found = gradients_of(loss, leaves)
        if not all(gradient.any() for gradient in found):
            raise NoGradientError("a gradient is zero")
        return found

    return replace(behaviour, gradients=gradients)


def _empty_dropped(behaviour: Behaviour) -> Behaviour:
    def linear(pairs: Pairs, *, sparse: Sparse, weigh: Weigh) -> list[Datum]:
        return linearize([pair for pair in pairs if pair[0].tokens.size], sparse=sparse, weigh=weigh)

    return replace(behaviour, linearize=linear, backward_cut=own_bounds)


def _all_or_none(behaviour: Behaviour) -> Behaviour:
    def forward(data: Sequence[Datum]) -> list[Datum]:
        given = data and "weights" in data[0].inputs
        bare = [Datum(tokens=d.tokens, inputs={k: v for k, v in d.inputs.items() if k != "weights"}) for d in data]
        return targets_and_weights(data if given else bare)

    return replace(behaviour, forward_inputs=forward)


def _refuses_nested(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, nested=refuse_nested)


def _like_targets(behaviour: Behaviour) -> Behaviour:
    def shaped(pairs: Pairs, *, sparse: Sparse, weigh: Weigh) -> list[Datum]:
        moved = []
        for datum, gradient in pairs:
            shape = datum.inputs["target_tokens"].shape
            moved.append((datum, gradient if shape is None else gradient.reshape(shape)))
        return linearize(moved, sparse=sparse, weigh=weigh)

    return replace(behaviour, linearize=shaped)


def _integers_read(behaviour: Behaviour) -> Behaviour:
    def read(tensor: TensorValue) -> Array:
        return declared_dtype(replace(tensor, values=tensor.values.astype(np.float32)))

    return replace(behaviour, leaf_dtype=read)


def _finite_leaves(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, leaf_dtype=lambda tensor: np.nan_to_num(behaviour.leaf_dtype(tensor)))


def _pairs_what_is_there(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, pair=truncating)


def _cut_to_targets(behaviour: Behaviour) -> Behaviour:
    def trimmed(pairs: Pairs, *, sparse: Sparse, weigh: Weigh) -> list[Datum]:
        short = [(datum, gradient[: datum.inputs["target_tokens"].values.size]) for datum, gradient in pairs]
        return linearize(short, sparse=sparse, weigh=weigh)

    return replace(behaviour, linearize=trimmed)


def _goes_on_empty(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, empty_plain=go_on, empty_custom=go_on)


# --- data -------------------------------------------------------------------------------------------------------------


class _OtherData(ReferenceClient):
    """Reads the caller's data in a way of its own."""

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its data read otherwise."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
        plain = made._datums

        def read(data: Sequence[DatumValue]) -> list[Datum]:
            return self.after(plain([self.before(value) for value in data]), data)

        made._datums = read  # type: ignore[method-assign]
        return made

    def before(self, value: DatumValue) -> DatumValue:
        """Return what is read instead."""
        return value

    def after(self, datums: list[Datum], given: Sequence[DatumValue]) -> list[Datum]:
        """Return what was read instead."""
        del given
        return datums


class WholeListsAreInts(_OtherData):
    """Takes a plain list of whole numbers as int64, whatever its key."""

    def after(self, datums: list[Datum], given: Sequence[DatumValue]) -> list[Datum]:
        """Retype lists whose numbers are all whole."""

        def retyped(tensor: TensorValue, value: InputValue) -> TensorValue:
            if value.container != "list" or (tensor.values % 1).any():
                return tensor
            return replace(tensor, dtype="int64", values=tensor.values.astype(np.int64))

        return [
            Datum(datum.tokens, {key: retyped(tensor, value.inputs[key]) for key, tensor in datum.inputs.items()})
            for datum, value in zip(datums, given, strict=True)
        ]


class GuessesDtype(_OtherData):
    """Takes a plain list under an unknown key as float32."""

    def before(self, value: DatumValue) -> DatumValue:
        """Hand rewards over as a tensor."""
        inputs = {
            key: replace(tensor, container="tensor") if key == "rewards" else tensor
            for key, tensor in value.inputs.items()
        }
        return DatumValue(value.tokens, inputs)


class FlattensNative(_OtherData):
    """Forgets the shape of native tensors other than the targets."""

    def after(self, datums: list[Datum], given: Sequence[DatumValue]) -> list[Datum]:
        """Flatten what came in a native tensor."""

        def flat(key: str, tensor: TensorValue, value: InputValue) -> TensorValue:
            kept = value.container != "native" or key == "target_tokens"
            return tensor if kept else dense(tensor.dense())

        return [
            Datum(datum.tokens, {key: flat(key, tensor, value.inputs[key]) for key, tensor in datum.inputs.items()})
            for datum, value in zip(datums, given, strict=True)
        ]


class InventsTargets(_OtherData):
    """Takes the tokens themselves for missing target_tokens."""

    def before(self, value: DatumValue) -> DatumValue:
        """Add what the caller left out."""
        return DatumValue(value.tokens, {"target_tokens": InputValue(value.tokens, "tensor"), **value.inputs})


class LossPerDatum(ReferenceClient):
    """Calls the loss for one datum after the other and adds up."""

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its losses taken apart."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
        plain = made.forward_backward_custom

        async def apart(data: Sequence[DatumValue], loss_fn: LossFn, *, call: str = "") -> Pending[PassOutput]:
            def each(datums: Sequence[Datum], leaves: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
                parts = [loss_fn([datum], [leaf]) for datum, leaf in zip(datums, leaves, strict=True)]
                return torch.stack([loss for loss, _ in parts]).sum(), parts[-1][1]

            return await plain(data, each, call=call)

        made.forward_backward_custom = apart  # type: ignore[method-assign]
        return made


# --- chunks and metrics -----------------------------------------------------------------------------------------------


def _cuts_again(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, backward_cut=own_bounds, reservation=PER_PASS)


def _cut_after(behaviour: Behaviour) -> Behaviour:
    def cut(sizes: Sequence[int], limits: Limits) -> Bounds:
        bounds, start, held = [], 0, 0
        for index, size in enumerate(sizes):
            held += size
            if held > limits.max_bytes or index + 1 - start == limits.max_count:
                bounds.append((start, index + 1))
                start, held = index + 1, 0
        return (*bounds, (start, len(sizes))) if start < len(sizes) else tuple(bounds)

    return replace(behaviour, cut=cut)


def _empty_after(behaviour: Behaviour) -> Behaviour:
    def cut(sizes: Sequence[int], limits: Limits) -> Bounds:
        bounds = behaviour.cut(sizes, limits)
        return (*bounds, (len(sizes), len(sizes))) if sizes and sizes[-1] > limits.max_bytes else bounds

    return replace(behaviour, cut=cut)


def _any_order(behaviour: Behaviour) -> Behaviour:
    def turned(ids: range) -> Plan:
        plan = behaviour.order(ids)
        return Plan(waves=tuple(wave[::-1] for wave in plan.waves), turns=plan.turns)

    return replace(behaviour, order=turned)


def _last_colon(behaviour: Behaviour) -> Behaviour:
    def reduce(parts: Sequence[Mapping[str, Number]], outputs: Sequence[int]) -> Metrics:
        plain = [{key: value for key, value in part.items() if key.count(":") < 2} for part in parts]
        return {**behaviour.reduce(plain, outputs), "a:b:sum": sum(part.get("a:b:sum", 0.0) for part in parts)}

    return replace(behaviour, reduce=reduce)


def _zero_mean(behaviour: Behaviour) -> Behaviour:
    def reduce(parts: Sequence[Mapping[str, Number]], outputs: Sequence[int]) -> Metrics:
        try:
            return behaviour.reduce(parts, outputs)
        except BadOutputError:
            return dict.fromkeys(parts[0], 0.0)

    return replace(behaviour, reduce=reduce)


def _loss_optional(behaviour: Behaviour) -> Behaviour:
    def merge(server: Mapping[str, Number], custom: Mapping[str, Number], loss: float) -> Metrics:
        return behaviour.merge({"loss:sum": 0.0, **server}, custom, loss)

    return replace(behaviour, merge=merge)


# --- bodies -----------------------------------------------------------------------------------------------------------


def _no_decay(behaviour: Behaviour) -> Behaviour:
    def body(route: str, given: Mapping[str, Any]) -> Any:
        return behaviour.body(route, {**given, "weight_decay": 0.0} if route == "optim_step" else given)

    return replace(behaviour, body=body)


def _no_seed(behaviour: Behaviour) -> Behaviour:
    def body(route: str, given: Mapping[str, Any]) -> Any:
        return behaviour.body(route, {**given, "seed": None} if route == "create_model" else given)

    return replace(behaviour, body=body)


def _asks_again(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, remembers_info=False)


# --- results and models -----------------------------------------------------------------------------------------------


class LosesStepMetrics(ReferenceClient):
    """Drops the metrics of an optimizer step."""

    async def poll(self, submitted: Mapping[str, Any], request_type: str, call: Call, *, roundtrip: float) -> bytes:
        """Empty the metrics of an optimizer step."""
        content = await super().poll(submitted, request_type, call, roundtrip=roundtrip)
        return b'{"metrics": {}, "type": "optim_step"}' if request_type == "OptimStep" else content


class SharesIds(ReferenceClient):
    """Counts the ids of all its models together."""

    _shared: Any = None

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model with the first model's counter."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
        if self._shared is None:
            self._shared = made._turns
        made._turns = self._shared
        return made


class KnowsOneLoss(ReferenceClient):
    """Sends cross_entropy, whatever loss is asked for."""

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its plain passes altered."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
        plain = made.forward_backward

        def known(data: Sequence[DatumValue], _loss_fn: str, *, call: str = "") -> Pending[PassOutput]:
            return plain(data, "cross_entropy", call=call)

        made.forward_backward = known  # type: ignore[method-assign]
        return made


class LoadsNothing(ReferenceClient):
    """Answers load_state without asking the server."""

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its loads forgotten."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)

        async def nothing(path: str) -> dict[str, Any]:
            return {"path": path}

        def forget(path: str, *, call: str = "") -> Pending[dict[str, Any]]:
            del call
            return Pending(self.spawn(nothing(path)), "LoadWeightsResponse")

        made.load_state = forget  # type: ignore[method-assign]
        return made


class _GivesUp(ReferenceClient):
    """Takes an answer that only asks for patience as the end."""

    def __init__(self, base_url: str, api_key: str, behaviour: Behaviour, *, workers: Executor | None = None) -> None:
        super().__init__(base_url, api_key, behaviour, workers=workers)
        self._transport._http.event_hooks = {"response": [self.look]}

    async def look(self, response: httpx.Response) -> None:
        """Raise where the client gives up."""
        raise NotImplementedError


class GivesUpOnTimeout(_GivesUp):
    """Fails when the poll of an optimizer step times out on the server."""

    async def look(self, response: httpx.Response) -> None:
        """Raise on 408."""
        asked = response.request.headers.get("x-tinker-request-type")
        if response.status_code == httpx.codes.REQUEST_TIMEOUT and asked == "OptimStep":
            raise HttpStatusError(408, "the poll timed out")


class GivesUpOnNotYet(_GivesUp):
    """Fails when an optimizer step has no result yet."""

    async def look(self, response: httpx.Response) -> None:
        """Raise on what asks to try again."""
        asked = response.request.headers.get("x-tinker-request-type")
        if asked == "OptimStep" and b"try_again" in await response.aread():
            raise HttpStatusError(200, "the result is not there")


class GivesUpOnPause(_GivesUp):
    """Fails when the queue is paused before a backward pass."""

    async def look(self, response: httpx.Response) -> None:
        """Raise on a paused queue."""
        asked = response.request.headers.get("x-tinker-request-type")
        if asked == "ForwardBackward" and b"paused" in await response.aread():
            raise HttpStatusError(200, "the queue is paused")


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "loss-per-datum",
        "The loss is called for one datum after the other, and the values are added.",
        checks("loss.calls loss.saw_shape loss.saw_values weights.values"),
        "A loss that couples datums is another loss when it is taken apart.",
        scenarios=(
            "custom/logsumexp",
            "custom/batch-normalised",
            "training/batch-normalised",
            "training/batch-normalised-awaited",
        ),
        client=LossPerDatum,
    ),
    Mutant(
        "gradient-clipped",
        "Gradients are clipped to a thousand.",
        checks("weights.values"),
        "Nobody asked for it, and it shows only where a gradient is larger.",
        scenarios=("custom/gradient-range", "custom/nonlinear", "custom/sum-literal"),
        change=_clips,
    ),
    Mutant(
        "gradient-rounded",
        "Weights have five digits after the point.",
        checks("weights.values"),
        "A gradient of 1e-6 is a gradient.",
        scenarios=("custom/gradient-range", "custom/sum-literal", "custom/last-token"),
        change=_rounds,
    ),
    Mutant(
        "zero-gradient-refused",
        "A gradient of zeros counts as missing.",
        checks(DIES, "chunks.complete"),
        "A datum without influence, or without tokens, has a gradient: zeros, or nothing. No backward pass is sent.",
        silences=NO_RESULT | NO_BACKWARD,
        scenarios=("custom/unused-datum", "custom/zero-length", "custom/sum-literal"),
        change=_zero_is_missing,
    ),
    Mutant(
        "empty-datums-dropped",
        "Datums without tokens are left out of the backward pass.",
        checks("chunks.complete", "result.outputs"),
        "Outputs no longer belong to the datums of the caller.",
        scenarios=("custom/zero-length", "custom/sum-literal"),
        change=_empty_dropped,
    ),
    Mutant(
        "weights-all-or-none",
        "The first datum decides whether the caller gave weights.",
        checks("forward.values"),
        "Weights that are there are replaced by zeros.",
        scenarios=("custom/some-weights", "custom/user-weights", "custom/sum-literal"),
        change=_all_or_none,
    ),
    Mutant(
        "native-flattened",
        "Native weights are flattened.",
        checks("forward.values"),
        "Two dimensions become one.",
        scenarios=("custom/native-tensors", "custom/targets-2d", "custom/user-weights"),
        client=FlattensNative,
    ),
    Mutant(
        "whole-lists-int64",
        "0.15.0 takes plain lists of whole numbers as int64.",
        checks("forward.values"),
        "The key says float32.",
        contract="tinker-0.15.0",
        scenarios=("custom/known-list-keys", "custom/plain-lists", "custom/sum-literal"),
        client=WholeListsAreInts,
    ),
    Mutant(
        "nested-refused",
        "0.38.0 refuses lists of lists.",
        checks(DIES, "chunks.complete", "training.gradient", "training.parameters"),
        "The release accepts them and trains.",
        silences=NO_BACKWARD
        | checks("wire.encoding wire.forms chunks.boundaries chunks.nonempty chunks.limits forward.keys forward.values")
        | checks("metrics.values result.outputs")
        | checks("loss.saw_shape loss.saw_dtype loss.saw_values loss.saw_keys loss.unchanged"),
        scenarios=("custom/nested-lists", "custom/plain-lists"),
        change=_refuses_nested,
    ),
    Mutant(
        "weights-shaped-like-targets",
        "0.15.0 gives the weights the shape of target_tokens.",
        checks("weights.shape"),
        "The gradient has the shape of the leaf, and the leaf is flat there.",
        contract="tinker-0.15.0",
        scenarios=("custom/shape-omitted", "custom/shape-flat", "custom/targets-2d", "custom/sum-literal"),
        change=_like_targets,
    ),
    Mutant(
        "integers-read",
        "0.15.0 reads whole logprobs as float32.",
        checks(DIES, "error.sent"),
        "The release makes an integer tensor of them and fails.",
        contract="tinker-0.15.0",
        silences=NO_ERROR,
        scenarios=("custom/integer-logprobs", "custom/sum-literal"),
        change=_integers_read,
    ),
    Mutant(
        "list-dtype-guessed",
        "A plain list under an unknown key is taken as float32.",
        checks(DIES, "error.sent", "training.gradient", "training.parameters"),
        "The caller must say what the numbers are.",
        silences=NO_ERROR,
        scenarios=("errors/unknown-list-key", "custom/plain-lists"),
        client=GuessesDtype,
    ),
    Mutant(
        "targets-invented",
        "Missing target_tokens are replaced by the tokens.",
        checks(DIES, "error.sent", "training.gradient", "training.parameters"),
        "The model learns to repeat its input.",
        silences=NO_ERROR,
        scenarios=("errors/no-targets", "custom/sum-literal"),
        client=InventsTargets,
    ),
    Mutant(
        "infinite-logprobs-clipped",
        "The loss sees the largest finite number for a logprob of minus infinity.",
        checks("loss.saw_values", "metrics.values"),
        "The loss is finite where the release's is not.",
        scenarios=("custom/infinite-logprobs", "custom/sum-literal"),
        change=_finite_leaves,
    ),
    Mutant(
        "nonfinite-zeroed",
        "0.15.0 sends zeros for infinities and NaN.",
        checks(DIES, "error.sent"),
        "The release refuses; a zero gradient hides a broken loss.",
        contract="tinker-0.15.0",
        silences=NO_ERROR,
        scenarios=("errors/infinite-gradient", "errors/nan-gradient", "custom/sum-literal"),
        change=_finite,
    ),
    Mutant(
        "nonfinite-zeroed-on-the-wire",
        "0.38.0 sends zeros for infinities and NaN.",
        checks("weights.values"),
        "The release sends them as they are: the server's gradient is to be as broken as the loss.",
        scenarios=("errors/infinite-gradient", "errors/nan-gradient", "custom/sum-literal"),
        change=_finite,
    ),
    Mutant(
        "nonfinite-refused",
        "0.38.0 refuses infinities and NaN, as releases that speak JSON do.",
        checks(DIES),
        "Protobuf carries them, and the caller sees a loss that is not a number.",
        silences=NO_RESULT | NO_BACKWARD,
        scenarios=("errors/infinite-gradient", "errors/nan-gradient"),
        change=_finite_only,
    ),
    Mutant(
        "fewer-outputs-accepted",
        "0.38.0 pairs datums and outputs as far as both go.",
        checks(DIES, "error.sent"),
        "Datums that nobody answered for are left out in silence.",
        silences=NO_ERROR,
        scenarios=("errors/fewer-outputs", "custom/sum-literal"),
        change=_pairs_what_is_there,
    ),
    Mutant(
        "weights-cut-to-targets",
        "Weights are cut to the length of the targets.",
        checks(DIES, "weights.shape"),
        "The server's mistake disappears, and nobody is told.",
        silences=NO_ERROR | checks("weights.values"),
        scenarios=("errors/longer-outputs", "custom/sum-literal"),
        change=_cut_to_targets,
    ),
    Mutant(
        "empty-accepted",
        "0.38.0 goes on without data.",
        checks(DIES, "error.kind", "error.raised_at"),
        "The release refuses where the call is made; here an empty loss fails later, for want of a gradient.",
        silences=NO_ERROR,
        scenarios=("errors/empty-plain", "errors/empty-custom", "custom/sum-literal"),
        change=_goes_on_empty,
    ),
    Mutant(
        "backward-cuts-again",
        "0.38.0 cuts the backward pass by its own sizes.",
        checks("chunks.boundaries"),
        "As in 0.36.0: sparse weights are smaller than the zeros of the forward pass; the release keeps its cut.",
        scenarios=("chunks/sparse-keeps-cut", "chunks/count-1025"),
        change=_cuts_again,
    ),
    Mutant(
        "cut-after-limit",
        "A request is closed after the datum that exceeds the limit, not before it.",
        checks("chunks.boundaries", "chunks.limits"),
        "Small datums travel with the oversized one.",
        scenarios=("chunks/oversized-middle", "chunks/oversized-last", "chunks/oversized-alone"),
        change=_cut_after,
    ),
    Mutant(
        "empty-last-chunk",
        "An oversized datum at the end is followed by a request without data.",
        checks("chunks.nonempty"),
        "An id is spent on nothing.",
        scenarios=("chunks/oversized-last", "chunks/oversized-alone", "chunks/oversized-first"),
        change=_empty_after,
    ),
    Mutant(
        "last-colon-wins",
        "A name with two colons is reduced by its last part.",
        checks(DIES),
        "Every release raises.",
        silences=NO_ERROR,
        scenarios=("errors/two-colons",),
        change=_last_colon,
    ),
    Mutant(
        "mean-of-nothing",
        "A mean over no outputs is 0.0.",
        checks(DIES),
        "Every release raises.",
        silences=NO_ERROR,
        scenarios=("errors/zero-weight-mean", "chunks/forward-only"),
        change=_zero_mean,
    ),
    Mutant(
        "server-loss-optional",
        "0.38.0 takes 0.0 for a loss:sum the server did not send.",
        checks(DIES),
        "The release raises; a loss of zero looks like success.",
        silences=NO_ERROR,
        scenarios=("errors/no-server-loss", "custom/sum-literal"),
        change=_loss_optional,
    ),
    Mutant(
        "loss-name-replaced",
        "Every pass asks for cross_entropy.",
        checks(DIES, "wire.bodies", "error.after", "training.gradient"),
        "The name of the caller's loss never leaves the client; the model trains on another loss.",
        silences=NO_ERROR,
        scenarios=("session/loss-names", "custom/sum-literal"),
        client=KnowsOneLoss,
    ),
    Mutant(
        "weight-decay-dropped",
        "weight_decay is never sent.",
        checks("wire.bodies", "training.parameters"),
        "The server decays nothing, and says nothing.",
        scenarios=("session/optim-all", "session/optim-defaults"),
        change=_no_decay,
    ),
    Mutant(
        "seed-dropped",
        "The seed of create_model is left out.",
        checks("wire.bodies"),
        "The run cannot be repeated.",
        scenarios=("session/model-options", "session/lifecycle"),
        change=_no_seed,
    ),
    Mutant(
        "info-not-remembered",
        "0.38.0 asks the server in get_info().",
        checks("session.model"),
        "The release knows the answer from the model's creation.",
        scenarios=("session/lifecycle", "session/model-options", "custom/sum-literal"),
        change=_asks_again,
    ),
    Mutant(
        "step-metrics-lost",
        "Metrics of an optimizer step are dropped.",
        checks("metrics.names"),
        "The gradient norm never reaches the caller.",
        scenarios=("metrics/optim-step", "custom/sum-literal"),
        client=LosesStepMetrics,
    ),
    Mutant(
        "models-share-ids",
        "All models of a session share one counter.",
        checks("order.seq", "order.gapless", "gaps.none"),
        "Each model waits for ids that went to the other.",
        scenarios=("order/two-models", "order/two-models-awaited", "state/load-into-other", "custom/sum-literal"),
        client=SharesIds,
    ),
    Mutant(
        "load-forgotten",
        "load_state answers without a request.",
        checks("order.phases", "training.parameters"),
        "Training goes on from other parameters.",
        scenarios=(
            "state/load-into-other",
            "state/load-into-other-awaited",
            "state/load-weights",
            "state/save-in-order",
            "state/save-in-order-awaited",
        ),
        client=LoadsNothing,
    ),
    Mutant(
        "gives-up-on-408",
        "A poll that times out ends an optimizer step.",
        checks(DIES, "poll.attempts"),
        "408 means: ask again.",
        scenarios=("futures/timeout-reply", "futures/timeout-reply-awaited", "futures/try-again"),
        client=GivesUpOnTimeout,
    ),
    Mutant(
        "gives-up-on-not-yet",
        "A result that is not there at the first poll ends an optimizer step.",
        checks(DIES, "poll.attempts"),
        "Not yet means: ask again.",
        scenarios=("futures/try-again", "futures/try-again-awaited", "futures/timeout-reply"),
        client=GivesUpOnNotYet,
    ),
    Mutant(
        "gives-up-on-pause",
        "A paused queue ends a backward pass.",
        checks(DIES),
        "A paused queue means: wait.",
        silences=NO_RESULT,
        scenarios=("futures/paused", "futures/try-again"),
        client=GivesUpOnPause,
    ),
    Mutant(
        "positive-zeros",
        "Zeros of the weights have no sign.",
        checks(),
        "",
        scenarios=("custom/last-token", "custom/unused-datum", "custom/targets-2d-sparse"),
        equivalent="-0.0 and 0.0 train alike, and compressed sparse rows keep no sign of a zero",
        change=_positive_zero,
    ),
    Mutant(
        "rest-in-any-order",
        "Chunks 2 to n leave in the opposite order.",
        checks(),
        "",
        scenarios=("chunks/count-2049", "chunks/limits-from-config"),
        equivalent="they leave together, each on a connection of its own: their order among themselves is nobody's",
        change=_any_order,
    ),
)
