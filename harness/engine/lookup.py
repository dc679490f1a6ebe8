"""One scenario by its id."""

from __future__ import annotations

import difflib

from harness.errors import ParityError
from harness.suite.loader import Suite
from harness.suite.scenario import Scenario


def scenario_called(suite: Suite, scenario_id: str) -> Scenario:
    """Return one scenario. Raises ParityError `scenario-unknown` with the closest id."""
    scenario = suite.scenarios.get(scenario_id)
    if scenario is None:
        close = difflib.get_close_matches(scenario_id, suite.scenarios, n=1, cutoff=0.4)
        raise ParityError(
            "scenario-unknown",
            f"there is no scenario {scenario_id!r}",
            hint=f"did you mean {close[0]!r}?" if close else "`parity list` shows them all",
        )
    return scenario
