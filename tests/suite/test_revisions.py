"""Revisions of the suite: what is released stays, what is later is not scored, and the next one has the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.contracts.timeline import load_timeline
from harness.engine.prepare import not_scored, open_suite
from harness.engine.releasing import release, verify
from harness.errors import ParityError
from harness.locations import Locations, locate
from harness.suite.revisions import read_revisions

ROOT = Path(__file__).parents[2]
ONE, TWO = "custom/sum-literal", "custom/last-token"
DESCRIBED = load_timeline(locate(ROOT).timeline).described


def test_what_is_released_stays_as_it_is():
    """Every scenario and check of a committed revision is in the suite, unchanged. The sentence says what to do."""
    sentences, _ = verify(locate(ROOT))
    assert sentences == []


@pytest.fixture
def places(tmp_path) -> Locations:
    """Return a suite of one scenario, free to be changed."""
    shutil.copytree(ROOT / "fixtures/losses", tmp_path / "fixtures/losses")
    shutil.copytree(ROOT / "fixtures/contracts", tmp_path / "fixtures/contracts")
    places = Locations(root=tmp_path)
    add(places, ONE)
    return places


def add(places: Locations, scenario: str) -> Path:
    """Put a scenario of the suite into the small one."""
    file = places.fixtures / f"scenarios/{scenario}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / f"fixtures/scenarios/{scenario}.toml", file)
    return file


def edit(places: Locations, scenario: str, before: str, after: str) -> None:
    """Change the file of a scenario."""
    file = places.fixtures / f"scenarios/{scenario}.toml"
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, after, 1), "utf-8")


def unscored(places: Locations, revision: int, release: str = "0.38.0") -> set[tuple[str, str]]:
    """Return what is later than a revision."""
    suite = open_suite(places)
    chosen = {name: scenario.judge.checks for name, scenario in suite.scenarios.items()}
    return set(not_scored(places, suite, chosen, revision=revision, release=release))


def test_a_revision_has_what_is_new_since_the_one_before(places):
    """The first has everything, the second one scenario and one check; the first file is left as it was."""
    edit(places, ONE, '"weights.values",', "")
    assert release(places).startswith("revision 1 released: 1 scenarios, ")
    first = (places.revisions / "1.json").read_bytes()
    edit(places, ONE, '"weights.shape"', '"weights.values", "weights.shape"')
    add(places, TWO)
    assert release(places).startswith("revision 2 released: 2 scenarios, ")
    second = json.loads((places.revisions / "2.json").read_text("utf-8"))
    assert second["scenarios"][ONE]["checks"] == ["weights.values"]
    assert (places.revisions / "1.json").read_bytes() == first
    assert verify(places) == ([], "revision 2: 2 scenarios; 0 scenarios have something later")
    assert unscored(places, 2) == set()
    later = unscored(places, 1)
    assert {scenario for scenario, _ in later} == {ONE, TWO}
    assert {check for scenario, check in later if scenario == ONE} == {"weights.values"}
    with pytest.raises(ParityError) as caught:
        release(places)
    assert caught.value.code == "revision-empty"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("[stimulus", "[stimulus", ""),
        ("title = ", 'title = "x"  # ', ""),
        ("tokens = [1, 2]", "tokens = [1, 3]", "has changed"),
        ('"weights.values",', "", "not asked for any more"),
    ],
)
def test_a_change_of_what_is_released_is_told_with_what_to_do(places, before, after, says):
    """Titles are free; a stimulus or a check that moved is named, and neither released again nor scored."""
    release(places)
    edit(places, ONE, before, after)
    sentences, _ = verify(places)
    if not says:
        assert sentences == []
        return
    assert len(sentences) == 1
    assert f"{ONE}" in sentences[0]
    assert says in sentences[0]
    assert "revision 1" in sentences[0]
    for attempt in (lambda: release(places), lambda: unscored(places, 1)):
        with pytest.raises(ParityError) as caught:
            attempt()
        assert caught.value.code == "revision-moved"


def test_a_released_scenario_that_is_gone_is_told(places):
    """A released scenario stays."""
    release(places)
    add(places, TWO)
    (places.fixtures / f"scenarios/{ONE}.toml").unlink()
    assert verify(places)[0] == [
        f"{ONE} was released in revision 1 and is gone: bring it back, a released scenario stays"
    ]


def test_a_range_of_releases_is_released_as_a_range(places):
    """A check that is released for some releases is scored there alone; widening it is for the next revision."""
    edit(places, ONE, '"weights.values",', "")
    file = places.fixtures / f"scenarios/{ONE}.toml"
    text = file.read_text("utf-8")
    ranged = '\n[[judge.also]]\nuntil = "0.9.0"\nchecks = ["weights.values"]\n'
    file.write_text(text + ranged, "utf-8")
    release(places)
    told = json.loads((places.revisions / "1.json").read_text("utf-8"))["scenarios"][ONE]["checks"]
    assert "weights.values until 0.9.0" in told
    released = read_revisions(places.revisions, newest=1)
    scored = {at: released.scored(at, DESCRIBED)(ONE, "weights.values") for at in DESCRIBED}
    assert scored == {at: DESCRIBED.index(at) <= DESCRIBED.index("0.9.0") for at in DESCRIBED}
    file.write_text(text.replace('"weights.shape"', '"weights.values", "weights.shape"'), "utf-8")
    assert verify(places)[0] == []
    release(places)
    assert read_revisions(places.revisions, newest=2).scored("0.38.0", DESCRIBED)(ONE, "weights.values")
    file.write_text(text + ranged, "utf-8")
    assert "0.14.0, 0.15.0, 0.38.0)" in verify(places)[0][0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "1.json").write_text("{", "utf-8"),
        lambda folder: (folder / "1.json").unlink(),
        lambda folder: (folder / "2.json").write_bytes((folder / "1.json").read_bytes()),
        lambda folder: (folder / "1.json").write_bytes((folder / "1.json").read_bytes() + b"\n"),
        lambda folder: (folder / "2.json").write_text(
            (folder / "2.json").read_text("utf-8").replace('"schema": 1', '"schema": 9'), "utf-8"
        ),
    ],
)
def test_an_edited_revision_is_refused(places, damage):
    """Cut, gone, doubled, touched, or of another schema: a released file is the one that was committed."""
    release(places)
    add(places, TWO)
    release(places)
    damage(places.revisions)
    with pytest.raises(ParityError) as caught:
        verify(places)
    assert caught.value.code == "revisions-malformed"


def test_the_users_own_scenarios_are_scored_and_never_released(places, tmp_path):
    """A revision is about the suite; what the user adds always counts."""
    release(places)
    own = tmp_path / "mine/scenarios/own/sum.toml"
    own.parent.mkdir(parents=True)
    text = (ROOT / f"fixtures/scenarios/{ONE}.toml").read_text("utf-8")
    own.write_text(text.replace(ONE, "own/sum"), "utf-8")
    with_own = Locations(root=places.root, own=tmp_path / "mine")
    assert unscored(with_own, 1) == set()
    with pytest.raises(ParityError) as caught:
        release(with_own)
    assert caught.value.code == "revision-empty"


def test_a_revision_that_does_not_exist_is_refused(places):
    """The error says which there are."""
    for number in (1, 2):
        with pytest.raises(ParityError) as caught:
            unscored(places, number)
        assert caught.value.code == "revision-unknown"
        if number == 1:
            release(places)


def test_a_selection_of_later_checks_only_is_refused(places):
    """A run in which nothing counts would say that everything held."""
    release(places)
    add(places, TWO)
    suite = open_suite(places)
    with pytest.raises(ParityError) as caught:
        not_scored(places, suite, {TWO: suite.scenarios[TWO].judge.checks}, revision=1, release="0.38.0")
    assert caught.value.code == "selection-empty"
