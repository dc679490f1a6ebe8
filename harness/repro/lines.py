"""A scenario as the lines that a driver of any language is given: hello and run.

A driver ends when its stdin does, so that whoever feeds it a file keeps stdin open until the run is answered:
`(cat FILE; cat) | driver`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from harness.drivers.protocol import PROTOCOL, Hello, Run, WireDatum, WireTensor
from harness.drivers.python import spelling
from harness.suite.data import DatumValue, InputValue, expand
from harness.suite.rules import client_options, losses_used
from harness.suite.scenario import Loss, Scenario

BASE_URL = "http://127.0.0.1:8000"
API_KEY = "tml-local"


def driver_lines(
    scenario: Scenario, losses: Mapping[str, Loss], *, base_url: str = BASE_URL, api_key: str = API_KEY
) -> str:
    """Return the JSON lines for a driver's stdin, all data on the line. `losses` has those the scenario names."""
    run = Run(
        id=2,
        base_url=base_url,
        api_key=api_key,
        steps=[msgspec.to_builtins(step) for step in scenario.stimulus.steps],
        data={name: [_datum(datum) for datum in expand(spec)] for name, spec in scenario.stimulus.data.items()},
        losses={name: msgspec.to_builtins(losses[name]) for name in losses_used(scenario)},
        timeout=scenario.timeout,
        client=client_options(scenario),
    )
    commands = (Hello(id=1, protocol=PROTOCOL, nonce="by-hand"), run)
    return "".join(msgspec.json.encode(command).decode() + "\n" for command in commands)


def _datum(datum: DatumValue) -> WireDatum:
    return WireDatum(
        tokens=_tensor(InputValue(datum.tokens, "tensor")),
        inputs={name: _tensor(value) for name, value in datum.inputs.items()},
    )


def _tensor(value: InputValue) -> WireTensor:
    array = value.array
    return WireTensor(array.dtype.name, list(array.shape), data=spelling.spell(array), container=value.container)
