"""How much one run may cost the server: what is kept of it, and what is open at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mock_server.ragged import Datums
from mock_server.record import Batch

_MIB = 1 << 20

MAX_DATUMS = 1 << 16
"""Bound on the datums of one body. The contracts' own limit for a chunk is 1024."""

MAX_PARTS = 8 * MAX_DATUMS
"""Bound on the chunks of one body, and on its tensors: each becomes an object, if only for a moment."""

MAX_INPUTS = 1000
"""Bound on the distinct inputs of one body, by name, dtype, layout and rank: each is kept as arrays of its own."""

MAX_SMALL_BYTES = _MIB
"""Bound on a body, or what is left of it, without bulk data: it becomes Python objects, of up to 32 times its size."""

MAX_BESIDE_BYTES = 4 * _MIB
"""Bound on what the datums of a protobuf body of more than 8 MiB have besides bulk data: fields of a few bytes take
fifty times that. A datum of the suite has about 100 bytes of it."""

MAX_NAMES = 1000
"""So many distinct unknown fields of one body are named, at most."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one tenant; beyond one of them it is flooded, and nothing more is recorded.

    `requests` in all, `open_requests` at a time, `kept_bytes` of memory for the record and the models, estimated. The
    largest scenario of the suite has 43 requests and keeps 30 MiB.
    """

    requests: int = 20_000
    open_requests: int = 1000
    kept_bytes: int = 512 * _MIB


class Quota:
    """What one tenant has cost, without limits if there are None.

    `exceeded` says what was too much, "" as long as nothing was. Then `on_exceeded` hears it, once, in the thread that
    serves the request. `reading` are the bytes of bodies that are on their way in, `held` those of them that are in
    memory. Not thread-safe.
    """

    def __init__(self, limits: Limits | None) -> None:
        self._limits = limits
        self._requests = self._open = self._kept = 0
        self.reading = self.held = 0
        self.exceeded = ""
        self.on_exceeded: Callable[[str], object] = lambda _: None

    def enter(self) -> None:
        """Count a request that arrives."""
        self._requests += 1
        self._open += 1
        limits = self._limits
        if limits is None:
            return
        if self._requests > limits.requests:
            self._exceed(f"more than {limits.requests} requests in one run")
        elif self._open > limits.open_requests:
            self._exceed(f"more than {limits.open_requests} requests at a time")

    def leave(self) -> None:
        """Count a request that was answered, or whose client hung up."""
        self._open -= 1

    def keep(self, size: int) -> None:
        """Count what is kept: bytes of memory, estimated."""
        self._kept += size
        if self._limits is not None and self._kept > self._limits.kept_bytes:
            self._exceed(f"more than {self._limits.kept_bytes // _MIB} MiB to be kept of one run")

    def _exceed(self, what: str) -> None:
        if not self.exceeded:
            self.exceeded = what
            self.on_exceeded(what)


_OBJECT = 300
"""Bytes of memory for one tensor or datum, apart from its numbers."""

_EXPANSION = 32
"""Bytes of memory for one byte of JSON or protobuf that becomes Python objects, at worst."""


def kept_of_text(size: int) -> int:
    """Return the memory that `size` bytes of a body may take as Python objects."""
    return _EXPANSION * size


def kept_of_batch(batch: Batch) -> int:
    """Return the memory that a batch takes."""
    names = sum(len(form) for forms in batch.forms.values() for form in forms)
    if isinstance(batch.datums, Datums):
        return batch.datums.nbytes + names
    objects = size = 0
    for datum in batch.datums:
        objects += 1 + len(datum.inputs)
        size += datum.tokens.nbytes
        for tensor in datum.inputs.values():
            size += tensor.values.nbytes
            if tensor.crow is not None and tensor.col is not None:
                size += tensor.crow.nbytes + tensor.col.nbytes
    return size + _OBJECT * objects + names


def kept_of_model(vocab: int) -> int:
    """Return the memory that one more state of a model takes: parameters, gradient and both moments, in float64."""
    return 4 * vocab * vocab * np.dtype(np.float64).itemsize


def kept_of_head(headers: Mapping[str, str]) -> int:
    """Return the memory that headers take."""
    return sum(map(len, headers)) + sum(map(len, headers.values()))
