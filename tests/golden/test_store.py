"""The golden store: stored once where it differs, found from any release, whole or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traces import datum, failing_run, full_run, with_datums, with_input, with_requests, with_step

from harness.errors import ParityError
from harness.golden.blend import differences
from harness.golden.canonical import canonical
from harness.golden.document import from_document, to_document
from harness.golden.store import GoldenStore, golden_digest
from harness.golden.text import parse, render
from mock_server.record import Tensor

DESCRIBED = ("0.7.0", "0.8.0", "0.38.0")
FULL = full_run()
FAILING = failing_run()


def _all(trace, *, newest=None):
    """Return one scenario's traces at every release; the newest may be another."""
    return {("a/one", r): newest if newest is not None and r == DESCRIBED[-1] else trace for r in DESCRIBED}


def _text(trace):
    arrays = {}

    def keep(content):
        arrays[str(len(arrays))] = content
        return str(len(arrays) - 1)

    return render(to_document(trace), keep), arrays


def _same(left, right):
    return differences(*(parse(text, arrays.__getitem__) for text, arrays in map(_text, (left, right)))) == []


def _large():
    """Return a run whose plain pass carries arrays above the inline size."""
    long = datum(range(300), range(1, 301), [x / 8 for x in range(300)])
    return with_datums(FULL, "pl", "", lambda i, d: long if i == 0 else d)


@pytest.fixture
def store(tmp_path):
    """Return a store over an empty folder."""
    return GoldenStore(tmp_path / "golden")


@pytest.mark.parametrize("trace", [FULL, FAILING, _large()], ids=["full", "failing", "large"])
def test_a_trace_comes_back_as_it_was(store, trace):
    """Everything of a trace but arrival and messages survives emit and load."""
    store.emit(_all(trace), DESCRIBED)
    loaded = store.load("a/one", "0.8.0", DESCRIBED)
    assert loaded.contract == "tinker-0.8.0"
    assert _same(loaded, canonical(trace))
    assert loaded.steps == canonical(trace).steps
    for left, right in zip(loaded.requests, canonical(trace).requests, strict=True):
        assert (left.seq_id, left.call, left.arrival, left.sent_after) == (
            right.seq_id,
            right.call,
            right.arrival,
            right.sent_after,
        )
        for a, b in zip(
            left.batch.datums if left.batch else (), right.batch.datums if right.batch else (), strict=True
        ):
            assert a.tokens.tolist() == b.tokens.tolist()
            for key, tensor in b.inputs.items():
                assert a.inputs[key].values.tobytes() == tensor.values.tobytes()
                assert (a.inputs[key].shape, a.inputs[key].dtype) == (tensor.shape, tensor.dtype)


def test_a_trace_is_stored_once_per_point_where_it_differs(store):
    """Releases that share a trace share a file, and each release finds the one that holds for it."""
    newest = with_step(FULL, "opt", metrics={"lr": 0.5})
    done = store.emit(_all(FULL, newest=newest), DESCRIBED)
    assert [n for n in done.written if n != "index.json"] == ["0.38.0/a/one.json", "0.7.0/a/one.json"]
    assert store.resolve("a/one", "0.8.0", DESCRIBED) == "0.7.0/a/one.json"
    assert store.load("a/one", "0.38.0", DESCRIBED).steps[3].metrics == {"lr": 0.5}
    assert store.load("a/one", "0.8.0", DESCRIBED).steps[3].metrics == {"lr": 0.01}


def test_emitting_again_changes_nothing(store):
    """A second emit of the same traces writes nothing."""
    store.emit(_all(_large()), DESCRIBED)
    again = store.emit(_all(_large()), DESCRIBED)
    assert (again.written, again.removed) == ((), ())


def test_a_number_within_tolerance_is_left_alone(store):
    """Numbers of another machine, a little off, leave every file as it is; a wrong one changes its file."""
    store.emit(_all(FULL), DESCRIBED)
    near = with_input(
        FULL, "fb", "backward", "weights", lambda _, t: replace(t, values=t.values * np.float32(1.000001))
    )
    near = replace(near, training=tuple(replace(s, gradient=s.gradient + 1e-9) for s in near.training))
    assert store.emit(_all(near), DESCRIBED).written == ()
    assert store.verify(_all(near), DESCRIBED) == []
    far = with_input(FULL, "fb", "backward", "weights", lambda _, t: replace(t, values=t.values * np.float32(1.01)))
    stale = store.verify(_all(far), DESCRIBED)
    assert [s.release for s in stale] == list(DESCRIBED)
    assert "inputs" in stale[0].differences[0]
    assert store.emit(_all(far), DESCRIBED).written == ("0.7.0/a/one.json", "index.json")


def test_what_the_server_sent_is_named_not_digested(store):
    """Digests of what the server sent are symbols, so that numbers within tolerance cannot move them."""
    store.emit(_all(FULL), DESCRIBED)
    text = (store.root / "0.7.0/a/one.json").read_text()
    assert text.count('"as-sent"') == 3
    assert store.load("a/one", "0.7.0", DESCRIBED).steps[1].saw == FULL.steps[1].saw


def test_a_report_keeps_its_order(store):
    """Regularizers come back in the order of their declaration, whatever a file sorts; so does a part that failed."""
    store.emit({**_all(FULL), **{("b/two", release): FAILING for release in DESCRIBED}}, DESCRIBED)
    told = {step.step: step for step in store.load("a/one", "0.7.0", DESCRIBED).steps}
    right = next(step for step in FULL.steps if step.step == "parts")
    assert (told["parts"].report, told["parts"].flat, told["parts"].saw) == (right.report, right.flat, right.saw)
    assert list(told["parts"].report["regularizers"]) == ["l2", "l1"]
    failed = next(step for step in store.load("b/two", "0.7.0", DESCRIBED).steps if step.failed is not None)
    assert (failed.failed.part, failed.failed.name) == ("regularizer", "l1")


def test_unordered_arrivals_are_canonical(store):
    """Chunks that may arrive in any order give one golden trace, whatever the order was this time."""
    store.emit(_all(FULL), DESCRIBED)
    moved = with_requests(FULL, lambda r: replace(r, arrival=r.arrival * 7))
    assert store.verify(_all(moved), DESCRIBED) == []


def test_equal_arrays_are_stored_once(store):
    """Large arrays are files of their own, named by content and shared by all traces."""
    newest = with_step(_large(), "opt", metrics={"lr": 0.5})
    store.emit(_all(_large(), newest=newest) | {("b/two", r): _large() for r in DESCRIBED}, DESCRIBED)
    arrays = sorted(path.name for path in (store.root / "arrays").iterdir())
    assert arrays
    assert len(arrays) == len({(store.root / "arrays" / name).read_bytes() for name in arrays})
    text = (store.root / "0.7.0/b/two.json").read_text()
    assert all(name.removesuffix(".bin") in text for name in arrays)


def test_a_partial_emit_leaves_the_others_and_a_complete_one_removes_them(store):
    """Scenarios that are not named stay, with their arrays, unless the set is said to be complete."""
    store.emit(_all(FULL) | {("b/two", r): _large() for r in DESCRIBED}, DESCRIBED)
    assert store.emit(_all(FAILING), DESCRIBED).removed == ()
    assert store.scenarios() == ("a/one", "b/two")
    assert store.check_files() == []
    removed = store.emit(_all(FAILING), DESCRIBED, complete=True).removed
    assert "0.7.0/b/two.json" in removed
    assert any(name.startswith("arrays/") for name in removed)
    assert not (store.root / "0.7.0/b").exists()
    assert store.check_files() == []


def test_certificates_are_left_alone(store):
    """What is under certified/ belongs to another command."""
    certificate = store.root / "certified" / "tinker-0.7.0.json"
    certificate.parent.mkdir(parents=True)
    certificate.write_text("{}")
    store.emit(_all(FULL), DESCRIBED, complete=True)
    assert certificate.exists()
    assert store.check_files() == []


def test_every_described_release_must_come(store):
    """A scenario cannot be emitted for some releases only: others would inherit the wrong trace."""
    with pytest.raises(ValueError, match=r"0\.38\.0"):
        store.emit({("a/one", r): FULL for r in DESCRIBED[:2]}, DESCRIBED)
    assert not store.root.exists()


def test_nothing_stored_is_golden_missing(store):
    """A scenario without a trace is an error that says how to make one."""
    with pytest.raises(ParityError) as caught:
        store.load("a/one", "0.7.0", DESCRIBED)
    assert caught.value.code == "golden-missing"
    assert "parity golden emit" in caught.value.hint


def test_another_stimulus_is_golden_stale(store):
    """A trace of a scenario that has changed since is refused."""
    store.emit(_all(FULL), DESCRIBED)
    assert store.load("a/one", "0.7.0", DESCRIBED, stimulus="f" * 64)
    with pytest.raises(ParityError) as caught:
        store.load("a/one", "0.7.0", DESCRIBED, stimulus="0" * 64)
    assert caught.value.code == "golden-stale"


@pytest.mark.parametrize("damage", ["truncated", "edited", "missing"])
@pytest.mark.parametrize("which", ["trace", "array", "index"])
def test_damage_is_named(store, damage, which):
    """A truncated, edited or missing file is an error that names the file and the way out, before a trace is read."""
    store.emit(_all(_large()), DESCRIBED)
    array = next((store.root / "arrays").iterdir())
    path = {"trace": store.root / "0.7.0/a/one.json", "array": array, "index": store.root / "index.json"}[which]
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content.replace(b"a", b"b", 1) if b"a" in content else b"\1" + content[1:])
    fresh = GoldenStore(store.root)
    with pytest.raises(ParityError) as caught:
        fresh.find("a/one", "0.7.0", DESCRIBED)
    assert caught.value.code == "golden-corrupt"
    assert path.relative_to(store.root).as_posix() in caught.value.message
    assert "parity golden emit" in caught.value.hint


def test_a_trace_is_read_at_the_first_call(store):
    """Once, and not before: what happens to an array in between is seen."""
    store.emit(_all(_large()), DESCRIBED)
    read, unread = (GoldenStore(store.root).find("a/one", "0.7.0", DESCRIBED) for _ in range(2))
    trace = read()
    next((store.root / "arrays").iterdir()).unlink()
    assert read() is trace
    with pytest.raises(ParityError) as caught:
        unread()
    assert caught.value.code == "golden-corrupt"


def test_emit_repairs_damage(store):
    """After damage, an emit leaves the set whole again."""
    store.emit(_all(_large()), DESCRIBED)
    (store.root / "0.7.0/a/one.json").write_text("{")
    next((store.root / "arrays").iterdir()).unlink()
    GoldenStore(store.root).emit(_all(_large()), DESCRIBED)
    assert GoldenStore(store.root).check_files() == []
    assert GoldenStore(store.root).verify(_all(_large()), DESCRIBED) == []


def test_a_complete_emit_repairs_the_index(store):
    """Without a usable index a partial emit is refused, because it would lose the rest; a complete one starts anew."""
    store.emit(_all(FULL), DESCRIBED)
    (store.root / "index.json").write_text("{}")
    with pytest.raises(ParityError, match=r"index\.json"):
        GoldenStore(store.root).emit(_all(FULL), DESCRIBED)
    GoldenStore(store.root).emit(_all(FULL), DESCRIBED, complete=True)
    assert GoldenStore(store.root).check_files() == []


def test_an_interrupted_emit_touches_nothing(store, monkeypatch):
    """When a file cannot be written, what was there is still there, and nothing else is left behind."""
    store.emit(_all(FULL), DESCRIBED)
    before = {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}
    calls = []

    def failing(path, content):
        calls.append(path)
        if len(calls) == 2:
            raise OSError("no space left")
        return original(path, content)

    original = type(store.root).write_bytes
    monkeypatch.setattr(type(store.root), "write_bytes", failing)
    with pytest.raises(OSError, match="no space"):
        store.emit(_all(_large()), DESCRIBED)
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()} == before


def test_digests_of_the_set(store):
    """The set has a digest, and each release one that later releases do not move."""
    store.emit(_all(FULL), DESCRIBED)
    whole, old = golden_digest(store.root), store.digest("0.8.0", DESCRIBED)
    store.emit(_all(FULL, newest=FAILING), DESCRIBED)
    assert golden_digest(store.root) != whole
    assert store.digest("0.8.0", DESCRIBED) == old
    assert store.digest("0.38.0", DESCRIBED) != old


SPECIAL = st.sampled_from(
    [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 5e-324, 1.4e-45, 3.4028234663852886e38]
)


@given(
    st.sampled_from(["float16", "float32", "float64", "int64", "int32", "uint8"]),
    st.lists(st.floats(width=32) | SPECIAL, max_size=40),
    st.integers(0, 300),
)
def test_numbers_come_back_bit_for_bit(dtype, numbers, repeat):
    """Arrays of every dtype and size survive writing and reading, inline, repeated or in a file."""
    with np.errstate(all="ignore"):
        array = np.array(numbers + numbers[:1] * repeat, dtype=np.float64).astype(dtype)
    arrays = {}

    def keep(content):
        arrays["x"] = content
        return "x"

    back = parse(render({"a": array}, keep), arrays.__getitem__)["a"]
    assert back.dtype == array.dtype
    nan = np.isnan(array.astype(np.float64))
    assert (np.isnan(back.astype(np.float64)) == nan).all()
    assert back[~nan].tobytes() == array[~nan].tobytes()


TENSORS = st.builds(
    lambda values, dtype, named: Tensor(dtype, (len(values),) if named else None, np.array(values, dtype=dtype)),
    st.lists(st.integers(-5, 5), max_size=5),
    st.sampled_from(["float32", "int64"]),
    st.booleans(),
)
CSR = st.just(Tensor("float32", (2, 3), np.array([1.5, 2.5], "f4"), "csr", np.array([0, 1, 2]), np.array([2, 0])))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.dictionaries(st.sampled_from(["weights", "target_tokens", "x"]), TENSORS | CSR, max_size=3), max_size=6)
)
def test_any_mixture_of_inputs_comes_back(rows):
    """Datums may differ in keys, dtypes, layouts and shapes; the columns give each back."""
    trace = with_datums(FULL, "pl", "", lambda i, d: replace(d, inputs=rows[i % len(rows)] if rows else {}))
    text, arrays = _text(trace)
    back = from_document(parse(text, arrays.__getitem__), contract="tinker-0.7.0")
    for left, right in zip(trace.requests, back.requests, strict=True):
        for a, b in zip(
            left.batch.datums if left.batch else (), right.batch.datums if right.batch else (), strict=True
        ):
            assert a.inputs.keys() == b.inputs.keys()
            for key, tensor in a.inputs.items():
                other = b.inputs[key]
                assert (tensor.dtype, tensor.shape, tensor.layout) == (other.dtype, other.shape, other.layout)
                assert tensor.values.tobytes() == other.values.tobytes()
                assert tensor.dense().tobytes() == other.dense().tobytes()


def test_a_golden_file_can_be_reviewed(store):
    """Keys are sorted, small arrays are on one line, and no line holds a nested block of many."""
    store.emit(_all(FULL), DESCRIBED)
    text = (store.root / "0.7.0/a/one.json").read_text()
    assert '"values": [0.5, -0.25, 1.5, 2.5, -3.5]' in text
    assert text.count("\n") > 100
    assert max(map(len, text.splitlines())) < 300
