"""JUnit XML: one suite per scenario, one case per check, for CI systems that show tests."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from harness.engine.events import CheckJudged
from harness.reports.tally import Tally, fails
from harness.reports.text import cause_of, for_xml

# `fixed` is a failure (the ledger is wrong); `not_run` is an error: nothing was judged.
_ELEMENT = {"fail": "failure", "fixed": "failure", "error": "error", "not_run": "error"}


def _case(result: CheckJudged, *, seconds: float) -> ET.Element:
    case = ET.Element("testcase", classname=for_xml(result.scenario), name=for_xml(result.check), time=f"{seconds:.3f}")
    if result.outcome == "pass":
        return case
    kind = _ELEMENT.get(result.outcome, "failure" if fails(result) else "skipped")
    if result.unscored:
        kind = "skipped"
    message = for_xml(f"{'unscored: ' if result.unscored else ''}{result.outcome}: {result.message}")
    element = ET.SubElement(case, kind, message=message)
    if kind != "skipped":
        element.set("type", result.outcome)
    sides = (
        ("expected", result.expected),
        ("observed", result.observed),
        ("where", result.where),
        ("cause", cause_of(result)),
    )
    element.text = for_xml("\n".join(f"{name}: {value}" for name, value in sides if value))
    return case


def junit_xml(tally: Tally) -> str:
    """Return the JUnit document of what `tally` has heard; valid XML 1.0 whatever the subject wrote."""
    root = ET.Element("testsuites", name="parity")
    by_scenario: dict[str, list[CheckJudged]] = {}
    for result in tally.in_plan_order():
        by_scenario.setdefault(result.scenario, []).append(result)
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for scenario, results in by_scenario.items():
        run = tally.scenarios.get(scenario)
        seconds = run.seconds if run else 0.0
        suite = ET.SubElement(root, "testsuite", name=for_xml(scenario))
        cases = [_case(result, seconds=seconds / len(results)) for result in results]
        suite.extend(cases)
        counts = {
            "tests": len(cases),
            "failures": sum(case.find("failure") is not None for case in cases),
            "errors": sum(case.find("error") is not None for case in cases),
            "skipped": sum(case.find("skipped") is not None for case in cases),
        }
        for name, count in counts.items():
            suite.set(name, str(count))
            totals[name] += count
        suite.set("time", f"{seconds:.3f}")
        repeated = f"{run.failed_runs} of {run.runs} runs did not hold" if run and run.runs > 1 else ""
        notes = "\n".join(part for part in (repeated, run.note, run.exchange) if part) if run else ""
        if notes:
            ET.SubElement(suite, "system-out").text = for_xml(notes)
    for scenario, checks in _left_out(tally).items():
        cases = [ET.Element("testcase", classname=for_xml(scenario), name=for_xml(check)) for check in checks]
        for case in cases:
            ET.SubElement(case, "skipped", message="slow: left out without --slow")
        counts = {"tests": len(cases), "failures": 0, "errors": 0, "skipped": len(cases)}
        suite = ET.SubElement(root, "testsuite", {"name": for_xml(scenario), **{k: str(v) for k, v in counts.items()}})
        suite.extend(cases)
        totals = {name: totals[name] + count for name, count in counts.items()}
    for name, count in totals.items():
        root.set(name, str(count))
    root.set("time", f"{tally.finished.seconds if tally.finished else 0.0:.3f}")
    ET.indent(root, space=" ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _left_out(tally: Tally) -> dict[str, list[str]]:
    """Return the checks of slow scenarios that were not asked for, by scenario."""
    checks: dict[str, list[str]] = {}
    for planned in tally.started.slow if tally.started else ():
        checks.setdefault(planned.scenario, []).append(planned.check)
    return checks
