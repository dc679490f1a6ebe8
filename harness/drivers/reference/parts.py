"""A loss that is taken apart, as its caller writes it: a base callback and regularizers, in all their forms."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from harness.drivers.protocol import Saw
from harness.drivers.reference.watching import WatchedLoss
from harness.reference.regularizers.spec import RegularizerSpec
from harness.suite.composition import Apart, Form, Regularizer, Returns
from harness.suite.data import DatumValue
from harness.suite.losses.pruning import pruned

PATIENCE_SECONDS = 3.0
"""So long a regularizer waits for the one that has to end before it."""

_SPELLED = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}

Plain = Callable[[Any, Any], Any]


class WatchedParts:
    """The parts of a loss: `base` (or None) and `regularizers` as the client takes them, and what they saw.

    `data` is the list that the caller hands to the client.
    """

    def __init__(self, loss: Mapping[str, Any], data: list[DatumValue]) -> None:
        apart = msgspec.convert(loss["apart"], Apart)
        whole = {key: value for key, value in loss.items() if key != "apart"}
        self._base: WatchedLoss | None = None
        self.base: Any = None
        if apart.base is not None:
            self._base = WatchedLoss({**whole, "loss": apart.base}, data)
            self.base = _in_form(_returning(self._base, apart.base_returns), apart.base_form)
        self._terms = [_Term(whole, term, data) for term in apart.regularizers or ()]
        by_name = {term.name: term for term in self._terms}
        for term in self._terms:
            term.before = by_name.get(term.after)
        self.regularizers = None if apart.regularizers is None else [term.spec() for term in self._terms]

    def saw(self) -> Saw:
        """Return what the base saw, or else the first regularizer, and of each how often it was called and ended."""
        first = self._base or (self._terms[0].watched if self._terms else None)
        assert first is not None, "a composition of nothing calls nobody"
        called = {term.name: term.watched.saw().calls for term in self._terms}
        # A task that was cancelled before it came to its computation has ended, and was never called.
        ended = {term.name: min(term.ends, called[term.name]) for term in self._terms if term.asynchronous}
        return msgspec.structs.replace(first.saw(), regularizers=called, ended=ended)

    @property
    def any(self) -> bool:
        """Whether there is a part at all."""
        return self._base is not None or bool(self._terms)


class _End:
    """The end of a regularizer, which threads and tasks may wait for. No waiting task keeps a thread."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def set(self) -> None:
        """Say that it has ended."""
        with self._lock:
            self._over.set()
            for loop, event in self._tasks:
                loop.call_soon_threadsafe(event.set)
            self._tasks.clear()

    def wait(self, seconds: float) -> bool:
        """Wait in a thread; say whether it has ended."""
        return self._over.wait(seconds)

    async def awaited(self, seconds: float) -> bool:
        """Wait in a task; say whether it has ended."""
        event = asyncio.Event()
        with self._lock:
            if self._over.is_set():
                return True
            self._tasks.append((asyncio.get_running_loop(), event))
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True


class _Term:
    """One regularizer."""

    def __init__(self, whole: Mapping[str, Any], term: Regularizer, data: list[DatumValue]) -> None:
        nodes, places = pruned(whole["nodes"], (term.node, *term.metrics.values()))
        metrics = {name: places[node] for name, node in term.metrics.items()}
        graph = {"nodes": nodes, "loss": places[term.node], "metrics": metrics, "fail": term.fail}
        self.watched = WatchedLoss(graph, data)
        self.name = term.name
        self.after = term.after
        self.before: _Term | None = None
        self.asynchronous = term.form != "sync"
        self.ends = 0
        self._term = term
        self._compute = _returning(self.watched, term.returns)
        self.ended = _End()

    def spec(self) -> RegularizerSpec:
        """Return it as the client takes it."""
        weight = self._term.weight
        spec: RegularizerSpec = {
            "fn": _asynchronous(self._later, self._term.form) if self.asynchronous else self._now,
            "weight": _SPELLED[weight] if isinstance(weight, str) else weight,
            "name": self.name,
        }
        return spec if self._term.executor is None else {**spec, "run_in_executor": self._term.executor}

    def _now(self, data: Any, logprobs: Any) -> Any:
        try:
            time.sleep(self._term.delay_seconds)
            result = self._compute(data, logprobs)
            if self.before is not None and not self.before.ended.wait(PATIENCE_SECONDS):
                raise RuntimeError(f"{self.after} has not ended meanwhile")
            return result
        finally:
            self.ended.set()

    async def _later(self, data: Any, logprobs: Any) -> Any:
        try:
            if self._term.hangs:
                self.watched.note(data, logprobs)
                await asyncio.Event().wait()
            await asyncio.sleep(self._term.delay_seconds)
            result = self._compute(data, logprobs)
            if self.before is not None and not await self.before.ended.awaited(PATIENCE_SECONDS):
                raise RuntimeError(f"{self.after} has not ended meanwhile")
            return result
        finally:
            self.ends += 1
            self.ended.set()


def _returning(compute: Plain, returns: Returns) -> Plain:
    """Return what computes a part and returns it in the shape that is wanted."""

    def shaped(data: Any, logprobs: Any) -> Any:
        value, metrics = compute(data, logprobs)
        match returns:
            case "loss":
                return value
            case "triple":
                return value, metrics, value
            case "nothing":
                return None
            case "number":
                return float(value.detach()), metrics
            case "texts":
                return value, {**metrics, "unit": "nats"}
            case _:
                return value, metrics

    return shaped


class _Callable:
    """An object whose call is asynchronous."""

    def __init__(self, later: Callable[[Any, Any], Awaitable[Any]]) -> None:
        self._later = later

    async def __call__(self, data: Any, logprobs: Any) -> Any:
        return await self._later(data, logprobs)


def _asynchronous(later: Callable[[Any, Any], Awaitable[Any]], form: Form) -> Any:
    """Return an asynchronous function in the form that its author wrote it in."""
    match form:
        case "awaitable":
            return lambda data, logprobs: later(data, logprobs)
        case "callable":
            return _Callable(later)
        case "partial":

            async def scaled(scale: float, data: Any, logprobs: Any) -> Any:
                del scale
                return await later(data, logprobs)

            return functools.partial(scaled, 1.0)
        case _:
            return later


def _in_form(compute: Plain, form: Form) -> Any:
    if form == "sync":
        return compute

    async def later(data: Any, logprobs: Any) -> Any:
        return compute(data, logprobs)

    return _asynchronous(later, form)
