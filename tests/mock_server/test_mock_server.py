"""The server over real sockets: sessions, submissions, turns, resends, gaps, polls."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import httpx
import numpy as np
import pytest
import zstandard
from by_hand import Client, connected, json_datum, proto_request, proto_tensor, serving

from mock_server import MockServer, Registry, Script
from mock_server.handlers import training
from mock_server.script import Logprobs, ModelSpec, Outputs, Polls
from mock_server.wire import tinker_wire_pb2 as pb

ONE = [json_datum([1, 2], [3, 4], [1.0, 0.5])]
ACCEPT_PROTOBUF = {"accept": "application/x-protobuf"}


def codes(client: Client) -> list[str]:
    """Return the codes of the violations so far."""
    return [violation.code for violation in client.tenant.record().violations]


# --- keys and sessions ---


def test_an_unknown_key_and_a_missing_one_are_refused(server: MockServer) -> None:
    """401, and nothing is recorded anywhere: there is no tenant to record it."""
    with httpx.Client(base_url=server.base_url, trust_env=False) as http:
        missing = http.post("/api/v1/create_session", json={})
        unknown = http.post("/api/v1/create_session", json={}, headers={"x-api-key": "tml-nobody"})
        health = http.get("/api/v1/healthz")
    assert (missing.status_code, unknown.status_code) == (401, 401)
    assert "x-api-key" in missing.json()["detail"]
    assert (health.status_code, health.json()) == (200, {"status": "ok"})


def test_a_clean_start_and_exit(client: Client) -> None:
    """Configuration, capabilities, telemetry, heartbeat, description, unloading, finish; heartbeats then get 410."""
    assert client.post("client/config", {"sdk_version": "1"}) == {}
    assert client.post("client/dynamic_config", {"sdk_version": "1"}) == {}
    assert client.send("get_server_capabilities", method="GET").json()["supported_models"][0]["trainable"] is True
    assert client.post("telemetry", {"events": [], "session_id": client.session_id}) == {"status": "accepted"}
    assert client.post("session_heartbeat", {"session_id": client.session_id}) == {"type": "session_heartbeat"}
    info = client.post("get_info", {"model_id": client.model_id})
    assert (info["model_id"], info["lora_rank"], info["model_data"]["model_name"]) == (client.model_id, 4, "b")
    unloaded = client.result(client.post("unload_model", {"model_id": client.model_id}))
    assert unloaded == {"model_id": client.model_id, "type": "unload_model"}
    path = f"sessions/{client.session_id}/finish"
    for reason in ("success", "errored"):
        assert client.post(path, {"reason": {"type": reason}, "detail": None}) == {}
    assert client.tenant.sessions[client.session_id].finished == {"reason": {"type": "success"}, "detail": None}
    for route, body in (
        ("session_heartbeat", {"session_id": client.session_id}),
        ("get_info", {"model_id": client.model_id}),
        ("create_model", {"session_id": client.session_id, "base_model": "b"}),
    ):
        assert client.send(route, body).status_code == 410
    assert codes(client) == []


def test_what_does_not_exist_is_404(client: Client) -> None:
    """Sessions, models and requests of nobody; every SDK raises on 404 at once."""
    for route, body in (
        ("session_heartbeat", {"session_id": "x"}),
        ("sessions/x/finish", {}),
        ("create_model", {"session_id": "x", "base_model": "b"}),
        ("get_info", {"model_id": "x"}),
        ("optim_step", {"model_id": "x"}),
        ("retrieve_future", {"request_id": "x"}),
        ("load_weights", {"path": "tinker://x", "session_id": client.session_id}),
    ):
        response = client.send(route, body)
        assert (response.status_code, "there " in response.json()["detail"]) == (404, True), route


def test_the_client_configuration_is_the_scripts(server: MockServer) -> None:
    """client/config answers the script's words verbatim."""
    config = {"fwdbwd_max_chunk_len": 3, "unheard_of": {"a": [1]}}
    with connected(server, Script(client_config=config)) as client:
        assert client.post("client/config", {"sdk_version": "1"}) == config


def test_a_models_creation_is_answered_at_once_and_as_a_future(client: Client) -> None:
    """The model id is in the immediate answer and in the future's result; a resend creates nothing."""
    body = {"session_id": client.session_id, "model_seq_id": 1, "base_model": "b"}
    created = client.post("create_model", body)
    assert created["model_id"].endswith(":train:1")
    assert client.result(created) == {"model_id": created["model_id"], "type": "create_model"}
    assert client.post("create_model", body) == created
    other = client.send("create_model", body | {"base_model": "c"})
    assert (other.status_code, "model_seq_id 1" in other.json()["detail"]) == (422, True)
    assert sorted(client.tenant.record().aliases.values())[:2] == ["model-1", "model-2"]


# --- operations ---


def test_a_json_pass_answers_logprobs_and_metrics(server: MockServer) -> None:
    """Shapes, dtypes and `loss:sum` of a forward, in JSON."""
    with connected(server, Script(logprobs=Logprobs("table", (-0.5, -1.0, -1.5, -2.0, -2.5)))) as client:
        assert client.result(client.forward(1, ONE)) == {
            "loss_fn_output_type": "ArrayRecord",
            "loss_fn_outputs": [{"logprobs": {"data": [-2.0, -2.5], "dtype": "float32", "shape": [2]}}],
            "metrics": {"loss:sum": 3.25},
            "type": "forward_backward",
        }


def test_a_protobuf_pass_answers_what_the_accept_header_asks_for(client: Client) -> None:
    """The same operation, sent as protobuf under zstd, is answered in either format with the same numbers."""
    inputs = {
        "target_tokens": proto_tensor(np.array([3, 4])),
        "weights": proto_tensor(np.array([1, 0.5], dtype=np.float32)),
    }
    raw = proto_request(client.model_id, 1, [([1, 2], inputs)], forward_only=True).SerializeToString()
    headers = {"content-type": "application/x-protobuf", "content-encoding": "zstd"}
    submitted = client.send("forward_backward", content=zstandard.compress(raw), headers=headers).json()
    as_json = client.result(submitted)
    response = client.poll(submitted, headers=ACCEPT_PROTOBUF)
    assert response.headers["content-type"] == "application/x-protobuf"
    message = pb.ForwardBackwardOutput.FromString(response.content)
    values = np.frombuffer(message.loss_fn_outputs[0].fields["logprobs"].data, dtype="<f4")
    assert values.tolist() == as_json["loss_fn_outputs"][0]["logprobs"]["data"]
    assert dict(message.metrics) == as_json["metrics"]
    record = client.tenant.record()
    exchange = next(e for e in record.exchanges if e.route == "forward_backward")
    assert (exchange.encoding, exchange.compressed) == ("protobuf", True)
    assert exchange.body == {
        "model_id": client.model_id,
        "seq_id": 1,
        "loss_fn": "cross_entropy",
        "forward_only": True,
    }
    assert [operation.kind for operation in record.operations] == ["forward"]
    assert record.operations[0].outputs[0]["logprobs"].values.tolist() == values.tolist()


def test_a_json_result_can_be_asked_for_beside_protobuf(client: Client) -> None:
    """Releases 0.19 to 0.24 accept both and get protobuf; results without a protobuf form are JSON for everyone."""
    submitted = client.forward(1, ONE)
    both = client.poll(submitted, headers={"accept": "application/x-protobuf, application/json"})
    assert both.headers["content-type"] == "application/x-protobuf"
    step = client.poll(client.optim_step(2), headers=ACCEPT_PROTOBUF)
    assert (step.headers["content-type"], step.json()) == ("application/json", {"metrics": {}, "type": "optim_step"})


def test_training_happens(server: MockServer) -> None:
    """forward_backward, optim_step, save, load: parameters move as SGD says and come back."""
    with connected(server, Script(model=ModelSpec(optimizer="sgd", vocab=8))) as client:
        client.forward_backward(1, ONE)
        client.optim_step(2, learning_rate=0.5)
        saved = client.post("save_weights", {"model_id": client.model_id, "path": "ck", "seq_id": 3})
        path = client.result(saved)["path"]
        client.forward_backward(4, ONE)
        client.optim_step(5, learning_rate=0.5)
        body = {"model_id": client.model_id, "path": path, "seq_id": 6, "optimizer": True}
        loaded = client.result(client.post("load_weights", body))
        assert loaded == {"path": path, "model_id": client.model_id, "type": "load_weights"}
        client.optim_step(7, learning_rate=0.5)
        record = client.tenant.record()
        first, second, third = record.optimizer_states
        assert path == f"tinker://{client.model_id}/weights/ck"
        assert record.aliases[path] == "tinker://model-1/weights/ck"
        np.testing.assert_array_equal(third.parameters, first.parameters)
        assert not third.gradient.any()
        assert np.abs(second.parameters - first.parameters).max() > 0.01
        assert [(o.seq_id, o.kind) for o in record.operations] == [
            (1, "forward_backward"),
            (2, "optim_step"),
            (3, "save_weights"),
            (4, "forward_backward"),
            (5, "optim_step"),
            (6, "load_weights"),
            (7, "optim_step"),
        ]


def test_optimizer_parameters_default_to_the_services(client: Client) -> None:
    """An optim_step that sends only a learning rate equals one that spells beta2 0.95 and eps 1e-12."""
    spelled = client.post("create_model", {"session_id": client.session_id, "model_seq_id": 1, "base_model": "b"})
    client.forward_backward(1, ONE)
    client.optim_step(2, learning_rate=0.01)
    client.model_id = spelled["model_id"]
    client.forward_backward(1, ONE)
    client.optim_step(2, learning_rate=0.01, beta1=0.9, beta2=0.95, eps=1e-12, weight_decay=0, grad_clip_norm=0)
    one, two = client.tenant.record().optimizer_states
    np.testing.assert_array_equal(one.parameters, two.parameters)


def test_saving_for_sampling_names_a_path_or_a_session(client: Client) -> None:
    """A name gives a path; none, with a sampling_session_seq_id, gives a session; none at all a generated name."""
    base = {"model_id": client.model_id}
    named = client.result(client.post("save_weights_for_sampler", base | {"path": "s", "seq_id": 1}))
    session = client.result(client.post("save_weights_for_sampler", base | {"sampling_session_seq_id": 0, "seq_id": 2}))
    unnamed = client.result(client.post("save_weights", base | {"seq_id": 3}))
    assert named["path"] == f"tinker://{client.model_id}/sampler_weights/s"
    assert (session["path"], client.tenant.record().aliases[session["sampling_session_id"]]) == (
        None,
        "sampling-session-1",
    )
    assert unnamed["path"].endswith("/weights/unnamed-1")


def test_a_model_can_be_created_by_loading(client: Client) -> None:
    """Later releases load onto a session: the new model has the checkpoint's parameters and counts from 1."""
    client.forward_backward(1, ONE)
    client.optim_step(2, learning_rate=0.1)
    path = client.result(client.post("save_weights", {"model_id": client.model_id, "path": "ck", "seq_id": 3}))["path"]
    body = {"session_id": client.session_id, "model_seq_id": 1, "path": path, "optimizer": False}
    loaded = client.post("load_weights", body)
    assert client.result(loaded)["model_id"] == loaded["model_id"]
    assert client.post("load_weights", body) == loaded
    logprobs = client.result(client.forward(4, ONE))
    client.model_id = loaded["model_id"]
    assert client.result(client.forward(1, ONE)) == logprobs
    assert client.send("load_weights", {"path": path}).status_code == 422


@pytest.mark.parametrize(
    ("route", "body", "message"),
    [
        ("forward", {"forward_input": {"data": ONE, "loss_fn": "ppo"}}, "only 'cross_entropy'"),
        ("forward", {"forward_input": {"data": [json_datum([99], [1])], "loss_fn": "cross_entropy"}}, "outside"),
        ("load_weights", {"path": "tinker://nowhere"}, "no weights"),
        ("optim_step", {"optimizer_params": {"type": "dimuon"}}, "dimuon"),
    ],
)
def test_what_cannot_be_computed_fails_its_future(
    client: Client, route: str, body: dict[str, Any], message: str
) -> None:
    """The request is accepted, the future fails with category `user` and a string; later operations go on."""
    submitted = client.post(route, body | {"model_id": client.model_id, "seq_id": 1})
    failure = client.result(submitted)
    assert (failure["status"], failure["category"]) == ("failed", "user")
    assert message in failure["error"]
    assert client.result(client.optim_step(2)) == {"metrics": {}, "type": "optim_step"}
    assert [o.seq_id for o in client.tenant.record().operations] == [2]


def test_an_unloaded_model_fails_what_comes_later(client: Client) -> None:
    """Held or new, an operation on an unloaded model fails its future."""
    held = client.optim_step(2)
    client.post("unload_model", {"model_id": client.model_id})
    assert client.result(client.optim_step(1))["category"] == "user"
    assert client.result(held)["category"] == "user"


# --- turns, resends, reuse, gaps ---


@pytest.mark.parametrize("arrivals", list(itertools.permutations([1, 2, 3])))
def test_operations_take_effect_in_seq_id_order(client: Client, arrivals: tuple[int, ...]) -> None:
    """Backward 1, step 2 and backward 3 arrive in any order; the effect is that of 1, 2, 3."""
    submitted = {}
    for seq_id in arrivals:
        submitted[seq_id] = client.optim_step(2) if seq_id == 2 else client.forward_backward(seq_id, ONE)
    for future in submitted.values():
        client.result(future)
    record = client.tenant.record()
    assert [o.seq_id for o in record.operations] == [1, 2, 3]
    assert [o.kind for o in record.operations] == ["forward_backward", "optim_step", "forward_backward"]
    assert record.optimizer_states[0].gradient.any()
    assert record.gaps == ()


def test_a_resend_is_executed_once(client: Client) -> None:
    """The same seq_id and content, whatever the idempotency key and the key order: the same future, one effect."""
    first = client.forward_backward(1, ONE, headers={"x-idempotency-key": "a"})
    again = client.forward_backward(1, ONE, headers={"x-idempotency-key": "b"})
    turned = dict(reversed(client.training("forward_backward_input", 1, ONE).items()))
    assert first == again == client.post("forward_backward", turned)
    record = client.tenant.record()
    original = next(e.ordinal for e in record.exchanges if e.route == "forward_backward")
    assert [e.resend_of for e in record.exchanges if e.route == "forward_backward"] == [None, original, original]
    assert len(record.operations) == 1


def test_without_a_seq_id_the_idempotency_key_tells_resends(client: Client) -> None:
    """Same key, same future; another key, another effect; no key, another effect."""
    first = client.forward(None, ONE, headers={"x-idempotency-key": "a"})
    assert client.forward(None, ONE, headers={"x-idempotency-key": "a"}) == first
    assert client.forward(None, ONE, headers={"x-idempotency-key": "b"}) != first
    assert client.forward(None, ONE) != client.forward(None, ONE)
    assert len(client.tenant.record().operations) == 4
    session = client.post("create_session", {}, headers={"x-idempotency-key": "s"})
    assert client.post("create_session", {}, headers={"x-idempotency-key": "s"}) == session


def test_a_reused_seq_id_is_refused_by_name(client: Client) -> None:
    """Another body or another route under a used seq_id: 422 at once, naming it, recorded, and not executed."""
    client.forward(1, ONE)
    for response in (
        client.send("forward", client.training("forward_input", 1, [])),
        client.send("optim_step", {"model_id": client.model_id, "seq_id": 1}),
    ):
        assert response.status_code == 422
        assert "seq_id 1 " in response.json()["detail"]
    assert codes(client) == ["seq-reused", "seq-reused"]
    assert len(client.tenant.record().operations) == 1


def test_a_gap_is_declared_after_quiet_and_the_run_goes_on(server: MockServer) -> None:
    """With 2 and 4 missing and only awaits open, the held operations take effect in order; then a late one does."""
    with connected(server, Script(quiet_seconds=0.02)) as client:
        client.optim_step(1)
        last, middle = client.optim_step(5), client.optim_step(3)
        assert client.tenant.record().unfinished == (last["request_id"], middle["request_id"])
        assert client.result(last)["type"] == "optim_step"
        record = client.tenant.record()
        assert [(g.model_id, g.missing, g.held) for g in record.gaps] == [(client.model_id, (2, 4), (3, 5))]
        assert [o.seq_id for o in record.operations] == [1, 3, 5]
        assert record.unfinished == ()
        client.result(client.optim_step(2))
        client.result(client.optim_step(6))
        assert [o.seq_id for o in client.tenant.record().operations] == [1, 3, 5, 2, 6]
        assert len(client.tenant.record().gaps) == 1


def test_no_gap_while_the_missing_request_is_on_its_way(server: MockServer) -> None:
    """A request whose body is still arriving keeps the tenant from being quiet, however long it takes."""
    with connected(server, Script(quiet_seconds=0.02)) as client:
        held = client.optim_step(2)
        release = threading.Event()
        missing = json.dumps({"model_id": client.model_id, "seq_id": 1}).encode()

        def slowly() -> Any:
            yield missing[:5]
            assert release.wait(10)
            yield missing[5:]

        def send() -> None:
            with httpx.Client(
                base_url=str(client.http.base_url), headers={"x-api-key": client.tenant.api_key}, trust_env=False
            ) as http:
                http.post("/api/v1/optim_step", content=slowly(), headers={"content-type": "application/json"})

        arrived = threading.Event()
        begin = client.tenant.begin
        client.tenant.begin = lambda: (begin(), arrived.set())  # type: ignore[method-assign]  # to know it is under way
        sender = threading.Thread(target=send)
        sender.start()
        assert arrived.wait(10)
        client.tenant.hold_seconds = 0.1
        assert client.result(held)["type"] == "try_again"
        assert client.tenant.record().gaps == ()
        client.tenant.hold_seconds = 20.0
        release.set()
        assert client.result(held)["type"] == "optim_step"
        sender.join()
        assert client.tenant.record().gaps == ()


# --- polls ---


def test_a_held_poll_is_answered_when_the_result_comes(client: Client) -> None:
    """A poll for an operation that waits for its turn is answered as soon as the turn comes, not after the hold."""
    held = client.optim_step(2)
    entered = threading.Event()
    quiet = client.tenant.quiet_left
    client.tenant.quiet_left = lambda: (entered.set(), quiet())[1]  # type: ignore[method-assign]  # to know it is held
    answers: list[Any] = []
    poller = threading.Thread(target=lambda: answers.append(client.result(held)))
    poller.start()
    assert entered.wait(10)
    with connected_again(client) as second:
        second.post("/api/v1/optim_step", json={"model_id": client.model_id, "seq_id": 1})
    poller.join(5)
    assert answers == [{"metrics": {}, "type": "optim_step"}]


def connected_again(client: Client) -> httpx.Client:
    """Open a second connection of the same tenant."""
    return httpx.Client(
        base_url=str(client.http.base_url), headers={"x-api-key": client.tenant.api_key}, trust_env=False
    )


def test_a_poll_that_was_held_long_enough_says_try_again() -> None:
    """After the hold the answer names the request and the queue state, as strings."""
    with serving(hold_seconds=0.03) as client:
        held = client.optim_step(2)
        body = client.result(held)
    assert body == {"type": "try_again", "request_id": held["request_id"], "queue_state": "active"}


@pytest.mark.parametrize(("reply", "status"), [("try_again", 200), ("timeout", 408)])
def test_scripted_polls_come_first(server: MockServer, reply: Any, status: int) -> None:
    """The first polls of each future are answered as the script says, the next one with the result."""
    script = Script(polls=Polls(pending=2, reply=reply, queue_state="paused_capacity"))
    with connected(server, script) as client:
        for seq_id in (1, 2):
            submitted = client.optim_step(seq_id)
            for _ in range(2):
                response = client.poll(submitted)
                assert response.status_code == status
                assert response.json()["queue_state"] == "paused_capacity"
                assert response.json()["request_id"] == submitted["request_id"]
            assert client.result(submitted)["type"] == "optim_step"


def test_metadata_comes_first_where_the_client_allows_it(server: MockServer) -> None:
    """A poll that allows metadata gets the payload's size, another one the payload; a failure is told at once."""
    with connected(server, Script(polls=Polls(metadata_only=True))) as client:
        submitted = client.forward(1, ONE)
        body = {"request_id": submitted["request_id"], "allow_metadata_only": True}
        metadata = client.post("retrieve_future", body)
        payload = client.send("retrieve_future", body | {"allow_metadata_only": False})
        assert metadata["status"] == "complete_metadata"
        assert metadata["response_payload_size"] == len(payload.content)
        assert "loss_fn_outputs" in client.poll(submitted).json()
        failed = client.forward(2, [json_datum([99], [1])])
        told = client.post("retrieve_future", {"request_id": failed["request_id"], "allow_metadata_only": True})
        assert told["category"] == "user"


def test_closing_a_tenant_releases_its_polls(server: MockServer) -> None:
    """A held poll is answered by 410, the key is unknown afterwards, the record stays readable."""
    with connected(server) as client:
        held = client.optim_step(2)
        entered = threading.Event()
        quiet = client.tenant.quiet_left
        client.tenant.quiet_left = lambda: (entered.set(), quiet())[1]  # type: ignore[method-assign]  # to know it is held
        answers: list[int] = []
        poller = threading.Thread(target=lambda: answers.append(client.poll(held).status_code))
        poller.start()
        assert entered.wait(10)
        client.tenant.close()
        client.tenant.close()
        poller.join(5)
        assert answers == [410]
        assert client.send("client/config", {}).status_code == 401
        assert client.tenant.record().unfinished == (held["request_id"],)


# --- records and violations ---


def test_the_record_says_what_came_and_what_was_answered(client: Client) -> None:
    """Ordinals, times, connection, headers without the key, body, batch, status, response."""
    client.forward(1, ONE, headers={"X-Sdk-Method": "a.b"})
    record = client.tenant.record()
    session, model, forward = record.exchanges
    assert [e.ordinal for e in record.exchanges] == [0, 1, 2]
    assert [e.route for e in record.exchanges] == ["create_session", "create_model", "forward"]
    assert {e.connection for e in record.exchanges} == {"c1"}
    assert 0 <= session.at_ms <= session.answered_ms <= model.at_ms <= model.answered_ms <= forward.at_ms
    assert forward.headers["x-sdk-method"] == "a.b"
    assert "x-api-key" not in forward.headers
    assert client.tenant.api_key not in repr(record)
    assert forward.body == {"forward_input": {"loss_fn": "cross_entropy"}, "model_id": client.model_id, "seq_id": 1}
    assert forward.batch is not None
    assert forward.batch.datums[0].inputs["weights"].values.tolist() == [1.0, 0.5]
    assert (forward.method, forward.path, forward.status) == ("POST", "/api/v1/forward", 200)
    assert record.aliases[forward.response["request_id"]].startswith("request-")
    assert record.aliases[forward.response["model_id"]] == "model-1"


def test_a_record_is_a_snapshot(client: Client) -> None:
    """Later requests do not change a record that was taken."""
    before = client.tenant.record()
    client.optim_step(1)
    assert (len(before.exchanges), len(client.tenant.record().exchanges)) == (2, 3)


def test_unknown_keys_are_recorded_and_tolerated(client: Client) -> None:
    """A key that no described release sends does not change the answer."""
    client.post("optim_step", {"model_id": client.model_id, "seq_id": 1, "adam_params": {"momentum": 1}, "new": 2})
    assert client.tenant.record().exchanges[-1].unknown_fields == ("adam_params.momentum", "new")


def test_what_no_era_allows_is_a_violation(client: Client) -> None:
    """An unknown path, a wrong method and an undecodable body, each answered at once by a 4xx that says so."""
    answers = [
        client.send("no_such_route", {}),
        client.send("optim_step", method="GET"),
        client.send("optim_step", content=b"{", headers={"content-type": "application/json"}),
        client.send("forward", client.training("forward_input", 1, [{}])),
    ]
    assert [a.status_code for a in answers] == [404, 405, 422, 422]
    assert codes(client) == ["unknown-path", "unknown-path", "undecodable-body", "undecodable-body"]
    record = client.tenant.record()
    assert [e.route for e in record.exchanges[2:4]] == ["?", "optim_step"]
    assert [v.request for v in record.violations] == [2, 3, 4, 5]
    assert "data[0]" in record.violations[-1].message


def test_a_defect_of_the_server_looks_like_nothing_of_the_service(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in an operation fails its future, one in a handler is a 422; both name the mock server."""

    def broken(*_: object) -> None:
        """Fail as a bug would."""
        raise KeyError("oops")

    client.tenant.models[client.model_id].trainer.optim_step = broken  # type: ignore[method-assign]
    failure = client.result(client.optim_step(1))
    assert failure["category"] == "server"
    monkeypatch.setattr(training, "operate", broken)
    response = client.send("optim_step", {"model_id": client.model_id, "seq_id": 2})
    assert response.status_code == 422
    for message in (failure["error"], response.json()["detail"]):
        assert "parity mock server" in message
        assert "KeyError" in message
    assert codes(client) == ["server-defect", "server-defect"]


def test_scripted_integers_have_no_decimal_point(server: MockServer) -> None:
    """The wire carries `-1`, not `-1.0`, where the script asks for it."""
    script = Script(logprobs=Logprobs("table", (-1.0, -0.5)), outputs=Outputs(integers=True, shape="omitted"))
    with connected(server, script) as client:
        text = client.poll(client.forward(1, [json_datum([1, 1], [0, 1])])).text
    assert '"data":[-1,-0.5],"dtype":"float32"}' in text


def test_a_malformed_script_is_refused() -> None:
    """A table without entries cannot be indexed."""
    with pytest.raises(ValueError, match="not empty"):
        Registry().open_tenant(Script(logprobs=Logprobs("table")))
    with pytest.raises(ValueError, match="at least one"):
        Registry().open_tenant(Script(model=ModelSpec(vocab=0)))
