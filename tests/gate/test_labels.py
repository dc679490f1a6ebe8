"""The algebra of labels: what every pair of outcomes means, said once more in another way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from made_up import reported, told

from harness.engine.events import BaselineHeld, CheckJudged
from harness.gate.labelling import Labelling
from harness.gate.labels import Earlier, Stand, label, stand
from harness.reports.tally import DIVERGED, HELD, Tally, fails

OUTCOMES = ["pass", "fail", "known", "fixed", "unsupported", "error", "not_run"]
STANDS = st.builds(
    Stand,
    outcome=st.sampled_from(OUTCOMES),
    of=st.sampled_from(["diverges: scaled", "diverges: opposite-sign", "error: it crashed"]),
)
REQUIRED = st.builds(Stand, outcome=st.just("unsupported"), required=st.just(True), of=st.just("unsupported: x"))
ANY = STANDS | REQUIRED
PAIRS = [("a/one", "order.seq"), ("a/one", "weights.values"), ("b/two", "order.seq"), ("c/three", "chunks.limits")]
RESULTS = st.lists(
    st.tuples(
        st.sampled_from(PAIRS),
        st.sampled_from(OUTCOMES),
        st.sampled_from(["", "scaled", "opposite-sign"]),
        st.sampled_from(["it differs by 3", "it differs by 4", "it is gone"]),
    ),
    min_size=1,
    unique_by=lambda each: each[0],
).map(lambda found: sorted((*pair, outcome, cause, message) for pair, outcome, cause, message in found))


@given(ANY, ANY)
def test_every_pair_of_outcomes_has_its_label(old, new):
    """The rules as a table over what both sides say of the subject."""
    now_good, was_good = new.holds, old.holds
    was_bad = old.outcome in {"fail", "known", "error", "not_run"} or old.required
    found, _ = label(old, new)
    if now_good:
        expected = None if was_good else "fixed"
    elif new.outcome == "known":
        expected = "known"
    elif new.outcome == "unsupported" and not new.required:
        expected = None if old.outcome == "unsupported" and not old.required else "not-comparable"
    elif not was_bad:
        expected = "new"
    else:
        expected = "known" if old.of == new.of else "changed"
    assert found == expected


@given(ANY)
def test_a_report_against_itself_has_nothing_new(one):
    """Nothing is new, changed, mended or beyond comparison; what fails is known."""
    found, _ = label(one, one)
    assert found == ("known" if one.fails else None)


@given(ANY, ANY)
def test_what_was_new_one_way_is_fixed_the_other_way(old, new):
    """A failure of what held, read backwards, is a repair."""
    there, _ = label(old, new)
    back, _ = label(new, old)
    if there == "new" and old.holds:
        assert back == "fixed"
    if there == "changed":
        assert back in {"changed", "known"}


@given(ANY)
def test_without_an_earlier_result_nothing_is_claimed(new):
    """A check that did not exist is new in the suite, one that was left out is not comparable, whatever it says now."""
    assert label(None, new) == ("new-in-suite", "")
    assert label(None, new, why_absent="slow") == ("not-comparable", "slow")


@given(ANY, ANY)
def test_another_stimulus_is_another_check(old, new):
    """What was asked of the client is part of what is compared."""
    assert label(old, new, changed_stimulus=True)[0] == "not-comparable"


def _gate(old, new):
    labelling = Labelling(Earlier(reported(told(old)), "d"))
    tally, plain = Tally(), Tally()
    for heard in told(new):
        plain.handle(heard)
        for event in labelling.heard(heard):
            tally.handle(event)
    return tally, plain


@given(RESULTS, RESULTS)
def test_the_ledger_decides_and_the_baseline_labels(old, new):
    """No baseline changes the exit status of a run; and where it is 0, no label says new or changed."""
    tally, plain = _gate(old, new)
    assert tally.exit_status == plain.exit_status
    if tally.exit_status == HELD:
        assert {each.label for each in tally.labels.values()} <= {"known", "fixed", "new-in-suite", "not-comparable"}
    for pair, each in tally.labels.items():
        if each.label in {"new", "changed"}:
            assert tally.exit_status == DIVERGED
            assert any(fails(result) for result in tally.results if (result.scenario, result.check) == pair)


@given(RESULTS)
def test_a_run_labelled_by_its_own_report_repeats_it(results):
    """Every failure is known, nothing else is said, and the baseline is named in the events."""
    tally, _ = _gate(results, results)
    assert isinstance(tally.baseline, BaselineHeld)
    assert {each.label for each in tally.labels.values()} <= {"known"}
    known = {pair for pair, each in tally.labels.items() if each.label == "known"}
    assert known == {(s, c) for s, c, outcome, *_ in results if outcome in {"fail", "known", "error", "not_run"}}


def test_what_the_ledger_adds_to_a_message_is_no_other_cause():
    """The same divergence listed, listed otherwise, expired and not listed at all failed of the same."""
    said = "worst at 3: 0.5, expected 0.25"
    additions = [
        "", " (known bug: the sign)", " (known missing-feature: it (x) lacks)",
        " (listed in the ledger, but with cause 'scaled')", " (known until 2026-01-01, which is over)",
    ]  # fmt: skip
    ofs = {stand(CheckJudged("a", "b", "fail", said + addition)).of for addition in additions}
    assert ofs == {"diverges: worst at #: #, expected #"}


def test_a_cause_tells_divergences_apart_and_numbers_do_not():
    """With a cause the message does not count; without one it does, its numbers aside."""

    def of(message, cause=""):
        return stand(CheckJudged("a", "b", "fail", message, cause=cause)).of

    assert of("off by 1", "scaled") == of("another sentence", "scaled") != of("off by 1", "opposite-sign")
    assert of("chunk 3 has 1025 datums") == of("chunk 4 has 2000 datums") != of("chunk 3 is empty")


def test_an_interrupted_run_says_nothing_about_what_it_did_not_reach():
    """What a signal kept from being judged has no label: it is not a new failure."""
    old = [("a/one", "order.seq", "pass", "", ""), ("b/two", "order.seq", "pass", "", "")]
    new = [("a/one", "order.seq", "fail", "", "x"), ("b/two", "order.seq", "not_run", "", "interrupted")]
    labelling = Labelling(Earlier(reported(told(old)), "d"))
    events = [event for heard in told(new, interrupted=True) for event in labelling.heard(heard)]
    held = next(event for event in events if isinstance(event, BaselineHeld))
    assert [(each.scenario, each.label) for each in held.labels] == [("a/one", "new")]
