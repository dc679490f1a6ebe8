"""The operation vectors: graphs on small data, with the values and gradients every driver must find.

One file per operation in `fixtures/losses/ops/`, a list of vectors, each

    {"name": "exp/ragged",
     "case": {"loss": {...}, "logprobs": [tensor, ...], "fields": [{name: tensor, ...}, ...]},
     "expected": {"loss": number, "metrics": {name: number}, "gradients": [[number, ...] or null, ...]}}

`case` is what the driver protocol's `evaluate` command carries, with tensors as the protocol writes them (dtype,
shape, data, row-major); `expected` never leaves the runner. Gradients are those of the loss with respect to each
datum's logprobs, flattened row-major, null where the loss does not depend on them. The inputs are exact in float32;
the expected numbers were computed from them in float64.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import ParityError

ATOL, RTOL = 1e-6, 1e-5
"""An observed number agrees when |observed - expected| <= ATOL + RTOL |expected|."""

_SPELLED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, "-0.0": -0.0}


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a case must give; see the module's description."""

    loss: float
    metrics: dict[str, float]
    gradients: tuple[tuple[float, ...] | None, ...]


class Vector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One operation vector. `case` goes to a driver as it is."""

    name: str
    case: dict[str, Any]
    expected: Expected


@dataclass(frozen=True, slots=True)
class VectorMismatch:
    """Where a result differs from its vector: `where` is `loss`, `metrics.<name>` or `gradients[datum][element]`."""

    vector: str
    where: str
    expected: str
    observed: str

    def __str__(self) -> str:
        return f"{self.vector}: {self.where}: expected {self.expected}, observed {self.observed}"


def load_vectors(folder: Path) -> tuple[Vector, ...]:
    """Read every vector below `folder` (`fixtures/losses/ops`), in the order of file names.

    Raises ParityError `vectors-malformed`; also when there is none.
    """
    found: list[Vector] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.extend(msgspec.json.decode(path.read_bytes(), type=list[Vector]))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _malformed(f"{path}: {error}") from error
    if not found:
        raise _malformed(f"{folder} holds no operation vectors")
    return tuple(found)


def _malformed(what: str) -> ParityError:
    return ParityError("vectors-malformed", what, hint="`python -m harness.suite.publish` writes the operation vectors")


def judge_vectors(results: Sequence[Mapping[str, Any]], vectors: Sequence[Vector]) -> list[VectorMismatch]:
    """Compare what a driver answered to `evaluate` with the vectors, in their order; return where it differs.

    A result is `{"loss", "metrics", "gradients"}` with numbers as the protocol spells them, or `{"error": message}`.
    Each vector gives at most one mismatch: its first.
    """
    found = []
    for index, vector in enumerate(vectors):
        if index >= len(results):
            found.append(VectorMismatch(vector.name, "result", "a result", "none"))
            continue
        mismatch = _judge(results[index], vector)
        if mismatch is not None:
            found.append(mismatch)
    if len(results) > len(vectors):
        found.append(VectorMismatch("all", "results", f"{len(vectors)} results", f"{len(results)}"))
    return found


def dump_vectors(vectors: Sequence[Vector]) -> str:
    """Return the content of a vector file: JSON, one line for each part of a vector."""
    entries = []
    for vector in vectors:
        plain = msgspec.to_builtins(vector)
        parts = ",\n  ".join(f"{json.dumps(key)}: {json.dumps(plain[key])}" for key in ("name", "case", "expected"))
        entries.append(f" {{{parts.strip()}}}")
    return "[\n" + ",\n".join(entries) + "\n]\n"


def _judge(result: Mapping[str, Any], vector: Vector) -> VectorMismatch | None:
    def differs(where: str, expected: object, observed: object) -> VectorMismatch:
        return VectorMismatch(vector.name, where, str(expected), str(observed))

    expected = vector.expected
    if result.get("error") is not None:
        return differs("result", "a loss", f"error: {result['error']}")
    if not _agree(result.get("loss"), expected.loss):
        return differs("loss", expected.loss, result.get("loss"))
    metrics = result.get("metrics")
    if not isinstance(metrics, Mapping) or set(metrics) != set(expected.metrics):
        return differs("metrics", sorted(expected.metrics), metrics)
    for name, value in expected.metrics.items():
        if not _agree(metrics[name], value):
            return differs(f"metrics.{name}", value, metrics[name])
    gradients = result.get("gradients")
    if not isinstance(gradients, Sequence) or len(gradients) != len(expected.gradients):
        return differs("gradients", f"one of each of {len(expected.gradients)} datums", gradients)
    for datum, (wanted, observed) in enumerate(zip(expected.gradients, gradients, strict=True)):
        if wanted is None or observed is None:
            if wanted is not observed:
                return differs(f"gradients[{datum}]", "none" if wanted is None else wanted, observed)
            continue
        if not isinstance(observed, Sequence) or len(observed) != len(wanted):
            return differs(f"gradients[{datum}]", f"{len(wanted)} elements", observed)
        for element, (value, other) in enumerate(zip(wanted, observed, strict=True)):
            if not _agree(other, value):
                return differs(f"gradients[{datum}][{element}]", value, other)
    return None


def _agree(observed: object, expected: float) -> bool:
    if isinstance(observed, str):
        observed = _SPELLED.get(observed)
    if observed is None or isinstance(observed, bool) or not isinstance(observed, int | float):
        return False
    return abs(observed - expected) <= ATOL + RTOL * abs(expected)
