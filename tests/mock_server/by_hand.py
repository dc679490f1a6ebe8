"""Requests written by hand: what a client of each era puts on the wire, without any SDK."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np

from mock_server import MockServer, Registry, Script, Tenant
from mock_server.wire import tinker_wire_pb2 as pb

Json = dict[str, Any]


def json_tensor(values: Sequence[Any], dtype: str, shape: Sequence[int] | None = None) -> Json:
    """Return a TensorData object; no `shape` key when there is none."""
    body: Json = {"data": list(values), "dtype": dtype}
    return body if shape is None else {**body, "shape": list(shape)}


def json_datum(tokens: Sequence[int], targets: Sequence[int], weights: Sequence[float] | None = None) -> Json:
    """Return a datum with 1-D targets."""
    inputs = {"target_tokens": json_tensor(targets, "int64", [len(targets)])}
    if weights is not None:
        inputs["weights"] = json_tensor(weights, "float32", [len(weights)])
    return {"loss_fn_inputs": inputs, "model_input": {"chunks": [{"tokens": list(tokens), "type": "encoded_text"}]}}


def proto_tensor(values: Any, *, shape: Sequence[int] | None = None) -> pb.Tensor:
    """Return a dense Tensor of float32 or int64."""
    array = np.asarray(values)
    dtype = pb.DTYPE_INT64 if array.dtype.kind == "i" else pb.DTYPE_FLOAT32
    raw = array.astype("<i8" if array.dtype.kind == "i" else "<f4").tobytes()
    return pb.Tensor(dense=raw, dtype=dtype, shape=array.shape if shape is None else shape)


def proto_request(
    model_id: str,
    seq_id: int,
    datums: Sequence[tuple[Sequence[int], dict[str, pb.Tensor]]],
    *,
    forward_only: bool = False,
) -> pb.ForwardBackwardRequest:
    """Return a cross-entropy request; each datum is its tokens and its inputs."""
    message = pb.ForwardBackwardRequest(
        model_id=model_id, seq_id=seq_id, loss_fn="cross_entropy", forward_only=forward_only
    )
    for tokens, inputs in datums:
        datum = message.data.add()
        datum.model_input.add().encoded_text.tokens = np.asarray(tokens, dtype="<i4").tobytes()
        for key, tensor in inputs.items():
            datum.loss_fn_inputs[key].CopyFrom(tensor)
    return message


class Client:
    """A client over httpx with one session and one model; every method is one request."""

    def __init__(self, http: httpx.Client, tenant: Tenant) -> None:
        self.http = http
        self.tenant = tenant
        self.session_id = self.post("create_session", {"tags": [], "sdk_version": "test"})["session_id"]
        created = self.post(
            "create_model",
            {"session_id": self.session_id, "model_seq_id": 0, "base_model": "b", "lora_config": {"rank": 4}},
        )
        self.model_id = created["model_id"]

    def send(self, route: str, body: Any = None, *, method: str = "POST", **options: Any) -> httpx.Response:
        """One request, whatever comes back."""
        if body is not None:
            options["json"] = body
        return self.http.request(method, f"/api/v1/{route}", **options)

    def post(self, route: str, body: Json, **options: Any) -> Json:
        """One request that must succeed."""
        response = self.send(route, body, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def forward(self, seq_id: int | None, data: Sequence[Json], **options: Any) -> Json:
        """POST /forward."""
        return self.post("forward", self.training("forward_input", seq_id, data), **options)

    def forward_backward(self, seq_id: int | None, data: Sequence[Json], **options: Any) -> Json:
        """POST /forward_backward, JSON."""
        return self.post("forward_backward", self.training("forward_backward_input", seq_id, data), **options)

    def training(self, under: str, seq_id: int | None, data: Sequence[Json]) -> Json:
        """Return the body of a forward pass."""
        body: Json = {under: {"data": list(data), "loss_fn": "cross_entropy"}, "model_id": self.model_id}
        return body if seq_id is None else {**body, "seq_id": seq_id}

    def optim_step(self, seq_id: int | None, **params: float) -> Json:
        """POST /optim_step."""
        return self.post("optim_step", {"adam_params": params, "model_id": self.model_id, "seq_id": seq_id})

    def poll(self, submitted: Json, **options: Any) -> httpx.Response:
        """POST /retrieve_future once."""
        return self.send("retrieve_future", {"request_id": submitted["request_id"]}, **options)

    def result(self, submitted: Json) -> Json:
        """Return the JSON result of a submitted operation."""
        response = self.poll(submitted)
        assert response.status_code == 200, response.text
        return response.json()


@contextmanager
def connected(server: MockServer, script: Script | None = None) -> Iterator[Client]:
    """Connect a client of a fresh tenant over real sockets."""
    tenant = server.open_tenant(script)
    url = server.url_of(tenant)
    with httpx.Client(base_url=url, headers={"x-api-key": tenant.api_key}, trust_env=False) as http:
        yield Client(http, tenant)


@contextmanager
def serving(script: Script | None = None, *, hold_seconds: float = 20.0) -> Iterator[Client]:
    """Start a server, and connect a client of it."""
    with MockServer(Registry(hold_seconds=hold_seconds)) as server, connected(server, script) as client:
        yield client
