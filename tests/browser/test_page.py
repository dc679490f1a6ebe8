"""The page in headless Chromium: it draws, filters, answers to the keyboard, and asks nobody for anything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.engine.events import (
    CheckJudged,
    PicturedChunk,
    PicturedLoss,
    PicturedPass,
    PicturedRequest,
    PicturedUpdate,
    PicturedWeights,
    PlannedCheck,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    ScenarioPictured,
    SubjectReady,
)
from harness.reports.html import page as page_of
from harness.reports.tally import Tally

RECORDED = Path(__file__).parents[2] / "docs" / "tinkex-0.4.0.html"
HOSTILE = "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 1'> \u202e \x1b[2J"

IDS = ".map(d => d.querySelector('.id').textContent)"
SHOWN = f"[...document.querySelectorAll('#list > details')].filter(d => !d.hidden){IDS}"
FOCUSED = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
OPEN = f"[...document.querySelectorAll('#list > details[open]')]{IDS}"
SOON = "new Promise(done => setTimeout(done))"
ALL = "document.querySelectorAll('#list > details').forEach(d => { d.open = true; })"
CONTRAST = """(() => {
  const linear = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const of = c => {
    const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(linear);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const paper = of(getComputedStyle(document.body).backgroundColor);
  const words = 'h1, .facts li, .verdict, .told, .title, .finding .what, dt, .why, figcaption span, .legend li';
  return [...document.querySelectorAll(words)].map(e => {
    const ink = of(getComputedStyle(e).color);
    return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
  });
})()"""
"""The contrast of texts to the page, as WCAG computes it."""

NARROWER = """new Promise(done => {
  const look = () => {
    const w = document.querySelectorAll('figure svg')[1].clientWidth;
    w < 600 ? done(w) : setTimeout(look, 20);
  };
  look();
})"""


def _picture(scenario):
    chunks = (PicturedChunk(1, 1024), PicturedChunk(2, 1))
    return ScenarioPictured(
        scenario,
        requests=(
            PicturedRequest("c1", "create_session", "session", "", None, 0, 1.0, 1.2, 200, False),
            PicturedRequest("c2", "forward", "forward", "model-1", 1, 1024, 2.0, 9.0, 200, False),
            PicturedRequest("c2", "optim_step", "optim", "model-1", 3, 0, 10.0, None, None, True),
            PicturedRequest("c1", HOSTILE, "poll", "model-1", 1, 0, 9.5, 12.0, 429, False),
        ),
        more_requests=3,
        passes=(
            PicturedPass(f"{HOSTILE} forward", "forward", "model-1", chunks, (PicturedChunk(1, 1025),)),
            PicturedPass("opt", "optim", "model-1", (PicturedChunk(3, 0),), ()),
        ),
        weights=PicturedWeights(HOSTILE, 4, 90, 2, (2,), (0.5, -1.0, 2.0, 0.0), (0.5, float("nan"), 2.5, 0.0)),
        losses=(PicturedLoss("fb1", 1.0, 1.5), PicturedLoss("fb2", 0.5, None)),
        updates=(
            PicturedUpdate("model-1", (1.0, 1.0), (15.5, 15.6), 0.1),
            PicturedUpdate("model-1", (1.0, None), (15.4, None), None),
        ),
    )


def _small_run():
    """Return a run with every outcome, one scenario pictured, and texts that attack a browser."""
    outcomes = ("pass", "fail", "known", "fixed", "unsupported", "error", "not_run")
    checks = tuple(
        PlannedCheck(f"{area}/{outcome.replace('_', '-')}", check)
        for area in ("chunks", "order")
        for outcome in outcomes
        for check in ("chunks.limits", "weights.values")
    )
    tally = Tally()
    tally.handle(RunStarted("tinker", HOSTILE, "tinker-0.38.0", "s", checks, 1, ("--sdk", "tinker==1")))
    tally.handle(SubjectReady({"name": "tinker"}, "python", HOSTILE, {"torch": HOSTILE}, ()))
    for each in checks:
        outcome = each.scenario.partition("/")[2].replace("-", "_") if each.check == "weights.values" else "pass"
        said = "" if outcome == "pass" else HOSTILE
        cause = "opposite-sign" if outcome == "fail" else ""
        tally.handle(
            CheckJudged(
                each.scenario, each.check, outcome, said, said, said, said, cause, certainty="certain" if cause else ""
            )
        )
    for scenario in dict.fromkeys(each.scenario for each in checks):
        if scenario == "chunks/fail":
            tally.handle(_picture(scenario))
        tally.handle(
            ScenarioFinished(scenario, f"Title of {scenario}", 0.1, note=HOSTILE, around=HOSTILE, runs=3, failed_runs=1)
        )
    tally.handle(RunFinished(1.5))
    return tally


@pytest.fixture
def file(tmp_path):
    """Return the page of the small run."""
    path = tmp_path / "page.html"
    path.write_text(page_of(_small_run()), encoding="utf-8")
    return path


def test_nothing_of_a_subject_runs(load, file):
    """Texts that would run in a browser are shown as texts, in every place they come to."""
    page = load(file)
    page.run(ALL)
    page.run(SOON)
    page.run("document.querySelectorAll('details.numbers').forEach(d => { d.open = true; })")
    page.run(SOON)
    assert page.run("document.querySelectorAll('script').length") == 2
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("'owned' in window") is False
    assert page.run("document.body.innerText.includes('<script>window.owned = 1')")
    assert not page.run(r"/[\u0000-\u0008\u202e\u001b]/.test(document.body.innerText)")


def test_the_policy_stops_what_would_run_all_the_same(load, file):
    """Markup that got into the page by a mistake could not run: the page's own policy is in force."""
    page = load(file)
    page.run("document.body.insertAdjacentHTML('beforeend', '<details open ontoggle=\"window.owned = 1\">')")
    page.run(SOON)
    assert page.run("'owned' in window") is False
    page.forget("Content Security Policy directive")


def test_a_browser_that_cannot_unpack_is_told(load, file):
    """Without DecompressionStream the head stays, and a sentence names the reports that hold the same."""
    page = load(file, first="delete window.DecompressionStream")
    assert "no DecompressionStream" in page.run("document.querySelector('main').textContent")
    assert "diverged" in page.run("document.querySelector('.verdict').textContent")
    assert page.run("document.querySelectorAll('form, section').length") == 0


def test_a_damaged_page_is_told(load, file):
    """Data that cannot be unpacked is no blank page."""
    text = file.read_text(encoding="utf-8")
    block = re.search(r'id="data">([^<]+)<', text)[1]
    file.write_text(text.replace(block, block[:200] + block[300:]), encoding="utf-8")
    assert "damaged" in load(file).run("document.getElementById('sorry').textContent")


def test_what_is_left_out_is_counted(load, file, monkeypatch):
    """A page without room says how much of each sort it has not, and each place says so too."""
    whole = load(file)
    assert whole.run("document.getElementById('left')") is None
    monkeypatch.setattr("harness.reports.html.BYTES", 0)
    file.write_text(page_of(_small_run()), encoding="utf-8")
    page = load(file, "#chunks%2Ffail")
    told = page.run("document.getElementById('left').textContent")
    assert "14 titles, texts of 26 findings, pictures of 1 scenario." in told
    shown = page.run("document.querySelector('#list > details[open]').innerText")
    assert shown.count("(left out: the page would be too large") > 1
    assert "Its pictures are left out" in shown


def test_search_and_outcomes_filter_table_and_list(load, file):
    """Words and outcomes narrow both; the count says how many are left; clearing brings all back."""
    page = load(file)
    assert len(page.run(SHOWN)) == 14
    page.click("#search")
    page.press(*"order")
    assert len(page.run(SHOWN)) == 7
    page.click("button[data-outcome=fail]")
    assert page.run(SHOWN) == ["order/fail"]
    assert page.run("document.querySelector('button[data-outcome=fail]').getAttribute('aria-pressed')") == "true"
    assert page.run("document.querySelector('.count').textContent") == "1 of 14 scenarios"
    assert page.run("[...document.querySelectorAll('.grid tbody tr')].filter(r => !r.hidden).length") == 1
    page.click("#reset")
    assert len(page.run(SHOWN)) == 14
    assert page.run("document.querySelector('#search').value") == ""


def test_area_and_cause_filter(load, file):
    """Menus choose among the areas and causes there are."""
    page = load(file)
    for name, value, shown in (("area", "chunks", 7), ("cause", "opposite-sign", 1)):
        menu = f"document.getElementById({json.dumps(name)})"
        page.run(f"{menu}.value = {json.dumps(value)}; {menu}.dispatchEvent(new Event('change'))")
        assert len(page.run(SHOWN)) == shown


def test_no_match_is_said(load, file):
    """Filters that leave nothing say so."""
    page = load(file)
    page.press("/", *"nothing-like-it")
    assert page.run(SHOWN) == []
    assert page.run("document.getElementById('none').hidden") is False


def test_the_keyboard_reaches_everything(load, file):
    """The slash finds the search, arrows move in the table, which is one stop, and Enter opens a scenario."""
    page = load(file)
    page.press("/")
    assert page.run("document.activeElement.id") == "search"
    for _ in range(30):
        page.press("Tab")
        if page.run("document.activeElement.closest('.grid table') !== null"):
            break
    assert page.run(FOCUSED) == "chunks/fail"
    page.press("ArrowDown", "ArrowRight", "ArrowRight")
    assert page.run(FOCUSED) == "weights.values fail"
    page.press("End", "Home")
    assert page.run(FOCUSED) == "order/fail"
    page.press("Enter")
    assert page.run(OPEN) == ["order/fail"]
    assert page.run("document.activeElement.tagName") == "SUMMARY"
    page.press("Enter")
    assert page.run(OPEN) == []


def test_a_click_in_the_table_opens_the_scenario(load, file):
    """The address then names it, and opens it again."""
    page = load(file)
    page.click(".grid tbody tr:first-child td:last-child")
    assert page.run(OPEN) == ["chunks/fail"]
    fragment = page.run("location.hash")
    assert fragment == "#chunks%2Ffail"
    assert load(file, fragment).run(OPEN) == ["chunks/fail"]


def test_a_scenario_is_drawn(load, file):
    """Four pictures, each with a title, a text for who cannot see it, and its numbers; the diagnosis beside them."""
    page = load(file, "#chunks%2Ffail")
    titles = page.run("[...document.querySelectorAll('figcaption')].map(f => f.firstChild.textContent)")
    assert titles == ["Requests and chunks", "Time line by connection", "Weights", "Loss and parameters over steps"]
    assert page.run("[...document.querySelectorAll('figure svg')].every(e => e.getAttribute('aria-label'))")
    assert page.run("document.querySelectorAll('figure details.numbers').length") == 4
    assert page.run("document.querySelectorAll('figure svg rect.odd').length") == 1
    assert page.run("document.querySelectorAll('figure svg rect.ghost').length") == 1
    assert page.run("document.querySelectorAll('svg rect.request').length") == 4
    assert page.run("document.querySelectorAll('svg rect.refused').length") == 2
    assert page.run("document.querySelector('.finding .check').textContent") == "weights.values"
    commands = page.run("document.querySelector('.commands').textContent").splitlines()
    assert commands == ["parity run --sdk tinker==1 -k chunks/fail", "parity explain opposite-sign"]
    page.click("figure:nth-of-type(3) details.numbers > summary")
    page.run(SOON)
    rows = "[...document.querySelectorAll('figure:nth-of-type(3) tbody tr')]"
    cells = page.run(f"{rows}.map(r => [...r.children].map(c => c.textContent))")
    assert cells[:3] == [["4", "0.5", "0.5", "0"], ["5", "\u22121", "NaN", "NaN"], ["6", "2", "2.5", "0.5"]]


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_fits_and_can_be_read(load, file, width, dark):
    """Nothing is wider than the window, and text has a contrast of at least 4.5 to what it stands on, light or dark."""
    page = load(file, "#chunks%2Ffail", width=width, dark=dark)
    assert page.run("document.documentElement.scrollWidth") <= width
    found = page.run(CONTRAST)
    assert len(found) > 20
    assert min(found) >= 4.5
    assert (page.run("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)") is dark


def test_pictures_follow_the_window(load, file):
    """A narrower window draws them anew."""
    page = load(file, "#chunks%2Ffail")
    before = page.run("document.querySelectorAll('figure svg')[1].clientWidth")
    page.size(600, 900)
    assert page.run(NARROWER) < before


def test_the_page_of_a_whole_run(load):
    """The committed page of Tinkex opens every scenario without a complaint, and is below 300 KB."""
    assert RECORDED.stat().st_size < 300_000
    page = load(RECORDED)
    count = len(page.run(SHOWN))
    assert count > 150
    page.run(ALL)
    page.run(SOON)
    assert page.run("document.querySelectorAll('.body').length") == count
    assert page.run("document.querySelectorAll('figure').length") > count
    attributes = "[...document.querySelectorAll('svg *')].flatMap(e => [...e.attributes].map(a => a.value))"
    assert page.run(f"{attributes}.filter(v => v.includes('NaN')).length") == 0
