"""Posts per second, megabytes per second and memory of the mock server, against a bare route that only reads."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from serving import KEY

from mock_server.wire import tinker_wire_pb2 as pb

ROUNDS = 9
SMALL = 2_000
PIPELINED = 32
MEGABYTE = 1_000_000


class Target:
    """One connection to one server process."""

    def __init__(self, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("serving.py")), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        port = int(self._process.stdout.readline())
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def state(self) -> dict[str, Any]:
        """Return the server's CPU seconds and its memory."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        state: dict[str, Any] = json.loads(self._process.stdout.readline())
        return state

    def post(self, requests: Sequence[bytes]) -> bytes:
        """Send requests, a few under way at a time, and return all answers."""
        answers = b""
        done = 0
        for start in range(0, len(requests), PIPELINED):
            part = requests[start : start + PIPELINED]
            self._socket.sendall(b"".join(part))
            done += len(part)
            while answers.count(b"HTTP/1.1 200") < len(part) or not self._whole(answers):
                received = self._socket.recv(1 << 18)
                if not received or b"HTTP/1.1 4" in received:
                    raise RuntimeError(f"the server refused: {received[:500]!r}")
                answers += received
            last, answers = answers, b""
        return last

    @staticmethod
    def _whole(answers: bytes) -> bool:
        head, end, body = answers[answers.rfind(b"HTTP/1.1") :].partition(b"\r\n\r\n")
        length = head.lower().rpartition(b"content-length: ")[2].partition(b"\r")[0]
        return bool(end) and len(body) >= int(length)

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.communicate(timeout=30)


@contextmanager
def servers() -> Iterator[tuple[Target, Target]]:
    """Yield a mock server and a bare one."""
    mock, bare = Target("mock"), Target("bare")
    try:
        yield mock, bare
    finally:
        mock.close()
        bare.close()


def request(route: str, body: bytes, kind: str = "application/json") -> bytes:
    """Return the bytes of a POST."""
    head = (
        f"POST /api/v1/{route} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def new_model(mock: Target) -> str:
    """Create a session and a model; return the model's id."""

    def said(answer: bytes) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return body

    session = said(mock.post([request("create_session", b"{}")]))["session_id"]
    body = {"base_model": "tiny", "session_id": session, "model_seq_id": 1, "lora_config": {"rank": 8}}
    future = said(mock.post([request("create_model", json.dumps(body).encode())]))["request_id"]
    answer = mock.post([request("retrieve_future", json.dumps({"request_id": future}).encode())])
    model: str = said(answer)["model_id"]
    return model


def optim_steps(model: str, first: int, count: int) -> list[bytes]:
    """Return the smallest operations that an SDK sends."""
    params = {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12}
    bodies = (
        {"model_id": model, "seq_id": first + n, "adam_params": params, "type": "optim_step"} for n in range(count)
    )
    return [request("optim_step", json.dumps(body).encode()) for body in bodies]


def heartbeats(session: str, count: int) -> list[bytes]:
    """Return the smallest requests without effect."""
    return [request("session_heartbeat", json.dumps({"session_id": session}).encode())] * count


def json_body(model: str, seq_id: int, datums: int, tokens: int) -> bytes:
    """Return a forward_backward as 0.15.0 sends it."""
    weights = np.random.default_rng(seq_id).standard_normal(tokens).astype(np.float32)
    numbers = [float(str(weight)) for weight in weights]
    ids = [n % 16 for n in range(tokens)]
    datum = {
        "model_input": {"chunks": [{"tokens": ids, "type": "encoded_text"}]},
        "loss_fn_inputs": {
            "target_tokens": {"data": ids, "dtype": "int64", "shape": [tokens]},
            "weights": {"data": numbers, "dtype": "float32", "shape": [tokens]},
        },
    }
    inner = {"data": [datum] * datums, "loss_fn": "cross_entropy"}
    body = {"model_id": model, "seq_id": seq_id, "forward_backward_input": inner}
    return request("forward_backward", json.dumps(body, separators=(",", ":")).encode())


def proto_body(model: str, seq_id: int, datums: int, tokens: int) -> bytes:
    """Return a forward_backward as 0.38.0 sends it, not compressed."""
    message = pb.ForwardBackwardRequest(model_id=model, seq_id=seq_id, loss_fn="cross_entropy")
    weights = np.random.default_rng(seq_id).standard_normal(tokens).astype("<f4").tobytes()
    ids = np.arange(tokens) % 16
    for _ in range(datums):
        datum = message.data.add()
        datum.model_input.add().encoded_text.tokens = ids.astype("<i4").tobytes()
        for key, dtype, raw in (
            ("target_tokens", pb.DTYPE_INT64, ids.astype("<i8").tobytes()),
            ("weights", pb.DTYPE_FLOAT32, weights),
        ):
            tensor = datum.loss_fn_inputs[key]
            tensor.dtype, tensor.dense = dtype, raw
            tensor.shape.append(tokens)
    return request("forward_backward", message.SerializeToString(), "application/x-protobuf")


def timed(target: Target, requests: Sequence[bytes]) -> tuple[float, float]:
    """Post and return wall seconds and the server's CPU seconds."""
    cpu, began = target.state()["cpu"], time.perf_counter()
    target.post(requests)
    return time.perf_counter() - began, target.state()["cpu"] - cpu


def against(mock: Target, bare: Target, rounds: Sequence[Sequence[bytes]]) -> tuple[float, float, float]:
    """Return the mock server's median wall seconds per round, and its speed against the bare route's: wall, CPU.

    Both are measured in turn, so that other load on the machine meets both.
    """
    walls, ratios, busy = [], [], []
    for requests in rounds:
        plain, plain_cpu = timed(bare, requests)
        wall, cpu = timed(mock, requests)
        walls.append(wall)
        ratios.append(plain / wall)
        busy.append(plain_cpu / cpu)
    return statistics.median(walls), statistics.median(ratios), statistics.median(busy)


def of_bare(ratio: float, busy: float) -> str:
    """Say how fast that is: by the clock, and by the server's CPU time alone."""
    return f"{ratio:5.2f} of the bare route ({busy:.2f} by CPU time)"


def small_posts() -> Iterator[str]:
    """Yield lines about small posts, and what each leaves in memory."""
    with servers() as (mock, bare):
        model = new_model(mock)
        session = json.loads(mock.post([request("create_session", b"{}")]).partition(b"\r\n\r\n")[2])["session_id"]
        for target in (mock, bare):
            target.post(heartbeats(session, SMALL))  # warm
        wall, ratio, busy = against(mock, bare, [heartbeats(session, SMALL)] * ROUNDS)
        yield f"small posts, no effect    {SMALL / wall:8.0f}/s  {of_bare(ratio, busy)}; aim 0.5"
        before = mock.state()["now"]
        rounds = [optim_steps(model, 1 + SMALL * n, SMALL) for n in range(ROUNDS)]
        wall, ratio, busy = against(mock, bare, rounds)
        yield f"small posts, optim_step   {SMALL / wall:8.0f}/s  {of_bare(ratio, busy)}; aim 0.5"
        kept = (mock.state()["now"] - before) / (SMALL * ROUNDS)
        yield f"kept per small operation  {kept / 1024:8.2f} KB   (aim 2)"


def large_bodies() -> Iterator[str]:
    """Yield lines about 5 MB bodies, and the most memory that one takes."""
    for name, make, tokens in (("JSON", json_body, 3200), ("protobuf", proto_body, 3100)):
        with servers() as (mock, bare):
            model = new_model(mock)
            bodies = [make(model, 1 + n, 100, tokens) for n in range(ROUNDS)]
            size = len(bodies[0])
            idle = mock.state()["now"]
            timed(mock, bodies[:1])
            peak = mock.state()["peak"] - idle
            wall, ratio, busy = against(mock, bare, [[body] for body in bodies[1:]])
            speed = size / MEGABYTE / wall
            yield f"{name:<9}{size / MEGABYTE:5.1f} MB bodies     {speed:8.1f} MB/s {of_bare(ratio, busy)}"
            yield f"  memory above idle       {peak / MEGABYTE:8.1f} MB   {peak / size:5.2f} x the body (aim 4)"
