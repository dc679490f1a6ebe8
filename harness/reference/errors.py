"""What a call of the reference client raises: one type per error kind of the driver protocol."""

from __future__ import annotations

from harness.drivers.protocol import ErrorKind


class CallError(Exception):
    """A call failed. `kind` is the protocol's word for why."""

    kind: ErrorKind = "invalid_input"


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
