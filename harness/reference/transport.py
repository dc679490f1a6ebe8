"""HTTP for the reference client: submits with retries, and polls until there is a result.

Requests in flight at the same time use connections of their own (HTTP/1.1 without pipelining).
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from harness.reference.errors import BadOutputError, HttpStatusError, RequestFailedError, TransportError

SUBMIT_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
POLL_TIMEOUT = httpx.Timeout(45.0, connect=5.0)
"""Seconds. Read in 0.7.0 to 0.38.0."""

MAX_RETRIES = 10
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0
LONGEST_RETRY_AFTER = 60.0
LONGEST_POLL_DELAY = 30.0

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PollRules:
    """What a poll does about answers that are no result, besides asking again at once (408, 5xx, try_again)."""

    bad_request_retries: int
    rate_limit_delay: Callable[[int], float | None]


class Transport:
    """One tenant's connections. Belongs to one event loop; `close` it.

    `sleep` waits, `carrier` replaces the network, where a test needs it.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        user_agent: str,
        sleep: Sleep = asyncio.sleep,
        carrier: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={"x-api-key": api_key, "user-agent": user_agent},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            # Certificates are loaded for nothing when the server is plain HTTP on loopback, which takes a while.
            verify=base_url.startswith("https:"),
            trust_env=False,
            transport=carrier,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def submit(self, path: str, content: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        """Post a request and return the JSON answer.

        408, 409, 429, 5xx and connection errors are tried again, with the same idempotency key, up to ten times after
        0.5, 1, 2 ... 10 seconds or what Retry-After says. Raises HttpStatusError, TransportError, BadOutputError.
        """
        key = f"parity-reference-{uuid.uuid4()}"
        attempt = 0
        while True:
            sent = {**headers, "x-idempotency-key": key, "x-stainless-retry-count": str(attempt)}
            delay = min(FIRST_DELAY * 2**attempt, LONGEST_DELAY)
            try:
                response = await self._http.post(
                    f"/api/v1/{path}", content=content, headers=sent, timeout=SUBMIT_TIMEOUT
                )
            except httpx.HTTPError as error:
                if attempt == MAX_RETRIES:
                    raise TransportError(f"{path}: {type(error).__name__}: {error}") from error
            else:
                if response.is_success:
                    return _json(response)
                if not _is_retried(response.status_code) or attempt == MAX_RETRIES:
                    raise HttpStatusError(response.status_code, f"{path}: {response.status_code} {response.text[:500]}")
                delay = _retry_after(response, delay)
            await self._sleep(delay)
            attempt += 1

    async def retrieve(
        self,
        body: Callable[[bool], bytes],
        headers: Mapping[str, str],
        *,
        rules: PollRules,
        roundtrip: float,
    ) -> httpx.Response:
        """Ask for a result until it is there and return the response that carries it.

        `body(allow_metadata_only)` writes the request; an answer with metadata only is followed by a request that does
        not allow one. `roundtrip` is how long the submit took, in seconds.
        Raises RequestFailedError when the operation failed, HttpStatusError for a status that ends the wait.
        """
        allow_metadata_only = True
        iteration = -1
        bad_requests = waits = 0
        while True:
            iteration += 1
            sent = {
                **headers,
                "content-type": "application/json",
                "x-idempotency-key": f"parity-reference-{uuid.uuid4()}",
                "x-stainless-retry-count": "0",
                "x-tinker-request-iteration": str(iteration),
            }
            if iteration == 0:
                sent["x-tinker-create-promise-roundtrip-time"] = str(roundtrip)
            try:
                response = await self._http.post(
                    "/api/v1/retrieve_future", content=body(allow_metadata_only), headers=sent, timeout=POLL_TIMEOUT
                )
            except httpx.HTTPError:
                await self._sleep(min(2.0**waits, LONGEST_POLL_DELAY))
                waits += 1
                continue
            status = response.status_code
            if status == 429 and (delay := rules.rate_limit_delay(waits)) is not None:
                await self._sleep(delay)
                waits += 1
                continue
            waits = 0
            if status == 408 or 500 <= status < 600:
                bad_requests = 0
                continue
            if status == 400 and bad_requests < rules.bad_request_retries:
                bad_requests += 1
                continue
            if not response.is_success:
                raise HttpStatusError(status, f"retrieve_future: {status} {response.text[:500]}")
            if "json" not in response.headers.get("content-type", ""):
                return response
            answer = _json(response)
            if answer.get("type") == "try_again":
                continue
            if answer.get("status") == "complete_metadata":
                allow_metadata_only = False
                continue
            if "error" in answer:
                raise RequestFailedError(str(answer["error"]))
            return response


def now() -> float:
    """Return a clock for round trips, in seconds."""
    return time.perf_counter()


def _is_retried(status: int) -> bool:
    return status in (408, 409, 429) or status >= 500


def _retry_after(response: httpx.Response, otherwise: float) -> float:
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return otherwise
    return seconds if 0 < seconds <= LONGEST_RETRY_AFTER else otherwise


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = json.loads(response.content)
    except ValueError as error:
        raise BadOutputError(f"{response.request.url.path}: the answer is no JSON: {error}") from error
    if not isinstance(answer, dict):
        raise BadOutputError(f"{response.request.url.path}: the answer is no JSON object")
    return answer
