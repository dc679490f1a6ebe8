"""The published JSON Schemas of scenario and loss files, generated from the structs that read them."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from harness.schemas import cleaned
from harness.suite.losses.operations import OPERATIONS, ArgumentKind, Operation
from harness.suite.scenario import Loss, Scenario

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ARGUMENTS: dict[ArgumentKind, dict[str, Any]] = {
    "node": {"type": "integer", "minimum": 0, "description": "index of an earlier node"},
    "number": {"type": "number"},
    "datum": {"type": "integer", "minimum": 0, "description": "index of a datum"},
    "key": {"type": "string", "minLength": 1, "description": "name of a loss_fn_input"},
    "indices": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
}


def scenario_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario, as its TOML reads in JSON."""
    return {"$schema": _DIALECT, "title": "parity scenario", **cleaned(msgspec.json.schema(Scenario))}


def loss_schema() -> dict[str, Any]:
    """Return the JSON Schema of a loss file; each operation has its own arguments."""
    schema = cleaned(msgspec.json.schema(Loss))
    nodes = schema["$defs"]["Loss"]["properties"]["nodes"]
    nodes["items"] = {"oneOf": [_node(operation) for operation in OPERATIONS.values()]}
    nodes["minItems"] = 1
    return {"$schema": _DIALECT, "title": "parity loss", **schema}


def _node(operation: Operation) -> dict[str, Any]:
    arguments = [_ARGUMENTS[kind] for kind in operation.arguments]
    return {
        "type": "array",
        "description": operation.meaning,
        "prefixItems": [{"const": operation.name}, *arguments],
        "minItems": 1 + len(arguments),
        "maxItems": 1 + len(arguments),
    }


def text(schema: dict[str, Any]) -> str:
    """Return the content of a schema file."""
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
