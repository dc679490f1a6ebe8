"""The reference client on the mock server: data, and what was sent, in short."""

from __future__ import annotations

import numpy as np

from harness.contracts.timeline import load_timeline
from harness.locations import locate
from harness.suite.data import DatumValue, InputValue
from mock_server.script import Logprobs

TIMELINE = load_timeline(locate().timeline)
TABLE = Logprobs(kind="table", table=tuple(-k / 8 for k in range(1, 17)))
PASSES = ("forward", "forward_backward")


def data_of(*lengths, **inputs):
    """Make one datum per length, each with targets; `inputs` are constants, by name."""
    return [
        DatumValue(
            tokens=np.arange(length) % 16,
            inputs={
                "target_tokens": InputValue(np.arange(1, length + 1) % 16, "tensor"),
                **{name: InputValue(np.full(length, value, np.float32), "tensor") for name, value in inputs.items()},
            },
        )
        for length in lengths
    ]


def story_of(record):
    """Name operations in order of arrival: F, B or O with their seq_id."""
    letters = {"optim_step": "O", "forward": "F"}
    told = []
    for exchange in record.exchanges:
        if exchange.route in (*PASSES, "optim_step"):
            forward = isinstance(exchange.body, dict) and exchange.body.get("forward_only")
            letter = letters.get(exchange.route, "F" if forward else "B")
            told.append(f"{letter}{exchange.body['seq_id']}")
    return told


def weights_of(record):
    """Return the weights of the last backward request, one list per datum."""
    last = [exchange for exchange in record.exchanges if exchange.route == "forward_backward"][-1]
    return [datum.inputs["weights"].dense().tolist() for datum in last.batch.datums]
