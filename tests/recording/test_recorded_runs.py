"""Recorded runs: what was observed is judged offline as it was live, and a file that is not whole is refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import aclosing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from recording.test_recording_store import RECORDS, _spelled

from harness.drivers.registry import PYTHON_VARIABLES
from harness.drivers.spec import DriverSpec, base_environment
from harness.engine.events import CheckJudged, RecordingOpened, ScenarioFinished
from harness.engine.prepare import prepare
from harness.engine.recorded import judge_run
from harness.engine.recorder import recorded
from harness.engine.run import run
from harness.errors import ParityError
from harness.locations import locate
from harness.recording import runs
from harness.recording.runs import FILE, Driven, FailureEntry, RunHeader, RunWriter, Seen, read_run
from mock_server.record import Record

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "golden"
CAN = ("close", "create_model", "forward", "forward_backward", "forward_backward_custom", "get_info", "optim_step")
DRIVEN = Driven("tinker", "0.38.0", "d", "python", "CPython", "tinker-0.38.0", CAN, {"torch": "2"})


def _header(**changes):
    return replace_struct(
        RunHeader("parity-run", 1, "0", date(2026, 1, 1).isoformat(), "tinker-0.38.0", DRIVEN, {}), **changes
    )


def replace_struct(struct, **changes):
    """Return a struct with some fields changed."""
    return type(struct)(**{**{name: getattr(struct, name) for name in struct.__struct_fields__}, **changes})


def _written(folder, *records, header=None):
    writer = RunWriter(folder, golden=GOLDEN)
    writer.begin(header or _header())
    for number, record in enumerate(records):
        name = f"s/{number}"
        failure = FailureEntry("crash", "gone", "", "bye") if number else None
        seen = [Seen(b'{"id": 1}', None, failure, record)] * (1 + number)
        packed = writer.pack(scenario=name, stimulus="x", seconds=1.0, seen=seen)
        writer.add(name, packed, reruns=number, note="again" if number else "")
    return writer.finish()


@settings(max_examples=25)
@given(st.lists(RECORDS, max_size=2))
def test_a_recorded_run_comes_back_as_it_was(tmp_path_factory, records):
    """Header, lines, failures, reruns, and every bit of what the server saw."""
    folder = tmp_path_factory.mktemp("run")
    _written(folder, *records)
    back = read_run(folder, golden=GOLDEN)
    assert back.header == _header()
    for number, record in enumerate(records):
        assert [*map(_spelled, back.records(f"s/{number}"))] == [_spelled(record)] * (1 + number)
        assert {each.line for each in back.scenarios[f"s/{number}"].rounds} == {'{"id": 1}'}
    assert back.reruns == {f"s/{number}": (number, "again") for number in range(1, len(records))}


@settings(max_examples=40)
@given(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=3))
def test_no_part_of_a_recording_passes_for_a_whole_one(tmp_path_factory, where, noise):
    """Cut anywhere it is refused; with other bytes in it, it is refused or, byte for byte, the same."""
    folder = tmp_path_factory.mktemp("run")
    content = _written(folder, Record(aliases={"a": "b"}), Record(failures={1: "x"})).read_bytes()
    place = int(where * len(content))
    edited = content[:place] + noise + content[place + len(noise) :]
    for damaged in (content[:place], edited):
        if damaged == content:
            continue
        (folder / FILE).write_bytes(damaged)
        with pytest.raises(ParityError) as caught:
            read_run(folder, golden=GOLDEN)
        assert caught.value.code in {"recording-malformed", "recording-foreign", "recording-newer"}
        assert caught.value.hint


def _frame(line):
    return zstandard.ZstdCompressor().compress(json.dumps(line).encode() + b"\n")


def test_foreign_future_and_missing_recordings_are_told_apart(tmp_path):
    """Each has its code; the version that is read is named."""
    cases = {
        "recording-missing": None,
        "recording-foreign": b"PK\x03\x04 something else",
        "recording-newer": _frame({"kind": runs.KIND, "schema": 2, "more": 1}),
        "recording-malformed": _frame({"kind": runs.KIND, "schema": 1}),
    }
    for code, content in cases.items():
        if content is not None:
            (tmp_path / FILE).write_bytes(content)
        with pytest.raises(ParityError) as caught:
            read_run(tmp_path, golden=GOLDEN)
        assert caught.value.code == code
    (tmp_path / FILE).write_bytes(_frame({"kind": "har"}))
    with pytest.raises(ParityError, match="kind"):
        read_run(tmp_path, golden=GOLDEN)


def test_an_array_that_golden_lost_is_missed(tmp_path):
    """Arrays of golden are named, not stored: one that is gone makes the scenario unreadable, not empty."""
    taken = recorded_run(tmp_path / "r", expression="chunks/count-1025")
    assert not any(entry.arrays for entry in read_run(taken, golden=GOLDEN).scenarios.values())
    back = read_run(taken, golden=tmp_path / "no-golden")
    with pytest.raises(ParityError, match="record again") as caught:
        back.records("chunks/count-1025")
    assert caught.value.code == "recording-malformed"


# --- whole runs -------------------------------------------------------------------------------------------------------


async def _events(plan, stop_at=None):
    events, stop = [], asyncio.Event()
    async with aclosing(run(plan, stop=stop)) as stream:
        async for event in stream:
            events.append(event)
            if stop_at is not None and isinstance(event, stop_at):
                stop.set()
    return events


def _plan(expression, *, mutant=None, contract="tinker-0.38.0"):
    plan = replace(
        prepare(locate(ROOT), sdk="reference", contract=contract, expression=expression), vectors=(), rerun=False
    )
    if mutant is None:
        return plan
    spec = DriverSpec(
        argv=(sys.executable, "-s", str(ROOT / "tests" / "mutants" / "driver.py"), mutant),
        name="mutant",
        version="0.38.0",
        env=base_environment(PYTHON_VARIABLES),
    )
    return replace(plan, spec=spec)


def recorded_run(folder, *, expression=None, stop_at=None):
    """Record the reference and return the folder."""
    plan, _ = recorded(_plan(expression), folder, locations=locate(ROOT))
    asyncio.run(_events(plan, stop_at))
    return folder


def _verdicts(events):
    return {(e.scenario, e.check): e for e in events if isinstance(e, CheckJudged)}


@pytest.mark.parametrize("mutant", [None, "sign"])
def test_a_recording_is_judged_as_the_run_was(tmp_path, mutant):
    """Every verdict is the same, word by word, for a client that is right and for one that is wrong."""
    expression = "order/ or session/ or errors/" if mutant is None else "custom/ or training/"
    plan, recorder = recorded(_plan(expression, mutant=mutant), tmp_path / "r", locations=locate(ROOT))
    live = asyncio.run(_events(plan))
    assert recorder.path == tmp_path / "r" / FILE
    assert [path.name for path in (tmp_path / "r").iterdir()] == [FILE]
    offline = list(judge_run(locate(ROOT), tmp_path / "r"))
    assert (mutant is not None) == any(e.outcome == "fail" for e in _verdicts(live).values())
    assert _verdicts(offline) == _verdicts(live)
    (opened,) = [event for event in offline if isinstance(event, RecordingOpened)]
    assert opened.stale == ()
    assert "chunks/count-1025" in opened.unplanned
    around = [{e.scenario: e.around for e in told if isinstance(e, ScenarioFinished)} for told in (live, offline)]
    assert around[0] == around[1]


CRASHES = """
import json, sys
hello = json.loads(sys.stdin.readline())
sdk = {"name": "fake", "version": "1.0"}
told = {"protocol": "1.0", "nonce": hello["nonce"], "sdk": sdk, "language": "python", "runtime": "x"}
told |= {"contract": "tinker-0.38.0", "capabilities": sys.argv[1:]}
print(json.dumps({"id": hello["id"], "ok": told}), flush=True)
sys.stdin.readline()
sys.stderr.write("last words\\n")
sys.exit(3)
"""


def test_a_driver_that_failed_is_recorded_as_that(tmp_path):
    """A crash is an error offline too, and what was planned and never run is not_run, not a pass."""
    spec = DriverSpec((sys.executable, "-c", CRASHES, *CAN), "fake", "1.0", base_environment())
    plan, _ = recorded(replace(_plan("session/lifecycle"), spec=spec), tmp_path / "r", locations=locate(ROOT))
    live = _verdicts(asyncio.run(_events(plan)))
    assert {event.outcome for event in live.values()} == {"error"}
    assert "last words" in next(iter(live.values())).message
    assert _verdicts(judge_run(locate(ROOT), tmp_path / "r")) == live
    stimuli = {planned.scenario.id: planned.stimulus for planned in plan.scenarios}
    _written(tmp_path / "r", header=_header(stimuli=stimuli))
    verdicts = _verdicts(judge_run(locate(ROOT), tmp_path / "r"))
    assert {event.outcome for event in verdicts.values()} == {"not_run"}


def test_an_interrupted_run_leaves_the_recording_as_it_was(tmp_path):
    """Old or new, never half: nothing of the interrupted run is there, and what was there still is."""
    folder = recorded_run(tmp_path / "r", expression="custom/sum-literal")
    before = (folder / FILE).read_bytes()
    recorded_run(folder, expression="custom/", stop_at=ScenarioFinished)
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert (folder / FILE).read_bytes() == before
    recorded_run(folder, expression="session/lifecycle")
    assert set(read_run(folder, golden=GOLDEN).scenarios) == {"session/lifecycle"}


def test_a_writer_that_is_killed_leaves_the_recording_as_it_was(tmp_path):
    """What it had written so far is beside the recording, and the next one may replace both."""
    _written(tmp_path, Record(aliases={"a": "b"}))
    before = (tmp_path / FILE).read_bytes()
    writer = RunWriter(tmp_path, golden=GOLDEN)
    writer.begin(_header())
    assert (tmp_path / FILE).read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2
    writer.discard()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    (tmp_path / f".{FILE}.99999999.part").write_bytes(b"half")
    _written(tmp_path, Record(aliases={"c": "d"}))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]  # what the dead process left is gone
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ParityError) as caught:
        RunWriter(tmp_path, golden=GOLDEN)
    assert caught.value.code == "recording-exists"


# --- the command line -------------------------------------------------------------------------------------------------


def _parity(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_the_commands_record_and_judge(tmp_path):
    """`parity run --record` and `parity check`: the report is that of a run, and says that it was recorded."""
    done = _parity("run", "--sdk", "reference", "-k", "custom/sum-literal", "--record", tmp_path / "r")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"recorded in {tmp_path / 'r' / FILE}" in done.stderr
    done = _parity("check", tmp_path / "r", "--json", tmp_path / "v.json", "--no-stale")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "v.json").read_text())
    assert report["totals"]["pass"] == len(report["results"]) > 20
    assert report["recording"]["stale"] == []
    assert "chunks/count-1025" in report["recording"]["unplanned"]
    done = _parity("check", tmp_path / "r", "--contract", "tinker-0.7.0")
    assert done.returncode == 1
    assert "wire.encoding" in done.stdout
    for option in (("--scenario", "custom/sum-literal"), ("--sdk", "reference")):
        assert _parity("check", tmp_path / "r", *option).returncode == 2
    done = _parity("check", tmp_path / "nothing")
    assert (done.returncode, "error [recording-missing]" in done.stderr) == (2, True)


def test_changed_scenarios_are_stale_and_listed(tmp_path):
    """They are not judged; with --no-stale that is a failure, and where nothing else is left an error."""
    folder = recorded_run(tmp_path / "r", expression="custom/sum-literal or session/lifecycle")
    back = read_run(folder, golden=GOLDEN)
    changed = {**back.header.stimuli, "session/lifecycle": "another", "gone/away": "x"}
    _rewrite(folder, back, changed)
    done = _parity("check", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stale 2 scenarios changed since, not judged:\n       gone/away, session/lifecycle" in done.stdout
    assert _parity("check", folder, "--no-stale").returncode == 1
    _rewrite(folder, back, dict.fromkeys(changed, "another"))
    done = _parity("check", folder)
    assert (done.returncode, "error [recording-stale]" in done.stderr) == (2, True)


def _rewrite(folder, back, stimuli):
    writer = RunWriter(folder, golden=GOLDEN)
    writer.begin(replace_struct(back.header, stimuli=stimuli))
    for name, entry in back.scenarios.items():
        fields = {key: getattr(entry, key) for key in ("scenario", "stimulus", "seconds")}
        seen = [
            Seen(each.line.encode(), each.steps, each.failure, record)
            for each, record in zip(entry.rounds, back.records(name), strict=True)
        ]
        packed = writer.pack(**fields, seen=seen)
        writer.add(name, packed, reruns=0, note="")
    writer.finish()


def test_what_is_not_live_is_not_recorded(tmp_path):
    """A replay is refused before anything runs; a folder that holds something else too."""
    done = _parity("run", "--sdk", "reference", "--replay", "--record", tmp_path / "r")
    assert (done.returncode, "error [record-not-live]" in done.stderr) == (2, True)
    assert not (tmp_path / "r").exists()
    (tmp_path / "mine.txt").write_text("x")
    done = _parity("run", "--sdk", "reference", "-k", "custom/sum-literal", "--record", tmp_path)
    assert (done.returncode, "error [recording-exists]" in done.stderr) == (2, True)
