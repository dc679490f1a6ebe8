"""Futures: what became of a submitted operation, and waiting for it across threads and event loops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mock_server.execution import OUTPUT_TYPE, Pass
from mock_server.wire import json_codec, proto_codec

JSON = "application/json"
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A result that only has a JSON form."""

    body: Mapping[str, Any]

    def encode(self, accept: str) -> tuple[bytes, str]:  # noqa: ARG002  # one form, whatever is accepted
        """Return the bytes and their media type."""
        return json_codec.encode(self.body), JSON

    def summary(self) -> Mapping[str, Any]:
        """Return what a record keeps of the answer."""
        return self.body


@dataclass(frozen=True, slots=True, eq=False)
class PassResult:
    """The result of a forward or forward_backward: JSON, or protobuf where the client accepts it."""

    outcome: Pass
    integers: bool

    def encode(self, accept: str) -> tuple[bytes, str]:
        """Return the bytes and their media type; protobuf when `accept` names it."""
        outputs, metrics = self.outcome.outputs, self.outcome.metrics
        if PROTOBUF in accept:
            return proto_codec.encode_output(outputs, metrics, output_type=OUTPUT_TYPE), PROTOBUF
        body = json_codec.encode_output(outputs, metrics, output_type=OUTPUT_TYPE, integers=self.integers)
        return body, JSON

    def summary(self) -> Mapping[str, Any]:
        """Return what a record keeps of the answer: the outputs are in the record's operation, here is their number."""
        return {
            "loss_fn_output_type": OUTPUT_TYPE,
            "loss_fn_outputs": len(self.outcome.outputs),
            "metrics": dict(self.outcome.metrics),
            "type": "forward_backward",
        }


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """An operation that failed. `category` is `user` or `server`, as the SDKs name them.

    `shape` is how it is written: `usual` is what this server writes, the others are those of scripted failures
    (`mock_server.faults.script.Failed`).
    """

    message: str
    category: str = "user"
    shape: Literal["usual", "official", "tinkex", "both"] = "usual"

    def encode(self, accept: str) -> tuple[bytes, str]:  # noqa: ARG002  # one form, whatever is accepted
        """Return the bytes and their media type."""
        return json_codec.encode(self.summary()), JSON

    def summary(self) -> Mapping[str, Any]:
        """Return the answer: `error` is a string, as the official SDKs read it, or an object, as Tinkex does."""
        said = {"message": self.message, "category": self.category}
        match self.shape:
            case "usual":
                return {"status": "failed", "error": self.message, "category": self.category}
            case "official":
                return {"error": self.message, "category": self.category}
            case "tinkex":
                return {"status": "failed", "error": said}
            case "both":
                return {"status": "failed", "error": said, "category": self.category}


Outcome = Result | PassResult | Failure


class Future:
    """One operation's future: pending until `settle`. The tenant's lock guards everything but `wait`."""

    __slots__ = ("_waiters", "abandoned", "delivered", "model_id", "outcome", "polls", "request_id", "seq_id")

    def __init__(self, request_id: str, model_id: str | None, seq_id: int | None = None) -> None:
        self.request_id = request_id
        self.model_id = model_id
        self.seq_id = seq_id
        self.delivered = False
        self.outcome: Outcome | None = None
        self.abandoned = False
        self.polls = 0
        self._waiters: tuple[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]], ...] = ()

    def settle(self, outcome: Outcome) -> None:
        """Give the future its outcome and wake everyone who waits for it."""
        self.outcome = outcome
        self._wake()

    def abandon(self) -> None:
        """Wake everyone, there will be no outcome: the tenant is closing."""
        self.abandoned = True
        self._wake()

    def waiter(self) -> asyncio.Future[None]:
        """Return a future of the running loop that is done once this one is settled or abandoned."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        if self.outcome is not None or self.abandoned:
            waiter.set_result(None)
        else:
            entry = (loop, waiter)
            self._waiters += (entry,)
            waiter.add_done_callback(lambda _: self._leave(entry))
        return waiter

    def _leave(self, entry: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]) -> None:
        self._waiters = tuple(other for other in self._waiters if other is not entry)

    def _wake(self) -> None:
        for loop, waiter in self._waiters:
            # A loop that is closed has no one left to wake.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_finish, waiter)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
