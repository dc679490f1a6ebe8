"""The timeline of contracts: the file that is shipped, and what a timeline refuses."""

from __future__ import annotations

import copy
import tomllib
from functools import cache
from pathlib import Path

import msgspec
import pytest

from harness.contracts.timeline import build_timeline, load_timeline, release_key
from harness.errors import ParityError
from harness.locations import locate

PATH = locate().timeline
TIMELINE = load_timeline(PATH)
RAW = tomllib.loads(PATH.read_text("utf-8"))
CHANGES = list(enumerate(TIMELINE.changes))


@cache
def _state(changes):
    """Return the newest contract after so many changes, as plain values without its name."""
    line = build_timeline({**RAW, "change": RAW["change"][:changes]}, PATH)
    state = msgspec.to_builtins(line.points[line.described[-1]])
    return {key: value for key, value in state.items() if key not in ("id", "release")}


def test_the_described_releases_are_those_of_the_first_suite():
    """0.7.0 to 0.15.0 without a hole, and 0.38.0, in order."""
    assert TIMELINE.described == (
        *("0.7.0", "0.8.0", "0.8.1", "0.9.0", "0.10.0", "0.11.0", "0.12.0", "0.13.0", "0.13.1", "0.14.0", "0.15.0"),
        "0.38.0",
    )


@pytest.mark.parametrize(("index", "change"), CHANGES, ids=[f"{i}-{c.release}" for i, c in CHANGES])
def test_every_change_says_what_and_where_from(index, change):
    """A change has a sentence and a source, and really changes the contract unless it says that nothing changes."""
    assert change.says.endswith(".")
    assert change.source.startswith(("run: ", "read: "))
    old, new = _state(index), _state(index + 1)
    assert (old == new) == (not change.set and not change.drop)
    assert (old == new) == change.says.startswith("Nothing changes here")


@pytest.mark.parametrize(("index", "change"), CHANGES, ids=[f"{i}-{c.release}" for i, c in CHANGES])
def test_every_key_of_a_change_matters(index, change):
    """No key sets what already stood there."""
    for key, value in change.set.items():
        place = _state(index)
        for part in key.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        assert place != value, key


def test_a_release_since_is_one_that_is_not_described():
    """`since` names the real release of what is folded into a later one: before it, after the one described before."""
    for change in TIMELINE.changes:
        if change.since:
            position = TIMELINE.described.index(change.release)
            earlier = TIMELINE.described[position - 1]
            assert release_key(earlier) < release_key(change.since) < release_key(change.release)


def test_points_keep_what_later_changes_replace():
    """A point is not touched by the changes after it."""
    assert TIMELINE.point("tinker-0.7.0").wire.templates["retrieve_future"] == {"request_id": "$request_id"}
    assert "allow_metadata_only" in TIMELINE.point("tinker-0.14.0").wire.templates["retrieve_future"]
    assert "ttl_seconds" not in TIMELINE.point("tinker-0.8.1").wire.templates["save_weights"]
    assert TIMELINE.point("tinker-0.9.0").wire.templates["save_weights"]["ttl_seconds"] == "$null"
    assert "project_id" not in TIMELINE.point("tinker-0.14.0").wire.templates["create_session"]
    assert TIMELINE.point("tinker-0.15.0").wire.templates["create_session"]["project_id"] == "$null"
    assert TIMELINE.point("tinker-0.7.0").custom_loss.pairing == "truncating"
    assert TIMELINE.point("tinker-0.8.0").custom_loss.pairing == "strict"


def test_every_route_of_a_session_has_a_template_and_every_request_type_an_accept_header():
    """A client finds what it needs for every request it makes under every contract."""
    for release in TIMELINE.described:
        contract = TIMELINE.contract_for_version(release)
        session = contract.session
        routes = {*session.start, *session.model, *session.end, "session_heartbeat", "retrieve_future", "get_info"}
        routes |= {"optim_step", "save_weights", "load_weights", "save_weights_for_sampler"}
        if contract.wire.encoding == "json":
            routes |= {contract.wire.forward_route, "forward_backward"}
        assert routes == set(contract.wire.templates), release
        assert set(contract.wire.accept) == {
            *("CreateModel", "Forward", "ForwardBackward", "OptimStep"),
            *("SaveWeights", "LoadWeights", "SaveWeightsForSampler"),
        }


@pytest.mark.parametrize(
    ("version", "before"), [("0.16.1", "0.15.0"), ("0.37.9", "0.15.0"), ("0.6.3", "0.7.0"), ("1.0.0", "0.38.0")]
)
def test_an_undescribed_release_is_refused_by_name(version, before):
    """The error names the release, the described ones and the last before it."""
    with pytest.raises(ParityError) as caught:
        TIMELINE.contract_for_version(version)
    assert caught.value.code == "contract-undescribed"
    assert version in caught.value.message
    assert all(release in caught.value.message for release in TIMELINE.described)
    assert f"tinker-{before} " in caught.value.hint


def test_a_name_that_is_no_contract_is_refused():
    """Only `tinker-<release>` names a contract."""
    with pytest.raises(ParityError) as caught:
        TIMELINE.point("0.15.0")
    assert caught.value.code == "contract-unknown"


def _broken(change):
    raw = copy.deepcopy(RAW)
    change(raw)
    return raw


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("no place", lambda raw: raw["change"][0]["set"].update({"nowhere.key": 1})),
        ("not there", lambda raw: raw["change"][0].update(drop=["wire.encodings"])),
        ("stands after", lambda raw: raw["change"].append({**raw["change"][0], "release": "0.9.0"})),
        ("baseline", lambda raw: raw["change"].insert(0, {**raw["change"][0], "release": "0.7.0"})),
        ("unknown field", lambda raw: raw["change"][0].update(sets={})),
        ("unknown field", lambda raw: raw["change"][0]["set"].update({"chunking.max_counts": 1})),
        ("Expected `int`", lambda raw: raw["change"][0]["set"].update({"chunking.max_count": "many"})),
        ("no release", lambda raw: raw["baseline"].pop("release")),
        ("missing required field", lambda raw: raw["baseline"].pop("chunking")),
    ],
)
def test_a_malformed_timeline_is_refused(what, spoil):
    """Unknown keys, wrong types, keys without a place and releases out of order are errors that say what is wrong."""
    with pytest.raises(ParityError) as caught:
        build_timeline(_broken(spoil), Path("timeline.toml"))
    assert caught.value.code == "timeline-malformed"
    assert what in caught.value.message


def test_an_unreadable_file_is_refused(tmp_path):
    """A missing file and one that is no TOML are the same error."""
    (tmp_path / "bad.toml").write_text("[baseline", "utf-8")
    for name in ("bad.toml", "missing.toml"):
        with pytest.raises(ParityError) as caught:
            load_timeline(tmp_path / name)
        assert caught.value.code == "timeline-malformed"
