"""The page about an SDK's state: what it groups, in which order, and what it says of each divergence."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.checks.registry import CHECKS
from harness.reports.document import Document, Recording, Result, Run, ScenarioRun, Sdk
from harness.reports.state_page import HARM, divergences, harm_of, main, render, sources_of


def result(check: str, outcome: str = "known", *, scenario: str = "a/b", reason: str = "", cause: str = "") -> Result:
    """Return one result; `reason` is the ledger's."""
    message = f"it differs (known bug: {reason})" if reason else "it differs"
    return Result(scenario, check, outcome, message, "1 `x`", "2", "fb", cause)  # type: ignore[arg-type] # literals


def report(*results: Result) -> Document:
    """Return a report of these results."""
    return Document(
        schema=2,
        sdk=Sdk("tinkex", "0.4.0", runtime="Elixir 1.18.4", libraries={"nx": "0.11.0", "jason": "1.4.4"}),
        contract="tinker-0.15.0",
        run=Run("0.1.0", 0, 0, "", replay=False, shard=None, jobs=1, arguments=()),
        totals={"pass": 1, "fail": 0},
        results=list(results),
        remarks=[],
        scenarios=[ScenarioRun("a/b", "title", 0.1, 0, "", "")],
        suite="",
        seconds=1.0,
        interrupted=False,
        exit_status=1,
    )


def test_what_one_reason_explains_is_one_divergence() -> None:
    """A cause far from its effect is told once, by the most harmful check it reddens."""
    found = divergences(
        [
            result("wire.bodies", reason="another tag"),
            result("order.phases", reason="calls race"),
            result("training.gradient", reason="calls race", scenario="c/d"),
            result("weights.values", "pass"),
        ]
    )
    assert [(d.reason, len(d.results), d.results[0].check) for d in found] == [
        ("calls race", 2, "training.gradient"),
        ("another tag", 1, "wire.bodies"),
    ]


def test_what_no_ledger_knows_is_grouped_by_check_and_cause() -> None:
    """Different checks, or different causes, are not taken for one thing."""
    found = divergences(
        [
            result("metrics.values", "fail", cause="scaled"),
            result("metrics.values", "fail", cause="scaled", scenario="c/d"),
            result("metrics.values", "fail"),
        ]
    )
    assert [(len(d.results), d.listed) for d in found] == [(2, False), (1, False)]


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_a_class_of_harm(check: str) -> None:
    """A family that is forgotten would stand among what shows on the wire only."""
    named = {name for _, members in HARM for name in members}
    assert check in named or check.partition(".")[0] in named
    assert 0 <= harm_of(check) < len(HARM)


def test_the_page_says_what_agrees_and_how_to_see_what_differs() -> None:
    """Counts, cause, evidence and a command, in Markdown that values of the SDK cannot break."""
    page = render(
        report(
            result("session.start", "pass"),
            result("loss.calls", reason="the loss is called twice", cause="called-too-often"),
            msgspec.structs.replace(result("error.kind", "not_run"), expected="", observed="", where=""),
        ),
        {"the loss is called twice": ["Custom.loss", "the other place"]},
    )
    assert page.startswith("# tinkex 0.4.0 against tinker-0.15.0\n")
    assert "Elixir 1.18.4, nx 0.11.0: 1 scenarios" in page
    assert "One run of 1 s." in page
    assert "- Source: Custom.loss; the other place." in page
    assert "awaited before" not in page
    assert "1 checks hold wherever they apply: `session.start`." in page
    assert "| `loss.calls` | 0 | 1 |" in page
    assert "#### 1. The loss is called twice" in page
    assert "Listed as bug." in page
    assert "(`called-too-often`)" in page
    assert "Seen in `a/b`, fb: it differs.\n  Expected `1 'x'`, observed `2`." in page
    assert "-k a/b --json again.json`" in page
    assert "- 1 checks of `a/b`, it differs" in page


def test_the_page_of_a_recorded_run_says_when_it_was_taken() -> None:
    """How long it took to judge the recording says nothing about the SDK."""
    taken = Recording(taken="2026-11-29", parity="0.1.0", stale=(), unplanned=())
    page = render(msgspec.structs.replace(report(result("session.start", "pass")), recording=taken), {})
    assert "One run, recorded on 2026-11-29." in page
    assert "One run of" not in page


def test_the_page_counts_what_trains_right_where_each_call_is_awaited() -> None:
    """Other scenarios and other checks are not counted, and what differs is not taken for right."""
    page = render(
        report(
            result("training.gradient", "pass", scenario="a/b-awaited"),
            result("training.parameters", "known", scenario="a/b-awaited", reason="why"),
            result("training.gradient", "pass", scenario="a/b"),
            result("wire.bodies", "pass", scenario="a/b-awaited"),
        ),
        {},
    )
    assert "1 of 2 `training.*` checks in 1 scenarios pass." in page


LEDGER = """
[[divergence]]
reason = "calls race"
source = "Client.call"

[[divergence]]
reason = "calls race"
source = "Client.other"

[[divergence]]
reason = "calls race"
source = "Client.call"
"""


def test_sources_are_told_once_for_each_reason() -> None:
    """Entries of one reason name the same place again and again."""
    assert sources_of(LEDGER) == {"calls race": ["Client.call", "Client.other"]}


def test_the_command_reads_a_report_and_its_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page goes to stdout."""
    file, ledger = tmp_path / "report.json", tmp_path / "ledger.toml"
    file.write_bytes(msgspec.json.encode(report(result("loss.calls", reason="calls race"))))
    ledger.write_text(LEDGER, encoding="utf-8")
    main([str(file), str(ledger)])
    written = capsys.readouterr().out
    assert written == render(report(result("loss.calls", reason="calls race")), sources_of(LEDGER))
    assert "- Source: Client.call; Client.other." in written
