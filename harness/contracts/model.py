"""A contract: the client behaviour of the official SDK at one release.

Every field that is a name selects a strategy, a pure function of `harness/reference/`; the rest are numbers and
templates. Contracts are read from `fixtures/contracts/tinker.toml`, a timeline: a baseline and its changes
(`harness.contracts.timeline`, `docs/contracts.md`).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Chunking(Struct, frozen=True, forbid_unknown_fields=True):
    """How data is cut into requests.

    `cut` and `estimate` name strategies. `max_count` is in datums, `max_bytes` in estimated bytes per request.
    `from_client_config`: client/config overrides the two limits (`fwdbwd_max_chunk_len`,
    `fwdbwd_max_chunk_bytes_count`).
    """

    cut: str
    estimate: str
    max_count: int
    max_bytes: int
    from_client_config: bool


class Sending(Struct, frozen=True, forbid_unknown_fields=True):
    """How the chunks of a call reach the server.

    `order`: `serial` (each after the previous was acknowledged) or `rest_then_first` (2..n in parallel, then 1; the
    client/config flag `parallel_fwdbwd_chunks`, where the release reads it, turns this into `serial`).
    `ids`: `per_pass` (a custom call takes its backward ids after the loss) or `both_passes` (2n up front).
    `backward_cut`: `own` (cut again from the backward data) or `forward` (the forward pass's boundaries).
    `custom_call`: `blocks` (the plain call returns when the backward pass is submitted) or `returns` (at once).
    """

    order: str
    ids: str
    backward_cut: str
    custom_call: str


class CustomLoss(Struct, frozen=True, forbid_unknown_fields=True):
    """The custom loss between the passes.

    `forward_inputs`: `as_given` or `targets_and_weights` (only these two, float32 zero weights where missing).
    `leaf_shape`: `flat` or `declared` (the shape the server declared). `leaf_dtype`: `as_sent` (JSON integers make an
    integer tensor, which cannot be differentiated) or `declared`. `pairing`: `truncating` or `strict` pairing of
    gradients with datums. `sparse`: `dense` or `csr_if_smaller` for 2-D native tensors. `metrics`: `update` (custom
    over server metrics) or `update_own_loss` (then loss:sum is the custom loss, surrogate_loss:sum the server's).
    """

    forward_inputs: str
    leaf_shape: str
    leaf_dtype: str
    pairing: str
    sparse: str
    metrics: str


class Failure(Struct, frozen=True, forbid_unknown_fields=True):
    """What failures leave behind.

    `custom`: `usable` or `poisoned`. `empty_plain`: `empty_output` or `refused`. `empty_custom`: `loss_runs` or
    `refused`. `nonfinite`: `refused` (JSON cannot carry it; nothing is sent) or `sent`.
    """

    custom: str
    empty_plain: str
    empty_custom: str
    nonfinite: str


class Inputs(Struct, frozen=True, forbid_unknown_fields=True):
    """What callers may hand over. `nested_lists`: lists of lists as 2-D inputs are `refused` or `accepted`."""

    nested_lists: str


class RetryAgain(Struct, frozen=True, forbid_unknown_fields=True):
    """The retries around the retries: a request that was given up is begun again, with a new idempotency key.

    Delays in seconds, from `first_delay` doubling to `longest_delay`, without jitter, while less than `within` seconds
    have passed since the first attempt. `not_for` are routes that are given up for good.
    """

    first_delay: float
    longest_delay: float
    within: float
    not_for: tuple[str, ...]


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """When a request that is no poll is sent again, with the same seq_id, body and idempotency key.

    After one of `statuses` (`5xx` stands for 500 to 599) and after a broken connection, for at most `attempts` attempts
    (`attempts_of` by route). The n-th delay is `first_delay` * 2^n seconds, `longest_delay` at most, less up to the
    fraction `jitter`. The first of the headers `retry_after` that can be read (a number of seconds, milliseconds where
    its name ends in -ms, or an HTTP date) replaces it, where it asks for more than 0 and at most
    `longest_retry_after` seconds. The header `should_retry` (true, false) overrules the status.
    `empty_bad_requests`: how many more answers of 400 without a body than requests that went well count as a broken
    connection and are left to `again`. `timeout` (reading) and `connect_timeout` are in seconds.
    """

    statuses: tuple[str, ...]
    attempts: int
    attempts_of: dict[str, int]
    first_delay: float
    longest_delay: float
    jitter: float
    retry_after: tuple[str, ...]
    longest_retry_after: float
    should_retry: str
    empty_bad_requests: int
    timeout: float
    connect_timeout: float
    again: RetryAgain


class Polling(Struct, frozen=True, forbid_unknown_fields=True):
    """How retrieve_future answers other than a result are met.

    `at_once`: statuses after which, as after try_again, the client asks again without a delay of its own.
    `bad_request_retries` is how many times a 400 is asked again at once, counted anew after a status of
    `bad_request_reset`. `too_many_requests`: a 429 `fails` or `backs_off`. That delay, also after a broken connection,
    is `first_delay`, doubling to `longest_delay` seconds, and starts over after any other answer. Other statuses fail.
    `timeout` is how long a poll may be held, in seconds.

    `most_per_second` and `again_within` (seconds) are what the harness asks of a client: no more polls of one result
    than that in any second, and the next one by then where no delay is due.
    """

    at_once: tuple[str, ...]
    bad_request_retries: int
    bad_request_reset: tuple[str, ...]
    too_many_requests: str
    first_delay: float
    longest_delay: float
    timeout: float
    most_per_second: int
    again_within: float


class Wire(Struct, frozen=True, forbid_unknown_fields=True):
    """How requests look.

    `encoding`: `json` or `protobuf` for passes. `forward_route`: `forward` or `forward_backward` (with forward_only).
    `templates` maps a route to its JSON body. In a template, `"$name"` stands for a value (null where the caller gave
    none), `"$name?"` for a value whose key is omitted where the caller gave none, `"$null"` for null; anything else
    stands for itself. `elements` are the templates of a `datum`, a `chunk` and a `tensor` inside JSON passes.
    `defaults` are per route the values of placeholders the caller left out.
    `accept` maps a request type to the Accept header of its retrieve_future. `call_headers` are sent, filled in like a
    template, with every request made inside a public call. `headers` are required of requests: per route, or `*` for
    every request, a header name and the pattern its whole value must match ("" for any value).
    """

    encoding: str
    forward_route: str
    templates: dict[str, dict[str, Any]]
    elements: dict[str, dict[str, Any]]
    defaults: dict[str, dict[str, Any]]
    accept: dict[str, str]
    call_headers: dict[str, str]
    headers: dict[str, dict[str, str]]


class Session(Struct, frozen=True, forbid_unknown_fields=True):
    """Start and end: routes in the order the client calls them, retrieve_future included.

    `start` before the first model, `model` for each model, `end` when the client is closed. `info`: get_info() `asks`
    the server each time or is `remembered` from the model's creation. `client_config` holds the flags the release reads
    from client/config, with their defaults. Every `heartbeat_seconds` the session is kept alive (session_heartbeat);
    what fails is ignored, except that a status of `heartbeat_stops_at` ends it.
    """

    start: tuple[str, ...]
    model: tuple[str, ...]
    end: tuple[str, ...]
    info: str
    client_config: dict[str, bool | int]
    heartbeat_seconds: float
    heartbeat_stops_at: tuple[int, ...]


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the timeline: from `release` on, `set` (dotted key to value) holds and the keys of `drop` are gone.

    A value replaces what stood at its key, as a whole. An entry that sets and drops nothing says that the release
    changed nothing here. `since` names the release in which it really appeared, where that one is not described.
    `says` is a sentence, `source` its proof.
    """

    release: str
    says: str
    source: str
    since: str = ""
    set: dict[str, Any] = {}
    drop: tuple[str, ...] = ()


class Contract(Struct, frozen=True, forbid_unknown_fields=True):
    """A point on the timeline.

    `id` is `tinker-<release>`. `reductions` maps the suffix of a metric's name to the strategy that combines its
    chunks. `requires` are the capabilities (step names) a driver of this release must have.
    """

    id: str
    release: str
    chunking: Chunking
    sending: Sending
    custom_loss: CustomLoss
    failure: Failure
    inputs: Inputs
    retry: Retry
    polling: Polling
    wire: Wire
    session: Session
    reductions: dict[str, str]
    requires: tuple[str, ...]


def means(names: tuple[str, ...], status: int) -> bool:
    """Return whether a status is among `names`: itself, or its hundred as in `5xx`."""
    return str(status) in names or f"{status // 100}xx" in names
