"""The sets of keys seen per kind of element: what tells one encoder from another, and where unknown keys show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mock_server.limits import MAX_INPUTS, MAX_PARTS
from mock_server.wire.errors import TooLargeError

KNOWN_KEYS: Mapping[str, frozenset[str]] = {
    "datum": frozenset({"loss_fn_inputs", "model_input", "model_input_spans", "loss_fn_input_spans"}),
    "model_input": frozenset({"chunks"}),
    "chunk": frozenset({"tokens", "type", "data", "format", "expected_tokens", "location", "dmel"}),
    "tensor": frozenset({"data", "dtype", "shape", "sparse_crow_indices", "sparse_col_indices"}),
}
"""The keys any described release puts into each element of a JSON batch (Tinkex sends a subset)."""

_PLACES: Mapping[str, str] = {
    "datum": "data",
    "model_input": "data.model_input",
    "chunk": "data.model_input.chunks",
    "tensor": "data.loss_fn_inputs",
}


class FormSet:
    """Collects the distinct key sets of each kind of element, in a canonical order."""

    def __init__(self) -> None:
        self._seen: dict[str, set[tuple[str, ...]]] = {}

    def see(self, kind: str, keys: Iterable[str]) -> None:
        """Note one element's keys."""
        self._seen.setdefault(kind, set()).add(tuple(keys))

    def finish(self) -> dict[str, tuple[str, ...]]:
        """Return `{kind: ("a,b", ...)}`, keys and forms sorted."""
        return {kind: tuple(sorted({",".join(sorted(keys)) for keys in seen})) for kind, seen in self._seen.items()}

    def unknown(self, prefix: str) -> Iterator[str]:
        """Yield the path of every key that no described release sends, once each."""
        for kind, known in KNOWN_KEYS.items():
            keys = {key for form in self._seen.get(kind, ()) for key in form}
            for key in sorted(keys - known):
                yield f"{prefix}{_PLACES[kind]}.{key}"


class Parts:
    """Counts the chunks and tensors of a body, before they become objects. `prefix` is where its data is."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._chunks = self._tensors = 0

    def count(self, chunks: int, inputs: int, columns: int) -> None:
        """Count those of a datum; `columns` are the distinct inputs before it. Raises TooLargeError."""
        self._chunks += chunks
        self._tensors += inputs
        if max(self._chunks, self._tensors) > MAX_PARTS:
            raise TooLargeError(f"{self._prefix}data has more than {MAX_PARTS} chunks, or tensors")
        if max(inputs, columns) > MAX_INPUTS:
            raise TooLargeError(f"{self._prefix}data has more than {MAX_INPUTS} distinct inputs")
