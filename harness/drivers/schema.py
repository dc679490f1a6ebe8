"""The JSON Schema of the driver protocol, generated from its structs.

`python -m harness.drivers.schema` prints what `docs/schema/driver-protocol.schema.json` must hold.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from harness.drivers.protocol import (
    PROTOCOL,
    Answer,
    Evaluate,
    EvaluateAnswer,
    Hello,
    HelloAnswer,
    Run,
    RunAnswer,
    Shutdown,
    StepResult,
)
from harness.schemas import cleaned
from harness.suite.scenario import Loss, Step

_COMMANDS = (Hello, Run, Evaluate, Shutdown)
_ANSWERS = (HelloAnswer, RunAnswer, EvaluateAnswer)


def driver_protocol_schema() -> dict[str, Any]:
    """Return the schema of one line: a command or an answer.

    What the structs leave open, because it passes through as plain JSON, is filled in: the steps and losses of a run,
    the cases of `evaluate` and their results, the kinds of `ok`.
    """
    (_, _, step, loss, *_), definitions = cleaned(
        msgspec.json.schema_components(
            (Answer, StepResult, Step, Loss, *_COMMANDS, *_ANSWERS), ref_template="#/$defs/{name}"
        )
    )
    definitions["Step"] = step
    run = definitions["Run"]["properties"]
    run["steps"]["items"] = _reference("Step")
    run["losses"]["additionalProperties"] = loss
    definitions["Evaluate"]["properties"]["cases"]["items"] = _case(loss)
    definitions["EvaluateAnswer"]["properties"]["results"]["items"] = _case_result()
    nothing = {"type": "object", "maxProperties": 0, "description": "The answer to shutdown."}
    answer = definitions["Answer"]
    answer["properties"]["ok"] = {"anyOf": [*(_reference(kind.__name__) for kind in _ANSWERS), nothing]}
    answer["properties"]["driver_error"] = _reference("DriverError")
    answer["oneOf"] = [{"required": ["ok"]}, {"required": ["driver_error"]}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"parity driver protocol {PROTOCOL}: one line",
        "oneOf": [_reference(kind.__name__) for kind in (*_COMMANDS, Answer)],
        "$defs": dict(sorted(definitions.items())),
    }


def render() -> str:
    """Return the schema as it is published."""
    return json.dumps(driver_protocol_schema(), indent=2) + "\n"


def _case(loss: dict[str, Any]) -> dict[str, Any]:
    tensor = {"anyOf": [_reference("WireTensor"), _numbers()]}
    fields = {"type": "object", "additionalProperties": tensor}
    return {
        "type": "object",
        "properties": {
            "loss": loss,
            "logprobs": {"type": "array", "items": tensor},
            "fields": {"type": "array", "items": fields},
        },
        "required": ["loss", "logprobs", "fields"],
    }


def _case_result() -> dict[str, Any]:
    number = {"type": ["number", "string"]}
    computed = {
        "properties": {
            "loss": number,
            "metrics": {"type": "object", "additionalProperties": number},
            "gradients": {"type": "array", "items": {"anyOf": [_numbers(), {"type": "null"}]}},
        },
        "required": ["loss", "metrics", "gradients"],
    }
    return {"type": "object", "oneOf": [computed, {"properties": {"error": {"type": "string"}}, "required": ["error"]}]}


def _numbers() -> dict[str, Any]:
    return {"type": "array", "items": {"type": ["number", "string"]}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


if __name__ == "__main__":
    sys.stdout.write(render())
