"""Every cause is told by at least one check, from two traces built by hand; and docs/causes.md is the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_every_check import FAILING, FULL, WRONGS, Alter, _is, _metrics, _recut, _requests, _saw, _weights
from traces import SCRIPT, case, made, with_datums, with_input, with_requests, with_step

from harness.checks.causes import CAUSES, FAMILIES, certain
from harness.checks.registry import judge
from harness.engine.explain import causes_document
from harness.trace.model import Trace
from mock_server.script import Script

ROOT = Path(__file__).parents[2]
CODE = {"fb": ("fb", "forward")}


@dataclass(frozen=True)
class Told:
    """A cause, the check that tells it, and what is done to the run."""

    code: str
    check: str
    alter: Alter
    base: Trace = FULL
    golden: Alter = lambda trace: trace
    certainty: str = "certain"
    script: Script = SCRIPT
    release: str = "0.38.0"


def _array(change: Callable[[int, Any], Any]) -> Alter:
    return _weights(lambda i, t: replace(t, values=np.asarray(change(i, t.values), dtype=np.float32)))


def _two_dimensional(trace: Trace) -> Trace:
    """Give the backward weights of the second datum two dimensions."""
    return with_input(trace, "fb", "backward", "weights", lambda i, t: replace(t, shape=(1, 3)) if i == 1 else t)


def _shape(*shape: int) -> Alter:
    return _weights(lambda i, t: replace(t, shape=shape) if i == 1 else t)


def _nan(trace: Trace) -> Trace:
    return _array(lambda i, v: v * np.nan if i == 0 else v)(trace)


def _leaked(trace: Trace) -> Trace:
    return with_datums(
        trace, "fb", "backward", lambda _, d: replace(d, inputs={**d.inputs, "advantages": d.inputs["weights"]})
    )


def _as_json(trace: Trace) -> Trace:
    return _requests(lambda r: r.batch is not None, encoding="json")(trace)


def _numbered_metrics(trace: Trace) -> Trace:
    return _metrics(x_1=2.0)(trace)


def _all_chunked(metrics: list[dict[str, float]], sizes: list[int]) -> Alter:
    """Cut the plain pass in requests of these sizes and let the server answer these metrics."""

    def alter(trace: Trace) -> Trace:
        cut = _recut("pl", "", sizes)(trace)
        mine = iter(metrics)
        return with_requests(cut, lambda r: replace(r, metrics=next(mine)) if _is("pl")(r) else r)

    return alter


def _mean(value: float) -> Alter:
    return lambda trace: with_step(trace, "pl", metrics={"x:mean": value})


def _then(*alters: Alter) -> Alter:
    def alter(trace: Trace) -> Trace:
        for each in alters:
            trace = each(trace)
        return trace

    return alter


SERIAL = Script(client_config={"fwdbwd_max_chunk_len": 2, "parallel_fwdbwd_chunks": False})


def _trained_on_halves(trace: Trace) -> Trace:
    """Halve the weights; the server answers what follows, and the client hands that on."""
    halves = _array(lambda _, v: v / 2)(trace)
    answered = with_requests(
        halves,
        lambda r: (
            replace(r, metrics={name: value / 2 for name, value in r.metrics.items()})
            if (r.call, r.phase) == ("fb", "backward")
            else r
        ),
    )
    total = sum(r.metrics["loss:sum"] for r in answered.requests if (r.call, r.phase) == ("fb", "backward"))
    trained = tuple(replace(state, parameters=state.parameters + 1.0) for state in answered.training)
    return replace(_metrics(surrogate_loss__sum=total)(answered), training=trained)


CHUNKED = _all_chunked([{"x:mean": 1.0}, {"x:mean": 4.0}, {"x:mean": 4.0}][:2], [1, 1])


def _zero_backward(trace: Trace) -> Trace:
    """Go on after a missing gradient, with zero weights, and succeed."""
    first = trace.requests[0]
    extra = replace(first, effect="forward_backward", seq_id=3, arrival=9, sent_after=2)
    later = replace(trace, requests=(*trace.requests, extra))
    return with_step(later, "fb", status="ok", kind=None, raised_at="", message="")


def _optimizer_sent(trace: Trace) -> Trace:
    full = next(r for r in FULL.requests if r.call == "opt")
    return replace(trace, requests=(*trace.requests, replace(full, seq_id=3, arrival=9, sent_after=2)))


def _reversed_digest(trace: Trace) -> Trace:
    from traces import saw_of

    forward = [r for r in trace.requests if (r.call, r.phase) == ("fb", "forward")]
    return _saw(digest=saw_of(forward[::-1]).digest)(trace)


def _spinning(trace: Trace) -> Trace:
    polls = made(*(("408", 2.0 + 0.005 * number) for number in range(40)))
    return with_requests(trace, lambda r: replace(r, polls=polls) if r.call == "opt" else r)


def _spinning_slowly(trace: Trace) -> Trace:
    polls = made(*(("408", 2.0 + 0.05 * number) for number in range(40)))
    return with_requests(trace, lambda r: replace(r, polls=polls) if r.call == "opt" else r)


def _under_a_new_id(trace: Trace) -> Trace:
    """Send the plain call, which is not acknowledged, again as a request of its own."""
    first = next(r for r in trace.requests if r.call == "pl")
    again = replace(first, seq_id=8, arrival=99, sends=1, attempts=())
    once = with_requests(trace, lambda r: replace(r, attempts=made(("503", 1.0))) if r is first else r)
    return replace(once, requests=(*once.requests, again))


def _lost_answer(trace: Trace) -> Trace:
    attempts = made(("broken", 1.0), ("200", 1.45), took=True)
    return with_requests(trace, lambda r: replace(r, attempts=attempts) if r.call == "pl" else r)


def _counted_twice(trace: Trace) -> Trace:
    again = _under_a_new_id(trace)
    first = made(("broken", 1.0), took=True)
    return with_requests(again, lambda r: replace(r, attempts=first) if r.call == "pl" and r.seq_id != 8 else r)


TOLD = [
    Told("scaled", "weights.values", _array(lambda _, v: v * 2.5)),
    Told("sum-for-mean", "weights.values", _array(lambda _, v: v * v.size)),
    Told("values-reordered", "weights.values", _array(lambda i, v: v[::-1] if i == 1 else v)),
    Told("finite-for-not-finite", "weights.values", _array(lambda _, v: v), golden=_nan),
    Told(
        "rounded",
        "weights.values",
        _array(lambda _, v: (v / 3).astype(np.float16)),
        golden=_array(lambda _, v: v / 3),
        certainty="likely",
    ),
    Told(
        "zeros-for-missing-gradient",
        "result.status",
        _zero_backward,
        base=FAILING,
    ),
    Told("error-swallowed", "result.status", lambda t: with_step(t, "fb", status="ok", kind=None), base=FAILING),
    Told("sent-after-failure", "error.sent", _optimizer_sent, base=FAILING),
    Told(
        "poisoned",
        "error.after",
        lambda t: t,
        base=FAILING,
        golden=lambda t: with_step(t, "opt", status="ok", kind=None),
    ),
    Told(
        "not-cut",
        "chunks.boundaries",
        _recut("fb", "forward", [3]),
        script=Script(),
    ),
    Told(
        "limit-differs",
        "chunks.boundaries",
        _recut("fb", "forward", [1, 1, 1]),
        golden=_recut("fb", "forward", [3]),
        script=Script(client_config={"fwdbwd_max_chunk_len": 3}),
    ),
    Told(
        "limit-exclusive",
        "chunks.boundaries",
        _recut("pl", "", [1, 1]),
        script=Script(client_config={"fwdbwd_max_chunk_bytes_count": 48}),
        certainty="likely",
    ),
    Told(
        "bytes-per-element",
        "chunks.boundaries",
        _recut("pl", "", [1, 1]),
        script=Script(client_config={"fwdbwd_max_chunk_bytes_count": 60}),
        certainty="likely",
    ),
    Told(
        "forward-cut-kept",
        "chunks.boundaries",
        lambda t: t,
        golden=_recut("fb", "backward", [1, 2]),
    ),
    Told("backward-cut-anew", "chunks.boundaries", _recut("fb", "backward", [1, 2])),
    Told("id-added", "order.seq", lambda t: t, golden=_requests(_is("save"), seq_id=None)),
    Told(
        "chunks-in-parallel",
        "order.arrival",
        _requests(lambda r: r.seq_id == 1, sent_after=0),
    ),
    Told("protobuf-for-json", "wire.encoding", lambda t: t, golden=_as_json),
    Told(
        "key-renamed",
        "wire.bodies",
        _requests(_is("save"), body={"model_id": "model-1", "name": "ck", "type": "save_weights"}),
        certainty="likely",
    ),
    Told(
        "null-for-absent",
        "wire.bodies",
        _requests(_is("save"), body={"model_id": "model-1", "path": "ck", "type": "save_weights", "ttl": None}),
    ),
    Told("input-leaked", "weights.keys", _leaked, golden=_saw(keys=[["advantages", "target_tokens", "weights"]] * 3)),
    Told("flattened", "weights.shape", _shape(3), golden=_two_dimensional),
    Told("unflattened", "weights.shape", _two_dimensional),
    Told("type-changed", "result.type", lambda t: with_step(t, "fb", type="map")),
    Told("hash-changed", "metrics.values", _metrics(x__hash_unordered=7.0), golden=_metrics(x__hash_unordered=8.0)),
    Told("transposed", "weights.shape", _shape(3, 1), golden=_two_dimensional),
    Told(
        "reduction-unweighted",
        "metrics.values",
        _then(_all_chunked([{"x:mean": 1.0}, {"x:mean": 4.0}], [1, 1]), _mean(2.5)),
        golden=_mean(2.0),
        certainty="likely",
    ),
    Told("suffix-off-by-one", "metrics.names", _metrics(x_2=2.0), golden=_metrics(x_1=2.0)),
    Told("own-loss-vs-surrogate", "metrics.values", _metrics(loss__sum=32.0, surrogate_loss__sum=7.5)),
    Told("own-loss-vs-surrogate", "metrics.values", _metrics(loss__sum=32.0), certainty="likely"),
    Told("follows", "metrics.values", _trained_on_halves),
    Told("follows", "training.parameters", _trained_on_halves, certainty="likely"),
    Told("chunks-in-parallel", "order.arrival", _requests(lambda r: r.seq_id == 1, sent_after=0), script=SERIAL),
    Told("not-called", "loss.calls", lambda t: with_step(t, "fb", saw=None)),
    Told("outputs-reordered", "loss.saw_values", _reversed_digest),
    Told("still-waiting", "result.hang", lambda t: with_step(t, "opt", status="hang")),
    Told("hangs-after-failure", "error.after", lambda t: with_step(t, "opt", status="hang"), base=FAILING),
    Told("polls-in-a-loop", "poll.rate", _spinning, golden=_spinning_slowly),
    Told("resend-new-id", "retry.same_request", _under_a_new_id),
    Told("effect-twice", "retry.once", _counted_twice, golden=_lost_answer),
]


@pytest.mark.parametrize("wanted", TOLD, ids=lambda wanted: wanted.code)
def test_each_cause_is_told_from_two_traces(wanted):
    """What is done to the run is what the check says, and how sure it can be."""
    given = case(wanted.golden(wanted.base), wanted.alter(wanted.base), script=wanted.script, release=wanted.release)
    verdict = judge(wanted.check, given)
    assert verdict.outcome == "fail", verdict
    assert (verdict.cause, verdict.certainty) == (wanted.code, wanted.certainty), verdict


def test_every_cause_is_told_somewhere():
    """No cause stands in the list without a run that shows it."""
    assert {wanted.code for wanted in TOLD} | {wrong.cause for wrong in WRONGS} == {*CAUSES, ""}


def test_a_cause_is_told_with_its_documented_certainty():
    """A cause that is only ever likely is never called certain, and the other way round."""
    for wanted in TOLD:
        assert wanted.certainty in CAUSES[wanted.code].levels
    for wrong in WRONGS:
        given = case(wrong.base, wrong.alter(wrong.base), script=wrong.script, release=wrong.release)
        verdict = judge(wrong.red[0], given)
        assert not verdict.cause or verdict.certainty in CAUSES[verdict.cause].levels, wrong.name


def test_no_other_cause_can_be_told():
    """The list is closed: a code that is not in it is a mistake in the harness."""
    with pytest.raises(KeyError):
        certain("bad-luck")


def test_the_page_is_the_list():
    """docs/causes.md is what the list says; `python -m harness.engine.explain` writes it."""
    assert (ROOT / "docs" / "causes.md").read_text("utf-8") == causes_document()
    assert [cause for causes in FAMILIES.values() for cause in causes] == list(CAUSES.values())


def test_every_cause_says_what_and_where():
    """A cause has a short title, full sentences and at least one certainty."""
    for cause in CAUSES.values():
        assert len(cause.title) <= 50
        assert cause.says.endswith(".")
        assert cause.look.endswith(".")
        assert cause.levels
