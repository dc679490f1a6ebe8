"""Losses as data: the operations, the static check, an independent float64 evaluation, the operation vectors."""

from __future__ import annotations

from harness.suite.losses.operations import OPERATIONS, Operation
from harness.suite.losses.shapes import Shape
from harness.suite.losses.validate import validate

__all__ = ["OPERATIONS", "Operation", "Shape", "validate"]
