"""From the wire to verdicts: recorded and imported traffic is judged offline, right and wrong alike."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from traffic import ROOT, traffic

from harness.engine.offline import check_recording, why_left_out
from harness.errors import ParityError
from harness.locations import locate
from harness.recording.assemble import assemble
from harness.recording.har import read_har
from harness.recording.store import FILE, write_recording

SCENARIOS = (
    "chunks/count-1025",
    "custom/targets-2d",
    "errors/loss-raises",
    "state/load-weights",
    "order/ids-are-shared",
)
POINTS = ("tinker-0.7.0", "tinker-0.38.0")


@pytest.fixture(scope="module")
def said():
    """Return the reference's traffic by contract and scenario."""
    return {point: traffic(SCENARIOS, point) for point in POINTS}


def _judged(folder, raw, scenario, point):
    write_recording(folder, assemble(raw))
    return check_recording(locate(ROOT), folder, scenario_id=scenario, contract=point)


def _red(judged):
    return {result.check for result in judged.results if result.outcome != "pass"}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_the_reference_said_holds(said, tmp_path, scenario, point):
    """Every check that needs the wire alone is judged and passes; every other is left out, with a reason."""
    judged = _judged(tmp_path / "out", said[point][scenario], scenario, point)
    assert _red(judged) == set()
    assert len(judged.results) > 15
    assert {check.partition(".")[0] for check, _ in judged.left_out} <= {
        "error", "gaps", "loss", "metrics", "result", "training",
    }  # fmt: skip
    assert all(reason for _, reason in judged.left_out)


def test_another_release_is_told_by_the_wire_alone(said, tmp_path):
    """Traffic of 0.7.0 is not that of 0.38.0."""
    judged = _judged(tmp_path / "out", said["tinker-0.7.0"]["chunks/count-1025"], "chunks/count-1025", "tinker-0.38.0")
    assert {"wire.encoding", "order.arrival", "session.start"} <= _red(judged)


def test_a_lost_request_is_found(said, tmp_path):
    """Without its last pass a recording is red, in the checks that are about it."""
    raw = said["tinker-0.38.0"]["chunks/count-1025"]
    last = [exchange for exchange in raw if exchange.path.endswith("/forward_backward")][-1]
    judged = _judged(tmp_path / "out", [e for e in raw if e is not last], "chunks/count-1025", "tinker-0.38.0")
    assert "chunks.complete" in _red(judged)
    assert "wire.encoding" not in _red(judged)


def test_resends_and_undecodable_bodies_are_told_as_on_the_server(said):
    """The same request twice is folded, another body under a used id is a violation, and so is a broken body."""
    raw = said["tinker-0.38.0"]["order/ids-are-shared"]
    steps = [e for e in raw if e.path.endswith("/optim_step")]
    again = replace(steps[0], at_ms=raw[-1].at_ms + 1)
    changed = json.loads(steps[0].body)
    changed["adam_params"]["learning_rate"] = 0.5
    reused = replace(again, at_ms=again.at_ms + 1, body=json.dumps(changed).encode())
    broken = replace(again, at_ms=again.at_ms + 2, body=b"{")
    strange = replace(again, at_ms=again.at_ms + 3, path="/api/v1/no_such_route")
    record = assemble([*raw, again, reused, broken, strange])
    assert record.exchanges[len(record.exchanges) - 4].resend_of is not None
    assert [v.code for v in record.violations] == ["seq-reused", "undecodable-body", "unknown-path"]


def test_other_sites_and_identities_are_left_out(said):
    """Requests outside the API say nothing; how a client identifies itself is nobody's business."""
    raw = said["tinker-0.38.0"]["errors/loss-raises"]
    others = [replace(raw[0], path="/static/app.js"), replace(raw[0], path="/api/v1/auth/token")]
    assert len(assemble([*raw, *others]).exchanges) == len(raw)
    moved = [replace(e, path=f"/services/prod{e.path}") for e in raw]
    assert [e.route for e in assemble(moved).exchanges] == [e.route for e in assemble(raw).exchanges]


# --- HAR --------------------------------------------------------------------------------------------------------------


def _har(raw, *, version="1.2"):
    """Return a HAR document, as an exporter writes it: bodies that are no text as base64."""
    start = datetime(2025, 1, 1, tzinfo=UTC)
    entries = []
    for exchange in raw:
        binary = "protobuf" in exchange.headers.get("content-type", "")
        text = base64.b64encode(exchange.body).decode() if binary else exchange.body.decode()
        answered = exchange.answered_ms if exchange.answered_ms is not None else exchange.at_ms
        entries.append(
            {
                "startedDateTime": (start + timedelta(milliseconds=exchange.at_ms)).isoformat(),
                "time": answered - exchange.at_ms,
                "connection": exchange.connection,
                "request": {
                    "method": exchange.method,
                    "url": f"https://example.invalid{exchange.path}?trace=1",
                    "headers": [{"name": n.title(), "value": v} for n, v in exchange.headers.items()],
                    "postData": {"mimeType": "", "text": text, **({"encoding": "base64"} if binary else {})},
                },
                "response": {
                    "status": exchange.status,
                    "content": {
                        "mimeType": exchange.media_type,
                        "text": base64.b64encode(exchange.response).decode(),
                        "encoding": "base64",
                    },
                },
            }
        )
    return {"log": {"version": version, "entries": entries}}


@pytest.mark.parametrize("point", POINTS)
def test_a_har_file_gives_the_same_verdicts(said, tmp_path, point):
    """JSON and protobuf, text and base64: what the proxy recorded and what a HAR file has are judged alike."""
    for number, (scenario, raw) in enumerate(said[point].items()):
        file = tmp_path / f"{number}.har"
        file.write_text(json.dumps(_har(raw)))
        judged = _judged(tmp_path / f"out{number}", read_har(file), scenario, point)
        assert _red(judged) == set()


def _parity(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_commands_import_and_judge(said, tmp_path):
    """`parity import-har` and `parity check` say what they did, in text and JSON, by exit status too."""
    scenario, raw = "errors/loss-raises", said["tinker-0.38.0"]["errors/loss-raises"]
    (tmp_path / "a.har").write_text(json.dumps(_har(raw)))
    done = _parity("import-har", tmp_path / "a.har", "--out", tmp_path / "taken")
    assert done.returncode == 0, done.stderr
    judge = ("check", tmp_path / "taken", "--scenario", scenario, "--json", tmp_path / "v.json")
    done = _parity(*judge, "--contract", "tinker-0.38.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out" in done.stdout
    written = json.loads((tmp_path / "v.json").read_text())
    assert {result["outcome"] for result in written["results"]} == {"pass"}
    assert all(entry["reason"] for entry in written["left_out"])
    done = _parity(*judge, "--contract", "tinker-0.7.0")
    assert done.returncode == 1
    assert "fail     wire.encoding" in done.stdout
    done = _parity("check", tmp_path / "taken", "--scenario", scenario, "--contract", "tinker-0.0.1")
    assert done.returncode == 2
    assert "error [contract-undescribed]" in done.stderr


def test_traffic_is_judged_by_the_ledger_of_whose_it_is(said, tmp_path):
    """A listed failure is known, one that is not listed still fails; without --sdk there is nobody it is about."""
    raw = said["tinker-0.7.0"]["errors/loss-raises"]
    write_recording(tmp_path / "taken", assemble(raw))
    told = {"scenario_id": "errors/loss-raises", "contract": "tinker-0.38.0"}
    plain = check_recording(locate(ROOT), tmp_path / "taken", **told)
    red = [result for result in plain.results if result.outcome == "fail"]
    ledger = tmp_path / "mine.toml"
    entry = 'versions = "==0.7.0"\ncontract = "tinker-0.38.0"\nkind = "by-design"\nreason = "r"\nsource = "s"\n'
    ledger.write_text(
        f'[[divergence]]\nscenario = "errors/loss-raises"\ncheck = "{red[0].check}"\ncause = "{red[0].cause}"\n{entry}'
    )
    judged = check_recording(locate(ROOT), tmp_path / "taken", **told, sdk="tinker==0.7.0", ledger=ledger)
    assert [r.check for r in judged.results if r.outcome == "known"] == [red[0].check]
    assert [r.check for r in judged.results if r.outcome == "fail"] == [r.check for r in red[1:]]
    with pytest.raises(ParityError) as caught:
        check_recording(locate(ROOT), tmp_path / "taken", **told, ledger=ledger)
    assert caught.value.code == "ledger-subject"


def test_judging_loads_no_tensor_library(said, tmp_path):
    """A recording can be judged where torch is not installed."""
    write_recording(tmp_path / "taken", assemble(said["tinker-0.38.0"]["errors/loss-raises"]))
    program = "import sys\nsys.modules['torch'] = None\nfrom harness.cli import main\nmain(sys.argv[1:])\n"
    arguments = ["check", str(tmp_path / "taken"), "--scenario", "errors/loss-raises", "--contract", "tinker-0.38.0"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


GOOD = _har([])["log"]
HAR_DAMAGE = {
    "truncated": ('{"log": {"version": "1.2", "entries": [', "har-malformed"),
    "something else": ('{"kind": "parity-recording"}', "har-malformed"),
    "a list": ("[]", "har-malformed"),
    "an entry without request": ('{"log": {"entries": [{}]}}', "har-malformed"),
    "of the future": (json.dumps({"log": {**GOOD, "version": "2.0"}}), "har-unsupported"),
    "without traffic": (json.dumps({"log": GOOD}), "har-empty"),
}


@pytest.mark.parametrize("kind", HAR_DAMAGE)
def test_har_files_that_cannot_be_read_are_errors(tmp_path, kind):
    """Each has a code, names the file, and a hint says what to export."""
    text, code = HAR_DAMAGE[kind]
    (tmp_path / "a.har").write_text(text)
    with pytest.raises(ParityError) as caught:
        read_har(tmp_path / "a.har")
    assert (caught.value.code, "a.har" in caught.value.message) == (code, True)


@pytest.mark.parametrize("broken", ["base64", "time", "zone", "status"])
def test_broken_entries_are_named(said, tmp_path, broken):
    """Base64, times and statuses that are none make the file malformed, not a crash."""
    document = _har(said["tinker-0.38.0"]["errors/loss-raises"])
    entry = document["log"]["entries"][1]
    if broken == "base64":
        entry["response"]["content"]["text"] = "?"
    elif broken == "status":
        entry["response"]["status"] = "x"
    else:
        entry["startedDateTime"] = "yesterday" if broken == "time" else "2025-01-01T00:00:00"
    (tmp_path / "a.har").write_text(json.dumps(document))
    with pytest.raises(ParityError) as caught:
        read_har(tmp_path / "a.har")
    assert caught.value.code == "har-malformed"


def test_a_part_that_is_missing_is_named(said, tmp_path):
    """An entry without a status says so in words."""
    document = _har(said["tinker-0.38.0"]["errors/loss-raises"])
    del document["log"]["entries"][1]["response"]["status"]
    (tmp_path / "a.har").write_text(json.dumps(document))
    with pytest.raises(ParityError, match=r"a\.har: entry 1 has no status ") as caught:
        read_har(tmp_path / "a.har")
    assert caught.value.code == "har-malformed"


def test_a_file_that_is_not_there_and_a_har_given_to_check_are_told(tmp_path):
    """Both are errors with a code, and the second says what to do."""
    with pytest.raises(ParityError) as caught:
        read_har(tmp_path / "none.har")
    assert caught.value.code == "har-malformed"
    (tmp_path / FILE).write_text(json.dumps({"log": GOOD}))
    done = _parity("check", tmp_path, "--scenario", SCENARIOS[0], "--contract", POINTS[1])
    assert done.returncode == 2
    assert "error [recording-foreign]" in done.stderr
    assert "import-har" in done.stderr


def test_reasons_are_only_for_checks_that_need_more_than_the_wire():
    """The wire's own checks have none."""
    for check in ("wire.bodies", "weights.values", "order.seq", "error.sent", "session.end", "chunks.limits"):
        assert why_left_out(check) == ""
    for check in ("loss.calls", "result.hang", "error.kind", "gaps.none", "training.steps", "metrics.names"):
        assert why_left_out(check)
