"""What one run may cost the server: what happens at each bound, and that the next request is served."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from typing import Any, NoReturn

import numpy as np
import pytest
import zstandard
from by_hand import Client, connected, json_datum, json_tensor, proto_request, proto_tensor
from hypothesis import given
from hypothesis import strategies as st

from mock_server import MockServer, Registry, connections, intake, tenants
from mock_server.limits import MAX_NAMES, Limits, Quota, kept_of_batch
from mock_server.record import Batch, Datum, Tensor
from mock_server.sequencing import MAX_MISSING, Turns
from mock_server.wire import body, forms, json_codec, proto_fields
from mock_server.wire import tinker_wire_pb2 as pb
from mock_server.wire.errors import TooLargeError
from mock_server.wire.nesting import MAX_DEPTH, too_deep

PROTOBUF = {"content-type": "application/x-protobuf"}


def refused(client: Client, status: int, code: str, route: str, **options: Any) -> str:
    """Send a request that is refused with a violation, then one that is not; return what the refusal says."""
    answer = client.send(route, **options)
    assert answer.status_code == status, answer.text
    violation = client.tenant.record().violations[-1]
    assert (violation.code, violation.message) == (code, answer.json()["detail"])
    assert client.send("get_info", {"model_id": client.model_id}).status_code == 200
    return violation.message


def limited(monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    """Give tenants that are opened from now on other limits."""
    monkeypatch.setattr(tenants, "Limits", lambda: Limits(**limits))


# --- one body -----------------------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_read_and_dropped(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """413 with both sizes; the exchange is recorded with the size it had, and the connection goes on."""
    monkeypatch.setattr(intake, "MAX_BODY_BYTES", 1000)
    said = refused(client, 413, "body-too-large", "telemetry", content=b" " * 1001)
    assert said == "the body has 1001 bytes, more than 1000"
    assert [e.size for e in client.tenant.record().exchanges if e.route == "telemetry"] == [1001]
    assert client.send("telemetry", content=b"{" + b" " * 998 + b"}").status_code == 200


def test_bodies_that_come_together_are_bounded_together(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that alone is small enough is refused while others are being read, and not afterwards."""
    monkeypatch.setattr(intake, "MAX_READING", 1000)
    client.tenant.quota.reading = 990
    answer = client.send("telemetry", content=b"{" + b" " * 20 + b"}")
    assert (answer.status_code, "at the same time" in answer.text) == (413, True)
    client.tenant.quota.reading = 0
    assert client.send("telemetry", content=b"{" + b" " * 900 + b"}").status_code == 200
    assert client.tenant.quota.reading == 0


@given(
    st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=40)), max_size=30),
    st.integers(0, 80),
    st.integers(40, 200),
)
def test_bodies_wait_in_files_and_come_back_whole(parts: list[tuple[int, bytes]], held: int, most: int) -> None:
    """However the parts of three bodies come, each is itself; so much is in memory at most, and nothing is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "MAX_HELD", held)
        patch.setattr(intake, "MAX_READING", most)
        quota = Quota(None)
        bodies = [intake.Intake(quota) for _ in range(3)]
        sent = [b"", b"", b""]
        for which, part in parts:
            bodies[which].add(part)
            sent[which] += part
            assert 0 <= quota.held <= min(held, quota.reading)
            assert quota.reading <= most
        for body_, whole in zip(bodies, sent, strict=True):
            assert body_.size == len(whole)
            try:
                assert body_.take() == whole
            except TooLargeError:
                assert sum(map(len, sent)) > most
            body_.drop()
        assert (quota.reading, quota.held) == (0, 0)


def test_a_body_that_is_announced_as_too_large_is_not_kept(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is held while it comes."""
    monkeypatch.setattr(intake, "MAX_BODY_BYTES", 1000)
    body_ = intake.Intake(client.tenant.quota, announced=1001)
    body_.add(b" " * 500)
    assert client.tenant.quota.reading == 0
    with pytest.raises(TooLargeError, match="500 bytes"):
        body_.take()


def test_a_body_that_cannot_be_put_down_is_a_defect_of_the_server(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is no 5xx, and nothing the client is blamed for; the next request is served."""

    def full() -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(intake, "MAX_HELD", 100)
    monkeypatch.setattr(intake.tempfile, "TemporaryFile", full)
    said = refused(client, 422, "server-defect", "telemetry", content=b"{" + b" " * 200 + b"}")
    assert "No space left" in said
    assert (client.tenant.quota.reading, client.tenant.quota.held) == (0, 0)


def test_a_body_without_bulk_data_is_small(client: Client) -> None:
    """What becomes Python objects may have 1 MiB, on routes without data and beside the data."""
    padded = {"events": [" " * (1 << 20)]}
    assert "no bulk data" in refused(client, 413, "body-too-large", "telemetry", body=padded)
    beside = client.training("forward_input", 1, [json_datum([1], [2])]) | {"padding": " " * (1 << 20)}
    assert "no bulk data" in refused(client, 413, "body-too-large", "forward", body=beside)


def test_values_of_a_large_body_are_counted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON of many values takes many times its text; a large body may have only so many, a small one any."""
    data = client.training("forward_input", 1, [json_datum([1] * 100, [2] * 100)])
    monkeypatch.setattr(body, "_MAX_VALUES", 150)
    assert client.send("forward", data).status_code == 200
    monkeypatch.setattr(body, "_LARGE", 100)
    refused(client, 413, "body-too-large", "forward", body={**data, "seq_id": 2})


@pytest.mark.parametrize("codec", [json_codec, proto_fields])
def test_datums_are_counted(client: Client, monkeypatch: pytest.MonkeyPatch, codec: Any) -> None:
    """A body may have so many datums, in either encoding."""
    monkeypatch.setattr(codec, "MAX_DATUMS", 2)
    for count, status in ((3, 413), (2, 200)):
        if codec is json_codec:
            answer = client.send("forward", client.training("forward_input", 1, [json_datum([1], [2])] * count))
        else:
            content = proto_request(client.model_id, 1, [([1], {})] * count).SerializeToString()
            answer = client.send("forward_backward", content=content, headers=PROTOBUF)
        assert answer.status_code == status, answer.text


def _datum_with(chunks: int, inputs: int, *, protobuf: bool) -> Any:
    """Return a datum of so many chunks and inputs."""
    if protobuf:
        named = {f"x{n}": proto_tensor([1.0]) for n in range(inputs)}
        datum = proto_request("", 0, [([1], named)]).data[0]
        datum.model_input.extend([datum.model_input[0]] * (chunks - 1))
        return datum
    made = json_datum([1], [2])
    made["model_input"]["chunks"] *= chunks
    made["loss_fn_inputs"] = {f"x{n}": json_tensor([1.0], "float32", [1]) for n in range(inputs)}
    return made


@pytest.mark.parametrize("protobuf", [True, False])
@pytest.mark.parametrize(
    ("limit", "chunks", "inputs"), [("MAX_PARTS", 4, 1), ("MAX_PARTS", 1, 4), ("MAX_INPUTS", 1, 9)]
)
def test_parts_of_datums_are_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch, protobuf: bool, limit: str, chunks: int, inputs: int
) -> None:
    """A body may have so many chunks, tensors and distinct inputs, together or of one datum, in either encoding."""
    monkeypatch.setattr(forms, limit, 2 * max(chunks, inputs) if limit == "MAX_PARTS" else 8)
    datum = _datum_with(chunks, inputs, protobuf=protobuf)
    few = _datum_with(1, 8 if limit == "MAX_INPUTS" else 1, protobuf=protobuf)

    def sent(seq_id: int, data: list[Any]) -> dict[str, Any]:
        if not protobuf:
            return {"body": client.training("forward_input", seq_id, data)}
        message = proto_request(client.model_id, seq_id, [])
        message.data.extend(data)
        return {"content": message.SerializeToString(), "headers": PROTOBUF}

    route = "forward_backward" if protobuf else "forward"
    many = [datum] if limit == "MAX_INPUTS" else [datum] * 3
    assert "data has more than" in refused(client, 413, "body-too-large", route, **sent(1, many))
    assert client.send(route, **sent(1, [few])).status_code == 200


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _input(tensor: bytes) -> bytes:
    return _field(2, _field(1, b"weights") + _field(2, tensor))


@pytest.mark.parametrize(
    ("inside", "small"),
    [
        (_field(1, _field(1, _field(1, bytes(2000)))), True),
        (_field(1, b"") * 800, False),
        (_input(_field(4, b"\x01" * 2000)), False),
        (_input(_varint(4 << 3) + b"\x01") * 200, False),
        ((_varint(99 << 3) + b"\x01") * 800, False),
        (_input(_field(99, bytes(2000))), False),
        (_input(_field(1, bytes(2000))), True),
        (_field(2, _field(1, b"x" * 2000)), False),
    ],
    ids=["tokens", "chunks", "shape", "inputs", "unknown", "unknown inside", "numbers", "name"],
)
def test_small_fields_of_a_large_protobuf_body_are_counted(
    monkeypatch: pytest.MonkeyPatch, inside: bytes, small: bool
) -> None:
    """What is no bulk data, at any depth, may be so much; bulk data does not count."""
    monkeypatch.setattr(proto_fields, "MAX_BESIDE_BYTES", 1500)
    monkeypatch.setattr(proto_fields, "_LARGE", 1500)
    body_ = _field(pb.ForwardBackwardRequest.DATA_FIELD_NUMBER, inside)
    assert len(body_) > 1500
    with nullcontext() if small else pytest.raises(TooLargeError, match="more than 1500 bytes"):
        proto_fields.apart(body_)


def test_what_is_no_datum_of_a_protobuf_body_is_small(client: Client) -> None:
    """Fields beside the datums may have 1 MiB together."""
    message = proto_request(client.model_id, 1, [])
    message.loss_fn = "x" * (1 << 20)
    content = message.SerializeToString()
    assert "no bulk data" in refused(
        client, 413, "body-too-large", "forward_backward", content=content, headers=PROTOBUF
    )


@pytest.mark.parametrize("declared", [True, False])
def test_a_bomb_is_too_large_and_a_broken_frame_is_not_zstd(
    client: Client, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    """What decompresses to too much is told from what cannot be decompressed, whether it declares its size or not."""
    monkeypatch.setattr(body, "MAX_BODY_BYTES", 10_000)
    packed = zstandard.ZstdCompressor(write_content_size=declared).compress(bytes(10_001))
    headers = {"content-encoding": "zstd"}
    assert "decompresses" in refused(client, 413, "body-too-large", "telemetry", content=packed, headers=headers)
    cut = zstandard.ZstdCompressor(write_content_size=declared).compress(bytes(9000))[:-3]
    assert "not zstd" in refused(client, 422, "undecodable-body", "telemetry", content=cut, headers=headers)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 100_000])
def test_nested_json_is_refused(client: Client, depth: int) -> None:
    """JSON nested deeper than anybody walks is undecodable, in bodies with and without data, in datums too."""
    nested = b"[" * depth + b"]" * depth
    for route, content in (
        ("create_session", b'{"tags":' + nested + b"}"),
        ("forward", b'{"x":' + nested + b',"forward_input":{"data":[],"loss_fn":"cross_entropy"}}'),
        ("forward", b'{"forward_input":{"data":[' + nested + b'],"loss_fn":"cross_entropy"}}'),
        ("forward", b'{"forward_input":{"data":[{"model_input":' + nested + b"}]}}"),
    ):
        refused(client, 422, "undecodable-body", route, content=content)


def test_what_a_refusal_says_is_bounded(client: Client) -> None:
    """A path, or a value, of any length is repeated in part only."""
    said = refused(client, 404, "unknown-path", "x" * 50_000, body={})
    assert len(said) < 1100
    datum = json_datum([1], [2])
    datum["loss_fn_inputs"]["target_tokens"]["dtype"] = "x" * 50_000
    said = refused(client, 422, "undecodable-body", "forward", body=client.training("forward_input", 1, [datum]))
    assert len(said) < 1100


def test_unknown_fields_are_named_in_bounds(client: Client) -> None:
    """Of very many unknown fields so many are named."""
    content = proto_request(client.model_id, 1, []).SerializeToString()
    unknown = b"".join(_varint(field << 3) + b"\x01" for field in range(100, 100 + 2 * MAX_NAMES))
    assert client.send("forward_backward", content=content + unknown, headers=PROTOBUF).status_code == 200
    assert len(client.tenant.record().exchanges[-1].unknown_fields) == MAX_NAMES


leaves = st.none() | st.integers()
containers = st.recursive(
    st.lists(leaves) | st.dictionaries(st.text(), leaves),
    lambda inner: st.lists(inner | leaves) | st.dictionaries(st.text(), inner | leaves),
    max_leaves=30,
)


@given(containers, st.integers(1, 6))
def test_depth_is_counted_without_recursion(value: Any, limit: int) -> None:
    """The depth is that of a plain recursive definition."""

    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert too_deep(value, limit=limit) == (depth(value) > limit)


def test_a_seq_id_of_any_size_makes_a_small_hole() -> None:
    """The missing ids below a held one are named in bounds: an id may be as large as a client likes."""
    turns: Turns[str] = Turns()
    turns.admit(10**15, "late")
    hole = turns.hole()
    assert hole is not None
    assert hole.missing == tuple(range(1, MAX_MISSING + 1))
    assert hole.held == (10**15,)
    assert turns.skip() == ["late"]
    assert turns.next_id == 10**15 + 1


# --- one run ------------------------------------------------------------------------------------------------------


def flooded(server: MockServer, send: Callable[[Client], object]) -> tuple[Client, list[str], int]:
    """Send until the tenant is flooded; return the client, what was heard of it and the number of exchanges."""
    heard: list[str] = []
    with connected(server) as client:
        client.tenant.quota.on_exceeded = heard.append
        for _ in range(20):
            send(client)
        answer = client.send("get_info", {"model_id": client.model_id})
        assert (answer.status_code, answer.json()["detail"]) == (422, f"flooded: {heard[0]}")
        before = len(client.tenant.record().exchanges)
        client.send("get_info", {"model_id": client.model_id})
        assert len(client.tenant.record().exchanges) == before, "something was recorded after the flood"
        return client, heard, before


def test_requests_of_a_run_are_counted(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit nothing is recorded, everything is refused, and it is told once."""
    limited(monkeypatch, requests=10)
    _, heard, kept = flooded(server, lambda client: client.send("telemetry", {}))
    assert heard == ["more than 10 requests in one run"]
    assert kept == 10


@pytest.mark.parametrize(
    "send",
    [
        lambda client: client.send("telemetry", {"events": [" " * 1000]}),
        lambda client: client.send("telemetry", {}, headers={"x-long": "x" * 20_000}),
        lambda client: client.send("forward", client.training("forward_input", None, [json_datum([1] * 999, [1] * 9)])),
        lambda client: client.send("save_weights", {"model_id": client.model_id, "path": "x" * 2}),
    ],
    ids=["body", "head", "data", "model"],
)  # fmt: skip
def test_what_a_run_keeps_is_counted(
    server: MockServer, monkeypatch: pytest.MonkeyPatch, send: Callable[[Client], object]
) -> None:
    """Bodies, heads, arrays and states of models count, by the memory they take."""
    limited(monkeypatch, kept_bytes=100_000)
    _, heard, kept = flooded(server, send)
    assert heard == ["more than 0 MiB to be kept of one run"]  # in whole MiB
    assert kept > 3


def test_open_requests_are_counted_and_given_up_at_the_end(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests whose bodies never come are bounded in number, and answered by 410 when the tenant is closed."""
    limited(monkeypatch, open_requests=3)
    heard: list[str] = []
    tenant = server.open_tenant()
    tenant.quota.on_exceeded = heard.append
    head = f"POST /api/v1/telemetry HTTP/1.1\r\nx-api-key: {tenant.api_key}\r\ncontent-length: 9\r\n"
    sockets = []
    for n in range(4):
        made = socket.create_connection(server.address, timeout=20)
        sockets.append(made)
        made.sendall(f"{head}expect: 100-continue\r\n\r\n".encode())
        assert made.recv(25)[:12] == (b"HTTP/1.1 100" if n < 3 else b"HTTP/1.1 422")
    assert heard == ["more than 3 requests at a time"]
    tenant.close()
    for made in sockets[:3]:
        assert b"HTTP/1.1 410" in made.recv(1000)
    for made in sockets:
        made.close()


def test_a_server_that_is_open_to_all_has_no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever points an SDK at a server by hand may do so for days."""
    limited(monkeypatch, requests=1)
    registry = Registry(open_to_all=True)
    anybody, opened = registry.find("tml-anybody"), registry.open_tenant()
    assert anybody is not None
    for tenant in (anybody, opened):
        tenant.quota.enter()
        tenant.quota.enter()
    assert (anybody.quota.exceeded, opened.quota.exceeded) == ("", "more than 1 requests in one run")


def test_what_a_batch_keeps_is_not_underestimated() -> None:
    """The estimate is at least the bytes of all arrays."""
    values = np.zeros(1000, dtype=np.float32)
    sparse = Tensor("float32", (10, 100), values, "csr", np.zeros(11, dtype=np.int64), np.zeros(1000, dtype=np.int64))
    batch = Batch((Datum(np.zeros(500, dtype=np.int64), {"a": Tensor("float32", None, values), "b": sparse}),), {})
    assert kept_of_batch(batch) >= 4000 + 4000 + 88 + 8000 + 4000


# --- connections --------------------------------------------------------------------------------------------------


def test_of_connections_without_a_head_the_oldest_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow heads cost the server a bounded number of connections, and other clients nothing."""
    monkeypatch.setattr(connections, "MAX_WAITING", 3)
    with MockServer() as server, connected(server) as client:
        opened = [socket.create_connection(server.address, timeout=20) for _ in range(4)]
        for made in opened:
            made.sendall(b"POST /api/v1/telemetry HT")
        assert _ended(opened[0])
        client.send("telemetry", {})
        assert not any(map(_ended, opened[2:]))
        for made in opened:
            made.close()


def test_of_idle_connections_the_oldest_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that are kept after a request cost the server a bounded number."""
    monkeypatch.setattr(connections, "MAX_IDLE", 2)
    with MockServer() as server:
        opened = [socket.create_connection(server.address, timeout=20) for _ in range(3)]
        for made in opened:
            made.sendall(b"GET /api/v1/healthz HTTP/1.1\r\n\r\n")
            assert made.recv(12) == b"HTTP/1.1 200"
            while not made.recv(1000).endswith(b"}"):
                pass
        assert _ended(opened[0])
        opened[1].sendall(b"GET /api/v1/healthz HTTP/1.1\r\n\r\n")
        assert opened[1].recv(12) == b"HTTP/1.1 200"
        for made in opened:
            made.close()


def test_requests_that_do_not_wait_for_answers_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what came in one read waits for earlier answers, however many requests follow; each is answered in turn."""
    count, request = 1500, b"GET /api/v1/healthz HTTP/1.1\r\nx-long: " + b"y" * 2000 + b"\r\n\r\n"
    most = 0
    received = connections.GuardedConnection.data_received

    def data_received(self: connections.GuardedConnection, data: bytes) -> None:
        nonlocal most
        received(self, data)
        most = max(most, len(self.pipeline))

    monkeypatch.setattr(connections.GuardedConnection, "data_received", data_received)
    with MockServer() as server, closing(socket.create_connection(server.address, timeout=20)) as made:
        sending = threading.Thread(target=made.sendall, args=(request * count,))
        sending.start()
        answers = b""
        while answers.count(b"HTTP/1.1 200 OK") < count:
            answers += made.recv(1 << 16)
        sending.join()
    one_read = 256 * 1024 // len(request)
    assert 0 < most <= one_read + 1


def test_of_connections_that_do_not_wait_the_longest_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that wait for earlier answers are bounded over all connections, and others are served."""
    monkeypatch.setattr(connections, "MAX_QUEUED", 10)
    request = b"GET /api/v1/healthz HTTP/1.1\r\n\r\n"
    with MockServer() as server, connected(server) as client:
        with closing(socket.create_connection(server.address, timeout=20)) as few:
            few.sendall(request * 5)
            with closing(socket.create_connection(server.address, timeout=20)) as many, suppress(ConnectionResetError):
                many.sendall(request * 100)
                assert not many.recv(1 << 16)
            answers = b""
            while answers.count(b"HTTP/1.1 200 OK") < 5:
                answers += few.recv(1 << 16)
        client.send("telemetry", {})


@pytest.mark.parametrize("place", ["head", "trailer"])
def test_a_head_and_trailers_are_bounded(server: MockServer, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Headers without end are answered by 431 and closed, before a body and after it."""
    monkeypatch.setattr(connections, "MAX_FRAMING", 10_000)
    tenant = server.open_tenant()
    start = f"POST /api/v1/telemetry HTTP/1.1\r\nx-api-key: {tenant.api_key}\r\n".encode()
    if place == "trailer":
        start += b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    with closing(socket.create_connection(server.address, timeout=20)) as made:
        made.sendall(start)
        with suppress(OSError):  # it is closed while this is sent
            for _ in range(1000):
                made.sendall(b"x-more: " + b"y" * 1000 + b"\r\n")
        with suppress(
            ConnectionResetError
        ):  # what was sent after the end resets it, before the answer is read or after
            assert made.recv(12) == b"HTTP/1.1 431"
    assert tenant.record().exchanges == ()
    with connected(server) as client:
        client.send("telemetry", {})


def _ended(connection: socket.socket) -> bool:
    """Tell whether the server has closed a connection on which it has nothing to say."""
    connection.settimeout(0.3)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
