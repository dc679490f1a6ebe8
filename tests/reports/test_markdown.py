"""The summary of a job."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from harness.engine.events import CheckJudged, PlannedCheck, RunFinished, RunStarted, ScenarioFinished
from harness.reports.markdown import ROOM, block, inline, summary
from harness.reports.tally import Tally

ANY = st.text(st.characters(codec=None), max_size=300)


def test_a_run_with_every_outcome(events, play, same_as_snapshot):
    """The summary of the small run, hostile text and all."""
    same_as_snapshot("summary.md", summary(play(events)))


def test_failures_come_before_the_table(events, play):
    """What diverges is first, the counts by area last."""
    text = summary(play(events))
    assert text.index("chunks.nonempty") < text.index("| area |")
    assert "**Something diverged**" in text.splitlines()[2]


def test_a_run_that_holds_is_a_sentence_and_a_table(play):
    """There is no heading for what there is not."""
    planned = PlannedCheck("a/b", "chunks.limits")
    text = summary(
        play(
            (
                RunStarted("tinker", "0.38.0", "tinker-0.38.0", "s", (planned,), 1),
                CheckJudged("a/b", "chunks.limits", "pass"),
                RunFinished(0.1),
            )
        )
    )
    assert text == (
        "## parity: tinker 0.38.0 against tinker-0.38.0\n\n**Everything held**: 1 pass.\n\n"
        "| area | pass |\n|---|---:|\n| chunks | 1 |\n"
    )


@given(ANY)
def test_inline_text_means_nothing(text):
    """Every character that starts markup, a link, a mention or a table cell is an entity; it reads as it was."""
    shown = inline(text)
    bare = re.sub(r"&#\d+;", "", shown)
    assert not set(bare) & set("<>&*_`[]|~@\\:#\n")
    assert "www." not in bare.lower()
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e\ud800-\udfff]", shown)


@given(ANY)
def test_a_block_is_one_element(text):
    """Whatever it holds, a block opens and closes once, and is the text again when read as HTML."""
    shown = block(text)
    assert shown.count("<") == shown.count(">") == 2
    assert "<script" not in html.escape(text) or "<script" not in shown


def test_a_summary_fits(play):
    """However much diverges, the summary stays within what GitHub takes, and counts what it leaves out."""
    checks = tuple(PlannedCheck(f"area/scenario-{n}", f"family.check{m}") for n in range(300) for m in range(8))
    judged = [
        CheckJudged(each.scenario, each.check, "fail", "m" * 4000, "e" * 4000, "o" * 4000, "w" * 4000)
        for each in checks
    ]
    finished = [ScenarioFinished(f"area/scenario-{n}", "t", 0.1) for n in range(300)]
    text = summary(play((RunStarted("x", "1", "c", "s", checks, 1), *judged, *finished, RunFinished(1.0))))
    assert len(text.encode()) < ROOM + 50_000 < 1024 * 1024
    assert re.search(r"And \d+ scenarios more: ", text)


def test_nothing_heard_is_still_a_summary():
    """An empty tally is an interrupted run."""
    assert "**Interrupted**: nothing judged." in summary(Tally())
