"""The reference client against the real mock server, over a socket, at both ends of the timeline."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch
from playing import PASSES, TABLE, TIMELINE, data_of, story_of, weights_of

from harness.reference.errors import (
    BadOutputError,
    InvalidInputError,
    LossFailedError,
    NoGradientError,
    NotScalarError,
    PoisonedError,
)
from mock_server import Script
from mock_server.script import Logprobs, Metrics, Outputs, Polls

OLD, NEW = "0.7.0", "0.38.0"


def _sum(_data, logprobs):
    return sum(lp.sum() for lp in logprobs), {"n": float(len(logprobs))}


@pytest.mark.parametrize("release", [OLD, NEW])
@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        (_sum, [[-1.0, -1.0], [-1.0, -1.0, -1.0], [-1.0]]),
        (
            lambda _data, lps: (
                sum((lp * torch.tensor([0.1, 0.2, 0.3])[: lp.numel()]).sum() for lp in lps),
                {},
            ),
            [np.float32(row).tolist() for row in ([-0.1, -0.2], [-0.1, -0.2, -0.3], [-0.1])],
        ),
        (lambda _data, lps: (sum(-lp[-1] for lp in lps), {}), [[0.0, 1.0], [0.0, 0.0, 1.0], [1.0]]),
    ],
    ids=["sum", "literal", "last"],
)
def test_literal_weights_reach_the_server(play, release, loss, weights):
    """Lengths 2, 3, 1: the weights are minus the gradient, in every era, and datums keep their order."""

    async def scenario(model):
        pending = await model.forward_backward_custom(data_of(2, 3, 1), loss)
        return await pending.result()

    output, record = play(release, scenario)
    assert weights_of(record) == weights
    assert [len(one["logprobs"].values) for one in output.outputs] == [2, 3, 1]
    assert story_of(record) == ["F1", "B2"]


@pytest.mark.parametrize("release", [OLD, NEW])
def test_what_loss_sum_means(play, release):
    """Up to 0.30.0 it is the server's surrogate, afterwards the custom loss, with the surrogate under its own name."""

    async def scenario(model):
        def doubled(_data, logprobs):
            return 2 * sum((lp * lp).sum() for lp in logprobs), {"n": float(len(logprobs))}

        return await (await model.forward_backward_custom(data_of(2, 1), doubled)).result()

    output, _ = play(release, scenario)
    squares = sum(float((one["logprobs"].values ** 2).sum()) for one in output.outputs)
    # The weights are -4 lp, so that the server's sum(-lp * weight) is 4 lp^2.
    expected = (
        {"loss:sum": 4 * squares} if release == OLD else {"loss:sum": 2 * squares, "surrogate_loss:sum": 4 * squares}
    )
    assert output.metrics == {**expected, "n": 2.0}


@pytest.mark.parametrize(
    ("release", "concurrently", "story"),
    [
        (OLD, False, ["F1", "B2", "O3"]),
        (OLD, True, ["F1", "O2", "B3"]),
        (NEW, False, ["F1", "B2", "O3"]),
        (NEW, True, ["F1", "B2", "O3"]),
    ],
)
def test_an_optimizer_step_after_a_custom_call(play, release, concurrently, story):
    """Blocking calls never let it overtake; started concurrently it does up to 0.36.0."""

    async def scenario(model):
        call = model.forward_backward_custom(data_of(2), _sum)
        if concurrently:
            started = asyncio.ensure_future(call)
            await asyncio.sleep(0)
        else:
            pending = await call
        step = model.optim_step({"learning_rate": 0.01})
        if concurrently:
            pending = await started
        await step.result()
        await pending.result()

    assert story_of(play(release, scenario)[1]) == story


@pytest.mark.parametrize(("release", "story"), [(OLD, ["F1", "F2", "B3", "B4"]), (NEW, ["F1", "B2", "F3", "B4"])])
def test_two_custom_calls_started_together(play, release, story):
    """Both forward passes first, or each call's two passes together; the same in every repetition."""

    async def scenario(model):
        started = []
        for _ in range(2):
            started.append(asyncio.ensure_future(model.forward_backward_custom(data_of(2), _sum)))
            await asyncio.sleep(0)
        for task in started:
            await (await task).result()

    for _ in range(3):
        assert story_of(play(release, scenario)[1]) == story


@pytest.mark.parametrize(
    ("release", "story"),
    [(OLD, ["F1", "F2", "F3", "B4", "B5", "B6"]), (NEW, [{"F2", "F3"}, "F1", {"B5", "B6"}, "B4"])],
)
def test_chunks_of_a_call(play, release, story):
    """2049 datums: one after the other, or 2 and 3 together and 1 last."""

    async def scenario(model):
        await (await model.forward_backward_custom(data_of(*[1] * 2049), _sum)).result()

    _, record = play(release, scenario)
    told = story_of(record)
    for part in story:
        if isinstance(part, set):
            assert {told.pop(0) for _ in part} == part
        else:
            assert told.pop(0) == part
    sizes = {e.body["seq_id"]: len(e.batch.datums) for e in record.exchanges if e.route in PASSES}
    assert [sizes[seq] for seq in range(1, 7)] == [1024, 1024, 1, 1024, 1024, 1]


def test_flags_of_client_config(play):
    """Limits, serial sending and compression are what client/config says, where the release asks for it."""
    config = {"fwdbwd_max_chunk_len": 2, "parallel_fwdbwd_chunks": False, "proto_compress_fwdbwd": True, "unknown": 1}

    async def scenario(model):
        await model.forward_backward(data_of(1, 1, 1, 1, 1, weights=1.0), "cross_entropy").result()

    script = Script(logprobs=TABLE, client_config=config)
    _, record = play(NEW, scenario, script=script)
    assert story_of(record) == ["B1", "B2", "B3"]
    assert all(exchange.compressed for exchange in record.exchanges if exchange.route in PASSES)
    assert story_of(play(OLD, scenario, script=script)[1]) == ["B1"]


FAILING = [
    (lambda _data, _lps: 1 / 0, LossFailedError),
    (lambda _data, lps: (lps[0].sum(), {}), NoGradientError),
    (lambda _data, _lps: (torch.tensor(1.0), {}), NoGradientError),
    (lambda _data, lps: (torch.cat(lps), {}), NotScalarError),
]


@pytest.mark.parametrize(("loss", "error"), FAILING, ids=["raises", "missing", "constant", "vector"])
def test_after_a_failed_loss_the_old_client_goes_on(play, loss, error):
    """Up to 0.36.0 the blocking call itself raises, nothing goes backward, and the next id is the next one."""

    async def scenario(model):
        with pytest.raises(error):
            await model.forward_backward_custom(data_of(1, 2), loss)
        await model.optim_step({}).result()

    assert story_of(play(OLD, scenario)[1]) == ["F1", "O2"]


@pytest.mark.parametrize(("loss", "error"), FAILING, ids=["raises", "missing", "constant", "vector"])
def test_after_a_failed_loss_the_new_client_is_poisoned(play, loss, error):
    """In 0.38.0 the result raises, and every later call is refused with the first error as its cause."""

    async def scenario(model):
        pending = await model.forward_backward_custom(data_of(1, 2), loss)
        waiting = model.optim_step({})
        with pytest.raises(error) as first:
            await pending.result()
        for later in (waiting, model.forward_backward(data_of(1, weights=1.0), "cross_entropy")):
            with pytest.raises(PoisonedError) as refused:
                await later.result()
            assert refused.value.__cause__ is first.value

    assert story_of(play(NEW, scenario)[1]) == ["F1"]


def test_data_without_a_datum(play):
    """Up to 0.18.1 nothing is sent: plain calls give an empty output and a custom loss runs; then it is refused."""

    async def old(model):
        plain = [model.forward([], "cross_entropy"), model.forward_backward([], "cross_entropy")]
        custom = await model.forward_backward_custom(
            [], lambda data, lps: (torch.ones((), requires_grad=True), {"seen": float(len(data) + len(lps))})
        )
        outputs = [await pending.result() for pending in (*plain, custom)]
        await model.optim_step({}).result()
        return outputs

    outputs, record = play(OLD, old)
    assert [output.outputs for output in outputs] == [[], [], []]
    assert [output.metrics for output in outputs] == [{}, {}, {"seen": 0.0}]
    assert story_of(record) == ["O1"]

    async def new(model):
        for call in (model.forward, model.forward_backward):
            with pytest.raises(InvalidInputError):
                call([], "cross_entropy")
        with pytest.raises(InvalidInputError):
            await model.forward_backward_custom([], _sum)
        await model.optim_step({}).result()

    assert story_of(play(NEW, new)[1]) == ["O1"]


def test_fewer_outputs_than_datums(play):
    """0.7.0 trains on what it has, 0.8.0 and later refuse."""
    script = Script(logprobs=TABLE, outputs=Outputs(drop=1))

    async def truncated(model):
        return await (await model.forward_backward_custom(data_of(1, 2, 1), _sum)).result()

    _, record = play(OLD, truncated, script=script)
    assert weights_of(record) == [[-1.0], [-1.0, -1.0]]

    async def refused(model):
        with pytest.raises(BadOutputError, match="2 outputs for 3 datums"):
            await model.forward_backward_custom(data_of(1, 2, 1), _sum)

    assert story_of(play("0.8.0", refused, script=script)[1]) == ["F1"]


def test_logprobs_without_a_decimal_point(play):
    """Whole JSON numbers make an integer tensor, which no release up to 0.18.2 can differentiate."""
    script = Script(logprobs=Logprobs(kind="table", table=(-1.0,)), outputs=Outputs(integers=True))

    async def scenario(model):
        with pytest.raises(BadOutputError, match="floating-point"):
            await model.forward_backward_custom(data_of(2), _sum)

    play(OLD, scenario, script=script)


def test_numbers_that_are_not_finite(play):
    """JSON cannot carry them and nothing is sent; protobuf sends them."""

    def endless(_data, lps):
        return sum((lp * float("inf")).sum() for lp in lps), {}

    async def refused(model):
        pending = await model.forward_backward_custom(data_of(2), endless)
        with pytest.raises(InvalidInputError, match="finite"):
            await pending.result()

    assert story_of(play(OLD, refused)[1]) == ["F1"]

    async def sent(model):
        await (await model.forward_backward_custom(data_of(2), endless)).result()

    assert weights_of(play(NEW, sent)[1]) == [[-np.inf, -np.inf]]


def test_an_unusable_metric_is_told_after_the_gradient(play):
    """A name without a reduction makes the result unusable, in each era; the client goes on."""
    script = Script(logprobs=TABLE, metrics=Metrics(forward_backward=({"loss:sum": 1.0, "nocolon": 2.0},)))

    async def scenario(model):
        with pytest.raises(BadOutputError, match="nocolon"):
            await model.forward_backward(data_of(2, weights=1.0), "cross_entropy").result()
        await model.optim_step({}).result()

    for release in (OLD, NEW):
        assert story_of(play(release, scenario, script=script)[1]) == ["B1", "O2"]


@pytest.mark.parametrize(("release", "polls"), [("0.13.1", [None]), ("0.15.0", [True, False]), (NEW, [True, False])])
def test_metadata_first(play, release, polls):
    """From 0.14.0 a poll allows an answer with metadata only; the next one does not."""

    async def scenario(model):
        await model.optim_step({}).result()

    _, record = play(release, scenario, script=Script(polls=Polls(metadata_only=True)))
    asked = [exchange for exchange in record.exchanges if exchange.route == "retrieve_future"]
    optim = [e for e in asked if e.headers["x-tinker-request-type"] == "OptimStep"]
    assert [exchange.body.get("allow_metadata_only") for exchange in optim] == polls


def test_saving_and_loading(play):
    """Paths come back, the optimizer flag says which load it is, and get_info carries no seq_id."""

    async def scenario(model):
        saved = await model.save_state("ck").result()
        sampler = await model.save_weights_for_sampler("s").result()
        await model.load_state(saved["path"]).result()
        await model.load_state_with_optimizer(saved["path"]).result()
        info = await model.get_info()
        return saved, sampler, info

    for release, asked in ((OLD, 1), (NEW, 1)):
        (saved, sampler, info), record = play(release, scenario)
        assert saved["path"].startswith("tinker://")
        assert sampler["path"].startswith("tinker://")
        assert info["model_id"]
        loads = [e.body for e in record.exchanges if e.route == "load_weights"]
        assert [body["optimizer"] for body in loads] == [False, True]
        infos = [e for e in record.exchanges if e.route == "get_info"]
        assert len(infos) == asked
        assert all("seq_id" not in e.body for e in infos)
        # 0.38.0 asks when the model is created, 0.7.0 when the caller does.
        saves = [e.ordinal for e in record.exchanges if e.route == "save_weights"]
        assert (infos[0].ordinal < saves[0]) == (release == NEW)


def test_labels_of_golden_traces(play):
    """Requests of a call carry its label, and those of a custom call their phase."""

    async def scenario(model):
        await (await model.forward_backward_custom(data_of(2), _sum, call="fb")).result()
        await model.optim_step({}, call="opt").result()

    _, record = play(NEW, scenario)
    told = [
        (e.route, e.headers.get("x-parity-call"), e.headers.get("x-parity-phase"))
        for e in record.exchanges
        if e.route in ("create_model", *PASSES, "optim_step", "session/finish", "create_session")
    ]
    assert told == [
        ("create_session", None, None),
        ("create_model", "model", None),
        ("forward_backward", "fb", "forward"),
        ("forward_backward", "fb", "backward"),
        ("optim_step", "opt", None),
        ("session/finish", "close", None),
    ]


def test_one_replaced_step_is_a_wrong_client(play):
    """A behaviour with one function replaced does that one thing differently: weights of the wrong sign."""

    async def scenario(model):
        await (await model.forward_backward_custom(data_of(2), _sum)).result()

    _, record = play(NEW, scenario, change=lambda right: replace(right, weigh=lambda gradient: gradient))
    assert weights_of(record) == [[1.0, 1.0]]


@pytest.mark.parametrize("release", TIMELINE.described)
def test_every_described_release_trains(play, release):
    """A custom call and an optimizer step work at every point of the timeline."""

    async def scenario(model):
        await (await model.forward_backward_custom(data_of(2, 1), _sum)).result()
        return await model.optim_step({"learning_rate": 0.1}).result()

    _, record = play(release, scenario, script=Script())
    assert len(record.optimizer_states) == 1
    assert np.abs(record.optimizer_states[0].gradient).sum() > 0
