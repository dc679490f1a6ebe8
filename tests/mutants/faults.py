"""Clients that stumble over what a single submit or poll is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
from breadth import LoadsNothing
from halfway import TRAINED, BlamesTheConnection, Watched, one_round
from mutant import Mutant, checks
from patience import numbers

from harness.reference.behaviour import Behaviour
from harness.reference.calls import Call
from harness.reference.client import ReferenceClient
from harness.reference.errors import BadOutputError, HttpStatusError, TransportError

LOST = "result.status retry.attempts retry.once gaps.none " + TRAINED
"""The call fails, its gradient is missing, and the optimizer step waits for its id."""
NOT_AGAIN = "retry.gaps retry.same_request"
NO_ERROR = checks("error.kind error.raised_at")
NO_OUTPUTS = checks("result.outputs")


class _Reader(Watched):
    """Has a say in each answer before it is read."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._transport._http.event_hooks = {"request": [], "response": [self._arrived]}

    async def _arrived(self, response: httpx.Response) -> None:
        await response.aread()
        self.look(response, polled=response.request.url.path.endswith("retrieve_future"))

    def look(self, response: httpx.Response, *, polled: bool) -> None:
        """Take the answer."""
        raise NotImplementedError


def _readable(response: httpx.Response) -> bool:
    if not response.is_success or "protobuf" in response.headers.get("content-type", ""):
        return True
    try:
        return isinstance(json.loads(response.content), dict)
    except ValueError:
        return False


class SendsTheUnreadableAgain(_Reader):
    """Takes an answer to a submit that cannot be read for a broken connection."""

    def look(self, response: httpx.Response, *, polled: bool) -> None:
        """Break the connection."""
        if not polled and not _readable(response):
            raise httpx.ReadError("unreadable")


class AsksForTheUnreadableAgain(_Reader):
    """Takes a result that cannot be read for a broken connection."""

    def look(self, response: httpx.Response, *, polled: bool) -> None:
        """Break the connection."""
        if polled and not _readable(response):
            raise httpx.ReadError("unreadable")


class TrustsContentTypes(_Reader):
    """Reads nothing that is called something else than JSON or protobuf."""

    def look(self, response: httpx.Response, *, polled: bool) -> None:
        """Refuse what a proxy calls HTML."""
        del polled
        if response.is_success and "html" in response.headers.get("content-type", ""):
            raise BadOutputError("an answer that is HTML")


class NumbersAttempts(ReferenceClient):
    """Gives every attempt of an operation the next seq_id, and what comes after it the ones after that."""

    used = 0

    async def send(self, route: str, content: bytes, content_type: str, call: Call | None) -> dict[str, Any]:
        """Send under the next id until something comes back."""
        body = json.loads(content)
        if "seq_id" not in body:
            return await super().send(route, content, content_type, call)
        while True:
            self.used += 1
            numbered = json.dumps({**body, "seq_id": self.used}).encode()
            try:
                return await super().send(route, numbered, content_type, call)
            except (HttpStatusError, TransportError):
                await asyncio.sleep(self.behaviour.contract.retry.first_delay)


class PollsInTurn(ReferenceClient):
    """Asks for one result at a time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._turn = asyncio.Lock()

    async def poll(self, submitted: Mapping[str, Any], request_type: str, call: Call, *, roundtrip: float) -> bytes:
        """Wait for the results before."""
        async with self._turn:
            return await super().poll(submitted, request_type, call, roundtrip=roundtrip)


class MixesResultsUp(ReferenceClient):
    """Gives results to the calls of their kind in the order in which they come."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiting: dict[str, list[asyncio.Future[bytes]]] = {}

    async def poll(self, submitted: Mapping[str, Any], request_type: str, call: Call, *, roundtrip: float) -> bytes:
        """Hand what comes to whoever waits longest."""
        mine: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(request_type, []).append(mine)

        async def hand_on() -> None:
            content = await super(MixesResultsUp, self).poll(submitted, request_type, call, roundtrip=roundtrip)
            self._waiting[request_type].pop(0).set_result(content)

        self.spawn(hand_on())
        return await mine


def _without(status: str) -> Any:
    def change(behaviour: Behaviour) -> Behaviour:
        statuses = tuple(each for each in behaviour.contract.retry.statuses if each != status)
        return numbers("retry", statuses=statuses)(behaviour)

    return change


def _refusals_again(behaviour: Behaviour) -> Behaviour:
    statuses = (*behaviour.contract.retry.statuses, "4xx")
    return one_round(behaviour, statuses=statuses, attempts=2, first_delay=0.1)


def _final_polls_again(behaviour: Behaviour) -> Behaviour:
    at_once = (*behaviour.contract.polling.at_once, "401", "404", "410", "422")
    return numbers("polling", at_once=at_once)(behaviour)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "conflict-is-final",
        "A 409 ends a submit.",
        checks(LOST, "faults.consumed"),
        "Every release sends it again.",
        silences=NO_OUTPUTS,
        scenarios=("faults/retried-statuses", "faults/retried-backoff"),
        change=_without("409"),
    ),
    Mutant(
        "hurried-everywhere",
        "The first delay is 50 ms, after a broken connection and after a Retry-After that cannot be used.",
        checks("retry.gaps"),
        "The contract's own delays hold wherever the server names none, on every route.",
        scenarios=(
            "faults/reset",
            "faults/reset-unread",
            "faults/answer-lost",
            "faults/answer-cut",
            "faults/step-lost",
            "faults/custom-retried",
            "faults/set-up-retried",
            "faults/retried-after-unusable",
            "faults/retried-by-header",
        ),
        change=numbers("retry", first_delay=0.05),
    ),
    Mutant(
        "backoff-ends-early",
        "The backoff ends at three seconds.",
        checks("retry.gaps"),
        "A service that is down for long is asked more often than the contract says.",
        scenarios=("faults/retried-backoff-long",),
        change=numbers("retry", longest_delay=3.0),
    ),
    Mutant(
        "two-attempts",
        "A submit has two attempts.",
        checks(LOST, "order.arrival"),
        "A service that is away for a second ends the call.",
        silences=checks(NOT_AGAIN, "result.outputs"),
        scenarios=("faults/connections-refused", "faults/reset"),
        change=lambda behaviour: one_round(behaviour, attempts=2),
    ),
    Mutant(
        "should-retry-ignored",
        "x-should-retry is not read.",
        checks(LOST, "faults.consumed retry.gaps"),
        "The service overrules the client's statuses.",
        silences=checks(NOT_AGAIN, "result.outputs"),
        scenarios=("faults/retried-by-header", "faults/not-retried-by-header"),
        change=numbers("retry", should_retry="x-other"),
    ),
    Mutant(
        "three-attempts-per-round",
        "A round has three attempts.",
        checks("retry.gaps", "retry.same_request"),
        "Nobody waits a second, under another key, where the contract goes on.",
        scenarios=("faults/attempts-used-up", "faults/retried-backoff"),
        change=numbers("retry", attempts=3),
    ),
    Mutant(
        "refusals-sent-again",
        "Whatever begins with 4 is sent again.",
        checks("retry.attempts", "result.status"),
        "A refusal is final, and the caller learns of it at once.",
        silences=NO_ERROR,
        scenarios=tuple(f"faults/refused-{status}" for status in (400, 401, 404, 410, 413, 422)),
        change=_refusals_again,
    ),
    Mutant(
        "empty-400-is-final",
        "0.38.0 takes a 400 without a body for a refusal.",
        checks("retry.attempts", "retry.once", "result.status"),
        "It comes from something in between, and the release sends the request again.",
        silences=checks(NOT_AGAIN),
        scenarios=("faults/refused-empty-400", "faults/refused-400"),
        change=numbers("retry", empty_bad_requests=0),
    ),
    Mutant(
        "attempts-are-numbered",
        "0.15.0 gives each attempt an id of its own.",
        checks(
            "retry.attempts retry.same_request retry.once training.gradient training.steps",
            "chunks.complete order.arrival order.phases",
        ),
        "What took effect, and was not acknowledged, takes effect again: the gradient is counted twice.",
        contract="tinker-0.15.0",
        silences=checks("retry.gaps"),
        scenarios=("faults/answer-lost", "faults/answer-lost-behind-504", "faults/step-lost"),
        client=NumbersAttempts,
        change=lambda behaviour: one_round(behaviour, attempts=1),
    ),
    Mutant(
        "impatient",
        "An answer that takes 0.3 seconds is lost.",
        checks("retry.attempts"),
        "A busy server is asked twice for everything.",
        scenarios=("faults/answers-slow", "faults/answer-html"),
        change=numbers("retry", timeout=0.3),
    ),
    Mutant(
        "unreadable-sent-again",
        "A submit is sent again where the answer cannot be read.",
        checks("result.status"),
        "Every release fails: nothing says that another attempt would be answered better.",
        silences=NO_ERROR,
        scenarios=("faults/answer-garbage", "faults/answer-empty"),
        client=SendsTheUnreadableAgain,
    ),
    Mutant(
        "content-type-trusted",
        "0.15.0 reads no answer that is called HTML.",
        checks("result.status"),
        "Every release reads JSON under any name.",
        contract="tinker-0.15.0",
        silences=NO_OUTPUTS,
        scenarios=("faults/answer-html", "faults/polled-html"),
        client=TrustsContentTypes,
    ),
    Mutant(
        "saves-like-the-rest",
        "0.38.0 sends a save again under the same key.",
        checks("retry.gaps"),
        "The release begins a new round for each attempt at a save.",
        scenarios=("faults/saves-retried", "faults/save-lost"),
        change=numbers("retry", attempts_of={}),
    ),
    Mutant(
        "load-meets-no-fault",
        "load_state answers without a request.",
        checks("faults.consumed", "order.phases"),
        "A client that sends nothing has stood no fault.",
        scenarios=("faults/saves-retried",),
        client=LoadsNothing,
    ),
    Mutant(
        "poll-timeout-is-final",
        "A 408 ends the wait for a result.",
        checks("result.status", "poll.attempts", "faults.consumed"),
        "A 408 means: ask again.",
        silences=checks("poll.rate", "result.outputs"),
        scenarios=("faults/polled-statuses", "faults/polled-queue-states", "faults/polled-reset"),
        change=numbers("polling", at_once=("5xx",)),
    ),
    Mutant(
        "rate-limit-waited-out",
        "0.15.0 waits a second after a 429 and asks again.",
        checks("result.status"),
        "The release fails; 0.38.0 waits.",
        contract="tinker-0.15.0",
        silences=NO_ERROR,
        scenarios=("faults/polled-429", "faults/polled-400"),
        change=lambda behaviour: replace(behaviour, rate_limit_delay=lambda _polling, _waits: 1.0),
    ),
    Mutant(
        "final-polls-asked-again",
        "A result that is unknown, gone, forbidden or invalid is asked for again.",
        checks("result.status"),
        "The answer is final, and the caller learns of it at once.",
        silences=NO_ERROR,
        scenarios=tuple(f"faults/polled-{status}" for status in (401, 404, 410, 422)),
        change=_final_polls_again,
    ),
    Mutant(
        "no-400-budget",
        "0.38.0 fails at the first poll that is answered 400.",
        checks("result.status", "poll.attempts", "faults.consumed"),
        "Three more are allowed.",
        scenarios=("faults/polled-400", "faults/polled-400-four-times"),
        change=numbers("polling", bad_request_retries=0),
    ),
    Mutant(
        "large-400-budget",
        "Six polls may be answered 400.",
        checks("poll.attempts"),
        "The contract's budget is three.",
        scenarios=("faults/polled-400-four-times", "faults/polled-400"),
        change=numbers("polling", bad_request_retries=6),
    ),
    Mutant(
        "400s-never-forgotten",
        "The count of 400s does not begin anew after a 408.",
        checks("result.status"),
        "A long wait adds up what has nothing to do with each other.",
        scenarios=("faults/polled-400-counted-anew", "faults/polled-400"),
        change=numbers("polling", bad_request_reset=()),
    ),
    Mutant(
        "unreadable-asked-again",
        "0.15.0 asks again for a result that cannot be read.",
        checks("result.status"),
        "The release fails.",
        contract="tinker-0.15.0",
        silences=NO_ERROR,
        scenarios=("faults/polled-garbage", "faults/polled-list", "faults/polled-empty"),
        client=AsksForTheUnreadableAgain,
    ),
    Mutant(
        "unreadable-asked-again-protobuf",
        "0.38.0 asks again for a result that is neither JSON nor called protobuf.",
        checks("result.status"),
        "The release fails.",
        silences=NO_ERROR,
        scenarios=("faults/polled-html", "faults/polled-list"),
        client=AsksForTheUnreadableAgain,
    ),
    Mutant(
        "cut-polls-hurried",
        "After a broken connection a result is asked for again after 50 ms.",
        checks("poll.rate"),
        "Below the envelope: the contract waits a second.",
        scenarios=("faults/polled-cut", "faults/metadata-lost", "faults/polled-statuses"),
        change=numbers("polling", first_delay=0.05),
    ),
    Mutant(
        "cut-polls-dawdle",
        "After a cut answer a result is asked for again after five seconds.",
        checks("poll.rate"),
        "Above the envelope: the contract waits a second.",
        scenarios=("faults/polled-cut", "faults/metadata-lost", "faults/polled-statuses"),
        change=numbers("polling", first_delay=5.0),
    ),
    Mutant(
        "refused-polls-dawdle",
        "After a broken connection a result is asked for again after eight seconds.",
        checks("poll.rate"),
        "Above the envelope, with the attempts that nobody sees.",
        scenarios=("faults/polled-refused", "faults/polled-statuses"),
        change=numbers("polling", first_delay=8.0),
    ),
    Mutant(
        "polls-impatient",
        "A poll is given up after half a second.",
        checks("poll.attempts"),
        "Servers hold polls for longer.",
        scenarios=("faults/polled-late", "faults/polled-queue-states"),
        change=numbers("polling", timeout=0.5),
    ),
    Mutant(
        "failed-called-transport",
        "A failed operation, of whatever category and shape, is reported as a failed connection.",
        checks("error.kind"),
        "The caller tries again what can never work.",
        scenarios=tuple(f"faults/result-failed-{which}" for which in ("user", "server", "unknown", "both")),
        client=BlamesTheConnection,
    ),
    Mutant(
        "polled-in-turn",
        "Results are asked for one after the other.",
        checks("poll.overlap"),
        "One slow operation keeps every other result from its caller.",
        scenarios=("faults/results-reordered", "order/plain-concurrent"),
        client=PollsInTurn,
    ),
    Mutant(
        "results-mixed-up",
        "A result goes to the call of its kind that has waited longest.",
        checks("result.outputs"),
        "Results need not come in the order of the calls.",
        scenarios=("faults/results-reordered", "faults/retried-backoff"),
        client=MixesResultsUp,
    ),
)
