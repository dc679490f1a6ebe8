"""The server in replay: answers from a trace, everything else as ever."""

from __future__ import annotations

import numpy as np
import pytest
from httpx import Client
from hypothesis import given
from hypothesis import strategies as st
from traces import full_run

from harness.trace.replay import answers
from mock_server import MockServer
from mock_server.execution import UncomputableError
from mock_server.record import Batch, Datum, Tensor
from mock_server.replay import Canned, NotInTraceError, Replayer
from mock_server.wire.results import protobuf_result


def _canned(call, number, *tokens, failure=""):
    outputs = ({"logprobs": Tensor("float32", (1,), np.float32([-number]))},)
    data = tuple(np.array([token], dtype=np.int64).tobytes() for token in tokens)
    return Canned(call=call, outputs=outputs, metrics={"loss:sum": float(number)}, failure=failure, data=data)


def _batch(*tokens):
    return Batch(tuple(Datum(np.array([token], dtype=np.int64), {}) for token in tokens), {})


def _numbers(replayer, *requests, kind="forward"):
    """Return the number that each request is answered with, None where there is no answer."""
    given_numbers = []
    for request in requests:
        try:
            replayer.begin(kind, request)
        except NotInTraceError:
            given_numbers.append(None)
        else:
            given_numbers.append(replayer.forward(request).metrics["loss:sum"])
    return given_numbers


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_requests_as_in_the_trace_get_their_own_answers(sizes):
    """However many requests calls have, with data of their own or all the same, the k-th gets the k-th answer."""
    for distinct in (True, False):
        line = [
            _canned(f"call-{call}", 10 * call + chunk, call if distinct else 7)
            for call, size in enumerate(sizes)
            for chunk in range(size)
        ]
        requests = [_batch(call if distinct else 7) for call, size in enumerate(sizes) for _ in range(size)]
        assert _numbers(Replayer({"forward": line}), *requests) == [answer.metrics["loss:sum"] for answer in line]


def test_a_request_too_few_does_not_shift_the_next_call():
    """A call that sends one request of two leaves the other answer unused; the next call gets its own."""
    line = [_canned("a", 1, 1), _canned("a", 2, 1), _canned("b", 3, 2)]
    assert _numbers(Replayer({"forward": line}), _batch(1), _batch(2)) == [1.0, 3.0]


def test_a_request_too_many_does_not_take_the_last_answer_of_another_call():
    """An extra request takes an answer of a call of other data only when nothing of its own is left."""
    line = [_canned("a", 1, 1), _canned("b", 2, 2), _canned("b", 3, 2)]
    replayer = Replayer({"forward": line})
    assert _numbers(replayer, _batch(1), _batch(2), _batch(2), _batch(1)) == [1.0, 2.0, 3.0, None]


@given(st.permutations([1, 2, 3, 3, 4]), st.lists(st.integers(1, 3), min_size=5, max_size=5))
def test_however_a_call_is_cut_each_datum_gets_its_own_output(tokens, sizes):
    """Outputs follow the data, equal datums in turn, and the next call, about the same data, is not touched."""

    def answer(call, numbers):
        outputs = tuple({"logprobs": Tensor("float32", (1,), np.float32([number]))} for number in numbers)
        data = tuple(np.array([tokens[number % 10]], dtype=np.int64).tobytes() for number in numbers)
        return Canned(call=call, outputs=outputs, data=data)

    replayer = Replayer({"forward": [answer("a", [0, 1, 2]), answer("a", [3, 4]), answer("b", [10, 11, 12, 13, 14])]})
    got, start = [], 0
    for size in sizes:
        batch = _batch(*tokens[start : start + size])
        if batch.datums:
            replayer.begin("forward", batch)
            got += [float(output["logprobs"].values[0]) for output in replayer.forward(batch).outputs]
        start += size
    assert got == [0, 1, 2, 3, 4]
    replayer.begin("forward", _batch(*tokens))
    assert [float(output["logprobs"].values[0]) for output in replayer.forward(_batch(*tokens)).outputs] == [
        *range(10, 15)
    ]


def test_what_the_trace_does_not_have_is_said():
    """Nothing left of a kind, and a kind that never came, are told apart."""
    replayer = Replayer({"forward": [_canned("a", 1, 1)]})
    replayer.begin("forward", _batch(1))
    with pytest.raises(NotInTraceError, match="all 1 answers to forward were given"):
        replayer.begin("forward", _batch(1))
    with pytest.raises(NotInTraceError, match="it has no optim_step"):
        replayer.begin("optim_step", None)


def test_an_operation_that_failed_fails_again():
    """The message of a failure is part of the trace, and is answered again."""
    with pytest.raises(UncomputableError, match="no weights there"):
        Replayer({"load_weights": [_canned("a", 1, failure="no weights there")]}).begin("load_weights", None)


def test_a_trace_gives_its_answers_in_the_order_of_effect():
    """Answers are by model and effect; numbers are those of the trace, whatever the order of arrival was."""
    trace = full_run()
    replay = answers(trace)
    for model, kinds in replay.items():
        for kind, line in kinds.items():
            mine = [r for r in trace.requests if r.model == model and r.effect == kind]
            assert [answer.metrics for answer in line] == [r.metrics for r in mine]
    assert {"forward", "forward_backward", "optim_step"} <= replay["model-1"].keys()


class _ByHand:
    """A client with one model, over real sockets."""

    def __init__(self, http):
        self.http = http
        session = self.post("create_session", {})["session_id"]
        self.model = self.post("create_model", {"session_id": session, "model_seq_id": 0, "base_model": "b"})[
            "model_id"
        ]

    def post(self, route, body, **headers):
        response = self.http.post(f"/api/v1/{route}", json=body, headers=headers)
        response.raise_for_status()
        return response.json()

    def forward_backward(self, seq_id, weight):
        tensors = {
            "target_tokens": {"data": [2], "dtype": "int64", "shape": [1]},
            "weights": {"data": [weight], "dtype": "float32", "shape": [1]},
        }
        datum = {"loss_fn_inputs": tensors, "model_input": {"chunks": [{"tokens": [1], "type": "encoded_text"}]}}
        under = {"data": [datum], "loss_fn": "cross_entropy"}
        return self.post(
            "forward_backward", {"model_id": self.model, "seq_id": seq_id, "forward_backward_input": under}
        )["request_id"]

    def poll(self, request_id, **headers):
        return self.http.post("/api/v1/retrieve_future", json={"request_id": request_id}, headers=headers)


@pytest.fixture
def replayed():
    """Yield a client of a server that has two answers to forward_backward, and its tenant."""
    line = [_canned("a", 1, 1), _canned("b", 2, 1)]
    with MockServer() as server:
        tenant = server.open_tenant(replay={"model-1": {"forward_backward": line}})
        with Client(base_url=server.base_url, headers={"x-api-key": tenant.api_key}, trust_env=False) as http:
            yield _ByHand(http), tenant


def test_results_come_in_turn_and_in_the_encoding_that_is_accepted(replayed):
    """Operations still take effect by seq_id; wrong weights change no answer; protobuf for whoever accepts it."""
    client, tenant = replayed
    second = client.forward_backward(2, weight=1000.0)
    first = client.forward_backward(1, weight=-1000.0)
    assert client.poll(first).json()["loss_fn_outputs"][0]["logprobs"]["data"] == [-1.0]
    answer = client.poll(second, accept="application/x-protobuf")
    outputs, metrics = protobuf_result(answer.content)
    assert outputs[0]["logprobs"].values.tolist() == [-2.0]
    assert metrics == {"loss:sum": 2.0}
    assert tenant.record().violations == ()


def test_what_there_is_no_answer_to_fails_and_is_recorded(replayed):
    """A third operation gets a failed future that says why, and the record names the request."""
    client, tenant = replayed
    submitted = [client.forward_backward(number, weight=1.0) for number in (1, 2, 3)]
    failed = client.poll(submitted[2]).json()
    assert failed["status"] == "failed"
    assert "does not say what to answer" in failed["error"]
    record = tenant.record()
    assert [violation.code for violation in record.violations] == ["not-in-trace"]
    assert record.violations[0].request in record.failures
    assert [operation.metrics for operation in record.operations] == [{"loss:sum": 1.0}, {"loss:sum": 2.0}]
