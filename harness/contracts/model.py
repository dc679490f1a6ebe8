"""A contract: the client behaviour of the official SDK at one release.

Every field that is a name selects a strategy, a pure function of `harness/reference/`; the rest are numbers and
templates. Contracts are read from `fixtures/contracts/tinker.toml`, a timeline: a baseline and its changes.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Chunking(Struct, frozen=True, forbid_unknown_fields=True):
    """How data is cut into requests.

    `cut` and `estimate` name strategies. `max_count` is in datums, `max_bytes` in estimated bytes per request.
    `from_client_config`: the two limits can be overridden by client/config (`fwdbwd_max_chunk_len`,
    `fwdbwd_max_chunk_bytes_count`).
    """

    cut: str
    estimate: str
    max_count: int
    max_bytes: int
    from_client_config: bool


class Sending(Struct, frozen=True, forbid_unknown_fields=True):
    """How the chunks of a call reach the server.

    `order`: `serial` (each after the previous was acknowledged) or `rest_then_first` (2..n in parallel, then 1).
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
    `leaf_shape`: `flat` or `declared` (the shape the server declared). `pairing`: `truncating` or `strict` pairing of
    gradients with datums. `sparse`: `dense` or `csr_if_smaller` for 2-D native tensors. `metrics`: `update` (custom
    over server metrics) or `update_own_loss` (then loss:sum is the custom loss, surrogate_loss:sum the server's).
    """

    forward_inputs: str
    leaf_shape: str
    pairing: str
    sparse: str
    metrics: str


class Failure(Struct, frozen=True, forbid_unknown_fields=True):
    """What failures leave behind.

    `custom`: `usable` or `poisoned`. `empty_plain`, `empty_custom`: `empty_output`, `loss_runs` or `refused`.
    `nonfinite`: `refused` (JSON cannot carry it; nothing is sent) or `sent`.
    """

    custom: str
    empty_plain: str
    empty_custom: str
    nonfinite: str


class Wire(Struct, frozen=True, forbid_unknown_fields=True):
    """How requests look.

    `encoding`: `json` or `protobuf` for passes. `forward_route`: `forward` or `forward_backward` (with forward_only).
    `json_style`: `unset_omitted` (only fields that were set) or `defaults_filled`. `templates` maps a route to its
    JSON body with `$name` placeholders (`$name?`: the key is omitted where there is no value; `$null`: null).
    `accept` maps a request type to the Accept header of its retrieve_future. `headers` are header names, or name and
    value pattern, that every request of the key (a route, or `*`) carries.
    """

    encoding: str
    forward_route: str
    json_style: str
    templates: dict[str, dict[str, Any]]
    accept: dict[str, str]
    headers: dict[str, dict[str, str]]


class Session(Struct, frozen=True, forbid_unknown_fields=True):
    """Start and end: routes in the order the client calls them, retrieve_future included."""

    start: tuple[str, ...]
    model: tuple[str, ...]
    end: tuple[str, ...]


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the timeline: since `release`, `set` (dotted keys) holds. `says` is a sentence, `source` its proof."""

    release: str
    says: str
    source: str
    set: dict[str, Any]


class Contract(Struct, frozen=True, forbid_unknown_fields=True):
    """A point on the timeline. `id` is `tinker-<release>`."""

    id: str
    release: str
    chunking: Chunking
    sending: Sending
    custom_loss: CustomLoss
    failure: Failure
    wire: Wire
    session: Session
    reductions: dict[str, str]
    requires: tuple[str, ...]
