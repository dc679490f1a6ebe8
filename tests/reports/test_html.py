"""The page's text and data: what is in it, how large it gets, and that nothing of a subject is markup in it."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from harness.engine.events import (
    CheckJudged,
    PicturedChunk,
    PicturedPass,
    PicturedRequest,
    PicturedWeights,
    PlannedCheck,
    RecordingOpened,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    ScenarioPictured,
)
from harness.reports.html import BYTES, page
from harness.reports.html.__main__ import main as compare
from harness.reports.html.block import folded, unfolded
from harness.reports.tally import Tally
from harness.reports.text import for_terminal

ROOT = Path(__file__).parents[2]
TINKEX = ROOT / "docs" / "tinkex-0.4.0.html"
MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&\u2028"


def data_of(text):
    """Return the data of a page."""
    return unfolded(text)[1]


@pytest.fixture
def pictured():
    """Return the picture of a scenario with this much in it."""

    def pictured(scenario, *, requests=20, numbers=48, seed=0):
        chunk = (PicturedChunk(1, 4), PicturedChunk(2, 1))
        rng = random.Random(seed)
        begins = [rng.uniform(0, 9e4) for _ in range(requests)]
        values = tuple(0.125 * n for n in range(numbers))
        return ScenarioPictured(
            scenario,
            requests=tuple(
                PicturedRequest("c1", "forward", "forward", "model-1", 7, 4, at, at + 1.1, 200, False) for at in begins
            ),
            passes=(PicturedPass("fb forward", "forward", "model-1", chunk, chunk[:1]),),
            weights=PicturedWeights("fb backward", 0, numbers, 1, (3,), values, (float("nan"), *values[1:])),
        )

    return pictured


def test_has_every_result_and_what_is_said_about_it(events, play):
    """Each planned check is in the table of its scenario; those that did not pass say why."""
    data = data_of(page(play(events)))
    assert data["totals"] == [1] * 7
    cells = {entry["id"]: entry["cells"] for entry in data["scenarios"]}
    assert sum(len(row.replace(".", "")) for row in cells.values()) == 7
    (limit,) = [entry for entry in data["scenarios"] if entry["id"] == "chunks/limit"]
    told = [data["texts"][index] for index in limit["found"][0][2:]]
    assert told[1:4:2] == ["1024", "fb seq 3"]
    assert "\\x1b]0;owned\\x07" in told[0]


def test_the_worst_scenario_comes_first(events, play):
    """Scenarios stand in the order of their worst outcome, as failures come first everywhere."""
    data = data_of(page(play(events)))
    assert [entry["id"] for entry in data["scenarios"]] == ["chunks/limit", "state/load", "custom/sum"]


def test_nothing_of_a_subject_is_markup(play):
    """Texts are data: the page has its own two scripts and no other, whatever a subject says."""
    judged = CheckJudged(MARKUP, "a.b", "fail", MARKUP, MARKUP, MARKUP, MARKUP, MARKUP)
    started = RunStarted(MARKUP, MARKUP, MARKUP, "s", (PlannedCheck(MARKUP, "a.b"),), 1, ("--sdk", MARKUP))
    finished = ScenarioFinished(MARKUP, MARKUP, 0.1, note=MARKUP, around=MARKUP)
    text = page(play((started, judged, finished, RunFinished(0.1))))
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img" not in text
    assert "alert(1)" in str(data_of(text)["texts"]), "it was not told at all"
    assert text.isascii() or "\u2028" not in text


@given(st.recursive(st.text(st.characters(codec=None)), st.lists))
def test_folded_data_reads_as_it_was(value):
    """A block has no character that means something in HTML, and what was folded into it comes out again."""
    block = folded(value)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", block)
    frame, data = unfolded(f'<script type="application/zlib" id="data">{block}</script>')
    assert data == value
    assert frame == '<script type="application/zlib" id="data"></script>'


@pytest.mark.parametrize("broken", ["", "x", "eJw", "eJyrBgAAdQD6", folded([1])[:-8]])
def test_a_broken_block_is_said(broken):
    """What is no block of data is no page."""
    with pytest.raises(ValueError, match="block"):
        unfolded(f'<script type="application/zlib" id="data">{broken}</script>')


def test_loads_nothing_and_runs_only_its_own_script(events, play):
    """The policy names the digests of the page's script and style, and allows nothing else."""
    text = page(play(events))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    for name, content in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_a_page_is_small_however_much_diverges(play, pictured):
    """Everything fails, with texts that no zlib makes short: the page is below 300 KB and counts what it left out."""
    checks = tuple(PlannedCheck(f"area/scenario-{n}", f"family.check{m}") for n in range(100) for m in range(30))
    judged = [
        CheckJudged(*each, "fail", *(_noise(f"{each} {side}") for side in "meow")) for each in map(astuple, checks)
    ]
    names = dict.fromkeys(each.scenario for each in checks)
    pictures = [pictured(name, requests=240) for name in names]
    finished = [ScenarioFinished(name, f"Title of {name}", 0.1) for name in names]
    text = page(play((RunStarted("x", "1", "c", "s", checks, 1), *judged, *pictures, *finished, RunFinished(1.0))))
    assert BYTES * 0.99 < len(text.encode()) <= BYTES < 300_000
    data = data_of(text)
    assert sum(len(entry["cells"]) for entry in data["scenarios"]) == 100 * 30, "the table is whole"
    assert all(data["texts"][entry["title"]] == f"Title of {entry['id']}" for entry in data["scenarios"])
    told = [len({row[2] for row in entry["found"]} - {1}) for entry in data["scenarios"]]
    assert max(told) - min(told) == 1, "one scenario tells more than another"
    assert data["left"] == {"picture": 100, "text": 100 * 30}
    assert sum(entry.get("unpictured", 0) for entry in data["scenarios"]) == 100


def _noise(seed):
    """Return 400 characters that have nothing to do with each other."""
    return "".join(hashlib.sha256(f"{seed} {n}".encode()).hexdigest() for n in range(7))[:400]


@pytest.fixture
def pictured_areas(play, pictured, monkeypatch):
    """Return how many pictures a small page has of each area: 40 scenarios in each, of one outcome, all pictured."""
    monkeypatch.setattr("harness.reports.html.BYTES", 85_000)
    return partial(_pictured_areas, play, pictured)


def _pictured_areas(play, pictured, outcomes):
    checks = [PlannedCheck(f"{area}/scenario-{n:02}", "family.check") for area in outcomes for n in range(40)]
    judged = [CheckJudged(c.scenario, c.check, outcomes[c.scenario.partition("/")[0]], "said") for c in checks]
    pictures = [pictured(each.scenario, requests=60, seed=n) for n, each in enumerate(checks)]
    text = page(play((RunStarted("x", "1", "c", "s", tuple(checks), 1), *judged, *pictures, RunFinished(1.0))))
    assert len(text.encode()) <= 85_000
    data = data_of(text)
    counted = dict.fromkeys(outcomes, 0)
    for entry in data["scenarios"]:
        assert ("picture" in entry) != ("unpictured" in entry)
        counted[entry["id"].partition("/")[0]] += "picture" in entry
    assert data["left"] == {"picture": 120 - sum(counted.values())}
    return counted


def test_pictures_of_what_holds_go_first(pictured_areas):
    """Where not every picture fits, those of scenarios that hold are left out, wherever they stand."""
    counted = pictured_areas({"a": "pass", "b": "known", "c": "fail"})
    assert counted["c"] == counted["b"] == 40
    assert counted["a"] < 40


def test_areas_take_turns(pictured_areas):
    """Of scenarios that are as bad, each area has as many pictures as the others."""
    counted = pictured_areas({"a": "fail", "b": "fail", "c": "fail"})
    assert 30 < sum(counted.values()) < 120
    assert max(counted.values()) - min(counted.values()) <= 1


def test_a_whole_run_of_a_release_leaves_nothing_out():
    """The committed page of Tinkex has every title, every text of a finding, and every picture."""
    data = data_of(TINKEX.read_text("utf-8"))
    assert data["left"] == {}
    assert len(data["scenarios"]) > 150
    index = next(index for index, text in enumerate(data["texts"]) if text.startswith("(left out"))
    for entry in data["scenarios"]:
        assert entry["title"] > index, entry["id"]
        assert all(row[2] > index for row in entry.get("found", ())), entry["id"]
        assert "unpictured" not in entry, entry["id"]
    diverging = [entry for entry in data["scenarios"] if str(data["outcomes"].index("known")) in entry["cells"]]
    assert len(diverging) > 50
    assert [entry["id"] for entry in diverging if "picture" not in entry] == []


def test_a_red_run_of_a_release_tells_every_failure(tmp_path):
    """0.38.0 held against 0.7.0: hundreds of scenarios fail, and each message of the JSON report is in the page."""
    files = {option: tmp_path / f"r.{option}" for option in ("json", "html")}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "check", str(ROOT / "fixtures" / "recorded" / "tinker-0.38.0")),
            *("--contract", "tinker-0.7.0", "--no-stale"),
            *(part for option, file in files.items() for part in (f"--{option}", str(file))),
        ],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    text = files["html"].read_text("utf-8")
    assert len(text.encode()) <= BYTES
    data = data_of(text)
    assert data["left"] == {}
    told = {
        (entry["id"], data["checks"][row[0]]): data["texts"][row[2]]
        for entry in data["scenarios"]
        for row in entry.get("found", ())
    }
    results = json.loads(files["json"].read_text("utf-8"))["results"]
    said = {(each["scenario"], each["check"]): each["message"] for each in results if each["outcome"] != "pass"}
    assert sum(each["outcome"] == "fail" for each in results) > 200
    assert told.keys() == said.keys()
    assert [key for key, message in said.items() if told[key][:600] != for_terminal(message)[:600]] == []
    assert not any("unpictured" in entry for entry in data["scenarios"])


def test_pages_are_compared_by_what_they_say(events, play, tmp_path, capsys):
    """Other compression is no difference; other data is, and other words around it are; what is no page is refused."""
    whole = page(play(events))
    frame, data = unfolded(whole)
    block = base64.b64encode(zlib.compress(json.dumps(data).encode(), 1)).decode()
    texts = {
        "first": whole,
        "again": frame.replace('id="data">', f'id="data">{block}'),
        "data": frame.replace('id="data">', f'id="data">{folded({**data, "totals": [2] * 7})}'),
        "frame": whole.replace("<h2", "<h3"),
        "none": frame,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    statuses = [compare([str(tmp_path / "first"), str(tmp_path / name)]) for name in texts]
    assert statuses == [0, 0, 1, 1, 2]
    told = capsys.readouterr()
    assert told.out.splitlines()[0].endswith("differ: totals")
    assert told.out.splitlines()[1].endswith("differ: the page around the data")
    assert "error: the block of data is broken" in told.err
    assert compare([]) == 2


def test_numbers_that_json_has_not_are_spelled(play, pictured):
    """A weight that is no number stands in the page as JavaScript spells it."""
    planned = PlannedCheck("a/b", "weights.values")
    judged = CheckJudged("a/b", "weights.values", "fail", "differs")
    text = page(play((RunStarted("x", "1", "c", "s", (planned,), 1), judged, pictured("a/b"), RunFinished(1.0))))
    weights = data_of(text)["scenarios"][0]["picture"]["w"]
    assert weights[6][0] == ["NaN"]
    assert weights[6][1:] == [0] * 47


def test_the_page_of_a_recording_is_always_the_same(events, play):
    """How long judging took is not in it."""
    opened = RecordingOpened("2026-11-21", "0.1.0", (), ("faults/beats",))
    first, second = (
        page(play((events[0], opened, *events[1:-1], replace(events[-1], seconds=seconds)))) for seconds in (1.0, 2.0)
    )
    assert first == second
    assert "recorded on 2026-11-21 by parity 0.1.0" in first


def test_nothing_heard_is_still_a_page():
    """An empty tally is an interrupted run."""
    assert "Interrupted" in page(Tally())
