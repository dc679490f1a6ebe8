"""HTTP for the reference client: submits with retries, and polls until there is a result.

When is tried again is the contract's (`Contract.retry`, `Contract.polling`). Requests in flight at the same time use
connections of their own (HTTP/1.1 without pipelining).
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

from harness.contracts.model import Polling, Retry, means
from harness.reference import retrying
from harness.reference.errors import BadOutputError, HttpStatusError, RequestFailedError, TransportError

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]

PACE = 0.8
"""The part of the contract's most polls per second that the reference uses."""


@dataclass(frozen=True, slots=True)
class PollRules:
    """The contract's numbers for polls, and what a 429 costs: seconds after so many waits, or None to fail."""

    polling: Polling
    rate_limit_delay: Callable[[Polling, int], float | None]


class _Broken(Exception):  # noqa: N818 - never leaves this module: what it stands for does
    """An answer that counts as a broken connection."""


class Transport:
    """One tenant's connections. Belongs to one event loop; `close` it.

    `sleep` waits, `clock` tells seconds, `carrier` replaces the network, where a test needs it.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        user_agent: str,
        retry: Retry,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.monotonic,
        carrier: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retry = retry
        self._sleep = sleep
        self._clock = clock
        self._empty_left = retry.empty_bad_requests
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

    async def submit(self, path: str, content: bytes, headers: Mapping[str, str], *, route: str = "") -> dict[str, Any]:
        """Post a request and return the JSON answer.

        It is tried again as the contract says of `route` (the path, unless given): attempts with one idempotency key
        and, where these were given up for a reason that may pass, after a delay from the beginning with another key.
        Raises HttpStatusError, TransportError, BadOutputError.
        """
        route = route or path
        rule = self._retry.again
        began, rounds = self._clock(), 0
        while True:
            try:
                return await self._attempts(path, content, headers, most=self._retry.attempts_of.get(route))
            except (HttpStatusError, TransportError) as error:
                passed = self._clock() - began
                may_pass = isinstance(error, TransportError) or means(self._retry.statuses, error.status)
                if route in rule.not_for or not may_pass or passed >= rule.within:
                    raise
                pause = retrying.doubled(rule.first_delay, rounds, rule.longest_delay)
                rounds += 1
                await self._sleep(min(pause, rule.within - passed))

    async def _attempts(
        self, path: str, content: bytes, headers: Mapping[str, str], *, most: int | None
    ) -> dict[str, Any]:
        retry = self._retry
        key = f"parity-reference-{uuid.uuid4()}"
        timeout = httpx.Timeout(retry.timeout, connect=retry.connect_timeout)
        taken = 0
        while True:
            last = taken + 1 >= (most or retry.attempts)
            sent = {**headers, "x-idempotency-key": key, "x-stainless-retry-count": str(taken)}
            answered: Mapping[str, str] = {}
            try:
                response = await self._http.post(f"/api/v1/{path}", content=content, headers=sent, timeout=timeout)
            except httpx.HTTPError as error:
                if last:
                    raise TransportError(f"{path}: {type(error).__name__}: {error}") from error
            else:
                if response.is_success:
                    self._went_well()
                    return _json(response)
                status, answered = response.status_code, response.headers
                if last or not retrying.is_retried(retry, status, answered):
                    if self._counts_as_broken(response):
                        raise TransportError(f"{path}: 400 without a body")
                    raise HttpStatusError(status, f"{path}: {status} {response.text[:500]}")
            await self._sleep(retrying.delay(retry, taken, answered))
            taken += 1

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
        polling = rules.polling
        pace = 1 / (polling.most_per_second * PACE)
        allow_metadata_only = True
        iteration = -1
        bad_requests = waits = 0
        before = -pace
        while True:
            iteration += 1
            if (early := before + pace - self._clock()) > 0:
                await self._sleep(early)
            before = self._clock()
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
                response = await self._poll(body(allow_metadata_only), sent, held=polling.timeout)
            except (httpx.HTTPError, _Broken):
                await self._sleep(retrying.doubled(polling.first_delay, waits, polling.longest_delay))
                waits += 1
                continue
            status = response.status_code
            if status == 429 and (delay := rules.rate_limit_delay(polling, waits)) is not None:
                await self._sleep(delay)
                waits += 1
                continue
            waits = 0
            if means(polling.bad_request_reset, status):
                bad_requests = 0
            if means(polling.at_once, status):
                continue
            if status == 400 and bad_requests < polling.bad_request_retries:
                bad_requests += 1
                continue
            if not response.is_success:
                raise HttpStatusError(status, f"retrieve_future: {status} {response.text[:500]}")
            if "protobuf" in response.headers.get("content-type", ""):
                return response
            answer = _json(response)
            if answer.get("type") == "try_again":
                continue
            if answer.get("status") == "complete_metadata":
                allow_metadata_only = False
                # It says that there is something to fetch, and is fetched at once.
                before = -pace
                continue
            if "error" in answer:
                raise RequestFailedError(str(answer["error"]))
            return response

    async def _poll(self, content: bytes, headers: Mapping[str, str], *, held: float) -> httpx.Response:
        limits = httpx.Timeout(held, connect=self._retry.connect_timeout)
        response = await self._http.post("/api/v1/retrieve_future", content=content, headers=headers, timeout=limits)
        if response.is_success:
            self._went_well()
        elif self._counts_as_broken(response):
            raise _Broken
        return response

    def _counts_as_broken(self, response: httpx.Response) -> bool:
        if response.status_code != 400 or response.headers.get("content-length", "0") != "0" or not self._empty_left:
            return False
        self._empty_left -= 1
        return True

    def _went_well(self) -> None:
        self._empty_left = min(self._empty_left + 1, self._retry.empty_bad_requests)


def now() -> float:
    """Return a clock for round trips, in seconds."""
    return time.perf_counter()


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = json.loads(response.content)
    except ValueError as error:
        raise BadOutputError(f"{response.request.url.path}: the answer is no JSON: {error}") from error
    if not isinstance(answer, dict):
        raise BadOutputError(f"{response.request.url.path}: the answer is no JSON object")
    return answer
