"""The shapes that nodes of a loss graph have before any data is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a node: `S` scalar, `D` one value per datum, `T` one per element of the logprobs, `V` a vector.

    `length` is the length of a vector where the graph alone tells it; vectors of datums get theirs from the data.
    """

    kind: Literal["S", "D", "T", "V"]
    length: int | None = None

    def __str__(self) -> str:
        return self.kind if self.length is None else f"{self.kind}<{self.length}>"


SCALAR = Shape("S")
