"""Clients that get the gradient, the weights or the data of a pass wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from mutant import QUICK, RACING, Mutant, checks

from harness.reference.behaviour import Behaviour
from harness.reference.custom_loss import flat_shape, gradients_of, linearize, targets_and_weights
from harness.reference.errors import NoGradientError, RequestFailedError
from harness.reference.values import Array, Datum, TensorValue, dense

Pairs = Sequence[tuple[Datum, Array]]
Sparse = Callable[[Array], TensorValue]
Weigh = Callable[[Array], Array]


TRAINING = ("training/five-steps-adamw", "training/clipped-ratio", "training/kl-penalty", "training/accumulate")
AWAITED = ("training/five-steps-sgd-awaited", *(f"{scenario}-awaited" for scenario in TRAINING))
PRINTED = ("printed/tinkex-basic-usage", "printed/tinkex-minimal-workflow", "printed/tinkex-regularizers")


def _positive(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, weigh=lambda gradient: gradient)


def _scaled(behaviour: Behaviour) -> Behaviour:
    def scale(pairs: Pairs, *, sparse: Sparse, weigh: Weigh) -> list[Datum]:
        shared = [(datum, gradient * len(pairs)) for datum, gradient in pairs]
        return linearize(shared, sparse=sparse, weigh=weigh)

    return replace(behaviour, linearize=scale)


def _next_datum(behaviour: Behaviour) -> Behaviour:
    def turn(data: Sequence[Datum], gradients: Sequence[Array]) -> list[tuple[Datum, Array]]:
        # Gradients of datums of the same shape change places, so that the shapes stay right.
        turned = list(gradients)
        for shape in {gradient.shape for gradient in gradients}:
            places = [index for index, gradient in enumerate(gradients) if gradient.shape == shape]
            for place, source in zip(places, places[1:] + places[:1], strict=True):
                turned[place] = gradients[source]
        return behaviour.pair(data, turned)

    return replace(behaviour, pair=turn)


def _missing_as_zero(behaviour: Behaviour) -> Behaviour:
    def zeros(loss: torch.Tensor, leaves: Sequence[torch.Tensor]) -> list[Array]:
        for leaf in leaves:
            leaf.grad = torch.zeros_like(leaf)
        if loss.requires_grad:
            loss.sum().backward()
        return [leaf.grad.numpy() for leaf in leaves]

    return replace(behaviour, gradients=zeros)


def _summed_vector(behaviour: Behaviour) -> Behaviour:
    def summed(loss: torch.Tensor, leaves: Sequence[torch.Tensor]) -> list[Array]:
        return gradients_of(loss.sum(), leaves)

    return replace(behaviour, gradients=summed)


def _times_user_weights(behaviour: Behaviour) -> Behaviour:
    def weighted(pairs: Pairs, *, sparse: Sparse, weigh: Weigh) -> list[Datum]:
        mixed = []
        for datum, gradient in pairs:
            own = datum.inputs.get("weights")
            mixed.append((datum, gradient if own is None else gradient * own.dense().reshape(gradient.shape)))
        return linearize(mixed, sparse=sparse, weigh=weigh)

    return replace(behaviour, linearize=weighted)


def _leaks_inputs(behaviour: Behaviour) -> Behaviour:
    def leak(pairs: Pairs, *, sparse: Sparse, weigh: Weigh) -> list[Datum]:
        backward = linearize(pairs, sparse=sparse, weigh=weigh)
        return [
            Datum(tokens=sent.tokens, inputs={**datum.inputs, **sent.inputs})
            for (datum, _), sent in zip(pairs, backward, strict=True)
        ]

    return replace(behaviour, linearize=leak)


def _flattens(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, leaf_shape=flat_shape)


def _int_weights(behaviour: Behaviour) -> Behaviour:
    def whole(pairs: Pairs, *, sparse: Sparse, weigh: Weigh) -> list[Datum]:
        return linearize(pairs, sparse=sparse, weigh=lambda gradient: np.rint(weigh(gradient)).astype(np.int64))

    return replace(behaviour, linearize=whole)


def _dense_weights(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, sparse=dense)


def _shifted_targets(behaviour: Behaviour) -> Behaviour:
    def shift(pairs: Pairs, *, sparse: Sparse, weigh: Weigh) -> list[Datum]:
        shifted = []
        for datum in linearize(pairs, sparse=sparse, weigh=weigh):
            targets = datum.inputs["target_tokens"]
            moved = replace(targets, values=(targets.values + 1) % 16)
            shifted.append(Datum(tokens=datum.tokens, inputs={**datum.inputs, "target_tokens": moved}))
        return shifted

    return replace(behaviour, linearize=shift)


def _forwards_extra(behaviour: Behaviour) -> Behaviour:
    def everything(data: Sequence[Datum]) -> list[Datum]:
        return [
            Datum(tokens=datum.tokens, inputs={**datum.inputs, **sent.inputs})
            for datum, sent in zip(data, targets_and_weights(data), strict=True)
        ]

    return replace(behaviour, forward_inputs=everything)


def _forgets_zero_weights(behaviour: Behaviour) -> Behaviour:
    def bare(data: Sequence[Datum]) -> list[Datum]:
        kept = ("target_tokens", "weights")
        return [
            Datum(tokens=d.tokens, inputs={key: value for key, value in d.inputs.items() if key in kept}) for d in data
        ]

    return replace(behaviour, forward_inputs=bare)


def _wrong_kind(behaviour: Behaviour) -> Behaviour:
    def refuse(loss: torch.Tensor, leaves: Sequence[torch.Tensor]) -> list[Array]:
        try:
            return gradients_of(loss, leaves)
        except NoGradientError as error:
            raise RequestFailedError(str(error)) from error

    return replace(behaviour, gradients=refuse)


def _ones_for_zeros(behaviour: Behaviour) -> Behaviour:
    def ones(data: Sequence[Datum]) -> list[Datum]:
        sent = []
        for given, datum in zip(data, targets_and_weights(data), strict=True):
            weights = datum.inputs["weights"]
            if "weights" not in given.inputs:
                weights = replace(weights, values=np.ones_like(weights.values))
            sent.append(Datum(tokens=datum.tokens, inputs={**datum.inputs, "weights": weights}))
        return sent

    return replace(behaviour, forward_inputs=ones)


MUTANTS = (
    Mutant(
        "sign",
        "Weights are the gradient instead of its negative.",
        checks("weights.values"),
        "Every weight has the opposite sign; the model trains away from the optimum.",
        scenarios=(*QUICK, *RACING, *TRAINING, *AWAITED, *PRINTED),
        change=_positive,
    ),
    Mutant(
        "scaled-by-n",
        "The gradient is multiplied by the number of datums.",
        checks("weights.values"),
        "A mean that is taken twice, or never, changes every weight by the same factor.",
        change=_scaled,
    ),
    Mutant(
        "wrong-datum",
        "Each datum gets the gradient of the next one of the same shape.",
        checks("weights.values"),
        "Shapes stay right, numbers land on the wrong datum. Other datums of the training scenarios differ in shape.",
        scenarios=(*QUICK, "training/identical-completions", "training/identical-completions-awaited"),
        change=_next_datum,
    ),
    Mutant(
        "missing-gradient-as-zeros",
        "A datum or a loss without a gradient counts as zero, a vector is summed.",
        checks("result.status", "error.sent", "error.after"),
        "The call succeeds where it must fail, sends a backward pass, and leaves the client usable; no error is left.",
        silences=checks("error.kind", "error.raised_at"),
        change=_missing_as_zero,
    ),
    Mutant(
        "vector-summed",
        "A loss that is not a scalar is summed in silence.",
        checks("result.status", "error.sent", "error.after"),
        "As above, for the one scenario whose loss is a vector.",
        silences=checks("error.kind", "error.raised_at"),
        change=_summed_vector,
    ),
    Mutant(
        "no-gradient-blamed-on-server",
        "A missing gradient is reported as a failed request.",
        checks("error.kind"),
        "The caller is told to look at the server for a mistake in the loss.",
        change=_wrong_kind,
    ),
    Mutant(
        "user-weights-multiplied",
        "The caller's weights are multiplied into the gradient.",
        checks("weights.values"),
        "Weights of the caller belong in the forward pass only.",
        change=_times_user_weights,
    ),
    Mutant(
        "input-leaked",
        "The backward pass carries the caller's other inputs, too.",
        checks("weights.keys"),
        "Advantages and old logprobs are for the callback, not for the server.",
        change=_leaks_inputs,
    ),
    Mutant(
        "flattened",
        "Two-dimensional logprobs and weights are flattened.",
        checks("loss.saw_shape", "weights.shape", "weights.layout"),
        "The callback sees vectors, the weights go out as vectors, and a vector is never compressed sparse rows.",
        change=_flattens,
    ),
    Mutant(
        "weights-int64",
        "Weights are rounded to int64.",
        checks("weights.dtype", "weights.values"),
        "The declared dtype is wrong, and rounding loses every fraction.",
        change=_int_weights,
    ),
    Mutant(
        "always-dense",
        "A sparse gradient is sent dense.",
        checks("weights.layout"),
        "The numbers are the same; the release sends compressed sparse rows where they are smaller.",
        change=_dense_weights,
    ),
    Mutant(
        "targets-shifted",
        "The backward pass shifts target_tokens by one.",
        checks("weights.targets"),
        "The weights are right but belong to other tokens; training goes elsewhere, and later weights follow it.",
        change=_shifted_targets,
    ),
    Mutant(
        "extra-inputs-forward",
        "The forward pass carries every input of the caller.",
        checks("forward.keys"),
        "0.38.0 keeps all but target_tokens and weights to itself.",
        change=_forwards_extra,
    ),
    Mutant(
        "zero-weights-forgotten",
        "The forward pass adds no weights where the caller gave none.",
        checks("forward.keys", "chunks.boundaries"),
        "0.38.0 sends zero weights, and counts their bytes where it cuts.",
        change=_forgets_zero_weights,
    ),
    Mutant(
        "ones-for-missing-weights",
        "The forward pass fills missing weights with ones.",
        checks("forward.values"),
        "The key is there and its numbers are not the release's zeros.",
        change=_ones_for_zeros,
    ),
)
