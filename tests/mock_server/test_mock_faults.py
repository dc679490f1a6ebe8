"""Every kind of fault over real sockets: what the client gets, whether the request took effect, what is recorded."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from contextlib import AbstractContextManager
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec
import pytest
from by_hand import Client, connected, json_datum, proto_request, proto_tensor

from mock_server import MockServer, Registry, Script, asgi_transport
from mock_server.faults.script import Fault
from mock_server.record import FaultUse
from mock_server.routes import ROUTES, RouteSpec
from mock_server.wire import tinker_wire_pb2 as pb

DATUM = json_datum([1, 2], [2, 3], [1.0, 1.0])


def script(*faults: dict[str, Any]) -> Script:
    """Return a script of nothing but these faults."""
    return Script(faults=tuple(msgspec.convert(fault, Fault) for fault in faults))


def faulty(server: MockServer, *faults: dict[str, Any]) -> AbstractContextManager[Client]:
    """Connect a client of a fresh tenant whose server plays these faults."""
    return connected(server, script(*faults))


def submit(client: Client, seq_id: int = 1) -> httpx.Response:
    """Send a forward_backward once, whatever comes back."""
    return client.send("forward_backward", client.training("forward_backward_input", seq_id, [DATUM]))


def effects(client: Client) -> list[tuple[int | None, str]]:
    """Return the operations that took effect, in order."""
    return [(operation.seq_id, operation.kind) for operation in client.tenant.record().operations]


def uses(client: Client) -> list[FaultUse]:
    """Return what became of the instructions."""
    return list(client.tenant.record().faults)


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 402, 404, 408, 409, 410, 413, 422, 429, 500, 502, 503, 504])
def test_a_status_is_answered_and_nothing_takes_effect(server: MockServer, status: int) -> None:
    """The first request gets the status and its message, the second is served and has the only effect."""
    with faulty(server, {"route": "forward_backward", "kind": "status", "status": status, "message": "no"}) as client:
        refused = submit(client)
        assert (refused.status_code, refused.json()) == (status, {"detail": "no"})
        assert effects(client) == []
        assert submit(client).status_code == 200
        assert effects(client) == [(1, "forward_backward")]
        assert [(use.seen, use.consumed, len(use.hits)) for use in uses(client)] == [(2, True, 1)]


def test_a_status_without_a_message_has_no_body(server: MockServer) -> None:
    """Nothing but the head: no body, and no content type that would announce one."""
    with faulty(server, {"route": "forward_backward", "kind": "status", "status": 400}) as client:
        refused = submit(client)
        assert (refused.status_code, refused.content) == (400, b"")
        assert "content-type" not in refused.headers


def test_a_status_after_the_effect_is_a_lost_answer(server: MockServer) -> None:
    """The request took effect; its resend is recognised and gets the future of the first."""
    fault = {"route": "forward_backward", "kind": "status", "status": 504, "after_effect": True}
    with faulty(server, fault) as client:
        assert submit(client).status_code == 504
        assert effects(client) == [(1, "forward_backward")]
        assert submit(client).status_code == 200
        assert effects(client) == [(1, "forward_backward")]
        first, second = (e for e in client.tenant.record().exchanges if e.route == "forward_backward")
        assert (first.fault, second.fault, second.resend_of) == (0, None, first.ordinal)


def test_headers_that_say_when_to_come_back(server: MockServer) -> None:
    """Retry-After as a number or a date, its millisecond form, x-should-retry, and any other, as the script says."""
    asked: list[dict[str, Any]] = [
        {"retry_after": 1},
        {"retry_after": 0.05},
        {"retry_after_date": 7},
        {"retry_after_ms": 30},
        {"should_retry": False},
        {"should_retry": True},
        {"headers": {"Retry-After": "soon", "X-Own": "1"}},
    ]
    faults = [
        {"route": "forward_backward", "kind": "status", "status": 429, "at": at, **more}
        for at, more in enumerate(asked, start=1)
    ]
    with faulty(server, *faults) as client:
        headers = [submit(client).headers for _ in asked]
    assert [head.get("retry-after") for head in headers[:2]] == ["1", "0.05"]
    assert 4 < parsedate_to_datetime(headers[2]["retry-after"]).timestamp() - time.time() <= 7
    assert headers[3]["retry-after-ms"] == "30"
    assert [head["x-should-retry"] for head in headers[4:6]] == ["false", "true"]
    assert (headers[6]["retry-after"], headers[6]["x-own"]) == ("soon", "1")


def test_a_delay_comes_after_the_effect(server: MockServer) -> None:
    """While the answer is kept back, the request has taken effect and other requests are served."""
    with faulty(server, {"route": "forward_backward", "kind": "delay", "seconds": 0.4}) as client:
        began = time.monotonic()
        waiting = threading.Thread(target=submit, args=(client,))
        waiting.start()
        while not effects(client):
            assert time.monotonic() - began < 0.4
        assert client.send("healthz", method="GET").status_code == 200
        assert time.monotonic() - began < 0.4
        waiting.join()
        assert time.monotonic() - began >= 0.4


def test_a_client_that_gives_up_ends_a_delay(server: MockServer) -> None:
    """The request is recorded as never answered, and the instruction as played."""
    with faulty(server, {"route": "forward_backward", "kind": "delay", "seconds": 60}) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.forward_backward(1, [DATUM], timeout=0.1)
        (exchange,) = (e for e in client.tenant.record().exchanges if e.route == "forward_backward")
        assert (exchange.status, exchange.fault) == (None, 0)
        assert uses(client)[0].consumed


def test_the_content_type_alone_is_wrong(server: MockServer) -> None:
    """The body is the one that would have come; an empty content type is none at all."""
    faults = [
        {"route": "forward_backward", "kind": "media_type"},
        {"route": "forward_backward", "kind": "media_type", "media_type": "", "at": 2},
    ]
    with faulty(server, *faults) as client:
        html, bare = submit(client, 1), submit(client, 2)
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert "request_id" in html.json()
    assert "content-type" not in bare.headers
    assert "request_id" in bare.json()


def test_an_empty_and_a_verbatim_body(server: MockServer) -> None:
    """The head is that of the answer, the body what the script says."""
    faults = [
        {"route": "forward_backward", "kind": "body"},
        {"route": "forward_backward", "kind": "body", "text": "[]", "at": 2},
    ]
    with faulty(server, *faults) as client:
        empty, text = submit(client, 1), submit(client, 2)
    assert (empty.status_code, empty.content) == (200, b"")
    assert (text.status_code, text.content) == (200, b"[]")
    assert text.headers["content-type"] == "application/json"


def test_garbage_is_in_the_form_of_the_answer(server: MockServer) -> None:
    """A JSON answer becomes JSON that nobody can parse, a protobuf answer protobuf that nobody can parse."""
    with faulty(server, {"route": "retrieve_future", "kind": "garbage", "times": 2, "seq_id": 1}) as client:
        tensors = {"target_tokens": proto_tensor([2, 3]), "weights": proto_tensor([1.0, 1.0])}
        body = proto_request(client.model_id, 1, [([1, 2], tensors)]).SerializeToString()
        submitted = client.send(
            "forward_backward", content=body, headers={"content-type": "application/x-protobuf"}
        ).json()
        as_json = client.poll(submitted)
        with pytest.raises(json.JSONDecodeError):
            as_json.json()
        as_proto = client.poll(submitted, headers={"accept": "application/x-protobuf"})
        assert as_proto.headers["content-type"] == "application/x-protobuf"
        with pytest.raises(Exception, match=r"[Pp]ars"):
            pb.ForwardBackwardOutput.FromString(as_proto.content)
        assert client.result(submitted)["metrics"]


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["headers", "body"])
def test_a_reset_keeps_the_request_from_its_effect(server: MockServer, when: str) -> None:
    """The client sees a reset, not an answer; the resend has the only effect and is known as a resend."""
    fault = {"route": "forward_backward", "kind": "reset", "when": when}
    key = {"headers": {"x-idempotency-key": "k"}}
    with faulty(server, fault) as client:
        # a client that is still writing its body may see the write fail and then nothing to read
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            client.forward_backward(1, [DATUM], **key)
        assert effects(client) == []
        client.forward_backward(1, [DATUM], **key)
        assert effects(client) == [(1, "forward_backward")]
        record = client.tenant.record()
        first, second = (e for e in record.exchanges if e.route == "forward_backward")
        assert (first.status, first.fault, first.body is None) == (None, 0, when == "headers")
        assert (second.status, second.fault, second.resend_of) == (200, None, first.ordinal)
        assert [operation.request for operation in record.operations] == [first.ordinal]


def test_a_large_body_is_not_read_when_it_is_reset_at_the_headers(server: MockServer) -> None:
    """The reset comes while the client is still writing."""
    with faulty(server, {"route": "telemetry", "kind": "reset", "when": "headers"}) as client:
        # httpx reads on after a write error, and then finds the connection closed
        with pytest.raises((httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError)):
            client.send("telemetry", {"events": ["x" * 20_000_000]})
        (exchange,) = (e for e in client.tenant.record().exchanges if e.route == "telemetry")
        assert (exchange.size, exchange.body) == (0, None)


def test_a_reset_after_the_effect_loses_the_answer(server: MockServer) -> None:
    """One effect, though the request is sent twice."""
    with faulty(server, {"route": "forward_backward", "kind": "reset", "after_effect": True}) as client:
        with pytest.raises(httpx.ReadError, match="reset"):
            submit(client)
        assert effects(client) == [(1, "forward_backward")]
        assert submit(client).status_code == 200
        assert effects(client) == [(1, "forward_backward")]


@pytest.mark.parametrize(("by", "after"), [("close", 0), ("close", 5), ("reset", 5), ("close", 10_000)])
def test_an_answer_is_cut(server: MockServer, by: str, after: int) -> None:
    """The length was announced, the body ends early - before its last byte, however many bytes the script allows."""
    fault = {"route": "retrieve_future", "kind": "cut", "after": after, "by": by}
    with faulty(server, fault) as client:
        submitted = client.forward_backward(1, [DATUM])
        got: list[bytes] = []
        with client.http.stream(
            "POST", "/api/v1/retrieve_future", json={"request_id": submitted["request_id"]}
        ) as response:
            announced = int(response.headers["content-length"])
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                got.extend(response.iter_raw())
        assert len(b"".join(got)) == min(after, announced - 1)
        assert client.result(submitted)["metrics"]


def test_an_answer_stalls_and_goes_on(server: MockServer) -> None:
    """The first bytes come at once, the rest after the pause; it is whole in the end."""
    with faulty(server, {"route": "retrieve_future", "kind": "stall", "after": 4, "seconds": 0.3}) as client:
        submitted = client.forward_backward(1, [DATUM])
        began = time.monotonic()
        parts: list[tuple[float, bytes]] = []
        with client.http.stream(
            "POST", "/api/v1/retrieve_future", json={"request_id": submitted["request_id"]}
        ) as response:
            parts.extend((time.monotonic() - began, part) for part in response.iter_raw())
    assert len(parts[0][1]) == 4
    assert parts[0][0] < 0.3 <= parts[-1][0]
    assert json.loads(b"".join(part for _, part in parts))["metrics"]


def test_a_slow_body_comes_in_pieces(server: MockServer) -> None:
    """As many pieces as the script says, spread over its time; it is whole in the end."""
    with faulty(server, {"route": "retrieve_future", "kind": "slow", "pieces": 4, "seconds": 0.4}) as client:
        submitted = client.forward_backward(1, [DATUM])
        began = time.monotonic()
        with client.http.stream(
            "POST", "/api/v1/retrieve_future", json={"request_id": submitted["request_id"]}
        ) as response:
            pieces = list(response.iter_raw())
        assert time.monotonic() - began >= 0.4
        assert len(pieces) == 4
        assert json.loads(b"".join(pieces))["metrics"]


def test_connections_are_refused_for_a_while(server: MockServer) -> None:
    """The request is reset, new connections are refused by the system, then the same address serves again.

    Another tenant of the same server notices nothing.
    """
    with (
        faulty(server, {"route": "forward_backward", "kind": "refuse", "seconds": 0.5}) as client,
        connected(server) as other,
    ):
        began = time.monotonic()
        with pytest.raises(httpx.ReadError):
            submit(client)
        with pytest.raises(httpx.ConnectError):
            submit(client)
        assert submit(other).status_code == 200
        assert time.monotonic() - began < 0.5
        answer = None
        while answer is None:
            assert time.monotonic() - began < 5
            try:
                answer = submit(client)
            except httpx.ConnectError:
                continue
        assert time.monotonic() - began >= 0.5
        assert answer.status_code == 200
        assert effects(client) == [(1, "forward_backward")]
        assert uses(client)[0].consumed


def test_a_server_that_is_open_to_all_closes_its_own_address() -> None:
    """A server that is run by hand has one address, and closes that."""
    registry = Registry(open_to_all=True, script=script({"route": "healthz", "kind": "refuse", "seconds": 0.3}))
    with MockServer(registry) as server, httpx.Client(base_url=server.base_url, trust_env=False) as http:
        began = time.monotonic()
        with pytest.raises(httpx.ReadError):
            http.get("/api/v1/healthz", headers={"x-api-key": "tml-1"})
        refused = 0
        while True:
            try:
                assert http.get("/api/v1/healthz").status_code == 200
                break
            except httpx.ConnectError:
                refused += 1
            assert time.monotonic() - began < 5
        assert refused > 0
        assert time.monotonic() - began >= 0.3


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("official", {"error": "no", "category": "server"}),
        ("tinkex", {"status": "failed", "error": {"message": "no", "category": "server"}}),
        ("both", {"status": "failed", "error": {"message": "no", "category": "server"}, "category": "server"}),
    ],
)
def test_an_operation_fails_in_every_known_shape(server: MockServer, shape: str, body: dict[str, Any]) -> None:
    """Its future fails at every poll, nothing took effect, and the operation after it does."""
    fault = {"route": "forward_backward", "kind": "failed", "shape": shape, "category": "server", "message": "no"}
    with faulty(server, fault) as client:
        first, second = client.forward_backward(1, [DATUM]), client.forward_backward(2, [DATUM])
        assert [client.result(first) for _ in range(2)] == [body, body]
        assert client.result(second)["metrics"]
        assert effects(client) == [(2, "forward_backward")]
        assert list(client.tenant.record().failures.values()) == ["no"]


def test_an_operation_that_was_submitted_before_cannot_fail_any_more(server: MockServer) -> None:
    """A resend gets the old future: the instruction is not consumed."""
    with faulty(server, {"route": "forward_backward", "kind": "failed", "at": 2}) as client:
        assert client.forward_backward(1, [DATUM]) == client.forward_backward(1, [DATUM])
        (use,) = uses(client)
        assert (use.seen, use.hits, use.consumed) == (2, (), False)


def test_one_poll_is_answered_by_a_failure(server: MockServer) -> None:
    """The operation took effect; the poll after it brings its result."""
    with faulty(server, {"route": "retrieve_future", "kind": "failed", "seq_id": 1}) as client:
        submitted = client.forward_backward(1, [DATUM])
        assert client.result(submitted) == {"error": "scripted failure", "category": "user"}
        assert client.result(submitted)["metrics"]


def test_polls_are_answered_without_a_result(server: MockServer) -> None:
    """try_again with state and reason, then 408, then the result."""
    faults = [
        {
            "route": "retrieve_future",
            "kind": "pending",
            "hold": 0,
            "queue_state": "paused_capacity",
            "queue_state_reason": "busy",
        },
        {"route": "retrieve_future", "kind": "pending", "hold": 0, "reply": "timeout", "at": 2},
    ]
    with faulty(server, *faults) as client:
        submitted = client.forward_backward(1, [DATUM])
        again, timeout, result = (client.poll(submitted) for _ in range(3))
    assert (
        again.status_code,
        again.json()["type"],
        again.json()["queue_state"],
        again.json()["queue_state_reason"],
    ) == (
        200,
        "try_again",
        "paused_capacity",
        "busy",
    )
    assert timeout.status_code == 408
    assert result.json()["metrics"]


def test_results_come_in_another_order(server: MockServer) -> None:
    """The poll for the first operation is answered after the result of the second was delivered."""
    with faulty(server, {"route": "retrieve_future", "kind": "withhold", "seq_id": 1, "until": 2}) as client:
        first, second = client.forward_backward(1, [DATUM]), client.forward_backward(2, [DATUM])
        waiting = threading.Thread(target=client.result, args=(first,))
        waiting.start()
        while not uses(client)[0].hits:
            pass
        client.result(second)
        waiting.join()
        polls = [e for e in client.tenant.record().exchanges if e.route == "retrieve_future"]
        answered = {e.body["request_id"]: e.answered_ms or 0.0 for e in polls}
        assert answered[second["request_id"]] <= answered[first["request_id"]]


def test_a_result_is_withheld_for_so_long_only(server: MockServer) -> None:
    """A client that never asks for the other result is told to ask again."""
    fault = {"route": "retrieve_future", "kind": "withhold", "seq_id": 1, "until": 2, "seconds": 0.2}
    with faulty(server, fault) as client:
        submitted = client.forward_backward(1, [DATUM])
        began = time.monotonic()
        first = client.poll(submitted)
        assert time.monotonic() - began >= 0.2
        assert first.status_code == 408
        assert client.result(submitted)["metrics"]


# --- which requests ---------------------------------------------------------------------------------------------------


def test_filters_choose_among_the_requests_of_a_route(server: MockServer) -> None:
    """A seq_id and a model count only their own requests."""
    with faulty(
        server,
        {"route": "forward_backward", "kind": "status", "status": 503, "seq_id": 2, "model": 2},
    ) as client:
        other = client.post(
            "create_model",
            {"session_id": client.session_id, "model_seq_id": 1, "base_model": "b", "lora_config": {"rank": 4}},
        )["model_id"]
        statuses = []
        for model_id in (client.model_id, other):
            for seq_id in (1, 2):
                body = {**client.training("forward_backward_input", seq_id, [DATUM]), "model_id": model_id}
                statuses.append(client.send("forward_backward", body).status_code)
        assert statuses == [200, 200, 200, 503]


def test_a_poll_is_chosen_by_the_operation_it_asks_for(server: MockServer) -> None:
    """`seq_id` on retrieve_future is that of the operation, not of the poll."""
    with faulty(server, {"route": "retrieve_future", "kind": "status", "status": 502, "seq_id": 2}) as client:
        first, second = client.forward_backward(1, [DATUM]), client.forward_backward(2, [DATUM])
        assert [client.poll(each).status_code for each in (first, second, second)] == [200, 502, 200]


def _sent(url: str, key: str, spec: RouteSpec) -> str:
    """Send one request to a route; return the status, or what broke."""
    body = {
        "client/config": {"sdk_version": "1"},
        "client/dynamic_config": {"sdk_version": "1"},
        "session_heartbeat": {"session_id": "s"},
        "create_session": {"tags": [], "sdk_version": "1"},
        "create_model": {"base_model": "b", "session_id": "s", "model_seq_id": 0},
        "retrieve_future": {"request_id": "r"},
        "optim_step": {"model_id": "m", "seq_id": 1},
    }.get(spec.name, {"model_id": "m", "path": "p", "session_id": "s"})
    if spec.data_under:
        body = {spec.data_under: {"data": [DATUM], "loss_fn": "cross_entropy"}, "model_id": "m", "seq_id": 1}
    try:
        answer = httpx.request(
            spec.method,
            url + spec.path.replace("{session_id}", "s"),
            headers={"x-api-key": key},
            json=None if spec.method == "GET" else body,
            trust_env=False,
            verify=False,  # nothing is encrypted: reading certificates takes longest
        )
    except httpx.TransportError as error:
        return type(error).__name__
    return f"{answer.status_code} {answer.headers.get('content-type', '')} {answer.text}"


BROKEN = r"ReadError|RemoteProtocolError"
ON_EVERY_ROUTE: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"kind": "status", "status": 418, "message": "tea", "retry_after": 0.5},
        r'418 application/json \{"detail":"tea"\}',
    ),
    ({"kind": "delay", "seconds": 0.0}, r"\d+ application/json \{.*\}"),
    ({"kind": "reset", "when": "headers"}, BROKEN),
    ({"kind": "reset", "when": "body"}, BROKEN),
    ({"kind": "reset", "after_effect": True}, BROKEN),
    ({"kind": "cut", "after": 1}, BROKEN),
    ({"kind": "cut", "after": 1, "by": "reset"}, BROKEN),
    ({"kind": "stall", "after": 1, "seconds": 0.0}, r"\d+ application/json \{.*\}"),
    ({"kind": "slow", "pieces": 2, "seconds": 0.0}, r"\d+ application/json \{.*\}"),
    ({"kind": "media_type"}, r"\d+ text/html; charset=utf-8 \{.*\}"),
    ({"kind": "body"}, r"\d+ application/json "),
    ({"kind": "garbage"}, r'\d+ application/json \{"broken": '),
    ({"kind": "refuse", "seconds": 0.0}, BROKEN),
)
"""Each kind that is not about polls or results alone, and what a client gets."""


@pytest.mark.parametrize("spec", ROUTES, ids=lambda spec: spec.name)
def test_every_kind_hits_every_route(server: MockServer, spec: RouteSpec) -> None:
    """A fault is a property of the route table: no handler has to know of it."""
    faults = [{**fault, "route": spec.name, "at": at} for at, (fault, _) in enumerate(ON_EVERY_ROUTE, start=1)]
    tenant = server.open_tenant(script(*faults))
    url = server.url_of(tenant)
    for fault, wanted in ON_EVERY_ROUTE:
        assert re.fullmatch(wanted, _sent(url, tenant.api_key, spec)), fault
    assert [use.consumed for use in tenant.record().faults] == [True] * len(faults)
    tenant.close()


def test_tenants_count_for_themselves(server: MockServer) -> None:
    """The same script for two tenants hits the first request of each."""
    fault = {"route": "forward_backward", "kind": "status", "status": 503}
    with faulty(server, fault) as one, faulty(server, fault) as two:
        assert [submit(c).status_code for c in (one, two, one, two)] == [503, 503, 200, 200]


# --- in-process -------------------------------------------------------------------------------------------------------


def test_in_process_adapters_play_what_needs_no_connection() -> None:
    """A status comes through; a reset is an error of the caller's that says why."""
    faults = (
        {"route": "telemetry", "kind": "status", "status": 503},
        {"route": "telemetry", "kind": "reset", "at": 2},
        {"route": "healthz", "kind": "reset", "when": "headers"},
    )

    async def run() -> None:
        registry = Registry()
        tenant = registry.open_tenant(script(*faults))
        async with httpx.AsyncClient(
            transport=asgi_transport(registry), base_url="http://x", headers={"x-api-key": tenant.api_key}
        ) as http:
            assert (await http.post("/api/v1/telemetry", json={"events": []})).status_code == 503
            with pytest.raises(RuntimeError, match="in-process"):
                await http.post("/api/v1/telemetry", json={"events": []})
            with pytest.raises(RuntimeError, match="in-process"):
                await http.get("/api/v1/healthz")
        assert [use.consumed for use in tenant.record().faults] == [True, False, False]

    asyncio.run(run())
