"""A contract turned into functions: everything that the client does in one way and could do in another.

`behaviour_of(contract)` looks the contract's strategy names up in `REGISTRY` and puts the functions into one frozen
`Behaviour`; the client calls nothing else for a decision. A client that is wrong on purpose is the same client with one
field replaced, `dataclasses.replace(behaviour, weigh=lambda gradient: gradient)`, or with the contract's data changed
before (`msgspec.structs.replace`), for another limit or template. Steps that have one form in all releases
(`gradients`, `weigh`, `linearize`, `seq_id`, `reduce`, `body`) are fields for that reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from harness.contracts.model import Contract, Polling
from harness.reference import chunking, custom_loss, encoding, order, reduction, rules, values
from harness.reference.chunking import BackwardCut, Cut, Estimate
from harness.reference.custom_loss import Pairing
from harness.reference.encoding import Codec
from harness.reference.order import Order, Reservation, Turns
from harness.reference.reduction import Merge, Metrics, Number
from harness.reference.regularizers.pipeline import STRUCTURED, Structured
from harness.reference.templates import fill
from harness.reference.values import Array, Datum, TensorValue

if TYPE_CHECKING:
    import torch

REGISTRY: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "chunking.cut": chunking.CUTS,
        "chunking.estimate": chunking.ESTIMATES,
        "sending.order": order.ORDERS,
        "sending.ids": order.RESERVATIONS,
        "sending.backward_cut": chunking.BACKWARD_CUTS,
        "sending.custom_call": rules.CUSTOM_CALLS,
        "custom_loss.forward_inputs": custom_loss.FORWARD_INPUTS,
        "custom_loss.leaf_shape": custom_loss.LEAF_SHAPES,
        "custom_loss.leaf_dtype": custom_loss.LEAF_DTYPES,
        "custom_loss.pairing": custom_loss.PAIRINGS,
        "custom_loss.sparse": values.SPARSE,
        "custom_loss.metrics": reduction.MERGES,
        "failure.custom": rules.AFTER_FAILURE,
        "failure.empty_plain": rules.EMPTY_PLAIN,
        "failure.empty_custom": rules.EMPTY_CUSTOM,
        "failure.nonfinite": rules.NONFINITE,
        "inputs.nested_lists": values.NESTED,
        "polling.too_many_requests": rules.TOO_MANY_REQUESTS,
        "session.info": rules.REMEMBERS_INFO,
        "wire.encoding": encoding.CODECS,
        "reductions.*": reduction.REDUCTIONS,
    }
)
"""Every strategy: the contract's key, then name to function. `reductions.*` stands for every value of that table."""


class Linearize(Protocol):
    """Makes the backward datums from pairs of datum and gradient."""

    def __call__(
        self,
        pairs: Sequence[tuple[Datum, Array]],
        *,
        sparse: Callable[[Array], TensorValue],
        weigh: Callable[[Array], Array],
    ) -> list[Datum]:
        """Return one datum per pair."""
        ...


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the client asks whenever there is something to decide.

    Data: `sparse` and `nested` turn the caller's containers into tensors; `check_finite` refuses or passes numbers.
    Chunks: `estimate` and `cut` for both passes, `backward_cut` for the second, `empty_plain` and `empty_custom` for
    no data. Order: `turns` makes a model's turn-taking, `order` (or `serial_order`, when a client/config flag says so)
    plans a pass, `reservation` takes ids of a custom call, `seq_id` makes an id's number on the wire.
    Custom loss: `forward_inputs`, `leaf_shape` and `leaf_dtype` before the callback; `gradients` (loss and leaves to
    arrays), `pair`, `weigh` (gradient to weights), `linearize` after it; `structured` has the steps of a loss with
    regularizers, which are the same under every contract; `custom_call` says when the call returns, `after_failure`
    what a failure leaves. Metrics: `reduce` over chunks, `merge` with the custom ones. Wire: `codec` for passes, `body`
    fills a route's template. Polling: `rate_limit_delay` in seconds after a 429, None to fail. `remembers_info`:
    get_info asks nothing.
    """

    contract: Contract
    sparse: Callable[[Array], TensorValue]
    nested: Callable[[str, Array], Array]
    check_finite: Callable[[Sequence[Datum]], None]
    estimate: Estimate
    cut: Cut
    backward_cut: BackwardCut
    empty_plain: Callable[[int], None]
    empty_custom: Callable[[int], None]
    turns: Callable[[], Turns]
    order: Order
    serial_order: Order
    reservation: Reservation
    seq_id: Callable[[int], int]
    forward_inputs: Callable[[Sequence[Datum]], list[Datum]]
    leaf_shape: Callable[[TensorValue], tuple[int, ...]]
    leaf_dtype: Callable[[TensorValue], Array]
    gradients: Callable[[torch.Tensor, Sequence[torch.Tensor]], list[Array]]
    pair: Pairing
    weigh: Callable[[Array], Array]
    linearize: Linearize
    structured: Structured
    custom_call: Callable[[asyncio.Future[None]], Awaitable[None]]
    after_failure: Callable[[Turns, Exception], None]
    reduce: Callable[[Sequence[Mapping[str, Number]], Sequence[int]], Metrics]
    merge: Merge
    codec: Codec
    body: Callable[[str, Mapping[str, Any]], Any]
    rate_limit_delay: Callable[[Polling, int], float | None]
    remembers_info: bool


def behaviour_of(contract: Contract) -> Behaviour:
    """Look up every strategy that `contract` names. Raises KeyError, naming key and name, for one that is not there."""
    find = partial(_find, contract)
    reductions = {suffix: _named("reductions.*", name) for suffix, name in contract.reductions.items()}
    return Behaviour(
        contract=contract,
        sparse=find("custom_loss.sparse"),
        nested=find("inputs.nested_lists"),
        check_finite=find("failure.nonfinite"),
        estimate=find("chunking.estimate"),
        cut=find("chunking.cut"),
        backward_cut=find("sending.backward_cut"),
        empty_plain=find("failure.empty_plain"),
        empty_custom=find("failure.empty_custom"),
        turns=Turns,
        order=find("sending.order"),
        serial_order=order.serial,
        reservation=find("sending.ids"),
        seq_id=one_based,
        forward_inputs=find("custom_loss.forward_inputs"),
        leaf_shape=find("custom_loss.leaf_shape"),
        leaf_dtype=find("custom_loss.leaf_dtype"),
        gradients=custom_loss.gradients_of,
        pair=find("custom_loss.pairing"),
        weigh=custom_loss.negated,
        linearize=custom_loss.linearize,
        structured=STRUCTURED,
        custom_call=find("sending.custom_call"),
        after_failure=find("failure.custom"),
        reduce=partial(reduction.reduce_metrics, reductions=reductions),
        merge=find("custom_loss.metrics"),
        codec=find("wire.encoding"),
        body=partial(fill_body, contract),
        rate_limit_delay=find("polling.too_many_requests"),
        remembers_info=find("session.info"),
    )


def one_based(request_id: int) -> int:
    """Return the seq_id of an id: one more. Observed in 0.3.0 to 0.38.0."""
    return request_id + 1


def fill_body(contract: Contract, route: str, given: Mapping[str, Any]) -> Any:
    """Fill the JSON body of a route: the caller's values over the contract's defaults."""
    defaults = contract.wire.defaults.get(route, {})
    known = {name: value for name, value in given.items() if value is not None}
    return fill(contract.wire.templates[route], {**defaults, **known})


def _find(contract: Contract, key: str) -> Any:
    section, _, field = key.partition(".")
    return _named(key, getattr(getattr(contract, section), field))


def _named(key: str, name: str) -> Any:
    if name not in REGISTRY[key]:
        raise KeyError(f"{key}: no strategy is called {name!r} (there are {', '.join(sorted(REGISTRY[key]))})")
    return REGISTRY[key][name]
