"""What a tenant's server is told to do: the part of a scenario's stimulus that the server plays.

The server serves every route of every era to every client. A script changes what it *answers* (numbers, metrics,
pacing, client configuration, faults), never what it accepts.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from mock_server.faults.script import Fault

MetricSet = dict[str, float]


class ModelSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """The tiny language model behind a tenant.

    A bigram model: a float64 table of logits `[vocab, vocab]`, row = input token, column = target token, drawn from a
    normal distribution of standard deviation `scale` under `seed` (0 scale: all zeros).
    """

    vocab: int = 16
    seed: int = 1
    scale: float = 1.0
    optimizer: Literal["adamw", "sgd"] = "adamw"


class Logprobs(Struct, frozen=True, forbid_unknown_fields=True):
    """Where logprobs come from.

    `model`: the tiny language model. `table`: `table[target % len(table)]`, exact literal numbers chosen by target
    token. `hash`: a deterministic multiple of 1/8 in [-32, -1/8] per (input token, target token, position), exact in
    float32 and distinct between datums. The last two are content-addressed, so that chunking and order cannot
    change them.
    """

    kind: Literal["model", "table", "hash"] = "model"
    table: tuple[float, ...] = ()


class Outputs(Struct, frozen=True, forbid_unknown_fields=True):
    """How `loss_fn_outputs` are written.

    `shape`: `declared` (the shape of target_tokens), `omitted` (no shape on the JSON wire) or `flat` (1-D).
    `integers`: JSON numbers without a decimal point where the value is integral. `drop`: that many outputs are left
    off the end of each forward result. `extend`: that many extra elements are appended to each logprobs tensor.
    """

    shape: Literal["declared", "omitted", "flat"] = "declared"
    integers: bool = False
    drop: int = 0
    extend: int = 0


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """Scripted metrics: the k-th executed operation of a kind (in seq_id order, per model) answers entry k.

    Past the end of a list, and where a list is empty, the server answers its own metrics (`loss:sum`).
    """

    forward: tuple[MetricSet, ...] = ()
    forward_backward: tuple[MetricSet, ...] = ()
    optim_step: tuple[MetricSet, ...] = ()


class Polls(Struct, frozen=True, forbid_unknown_fields=True):
    """How retrieve_future behaves before it answers a result.

    The first `pending` polls of each future are held briefly and answered with `reply`. `metadata_only`: a poll with
    `allow_metadata_only` is answered by `complete_metadata` first.
    """

    pending: int = 0
    reply: Literal["try_again", "timeout"] = "try_again"
    queue_state: Literal["active", "paused_capacity", "paused_rate_limit"] = "active"
    metadata_only: bool = False


class Script(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a scenario tells the server.

    `client_config` is answered verbatim to client/config. `quiet_seconds` is how long a tenant must be silent, with
    only awaits open, before a hole in the seq_ids is declared a gap; the default leaves room for a client on a machine
    that is busy with other things. `faults` are instructions of their own (`mock_server.faults.script`).
    """

    model: ModelSpec = ModelSpec()
    logprobs: Logprobs = Logprobs()
    outputs: Outputs = Outputs()
    metrics: Metrics = Metrics()
    polls: Polls = Polls()
    client_config: dict[str, Any] = {}
    quiet_seconds: float = 8.0
    faults: tuple[Fault, ...] = ()
