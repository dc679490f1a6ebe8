"""Which of the protocol's error kinds an exception of the SDK is.

By type where the SDK has one, by the exceptions it was raised from, and only then by what it says: torch and the SDK
use ValueError and RuntimeError for many things. Messages were observed in the releases named beside them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
from collections.abc import Iterator
from typing import Any

import httpx

SAYINGS = (
    ("poisoned and cannot accept further requests", "client_poisoned"),  # tinker 0.38.0
    ("No gradient computed for logprob tensor", "no_gradient"),  # tinker 0.1.0 to 0.38.0
    ("does not require grad and does not have a grad_fn", "no_gradient"),  # torch 2.x
    ("grad can be implicitly created only for scalar outputs", "not_scalar"),  # torch 2.x
    ("not JSON compliant", "invalid_input"),  # json, of NaN weights: tinker up to 0.24.1
    ("No data provided", "invalid_input"),  # tinker 0.18.2 to 0.38.0
    ("must be provided when using", "invalid_input"),  # tinker 0.16.0 to 0.38.0, of target_tokens
    ("zip() argument", "bad_output"),  # tinker 0.8.0 to 0.38.0, of fewer outputs than datums
    ("values to unpack", "bad_output"),  # tinker 0.7.0 to 0.38.0, of a metric without one colon
    ("Server returned a JSON payload", "bad_output"),  # tinker 0.25.0 to 0.38.0
    ("can require gradients", "bad_output"),  # torch 2.x, of integer logprobs: tinker up to 0.18.2
    ("is invalid for input of size", "bad_output"),  # torch 2.x, of logprobs that do not fit their shape
)

OUTPUT_KEYS = frozenset({"logprobs", "loss:sum"})
"""A KeyError of one of these is about the server's output, of any other about the caller's datum."""


def kind_of(error: BaseException, *, raised_by_loss: BaseException | None, at_once: bool) -> str:
    """Return the kind of an error that a call or an await raised.

    `raised_by_loss` is what the loss callback raised during the call; `at_once` says that the call itself
    raised it: unless the error tells otherwise, the arguments are to blame, and else what the server answered.
    """
    by_message = _by_message(error)
    if by_message == "client_poisoned":
        return by_message  # before its causes: it was raised from the error of an earlier call
    chain = list(_chain(error))
    if raised_by_loss is not None and any(link is raised_by_loss for link in chain):
        return "loss_failed"
    for link in chain:
        kind = _by_type(link) or _by_message(link)
        if kind:
            return kind
    if isinstance(error, KeyError):
        return "bad_output" if error.args[:1] and error.args[0] in OUTPUT_KEYS else "invalid_input"
    return "invalid_input" if at_once else "bad_output"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it was raised from, outermost first."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _by_type(error: BaseException) -> str:
    sdk: Any = importlib.import_module("tinker")
    if isinstance(error, asyncio.CancelledError | concurrent.futures.CancelledError):
        return "cancelled"
    if isinstance(error, sdk.RequestFailedError):
        return "request_failed"
    if isinstance(error, sdk.APIStatusError):
        return "http_status"
    if isinstance(error, sdk.APIResponseValidationError):
        return "bad_output"
    if isinstance(error, sdk.APITimeoutError | TimeoutError | httpx.TimeoutException):
        return "timeout"
    if isinstance(error, sdk.APIConnectionError | httpx.TransportError | ConnectionError):
        return "transport"
    return ""


def _by_message(error: BaseException) -> str:
    text = str(error)
    return next((kind for saying, kind in SAYINGS if saying in text), "")
