"""Known divergences: kept when they fail as listed, broken when they pass or fail in another way."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.checks.verdict import Verdict
from harness.errors import ParityError
from harness.ledger import Divergence, Ledger, read_ledger

SCENARIOS = {"chunks/limit": ("chunks.limits", "order.seq"), "state/load": ("result.status",)}
CONTRACTS = ("tinker-0.15.0", "tinker-0.38.0")
ENTRY = """
[[divergence]]
scenario = "chunks/limit"
check = "chunks.limits"
versions = "==0.38.0"
reason = "counts 10 bytes per token"
source = "contradicts 0.15.0"
"""


def _entry(**fields):
    given = {"scenario": "chunks/limit", "check": "chunks.limits", "versions": "", "reason": "r", "source": "s"}
    return Divergence(**(given | fields))


def _settle(verdict, *entries):
    judged = Ledger(entries).settle(verdict, scenario="chunks/limit", check="chunks.limits")
    return judged.outcome


@pytest.fixture
def read(tmp_path: Path):
    """Read the given text as a ledger of tinker 0.38.0 under its own contract, unless told otherwise."""

    def read(text, *, version="0.38.0", contract="tinker-0.38.0", own=True):
        file = tmp_path / "tinker.toml"
        file.write_text(text, encoding="utf-8")
        return read_ledger(
            file, version=version, contract=contract, own_contract=own, scenarios=SCENARIOS, contracts=CONTRACTS
        )

    return read


def test_a_listed_failure_is_known():
    """A check that fails as its entry says does not fail the run."""
    assert _settle(Verdict("fail", "cut at 1023"), _entry()) == "known"


def test_a_listed_check_that_passes_is_fixed():
    """An entry that no longer holds must be removed, so it fails the run."""
    assert _settle(Verdict("pass"), _entry()) == "fixed"


@pytest.mark.parametrize("fields", [{"message": "sign"}, {"cause": "cut at 1023"}])
def test_another_failure_than_listed_fails(fields):
    """A new bug cannot hide behind the entry of an old one."""
    verdict = Verdict("fail", "gradient differs", cause="cut at 1024")
    assert _settle(verdict, _entry(**fields)) == "fail"
    assert _settle(verdict, _entry(message="gradient")) == "known"
    assert _settle(verdict, _entry(cause="cut at 1024")) == "known"


def test_a_second_entry_can_describe_another_way_to_fail():
    """Several entries for one check: it is enough that one of them describes the failure."""
    verdict = Verdict("fail", "gradient differs")
    assert _settle(verdict, _entry(message="sign"), _entry(message="gradient")) == "known"


def test_a_check_that_could_not_look_is_not_excused():
    """not_run stays not_run: the entry is about a divergence."""
    assert _settle(Verdict("not_run", "no requests"), _entry()) == "not_run"


def test_an_unlisted_check_is_left_alone():
    """Entries of other checks and scenarios change nothing."""
    others = (_entry(check="order.seq"), _entry(scenario="state/load"))
    assert _settle(Verdict("fail", "m"), *others) == "fail"
    assert _settle(Verdict("pass"), *others) == "pass"


def test_a_wildcard_claims_every_match():
    """`*` for the scenario covers the check everywhere, also where it passes."""
    assert _settle(Verdict("fail", "m"), _entry(scenario="*")) == "known"
    assert _settle(Verdict("pass"), _entry(scenario="*")) == "fixed"
    assert _settle(Verdict("fail", "m"), _entry(check="*")) == "known"


def test_reads_the_entries_of_the_version(read):
    """An entry applies to the versions it names."""
    assert [entry.title for entry in read(ENTRY).entries] == ["chunks/limit:chunks.limits"]
    assert read(ENTRY, version="0.15.0").entries == ()


def test_without_a_contract_an_entry_is_about_the_subjects_own(read):
    """A run against another contract is not silenced by entries about the subject's own."""
    assert read(ENTRY, contract="tinker-0.15.0", own=False).entries == ()
    named = ENTRY + 'contract = "tinker-0.15.0"\n'
    assert len(read(named, contract="tinker-0.15.0", own=False).entries) == 1
    assert read(named).entries == ()


def test_a_missing_file_is_an_empty_ledger(tmp_path):
    """An SDK without known divergences needs no file."""
    ledger = read_ledger(
        tmp_path / "none.toml", version="1", contract="c", own_contract=True, scenarios=SCENARIOS, contracts=CONTRACTS
    )
    assert ledger.entries == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[divergence", "Expected"),
        (ENTRY + "until = 3\n", "unknown field `until`"),
        (ENTRY.replace('reason = "counts 10 bytes per token"\n', ""), "missing required field `reason`"),
        (ENTRY.replace("counts 10 bytes per token", " "), "reason is empty"),
        (ENTRY.replace("contradicts 0.15.0", ""), "source is empty"),
        (ENTRY.replace("chunks/limit", "chunks/limt"), "no scenario 'chunks/limt'"),
        (ENTRY.replace("chunks.limits", "result.status"), "carries the check 'result.status'"),
        (ENTRY.replace("==0.38.0", "latest"), "not a version specifier"),
        (ENTRY + 'contract = "tinker-9.9.9"\n', "not a described contract"),
        (ENTRY.replace("chunks/limit", "*").replace("chunks.limits", "*"), "would excuse everything"),
        (ENTRY.replace("chunks/limit", "chunks/*"), "stands for a whole"),
        (ENTRY.replace("chunks/limit", "*").replace("chunks.limits", "made.up"), "carries the check 'made.up'"),
        (ENTRY + ENTRY, "listed twice"),
    ],
)
def test_refuses_an_entry_that_cannot_be_meant(read, text, complaint):
    """Malformed, too wide, too vague, or about nothing that exists: code ledger-malformed, naming the entry."""
    with pytest.raises(ParityError) as caught:
        read(text)
    assert caught.value.code == "ledger-malformed"
    assert complaint in caught.value.message
