"""Shards put together are the run they were cut from; what does not belong together is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import account, reported, shards_of, told
from test_labels import RESULTS

from harness.engine.events import CheckJudged
from harness.errors import ParityError
from harness.gate.labelling import Labelling
from harness.gate.labels import Earlier
from harness.gate.merge import merged
from harness.gate.retelling import retold
from harness.reports.document import document
from harness.reports.tally import Tally

SOME = [(f"a/{name}", "order.seq", "pass", "", "") for name in ("one", "two", "three")]


def _named(parts):
    return [(f"{number}.json", part) for number, part in enumerate(parts, start=1)]


@given(RESULTS)
def test_a_report_told_again_makes_the_same_report(results):
    """Everything the JSON holds survives the way through the events."""
    judged = [
        CheckJudged(s, c, outcome, message, "e", "o", "w", cause, outcome == "unsupported", "likely", "x", s == "b/two")
        for s, c, outcome, cause, message in results
    ]
    events = told(judged, slow=[("s/slow", "order.seq")], accounts=[account("one", known=1)], scored=1)
    labelling = Labelling(Earlier(reported(told(results)), "d"))
    first = reported([each for event in events for each in labelling.heard(event)])
    assert reported(retold(first)) == first


@given(RESULTS, st.integers(1, 3))
def test_the_parts_together_are_the_whole(results, of):
    """Results, order, suite digest, totals and exit status are those of one run of everything."""
    of = min(of, len({result[0] for result in results}))
    whole = reported(told(results))
    joined = reported(retold(merged(_named(reversed(shards_of(results, of))))))
    assert joined == msgspec.structs.replace(whole, seconds=1.5 * of)


def test_an_entry_that_one_part_uses_is_used():
    """Unused in one shard and used in another is used; unused in all is unused, and fails the whole alone."""

    def accounts(mine):
        entries = [account("nowhere", unused=True)]
        return [*entries, account("wide", known=1) if "a/one" in mine else account("wide", unused=True)]

    parts = shards_of(SOME, 3, accounts=accounts)
    assert [part.exit_status for part in parts] == [0, 0, 0]
    joined = reported(retold(merged(_named(parts))))
    assert [(entry.entry, entry.known, entry.unused) for entry in joined.ledger] == [
        ("nowhere", 0, True),
        ("wide", 1, False),
    ]
    assert joined.exit_status == 1


def test_a_part_without_anything_supported_is_left_to_the_whole():
    """A shard holds where nothing in it fails; a whole in which nothing held does not."""
    results = [("a/one", "order.seq", "unsupported", "", ""), ("b/two", "order.seq", "pass", "", "")]
    parts = shards_of(results, 2)
    assert [part.exit_status for part in parts] == [0, 0]
    assert reported(retold(merged(_named(parts)))).exit_status == 0
    parts = shards_of([results[0], ("b/two", "order.seq", "unsupported", "", "")], 2)
    assert reported(retold(merged(_named(parts)))).exit_status == 1


def test_an_interrupted_part_interrupts_the_whole():
    """Nothing that was judged is lost, and the exit status says that it is not everything."""
    parts = shards_of(SOME, 3)
    parts[1] = msgspec.structs.replace(parts[1], interrupted=True)
    joined = reported(retold(merged(_named(parts))))
    assert (joined.interrupted, joined.exit_status, len(joined.results)) == (True, 2, 3)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda parts: parts[:2], "merge-incomplete"),
        (lambda parts: [*parts, parts[0]], "merge-twice"),
        (lambda parts: [*parts[:2], shards_of(SOME, 3, version="2.0")[2]], "merge-mismatch"),
        (lambda parts: [*parts[:2], shards_of(SOME, 3, contract="tinker-0.7.0")[2]], "merge-mismatch"),
        (lambda parts: [*parts[:2], shards_of(SOME, 3, runtime="OTP 28")[2]], "merge-mismatch"),
        (lambda parts: [*parts[:2], shards_of(SOME, 3, dependencies={"a": "1"})[2]], "merge-mismatch"),
        (lambda parts: [*parts[:2], shards_of(SOME[:2], 2)[1]], "merge-mismatch"),
        (lambda parts: [*parts[:2], shards_of(SOME, 3, scored=1)[2]], "merge-mismatch"),
        (lambda parts: [*parts[:2], shards_of(SOME, 3, replay=True)[2]], "merge-mismatch"),
        (lambda parts: [*parts[:2], shards_of(SOME, 3, options=("--slow",))[2]], "merge-mismatch"),
        (lambda parts: [*parts[:2], shards_of(SOME, 3, options=("--ledger", "a.toml"))[2]], "merge-mismatch"),
        (lambda parts: [*parts[:2], reported(told(SOME))], "merge-whole"),
        (lambda parts: [*parts[:2], msgspec.structs.replace(parts[2], results=[])], "merge-mismatch"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(change, code):
    """Missing, doubled, of another version, contract, machine or run: each has its code."""
    with pytest.raises(ParityError) as caught:
        merged(_named(change(shards_of(SOME, 3))))
    assert caught.value.code == code


def test_a_place_may_be_another_one_on_another_machine():
    """The folders of a matrix's machines differ; a file of another name is another file."""
    here = shards_of(SOME, 3, options=("--ledger", "/home/one/known.toml", "--timeout", "5"))
    there = shards_of(SOME, 3, options=("--ledger", "/srv/two/known.toml", "--timeout", "5"))
    assert merged(_named([*here[:2], there[2]]))
    other = shards_of(SOME, 3, options=("--ledger", "/srv/two/others.toml", "--timeout", "5"))
    with pytest.raises(ParityError, match="options is"):
        merged(_named([*here[:2], other[2]]))


def test_a_driver_that_never_answered_in_one_part_does_not_keep_the_others_from_being_merged():
    """Such a part knows nothing of the SDK's code; its checks say that it failed."""
    results = [("a/one", "order.seq", "error", "", "crash"), ("b/two", "order.seq", "pass", "", "")]
    parts = shards_of(results, 2)
    bare = msgspec.structs.replace(parts[0].sdk, language="", runtime="", digest="", libraries={}, capabilities=())
    joined = merged(_named([msgspec.structs.replace(parts[0], sdk=bare), parts[1]]))
    assert len(joined.results) == 2


def test_the_tally_of_a_merged_report_names_no_shard():
    """The whole is no part: its unused entries count again."""
    tally = Tally()
    for event in retold(merged(_named(shards_of(SOME, 3)))):
        tally.handle(event)
    assert tally.shard is None
    assert document(tally).run.shard is None
