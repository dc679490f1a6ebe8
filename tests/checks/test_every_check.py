"""Every check passes on what is right, fails on its own wrong thing and no other, and is not_run on nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pytest
from traces import (
    CUSTOM,
    POLLED,
    SCRIPT,
    SENT,
    case,
    datum,
    failing_run,
    full_run,
    headers_for,
    made,
    with_datums,
    with_input,
    with_requests,
    with_step,
)

from harness.checks.flat_form import flat_form
from harness.checks.registry import CHECKS, judge
from harness.drivers.protocol import FailedPart
from harness.errors import ParityError
from harness.golden.canonical import canonical
from harness.trace.model import Request, Retrieval, SharedKey, Trace
from mock_server.record import Batch, Gap, Tensor, Violation
from mock_server.script import Script

FULL = full_run()
FAILING = failing_run()
Alter = Callable[[Trace], Trace]


@dataclass(frozen=True)
class Wrong:
    """One wrong thing: how to do it, what turns red, and the cause and place that the first verdict names."""

    name: str
    red: tuple[str, ...]
    alter: Alter
    base: Trace = FULL
    cause: str = ""
    where: str = ""
    script: Script = SCRIPT
    release: str = "0.38.0"


def _is(call: str, phase: str = "") -> Callable[[Request], bool]:
    return lambda request: (request.call, request.phase) == (call, phase)


def _requests(which: Callable[[Request], bool], **changes: Any) -> Alter:
    return lambda trace: with_requests(trace, lambda r: replace(r, **changes) if which(r) else r)


def _weights(change: Callable[[int, Tensor], Tensor | None]) -> Alter:
    return lambda trace: with_input(trace, "fb", "backward", "weights", change)


def _values(change: Callable[[Any], Any]) -> Alter:
    return _weights(lambda _, t: replace(t, values=change(t.values).astype(np.float32)))


def _drop_optimizer(trace: Trace) -> Trace:
    return with_requests(
        trace, lambda r: None if r.call == "opt" else _numbered(r, (r.seq_id or 0) - (r.call == "save"))
    )


def _numbered(request: Request, seq: int) -> Request:
    return replace(request, seq_id=seq)


TOO_OFTEN = "sent-too-often"


def _report(step: str, change: Callable[[dict[str, Any]], object], *, flat: bool = True) -> Alter:
    """Change the report of a step, and its flat form with it unless that stays as it is."""

    def alter(trace: Trace) -> Trace:
        told = next(each for each in trace.steps if each.step == step)
        report = copy.deepcopy(told.report)
        change(report)
        return with_step(trace, step, report=report, flat=flat_form(report) if flat else told.flat)

    return alter


def _put(path: str, value: Any) -> Callable[[dict[str, Any]], object]:
    """Return what puts a value at a place of a report."""

    def put(report: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            report = report[parent]
        report[last] = value

    return put


def _turned(report: dict[str, Any]) -> None:
    report["regularizers"] = dict(reversed(report["regularizers"].items()))


def _ended(ends: dict[str, int]) -> Alter:
    def alter(trace: Trace) -> Trace:
        saw = next(each for each in trace.steps if each.step == "parts").saw
        return with_step(trace, "parts", saw=msgspec.structs.replace(saw, ended=ends))

    return alter


def _called(name: str, times: int) -> Alter:
    def alter(trace: Trace) -> Trace:
        saw = next(each for each in trace.steps if each.step == "parts").saw
        ends = {each: times if each == name else ended for each, ended in saw.ended.items()}
        changed = msgspec.structs.replace(saw, regularizers={**saw.regularizers, name: times}, ended=ends)
        return with_step(trace, "parts", saw=changed)

    return alter


NORM = "regularizers/l2/grad_norm"


def _gradient_of_l2_lost(report: dict[str, Any]) -> None:
    """Report norms of 0 of L2, and the whole without it: slopes of -1/3 and -1/2 at three logprobs."""
    report["regularizers"]["l2"].update(grad_norm=0.0, grad_norm_weighted=0.0)
    report["total_grad_norm"] = float(np.sqrt(3) * (1 / 3 + 1 / 2))


def _sent(*answers: tuple[str, float]) -> Alter:
    return _requests(_is("pl"), attempts=made(*answers))


def _second_attempt(**changes: Any) -> Alter:
    first, second = made(*SENT)
    return _requests(_is("pl"), attempts=(first, replace(second, **changes)))


def _polled(*answers: tuple[str, float]) -> Alter:
    return _requests(_is("opt"), polls=made(*answers))


def _control(route: str, **changes: Any) -> Alter:
    return lambda t: replace(t, control=tuple(replace(r, **changes) if r.route == route else r for r in t.control))


def _without_control(route: str) -> Alter:
    return lambda t: replace(t, control=tuple(r for r in t.control if r.route != route))


def _recut(call: str, phase: str, sizes: list[int]) -> Alter:
    """Cut a pass into other sizes; ids and arrivals of what follows move along, as a real client's would."""

    def alter(trace: Trace) -> Trace:
        old = [r for r in trace.requests if (r.call, r.phase) == (call, phase)]
        datums = [d for r in old for d in r.batch.datums]
        outputs = [o for r in old for o in r.outputs]
        first, shift = old[0].seq_id, len(sizes) - len(old)
        arrival = min(r.arrival for r in old)
        before = min(r.sent_after for r in old)
        new, at = [], 0
        for index, size in enumerate(sizes):
            last = len(sizes) - 1
            new.append(
                replace(
                    old[0],
                    seq_id=first + index,
                    arrival=arrival + (last if index == 0 else index - 1),
                    sent_after=before + (last if index == 0 else 0),
                    batch=Batch(tuple(datums[at : at + size]), old[0].batch.forms),
                    outputs=tuple(outputs[at : at + size]),
                )
            )
            at += size
        rest = [
            replace(r, seq_id=r.seq_id + shift, arrival=r.arrival + shift, sent_after=r.sent_after + shift)
            if r.seq_id > old[-1].seq_id
            else r
            for r in trace.requests
            if r not in old
        ]
        return replace(trace, requests=tuple(sorted([*rest, *new], key=lambda r: r.seq_id)))

    return alter


def _shifted(after: int, by: int) -> Alter:
    return lambda t: with_requests(t, lambda r: _numbered(r, r.seq_id + by) if r.seq_id > after else r)


def _swapped(one: int, other: int, *, arrival: bool = False) -> Alter:
    """Swap the ids of two requests (or when they arrive)."""

    def alter(trace: Trace) -> Trace:
        by_seq = {r.seq_id: r for r in trace.requests}
        a, b = by_seq[one], by_seq[other]

        def change(request: Request) -> Request:
            for mine, theirs in ((a, b), (b, a)):
                if request is mine:
                    if arrival:
                        return replace(request, arrival=theirs.arrival, sent_after=theirs.sent_after)
                    if request.effect == theirs.effect:
                        return replace(request, seq_id=theirs.seq_id)
                    return replace(request, seq_id=theirs.seq_id, arrival=theirs.arrival, sent_after=theirs.sent_after)
            return request

        return with_requests(trace, change)

    return alter


def _doubled(trace: Trace) -> Trace:
    """Send the second forward chunk a second time, under an id of its own."""
    second = next(r for r in trace.requests if r.seq_id == 2)
    later = with_requests(
        trace,
        lambda r: (
            replace(r, seq_id=r.seq_id + 1, arrival=r.arrival + 1, sent_after=r.sent_after + 1)
            if r.seq_id > 2
            else replace(r, arrival=r.arrival + 1, sent_after=r.sent_after + 1)
            if r.seq_id == 1
            else r
        ),
    )
    again = replace(second, seq_id=3, arrival=second.arrival + 1, outputs=())
    return replace(later, requests=tuple(sorted([*later.requests, again], key=lambda r: r.seq_id)))


def _empty_first(trace: Trace) -> Trace:
    """Cut the plain pass before its first datum: an empty request, and an id more."""
    return _recut("pl", "", [0, 2])(trace)


def _lost(trace: Trace) -> Trace:
    """Leave the middle datum out of the plain and custom forward passes' requests."""
    return with_requests(
        trace,
        lambda r: replace(r, batch=Batch(r.batch.datums[:1], r.batch.forms)) if _is("pl")(r) else r,
    )


def _saw(**changes: Any) -> Alter:
    def alter(trace: Trace) -> Trace:
        saw = next(s.saw for s in trace.steps if s.step == "fb")
        return with_step(trace, "fb", saw=msgspec.structs.replace(saw, **changes))

    return alter


def _outputs(change: Callable[[list[Any]], list[Any]]) -> Alter:
    def alter(trace: Trace) -> Trace:
        outputs = next(s.outputs for s in trace.steps if s.step == "fb")
        return with_step(trace, "fb", outputs=change(list(outputs)))

    return alter


def _metrics(**changes: Any) -> Alter:
    def alter(trace: Trace) -> Trace:
        metrics = next(s.metrics for s in trace.steps if s.step == "fb")
        new = {**metrics, **{k.replace("__", ":"): v for k, v in changes.items()}}
        return with_step(trace, "fb", metrics={k: v for k, v in new.items() if v is not None})

    return alter


def _training(**changes: Any) -> Alter:
    return lambda t: replace(t, training=tuple(replace(s, **changes) for s in t.training))


def _beats(number: int, **changes: Any) -> Alter:
    def alter(trace: Trace) -> Trace:
        beats = [replace(b, **changes) if at == number else b for at, b in enumerate(trace.beats)]
        return replace(trace, beats=tuple(beats))

    return alter


def _backward_sent(trace: Trace) -> Trace:
    """Go on after a missing gradient, with zeros."""
    first = trace.requests[0]
    extra = replace(first, effect="forward_backward", seq_id=3, arrival=9, sent_after=2, body={"model_id": "model-1"})
    return replace(trace, requests=(*trace.requests, extra))


DEALT = [[0.5, -0.25], [4.5, 1.5, 2.5], [-3.5]]

WRONGS = [
    Wrong("a start route left out", ("session.start",), _without_control("client/config"), cause="not-sent"),
    Wrong("no get_info", ("session.model",), _without_control("get_info"), cause="not-sent"),
    Wrong("not closed", ("session.end",), _without_control("session/finish"), cause="not-sent"),
    Wrong(
        "passes as JSON",
        ("wire.encoding",),
        _requests(
            lambda r: r.batch is not None,
            encoding="json",
            headers=headers_for("x", "x") | {"x-sdk-method": "A.forward"},
        ),
        cause="json-for-protobuf",
    ),
    Wrong(
        "null left out",
        ("wire.bodies",),
        _requests(
            _is("opt"),
            body={"model_id": "model-1", "adam_params": {"learning_rate": 0.01, "beta1": 0.9, "weight_decay": 0}},
        ),
        where="adam_params.note",
        cause="absent-for-null",
    ),
    Wrong(
        "another loss_fn in the envelope",
        ("wire.bodies",),
        _requests(_is("pl"), body={"model_id": "model-1", "loss_fn": "ppo"}),
        where="loss_fn",
        cause="value-changed",
    ),
    Wrong(
        "a start body",
        ("wire.bodies",),
        _control("create_session", body={"sdk_version": "<version>"}),
        cause="absent-for-null",
    ),
    Wrong(
        "true for 1",
        ("wire.bodies",),
        _requests(_is("save"), body={"model_id": "model-1", "path": True, "type": "save_weights"}),
        cause="value-changed",
    ),
    Wrong(
        "chunks with a type",
        ("wire.forms",),
        lambda t: with_requests(
            t,
            lambda r: (
                replace(r, batch=Batch(r.batch.datums, {**r.batch.forms, "chunk": ("tokens,type",)})) if r.batch else r
            ),
        ),
        cause="key-added",
    ),
    Wrong(
        "no idempotency key",
        ("wire.headers",),
        _requests(_is("opt"), headers={k: v for k, v in headers_for("optim_step", "").items() if "key" not in k}),
        cause="header-missing",
    ),
    Wrong(
        "a header of another era",
        ("wire.headers",),
        lambda t: with_requests(
            t, lambda r: replace(r, headers={**r.headers, "x-sdk-colour": "blue"}) if _is("opt")(r) else r
        ),
        cause="header-added",
    ),
    Wrong(
        "another method",
        ("wire.headers",),
        _requests(_is("opt"), headers=headers_for("get_info", "")),
        cause="value-changed",
    ),
    Wrong(
        "one key for two requests",
        ("wire.keys",),
        lambda t: replace(t, shared_keys=(SharedKey("forward_backward seq 1", "optim_step seq 2", 2),)),
        cause="key-reused",
        where="optim_step seq 2",
    ),
    Wrong(
        "another Accept",
        ("wire.retrieval",),
        lambda t: replace(t, retrievals=(Retrieval("OptimStep", "*/*", ("allow_metadata_only", "request_id")),)),
        where="accept",
        cause="polled-otherwise",
    ),
    Wrong(
        "another request type",
        ("wire.retrieval",),
        lambda t: replace(t, retrievals=(Retrieval("optim_step", "application/json", ("request_id",)),)),
        cause="polled-otherwise",
    ),
    Wrong("a heartbeat without its id", ("heartbeat.body",), _beats(0, body={}), cause="key-dropped"),
    Wrong("the first heartbeat early", ("heartbeat.period",), _beats(0, at_ms=6_000.0), cause="waits-too-short"),
    Wrong("the first heartbeat late", ("heartbeat.period",), _beats(0, at_ms=14_000.0), cause="waits-too-long"),
    Wrong(
        "one heartbeat and no other",
        ("heartbeat.period",),
        lambda t: replace(t, beats=t.beats[:1]),
        where="session_heartbeat 2",
        cause="waits-too-long",
    ),
    Wrong(
        "no heartbeat after one that failed",
        ("heartbeat.failure",),
        lambda t: replace(t, beats=t.beats[:2], lived=(1000.0, 50_000.0)),
        where="session_heartbeat 3",
        cause="beats-end",
    ),
    Wrong("a failed heartbeat sent again", ("heartbeat.failure",), _beats(2, at_ms=21_600.0), cause="waits-too-short"),
    Wrong("heartbeats after a 410", ("heartbeat.failure",), _beats(1, status=410), cause="beats-go-on"),
    Wrong(
        "a poll after close",
        ("session.silent",),
        lambda t: replace(t, late=("retrieve_future",)),
        where="retrieve_future",
        cause="sent-after-close",
    ),
    Wrong(
        "a fault that was not met",
        ("faults.consumed",),
        lambda t: replace(t, faults=(replace(t.faults[0], played=0, seen=0), *t.faults[1:])),
        where="fault 1",
        cause="fault-not-met",
    ),
    Wrong(
        "an unknown path",
        ("wire.accepted",),
        lambda t: replace(t, violations=(Violation("unknown-path", "POST /api/v1/heartbeat", 3),)),
        cause="not-understood",
    ),
    Wrong(
        "an unknown field",
        ("wire.known_fields",),
        lambda t: replace(t, unknown_fields=("optimizer_state",)),
        cause="key-added",
    ),
    Wrong(
        "cut one earlier",
        ("chunks.boundaries",),
        _recut("fb", "forward", [1, 2]),
        where="fb forward",
        cause="cut-off-by-one",
    ),
    Wrong("not cut", ("chunks.boundaries", "chunks.limits"), _recut("fb", "forward", [3]), cause="cut-off-by-one"),
    Wrong("one request per datum", ("chunks.boundaries",), _recut("pl", "", [1, 1]), cause="cut-off-by-one"),
    Wrong("an empty first chunk", ("chunks.nonempty",), _empty_first, cause="chunk-empty"),
    Wrong(
        "too many bytes",
        ("chunks.limits",),
        lambda t: t,
        script=Script(client_config={"fwdbwd_max_chunk_len": 2, "fwdbwd_max_chunk_bytes_count": 40}),
    ),
    Wrong("a datum lost", ("chunks.complete",), _lost, where="pl seq 5, datum 1", cause="not-sent"),
    Wrong("a chunk sent twice", ("chunks.complete",), _doubled, cause="sent-twice"),
    Wrong(
        "the order within a request",
        ("chunks.complete",),
        lambda t: with_requests(
            t,
            lambda r: (
                replace(r, batch=Batch(r.batch.datums[::-1], r.batch.forms), outputs=r.outputs) if _is("pl")(r) else r
            ),
        ),
        cause="reordered",
    ),
    Wrong("ids from 0", ("order.seq",), _shifted(0, -1), cause="ids-start-elsewhere"),
    Wrong("ids dealt backwards", ("order.seq",), _swapped(1, 2), cause="ids-not-rising"),
    Wrong("a save without id", ("order.seq",), _requests(_is("save"), seq_id=None), cause="id-missing"),
    Wrong("an id skipped", ("order.gapless",), _shifted(5, 1), where="optim_step seq 7", cause="id-skipped"),
    Wrong("an id used twice", ("order.unique",), _requests(_is("save"), seq_id=6), cause="id-reused"),
    Wrong(
        "an id refused",
        ("order.unique",),
        lambda t: replace(t, violations=(Violation("seq-reused", "seq_id 3 came with another body", 9),)),
        cause="id-reused",
    ),
    Wrong("optimizer before the plain pass", ("order.phases",), _swapped(5, 6), cause="overtaken"),
    Wrong("no optimizer step", ("order.phases",), _drop_optimizer, cause="not-sent"),
    Wrong("backward sent first", ("order.arrival",), _swapped(2, 4, arrival=True), cause="overtaken"),
    Wrong("the first chunk first", ("order.arrival",), _swapped(1, 2, arrival=True), cause="chunks-in-turn"),
    Wrong(
        "optimizer sent before the answer", ("order.arrival",), _requests(_is("opt"), sent_after=4), cause="not-awaited"
    ),
    Wrong(
        "parallel where serial is told",
        ("order.arrival",),
        lambda t: t,
        script=Script(client_config={"fwdbwd_max_chunk_len": 2, "parallel_fwdbwd_chunks": False}),
        cause="reordered",
    ),
    Wrong(
        "a hole",
        ("gaps.none",),
        lambda t: replace(t, gaps=(Gap("model-1", (3,), (4, 5)),)),
        where="model-1, seq 3",
        cause="id-skipped",
    ),
    Wrong("tried once more", ("retry.attempts",), _sent(("503", 1.0), ("503", 1.45), ("200", 2.3)), cause=TOO_OFTEN),
    Wrong("tried again too soon", ("retry.gaps",), _sent(("503", 1.0), ("200", 1.2)), cause="waits-too-short"),
    Wrong("tried again too late", ("retry.gaps",), _sent(("503", 1.0), ("200", 4.0)), cause="waits-too-long"),
    Wrong("another key", ("retry.same_request",), _second_attempt(key=1), where="attempt 2", cause="resend-new-key"),
    Wrong("another body", ("retry.same_request",), _second_attempt(same=False), cause="resend-changed"),
    Wrong("no effect", ("retry.once",), _second_attempt(took=False), where="pl", cause="gives-up-early"),
    Wrong("polled less", ("poll.attempts",), _polled(("408", 2.0), ("200", 2.05)), cause="gives-up-early"),
    Wrong("polled more", ("poll.attempts",), _polled(*POLLED[:2], ("408", 3.06), ("200", 4.0)), cause=TOO_OFTEN),
    Wrong(
        "polled in turn",
        ("poll.overlap",),
        _requests(_is("pl"), polls=made(("408", 1.0), ("200", 1.05))),
        where="pl",
        cause="polled-in-turn",
    ),
    Wrong("polled too soon", ("poll.rate",), _polled(*POLLED[:2], ("200", 2.06)), cause="waits-too-short"),
    Wrong("polled too late", ("poll.rate",), _polled(*POLLED[:2], ("200", 6.0)), cause="waits-too-long"),
    Wrong(
        "weights left out of the forward pass",
        ("forward.keys",),
        lambda t: with_input(t, "fb", "forward", "weights", lambda _, __: None),
        cause="key-dropped",
    ),
    Wrong(
        "ones in the forward pass",
        ("forward.values",),
        lambda t: with_input(t, "fb", "forward", "weights", lambda _, w: replace(w, values=w.values + 1)),
        cause="default-filled",
    ),
    Wrong(
        "int64 weights in the forward pass",
        ("forward.values",),
        lambda t: with_input(
            t, "fb", "forward", "weights", lambda _, w: replace(w, dtype="int64", values=w.values.astype(np.int64))
        ),
        cause="dtype-changed",
    ),
    Wrong(
        "plain weights scaled",
        ("plain.values",),
        lambda t: with_input(t, "pl", "", "weights", lambda _, w: replace(w, values=w.values * 2)),
        cause="scaled-by-n",
    ),
    Wrong(
        "a key leaked into the backward pass",
        ("weights.keys",),
        lambda t: with_datums(
            t, "fb", "backward", lambda _, d: replace(d, inputs={**d.inputs, "advantages": d.inputs["weights"]})
        ),
        cause="key-added",
    ),
    Wrong("the other sign", ("weights.values",), _values(lambda v: -v), cause="opposite-sign"),
    Wrong("scaled", ("weights.values",), _values(lambda v: v / 3), cause="scaled-by-n"),
    Wrong(
        "another datum's gradient",
        ("weights.values",),
        _weights(lambda i, t: replace(t, values=np.array(DEALT[i], np.float32))),
        cause="wrong-datum",
    ),
    Wrong("zeros", ("weights.values",), _values(lambda v: v * 0), cause="zeros-for-values"),
    Wrong(
        "means",
        ("weights.values",),
        _weights(lambda _, t: replace(t, values=(t.values / t.values.size).astype(np.float32))),
        cause="mean-for-sum",
    ),
    Wrong(
        "one cut late",
        ("weights.values",),
        _weights(
            lambda _, t: replace(t, values=np.roll(t.values, 1) * np.r_[0, [1] * (t.values.size - 1)].astype("f4"))
        ),
        cause="shifted",
    ),
    Wrong("no shape", ("weights.shape",), _weights(lambda _, t: replace(t, shape=None)), cause="shape-unnamed"),
    Wrong(
        "half precision", ("weights.dtype",), _weights(lambda _, t: replace(t, dtype="bfloat16")), cause="dtype-changed"
    ),
    Wrong(
        "sparse",
        ("weights.layout",),
        _weights(
            lambda _, t: replace(t, layout="csr", shape=t.shape, crow=np.array([0, t.size]), col=np.arange(t.size))
        ),
        cause="layout-changed",
    ),
    Wrong(
        "targets shifted",
        ("weights.targets",),
        lambda t: with_input(
            t, "fb", "backward", "target_tokens", lambda i, x: replace(x, values=x.values + 1) if i == 1 else x
        ),
        where="fb backward seq 3, datum 1, target_tokens[0]",
    ),
    Wrong("a metric dropped", ("metrics.names",), _metrics(n__mean=None), cause="key-dropped"),
    Wrong("a metric added", ("metrics.names",), _metrics(loss=1.0), cause="key-added"),
    Wrong("a metric's value", ("metrics.values",), _metrics(n__mean=1.5), where="fb, n:mean"),
    Wrong("first chunk's metric", ("metrics.values",), _metrics(loss__sum=21.0), cause="reduction-changed"),
    Wrong("a NaN metric", ("metrics.values",), _metrics(n__mean="NaN"), cause="not-finite"),
    Wrong("called twice", ("loss.calls",), _saw(calls=2), cause="called-too-often"),
    Wrong("two shapes", ("loss.saw_shape",), _saw(shapes=[[2], [3, 1], [1]]), cause="unflattened"),
    Wrong("one tensor", ("loss.saw_shape",), _saw(count=1), cause="tensors-merged"),
    Wrong("float64", ("loss.saw_dtype",), _saw(dtypes=["float64"] * 3), cause="dtype-widened"),
    Wrong("not leaves", ("loss.saw_dtype",), _saw(leaves=False), cause="not-leaves"),
    Wrong("other values", ("loss.saw_values",), _saw(digest="0" * 64)),
    Wrong("stripped inputs", ("loss.saw_keys",), _saw(keys=[["target_tokens"]] * 3), cause="key-dropped"),
    Wrong("the caller's data", ("loss.unchanged",), _saw(unchanged=False), cause="data-mutated"),
    Wrong(
        "a copy for the loss",
        ("loss.unchanged",),
        _saw(unchanged=True),
        base=_saw(unchanged=False)(FULL),
        cause="data-copied",
    ),
    Wrong(
        "an error",
        ("result.status",),
        lambda t: with_step(t, "save", status="error", kind="transport", type="Oops"),
        cause="raised",
    ),
    Wrong("a hang", ("result.hang",), lambda t: with_step(t, "late", status="hang"), cause="still-waiting"),
    Wrong("another type", ("result.type",), lambda t: with_step(t, "opt", type="dict"), cause="type-changed"),
    Wrong("an output short", ("result.outputs",), _outputs(lambda o: o[:2]), cause="outputs-lost"),
    Wrong("outputs reversed", ("result.outputs",), _outputs(lambda o: [o[0], o[2], o[1]])),
    Wrong(
        "another path", ("result.fields",), lambda t: with_step(t, "save", fields={"path": "ck"}), cause="value-changed"
    ),
    Wrong(
        "another kind", ("error.kind",), lambda t: with_step(t, "fb", kind="loss_failed"), base=FAILING, cause="raised"
    ),
    Wrong(
        "raised early",
        ("error.raised_at",),
        lambda t: with_step(t, "fb", raised_at="submit"),
        base=FAILING,
        cause="raised-elsewhere",
    ),
    Wrong(
        "sent after the failure", ("chunks.complete", "error.sent"), _backward_sent, base=FAILING, cause="sent-besides"
    ),
    Wrong(
        "usable afterwards",
        ("error.after",),
        lambda t: with_step(t, "opt", status="ok", kind=None),
        base=FAILING,
        cause="not-poisoned",
    ),
    Wrong(
        "no report",
        ("regularizers.document",),
        lambda t: with_step(t, "parts", report=None, flat=None),
        cause="report-missing",
        where="parts",
    ),
    Wrong(
        "a null left out",
        ("regularizers.document",),
        _report("quiet", lambda r: r.pop("total_grad_norm")),
        cause="absent-for-null",
        where="quiet, total_grad_norm",
    ),
    Wrong(
        "no version, and a null left out",
        ("regularizers.document",),
        _report("quiet", lambda r: [r.pop(key) for key in ("version", "total_grad_norm")]),
        cause="absent-for-null",
        where="quiet, total_grad_norm",
    ),
    Wrong(
        "a key of its own", ("regularizers.document",), _report("parts", _put("base_loss/name", "x")), cause="key-added"
    ),
    Wrong(
        "a regularizer lost",
        ("regularizers.names",),
        _report("parts", lambda r: r["regularizers"].pop("l1")),
        cause="key-dropped",
    ),
    Wrong("no base", ("regularizers.document",), _report("parts", _put("base_loss", None)), cause="value-changed"),
    Wrong("a later version", ("regularizers.document",), _report("parts", _put("version", 2)), cause="value-changed"),
    Wrong(
        "a report of an old call",
        ("result.type",),
        lambda t: with_step(t, "fb", report={"version": 1}),
        cause="key-added",
        where="fb",
    ),
    Wrong("regularizers as they end", ("regularizers.order",), _report("parts", _turned), cause="completion-order"),
    Wrong(
        "another value of the base",
        ("regularizers.values",),
        _report("parts", _put("base_loss/value", 3.5)),
        where="parts, base_loss.value",
    ),
    Wrong(
        "a weighted value",
        ("regularizers.values",),
        _report("parts", _put("regularizers/l1/value", 1.25)),
        cause="weight-in-value",
    ),
    Wrong(
        "a value for a contribution",
        ("regularizers.contributions",),
        _report("parts", _put("regularizers/l2/contribution", 2.375)),
        cause="weight-not-applied",
    ),
    Wrong(
        "a weight applied twice",
        ("regularizers.contributions",),
        _report("parts", _put("regularizers/l2/contribution", 2.375 / 16)),
        cause="weight-applied-twice",
    ),
    Wrong("another weight", ("regularizers.contributions",), _report("parts", _put("regularizers/l1/weight", 1.0))),
    Wrong(
        "the base for the whole",
        ("regularizers.total",),
        _report("parts", _put("loss_total", 2.5 / 3)),
        cause="regularizer-ignored",
    ),
    Wrong(
        "the regularizers for the whole",
        ("regularizers.total",),
        _report("parts", _put("loss_total", 0.59375 + 1.25)),
        cause="base-ignored",
    ),
    Wrong("a norm where none was asked for", ("regularizers.norms",), _report("quiet", _put(NORM, 0.5))),
    Wrong(
        "no norm",
        ("regularizers.norms",),
        _report("parts", _put(NORM, 0.0)),
        cause="zeros-for-values",
        where=f"parts, {NORM.replace('/', '.')}",
    ),
    Wrong(
        "a regularizer without a gradient",
        ("regularizers.norms",),
        _report("parts", _gradient_of_l2_lost),
        cause="part-without-gradient",
        where=f"parts, {NORM.replace('/', '.')}",
    ),
    Wrong(
        "a norm after weighting",
        ("regularizers.norms",),
        _report("parts", _put(NORM, 0.25 * float(np.sqrt(9.5)))),
        cause="norm-of-other-weighting",
    ),
    Wrong(
        "norms added up",
        ("regularizers.norms",),
        _report("parts", _put("total_grad_norm", float(np.sqrt(3) * (1 / 3 + 0.5) + 0.25 * np.sqrt(9.5)))),
        cause="norms-added",
    ),
    Wrong(
        "metrics of another part",
        ("regularizers.custom",),
        _report("parts", _put("regularizers/l2/custom", {"raw:sum": 2.5})),
        cause="key-added",
    ),
    Wrong("another metric", ("regularizers.custom",), _report("parts", _put("base_loss/custom/nll", 1.0))),
    Wrong("no flat form", ("regularizers.flat",), lambda t: with_step(t, "parts", flat=None), cause="report-missing"),
    Wrong(
        "a flat form with other numbers",
        ("regularizers.flat",),
        lambda t: with_step(
            t, "parts", flat={**dict(next(s for s in t.steps if s.step == "parts").flat), "custom/l1/value:sum": 9.0}
        ),
        where="custom/l1/value:sum",
    ),
    Wrong("called once more", ("regularizers.calls",), _called("l1", 2), cause="called-too-often"),
    Wrong("not called", ("regularizers.calls",), _called("l2", 0), cause="not-called", where="parts, l2"),
    Wrong("goes on", ("regularizers.ended",), _ended({"l1": 0}), cause="left-running", where="parts, l1"),
    Wrong("says nothing of ends", ("regularizers.ended",), _ended({}), cause="left-running", where="parts, l1"),
    Wrong(
        "no name",
        ("regularizers.error",),
        lambda t: with_step(t, "fb", failed=FailedPart("regularizer")),
        base=FAILING,
        cause="name-lost",
    ),
    Wrong(
        "the base for a regularizer",
        ("regularizers.error",),
        lambda t: with_step(t, "fb", failed=FailedPart("base")),
        base=FAILING,
    ),
    Wrong("a step took no effect", ("training.steps",), lambda t: replace(t, training=()), cause="not-sent"),
    Wrong(
        "the gradient's sign",
        ("training.gradient",),
        _training(gradient=-FULL.training[0].gradient),
        cause="opposite-sign",
    ),
    Wrong(
        "parameters",
        ("training.parameters",),
        _training(parameters=FULL.training[0].parameters + 0.01),
        where="model-1, optimizer step 1",
    ),
]

NOTHING = replace(FULL, control=(), requests=(), retrievals=(), steps=(), training=(), beats=(), lived=None)


@pytest.mark.parametrize("check", CHECKS)
def test_passes_on_what_is_right(check):
    """A run that does what golden does passes every check that has something to look at."""
    verdicts = [judge(check, case(base)) for base in (FULL, FAILING)]
    assert "fail" not in {v.outcome for v in verdicts}, verdicts
    assert "pass" in {v.outcome for v in verdicts}, verdicts


@pytest.mark.parametrize("check", CHECKS)
def test_is_not_run_on_nothing(check):
    """With nothing observed, and nothing in golden either, a check says so and does not pass."""
    base = FAILING if check.startswith("error.") or check.endswith(".error") else FULL
    observed = judge(check, case(base, NOTHING))
    neither = judge(check, case(NOTHING, NOTHING))
    assert (observed.outcome, neither.outcome) == ("not_run", "not_run")
    assert observed.message
    assert neither.message


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda w: w.name.replace(" ", "-"))
def test_one_wrong_thing_reddens_its_own_check_only(wrong):
    """Each wrong thing is found by the checks named for it, and colours no other."""
    told = case(wrong.base, wrong.alter(wrong.base), script=wrong.script, release=wrong.release)
    verdicts = {check: judge(check, told) for check in CHECKS}
    red = {check: v for check, v in verdicts.items() if v.outcome == "fail"}
    assert tuple(red) == wrong.red, red
    first = red[wrong.red[0]]
    assert first.message
    assert first.where
    assert first.cause == wrong.cause
    assert bool(first.certainty) is bool(wrong.cause)
    assert wrong.where in first.where


def test_every_check_has_a_wrong_thing():
    """No check is without something that turns it red."""
    assert {check for wrong in WRONGS for check in wrong.red} == set(CHECKS)


def test_every_check_says_what_holds():
    """The sentence of a check is one sentence, and its id is family.name."""
    for check in CHECKS.values():
        assert check.says.endswith(".")
        assert check.id.count(".") == 1


def test_a_fault_that_golden_does_not_meet_is_not_judged():
    """Under a contract whose client never sends the request, nothing can be said about its fault."""
    unmet = replace(FULL, faults=(replace(FULL.faults[0], played=0),))
    assert judge("faults.consumed", case(unmet, FULL)).outcome == "not_run"
    assert judge("faults.consumed", case(replace(FULL, faults=()), FULL)).outcome == "not_run"


def test_a_fault_met_more_often_than_in_golden_is_consumed():
    """How often a request is sent again is for other checks to judge."""
    twice = replace(FULL, faults=(replace(FULL.faults[0], times=3, played=3),))
    once = replace(FULL, faults=(replace(FULL.faults[0], times=3, played=1),))
    assert judge("faults.consumed", case(once, twice)).outcome == "pass"
    assert judge("faults.consumed", case(twice, once)).outcome == "fail"


def test_an_unknown_check_is_refused_with_the_known_ones():
    """A misspelt check id is an error with the list of checks."""
    with pytest.raises(ParityError, match="check-unknown") as caught:
        judge("weights.value", case(FULL))
    assert "weights.values" in caught.value.hint


def test_a_long_difference_stays_short():
    """A verdict never carries rows: whatever differs, expected and observed are bounded."""
    many = {f"key{i}": i for i in range(500)}
    other = with_requests(FULL, lambda r: replace(r, body=many) if r.call == "save" else r)
    verdict = judge("wire.bodies", case(FULL, other))
    assert verdict.outcome == "fail"
    assert max(len(verdict.expected), len(verdict.observed), len(verdict.where), len(verdict.detail)) <= 320


def test_a_metric_that_moved_is_found_under_its_other_name():
    """Where golden's value is there under a name golden has not, the cause says so."""
    metrics = {"loss:sum": 1.0, "surrogate_loss:sum": 32.0, "n:mean": 1.25, "old:sum": 7.5}
    verdict = judge("metrics.values", case(FULL, with_step(FULL, "fb", metrics=metrics)))
    assert (verdict.cause, verdict.certainty) == ("key-renamed", "likely")
    assert verdict.detail == "golden's loss:sum is under old:sum"


def test_a_client_that_cannot_be_closed_is_judged_by_what_it_sends():
    """Where golden's client has no close, a step `close` that went well is nobody's divergence but session.end's."""
    golden = with_step(FULL, "close", status="skipped")
    assert judge("result.status", case(golden, FULL)).outcome == "pass"
    failing = with_step(FAILING, "close", status="skipped")
    assert judge("error.after", case(failing, FAILING)).outcome == "pass"


def test_a_hang_leaves_the_end_of_the_session_open():
    """After a hang nothing is said about how the client is closed."""
    hanging = _without_control("session/finish")(with_step(FULL, "late", status="hang"))
    assert judge("session.end", case(FULL, hanging)).outcome == "not_run"


STACKS = """Thread MainThread:
  File "/opt/sdk/client.py", line 7, in result
    return self.done.get()
  File "/usr/lib/python3.11/threading.py", line 320, in wait
    waiter.acquire()

Thread loop:
  File "/opt/sdk/run.py", line 3, in main
  File "/usr/lib/python3.11/asyncio/base_events.py", line 607, in run_forever
"""
"""Stacks of two threads, as Python writes them."""


def test_a_hang_says_what_it_waits_for():
    """A call that never returns is described by its last request, its polls and where the program stands."""
    stuck = with_step(FULL, "opt", status="hang", stacks=STACKS)
    told = judge("result.hang", case(FULL, stuck))
    assert told.cause == "still-waiting"
    assert told.detail.startswith("last optim_step seq ")
    assert told.detail.endswith("answered 200, its result 408, 429, 200; stands in client.py:7 result, run.py:3 main")
    unasked = _requests(_is("opt"), polls=())(stuck)
    assert "its result not asked for" in judge("result.hang", case(FULL, unasked)).detail
    unsent = judge("result.hang", case(FULL, _drop_optimizer(stuck)))
    assert unsent.detail.startswith("waits to send: 0 of 1 request seen; no request of it was seen")


def test_models_that_a_hang_leaves_uncreated_follow_from_it():
    """Steps after a hang are never run: a model that is missing then follows; without a hang it was not sent."""
    create = next(request for request in FULL.control if request.route == "create_model")
    golden = replace(FULL, control=(*FULL.control, create))
    hung = judge("session.model", case(golden, with_step(FULL, "opt", status="hang")))
    assert (hung.outcome, hung.cause) == ("fail", "follows")
    assert "see result.hang" in hung.detail
    assert judge("session.model", case(golden, FULL)).cause == "not-sent"
    assert judge("session.model", case(FULL, golden)).cause == "sent-besides"


def test_an_id_that_only_a_failure_leaves_unsent_is_sent_after_it():
    """Where golden fails and never sends its first id, a client that sends it goes on after the failure."""
    first = next(r for r in FAILING.requests if r.seq_id is not None)
    held = replace(FAILING, requests=tuple(r for r in FAILING.requests if r is not first))
    told = judge("order.seq", case(held, FAILING))
    assert (told.outcome, told.cause) == ("fail", "sent-after-failure")


def test_an_excess_attempt_names_the_answer_it_came_after():
    """What is sent again after a refusal is said to be sent after the refusal, not after what the excess got."""
    optimizer = _is("opt")
    golden = _requests(optimizer, attempts=made(("400", 0.0)))(FULL)
    observed = _requests(optimizer, attempts=made(("400", 0.0), ("200", 1.0)))(FULL)
    told = judge("retry.attempts", case(golden, observed))
    assert (told.cause, told.detail) == ("sent-too-often", "after 400")


def test_a_gap_that_golden_has_is_not_the_subjects():
    """What is refused for good leaves a hole in golden too; any other hole is the subject's."""
    hole = replace(FULL, gaps=(Gap("model-1", (3,), (4,)),))
    assert judge("gaps.none", case(hole)).outcome == "pass"
    assert judge("gaps.none", case(hole, FULL)).outcome == "pass"
    assert judge("gaps.none", case(hole, replace(FULL, gaps=(Gap("model-1", (2, 3), (4,)),)))).outcome == "fail"


def test_a_golden_trace_keeps_its_own_delays():
    """Golden has no times; beside itself it is neither early nor late."""
    golden = canonical(FULL)
    for check in ("retry.gaps", "poll.rate"):
        assert judge(check, case(golden)).outcome == "pass"
        assert judge(check, case(golden, FULL)).outcome == "pass"


def test_a_hang_after_a_failure_is_how_the_later_call_ends():
    """A call that never returns after the failed one is error.after's, besides result.hang's."""
    told = case(FAILING, with_step(FAILING, "opt", status="hang"))
    red = [check for check in CHECKS if judge(check, told).outcome == "fail"]
    assert red == ["result.hang", "error.after"]
    assert judge("error.after", told).cause == "hangs-after-failure"


def test_what_is_unsent_after_a_failure_has_one_name():
    """In a scenario that fails, a missing operation is error.sent's alone."""
    step = next(r for r in FULL.requests if r.call == "opt")
    golden = replace(FAILING, requests=(*FAILING.requests, replace(step, seq_id=3, arrival=9, sent_after=2)))
    red = [check for check in CHECKS if judge(check, case(golden, FAILING)).outcome == "fail"]
    assert red == ["error.sent"]


def test_identical_datums_are_told_by_position():
    """Where data repeats, a cut is still judged by position."""
    same = [datum([1], [2], [0])] * 3
    golden = with_datums(FULL, "fb", "forward", lambda i, _: same[i])
    assert judge("chunks.boundaries", case(golden)).outcome == "pass"
    assert judge("chunks.boundaries", case(golden, _recut("fb", "forward", [1, 2])(golden))).outcome == "fail"


def test_a_serial_contract_wants_chunks_one_after_the_other():
    """Under a serial contract, chunk 1 sent last is an order.arrival failure."""
    assert judge("order.arrival", case(FULL, release="0.7.0")).outcome == "fail"
    assert len(CUSTOM) == 3


def test_a_body_that_cannot_be_read_is_not_one_without_data() -> None:
    """It is refused elsewhere; with nothing readable there is nothing to look at."""
    some = _requests(lambda r: r.seq_id == 1, batch=None)(FULL)
    assert judge("chunks.nonempty", case(FULL, some)).outcome == "pass"
    none = _requests(lambda r: r.batch is not None, batch=None)(FULL)
    assert judge("chunks.nonempty", case(FULL, none)).outcome == "not_run"
