"""Regularizers through the reference client and the real mock server, at both ends of the timeline."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from playing import PASSES, data_of, story_of, weights_of

from harness.reference.errors import (
    CallCancelledError,
    InvalidInputError,
    LossFailedError,
    NoGradientError,
    PartFailedError,
    PartNotScalarError,
    PoisonedError,
    RegularizerTimeoutError,
)
from harness.reference.regularizers.flat import unflatten
from harness.reference.regularizers.telemetry import ReportLog
from mock_server import Script

RELEASES = ("0.7.0", "0.15.0", "0.38.0")
OLD, NEW = RELEASES[0], RELEASES[-1]


class _Sent:
    """Notes every body that a client sends, with the model's id taken out."""

    def __init__(self):
        self.bodies = []

    def __call__(self, client):
        plain = client.send

        async def send(route, content, content_type, call):
            answer = await plain(route, content, content_type, call)
            if route in (*PASSES, "optim_step"):
                told = (call.label, call.method, call.phase)
                self.bodies.append((route, content.replace(self.model.encode(), b"<model>"), content_type, told))
            return answer

        client.send = send
        return client

    def watch(self, scenario):
        """Return the scenario, taking down the id of its model."""

        async def watched(model):
            self.model = model.model_id
            return await scenario(model)

        return watched


@pytest.fixture
def send(play):
    """Play a scenario; give its result and the bodies that it sent."""

    def run(release, scenario):
        sent = _Sent()
        result, _ = play(release, sent.watch(scenario), made=sent)
        return result, sent.bodies

    return run


def _sum(_data, logprobs):
    return sum(each.sum() for each in logprobs), {"n": float(len(logprobs))}


def _square(_data, logprobs):
    return sum((each**2).sum() for each in logprobs), {"rms:mean": 0.5}


async def _async_square(data, logprobs):
    await asyncio.sleep(0)
    return _square(data, logprobs)


def _spec(name, weight, fn, **rest):
    return {"fn": fn, "weight": weight, "name": name, **rest}


SPECS = [
    _spec("square", 0.5, _square),
    _spec("again", 0.25, _async_square),
    _spec("own", 2.0, _sum, run_in_executor=True),
]


@pytest.mark.parametrize("release", RELEASES)
def test_the_gradient_of_the_regularizers_reaches_the_server(play, release):
    """The weights are minus the gradient of the sum: -(1 + 2 + 1.5 x), as one callback that computes it sends."""

    def by_hand(data, logprobs):
        return _sum(data, logprobs)[0] + 0.75 * _square(data, logprobs)[0] + 2.0 * _sum(data, logprobs)[0], {}

    async def structured(model):
        return await (await model.forward_backward_custom(data_of(2, 1), _sum, SPECS, track_grad_norms=True)).result()

    async def one_callback(model):
        return await (await model.forward_backward_custom(data_of(2, 1), by_hand)).result()

    output, record = play(release, structured)
    logprobs = [each["logprobs"].dense() for each in output.outputs]
    for weights, x in zip(weights_of(record), logprobs, strict=True):
        np.testing.assert_allclose(weights, -(3.0 + 1.5 * x), rtol=1e-6)
    plain, plain_record = play(release, one_callback)
    assert story_of(record) == story_of(plain_record) == ["F1", "B2"]
    assert plain.report is None
    np.testing.assert_allclose(np.concatenate(weights_of(record)), np.concatenate(weights_of(plain_record)), rtol=1e-6)
    if release == NEW:
        assert output.metrics["loss:sum"] == pytest.approx(plain.metrics["loss:sum"], rel=1e-6)
        assert output.metrics["loss:sum"] == pytest.approx(output.report.loss_total, rel=1e-6)


@pytest.mark.parametrize("release", RELEASES)
def test_the_result_carries_the_report_and_its_flat_form(play, release):
    """The base's metrics keep their names, the flat form stands beside them, and the document can be made of it."""

    async def scenario(model):
        return await (await model.forward_backward_custom(data_of(2, 1), _sum, SPECS, track_grad_norms=True)).result()

    output, _ = play(release, scenario)
    assert output.metrics["n"] == 2.0
    assert list(output.report.regularizers) == ["square", "again", "own"]
    assert unflatten(output.metrics) == output.report
    assert output.metrics["custom/square/reduced/rms:mean"] == 0.5
    x = np.concatenate([each["logprobs"].dense() for each in output.outputs]).astype(np.float64)
    assert output.report.base_loss.grad_norm == pytest.approx(np.sqrt(3))
    assert output.report.regularizers["square"].grad_norm == pytest.approx(2 * np.sqrt(x @ x))
    assert output.report.total_grad_norm == pytest.approx(np.sqrt(((3 + 1.5 * x) ** 2).sum()))


@pytest.mark.parametrize("release", RELEASES)
def test_old_calls_are_what_they_were(send, release):
    """Positional, by the new name and by the old one: byte for byte the same requests, and nothing of a report."""

    async def run(model, **arguments):
        positional = () if arguments else (_square,)
        pending = await model.forward_backward_custom(data_of(2, 1), *positional, call="fb", **arguments)
        output = await pending.result()
        await model.optim_step({"learning_rate": 0.01}).result()
        return output

    calls = [{}, {"loss_fn": _square}, {"base_loss_fn": _square}, {"loss_fn": _square, "run_sync_in_executor": True}]
    played = [send(release, lambda model, given=given: run(model, **given)) for given in calls]
    first, first_bodies = played[0]
    assert len(first_bodies) == 3
    assert first.report is None
    assert not any(key.startswith("custom/") for key in first.metrics)
    for output, bodies in played[1:]:
        assert bodies == first_bodies
        assert output.metrics == first.metrics
        assert output.report is None


@pytest.mark.parametrize("release", [OLD, NEW])
def test_an_empty_list_sends_the_same_and_reports(send, release):
    """The requests are those of the old call, bitwise, also when norms are tracked; the report has no part."""

    async def run(model, **arguments):
        return await (await model.forward_backward_custom(data_of(2, 1), _square, **arguments)).result()

    _, plain = send(release, run)
    for arguments in ({"regularizers": []}, {"regularizers": (), "track_grad_norms": True}, {"track_grad_norms": True}):
        output, bodies = send(release, lambda model, given=arguments: run(model, **given))
        assert bodies == plain
        assert output.report.regularizers == {}
        assert output.report.regularizer_total == 0.0
        assert (output.report.total_grad_norm is not None) == bool(arguments.get("track_grad_norms"))


def test_tracking_sends_the_same(send):
    """With norms and without the requests are the same, byte for byte."""

    async def run(model, *, track):
        return await (await model.forward_backward_custom(data_of(2, 1), _sum, SPECS, track_grad_norms=track)).result()

    for release in (OLD, NEW):
        tracked, one = send(release, lambda model: run(model, track=True))
        plain, other = send(release, lambda model: run(model, track=False))
        assert one == other
        assert plain.report.total_grad_norm is None
        assert tracked.report.loss_total == plain.report.loss_total


def test_an_asynchronous_base(send):
    """It is awaited, with regularizers or without; without, nothing is reported."""

    async def run(model, *rest):
        return await (await model.forward_backward_custom(data_of(2, 1), _async_square, *rest)).result()

    output, bodies = send(NEW, run)
    assert output.report is None
    assert not any(key.startswith("custom/") for key in output.metrics)
    again, others = send(NEW, lambda model: run(model, []))
    assert bodies == others
    assert again.report.base_loss.value == pytest.approx(output.metrics["loss:sum"])


def test_a_plain_function_may_return_something_to_await(send):
    """Found out, also without regularizers: the same requests as from `async def`; its error is the loss's."""
    plain = send(NEW, lambda model: _result(model, lambda data, lps: _async_square(data, lps)))
    awaited = send(NEW, lambda model: _result(model, _async_square))
    assert plain[1] == awaited[1]
    assert plain[0].metrics == awaited[0].metrics

    async def boom():
        raise KeyError("boom")

    async def failing(model):
        with pytest.raises(LossFailedError, match="KeyError: 'boom'"):
            await _result(model, lambda _data, _lps: boom())

    send(NEW, failing)


async def _result(model, loss):
    return await (await model.forward_backward_custom(data_of(2, 1), loss)).result()


@pytest.mark.parametrize("broken", ["a folder", "a name that is no text"])
def test_a_report_that_cannot_be_written_fails_no_call(play, tmp_path, broken):
    """The gradient is on the server by then: the call succeeds, with a warning that says which file it was."""

    def base(data, logprobs):
        return _sum(data, logprobs)[0], {"\ud800" if broken == "a name that is no text" else "m": 1.0}

    def reporting(client):
        client.reports = ReportLog(tmp_path if broken == "a folder" else tmp_path / "reports.jsonl")
        return client

    async def scenario(model):
        with pytest.warns(UserWarning, match="could not be written to"):
            output = await (await model.forward_backward_custom(data_of(2), base, [])).result()
        assert output.report is not None

    play(NEW, scenario, made=reporting)


def test_a_base_metric_called_like_one_of_the_report(send):
    """It is in the flat form as the base's own, and neither breaks the way back nor is overwritten."""
    long = f"custom/{'x' * 45}:sum"  # too long for the flat form, and like nothing in it
    clashing = {"custom/loss_total:sum": 7.0, "custom/aux/value:sum": 8.0, "plain": 9.0, long: 10.0}

    def base(data, logprobs):
        return _sum(data, logprobs)[0], clashing

    async def run(model):
        return await (await model.forward_backward_custom(data_of(2, 1), base, [])).result()

    output, _ = send(NEW, run)
    assert output.report.base_loss.custom == clashing
    kept = {name: number for name, number in clashing.items() if name != long}
    assert unflatten(output.metrics).base_loss.custom == kept
    assert (output.metrics["plain"], output.metrics[long]) == (9.0, 10.0)
    assert output.metrics["custom/loss_total:sum"] == output.report.loss_total
    assert "custom/aux/value:sum" not in output.metrics


def test_where_the_parts_run(play):
    """A synchronous base in the worker thread, as ever; regularizers on the event loop, or in threads of their own."""
    seen = {}

    def look(name):
        def fn(data, logprobs):
            seen[name] = threading.current_thread()
            return _sum(data, logprobs)

        return fn

    async def scenario(model):
        specs = [_spec("loop", 1.0, look("loop"), run_in_executor=False), _spec("thread", 1.0, look("thread"))]
        pending = await model.forward_backward_custom(data_of(2), look("base"), specs, run_sync_in_executor=True)
        await pending.result()

    play(NEW, scenario)
    assert seen["loop"] is threading.main_thread()
    assert len(set(seen.values())) == 3


# --- errors -----------------------------------------------------------------------------------------------------------

REFUSED = {
    "neither": (None, None, {}),
    "nothing": (None, [], {}),
    "two names": (_sum, None, {"loss_fn": _sum}),
    "base": ("cross_entropy", [], {}),
    "twice": (_sum, [_spec("a", 1.0, _sum), _spec("a", 1.0, _sum)], {}),
    "no name": (_sum, [_spec("", 1.0, _sum)], {}),
    "negative": (_sum, [_spec("a", -1.0, _sum)], {}),
    "not finite": (_sum, [_spec("a", float("nan"), _sum)], {}),
    "no function": (_sum, [_spec("a", 1.0, None)], {}),
    "no list": (_sum, {"a": _sum}, {}),
    "timeout": (_sum, [_spec("a", 1.0, _sum)], {"regularizer_timeout": 0.0}),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("release", [OLD, NEW])
def test_arguments_are_refused_before_anything_is_sent(play, release, case):
    """The call itself raises, no id is taken, and the client goes on, also where a failed loss poisons it."""
    base, regularizers, options = REFUSED[case]

    async def scenario(model):
        with pytest.raises(InvalidInputError):
            await model.forward_backward_custom(data_of(2), base, regularizers, **options)
        await (await model.forward_backward_custom(data_of(2), _sum, SPECS)).result()
        await model.optim_step({}).result()

    assert story_of(play(release, scenario)[1]) == ["F1", "B2", "O3"]


async def _never(_data, _logprobs):
    await asyncio.Event().wait()


def _raises(_data, _logprobs):
    raise ZeroDivisionError


FAILING = {
    "base": (_raises, [_spec("a", 1.0, _sum)], PartFailedError, ("loss_failed", "base_failed", None)),
    "regularizer": (_sum, [_spec("b", 1.0, _raises)], PartFailedError, ("loss_failed", "regularizer_failed", "b")),
    "vector": (
        _sum,
        [_spec("b", 1.0, lambda _data, lps: (torch.cat(lps), {}))],
        PartNotScalarError,
        ("not_scalar", "regularizer_failed", "b"),
    ),
    "timeout": (
        _sum,
        [_spec("b", 1.0, _never), _spec("c", 1.0, _async_square)],
        RegularizerTimeoutError,
        ("timeout", "regularizer_timeout", "b"),
    ),
    "constant": (None, [_spec("b", 1.0, lambda _data, _lps: (1.0, {}))], NoGradientError, ("no_gradient", None, None)),
    "one datum": (
        None,
        [_spec("b", 1.0, lambda _data, lps: (lps[0].sum(), {}))],
        NoGradientError,
        ("no_gradient", None, None),
    ),
}


@pytest.mark.parametrize("case", FAILING)
def test_after_a_failure_the_old_client_goes_on(play, case):
    """The blocking call raises, nothing goes backward, and ids go on where they were."""
    base, regularizers, error, told = FAILING[case]

    async def scenario(model):
        with pytest.raises(error) as caught:
            await model.forward_backward_custom(data_of(1, 2), base, regularizers, regularizer_timeout=0.05)
        part = caught.value.part
        assert (caught.value.kind, caught.value.reason, part and part.name) == told
        await (await model.forward_backward_custom(data_of(1, 2), _sum, SPECS)).result()
        await model.optim_step({}).result()

    for release in (OLD, "0.15.0"):
        assert story_of(play(release, scenario)[1]) == ["F1", "F2", "B3", "O4"]


@pytest.mark.parametrize("case", FAILING)
def test_after_a_failure_the_new_client_is_poisoned(play, case):
    """In 0.38.0 the result raises, and later calls are refused with the first error as their cause."""
    base, regularizers, error, told = FAILING[case]

    async def scenario(model):
        pending = await model.forward_backward_custom(data_of(1, 2), base, regularizers, regularizer_timeout=0.05)
        with pytest.raises(error) as first:
            await pending.result()
        assert (first.value.kind, first.value.reason) == told[:2]
        with pytest.raises(PoisonedError) as refused:
            await model.optim_step({}).result()
        assert refused.value.__cause__ is first.value

    assert story_of(play(NEW, scenario)[1]) == ["F1"]


@pytest.mark.parametrize("release", [OLD, NEW])
def test_a_cancelled_call(play, release):
    """Its regularizers are cancelled, the error is a cancellation, and what follows is what the contract says."""
    ended = []

    async def scenario(model):
        started = asyncio.Event()

        async def waits(_data, _logprobs):
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(1)

        call = asyncio.ensure_future(model.forward_backward_custom(data_of(2), _sum, [_spec("a", 1.0, waits)]))
        await started.wait()
        if release == OLD:
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await model.optim_step({}).result()
        else:
            pending = await call
            pending.cancel()
            with pytest.raises(CallCancelledError):
                await pending.result()
            with pytest.raises(PoisonedError):
                await model.optim_step({}).result()

    _, record = play(release, scenario)
    assert ended == [1]
    assert story_of(record) == (["F1", "O2"] if release == OLD else ["F1"])


# --- reports over steps -----------------------------------------------------------------------------------------------


def test_each_step_appends_its_report(play, tmp_path):
    """Lines carry the model and the optimizer step that the gradient goes into; plain and failed calls have none."""
    log = ReportLog(tmp_path / "reports.jsonl")

    async def scenario(model):
        for step in range(3):
            for _ in range(2 if step == 1 else 1):
                await (await model.forward_backward_custom(data_of(2), _sum, SPECS)).result()
            await (await model.forward_backward_custom(data_of(2), _sum)).result()
            await model.optim_step({"learning_rate": 0.01}).result()
        with pytest.raises(PartFailedError):
            await model.forward_backward_custom(data_of(2), _sum, [_spec("a", 1.0, _raises)])
        return model.model_id

    def logged(client):
        client.reports = log
        return client

    model_id, _ = play(OLD, scenario, made=logged)
    lines = log.read()
    assert [line.step for line in lines] == [0, 1, 1, 2]
    assert {line.model_id for line in lines} == {model_id}
    assert all(list(line.report.regularizers) == ["square", "again", "own"] for line in lines)


def test_regularizers_train(play):
    """Over five steps on the real model a penalty on squares makes them smaller each time; with weight 0 not."""

    def flat(_data, logprobs):
        return 0.0 * sum(each.sum() for each in logprobs), {}

    def run(weight):
        async def scenario(model):
            values = []
            for _ in range(5):
                pending = await model.forward_backward_custom(data_of(4, 3), flat, [_spec("square", weight, _square)])
                values.append((await pending.result()).report.regularizers["square"].value)
                await model.optim_step({"learning_rate": 0.05}).result()
            return values

        return play(NEW, scenario, script=Script())[0]

    trained, untouched = run(1.0), run(0.0)
    assert trained[0] == untouched[0]
    assert untouched[-1] == untouched[0]
    assert all(later < earlier for earlier, later in pairwise(trained))
