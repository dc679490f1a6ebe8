"""Every check passes on what is right, fails on its own wrong thing and no other, and is not_run on nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pytest
from traces import (
    CUSTOM,
    SCRIPT,
    case,
    datum,
    failing_run,
    full_run,
    headers_for,
    with_datums,
    with_input,
    with_requests,
    with_step,
)

from harness.checks.registry import CHECKS, judge
from harness.errors import ParityError
from harness.trace.model import Request, Retrieval, Trace
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
    Wrong("two shapes", ("loss.saw_shape",), _saw(shapes=[[2], [3, 1], [1]])),
    Wrong("one tensor", ("loss.saw_shape",), _saw(count=1), cause="tensors-merged"),
    Wrong("float64", ("loss.saw_dtype",), _saw(dtypes=["float64"] * 3), cause="dtype-widened"),
    Wrong("not leaves", ("loss.saw_dtype",), _saw(leaves=False), cause="not-leaves"),
    Wrong("other values", ("loss.saw_values",), _saw(digest="0" * 64)),
    Wrong("stripped inputs", ("loss.saw_keys",), _saw(keys=[["target_tokens"]] * 3), cause="key-dropped"),
    Wrong("the caller's data", ("loss.unchanged",), _saw(unchanged=False), cause="data-mutated"),
    Wrong(
        "an error",
        ("result.status",),
        lambda t: with_step(t, "save", status="error", kind="transport", type="Oops"),
        cause="raised",
    ),
    Wrong("a hang", ("result.hang",), lambda t: with_step(t, "late", status="hang")),
    Wrong("another type", ("result.type",), lambda t: with_step(t, "opt", type="dict")),
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

NOTHING = replace(FULL, control=(), requests=(), retrievals=(), steps=(), training=())


@pytest.mark.parametrize("check", CHECKS)
def test_passes_on_what_is_right(check):
    """A run that does what golden does passes every check that has something to look at."""
    verdicts = [judge(check, case(base)) for base in (FULL, FAILING)]
    assert "fail" not in {v.outcome for v in verdicts}, verdicts
    assert "pass" in {v.outcome for v in verdicts}, verdicts


@pytest.mark.parametrize("check", CHECKS)
def test_is_not_run_on_nothing(check):
    """With nothing observed, and nothing in golden either, a check says so and does not pass."""
    observed = judge(check, case(FULL if not check.startswith("error.") else FAILING, NOTHING))
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
