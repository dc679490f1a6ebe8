"""From record to trace: what differs between equal runs goes, everything that can be judged stays."""

from __future__ import annotations

from dataclasses import replace

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.drivers.protocol import StepResult
from harness.trace.normalise import make_trace
from mock_server import MockServer
from mock_server.record import Batch, Datum, Exchange, Gap, Operation, OptimizerState, Record, Tensor, Violation

ALIASES = {
    "s-4f1a": "session-1",
    "m-77": "model-1",
    "m-78": "model-2",
    "tinker://m-77/weights/ck": "tinker://model-1/weights/ck",
    "req-1": "request-1",
}


def exchange(ordinal, route, body, **changes):
    """Return an answered exchange that arrived at 10 x ordinal ms and was answered 5 ms later."""
    plain = Exchange(
        ordinal=ordinal,
        at_ms=10.0 * ordinal,
        answered_ms=10.0 * ordinal + 5,
        connection="c1",
        method="POST",
        path=f"/api/v1/{route}",
        route=route,
        headers={"content-type": "application/json", "host": "127.0.0.1:4711", "x-idempotency-key": "9a2c"},
        encoding="json",
        compressed=False,
        size=2,
        body=body,
        batch=None,
        unknown_fields=(),
        status=200,
        response={},
    )
    return replace(plain, **changes)


def trace_of(*exchanges, steps=(), **record):
    """Return the trace of a record of these exchanges."""
    return make_trace("a/b", "d" * 64, "tinker-0.38.0", Record(tuple(exchanges), aliases=ALIASES, **record), steps)


def test_ids_become_aliases_everywhere():
    """Ids are replaced whole, inside paths, in nested bodies, in step fields, gaps, violations and training."""
    state = OptimizerState("m-77", 1, np.zeros((1, 1)), np.ones((1, 1)))
    trace = trace_of(
        exchange(0, "create_model", {"session_id": "s-4f1a"}),
        exchange(1, "load_weights", {"model_id": "m-77", "seq_id": 1, "path": "tinker://m-77/weights/ck"}),
        exchange(2, "save_weights", {"model_id": "m-77", "seq_id": 2, "deep": [{"of": "x/m-77/y"}]}),
        steps=[StepResult("save", "ok", fields={"path": "tinker://m-77/weights/ck"})],
        gaps=(Gap("m-77", (3,), (4,)),),
        violations=(Violation("unknown-path", "POST /m-77", 2),),
        optimizer_states=(state,),
    )
    assert trace.control[0].body == {"session_id": "session-1"}
    assert trace.requests[0].body == {"model_id": "model-1", "path": "tinker://model-1/weights/ck"}
    assert trace.requests[1].body["deep"] == [{"of": "x/model-1/y"}]
    assert trace.steps[0].fields == {"path": "tinker://model-1/weights/ck"}
    assert (trace.gaps[0].model_id, trace.violations[0].message) == ("model-1", "POST /model-1")
    assert trace.training[0].model == "model-1"


def test_seq_id_is_a_field_of_its_own_and_versions_are_placeholders():
    """seq_id leaves the body, a null stays a null, and no version of any SDK is left."""
    trace = trace_of(
        exchange(0, "create_session", {"sdk_version": "0.38.0", "project_id": None}),
        exchange(
            1,
            "optim_step",
            {"model_id": "m-77", "seq_id": 7, "adam_params": {}},
            headers={
                "user-agent": "AsyncTinker/Python 0.38.0",
                "x-sdk-version": "0.38.0",
                "x-sdk-method": "TrainingClient.optim_step",
                "x-idempotency-key": "9a2c",
                "x-stainless-retry-count": "0",
                "x-parity-call": "opt",
                "x-parity-phase": "",
                "x-api-key-of-nobody": "1",
            },
        ),
    )
    assert trace.control[0].body == {"sdk_version": "<version>", "project_id": None}
    request = trace.requests[0]
    assert (request.seq_id, request.call, request.phase) == (7, "opt", "")
    assert request.body == {"model_id": "model-1", "adam_params": {}}
    assert request.headers == {
        "user-agent": "AsyncTinker/Python <version>",
        "x-sdk-version": "<version>",
        "x-sdk-method": "TrainingClient.optim_step",
        "x-idempotency-key": "<key>",
        "x-stainless-retry-count": "0",
    }


def test_resends_polls_and_background_traffic_are_folded():
    """A resend counts as a send, polls are distinct ways, heartbeats and refreshes leave no trace."""
    poll = {"x-tinker-request-type": "OptimStep", "accept": "application/json"}
    trace = trace_of(
        exchange(0, "client/dynamic_config", {}),
        exchange(1, "optim_step", {"model_id": "m-77", "seq_id": 1}, status=503),
        exchange(2, "optim_step", {"model_id": "m-77", "seq_id": 1}, resend_of=1),
        exchange(3, "session_heartbeat", {"session_id": "s-4f1a"}),
        exchange(4, "telemetry", {}),
        exchange(5, "client/dynamic_config", {}),
        exchange(6, "retrieve_future", {"request_id": "req-1"}, headers=poll),
        exchange(7, "retrieve_future", {"request_id": "req-1"}, headers=poll),
        exchange(8, "retrieve_future", {"request_id": "req-1", "allow_metadata_only": True}, headers=poll),
    )
    assert [r.route for r in trace.control] == ["client/dynamic_config"]
    assert [(r.route, r.sends) for r in trace.requests] == [("optim_step", 2)]
    assert [(r.request_type, r.accept, r.body_keys) for r in trace.retrievals] == [
        ("OptimStep", "application/json", ("allow_metadata_only", "request_id")),
        ("OptimStep", "application/json", ("request_id",)),
    ]


def test_get_info_of_a_models_set_up_is_control_later_ones_are_operations():
    """Every get_info before a model's other operations belongs to its set-up; later ones are requests."""
    trace = trace_of(
        exchange(0, "create_model", {"session_id": "s-4f1a"}),
        exchange(1, "get_info", {"model_id": "m-77"}),
        exchange(2, "get_info", {"model_id": "m-77"}),
        exchange(3, "optim_step", {"model_id": "m-78", "seq_id": 1}),
        exchange(4, "get_info", {"model_id": "m-78"}),
    )
    assert [r.route for r in trace.control] == ["create_model", "get_info", "get_info"]
    assert [(r.model, r.effect) for r in trace.requests] == [
        ("model-2", "optim_step"),
        ("model-2", "get_info"),
    ]


def test_an_unknown_path_is_a_violation_and_no_request():
    """A request to a path that no era knows is left to the server's own judgement."""
    trace = trace_of(exchange(0, "?", {}), violations=(Violation("unknown-path", "POST /x", 0),))
    assert (trace.control, trace.requests) == ((), ())
    assert [v.code for v in trace.violations] == ["unknown-path"]


def test_effects_results_and_data_belong_to_their_request():
    """forward_only makes a forward; outputs and metrics are those of the operation the request submitted."""
    batch = Batch((Datum(np.array([1]), {}),), {})
    out = ({"logprobs": Tensor("float32", (1,), np.array([-1.0], "f4"))},)
    trace = trace_of(
        exchange(0, "forward_backward", {"model_id": "m-77", "seq_id": 1, "forward_only": True}, batch=batch),
        exchange(1, "forward_backward", {"model_id": "m-77", "seq_id": 2}, batch=batch),
        operations=(Operation("m-77", 1, "forward", 0, out, {"loss:sum": 1.0}),),
    )
    assert [r.effect for r in trace.requests] == ["forward", "forward_backward"]
    assert trace.requests[0].outputs == out
    assert trace.requests[0].metrics == {"loss:sum": 1.0}
    assert trace.requests[1].outputs == ()


@given(st.permutations([1, 2, 3, 4]))
def test_requests_are_in_canonical_order_however_they_arrive(ids):
    """Requests are listed by id, with the rank of their arrival and how many of their model were answered before."""
    trace = trace_of(
        *(exchange(n, "optim_step", {"model_id": "m-77", "seq_id": seq}) for n, seq in enumerate(ids)),
    )
    assert [r.seq_id for r in trace.requests] == [1, 2, 3, 4]
    assert [r.arrival for r in trace.requests] == [ids.index(seq) for seq in (1, 2, 3, 4)]
    assert [r.sent_after for r in trace.requests] == [r.arrival for r in trace.requests]


def test_sent_after_counts_only_answers_that_came_before_and_only_the_same_model():
    """A request that is still open, or of another model, is nobody's predecessor."""
    trace = trace_of(
        exchange(0, "optim_step", {"model_id": "m-77", "seq_id": 1}, answered_ms=100.0),
        exchange(1, "optim_step", {"model_id": "m-78", "seq_id": 1}),
        exchange(2, "optim_step", {"model_id": "m-77", "seq_id": 2}, answered_ms=None),
        exchange(30, "optim_step", {"model_id": "m-77", "seq_id": 3}),
    )
    assert {(r.model, r.seq_id): r.sent_after for r in trace.requests} == {
        ("model-1", 1): 0,
        ("model-1", 2): 0,
        ("model-1", 3): 1,
        ("model-2", 1): 0,
    }


@pytest.mark.parametrize("value", [True, "7", None, 1.5])
def test_what_is_no_id_is_not_taken_for_one(value):
    """A seq_id that is no whole number is none."""
    trace = trace_of(exchange(0, "optim_step", {"model_id": "m-77", "seq_id": value}))
    assert trace.requests[0].seq_id is None


def test_two_runs_on_a_server_give_the_same_trace():
    """Over real sockets, two tenants that do the same leave equal traces without an id or a port."""

    def run(server):
        tenant = server.open_tenant()
        with httpx.Client(base_url=f"{server.base_url}/api/v1", headers={"x-api-key": tenant.api_key}) as http:
            session = http.post("/create_session", json={"tags": [], "sdk_version": "0.7.0"}).json()["session_id"]
            made = http.post("/create_model", json={"session_id": session, "base_model": "parity/tiny-bigram"}).json()
            model = http.post("/retrieve_future", json={"request_id": made["request_id"]}).json()["model_id"]
            datum = {
                "model_input": {"chunks": [{"tokens": [1, 2]}]},
                "loss_fn_inputs": {"target_tokens": {"data": [2, 3], "dtype": "int64", "shape": [2]}},
            }
            sent = http.post(
                "/forward",
                json={
                    "forward_input": {"data": [datum], "loss_fn": "cross_entropy", "loss_fn_config": None},
                    "model_id": model,
                    "seq_id": 1,
                },
            ).json()
            http.post("/retrieve_future", json={"request_id": sent["request_id"]})
        record = tenant.record()
        tenant.close()
        return make_trace("a/b", "d" * 64, "tinker-0.7.0", record, []), {session, model, *record.aliases}

    with MockServer() as server:
        (one, ids), (other, _) = run(server), run(server)
    assert [r.route for r in one.control] == ["create_session", "create_model"]
    forward = one.requests[0]
    assert (forward.effect, forward.model, forward.seq_id) == ("forward", "model-1", 1)
    assert forward.body == {
        "forward_input": {"loss_fn": "cross_entropy", "loss_fn_config": None},
        "model_id": "model-1",
    }
    assert forward.batch.datums[0].tokens.tolist() == [1, 2]
    assert len(forward.outputs) == 1
    assert [r.body for r in (*one.control, *one.requests)] == [r.body for r in (*other.control, *other.requests)]
    assert not [i for i in ids if any(i in str(r.body) for r in (*one.control, *one.requests))]
