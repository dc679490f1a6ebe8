"""The difference of two reports: every label, every exit status, and everything that keeps two apart."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given
from made_up import reported, told
from test_labels import RESULTS

from harness.engine.events import CheckJudged
from harness.errors import ParityError
from harness.gate.diff import difference, published_schema

SCHEMA = Path(__file__).parents[2] / "docs/schema/diff.schema.json"
OLD = [
    ("a/one", "chunks.limits", "pass", "", ""),
    ("a/one", "order.seq", "fail", "reordered", "late"),
    ("a/one", "weights.values", "known", "scaled", "twice (known bug: r)"),
    ("b/two", "order.seq", "fail", "reordered", "late"),
    ("c/gone", "order.seq", "pass", "", ""),
    ("d/moved", "order.seq", "pass", "", ""),
]
NEW = [
    ("a/one", "chunks.limits", "fail", "cut", "cut at 1023"),
    ("a/one", "order.seq", "pass", "", ""),
    ("a/one", "weights.values", "fail", "opposite-sign", "minus"),
    ("b/two", "order.seq", "fail", "reordered", "late again"),
    ("d/moved", "order.seq", "fail", "reordered", "late"),
    ("e/new", "order.seq", "fail", "reordered", "late"),
]


def _difference(old, new, *, expression=None, before=None, after=None):
    return difference(
        reported(told(old, **(before or {}))), "d1", reported(told(new, **(after or {}))), "d2", expression=expression
    )


def test_every_label_is_given():
    """Each kind of difference is found, in the order reports list them, with its reason."""
    found = _difference(OLD, NEW, after={"stimuli": {"d/moved": "another"}, "version": "1.1"})
    assert [(each.scenario, each.check, each.label, each.said) for each in found.told] == [
        ("a/one", "chunks.limits", "new", ""),
        ("a/one", "order.seq", "fixed", ""),
        ("b/two", "order.seq", "known", ""),
        ("a/one", "weights.values", "changed", "it was scaled"),
        ("e/new", "order.seq", "new-in-suite", ""),
        ("c/gone", "order.seq", "not-comparable", "not in the suite any more"),
        ("d/moved", "order.seq", "not-comparable", "its stimulus has changed since"),
    ]
    assert found.apart == ("version: 1.0, now 1.1",)
    assert (found.unchanged, found.exit_status) == (0, 1)
    jsonschema.validate(json.loads(json.dumps(msgspec.to_builtins(found))), published_schema())


def test_the_published_schema_is_current():
    """docs/schema/diff.schema.json equals what the code generates."""
    assert json.loads(SCHEMA.read_text("utf-8")) == published_schema()


@pytest.mark.parametrize(
    ("expression", "status"),
    [("b/two", 0), ("a/one and chunks", 1), ("a/one and weights", 1), ("a/one and order", 0), ("c/gone or b/two", 2)],
)
def test_the_exit_status_follows_from_the_labels(expression, status):
    """Nothing new is 0, new or changed is 1, else not comparable is 2; -k narrows what is compared."""
    assert _difference(OLD, NEW, expression=expression).exit_status == status


def test_what_is_unscored_is_told_and_decides_nothing():
    """A failure later than the scored revision is labelled, without a say in the exit status."""
    new = [CheckJudged("a/one", "order.seq", "fail", "late", unscored=True), ("b/two", "order.seq", "pass", "", "")]
    old = [("a/one", "order.seq", "pass", "", ""), ("b/two", "order.seq", "pass", "", "")]
    found = _difference(old, new)
    assert [(each.label, each.counts) for each in found.told] == [("new", False)]
    assert found.exit_status == 0


def test_what_was_left_out_is_not_comparable_and_says_why():
    """Slow scenarios and other selections are told from scenarios that the suite did not have."""
    old, new = [("a/one", "order.seq", "pass", "", "")], [("a/one", "order.seq", "pass", "", "")]
    more = [*new, ("s/slow", "order.seq", "pass", "", "")]
    slow = {"slow": [("s/slow", "order.seq")]}
    assert [each.said for each in _difference(old, more, before=slow).told] == ["slow, and left out then"]
    assert [each.said for each in _difference(more, old, after=slow).told] == ["slow, and left out now"]
    some = {"selection": "a/one"}
    assert [each.said for each in _difference(old, more, before=some).told] == ["not selected then (-k 'a/one')"]
    assert [each.said for each in _difference(more, old, after=some).told] == ["not selected now (-k 'a/one')"]
    assert [each.label for each in _difference(old, more, before=some, after=some).told] == ["new-in-suite"]


@given(RESULTS)
def test_a_report_has_no_difference_to_itself(results):
    """Whatever it says, nothing is new and everything is comparable."""
    found = _difference(results, results)
    assert found.exit_status == 0
    assert found.unchanged + found.counts["known"] == len(results)


@given(RESULTS, RESULTS)
def test_every_check_of_either_side_is_accounted_for(old, new):
    """Labels and unchanged checks together are the union; where a pair is missing on one side, the label says so."""
    pairs = {result[:2] for result in old} | {result[:2] for result in new}
    if not {result[:2] for result in old} & {result[:2] for result in new}:
        with pytest.raises(ParityError, match="no check in common"):
            _difference(old, new)
        return
    found = _difference(old, new)
    assert found.unchanged + len(found.told) == len(pairs)
    assert sum(found.counts.values()) == len(found.told)
    for each in found.told:
        before = any(result[:2] == (each.scenario, each.check) for result in old)
        after = any(result[:2] == (each.scenario, each.check) for result in new)
        assert (each.label == "new-in-suite") == (not before)
        assert after or each.label == "not-comparable"


@pytest.mark.parametrize(
    ("after", "code"),
    [
        ({"sdk": "tinker"}, "report-of-another"),
        ({"contract": "tinker-0.38.0"}, "report-of-another"),
        ({"replay": True}, "report-of-another"),
        ({"interrupted": True}, "report-interrupted"),
    ],
)
def test_what_cannot_be_compared_at_all_is_refused(after, code):
    """Another SDK, other rules, another kind of run, a run cut short: an error, not a difference."""
    with pytest.raises(ParityError) as caught:
        _difference(OLD, NEW, after=after)
    assert caught.value.code == code


def test_dependencies_that_differ_are_named():
    """What else changed between the two runs stands beside the labels."""
    old, new = {"dependencies": {"httpx": "0.27.0", "idna": "3"}}, {"dependencies": {"httpx": "0.28.1", "h2": "4"}}
    found = _difference(OLD, OLD, before=old, after=new | {"runtime": "OTP 28"})
    assert found.apart == (
        "runtime: OTP 27, now OTP 28",
        "h2: none, now 4",
        "httpx: 0.27.0, now 0.28.1",
        "idna: 3, now none",
    )
