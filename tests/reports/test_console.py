"""What a person reads."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.engine.events import CheckJudged, PlannedCheck, RunFinished, RunStarted, ScenarioFinished
from harness.reports.console import ConsoleReport
from harness.reports.tally import Tally
from harness.reports.text import for_terminal


@pytest.fixture
def show(events, play):
    """Return the console output of the small run, with the given options."""

    def show(*, live=False, colour=False, trace=False, events=events):
        stream = io.StringIO()
        play(events, lambda tally: [ConsoleReport(stream, tally, live=live, colour=colour, trace=trace)])
        return stream.getvalue()

    return show


def test_plain_output_has_no_escape(show):
    """Without colour nothing but text is written, whatever the subject's messages hold."""
    output = show(trace=True)
    assert "\x1b" not in output
    assert "\\x1b]0;owned\\x07" in output
    assert not any(0xD800 <= ord(character) < 0xE000 for character in output)


def test_failures_come_before_the_table(show):
    """Failures first, each with both sides, the place, the cause and the command that runs it again."""
    output = show()
    block = output.index("chunks/limit  Title of chunks/limit")
    assert block < output.index("area")
    assert "    expected | observed\n    1024     | " in output
    assert "    where     fb seq 3\n" in output
    assert "    cause     cut at 1023\n" in output
    assert "  by hand   parity repro chunks/limit --sdk tinker==0.38.0\n" in output
    assert "  again     parity run --sdk tinker==0.38.0 -k chunks/limit\n" in output


def test_a_failure_of_a_folder_is_reproduced_from_that_folder(show, events):
    """With --sdk-path both commands name the folder: the published release may well pass."""
    arguments = ("--sdk", "tinker==0.38.0", "--sdk-path", "my tree")
    output = show(events=(replace(events[0], arguments=arguments), *events[1:]))
    assert "  by hand   parity repro chunks/limit --sdk tinker==0.38.0 --sdk-path 'my tree'\n" in output
    assert "  again     parity run --sdk tinker==0.38.0 --sdk-path 'my tree' -k chunks/limit\n" in output


def test_slow_scenarios_that_were_left_out_are_counted(show):
    """The last lines say how many scenarios and checks were not asked for, and how to ask."""
    assert "1 slow scenario, 2 checks, left out (--slow includes them)\n" in show()


def test_a_repeated_scenario_says_how_often_it_failed(show):
    """A failing scenario that is repeated says so in its block."""
    assert "  repeated  2 of 5 runs failed\n" in show()


def test_known_divergences_are_counted_not_shown(show):
    """A listed divergence is a number in the table, not a failure block."""
    output = show()
    assert "opposite sign" not in output
    assert "1 known" in output


def test_one_plain_line_per_scenario(show):
    """Without a terminal each finished scenario is a line that says whether it held."""
    lines = show().splitlines()
    assert "FAIL chunks/limit  2 checks, 1 fail  0.50 s  2 of 5 runs failed" in lines
    assert lines[0] == "tinker 0.38.0 against tinker-0.38.0: 3 scenarios, 7 checks"


def test_the_table_counts_by_area(show):
    """One row per family of checks."""
    output = show()
    row = next(line for line in output.splitlines() if line.startswith("weights"))
    assert row.split() == ["weights", "-", "-", "1", "1", "-", "-", "-"]


def test_live_output_redraws_one_line_and_clears_it(show):
    """On a terminal progress is one line that is gone before the failures are written."""
    output = show(live=True)
    assert "\r\x1b[K[0/3] 0 failing" in output
    assert "FAIL chunks/limit" not in output
    assert output.index("\r\x1b[K[3/3]") < output.index("chunks/limit  Title")


def test_colour_is_ours_alone(show):
    """Colours are written where asked for; the subject's own escapes stay spelled."""
    output = show(colour=True)
    assert "\x1b[31mfail\x1b[0m" in output
    assert "\x1b[2J" not in output


def test_the_exchange_is_shown_on_request(show):
    """--trace adds the exchange of failing scenarios."""
    assert "+0.1 ms POST" in show(trace=True)
    assert "+0.1 ms POST" not in show()


def test_a_scenario_that_held_only_when_run_again_is_named(show):
    """A green table does not hide that the first run failed."""
    note = "failed first (chunks.limits), passed when run again alone"
    output = show(
        events=(
            RunStarted("tinker", "1", "c", "s", (PlannedCheck("a/b", "chunks.limits"),), 1),
            CheckJudged("a/b", "chunks.limits", "pass"),
            ScenarioFinished("a/b", "t", 0.1, reruns=1, note=note),
            RunFinished(0.2),
        )
    )
    assert f"note a/b: {note}" in output
    assert "everything held" in output


def test_a_long_message_is_folded_and_the_word_is_explained(show):
    """What a driver printed where an answer belongs is all there; what `error` means can be looked up."""
    said = (
        "the driver failed (garbage): a line on stdout that is no answer (JSON is malformed): 'loading the model ...'"
    )
    output = show(
        events=(
            RunStarted("tinker", "1", "c", "s", (PlannedCheck("a/b", "session.start"),), 1),
            CheckJudged("a/b", "session.start", "error", said),
            ScenarioFinished("a/b", "t", 0.1),
            RunFinished(0.2),
        )
    )
    assert said in " ".join(output.split())
    assert max(map(len, output.splitlines())) <= 100
    assert "meaning   parity explain error" in output


def test_checks_that_say_the_same_are_one_finding(show):
    """A driver that crashed is told once, not once per check."""
    checks = [PlannedCheck("a/b", name) for name in ("chunks.limits", "order.seq", "order.unique")]
    judged = [
        CheckJudged("a/b", check.check, "error", "the driver failed (crash): exit\nlast words") for check in checks
    ]
    output = show(
        events=(
            RunStarted("tinker", "1", "c", "s", tuple(checks), 1),
            *judged,
            ScenarioFinished("a/b", "t", 0.1),
            RunFinished(0.2),
        )
    )
    assert output.count("last words") == 1
    assert "  error chunks.limits and 2 more  the driver failed (crash): exit\n    last words\n" in output


def test_an_interrupted_run_says_so(show):
    """Checks that were never reached are counted, not listed one by one."""
    output = show(
        events=(
            RunStarted("tinker", "1", "c", "s", (PlannedCheck("a/b", "chunks.limits"),), 1),
            CheckJudged("a/b", "chunks.limits", "not_run", "interrupted"),
            ScenarioFinished("a/b", "t", 0.0),
            RunFinished(0.2, interrupted=True),
        )
    )
    assert output.endswith("1 not-run in 0.2 s: interrupted\n")
    assert "  again " not in output


@given(st.text(st.characters(codec=None)))
def test_terminal_text_cannot_move_the_cursor(text):
    """No control character but tab and newline survives, and the rest can be written as UTF-8."""
    safe = for_terminal(text)
    safe.encode("utf-8")
    assert all(character in "\t\n" or character >= " " for character in safe)
    assert not any("\x7f" <= character <= "\x9f" for character in safe)


def test_a_run_that_judged_nothing_says_so():
    """Output at the very end of an empty stream is still a sentence."""
    stream, tally = io.StringIO(), Tally()
    report = ConsoleReport(stream, tally, live=False, colour=False)
    finished = RunFinished(0.0, interrupted=True)
    tally.handle(finished)
    report.handle(finished)
    assert stream.getvalue() == "\nnothing judged in 0.0 s: interrupted\n"


def _failing(number, *, text="x", around=""):
    """Return a run in which one scenario fails `number` checks, each saying `text` on both sides."""
    checks = [PlannedCheck("a/b", f"family.check{index}") for index in range(number)]
    return (
        RunStarted("tinker", "1", "c", "s", tuple(checks), 1, ("--sdk", "tinker==1")),
        *(
            CheckJudged(
                "a/b", each.check, "fail", f"{each.check} {text}", text, text, text, "id-reused",
                certainty="certain", detail=text,
            )
            for each in checks
        ),
        ScenarioFinished("a/b", "t", 0.1, reruns=1, note="failed again", around=around),
        RunFinished(0.2),
    )  # fmt: skip


@given(st.integers(1, 40), st.text(st.characters(codec=None), max_size=2000), st.integers(0, 30))
def test_a_failing_scenario_is_at_most_a_screenful(number, text, lines):
    """However much there is to say, one scenario takes 40 lines of 100 columns, and ends with how to see it again."""
    stream, tally = io.StringIO(), Tally()
    report = ConsoleReport(stream, tally, live=False, colour=False)
    for event in _failing(number, text=text, around="\n".join(["> POST " + "y" * 300] * lines)):
        tally.handle(event)
        report.handle(event)
    output = stream.getvalue()
    block = output[output.index("\na/b  t\n") + 1 : output.index("\narea ")].rstrip("\n").split("\n")
    assert len(block) <= 40
    assert max(map(len, block)) <= 100
    assert [line.split()[0] for line in block[-3:]] == ["again", "by", "meaning"]


def test_findings_that_do_not_fit_are_named(show):
    """What has no room is counted and named: no failing check is missing from the block."""
    output = show(events=_failing(12))
    assert "more: family.check" in output
    for index in range(12):
        assert f"family.check{index}" in output


def test_both_sides_stand_next_to_each_other(show):
    """Golden's side is on the left, the subject's on the right, line by line."""
    judged = CheckJudged("a/b", "order.phases", "fail", "differs", "one two", "three", "fb seq 3", "overtaken")
    output = show(
        events=(
            RunStarted("tinker", "1", "c", "s", (PlannedCheck("a/b", "order.phases"),), 1),
            judged,
            ScenarioFinished("a/b", "t", 0.1, around="  +1.0 ms  #4\n> +2.0 ms  #5"),
            RunFinished(0.2),
        )
    )
    assert "    expected | observed\n    one two  | three\n" in output
    assert "    cause     overtaken (overtaken)\n" in output
    assert "    > +2.0 ms  #5\n" in output
    assert "  meaning   parity explain overtaken\n" in output


def test_the_cause_that_is_explained_is_no_consequence(show):
    """Where one check only follows from another, the line at the end names the cause of the other."""
    causes = {"metrics.values": "follows", "weights.values": "opposite-sign"}
    output = show(
        events=(
            RunStarted("tinker", "1", "c", "s", tuple(PlannedCheck("a/b", check) for check in causes), 1),
            *(
                CheckJudged("a/b", check, "fail", f"{check} differs", "1", "2", "fb", cause)
                for check, cause in causes.items()
            ),
            ScenarioFinished("a/b", "t", 0.1),
            RunFinished(0.2),
        )
    )
    assert "  meaning   parity explain opposite-sign\n" in output
