"""A record as a document: plain JSON, with the numbers of batches and outputs as columns beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct

from harness.golden.columns import from_columns, to_columns
from harness.golden.text import parse, render
from mock_server.record import (
    Batch,
    Datum,
    Encoding,
    Exchange,
    FaultUse,
    Gap,
    Operation,
    OptimizerState,
    Record,
    Tensor,
    Violation,
)

KIND = "parity-recording"
SCHEMA = 1
_TOKENS = "tokens"


class ExchangeEntry(Struct, forbid_unknown_fields=True):
    """An `Exchange`; `batch` is its place among the document's batches."""

    ordinal: int
    at_ms: float
    answered_ms: float | None
    connection: str
    method: str
    path: str
    route: str
    headers: dict[str, str]
    encoding: Encoding
    compressed: bool
    size: int
    body: Any
    unknown_fields: tuple[str, ...]
    status: int | None
    response: Any
    resend_of: int | None = None
    batch: int | None = None
    fault: int | None = None


class OperationEntry(Struct, forbid_unknown_fields=True):
    """An `Operation`; `outputs` is its place among the document's outputs."""

    model_id: str
    seq_id: int | None
    kind: str
    request: int
    metrics: dict[str, float]
    outputs: int | None = None


class RecordingDocument(Struct, forbid_unknown_fields=True):
    """The document of a recording. `numbers` is what `harness.golden.text` writes of batches and outputs."""

    kind: Literal["parity-recording"]
    schema: Literal[1]
    scrubbed: bool
    exchanges: tuple[ExchangeEntry, ...]
    operations: tuple[OperationEntry, ...]
    violations: tuple[tuple[str, str, int], ...]
    gaps: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    aliases: dict[str, str]
    failures: dict[int, str]
    unfinished: tuple[str, ...]
    numbers: dict[str, Any]
    faults: tuple[FaultUse, ...] = ()
    optimizer_states: tuple[tuple[str, int | None], ...] = ()


def to_text(record: Record, *, scrubbed: bool, keep: Callable[[bytes], str]) -> str:
    """Return the text of a recording. `keep` stores the raw bytes of a large array and returns their SHA-256."""
    return json.dumps(to_document(record, scrubbed=scrubbed, keep=keep), indent=1, default=plain) + "\n"


def to_document(record: Record, *, scrubbed: bool, keep: Callable[[bytes], str]) -> dict[str, Any]:
    """Return the document of a recording, JSON but for mappings that are no dicts; see `to_text`."""
    batches: list[Any] = []
    outputs: list[Any] = []
    exchanges = []
    for exchange in record.exchanges:
        entry = {name: getattr(exchange, name) for name in ExchangeEntry.__struct_fields__ if name != "batch"}
        entry["batch"] = _place(batches, _batch(exchange.batch) if exchange.batch is not None else None)
        exchanges.append(entry)
    operations = [
        {
            "model_id": operation.model_id,
            "seq_id": operation.seq_id,
            "kind": operation.kind,
            "request": operation.request,
            "metrics": dict(operation.metrics),
            "outputs": _place(outputs, _rows(operation.outputs) if operation.outputs else None),
        }
        for operation in record.operations
    ]
    states = [{"gradient": state.gradient, "parameters": state.parameters} for state in record.optimizer_states]
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "scrubbed": scrubbed,
        "exchanges": exchanges,
        "operations": operations,
        "violations": [[v.code, v.message, v.request] for v in record.violations],
        "gaps": [[g.model_id, list(g.missing), list(g.held)] for g in record.gaps],
        "aliases": dict(record.aliases),
        "failures": {str(ordinal): message for ordinal, message in record.failures.items()},
        "unfinished": list(record.unfinished),
        "numbers": json.loads(render({"batches": batches, "outputs": outputs, "states": states}, keep)),
        "faults": msgspec.to_builtins(record.faults),
        "optimizer_states": [[state.model_id, state.seq_id] for state in record.optimizer_states],
    }


def from_text(text: str, fetch: Callable[[str], bytes]) -> Record:
    """Return the record of a document's text. `fetch` returns the raw bytes of a large array by their SHA-256.

    Raises ValueError, TypeError, KeyError, IndexError or msgspec.ValidationError where it is not one.
    """
    return from_document(json.loads(text), fetch)


def from_document(read: Any, fetch: Callable[[str], bytes]) -> Record:
    """Return the record of a document as it was read; see `from_text`."""
    document = msgspec.convert(read, RecordingDocument, str_keys=True)
    numbers = parse(json.dumps(document.numbers), fetch)
    batches = [_read_batch(batch) for batch in numbers["batches"]]
    outputs = [tuple(from_columns(rows["columns"], rows["count"])) for rows in numbers["outputs"]]
    return Record(
        exchanges=tuple(_exchange(entry, batches) for entry in document.exchanges),
        operations=tuple(
            Operation(o.model_id, o.seq_id, o.kind, o.request, _at(outputs, o.outputs) or (), o.metrics)
            for o in document.operations
        ),
        violations=tuple(Violation(*violation) for violation in document.violations),
        gaps=tuple(Gap(*gap) for gap in document.gaps),
        aliases=document.aliases,
        unfinished=document.unfinished,
        failures=document.failures,
        faults=document.faults,
        optimizer_states=tuple(
            OptimizerState(model_id, seq_id, state["gradient"], state["parameters"])
            for (model_id, seq_id), state in zip(document.optimizer_states, numbers.get("states", ()), strict=True)
        ),
    )


def _exchange(entry: ExchangeEntry, batches: Sequence[Batch]) -> Exchange:
    fields: dict[str, Any] = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return Exchange(**{**fields, "batch": _at(batches, entry.batch)})


def _place(places: list[Any], value: Any) -> int | None:
    if value is None:
        return None
    places.append(value)
    return len(places) - 1


def _at(places: Sequence[Any], place: int | None) -> Any:
    if place is None:
        return None
    if not 0 <= place < len(places):
        raise ValueError(f"there are {len(places)} blocks of numbers, none at {place}")
    return places[place]


def _rows(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
    return {"count": len(rows), "columns": to_columns(rows)}


def _batch(batch: Batch) -> dict[str, Any]:
    tokens = [
        {_TOKENS: Tensor("int64", (int(d.tokens.size),), np.asarray(d.tokens, dtype=np.int64))} for d in batch.datums
    ]
    return {
        "forms": {kind: list(names) for kind, names in batch.forms.items()},
        "tokens": _rows(tokens),
        "inputs": _rows([datum.inputs for datum in batch.datums]),
    }


def _read_batch(document: Mapping[str, Any]) -> Batch:
    tokens, inputs = (from_columns(document[part]["columns"], document[part]["count"]) for part in ("tokens", "inputs"))
    return Batch(
        datums=tuple(Datum(t[_TOKENS].values, i) for t, i in zip(tokens, inputs, strict=True)),
        forms={str(kind): tuple(names) for kind, names in document["forms"].items()},
    )


def plain(value: Any) -> Any:
    """Write the mappings of a record, which need not be dicts."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")
