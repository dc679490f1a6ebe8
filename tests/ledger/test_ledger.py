"""Known divergences: kept when they fail as listed, broken when they pass, fail in another way or are over."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from harness.checks.verdict import Verdict
from harness.errors import ParityError
from harness.ledger import Divergence, Known, Ledger, Subject, read_ledger

KNOWN = Known(
    {
        "chunks/limit": ("chunks.limits", "order.seq"),
        "chunks/two": ("chunks.limits",),
        "state/load": ("result.status",),
    },
    ("tinker-0.15.0", "tinker-0.38.0"),
)
TODAY = date(2026, 5, 1)
ENTRY = """
[[divergence]]
scenario = "chunks/limit"
check = "chunks.limits"
versions = "==0.38.0"
kind = "bug"
reason = "counts 10 bytes per token"
source = "contradicts 0.15.0"
"""


def _entry(**fields):
    given = {"scenario": "chunks/limit", "check": "chunks.limits", "versions": "", "kind": "bug"}
    return Divergence(**(given | {"reason": "r", "source": "s"} | fields))


def _settle(verdict, *entries, own=()):
    judged = Ledger(entries, tuple(own), TODAY).settle(verdict, scenario="chunks/limit", check="chunks.limits")
    return judged.outcome


@pytest.fixture
def read(tmp_path: Path):
    """Read the given text as a ledger of tinker 0.38.0 under its own contract, unless told otherwise."""

    def read(text, *, version="0.38.0", contract="tinker-0.38.0", is_own=True, overlay=None):
        file = tmp_path / "tinker.toml"
        file.write_text(text, encoding="utf-8")
        mine = None
        if overlay is not None:
            mine = tmp_path / "mine.toml"
            mine.write_text(overlay, encoding="utf-8")
        subject = Subject("tinker", version, contract, is_own)
        return read_ledger(file, subject, KNOWN, overlay=mine, today=TODAY)

    return read


def test_a_listed_failure_is_known():
    """A check that fails as its entry says does not fail the run."""
    assert _settle(Verdict("fail", "cut at 1023"), _entry()) == "known"


@pytest.mark.parametrize("kind", ["bug", "missing-feature", "by-design"])
def test_a_known_divergence_is_called_what_it_is(kind):
    """The report says whether it will be mended."""
    judged = Ledger((_entry(kind=kind),)).settle(
        Verdict("fail", "it hangs"), scenario="chunks/limit", check="chunks.limits"
    )
    assert judged.message == f"it hangs (known {kind}: r)"


def test_a_listed_check_that_passes_is_fixed():
    """An entry that no longer holds must be removed, so it fails the run."""
    assert _settle(Verdict("pass"), _entry()) == "fixed"


@pytest.mark.parametrize("fields", [{"message": "sign"}, {"cause": "scaled"}, {}])
def test_another_failure_than_listed_fails(fields):
    """A new bug cannot hide behind the entry of an old one; an entry without a cause is about a failure without one."""
    verdict = Verdict("fail", "gradient differs", cause="opposite-sign")
    assert _settle(verdict, _entry(**fields)) == "fail"
    assert _settle(verdict, _entry(cause="opposite-sign")) == "known"
    assert _settle(verdict, _entry(cause="opposite-sign", message="gradient")) == "known"


def test_a_second_entry_can_describe_another_way_to_fail():
    """Several entries for one check: it is enough that one of them describes the failure."""
    verdict = Verdict("fail", "gradient differs")
    assert _settle(verdict, _entry(message="sign"), _entry(message="gradient")) == "known"


def test_a_check_that_could_not_look_is_not_excused():
    """not_run stays not_run: the entry is about a divergence."""
    assert _settle(Verdict("not_run", "no requests"), _entry()) == "not_run"


def test_a_check_that_cannot_look_can_be_listed_as_such():
    """It follows from another divergence; the entry says nothing about a check that can look."""
    entry = _entry(scenario="chunks/limit", check="*", outcome="not_run")
    assert _settle(Verdict("not_run", "no requests"), entry) == "known"
    assert _settle(Verdict("not_run", "no requests"), _entry(outcome="not_run", message="no results")) == "not_run"
    assert _settle(Verdict("not_run", "no requests"), _entry(outcome="not_run", expires=TODAY)) == "not_run"
    assert _settle(Verdict("pass"), entry) == "pass"
    assert _settle(Verdict("fail", "m"), entry) == "fail"
    assert _settle(Verdict("fail", "m"), entry, _entry()) == "known"


def test_a_race_that_ended_in_another_listed_way_leaves_no_entry_unused():
    """Each way has an entry; a run shows one of them."""
    entries = (_entry(rate="sometimes"), _entry(rate="sometimes", cause="scaled"))
    told = {("chunks/limit", "chunks.limits"): ("known", "scaled")}
    assert [account.unused for account in Ledger(entries).account(told)] == [False, False]
    always = (_entry(), _entry(cause="scaled"))
    assert [account.unused for account in Ledger(always).account(told)] == [True, False]


def test_an_unlisted_check_is_left_alone():
    """Entries of other checks and scenarios change nothing."""
    others = (_entry(check="order.seq"), _entry(scenario="state/load"))
    assert _settle(Verdict("fail", "m"), *others) == "fail"
    assert _settle(Verdict("pass"), *others) == "pass"


@pytest.mark.parametrize("fields", [{"scenario": "*"}, {"check": "*"}, {"scenario": "chunks/*", "check": "chunks.*"}])
def test_a_pattern_claims_every_match(fields):
    """It covers all that it matches, also where that passes; and nothing else."""
    assert _settle(Verdict("fail", "m"), _entry(**fields)) == "known"
    assert _settle(Verdict("pass"), _entry(**fields)) == "fixed"
    assert _settle(Verdict("fail", "m"), _entry(scenario="chunk*/x", check="*")) == "fail"


def test_a_race_may_pass_or_fail_as_listed():
    """With the rate `sometimes` neither is `fixed`; failing in another way still fails."""
    race = _entry(rate="sometimes", cause="overtaken")
    assert _settle(Verdict("pass", "m"), race) == "pass"
    assert _settle(Verdict("fail", "m", cause="overtaken"), race) == "known"
    assert _settle(Verdict("fail", "m", cause="scaled"), race) == "fail"
    assert _settle(Verdict("pass", "m"), race, _entry()) == "fixed"


@pytest.mark.parametrize(("expires", "outcome"), [(date(2026, 5, 2), "known"), (date(2026, 5, 1), "fail")])
def test_an_entry_excuses_until_it_expires(expires, outcome):
    """From its day on it excuses nothing, and says so."""
    ledger = Ledger((_entry(expires=expires),), (), TODAY)
    judged = ledger.settle(Verdict("fail", "m"), scenario="chunks/limit", check="chunks.limits")
    assert judged.outcome == outcome
    assert (str(expires) in judged.message) == (outcome == "fail")


def test_the_users_own_entries_come_first():
    """Where the overlay speaks about a check, the shipped ledger is not asked; elsewhere it is."""
    verdict = Verdict("fail", "m", cause="scaled")
    assert _settle(verdict, _entry(cause="overtaken"), own=[_entry(cause="scaled")]) == "known"
    assert _settle(verdict, _entry(cause="scaled"), own=[_entry(cause="overtaken")]) == "fail"
    assert _settle(verdict, _entry(cause="scaled"), own=[_entry(check="order.seq")]) == "known"


def test_entries_are_accounted_for():
    """How many pairs each excused, how often a race was lost, and which entry says nothing any more."""
    entries = (
        _entry(scenario="chunks/*"),
        _entry(scenario="state/load", check="result.status", rate="sometimes"),
        _entry(check="order.seq"),
        _entry(scenario="far/away"),
    )
    outcomes = {
        ("chunks/limit", "chunks.limits"): ("known", ""),
        ("chunks/two", "chunks.limits"): ("fixed", ""),
        ("state/load", "result.status"): ("pass", ""),
        ("chunks/limit", "order.seq"): ("unsupported", ""),
    }
    accounts = {a.title: (a.known, a.passed, a.unused) for a in Ledger(entries).account(outcomes)}
    assert accounts == {
        "chunks/*:chunks.limits": (1, 1, False),
        "state/load:result.status": (0, 1, False),
        "chunks/limit:order.seq": (0, 0, True),
    }


def test_reads_the_entries_of_the_version(read):
    """An entry applies to the versions it names."""
    assert [entry.title for entry in read(ENTRY).entries] == ["chunks/limit:chunks.limits"]
    assert read(ENTRY, version="0.15.0").entries == ()


def test_without_a_contract_an_entry_is_about_the_subjects_own(read):
    """A run against another contract is not silenced by entries about the subject's own."""
    assert read(ENTRY, contract="tinker-0.15.0", is_own=False).entries == ()
    named = ENTRY + 'contract = "tinker-0.15.0"\n'
    assert len(read(named, contract="tinker-0.15.0", is_own=False).entries) == 1
    assert read(named).entries == ()


def test_an_overlay_is_about_its_own_sdk(read):
    """One that names another SDK than the one that is driven says nothing."""
    assert len(read("", overlay=ENTRY).own) == 1
    assert len(read("", overlay='sdk = "tinker"\n' + ENTRY).own) == 1
    assert read("", overlay='sdk = "tinkex"\n' + ENTRY).own == ()


def test_a_shipped_ledger_need_not_exist_and_an_overlay_must(tmp_path):
    """An SDK without known divergences needs no file; a file that was named and is not there is an error."""
    subject = Subject("s", "1", "c", own_contract=True)
    assert read_ledger(tmp_path / "none.toml", subject, KNOWN, today=TODAY) == Ledger((), (), TODAY)
    with pytest.raises(ParityError) as caught:
        read_ledger(tmp_path / "none.toml", subject, KNOWN, overlay=tmp_path / "mine.toml", today=TODAY)
    assert caught.value.code == "ledger-missing"


def _changed(key, value):
    return "".join(f"{key} = {value}\n" if line.startswith(key) else line for line in ENTRY.splitlines(keepends=True))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[divergence", "Expected"),
        (ENTRY + "until = 3\n", "unknown field `until`"),
        (ENTRY.replace('kind = "bug"\n', ""), "missing required field `kind`"),
        (_changed("kind", '"wish"'), "Invalid enum value 'wish'"),
        (_changed("reason", '" "'), "reason is empty"),
        (_changed("source", '""'), "source is empty"),
        (_changed("scenario", '"chunks/limt"'), "no scenario 'chunks/limt'"),
        (_changed("check", '"result.status"'), "carries the check 'result.status'"),
        (_changed("versions", '"latest"'), "not a version specifier"),
        (ENTRY + 'contract = "tinker-9.9.9"\n', "not a described contract"),
        (ENTRY + 'cause = "made-up"\n', "there is no cause 'made-up'"),
        (ENTRY + 'rate = "often"\n', "Invalid enum value 'often'"),
        (ENTRY + 'expires = "soon"\n', "expires"),
        (_changed("scenario", '"*"').replace('"chunks.limits"', '"*"'), "would excuse everything"),
        (_changed("scenario", '"chunks/*"'), "a pattern says how many pairs it may cover: covers = 2"),
        (
            _changed("scenario", '"chunks/*"') + "covers = 1\n",
            "it covers 2 pairs of scenario and check",
        ),
        (_changed("scenario", '"chunks/*"') + "covers = 0\n", "covers"),
        (ENTRY + "covers = 1\n", "covers is for patterns"),
        (_changed("scenario", '"none/*"') + "covers = 3\n", "carries the check 'chunks.limits'"),
        (_changed("check", '"made.up"'), "carries the check 'made.up'"),
        (ENTRY + ENTRY, "listed twice"),
    ],
)
def test_refuses_an_entry_that_cannot_be_meant(read, text, complaint):
    """Malformed, too wide, too vague, or about nothing that exists: code ledger-malformed, naming the entry."""
    for arguments in ({"text": text}, {"text": "", "overlay": text}):
        with pytest.raises(ParityError) as caught:
            read(**arguments)
        assert caught.value.code == "ledger-malformed"
        assert complaint in caught.value.message
