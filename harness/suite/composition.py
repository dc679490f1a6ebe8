"""A loss taken apart: a base and named, weighted regularizers, how each is called and how it fails.

An SDK with structured regularizers is given the parts. Any other is given the whole as one callback: the loss graph
itself, which is the base plus the weighted terms.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from harness.suite.ready_made import ReadyMade

Form = Literal["sync", "async", "awaitable", "callable", "partial"]
"""What a user writes a part as: a plain function; `async def`; a plain function that returns an awaitable; an object
whose `__call__` is `async`; a partial of an `async def`. What it computes is the same."""

Returns = Literal["pair", "loss", "triple", "nothing", "number", "texts"]
"""What a part returns: loss and metrics; the loss alone; a third thing beside them; nothing; a number in the place of
the loss; metrics whose values are texts."""

Weight = float | Literal["NaN", "Infinity", "-Infinity"]


class Regularizer(Struct, frozen=True, forbid_unknown_fields=True):
    """A term of a loss: the value of `node`, times `weight`.

    `metrics` maps names to the scalar nodes that it returns beside its loss. `executor` is its own executor flag, where
    it has one. `delay_seconds` is how long it takes at least; `after` names another regularizer of the same loss that
    has to have ended before it ends, for which it waits at most three seconds and then raises. `hangs`: it never ends.
    `fail` makes it raise with that message. `adapter` names what an SDK with ready-made regularizers has for it: a
    driver of such an SDK hands that over in the place of the graph, which stays the definition of what it computes.
    """

    name: str
    node: int
    weight: Weight
    metrics: dict[str, int] = {}
    form: Form = "sync"
    executor: bool | None = None
    delay_seconds: float = 0.0
    after: str = ""
    hangs: bool = False
    fail: str | None = None
    returns: Returns = "pair"
    adapter: ReadyMade | None = None


class Apart(Struct, frozen=True, forbid_unknown_fields=True):
    """A loss taken apart: it is the value of the node `base` plus the terms `regularizers`.

    Without `base` only the terms contribute; null `regularizers` are an argument left out, an empty list is one. The
    loss's own `metrics`, `fail`, `delay_seconds` and `mutates` are the base's. `required`: one callback cannot stand
    for it (the scenario is about what only parts can do), so that drivers without structured regularizers do not get
    it. `folded`: one callback stands for it everywhere, also where the SDK takes parts; it adds them up itself, as
    users do whose SDK trains on no regularizers.
    """

    base: int | None = None
    regularizers: tuple[Regularizer, ...] | None = ()
    base_form: Form = "sync"
    base_returns: Returns = "pair"
    required: bool = False
    folded: bool = False


# --- what must come out ---------------------------------------------------------------------------------------------


class ExpectedTerm(Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers of one regularizer that are known without computing the graph."""

    value: float | None = None
    contribution: float | None = None
    grad_norm: float | None = None
    grad_norm_weighted: float | None = None


class ExpectedReport(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Numbers of a step's report that are known without computing the graph: closed forms, worked out by hand.

    They are what the report must hold; where there is none, the graph is computed in float64.
    """

    step: str
    loss_total: float | None = None
    regularizer_total: float | None = None
    total_grad_norm: float | None = None
    base: float | None = None
    base_grad_norm: float | None = None
    regularizers: dict[str, ExpectedTerm] = {}
