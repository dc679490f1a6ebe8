"""JSON, protobuf and zstd, there and back."""

from __future__ import annotations

import itertools
import json
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from by_hand import json_tensor, proto_request, proto_tensor
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from mock_server.record import Batch, Tensor
from mock_server.wire import body, json_codec, proto_codec, requests
from mock_server.wire import tinker_wire_pb2 as pb
from mock_server.wire.body import Decoded, decode, same_content
from mock_server.wire.errors import WireError

PROTOBUF = {"content-type": "application/x-protobuf"}
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
any_float = st.floats(width=32)
token = st.integers(0, 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)


def values(of: Any) -> st.SearchStrategy[list[Any]]:
    """Draw a short list of numbers."""
    return st.lists(of, max_size=6)


def from_json(raw: bytes, headers: dict[str, str] | None = None) -> Decoded:
    """Decode a JSON forward_backward body."""
    return decode(raw, headers or {}, requests.ForwardBackward, "forward_backward_input")


def from_proto(message: pb.ForwardBackwardRequest, headers: dict[str, str] | None = None) -> Decoded:
    """Decode a protobuf forward_backward body."""
    raw = message.SerializeToString()
    return decode(raw, PROTOBUF | (headers or {}), requests.ForwardBackward, "forward_backward_input")


def wrap(data: list[Any], **more: Any) -> dict[str, Any]:
    """Return a JSON forward_backward body."""
    return {"forward_backward_input": {"data": data, "loss_fn": "cross_entropy", **more}, "model_id": "m", "seq_id": 1}


def bits(array: Any) -> bytes:
    """Return the bytes of an array, so that NaN and -0.0 compare."""
    return np.ascontiguousarray(array).tobytes()


datums = st.lists(st.tuples(values(token), values(int64), values(finite)), max_size=4)


@given(datums)
def test_json_batches_read_back_exactly(data: list[tuple[list[int], list[int], list[float]]]) -> None:
    """Tokens, int64 and float32 inputs survive JSON bit for bit, int64 beyond 2^53 included."""
    raw = json.dumps(
        wrap(
            [
                {
                    "model_input": {"chunks": [{"tokens": tokens}]},
                    "loss_fn_inputs": {
                        "target_tokens": json_tensor(ints, "int64", [len(ints)]),
                        "weights": json_tensor(floats, "float32"),
                    },
                }
                for tokens, ints, floats in data
            ]
        )
    ).encode()
    decoded = from_json(raw)
    assert decoded.batch is not None
    assert (decoded.encoding, decoded.size, decoded.unknown_fields, decoded.problem) == ("json", len(raw), (), None)
    for datum, (tokens, ints, floats) in zip(decoded.batch.datums, data, strict=True):
        assert datum.tokens.dtype == np.int64
        assert datum.tokens.tolist() == tokens
        assert datum.inputs["target_tokens"].values.tolist() == ints
        assert datum.inputs["target_tokens"].shape == (len(ints),)
        assert bits(datum.inputs["weights"].values) == bits(np.array(floats, dtype=np.float32))
        assert datum.inputs["weights"].shape is None


@given(st.lists(st.tuples(values(token), values(int64), values(any_float)), max_size=4), st.booleans())
def test_protobuf_batches_read_back_exactly(
    data: list[tuple[list[int], list[int], list[float]]], squeeze: bool
) -> None:
    """Tokens and arrays survive protobuf bit for bit, NaN and infinities included, zstd or not."""
    message = proto_request(
        "m",
        7,
        [
            (
                tokens,
                {
                    "target_tokens": proto_tensor(np.array(ints, dtype=np.int64)),
                    "weights": proto_tensor(np.array(floats, dtype=np.float32)),
                },
            )
            for tokens, ints, floats in data
        ],
    )
    raw = message.SerializeToString()
    headers = dict(PROTOBUF)
    if squeeze:
        raw, headers["content-encoding"] = zstandard.ZstdCompressor().compress(raw), "zstd"
    decoded = decode(raw, headers, requests.ForwardBackward, "forward_backward_input")
    assert decoded.batch is not None
    assert (decoded.encoding, decoded.compressed, decoded.size) == ("protobuf", squeeze, len(raw))
    assert decoded.fields == {"model_id": "m", "seq_id": 7, "loss_fn": "cross_entropy"}
    for datum, (tokens, ints, floats) in zip(decoded.batch.datums, data, strict=True):
        assert datum.tokens.tolist() == tokens
        assert datum.inputs["target_tokens"].values.tolist() == ints
        assert bits(datum.inputs["weights"].values) == bits(np.array(floats, dtype=np.float32))


@st.composite
def sparse(draw: st.DrawFn) -> tuple[np.ndarray, Tensor]:
    """Draw a float32 matrix and its CSR form."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    cells = draw(st.lists(st.one_of(st.just(0.0), finite), min_size=rows * columns, max_size=rows * columns))
    dense = np.array(cells, dtype=np.float32).reshape(rows, columns)
    crow = np.concatenate([[0], np.cumsum((dense != 0).sum(axis=1))]).astype(np.int64)
    col = np.nonzero(dense)[1].astype(np.int64)
    return dense, Tensor("float32", (rows, columns), dense[dense != 0], "csr", crow, col)


@given(sparse())
def test_csr_reads_back_in_both_formats(pair: tuple[np.ndarray, Tensor]) -> None:
    """A sparse tensor keeps its parts, and writes out to the dense matrix."""
    dense, tensor = pair
    assert tensor.crow is not None
    assert tensor.col is not None
    as_json = json_tensor(tensor.values.tolist(), "float32", tensor.shape) | {
        "sparse_crow_indices": tensor.crow.tolist(),
        "sparse_col_indices": tensor.col.tolist(),
    }
    datum = {"model_input": {"chunks": []}, "loss_fn_inputs": {"weights": as_json}}
    message = pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=tensor.shape)
    message.sparse_csr.values = tensor.values.astype("<f4").tobytes()
    message.sparse_csr.crow_indices = tensor.crow.astype("<i8").tobytes()
    message.sparse_csr.col_indices = tensor.col.astype("<i8").tobytes()
    for decoded in (
        from_json(json.dumps(wrap([datum])).encode()),
        from_proto(proto_request("m", 1, [([], {"weights": message})])),
    ):
        assert decoded.batch is not None
        found = decoded.batch.datums[0].inputs["weights"]
        assert (found.layout, found.shape, found.size) == ("csr", tensor.shape, dense.size)
        # -0.0 counts as a zero and is not stored
        np.testing.assert_array_equal(found.dense().reshape(dense.shape), dense)


def test_integers_and_bfloat16_of_the_proto_schema_are_read() -> None:
    """INT32 stays integral; BFLOAT16 becomes float32 values under its own name."""
    half = struct.pack("<2H", 0x3FC0, 0xBF80)
    message = proto_request("m", 1, [([], {
        "a": pb.Tensor(dense=struct.pack("<2i", -1, 5), dtype=pb.DTYPE_INT32),
        "b": pb.Tensor(dense=half, dtype=pb.DTYPE_BFLOAT16, shape=[2]),
    })])  # fmt: skip
    decoded = from_proto(message)
    assert decoded.batch is not None
    inputs = decoded.batch.datums[0].inputs
    assert (inputs["a"].dtype, inputs["a"].values.tolist(), inputs["a"].shape) == ("int32", [-1, 5], None)
    assert (inputs["b"].dtype, inputs["b"].values.tolist()) == ("bfloat16", [1.5, -1.0])


def test_forms_tell_encoders_apart() -> None:
    """The distinct key sets per kind of element are collected, sorted, once each."""
    data = [
        {"model_input": {"chunks": [{"tokens": [1]}, {"type": "encoded_text", "tokens": [2]}]}, "loss_fn_inputs": {}},
        {"loss_fn_inputs": {"t": json_tensor([1], "int64")}, "model_input": {"chunks": []}},
    ]
    decoded = from_json(json.dumps(wrap(data)).encode())
    assert decoded.batch is not None
    assert decoded.batch.datums[0].tokens.tolist() == [1, 2]
    assert decoded.batch.forms == {
        "datum": ("loss_fn_inputs,model_input",),
        "model_input": ("chunks",),
        "chunk": ("tokens", "tokens,type"),
        "tensor": ("data,dtype",),
    }


def test_unknown_json_keys_are_named_by_path() -> None:
    """A key that no described release sends is reported at every depth, and refused at none."""
    datum = {
        "model_input": {"chunks": [{"tokens": [1], "x": 1}]},
        "loss_fn_inputs": {"t": json_tensor([1], "int64") | {"scale": 2}},
        "extra": None,
    }
    decoded = from_json(json.dumps(wrap([datum], foo=1) | {"bar": 2}).encode())
    assert set(decoded.unknown_fields) == {
        "bar",
        "forward_backward_input.foo",
        "forward_backward_input.data.extra",
        "forward_backward_input.data.model_input.chunks.x",
        "forward_backward_input.data.loss_fn_inputs.scale",
    }


def test_unknown_protobuf_fields_are_named_by_number() -> None:
    """A field that our .proto does not have is found in nested messages and inside maps too."""
    message = proto_request("m", 1, [([1], {"t": proto_tensor(np.array([1]))})])
    field_99 = b"\xb8\x06\x01"
    message.data[0].MergeFromString(field_99)
    message.data[0].loss_fn_inputs["t"].MergeFromString(field_99)
    raw = message.SerializeToString() + field_99
    decoded = decode(raw, PROTOBUF, requests.ForwardBackward, "forward_backward_input")
    assert decoded.unknown_fields == ("#103", "data.#103", "data.loss_fn_inputs.#103")
    assert from_proto(proto_request("m", 1, [])).unknown_fields == ()


def test_protobuf_scalars_are_recorded_flat() -> None:
    """Only what is on the wire, under the field names; both config maps."""
    message = proto_request("m", 3, [], forward_only=True)
    message.loss_fn_config["beta"] = 0.5
    message.loss_fn_config_v2["beta"].number = 0.5
    message.loss_fn_config_v2["kind"].text = "x"
    assert from_proto(message).fields == {
        "model_id": "m",
        "seq_id": 3,
        "loss_fn": "cross_entropy",
        "loss_fn_config": {"beta": 0.5},
        "forward_only": True,
        "loss_fn_config_v2": {"beta": 0.5, "kind": "x"},
    }


@pytest.mark.parametrize("kind", ["image", "dmel"])
def test_chunks_that_are_not_text_are_a_problem_not_an_error(kind: str) -> None:
    """Such a body can be read; that it cannot be computed is said when its turn comes."""
    message = proto_request("m", 1, [([1], {})])
    chunk = message.data[0].model_input.add()
    if kind == "image":
        chunk.image.data = b"x"
    else:
        chunk.dmel.dmel = b"x"
    as_json = {"model_input": {"chunks": [{"type": kind, "data": ""}]}, "loss_fn_inputs": {}}
    for decoded in (from_proto(message), from_json(json.dumps(wrap([as_json])).encode())):
        assert decoded.problem is not None
        assert kind in decoded.problem


TENSOR = {"data": [1], "dtype": "int64"}
DATUM = {"model_input": {"chunks": [{"tokens": [1]}]}, "loss_fn_inputs": {"t": TENSOR}}
MALFORMED = {
    "not JSON": (b"{", "not JSON"),
    "not an object": (b"[1]", "expected an object"),
    "too deep": (b"[" * 100_000, "not JSON"),
    "no input": (b"{}", "forward_backward_input is missing"),
    "no data": (wrap([]) | {"forward_backward_input": {"loss_fn": "x"}}, "data is a JSON null"),
    "no model": ({"forward_backward_input": {"data": [], "loss_fn": "x"}}, "model_id"),
    "seq_id of text": (wrap([]) | {"seq_id": "1"}, "seq_id"),
    "datum": (wrap([3]), r"data\[0\] is a JSON number"),
    "chunks": (wrap([{"model_input": {}, "loss_fn_inputs": {}}]), "chunks is a JSON null"),
    "tokens": (wrap([{"model_input": {"chunks": [{}]}, "loss_fn_inputs": {}}]), "expected an array of numbers"),
    "text in data": (wrap([DATUM | {"loss_fn_inputs": {"t": TENSOR | {"data": ["nan"]}}}]), "does not hold int64"),
    "fraction": (wrap([DATUM | {"loss_fn_inputs": {"t": TENSOR | {"data": [1.5]}}}]), "does not hold int64"),
    "too big": (wrap([DATUM | {"loss_fn_inputs": {"t": TENSOR | {"data": [2**63]}}}]), "does not hold int64"),
    "nested": (wrap([DATUM | {"loss_fn_inputs": {"t": TENSOR | {"data": [[1]]}}}]), "does not hold int64"),
    "dtype": (wrap([DATUM | {"loss_fn_inputs": {"t": TENSOR | {"dtype": "float64"}}}]), "float64"),
    "shape": (wrap([DATUM | {"loss_fn_inputs": {"t": TENSOR | {"shape": [-1]}}}]), "non-negative"),
    "half sparse": (wrap([DATUM | {"loss_fn_inputs": {"t": TENSOR | {"sparse_col_indices": [0]}}}]), "sparse_crow"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_json_names_the_place(name: str) -> None:
    """A body that no era sends is refused with the place and what was expected there."""
    raw, message = MALFORMED[name]
    with pytest.raises(WireError, match=message):
        from_json(raw if isinstance(raw, bytes) else json.dumps(raw).encode())


def test_integral_floats_are_integers() -> None:
    """An encoder that writes 2.0 for an int64 says the same as one that writes 2."""
    raw = json.dumps(wrap([DATUM | {"loss_fn_inputs": {"t": TENSOR | {"data": [1.0, 2.0]}}}])).encode()
    batch = from_json(raw).batch
    assert batch is not None
    tensor = batch.datums[0].inputs["t"]
    assert (tensor.values.dtype, tensor.values.tolist()) == (np.int64, [1, 2])


unknown = st.sampled_from([b"", b"\xa0\x06\x07", b"\xa2\x06\x01x", b"\xa1\x06" + bytes(8), b"\xa5\x06" + bytes(4)])
group = b"\xa3\x06" + b"\x1a\x02\x08\x01" + b"\xa4\x06"
"""Field 100 as a group that holds a field 3, which is no datum."""


@given(datums, st.lists(unknown | st.just(group), max_size=4), st.floats(0, 1), st.booleans())
def test_protobuf_bodies_are_read_as_the_library_reads_them(
    data: list[tuple[list[int], list[int], list[float]]], between: list[bytes], cut: float, truncate: bool
) -> None:
    """Unknown fields of any wire type anywhere between the datums; what the library cannot parse is refused."""
    parts = [
        proto_request("m", 1, [(tokens, {"t": proto_tensor(np.asarray(targets, dtype=np.int64))})]).SerializeToString()
        for tokens, targets, _ in data
    ]
    raw = b"".join(itertools.chain.from_iterable(itertools.zip_longest(parts, between, fillvalue=b"")))
    raw = raw[: round(cut * len(raw))] if truncate else raw
    try:
        whole = pb.ForwardBackwardRequest.FromString(raw)
    except DecodeError:
        with pytest.raises(WireError, match="not a ForwardBackwardRequest"):
            decode(raw, PROTOBUF, requests.ForwardBackward, "forward_backward_input")
        return
    decoded = decode(raw, PROTOBUF, requests.ForwardBackward, "forward_backward_input")
    assert decoded.batch is not None
    read = [datum.tokens.astype("<i4").tobytes() for datum in decoded.batch.datums]
    assert read == [b"".join(chunk.encoded_text.tokens for chunk in datum.model_input) for datum in whole.data]
    assert decoded.unknown_fields == (() if b"\x06" not in raw or whole.ByteSize() == _known(whole) else ("#100",))


def _known(message: pb.ForwardBackwardRequest) -> int:
    """Return the size of a message without its unknown fields."""
    message.DiscardUnknownFields()
    return message.ByteSize()


def test_malformed_protobuf_is_refused() -> None:
    """Garbage, bytes that do not divide into elements, and a dtype that does not exist."""
    with pytest.raises(WireError, match="not a ForwardBackwardRequest"):
        decode(b"\xff\xff", PROTOBUF, requests.ForwardBackward, "forward_backward_input")
    for tensor, message in (
        (pb.Tensor(dense=b"123", dtype=pb.DTYPE_FLOAT32), "not a multiple of 4"),
        (pb.Tensor(dense=b"1234"), "dtype is 0"),
        (pb.Tensor(dense=b"", dtype=pb.DTYPE_FLOAT32, shape=[-1]), "non-negative"),
    ):
        with pytest.raises(WireError, match=message):
            from_proto(proto_request("m", 1, [([], {"t": tensor})]))
    with pytest.raises(WireError, match="takes JSON"):
        decode(b"", PROTOBUF, requests.OptimStep, None)


def test_zstd_is_bounded_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage, a truncated frame, an unknown coding, and more than the bound, declared or not, are refused."""
    raw = json.dumps(wrap([])).encode()
    squeezed = zstandard.ZstdCompressor().compress(raw)
    headers = {"content-encoding": "zstd"}
    assert from_json(squeezed, headers).compressed
    for bad in (b"garbage", squeezed[:-4], b""):
        with pytest.raises(WireError, match="not zstd"):
            from_json(bad, headers)
    with pytest.raises(WireError, match="only zstd"):
        from_json(raw, {"content-encoding": "gzip"})
    monkeypatch.setattr(body, "MAX_BODY_BYTES", 10)
    with pytest.raises(WireError, match="more than 10"):
        from_json(squeezed, headers)
    stream = zstandard.ZstdCompressor(write_content_size=False).compress(raw)
    with pytest.raises(WireError, match="more than 10"):
        from_json(stream, headers)


outputs = st.lists(values(any_float), max_size=4)


@given(st.lists(values(finite), max_size=4))
def test_json_results_read_back_exactly_with_a_decimal_point(arrays: list[list[float]]) -> None:
    """Every float32 reads back bit for bit, and none can be mistaken for an integer."""
    tensors = [{"logprobs": Tensor("float32", (len(a),), np.array(a, dtype=np.float32))} for a in arrays]
    raw = json_codec.encode_output(tensors, {"m:sum": 2.0}, output_type="X", integers=False)
    parsed = json.loads(raw)
    for output, array in zip(parsed["loss_fn_outputs"], arrays, strict=True):
        assert all(isinstance(x, float) for x in output["logprobs"]["data"])
        assert bits(np.array(output["logprobs"]["data"], dtype=np.float32)) == bits(np.array(array, dtype=np.float32))
    assert parsed["metrics"] == {"m:sum": 2.0}


def test_json_results_can_be_written_with_integers() -> None:
    """`integers`: no decimal point where the value is integral."""
    tensor = {"logprobs": Tensor("float32", None, np.array([-1.0, -0.5], dtype=np.float32))}
    raw = json_codec.encode_output([tensor], {}, output_type="X", integers=True)
    assert b'"data":[-1,-0.5]' in raw
    assert b"shape" not in raw


def test_json_spells_what_is_not_finite() -> None:
    """NaN and infinities are spelled as Python's json does; null would be another value."""
    tensor = {"logprobs": Tensor("float32", (2,), np.array([np.nan, -np.inf], dtype=np.float32))}
    raw = json_codec.encode_output([tensor], {"m:max": float("inf")}, output_type="X", integers=False)
    assert b"[NaN,-Infinity]" in raw
    assert b'"m:max":Infinity' in raw
    assert json_codec.encode({"a": [float("nan")]}) == b'{"a":[NaN]}'


@given(outputs, st.sampled_from([(), (1,), (2,)]))
def test_protobuf_results_read_back_exactly(arrays: list[list[float]], trailing: tuple[int, ...]) -> None:
    """Cutting each record at its offsets gives back every datum, NaN included, with its trailing shape."""
    width = int(np.prod(trailing))
    tensors = []
    for array in arrays:
        values = np.repeat(np.array(array, dtype=np.float32), width)
        tensors.append({"logprobs": Tensor("float32", (len(array), *trailing), values)})
    raw = proto_codec.encode_output(tensors, {"m:sum": 2.5}, output_type="X")
    message = pb.ForwardBackwardOutput.FromString(raw)
    found = []
    for record in message.loss_fn_outputs:
        field = record.fields["logprobs"]
        offsets = np.frombuffer(field.offsets, dtype="<i8")
        assert len(offsets) == record.num_datums + 1
        assert tuple(field.trailing_shape) == trailing
        assert field.dtype == pb.DTYPE_FLOAT32
        found += [field.data[a:b] for a, b in itertools.pairwise(offsets)]
    assert found == [bits(t["logprobs"].values) for t in tensors]
    assert dict(message.metrics) == {"m:sum": 2.5}


def test_protobuf_results_start_a_record_where_the_trailing_shape_changes() -> None:
    """1-D and 2-D datums of one answer keep their order in several records."""
    shapes = [(1,), (2,), (1, 3), (2,)]
    tensors = [{"logprobs": Tensor("float32", s, np.zeros(int(np.prod(s)), dtype=np.float32))} for s in shapes]
    message = pb.ForwardBackwardOutput.FromString(proto_codec.encode_output(tensors, {}, output_type="X"))
    assert [(r.num_datums, list(r.fields["logprobs"].trailing_shape)) for r in message.loss_fn_outputs] == [
        (2, []),
        (1, [3]),
        (1, []),
    ]


def test_same_content_is_about_values() -> None:
    """Key order, white space and compression do not matter; any number, NaN payloads and -0.0 do."""
    raw = json.dumps(wrap([DATUM])).encode()
    turned = json.dumps(dict(reversed(wrap([DATUM]).items())), indent=1).encode()
    assert same_content(from_json(raw), from_json(turned))
    changed = json.dumps(wrap([DATUM | {"model_input": {"chunks": [{"tokens": [2]}]}}])).encode()
    assert not same_content(from_json(raw), from_json(changed))
    assert not same_content(from_json(raw), from_json(json.dumps(wrap([DATUM]) | {"seq_id": 2}).encode()))

    def weights(value: float) -> Decoded:
        message = proto_request("m", 1, [([1], {"w": proto_tensor(np.array([value], dtype=np.float32))})])
        message.loss_fn_config["x"] = float("nan")
        return from_proto(message)

    assert same_content(weights(float("nan")), weights(float("nan")))
    assert not same_content(weights(0.0), weights(-0.0))
    assert not same_content(weights(1.0), from_json(raw))


def test_small_bodies_convert_with_clear_errors() -> None:
    """The struct of a route says which key is wrong."""
    with pytest.raises(WireError, match="base_model"):
        requests.convert({}, requests.CreateModel)
    assert requests.convert({"model_id": "m"}, requests.OptimStep) == requests.OptimStep("m")
    assert list(requests.unknown_keys({"reason": {"type": "x", "y": 1}}, requests.FinishSession)) == ["reason.y"]


def test_records_hold_arrays_once() -> None:
    """A decoded batch is numpy arrays, not lists."""
    decoded = from_json(json.dumps(wrap([DATUM])).encode())
    assert isinstance(decoded.batch, Batch)
    assert "data" not in decoded.fields["forward_backward_input"]
    assert msgspec.json.encode(decoded.fields)
