"""What the server saw: facts, not judgements.

Everything here is immutable and holds decoded values; the raw bytes of a body are not kept. Bulk numbers live in
numpy arrays, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Encoding = Literal["none", "json", "protobuf"]
Layout = Literal["dense", "csr"]
AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor as the wire carried it.

    `dtype` is the name the wire declared (`float32`, `int64`, ...). `shape` is None when the wire named none.
    `values` is one-dimensional: row-major elements for `dense`, the stored values for `csr` (then `crow` and `col`
    are int64).
    """

    dtype: str
    shape: tuple[int, ...] | None
    values: AnyArray
    layout: Layout = "dense"
    crow: AnyArray | None = None
    col: AnyArray | None = None

    def dense(self) -> AnyArray:
        """Return the elements as a one-dimensional row-major array, zeros where a CSR tensor stores nothing."""
        if self.layout == "dense":
            return self.values
        if self.shape is None or self.crow is None or self.col is None:
            raise ValueError("a CSR tensor needs shape, crow and col")
        rows, columns = self.shape
        full = np.zeros((rows, columns), dtype=self.values.dtype)
        row_of = np.repeat(np.arange(rows), np.diff(self.crow))
        full[row_of, self.col] = self.values
        return full.reshape(-1)

    @property
    def size(self) -> int:
        """Number of elements of the dense tensor."""
        if self.layout == "dense" or self.shape is None:
            return int(self.values.size)
        return int(np.prod(self.shape))


@dataclass(frozen=True, slots=True, eq=False)
class Datum:
    """One datum of a forward or forward_backward request: its input tokens (int64) and its loss_fn_inputs."""

    tokens: AnyArray
    inputs: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The data part of a forward or forward_backward request.

    `forms` names the distinct sets of keys seen per element kind, `{"chunk": ["tokens,type"], "tensor":
    ["data,dtype,shape"], "datum": [...]}`: what tells one JSON encoder from another.
    """

    datums: Sequence[Datum]
    forms: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """One request and its response.

    `route` is the canonical name of the path without `/api/v1/` (`forward_backward`, `client/config`, `session/finish`)
    or `?` for an unknown path. `body` is the decoded body as JSON-like values under the JSON names of the fields, for
    protobuf too, without the data (`batch` has it). `headers` has lower-case names and never the API key. Times are
    milliseconds since the tenant was opened. `resend_of` is the ordinal of the first request of those that this one
    repeats, whether that one took effect or a scripted fault kept it from it. `fault` is the place, in the script, of
    the instruction that hit the request; where the body was not read, `body` is None and `size` 0.
    """

    ordinal: int
    at_ms: float
    answered_ms: float | None
    connection: str
    method: str
    path: str
    route: str
    headers: Mapping[str, str]
    encoding: Encoding
    compressed: bool
    size: int
    body: Any
    batch: Batch | None
    unknown_fields: tuple[str, ...]
    status: int | None
    response: Any
    resend_of: int | None = None
    fault: int | None = None


@dataclass(frozen=True, slots=True)
class FaultUse:
    """What became of one instruction of a fault script.

    `times` is None for `always`. `seen` is how many requests it counted, `hits` are the exchanges it was played on.
    """

    kind: str
    route: str
    times: int | None
    seen: int
    hits: tuple[int, ...]

    @property
    def consumed(self) -> bool:
        """Whether it was played as often as it says; where it says always, at least once."""
        return len(self.hits) >= (self.times or 1)


class Operation(Struct, frozen=True, eq=False):
    """One operation that took effect on a model, in the order of effect.

    `kind` is the effect (`forward` also for forward_backward with forward_only). `request` is the ordinal of the
    exchange that submitted it first. `outputs` and `metrics` are what the result carried.
    """

    model_id: str
    seq_id: int | None
    kind: str
    request: int
    outputs: Sequence[Mapping[str, Tensor]] = ()
    metrics: Mapping[str, float] = {}


class OptimizerState(Struct, frozen=True, eq=False):
    """What one optimizer step found and left: float64 arrays `[vocab, vocab]`."""

    model_id: str
    seq_id: int | None
    gradient: AnyArray
    parameters: AnyArray


@dataclass(frozen=True, slots=True)
class Violation:
    """What no era allows: `undecodable-body`, `body-too-large`, `unknown-path`, `seq-reused`.

    `request` is an exchange ordinal.

    `not-in-trace` is an operation that a replayed trace has no answer to.

    `server-defect` is not about the client: the mock server itself failed, and the run proves nothing.
    """

    code: str
    message: str
    request: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole in a model's seq_ids, declared after quiet: `held` ids waited for `missing` ones."""

    model_id: str
    missing: tuple[int, ...]
    held: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Everything one tenant saw.

    `aliases` maps every id and path the server handed out to a stable name (`session-1`, `model-1`,
    `tinker://model-1/weights/ck`), so that traces can be free of ids. `unfinished` are ids of operations still held
    when the record was taken. `failures` are the messages of operations that failed, by the ordinal of the exchange
    that submitted them. `faults` are the instructions of the fault script, in its order.
    """

    exchanges: tuple[Exchange, ...] = ()
    operations: tuple[Operation, ...] = ()
    optimizer_states: tuple[OptimizerState, ...] = ()
    violations: tuple[Violation, ...] = ()
    gaps: tuple[Gap, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()
    failures: Mapping[int, str] = field(default_factory=dict)
    faults: tuple[FaultUse, ...] = ()
