"""What the caller writes: named, weighted regularizers, checked before anything is sent."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from harness.reference.errors import InvalidInputError

if TYPE_CHECKING:
    import torch

NAME = re.compile(r"[a-z0-9_.-]{1,40}")
"""What a regularizer may be called: it becomes a part of metric names, whose letters are those of tinker 0.36.0's
`custom/[a-z0-9_./-]{1,64}:(sum|mean)`. `/` separates the parts of such a name."""

RESERVED = frozenset({"base_loss"})
"""Names that the flat form of the telemetry needs for itself."""

KEYS = ("fn", "weight", "name", "run_in_executor")

PartFn = Callable[[Sequence[Any], "list[torch.Tensor]"], Any]
"""`fn(data, logprobs_list) -> (loss, metrics)`, or something to await that gives it.

`loss` is a tensor of one element, or a number: a constant. `metrics` maps texts to numbers or tensors of one element.
"""


class RegularizerSpec(TypedDict):
    """A regularizer as a dict. `run_in_executor` left out or None: as the call says."""

    fn: PartFn
    weight: float
    name: str
    run_in_executor: NotRequired[bool | None]


@dataclass(frozen=True, slots=True)
class Regularizer:
    """A term of the loss: `weight` times the value of `fn`, reported as `name`.

    `run_in_executor` says whether a synchronous `fn` runs in a thread of its own; None: as the call says.

    Raises InvalidInputError when `fn` cannot be called with data and logprobs, `weight` is not finite and at least 0,
    `name` is not of 1 to 40 of `a-z 0-9 _ . -` or is reserved, or an asynchronous function is to run in a thread.
    """

    fn: PartFn
    weight: float
    name: str
    run_in_executor: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise InvalidInputError(
                f"a regularizer is called {self.name!r}; a name has 1 to 40 of the letters a-z, 0-9, '_', '.' and '-'"
            )
        if self.name in RESERVED:
            raise InvalidInputError(f"a regularizer is called {self.name!r}, which is reserved")
        object.__setattr__(self, "weight", _weight(self.weight, self.name))
        check_callable(self.fn, f"the regularizer {self.name!r}")
        if self.run_in_executor not in (None, True, False):
            raise InvalidInputError(f"the regularizer {self.name!r}: run_in_executor is {self.run_in_executor!r}")
        if self.run_in_executor and is_async(self.fn):
            raise InvalidInputError(
                f"the regularizer {self.name!r} is asynchronous and cannot run in an executor; leave the flag out"
            )


@dataclass(frozen=True, slots=True)
class Composition:
    """A structured custom loss: what is added up, and how it is called.

    `base` None: only regularizers contribute. `timeout` is in seconds for each regularizer, None for no limit.
    `reported` is False where the caller asked for nothing that has to be reported: no regularizers, no norms.
    """

    base: PartFn | None
    regularizers: tuple[Regularizer, ...]
    track_grad_norms: bool = False
    run_sync_in_executor: bool = False
    timeout: float | None = None
    reported: bool = True


def read_composition(
    base_loss_fn: PartFn | None,
    regularizers: Sequence[Regularizer | RegularizerSpec] | None,
    *,
    track_grad_norms: bool = False,
    run_sync_in_executor: bool = False,
    timeout: float | None = None,
) -> Composition:
    """Check the arguments of a structured call.

    Raises InvalidInputError when there is neither a base loss nor a regularizer, the base loss cannot be called, a
    regularizer is malformed, two have the same name, or `timeout` is not a positive number of seconds.
    """
    found = read_regularizers(() if regularizers is None else regularizers)
    if base_loss_fn is None and not found:
        raise InvalidInputError("there is neither a base loss nor a regularizer")
    if base_loss_fn is not None:
        check_callable(base_loss_fn, "the base loss")
    if timeout is not None and not (_is_number(timeout) and 0 < timeout < math.inf):
        raise InvalidInputError(f"regularizer_timeout is {timeout!r}, not a positive number of seconds")
    return Composition(
        base=base_loss_fn,
        regularizers=found,
        track_grad_norms=bool(track_grad_norms),
        run_sync_in_executor=bool(run_sync_in_executor),
        timeout=timeout,
        reported=regularizers is not None or bool(track_grad_norms),
    )


def read_regularizers(specs: Sequence[Regularizer | RegularizerSpec]) -> tuple[Regularizer, ...]:
    """Return the regularizers in the order in which they are declared.

    Raises InvalidInputError for anything but a list or tuple of regularizers or dicts, a key too many or too few, what
    `Regularizer` refuses, and two of the same name.
    """
    if not isinstance(specs, list | tuple):
        raise InvalidInputError(f"regularizers is a {type(specs).__name__}, not a list")
    found = tuple(_read(spec, place) for place, spec in enumerate(specs))
    twice = [name for name, count in Counter(each.name for each in found).items() if count > 1]
    if twice:
        raise InvalidInputError(f"more than one regularizer is called {', '.join(map(repr, twice))}")
    return found


def is_async(fn: Any) -> bool:
    """Say whether a call is known to give something to await: `async def`, a partial of one, an async `__call__`."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    called = getattr(type(fn), "__call__", None)  # noqa: B004 - its kind is asked, not whether it is there
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(called)


def check_callable(fn: Any, what: str) -> None:
    """Raise InvalidInputError for what cannot be called with two arguments, data and logprobs."""
    if not callable(fn):
        raise InvalidInputError(f"{what} is a {type(fn).__name__}, which cannot be called")
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return  # some functions written in C do not tell
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise InvalidInputError(f"{what} cannot be called with data and logprobs: {error}") from error


def _read(spec: Any, place: int) -> Regularizer:
    if isinstance(spec, Regularizer):
        return spec
    if not isinstance(spec, Mapping):
        raise InvalidInputError(f"regularizers[{place}] is a {type(spec).__name__}, not a dict with {', '.join(KEYS)}")
    unknown = [key for key in spec if key not in KEYS]
    missing = [key for key in KEYS[:3] if key not in spec]
    if unknown or missing:
        said = f"unknown: {unknown}" if unknown else f"missing: {', '.join(missing)}"
        raise InvalidInputError(f"regularizers[{place}] has fn, weight, name and, if need be, run_in_executor; {said}")
    return Regularizer(**spec)


def _weight(weight: Any, name: str) -> float:
    if not _is_number(weight):
        raise InvalidInputError(f"the regularizer {name!r} has the weight {weight!r}, which is no number")
    try:
        value = float(weight)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise InvalidInputError(f"the regularizer {name!r} has the weight {weight!r}, which is not finite")
    if value < 0:
        raise InvalidInputError(
            f"the regularizer {name!r} has the weight {weight!r}, which is negative; negate what it returns instead"
        )
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
