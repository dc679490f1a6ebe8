"""The JSON Schema of reports, generated from their structs.

`python -m harness.reference.regularizers.schema` prints what `docs/schema/regularizer-telemetry.schema.json` must hold.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from harness.reference.regularizers.telemetry import VERSION, LossReport, StepReport
from harness.schemas import cleaned

NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def telemetry_schema() -> dict[str, Any]:
    """Return the schema of a report; that of a line in a file of reports is `$defs.StepReport`."""
    _, definitions = msgspec.json.schema_components((LossReport, StepReport), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"parity regularizer telemetry {VERSION}: the report of a structured loss",
        "$ref": "#/$defs/LossReport",
        "$defs": {
            "Number": {"description": "A number, spelled where JSON has none.", **NUMBER},
            **dict(sorted(_numbers(cleaned(definitions)).items())),
        },
    }


def render() -> str:
    """Return the schema as it is published."""
    return json.dumps(telemetry_schema(), indent=2) + "\n"


def _numbers(schema: Any) -> Any:
    """Let every number that may be anything be spelled."""
    if schema == {"type": "number"}:
        return {"$ref": "#/$defs/Number"}
    if isinstance(schema, dict):
        return {key: _numbers(value) for key, value in schema.items()}
    return [_numbers(value) for value in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    sys.stdout.write(render())
