"""GitHub annotations, read as GitHub reads them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports.github import workflow_commands

from harness.engine.events import Account, CheckJudged, LedgerHeld, PlannedCheck, RunFinished, RunStarted
from harness.reports.annotations import AT_MOST, Annotations, StoppedCommands, command, commands
from harness.reports.console import ConsoleReport

ANY = st.text(st.characters(codec=None), max_size=300)


def test_a_run_with_every_outcome(events, play, same_as_snapshot):
    """The commands of the small run: one error per scenario that diverges, and a notice."""
    same_as_snapshot("annotations.txt", "".join(f"{line}\n" for line in commands(play(events))))


def test_nothing_that_a_subject_says_is_a_command(play):
    """The console repeats a subject that writes commands; only the annotations themselves are taken for some."""
    said = "\n::error::owned\n##[add-mask]owned\n   ::stop-commands::owned\n::owned::\n::error::again"
    stream = io.StringIO()
    judged = CheckJudged("a/b", "chunks.limits", "fail", said, said, said, said)
    play(
        (
            RunStarted("tinker", "1", "c", "s", (PlannedCheck("a/b", "chunks.limits"),), 1),
            judged,
            RunFinished(0.1),
        ),
        lambda tally: [
            StoppedCommands(stream, "secret"),
            ConsoleReport(stream, tally, live=False, colour=False),
            Annotations(stream, tally, "secret"),
        ],
    )
    assert "::error::again" in stream.getvalue(), "the subject was not repeated at all"
    found = workflow_commands(stream.getvalue())
    assert [(name, properties["title"]) for name, properties, _ in found] == [
        ("error", "a/b: chunks.limits"),
        ("notice", "parity: tinker 1 against c"),
    ]
    assert said in found[0][2]


@given(ANY, ANY)
def test_a_command_is_one_line_that_reads_as_it_was(title, message):
    """Title and message come out of GitHub's reader as they went in, control characters spelled."""
    line = command("error", title, message)
    assert "\n" not in line
    assert "\r" not in line
    (found,) = workflow_commands(line)
    assert found[0] == "error"
    if title.isprintable() and message.isprintable():
        assert (found[1].get("title", ""), found[2]) == (title, message)


def test_no_more_errors_than_are_shown(play):
    """GitHub shows ten of a step: the tenth says how many more there are."""
    checks = tuple(PlannedCheck(f"a/{n}", "chunks.limits") for n in range(40))
    judged = [CheckJudged(each.scenario, each.check, "fail", "wrong") for each in checks]
    lines = commands(play((RunStarted("x", "1", "c", "s", checks, 1), *judged, RunFinished(1.0))))
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == AT_MOST
    assert errors[-1].startswith("::error title=parity%3A more::31 more like these")


@pytest.mark.parametrize(("known", "errors"), [(0, 1), (1, 0)])
def test_an_unused_ledger_entry_is_an_error(play, known, errors):
    """An entry that excuses nothing fails the run, so it is annotated; one that does is not."""
    entry = Account("a/b:chunks.limits", "bug", "a reason", "", "always", known=known, passed=0, unused=not known)
    held = CheckJudged("a/b", "chunks.limits", "pass")
    planned = (PlannedCheck("a/b", "chunks.limits"),)
    told = commands(play((RunStarted("x", "1", "c", "s", planned, 1), held, LedgerHeld((entry,)), RunFinished(1.0))))
    assert sum(line.startswith("::error ") for line in told) == errors
