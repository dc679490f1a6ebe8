"""`parity explain`: what a code of a report means."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from harness.checks.causes import CAUSES
from harness.checks.registry import CHECKS
from harness.checks.verdict import Outcome
from harness.drivers.examining.findings import FINDINGS
from harness.drivers.failure import FailureKind
from harness.drivers.protocol import ErrorKind
from harness.engine.events import Label
from harness.engine.explain import error_meanings, every_code, explain
from harness.engine.words import FAILURES, KINDS, LABELS, OUTCOMES, WORDS
from harness.errors import ParityError


@pytest.mark.parametrize("code", [*CAUSES, *CHECKS, *error_meanings(), *FINDINGS])
def test_every_code_can_be_explained(code):
    """Causes, checks, errors and findings about drivers: each has its code and a sentence, at most 100 columns wide."""
    lines = explain(code).splitlines()
    assert lines[0].startswith(f"{code}  (")
    assert len(" ".join(lines[1:]).strip()) > 15
    assert max(map(len, lines)) <= 100


def test_every_word_of_a_report_can_be_explained():
    """Outcomes, labels, failures of drivers and kinds of errors are closed lists, and each member has its sentence."""
    kinds = dict(WORDS)
    for members, words in (
        (get_args(Outcome), OUTCOMES),
        (get_args(Label), LABELS),
        (get_args(FailureKind), FAILURES),
        (get_args(ErrorKind), KINDS),
    ):
        assert tuple(words) == tuple(members)
        assert words in kinds.values()
        for word in words:
            assert words[word] in " ".join(explain(word).split())
    assert explain("not-run") == explain("not_run")
    assert explain("known").count("(") == 2  # an outcome, and a label


def test_no_code_has_two_meanings():
    """A code is a cause, a check, an error or a finding about a driver, never two of them."""
    assert not set(CAUSES) & set(CHECKS)
    assert not set(CAUSES) & set(error_meanings())
    assert not set(FINDINGS) & {*CAUSES, *CHECKS, *error_meanings()}


def test_without_a_code_all_are_listed():
    """The list names every code."""
    listed = {line.split()[0] for line in every_code().splitlines() if line.startswith("  ")}
    words = {word for _, members in WORDS for word in members}
    assert listed == {*CAUSES, *CHECKS, *error_meanings(), *FINDINGS, *words}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("oposite-sign", "opposite-sign"), ("weights.vales", "weights.values"), ("golden-stal", "golden-stale")],
)
def test_a_misspelt_code_is_corrected(wrong, right):
    """What is close to a code is taken for it in the hint."""
    with pytest.raises(ParityError) as caught:
        explain(wrong)
    assert caught.value.code == "code-unknown"
    assert right in caught.value.hint


def test_what_is_like_no_code_gets_no_suggestion():
    """A word that shares some letters with a code is not taken for it."""
    with pytest.raises(ParityError) as caught:
        explain("nonsense")
    assert "did you mean" not in caught.value.hint


def test_the_command_explains_and_refuses():
    """The command prints the explanation; a code that does not exist ends with status 2."""
    command = [sys.executable, "-m", "harness", "explain"]
    done = subprocess.run([*command, "id-reused"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, explain("id-reused").splitlines()[0])
    done = subprocess.run([*command, "no such thing"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "error [code-unknown]" in done.stderr
