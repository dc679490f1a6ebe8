"""Recordings on disk: they come back as they were, whole or with a reason."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ParityError
from harness.recording.document import from_text, to_text
from harness.recording.store import FILE, check_free, read_recording, write_recording
from mock_server.record import (
    Batch,
    Datum,
    Exchange,
    FaultUse,
    Gap,
    Operation,
    OptimizerState,
    Record,
    Tensor,
    Violation,
)

NAMES = st.text(st.characters(codec="utf-8"), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | NAMES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            NAMES | st.sampled_from(["dtype", "values", "number", "file", "all", "count"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)
FLOATS = st.lists(st.floats(width=32), max_size=5).map(np.float32)
INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5).map(lambda n: np.array(n, dtype=np.int64))


@st.composite
def tensors(draw):
    """Draw a dense tensor with or without a shape, or a CSR one."""
    dtype, values = draw(st.tuples(st.just("float32"), FLOATS) | st.tuples(st.just("int64"), INTEGERS))
    kind = draw(st.sampled_from(["none", "flat", "2d", "csr"]))
    if kind == "csr":
        crow = np.array([0, values.size], dtype=np.int64)
        return Tensor(dtype, (1, 8), values, "csr", crow, np.arange(values.size, dtype=np.int64))
    shape = {"none": None, "flat": (values.size,), "2d": (values.size, 1)}[kind]
    return Tensor(dtype, shape, values)


ROWS = st.lists(st.dictionaries(st.sampled_from(["logprobs", "weights"]), tensors(), max_size=2), max_size=3)
BATCHES = st.builds(
    lambda rows: Batch(
        tuple(Datum(np.arange(len(row), dtype=np.int64), row) for row in rows), {"chunk": ("tokens", "tokens,type")}
    ),
    ROWS,
)
EXCHANGES = st.builds(
    Exchange,
    ordinal=st.integers(0, 9),
    at_ms=st.floats(0, 1e6),
    answered_ms=st.none() | st.floats(0, 1e6),
    connection=NAMES,
    method=st.just("POST"),
    path=NAMES,
    route=NAMES,
    headers=st.dictionaries(NAMES, NAMES, max_size=2),
    encoding=st.sampled_from(["none", "json", "protobuf"]),
    compressed=st.booleans(),
    size=st.integers(0, 2**40),
    body=JSON,
    batch=st.none() | BATCHES,
    unknown_fields=st.lists(NAMES, max_size=2).map(tuple),
    status=st.none() | st.integers(100, 599),
    response=JSON,
    resend_of=st.none() | st.integers(0, 9),
    fault=st.none() | st.integers(0, 9),
)
DOUBLES = st.floats(allow_nan=False) | st.just(float("nan"))
MATRICES = st.lists(DOUBLES, min_size=4, max_size=4).map(lambda v: np.array(v).reshape(2, 2))
OPERATIONS = st.builds(
    Operation,
    model_id=NAMES,
    seq_id=st.none() | st.integers(1, 9),
    kind=NAMES,
    request=st.integers(0, 9),
    outputs=ROWS.map(tuple),
    metrics=st.dictionaries(NAMES, st.floats(), max_size=2),
)
RECORDS = st.builds(
    Record,
    exchanges=st.lists(EXCHANGES, max_size=3).map(tuple),
    operations=st.lists(OPERATIONS, max_size=2).map(tuple),
    violations=st.lists(st.builds(Violation, NAMES, NAMES, st.integers(0, 9)), max_size=2).map(tuple),
    gaps=st.lists(st.builds(Gap, NAMES, st.just((1,)), st.just((2, 3))), max_size=1).map(tuple),
    aliases=st.dictionaries(NAMES, NAMES, max_size=2),
    unfinished=st.lists(NAMES, max_size=2).map(tuple),
    failures=st.dictionaries(st.integers(0, 9), NAMES, max_size=2),
    faults=st.lists(
        st.builds(FaultUse, NAMES, NAMES, st.none() | st.integers(1, 3), st.integers(0, 9), st.just((1, 4))), max_size=2
    ).map(tuple),
    optimizer_states=st.lists(
        st.builds(OptimizerState, NAMES, st.none() | st.integers(1, 9), MATRICES, MATRICES), max_size=2
    ).map(tuple),
)


def _fields(kind):
    """Return the names of the fields of a dataclass or a struct; nothing of anything else."""
    return tuple(getattr(kind, "__dataclass_fields__", None) or getattr(kind, "__struct_fields__", ()))


def _spelled(value):
    """Return anything in a record as something that compares: fields by name, arrays by dtype and bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if names := _fields(type(value)):
        return type(value).__name__, {name: _spelled(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {key: _spelled(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(entry) for entry in value]
    return repr(value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])  # a record is large to draw
@given(RECORDS)
def test_a_recording_comes_back_as_it_was(record):
    """Every field and every bit, bodies that look like arrays of the format included."""
    arrays = {}

    def keep(content):
        arrays[str(len(arrays))] = content
        return str(len(arrays) - 1)

    back = from_text(to_text(record, scrubbed=True, keep=keep), arrays.__getitem__)
    assert _spelled(back) == _spelled(record)


@pytest.mark.parametrize("kind", [Record, Exchange, Operation, FaultUse, OptimizerState])
def test_no_field_of_a_record_is_forgotten(kind):
    """What is drawn above has every field set, so that one which is added later cannot be left out in silence."""
    drawn = {Record: RECORDS, Exchange: EXCHANGES, Operation: OPERATIONS}.get(kind)
    given = set(drawn.wrapped_strategy.kwargs) if drawn is not None else set(_fields(kind))
    assert given == set(_fields(kind))


def _large():
    tensor = Tensor("float32", (2000,), np.linspace(-1, 0, 2000, dtype=np.float32))
    return Record(operations=(Operation("model-1", 1, "forward", 0, ({"logprobs": tensor},), {}),))


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a recording with an array in a file of its own."""
    write_recording(tmp_path / "taken", _large())
    return tmp_path / "taken"


def test_a_large_array_is_raw_bytes_beside_the_document(folder):
    """Written whole by one renaming: nothing is left beside the folder."""
    assert sorted(path.suffix for path in folder.iterdir()) == [".bin", ".json"]
    assert [path.name for path in folder.parent.iterdir()] == ["taken"]
    assert _spelled(read_recording(folder).record) == _spelled(_large())
    assert _spelled(read_recording(folder / FILE).record) == _spelled(_large())


def _edit(folder, **changes):
    document = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**document, **changes}))


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


DAMAGE = {
    "truncated": (lambda f: _truncate(f / FILE), "recording-malformed"),
    "array truncated": (lambda f: _truncate(next(f.glob("*.bin"))), "recording-malformed"),
    "array lost": (lambda f: next(f.glob("*.bin")).unlink(), "recording-malformed"),
    "a key of the wrong type": (lambda f: _edit(f, aliases=[]), "recording-malformed"),
    "an unknown key": (lambda f: _edit(f, extra=1), "recording-malformed"),
    "numbers gone": (lambda f: _edit(f, numbers={}), "recording-malformed"),
    "schema is no number": (lambda f: _edit(f, schema="1"), "recording-malformed"),
    "of the future": (lambda f: _edit(f, schema=2, news=[1]), "recording-newer"),
    "another kind": (lambda f: _edit(f, kind="har"), "recording-foreign"),
    "a list": (lambda f: (f / FILE).write_text("[]"), "recording-foreign"),
    "not text": (lambda f: (f / FILE).write_bytes(b"\xff\xfe\x00"), "recording-foreign"),
    "empty": (lambda f: (f / FILE).write_text(""), "recording-malformed"),
    "nested without end": (lambda f: (f / FILE).write_text("[" * 100_000), "recording-malformed"),
    "gone": (lambda f: (f / FILE).unlink(), "recording-missing"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_an_error_with_a_code(folder, kind):
    """Each way a recording can be unusable has its code, names the file and has a hint."""
    damage, code = DAMAGE[kind]
    damage(folder)
    with pytest.raises(ParityError) as caught:
        read_recording(folder)
    assert caught.value.code == code
    assert FILE in caught.value.message
    assert caught.value.hint


@settings(max_examples=60)
@given(st.integers(0, 200), st.binary(max_size=3))
def test_no_damage_is_anything_but_a_parity_error(tmp_path_factory, cut, noise):
    """Wherever bytes are put in or the file is cut, it reads, or it is a ParityError."""
    folder = tmp_path_factory.mktemp("cut") / "taken"
    write_recording(folder, Record(aliases={"a": "b"}, failures={1: "x"}))
    content = (folder / FILE).read_bytes()
    place = cut * len(content) // 200
    (folder / FILE).write_bytes(content[:place] + noise + content[place + len(noise) :])
    with suppress(ParityError):
        read_recording(folder)


def test_nothing_is_written_over(folder):
    """A folder with anything in it, or a file, is refused; an empty folder is taken."""
    for taken in (folder, folder / FILE):
        with pytest.raises(ParityError) as caught:
            check_free(taken)
        assert caught.value.code == "recording-exists"
    empty = folder.parent / "empty"
    empty.mkdir()
    write_recording(empty, _large())
    assert _spelled(read_recording(empty).record) == _spelled(_large())


def test_a_place_that_cannot_be_written_to_is_said(folder):
    """A path below a file is no folder; nothing is left behind."""
    with pytest.raises(ParityError) as caught:
        write_recording(folder / FILE / "deeper" / "out", _large())
    assert caught.value.code == "recording-unwritable"
    assert [path.name for path in folder.parent.iterdir()] == ["taken"]
