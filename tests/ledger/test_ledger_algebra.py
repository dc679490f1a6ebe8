"""What holds for every ledger and every verdict."""

from __future__ import annotations

import tomllib
from datetime import date
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checks.verdict import Verdict
from harness.ledger import Divergence, Ledger
from harness.ledger.update import Found, updated

SCENARIOS = ("a/one", "a/two", "b/one")
CHECKS = ("weights.values", "weights.dtype", "order.seq")
PAIRS = [(scenario, check) for scenario in SCENARIOS for check in CHECKS]
TODAY = date(2026, 5, 1)
CAUSES = st.sampled_from(["", "scaled", "opposite-sign"])
VERDICTS = st.builds(
    Verdict,
    outcome=st.sampled_from(["pass", "fail", "not_run"]),
    message=st.sampled_from(["it differs", "it differs by far"]),
    cause=CAUSES,
)
FIELDS = {
    "versions": st.just("==1.0"),
    "kind": st.sampled_from(["bug", "missing-feature", "by-design"]),
    "reason": st.just("r"),
    "source": st.just("s"),
    "cause": CAUSES,
    "message": st.sampled_from(["", "far"]),
    "rate": st.sampled_from(["always", "sometimes"]),
    "expires": st.sampled_from([None, date(2026, 4, 30), date(2026, 5, 1), date(2026, 6, 1)]),
}
EXACT = st.builds(Divergence, scenario=st.sampled_from(SCENARIOS), check=st.sampled_from(CHECKS), **FIELDS)
ENTRIES = st.builds(
    Divergence,
    scenario=st.sampled_from([*SCENARIOS, "a/*", "*/one", "*"]),
    check=st.sampled_from([*CHECKS, "weights.*"]),
    **FIELDS,
)
LEDGERS = st.lists(ENTRIES, max_size=5, unique_by=lambda entry: entry.key).map(tuple)


def _outcome(ledger, verdict, pair):
    return ledger.settle(verdict, scenario=pair[0], check=pair[1]).outcome


@settings(max_examples=300)
@given(LEDGERS, LEDGERS, VERDICTS, st.sampled_from(PAIRS))
def test_an_outcome_follows_from_the_entries_about_the_check(shipped, own, verdict, pair):
    """The rules, said once more in another way."""
    ledger = Ledger(shipped, own, TODAY)
    about = [e for e in own if e.covers_pair(scenario=pair[0], check=pair[1])]
    about = about or [e for e in shipped if e.covers_pair(scenario=pair[0], check=pair[1])]
    if verdict.outcome == "not_run" or not about:
        expected = verdict.outcome
    elif verdict.outcome == "pass":
        expected = "fixed" if any(e.rate == "always" for e in about) else "pass"
    else:
        live = [e for e in about if e.expires is None or e.expires > TODAY]
        excused = any(e.cause == verdict.cause and e.message in verdict.message for e in live)
        expected = "known" if excused else "fail"
    assert _outcome(ledger, verdict, pair) == expected


@given(LEDGERS, VERDICTS, st.sampled_from(PAIRS), st.randoms(use_true_random=False))
def test_order_and_overlay_are_neutral_where_they_should_be(entries, verdict, pair, random: Random):
    """Entries count in any order; a ledger over itself, over nothing, and under nothing is the same ledger."""
    plain = _outcome(Ledger(entries, (), TODAY), verdict, pair)
    shuffled = list(entries)
    random.shuffle(shuffled)
    for ledger in (Ledger(tuple(shuffled), (), TODAY), Ledger(entries, entries, TODAY), Ledger((), entries, TODAY)):
        assert _outcome(ledger, verdict, pair) == plain


@given(LEDGERS, ENTRIES, VERDICTS, st.sampled_from(PAIRS))
def test_one_more_entry_never_excuses_what_it_does_not_describe(entries, more, verdict, pair):
    """Only a live entry about the pair, with the verdict's cause, makes a failure known; none unmakes one."""
    before = _outcome(Ledger(entries, (), TODAY), verdict, pair)
    after = _outcome(Ledger((*entries, more), (), TODAY), verdict, pair)
    if before != after:
        assert more.covers_pair(scenario=pair[0], check=pair[1])
        assert (before, after) in {("pass", "fixed"), ("fail", "known")}
        assert after == "fixed" or (more.describes(verdict) and not more.expired(TODAY))


@given(LEDGERS, st.fixed_dictionaries(dict.fromkeys(PAIRS, VERDICTS)))
def test_accounts_add_up(entries, verdicts):
    """Every known pair is on the account of an entry, and an unused entry excused and contradicts nothing."""
    ledger = Ledger(entries, (), TODAY)
    outcomes = {pair: (_outcome(ledger, verdict, pair), verdict.cause) for pair, verdict in verdicts.items()}
    accounts = ledger.account(outcomes)
    assert len(accounts) == len(entries)
    known = sum(outcome == "known" for outcome, _ in outcomes.values())
    assert sum(account.known for account in accounts) >= known
    assert (known > 0) == any(account.known for account in accounts)
    # Everything here is judged or could not look, so that nothing is unused: the check of its pair is red already.
    assert not [account for account in accounts if account.unused and account.rate == "always"]


def _toml(entries):
    lines = ["# what we know", 'sdk = "mine"  # ours', ""]
    for number, entry in enumerate(entries):
        lines += [f"# entry {number}", "[[divergence]]"]
        for name, value in msgspec.to_builtins(entry).items():
            if value not in (None, ""):
                lines.append(f"{name} = {value if name == 'expires' else repr(value)}  # {name} {number}")
        lines.append("")
    return "\n".join(lines)


def _read(text):
    return tuple(msgspec.convert(tomllib.loads(text).get("divergence", []), list[Divergence]))


def _found(ledger, verdicts):
    return [
        Found(*pair, _outcome(ledger, verdict, pair), verdict.message, verdict.cause)
        for pair, verdict in verdicts.items()
    ]


@settings(max_examples=200)
@given(
    st.lists(EXACT, max_size=5, unique_by=lambda entry: entry.key).map(tuple),
    st.fixed_dictionaries(dict.fromkeys(PAIRS, VERDICTS)),
)
def test_an_updated_ledger_holds(entries, verdicts):
    """After an update the same run has no failure and nothing fixed, save what it says a person must mend."""
    text = _toml(entries)
    said = {"version": "1.0", "contract": "", "source": "a test"}
    first = updated(text, Ledger((), entries, TODAY), _found(Ledger((), entries, TODAY), verdicts), **said)
    after = Ledger((), _read(first.text), TODAY)
    left = [f for f in _found(after, verdicts) if f.outcome in {"fail", "fixed"}]
    by_hand = [change for change in first.changes if "by hand" in change]
    assert len(left) <= len(by_hand)
    assert all(any(change.startswith(f"{f.scenario}:{f.check} ") for change in by_hand) for f in left)
    again = updated(first.text, after, _found(after, verdicts), **said)
    assert again.text == first.text
    kept = [number for number, entry in enumerate(entries) if entry in after.own]
    places = [first.text.index(f"# entry {number}\n") for number in kept if f"# entry {number}\n" in first.text]
    assert places == sorted(places)
    assert first.text.startswith('# what we know\nsdk = "mine"  # ours\n')
    for number in kept:
        assert f"# reason {number}" in first.text
    if not first.changes:
        assert first.text == text


def test_a_range_of_versions_is_narrowed_not_lost():
    """What holds in this version may fail in others: their entry stays."""
    entry = Divergence(scenario="a/one", check="order.seq", versions=">=0.9", kind="bug", reason="r", source="s")
    found = [Found("a/one", "order.seq", "fixed", "", "")]
    new = updated(_toml([entry]), Ledger((), (entry,)), found, version="1.0", contract="", source="s")
    assert [e.versions for e in _read(new.text)] == [">=0.9,!=1.0"]


def test_the_shipped_ledger_is_left_to_its_authors():
    """What it lists and what holds is said, not written."""
    entry = Divergence(scenario="a/*", check="order.seq", versions="", kind="bug", reason="r", source="s")
    found = [Found("a/one", "order.seq", "fixed", "", "")]
    new = updated("", Ledger((entry,)), found, version="1.0", contract="", source="s")
    assert (new.text, len(new.changes)) == ("", 1)
    assert "by hand" in new.changes[0]
