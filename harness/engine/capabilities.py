"""What a scenario asks of a driver, in the words drivers declare."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from harness.suite.scenario import Scenario


def needs(scenario: Scenario) -> tuple[str, ...]:
    """Return the capabilities that `scenario` needs: the public calls of its steps, by the steps' names."""
    steps = [msgspec.to_builtins(step) for step in scenario.stimulus.steps]
    return tuple(dict.fromkeys(step["do"] for step in steps if step["do"] not in {"await", "create_model"}))


def missing(scenario: Scenario, capabilities: Collection[str]) -> tuple[str, ...]:
    """Return the capabilities that `scenario` needs and the driver does not declare."""
    return tuple(name for name in needs(scenario) if name not in capabilities)
