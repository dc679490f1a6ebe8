"""Clients that cut, count, order or reduce wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
from mutant import QUICK, RACING, Mutant, checks

from harness.reference.behaviour import Behaviour
from harness.reference.chunking import Bounds, Cut, Limits, count_or_bytes, forward_bounds, ten_per_element
from harness.reference.order import PER_PASS, Plan, serial
from harness.reference.reduction import Metrics, Number
from harness.reference.rules import blocks

BIG = ("chunks/bytes-at-limit", "chunks/bytes-one-over", "chunks/oversized-first")
MANY = (*QUICK, "chunks/count-2049", "order/large-before-small")


def _limits(behaviour: Behaviour, *, by: int) -> Behaviour:
    def cut(sizes: Sequence[int], limits: Limits) -> Bounds:
        return count_or_bytes(sizes, Limits(limits.max_count + by, limits.max_bytes))

    return replace(behaviour, cut=cut)


def _one_more(behaviour: Behaviour) -> Behaviour:
    return _limits(behaviour, by=1)


def _one_less(behaviour: Behaviour) -> Behaviour:
    return _limits(behaviour, by=-1)


def _bytes(behaviour: Behaviour, *, by: int) -> Behaviour:
    def cut(sizes: Sequence[int], limits: Limits) -> Bounds:
        return count_or_bytes(sizes, Limits(limits.max_count, limits.max_bytes + by))

    return replace(behaviour, cut=cut)


def _bytes_exclusive(behaviour: Behaviour) -> Behaviour:
    return _bytes(behaviour, by=-1)


def _bytes_lax(behaviour: Behaviour) -> Behaviour:
    return _bytes(behaviour, by=16)


def _empty_first(behaviour: Behaviour) -> Behaviour:
    def cut(sizes: Sequence[int], limits: Limits) -> Bounds:
        bounds = count_or_bytes(sizes, limits)
        return ((0, 0), *bounds) if sizes and sizes[0] > limits.max_bytes else bounds

    return replace(behaviour, cut=cut)


def _ten_bytes(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, estimate=ten_per_element)


def _ignores_config(behaviour: Behaviour) -> Behaviour:
    def cut(sizes: Sequence[int], _limits: Limits) -> Bounds:
        return count_or_bytes(sizes, Limits(1024, 5_000_000))

    return replace(behaviour, cut=cut)


def _loses_last(behaviour: Behaviour) -> Behaviour:
    def backward_cut(cut: Cut, _forward: Bounds, sizes: Sequence[int], limits: Limits) -> Bounds:
        bounds = cut(sizes, limits)
        return bounds[:-1] if len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] == 1 else bounds

    return replace(behaviour, backward_cut=backward_cut)


def _keeps_cut(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, backward_cut=forward_bounds)


def _first_first(behaviour: Behaviour) -> Behaviour:
    def in_order(ids: range) -> Plan:
        plan = serial(ids)
        return Plan(waves=plan.waves, turns=tuple((ids[0], ids[-1]) for _ in ids))

    return replace(behaviour, order=in_order)


def _all_at_once(behaviour: Behaviour) -> Behaviour:
    def together(ids: range) -> Plan:
        return Plan(waves=(tuple(range(len(ids))),), turns=tuple((ids[0], ids[-1]) for _ in ids))

    return replace(behaviour, order=together, serial_order=together)


def _per_pass(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, reservation=PER_PASS)


def _skips_three(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, seq_id=lambda number: number + 1 if number < 2 else number + 2)


def _reuses_two(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, seq_id=lambda number: number + 1 if number < 2 else number)


def _swapped(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, seq_id=lambda number: (number ^ 1) + 1)


def _from_two(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, seq_id=lambda number: number + 2)


def _blocks(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, custom_call=blocks)


def _unmerged(behaviour: Behaviour) -> Behaviour:
    def server_only(server: Mapping[str, Number], _custom: Mapping[str, Number], _loss: float) -> Metrics:
        return dict(server)

    return replace(behaviour, merge=server_only)


def _surrogate(behaviour: Behaviour) -> Behaviour:
    def merge(server: Mapping[str, Number], custom: Mapping[str, Number], loss: float) -> Metrics:
        merged = behaviour.merge(server, custom, loss)
        return {**merged, "loss:sum": server["loss:sum"], "surrogate_loss:sum": loss}

    return replace(behaviour, merge=merge)


def _reduced(behaviour: Behaviour, suffix: str, fold: object) -> Behaviour:
    def reduce(chunks: Sequence[Mapping[str, Number]], outputs: Sequence[int]) -> Metrics:
        metrics = behaviour.reduce(chunks, outputs)
        for key in list(metrics):
            if key.endswith(f":{suffix}"):
                metrics[key] = fold([chunk[key] for chunk in chunks])  # type: ignore[operator]
        return metrics

    return replace(behaviour, reduce=reduce)


def _plain_mean(behaviour: Behaviour) -> Behaviour:
    return _reduced(behaviour, "mean", lambda values: float(np.mean(values)))


def _hash_sum(behaviour: Behaviour) -> Behaviour:
    return _reduced(behaviour, "hash2", lambda values: float(np.mean(values)))


def _unique_from_two(behaviour: Behaviour) -> Behaviour:
    def reduce(chunks: Sequence[Mapping[str, Number]], outputs: Sequence[int]) -> Metrics:
        metrics = behaviour.reduce(chunks, outputs)
        return {f"{key[:-1]}2" if key.endswith(":unique_1") else key: value for key, value in metrics.items()}

    return replace(behaviour, reduce=reduce)


def _keeps_unknown(behaviour: Behaviour) -> Behaviour:
    def reduce(chunks: Sequence[Mapping[str, Number]], outputs: Sequence[int]) -> Metrics:
        kept = {key: value for chunk in reversed(chunks) for key, value in chunk.items() if key.endswith(":median")}
        return {**kept, **behaviour.reduce(chunks, outputs)}

    return replace(behaviour, reduce=reduce)


def _usable(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, after_failure=lambda _turns, _error: None)


def _poisons(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, after_failure=lambda turns, error: turns.poison(error))


def _no_optimizer(behaviour: Behaviour) -> Behaviour:
    def body(route: str, given: Mapping[str, object]) -> object:
        filled = behaviour.body(route, given)
        return {**filled, "optimizer": False} if route == "load_weights" else filled

    return replace(behaviour, body=body)


def _beta2(behaviour: Behaviour) -> Behaviour:
    contract = behaviour.contract
    defaults = {**contract.wire.defaults, "optim_step": {**contract.wire.defaults["optim_step"], "beta2": 0.999}}
    wire = msgspec.structs.replace(contract.wire, defaults=defaults)

    def body(route: str, given: Mapping[str, object]) -> object:
        filled = behaviour.body(route, given)
        if route == "optim_step":
            filled = {**filled, "adam_params": {**filled["adam_params"], "beta2": 0.999}}
        return filled

    return replace(behaviour, contract=msgspec.structs.replace(contract, wire=wire), body=body)


CUT = "chunks.boundaries"
SLOW = ("custom/sum-literal", "order/ids-are-shared")

MUTANTS = (
    Mutant(
        "limit-one-more",
        "1025 datums go into one request.",
        checks(CUT, "chunks.limits", "metrics.names", "metrics.values"),
        "One request where there are two: another cut, over the limit, fewer ids, and nothing left to reduce.",
        scenarios=(*QUICK, "chunks/targets-2d", "chunks/forward-only"),
        change=_one_more,
    ),
    Mutant(
        "limit-one-less",
        "1024 datums are too many.",
        checks(CUT, "metrics.values"),
        "An off-by-one downwards breaks no limit: the cut, the ids and the weights of the mean (1023 to 2) show it.",
        change=_one_less,
    ),
    Mutant(
        "bytes-exclusive",
        "A request of exactly the byte limit is too large.",
        checks(CUT),
        "The limit is inclusive: the second datum moves to a request of its own, with another id.",
        scenarios=BIG,
        change=_bytes_exclusive,
    ),
    Mutant(
        "bytes-lax",
        "A request may be one token over the byte limit.",
        checks(CUT, "chunks.limits"),
        "One request where there are two, over the limit.",
        scenarios=BIG,
        change=_bytes_lax,
    ),
    Mutant(
        "empty-first-chunk",
        "A first datum over the limit is preceded by a request without data.",
        checks("chunks.nonempty"),
        "An empty request before the first; the cut of the data is right.",
        scenarios=BIG,
        change=_empty_first,
    ),
    Mutant(
        "ten-bytes-per-element",
        "0.38.0 estimates ten bytes per element.",
        checks(CUT),
        "The estimate of an earlier era cuts smaller requests.",
        scenarios=(*BIG, "chunks/limits-from-config"),
        change=_ten_bytes,
    ),
    Mutant(
        "config-ignored",
        "The limits of client/config are ignored.",
        checks(CUT, "chunks.limits"),
        "One request where the server allows ten datums.",
        change=_ignores_config,
    ),
    Mutant(
        "last-datum-lost",
        "A last request of one datum is left out of the backward pass.",
        checks("chunks.complete", "metrics.names", "metrics.values", "result.outputs"),
        "The datum never trains and has no output, and only one chunk's metrics are left to reduce.",
        contract="tinker-0.15.0",
        change=_loses_last,
    ),
    Mutant(
        "backward-keeps-forward-cut",
        "0.15.0 cuts the backward pass where the forward pass was cut.",
        checks(CUT, "chunks.limits"),
        "The weights that the backward pass adds put its first request over the limit.",
        contract="tinker-0.15.0",
        scenarios=BIG,
        change=_keeps_cut,
    ),
    Mutant(
        "first-chunk-first",
        "Chunks are sent 1, 2, 3 although the first has to come last.",
        checks("order.arrival"),
        "Ids and contents are right, the order of sending is that of another era.",
        scenarios=MANY,
        change=_first_first,
    ),
    Mutant(
        "chunks-at-once",
        "0.15.0 sends all chunks of a pass together.",
        checks("order.arrival"),
        "Serial sending means that each request waits for the answer to the one before.",
        contract="tinker-0.15.0",
        scenarios=MANY,
        change=_all_at_once,
    ),
    Mutant(
        "ids-per-pass",
        "0.38.0 takes the backward ids after the loss.",
        checks(
            "order.phases",
            "weights.values metrics.values training.gradient training.parameters",
        ),
        "An optimizer step that nobody awaited overtakes the backward pass, in id and in effect.",
        scenarios=(
            *QUICK,
            *RACING,
            "order/ten-in-flight",
            "order/two-customs",
            "order/awaited-backwards",
            "order/custom-then-optim-spaced",
        ),
        change=_per_pass,
    ),
    Mutant(
        "seq-id-skipped",
        "The third request takes the fourth id.",
        checks("order.gapless", "gaps.none"),
        "A server that executes in order waits for an id that never comes.",
        scenarios=SLOW,
        change=_skips_three,
    ),
    Mutant(
        "ids-from-two",
        "The first request has seq_id 2.",
        checks("order.seq", "gaps.none"),
        "Ids start at 1 for each model; a server that executes in order waits for the first.",
        scenarios=SLOW,
        change=_from_two,
    ),
    Mutant(
        "id-reused",
        "The third request takes the second one's id.",
        checks("order.unique", "result.status", "training.steps"),
        "Two bodies under one id: the server refuses the optimizer step, so that nothing is trained.",
        scenarios=("order/custom-then-optim",),
        silences=checks("training.gradient", "training.parameters"),
        change=_reuses_two,
    ),
    Mutant(
        "ids-swapped",
        "The backward pass has the lower id of the two.",
        checks("order.phases", "order.arrival", "gaps.none"),
        "By id the backward pass comes before the forward pass; a server that executes in order waits for it.",
        scenarios=("custom/sum-literal", "custom/nonlinear"),
        change=_swapped,
    ),
    Mutant(
        "custom-call-blocks",
        "0.38.0 raises where the call is made.",
        checks("error.raised_at"),
        "The release returns a future at once; errors of the loss are raised by waiting for it.",
        change=_blocks,
    ),
    Mutant(
        "metrics-unmerged",
        "Custom metrics are not merged into the result.",
        checks("metrics.names", "metrics.values"),
        "Names are missing, and loss:sum stays the server's.",
        change=_unmerged,
    ),
    Mutant(
        "surrogate-for-loss",
        "loss:sum and surrogate_loss:sum are exchanged.",
        checks("metrics.values"),
        "Same keys, different quantities.",
        change=_surrogate,
    ),
    Mutant(
        "mean-unweighted",
        "Means of chunks are averaged without weights.",
        checks("metrics.values"),
        "1024 datums count as much as one.",
        scenarios=(*QUICK, "metrics/reduction-plain"),
        change=_plain_mean,
    ),
    Mutant(
        "hash-averaged",
        "A hash is averaged like a mean.",
        checks("metrics.values"),
        "hash2 adds modulo 2^64.",
        change=_hash_sum,
    ),
    Mutant(
        "unique-from-two",
        "Unique metrics of later chunks are numbered from 2.",
        checks("metrics.names"),
        "The second chunk's key ends in _1.",
        change=_unique_from_two,
    ),
    Mutant(
        "unknown-reduction-kept",
        "A metric with an unknown reduction is kept.",
        checks("metrics.names"),
        "The release drops it, also for one chunk.",
        change=_keeps_unknown,
    ),
    Mutant(
        "not-poisoned",
        "0.38.0 goes on after a failed custom call.",
        checks("error.after", "error.sent", "order.gapless", "gaps.none"),
        "The optimizer step after the failure is sent although the reserved backward ids never were: the server waits.",
        change=_usable,
    ),
    Mutant(
        "poisoned-too-early",
        "0.15.0 refuses everything after a failed custom call.",
        checks("error.after error.sent training.steps"),
        "The release stays usable: the next call takes the next id.",
        contract="tinker-0.15.0",
        silences=checks("training.gradient training.parameters"),
        scenarios=(*QUICK, "errors/loss-raises-chunks"),
        change=_poisons,
    ),
    Mutant(
        "optimizer-not-restored",
        "load_state_with_optimizer says optimizer: false.",
        checks("wire.bodies", "training.parameters"),
        "The body shows it, and the step after the load starts from another optimizer state.",
        scenarios=(*QUICK, "state/save-in-order", "state/save-in-order-awaited"),
        change=_no_optimizer,
    ),
    Mutant(
        "beta2-of-textbooks",
        "Default beta2 is 0.999.",
        checks("wire.bodies", "training.parameters"),
        "The service's default is 0.95; the optimizer step moves the parameters differently.",
        scenarios=(*QUICK, "session/optim-defaults"),
        change=_beta2,
    ),
)
