"""A golden trace as a document: columns instead of one block per datum, symbols instead of digests of what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from harness.checks.steps import digest
from harness.drivers.protocol import FailedPart, Saw, StepResult, TensorSummary
from harness.golden.columns import from_columns, from_runs, to_columns, to_runs
from harness.trace.model import Attempt, Beat, Instruction, Request, Retrieval, Trace, TrainingState
from mock_server.record import Batch, Datum, Gap, Tensor, Violation

SCHEMA = 1
AS_SENT = "as-sent"
"""Stands for the digest of what the server sent for the call, so that it moves with the numbers it is taken from."""

_FIRST = 8
_LOGPROBS = "logprobs"
_USUAL = {"call": "", "failure": "", "model": "", "phase": "", "sends": 1, "seq_id": None, "status": 200}


def to_document(trace: Trace) -> dict[str, Any]:
    """Return the document of a trace. The contract is not in it: the file's place says it."""
    return {
        "schema": SCHEMA,
        "scenario": trace.scenario,
        "stimulus": trace.stimulus,
        "control": [_request(request) for request in trace.control],
        "requests": [_request(request) for request in trace.requests],
        "retrievals": [
            {"request_type": r.request_type, "accept": r.accept, "body_keys": list(r.body_keys)}
            for r in trace.retrievals
        ],
        "steps": [_step(step, trace) for step in trace.steps],
        "training": [{"model": s.model, "gradient": s.gradient, "parameters": s.parameters} for s in trace.training],
        "violations": [{"code": v.code, "message": v.message, "request": v.request} for v in trace.violations],
        "gaps": [{"model": g.model_id, "missing": list(g.missing), "held": list(g.held)} for g in trace.gaps],
        "unknown_fields": list(trace.unknown_fields),
        **({"faults": [_instruction(played) for played in trace.faults]} if trace.faults else {}),
        **({"beats": [_beat(beat) for beat in trace.beats]} if trace.beats else {}),
        **({"late": list(trace.late)} if trace.late else {}),
    }


def from_document(document: Mapping[str, Any], *, contract: str) -> Trace:
    """Return the trace of a document. Raises KeyError, TypeError or ValueError where it is not one."""
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']!r} is not {SCHEMA}")
    requests = tuple(_read_request(entry) for entry in document["requests"])
    return Trace(
        scenario=document["scenario"],
        stimulus=document["stimulus"],
        contract=contract,
        control=tuple(_read_request(entry) for entry in document["control"]),
        requests=requests,
        retrievals=tuple(
            Retrieval(r["request_type"], r["accept"], tuple(r["body_keys"])) for r in document["retrievals"]
        ),
        steps=tuple(_read_step(entry, requests) for entry in document["steps"]),
        training=tuple(TrainingState(s["model"], s["gradient"], s["parameters"]) for s in document["training"]),
        violations=tuple(Violation(v["code"], v["message"], v["request"]) for v in document["violations"]),
        gaps=tuple(Gap(g["model"], tuple(g["missing"]), tuple(g["held"])) for g in document["gaps"]),
        unknown_fields=tuple(document["unknown_fields"]),
        faults=tuple(Instruction(f["kind"], f["route"], f["times"], f["played"]) for f in document.get("faults", ())),
        beats=tuple(Beat(beat["body"], beat.get("status", 200)) for beat in document.get("beats", ())),
        late=tuple(document.get("late", ())),
    )


def _beat(beat: Beat) -> dict[str, Any]:
    return {"body": beat.body} | ({} if beat.status == 200 else {"status": beat.status})


def _instruction(played: Instruction) -> dict[str, Any]:
    return {"kind": played.kind, "route": played.route, "times": played.times, "played": played.played}


def _request(request: Request) -> dict[str, Any]:
    document: dict[str, Any] = {
        "arrival": request.arrival,
        "body": request.body,
        "encoding": request.encoding,
        "headers": dict(request.headers),
        "route": request.route,
        "sent_after": request.sent_after,
    }
    # What says nothing is left out: a reviewer reads every line.
    usual = {**_USUAL, "effect": request.route}
    document |= {name: getattr(request, name) for name in usual if getattr(request, name) != usual[name]}
    if request.batch is not None:
        document["batch"] = {
            "forms": {kind: list(names) for kind, names in request.batch.forms.items()},
            "tokens": to_columns([{"tokens": _tokens(datum)} for datum in request.batch.datums]),
            "inputs": to_columns([datum.inputs for datum in request.batch.datums]),
            "datums": len(request.batch.datums),
        }
    if request.outputs:
        document["outputs"] = {"count": len(request.outputs), "columns": to_columns(request.outputs)}
    if request.metrics:
        document["metrics"] = dict(request.metrics)
    document |= {
        name: [_attempt(attempt) for attempt in made]
        for name, made in (("attempts", request.attempts), ("polls", request.polls))
        if made
    }
    return document


def _attempt(attempt: Attempt) -> Any:
    """Write an attempt as its answer, and as more where there is more to say."""
    document: dict[str, Any] = {"answer": attempt.answer}
    if attempt.key:
        document["key"] = attempt.key
    if not attempt.same:
        document["same"] = False
    if attempt.asks:
        document["asks"] = dict(sorted(attempt.asks.items()))
    if attempt.took != _usually_took(attempt.answer):
        document["took"] = attempt.took
    return attempt.answer if len(document) == 1 else document


def _read_attempt(document: str | Mapping[str, Any]) -> Attempt:
    told: Mapping[str, Any] = {"answer": document} if isinstance(document, str) else document
    answer = told["answer"]
    return Attempt(
        answer=answer,
        key=told.get("key", 0),
        same=told.get("same", True),
        asks=told.get("asks", {}),
        took=told.get("took", _usually_took(answer)),
    )


def _usually_took(answer: str) -> bool:
    return answer == "200"


def _read_request(document: Mapping[str, Any]) -> Request:
    batch = document.get("batch")
    outputs = document.get("outputs")
    told = {**_USUAL, "effect": document["route"], **document}
    return Request(
        route=told["route"],
        effect=told["effect"],
        model=told["model"],
        seq_id=told["seq_id"],
        arrival=told["arrival"],
        sent_after=told["sent_after"],
        sends=told["sends"],
        encoding=document["encoding"],
        headers=document["headers"],
        body=document["body"],
        batch=_read_batch(batch) if batch is not None else None,
        status=told["status"],
        call=told["call"],
        phase=told["phase"],
        outputs=tuple(from_columns(outputs["columns"], outputs["count"])) if outputs else (),
        metrics=document.get("metrics", {}),
        failure=told["failure"],
        attempts=tuple(map(_read_attempt, document.get("attempts", ()))),
        polls=tuple(map(_read_attempt, document.get("polls", ()))),
    )


def _tokens(datum: Datum) -> Tensor:
    return Tensor("int64", (int(datum.tokens.size),), np.asarray(datum.tokens, dtype=np.int64))


def _read_batch(document: Mapping[str, Any]) -> Batch:
    count = document["datums"]
    tokens = from_columns(document["tokens"], count)
    inputs = from_columns(document["inputs"], count)
    return Batch(
        datums=tuple(Datum(t["tokens"].values, i) for t, i in zip(tokens, inputs, strict=True)),
        forms={kind: tuple(names) for kind, names in document["forms"].items()},
    )


def _step(step: StepResult, trace: Trace) -> dict[str, Any]:
    document: dict[str, Any] = {"step": step.step, "status": step.status, "type": step.type}
    if step.kind is not None:
        document["kind"] = step.kind
    if step.raised_at:
        document["raised_at"] = step.raised_at
    if step.message:
        document["message"] = step.message
    if step.stacks:
        document["stacks"] = step.stacks
    if step.metrics is not None:
        document["metrics"] = dict(step.metrics)
    if step.fields:
        document["fields"] = step.fields
    if step.saw is not None:
        document["saw"] = _saw(step.saw, _logprobs(trace.requests, step.step))
    if step.report is not None:
        document["report"] = _report(step.report)
    if step.flat is not None:
        document["flat"] = dict(step.flat)
    if step.failed is not None:
        document["failed"] = msgspec.to_builtins(step.failed)
    if step.outputs is not None:
        document["outputs"] = _outputs(step.outputs, _result(trace.requests, step.step))
    return document


def _read_step(document: Mapping[str, Any], requests: Sequence[Request]) -> StepResult:
    saw = document.get("saw")
    outputs = document.get("outputs")
    return StepResult(
        step=document["step"],
        status=document["status"],
        type=document["type"],
        kind=document.get("kind"),
        message=document.get("message", ""),
        raised_at=document.get("raised_at", ""),
        metrics=document.get("metrics"),
        fields=document.get("fields", {}),
        saw=None if saw is None else _read_saw(saw, _logprobs(requests, document["step"])),
        outputs=None if outputs is None else _read_outputs(outputs, _result(requests, document["step"])),
        stacks=document.get("stacks", ""),
        report=None if document.get("report") is None else _read_report(document["report"]),
        flat=document.get("flat"),
        failed=None if document.get("failed") is None else msgspec.convert(document["failed"], FailedPart),
    )


def _report(report: Mapping[str, Any]) -> dict[str, Any]:
    """Write a report with its regularizers as a list: their order counts, and a document sorts its keys."""
    regularizers = report.get("regularizers")
    return {**report, "regularizers": [[name, part] for name, part in (regularizers or {}).items()]}


def _read_report(document: Mapping[str, Any]) -> dict[str, Any]:
    return {**document, "regularizers": dict(document["regularizers"])}


def _saw(saw: Saw, sent: str) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(saw)
    document["digest"] = AS_SENT if saw.digest == sent else saw.digest
    for name in ("dtypes", "shapes", "keys"):
        document[name] = to_runs(document[name])
    return document


def _read_saw(document: Mapping[str, Any], sent: str) -> Saw:
    opened = dict(document)
    for name in ("dtypes", "shapes", "keys"):
        opened[name] = from_runs(opened[name])
    if opened["digest"] == AS_SENT:
        opened["digest"] = sent
    return msgspec.convert(opened, Saw)


def _outputs(outputs: Sequence[Mapping[str, TensorSummary]], sent: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
    """Write outputs as forms in runs, and as numbers only where they are not what the server sent."""
    forms = [{key: [entry.dtype, list(entry.shape)] for key, entry in sorted(o.items())} for o in outputs]
    document: dict[str, Any] = {"forms": to_runs(forms)}
    if len(outputs) == len(sent) and all(
        output == {key: _summary(tensor, output[key].dtype, output[key].shape) for key, tensor in of.items()}
        if output.keys() == of.keys()
        else False
        for output, of in zip(outputs, sent, strict=True)
    ):
        document["values"] = AS_SENT
    else:
        document["values"] = [
            {key: {"digest": entry.digest, "first": entry.first} for key, entry in output.items()} for output in outputs
        ]
    return document


def _read_outputs(document: Mapping[str, Any], sent: Sequence[Mapping[str, Tensor]]) -> list[dict[str, TensorSummary]]:
    forms = from_runs(document["forms"])
    if document["values"] == AS_SENT:
        return [
            {key: _summary(of[key], dtype, shape) for key, (dtype, shape) in form.items()}
            for form, of in zip(forms, sent, strict=True)
        ]
    return [
        {
            key: TensorSummary(dtype, list(shape), entry[key]["digest"], entry[key]["first"])
            for key, (dtype, shape) in form.items()
        }
        for form, entry in zip(forms, document["values"], strict=True)
    ]


def _summary(tensor: Tensor, dtype: str, shape: Sequence[int]) -> TensorSummary:
    """Summarise what the server sent as a driver would."""
    values = tensor.dense()
    first = values[:_FIRST].astype(np.float32 if dtype == "float32" else values.dtype)
    return TensorSummary(dtype, list(shape), digest([(values, dtype)]), [_spelled(entry.item()) for entry in first])


def _spelled(value: float) -> float | int | str:
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
        if value == 0 and np.signbit(value):
            return "-0.0"
    return value


def _logprobs(requests: Sequence[Request], call: str) -> str:
    """Return the digest over the logprobs the server sent in the forward pass of a call."""
    return digest(
        (output[_LOGPROBS].dense(), "float32")
        for request in requests
        if request.call == call and request.effect == "forward"
        for output in request.outputs
        if _LOGPROBS in output
    )


def _result(requests: Sequence[Request], call: str) -> list[Mapping[str, Tensor]]:
    """Return what the server sent in the last pass of a call."""
    mine = [request for request in requests if request.call == call and request.batch is not None]
    last = mine[-1].effect if mine else ""
    return [output for request in mine if request.effect == last for output in request.outputs]
