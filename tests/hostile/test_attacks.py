"""One `parity run` over every attack, with honest scenarios before, between and after: docs/driver-protocol.md, 8."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from browser.chromium import Browser, Page
from hostile import hostile_driver
from hostile.conftest import CHECKS, Ran
from reports.github import workflow_commands

ERROR = dict.fromkeys(CHECKS, "error")
PASS = dict.fromkeys(CHECKS, "pass")
REFUSED = "refused"
FAILS = {
    "many_requests": "(flood): more than 20000 requests in one run",
    "too_many_at_a_time": "(flood): more than 1000 requests at a time",
    "a_stray_print": "(garbage): a line on stdout that is no answer",
    "a_long_line": "(garbage): a line of more than 16 MiB on stdout",
    "an_unknown_id": "never sent",
    "an_endless_answer": "(garbage): a line on stdout that is no answer",
    "a_deep_answer": "(garbage): an answer that nests more than 64 deep",
    "bytes_that_are_no_text": "(garbage): a line on stdout that is no answer",
    "an_answer_of_another_shape": "(garbage): an answer that is no RunAnswer",
    "a_long_excuse": "(driver_error): ",
    "an_exit_without_an_answer": "(crash): exited with status 0",
    "an_exit_in_the_middle": "(crash): exited with status 0",
    "a_kill": "(crash): killed by SIGKILL",
    "a_stop": "(silence): no answer to run within 2 s",
    "nothing_at_all": "(silence): no answer to run within 2 s",
    "a_closed_stdout": "(crash): closed its stdout and runs on",
}
"""Attacks after which nothing can be said about the subject, and the failure of the driver that is reported."""

NOT_ACCEPTED = {
    "a_large_body": "body-too-large",
    "a_large_body_in_chunks": "body-too-large",
    "large_bodies_at_a_time": "body-too-large",
    "many_values": "body-too-large",
    "many_datums": "body-too-large",
    "many_chunks": "body-too-large",
    "many_objects": "body-too-large",
    "a_bomb": "body-too-large",
    "a_declared_bomb": "body-too-large",
    "invalid_protobuf": "undecodable-body",
    "nested_json": "undecodable-body",
    "a_path_of_controls": "unknown-path",
}
"""Requests that the server refuses: a verdict on the subject, by one check."""

HELD = (
    "heads_without_end",
    "one_long_head",
    "bodies_without_end",
    "controls_in_headers",
    *(attack.__name__ for attack in hostile_driver.HARMLESS),
)
"""Attacks that change no verdict."""

MEGABYTES = 550
"""What the runner may take: its own 150, of each process 32 MiB of bodies on their way in, and one body of 64 MiB with
what becomes of it. About 240 are seen, however busy the machine is."""

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ufeff\ud800-\udfff]")


@pytest.fixture(scope="module")
def ran(attack: Callable[..., Ran]) -> Ran:
    """Run them all, three processes at a time."""
    attacks = [*FAILS, *NOT_ACCEPTED, *HELD, "text_for_reports"]
    honest = [f"honest_{n}" for n in range(len(attacks) // 4)]
    wrong = ["wrong_1", "wrong_2"]
    # Scenarios run in the order of their names' places in the plan; honest ones come between all others.
    return attack(*chain(honest, wrong, attacks))


def test_every_attack_has_a_verdict_that_is_asked_for() -> None:
    """No attack of the driver is left out of what is judged here."""
    attacks = {attack.__name__ for attack in (*hostile_driver.ON_THE_SERVER, *hostile_driver.ON_THE_RUNNER)}
    assert attacks <= {*FAILS, *NOT_ACCEPTED, *HELD}


@pytest.mark.parametrize("name", FAILS)
def test_an_attack_that_ends_the_driver_is_an_error(ran: Ran, name: str) -> None:
    """Every check of the scenario is an error that names the driver's failure."""
    assert ran.outcomes(name) == ERROR
    assert FAILS[name] in ran.messages(name)


@pytest.mark.parametrize("name", NOT_ACCEPTED)
def test_a_request_that_is_refused_is_a_verdict(ran: Ran, name: str) -> None:
    """The check of what the server understands fails and names the violation; the run goes on."""
    assert ran.outcomes(name)["wire.accepted"] == "fail"
    assert ran.outcomes(name)["result.status"] == "pass"
    assert NOT_ACCEPTED[name] in ran.messages(name)


@pytest.mark.parametrize("name", HELD)
def test_an_attack_without_an_effect_changes_no_verdict(ran: Ran, name: str) -> None:
    """What the subject did besides is judged as if there had been no attack."""
    outcomes = ran.outcomes(name)
    if name == "controls_in_headers":
        assert outcomes.pop("wire.bodies") == "fail"  # for a request that golden does not have
    assert set(outcomes.values()) == {"pass"}


def test_other_verdicts_are_unharmed(ran: Ran) -> None:
    """Honest scenarios pass and wrong ones fail, for their own reason, whatever was run beside them."""
    names = sorted({r["scenario"].removeprefix("hostile/") for r in ran.report["results"] if "honest" in r["scenario"]})
    assert len(names) > 5
    for name in names:
        assert ran.outcomes(name) == PASS, name
    for name in ("wrong_1", "wrong_2"):
        assert ran.outcomes(name) == {**PASS, "result.status": "fail"}
    assert ran.status == 1


def test_the_attacks_saw_what_they_should(ran: Ran) -> None:
    """Every answer of the server, 400, 413 and 422 among them, reached the client that asked for it."""
    assert [file.read_text() for file in ran.folder.glob("unexpected-*")] == []


def test_memory_is_bounded(ran: Ran) -> None:
    """No attack makes the runner take more than a few times the largest body it takes."""
    assert ran.megabytes < MEGABYTES


@pytest.mark.parametrize("report", ["console", "JSON", "JUnit", "Markdown", "HTML data"])
def test_no_report_holds_a_control_character(ran: Ran, report: str) -> None:
    """Escapes for terminals, C1 controls and marks that reorder text are spelled, in every report."""
    assert CONTROLS.search(ran.texts[report]) is None
    assert "owned" in ran.texts[report], "the text was not reported at all"


@pytest.mark.parametrize("report", ["badge", "support"])
def test_what_is_for_a_readme_holds_nothing_of_the_subject(ran: Ran, report: str) -> None:
    """Badge and table count; no text of the subject gets into a README."""
    assert "owned" not in ran.texts[report]


def test_nothing_a_subject_says_is_a_workflow_command(ran: Ran) -> None:
    """Read as GitHub reads it, the output has parity's own annotations and no command of the subject's."""
    found = workflow_commands(ran.texts["console"])
    assert {name for name, _, _ in found} == {"error", "notice"}
    scenarios = {result["scenario"] for result in ran.report["results"]}
    titles = [properties["title"] for name, properties, _ in found if name == "error"]
    assert {title.partition(": ")[0] for title in titles} <= {*scenarios, "parity"}


def test_the_summary_means_nothing_of_the_subjects(ran: Ran) -> None:
    """No element, link, mention or table row of the subject's in the Markdown."""
    text = ran.texts["Markdown"]
    assert "<script" not in text
    assert not re.search(r"(?<!&#64;)(?<!pre>)@owned(?![^<]*</pre>)", text)
    assert not re.search(r"\[owned\]\((?![^<]*</pre>)", text)


def test_the_page_is_a_page(ran: Ran, browser: Browser, tmp_path: Path) -> None:
    """In a browser, every scenario opened, what came from the subject is text: nothing runs, nothing is asked for."""
    file = tmp_path / "page.html"
    file.write_text(ran.texts["HTML"], encoding="utf-8")
    page = Page(browser)
    page.open(file)
    page.run("window.alert = () => { window.owned = 1; }")
    page.run("document.querySelectorAll('#list > details').forEach(d => { d.open = true; })")
    page.run("new Promise(done => setTimeout(done))")
    assert page.run("document.querySelectorAll('script').length") == 2
    assert page.run("'owned' in window") is False
    assert "<script>alert('x')</script>" in page.run("document.body.innerText")
    assert "could not be drawn" not in ran.texts["HTML data"]
    assert page.said == []
    assert page.asked == [file.resolve().as_uri()]


def test_a_terminal_that_lacks_characters_gets_them_spelled(attack: Callable[..., Ran]) -> None:
    """Where stdout is ASCII, what a subject says beyond it does not end the run."""
    found = attack("text_for_reports", encoding="ascii")
    assert found.outcomes("text_for_reports")["result.status"] == "fail"
    assert "owned" in found.texts["console"]
    assert "something diverged" in found.texts["console"]


def test_the_xml_is_xml(ran: Ran) -> None:
    """The JUnit file parses, and what came from the subject is text in it, not markup."""
    root = ET.fromstring(ran.texts["JUnit"])
    assert root.find(".//script") is None
    assert "<script>" not in ran.texts["JUnit"]
    assert "<script>alert" in "".join(root.itertext())


@pytest.mark.parametrize(
    ("mode", "failure"),
    [
        ("exits", "the driver failed (crash): exited with status 0"),
        ("reads-nothing", "the driver failed (silence): no answer to hello within 1 s"),
        ("writes-without-end", "the driver failed (garbage): a line of more than 16 MiB on stdout"),
    ],
)
def test_a_driver_that_never_speaks_is_one_finding(attack: Callable[..., Ran], mode: str, failure: str) -> None:
    """It is started twice, then given up; nothing of it is left."""
    found = attack("honest_1", "honest_2", "honest_3", mode=mode, jobs=1)
    assert found.outcomes("honest_1") == ERROR
    assert failure in found.messages("honest_1")
    assert set(found.outcomes("honest_3").values()) == {"not_run"}


def test_input_that_is_never_read_is_silence(attack: Callable[..., Ran]) -> None:
    """A driver that answers hello and reads no more is ended when the time is up, each time."""
    found = attack("nothing_at_all", "a_stop", mode="reads-no-more")
    assert found.outcomes("nothing_at_all") == found.outcomes("a_stop") == ERROR
    assert "(silence): no answer to run" in found.messages("a_stop")


def test_an_exit_after_hello_is_a_crash_of_every_scenario(attack: Callable[..., Ran]) -> None:
    """A driver that starts and never stays costs each scenario its own two attempts, and the run ends."""
    found = attack("honest_1", "honest_2", mode="exits-after-hello")
    for name in ("honest_1", "honest_2"):
        assert found.outcomes(name) == ERROR
        assert "(crash): exited with status 0" in found.messages(name)


def test_what_a_killed_runner_left_is_cleared_by_the_next(attack: Callable[..., Ran], tmp_path: Path) -> None:
    """A driver kills the runner and goes on, with children and daemons: the next run works and ends all of them."""
    attack("the_runner_killed", temporary=tmp_path, killed=True)
    assert len(list(tmp_path.iterdir())) == 1, "nothing was left to clear"
    found = attack("honest_1", temporary=tmp_path)
    assert found.status == 0
    assert found.outcomes("honest_1") == PASS
