"""What a call of the reference client raises: one type per error kind of the driver protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.drivers.protocol import ErrorKind

Reason = Literal["base_failed", "regularizer_failed", "regularizer_timeout"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a structured custom loss: its base, or the regularizer called `name`."""

    part: Literal["base", "regularizer"]
    name: str | None = None

    def __str__(self) -> str:
        return "the base loss" if self.name is None else f"the regularizer {self.name!r}"


BASE = Part("base")


class CallError(Exception):
    """A call failed. `kind` is the protocol's word for why.

    `part` is the part of a structured custom loss that is to blame, and `reason` what became of it; None elsewhere.
    """

    kind: ErrorKind = "invalid_input"
    part: Part | None = None
    reason: Reason | None = None


class InvalidInputError(CallError):
    """The caller's arguments were refused."""


class LossFailedError(CallError):
    """The loss callback raised; the cause is its exception."""

    kind: ErrorKind = "loss_failed"


class NoGradientError(CallError):
    """A datum's logprobs, or the loss itself, have no gradient."""

    kind: ErrorKind = "no_gradient"


class NotScalarError(CallError):
    """The loss is not a scalar."""

    kind: ErrorKind = "not_scalar"


class PartError(CallError):
    """A part of a structured custom loss failed; the message names it, `what` is the rest of it."""

    def __init__(self, part: Part, what: str) -> None:
        super().__init__(f"{part}: {what}")
        self.what = what
        self.part = part
        self.reason = "base_failed" if part.part == "base" else "regularizer_failed"


class PartFailedError(PartError, LossFailedError):
    """A part raised, or returned what is no loss with metrics; where it raised, that is the cause."""


class PartNotScalarError(PartError, NotScalarError):
    """The loss of a part is not a scalar."""


class RegularizerTimeoutError(PartError):
    """A regularizer took longer than its time."""

    kind: ErrorKind = "timeout"

    def __init__(self, part: Part, what: str) -> None:
        super().__init__(part, what)
        self.reason = "regularizer_timeout"


class BadOutputError(CallError):
    """The server's result cannot be used."""

    kind: ErrorKind = "bad_output"


class PoisonedError(CallError):
    """Refused because an earlier call failed; the cause is that call's exception."""

    kind: ErrorKind = "client_poisoned"


class RequestFailedError(CallError):
    """The operation failed on the server."""

    kind: ErrorKind = "request_failed"


class HttpStatusError(CallError):
    """An HTTP status that is not retried, or not any more. `status` is that status."""

    kind: ErrorKind = "http_status"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TransportError(CallError):
    """The connection failed."""

    kind: ErrorKind = "transport"


class CallCancelledError(CallError):
    """The caller cancelled the call."""

    kind: ErrorKind = "cancelled"
