"""The badge of an SDK's README."""

from __future__ import annotations

import json

import jsonschema
import pytest

from harness.engine.events import CheckJudged, PlannedCheck, RunFinished, RunStarted
from harness.reports.badge import badge_json

ENDPOINT = {
    "type": "object",
    "required": ["schemaVersion", "label", "message"],
    "additionalProperties": False,
    "properties": {
        "schemaVersion": {"const": 1},
        "label": {"type": "string"},
        "message": {"type": "string", "minLength": 1},
        "color": {"enum": ["brightgreen", "yellowgreen", "red", "lightgrey"]},
        "isError": {"type": "boolean"},
    },
}
"""What shields.io documents of its endpoint badge, as far as it is used."""

STARTED = RunStarted("tinker", "0.38.0", "tinker-0.38.0", "s", (PlannedCheck("a/b", "chunks.limits"),), 1)


@pytest.mark.parametrize(
    ("outcome", "interrupted", "message", "color"),
    [
        ("pass", False, "holds", "brightgreen"),
        ("known", False, "holds, 1 known", "yellowgreen"),
        ("fail", False, "1 diverging", "red"),
        ("unsupported", False, "does not hold", "red"),
        ("not_run", True, "not judged", "lightgrey"),
    ],
)
def test_says_whether_the_run_held(play, outcome, interrupted, message, color):
    """Message and colour follow from the run; what nothing held in is not green."""
    judged = CheckJudged("a/b", "chunks.limits", outcome)
    badge = json.loads(badge_json(play((STARTED, judged, RunFinished(1.0, interrupted=interrupted)))))
    jsonschema.validate(badge, ENDPOINT)
    assert (badge["message"], badge["color"]) == (message, color)
    assert badge["label"] == "parity tinker-0.38.0"
    assert badge.get("isError", False) is interrupted


def test_a_run_with_every_outcome(events, play, same_as_snapshot):
    """The document of the small run."""
    same_as_snapshot("badge.json", badge_json(play(events)))
