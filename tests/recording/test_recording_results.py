"""Results of passes are read back as the server sent them, and a strange answer costs nothing but itself."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.recording.assemble import assemble
from harness.recording.document import from_text, to_text
from harness.recording.raw import RawExchange
from mock_server.record import Tensor
from mock_server.wire.errors import WireError
from mock_server.wire.json_codec import encode_output as to_json
from mock_server.wire.proto_codec import encode_output as to_protobuf
from mock_server.wire.results import decode_json, json_result, protobuf_result


@st.composite
def outputs(draw):
    """Draw outputs of one or two dimensions, empty ones included."""
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        length, width = draw(st.integers(0, 3)), draw(st.sampled_from([0, 2]))
        size = length * width if width else length
        values = draw(st.lists(st.floats(width=32, allow_nan=False), min_size=size, max_size=size))
        shape = (length, width) if width else (length,)
        rows.append({"logprobs": Tensor("float32", shape, np.array(values, dtype=np.float32))})
    return tuple(rows)


def _plain(rows):
    return [{key: (t.dtype, t.shape, t.values.tobytes()) for key, t in row.items()} for row in rows]


@given(outputs(), st.dictionaries(st.sampled_from(["loss:sum", "kl:mean"]), st.floats(allow_nan=False), max_size=2))
def test_results_are_read_back_bit_for_bit(rows, metrics):
    """JSON and protobuf, infinities included."""
    read, told = json_result(decode_json(to_json(rows, metrics, output_type="ArrayRecord", integers=False)))
    assert (_plain(read), told) == (_plain(rows), metrics)
    read, told = protobuf_result(to_protobuf(rows, metrics, output_type="ArrayRecord"))
    assert (_plain(read), told) == (_plain(rows), metrics)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_result_are_refused(content):
    """Whatever came, it reads or it is a WireError."""
    for read in (protobuf_result, decode_json):
        try:
            read(content)
        except WireError:
            continue


def _exchange(response, body=b'{"request_id": "r"}', media_type="application/json"):
    return RawExchange(
        at_ms=0.0, answered_ms=1.0, connection="c1", method="POST", path="/api/v1/retrieve_future", headers={},
        body=body, status=200, media_type=media_type, response=response,
    )  # fmt: skip


DEEP = 700
STRANGE = {
    "not JSON": b"<html>",
    "no object": b"[1]",
    "nested": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "nested beyond reading": b"[" * 200_000,
    "metrics of text": b'{"metrics": {"loss:sum": "x"}}',
    "outputs of numbers": b'{"loss_fn_outputs": [1]}',
    "numbers beyond all": b'{"loss_fn_outputs": [{"logprobs": {"dtype": "int64", "data": [99999999999999999999]}}]}',
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_answer_is_kept_without_harm(kind):
    """The recording has the request, and can be written and read."""
    submit = replace(
        _exchange(b'{"request_id": "r"}', b'{"model_id": "m", "seq_id": 1}'), path="/api/v1/optim_step", at_ms=-1.0
    )
    polls = [_exchange(STRANGE[kind]), _exchange(STRANGE[kind], media_type="application/x-protobuf")]
    record = assemble([submit, *polls])
    assert len(record.exchanges) == 3
    # an object that nests deeply is an answer all the same; the others are none
    assert len(record.operations) == (kind == "nested")
    text = to_text(record, scrubbed=True, keep=lambda _: "")
    assert json.loads(text)["kind"] == "parity-recording"
    assert len(from_text(text, lambda _: b"").exchanges) == 3
