"""The operations of a loss graph, as data: arguments, shapes and domain.

`docs/losses.md` publishes this table; the validator, the domain check and the JSON Schema of a loss read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ArgumentKind = Literal["node", "number", "datum", "key", "indices"]
"""`node`: the index of an earlier node. `number`: a finite literal. `datum`: the index of a datum. `key`: the name of
a loss_fn_input. `indices`: a list of element indices."""

ShapeRule = Literal["S", "D", "T", "V", "same", "join", "segments", "expand", "take", "reduce", "dot", "vector"]
"""How the shape of the result follows. `S`, `D`, `T`, `V`: it is that. `same`: the argument's. `join`: equal shapes,
or scalars. `segments`: T to D. `expand`: D to T. `take`: D, T or V to V. `reduce`: D, T or V to S. `dot`: two equal
shapes, not scalar, to S. `vector`: D, T or V, unchanged."""


@dataclass(frozen=True, slots=True)
class Within:
    """Every element of an argument lies in [low, high]."""

    low: float
    high: float
    argument: int = 0


@dataclass(frozen=True, slots=True)
class NotNear:
    """Every element of an argument has an absolute value of at least `distance`: a pole."""

    distance: float
    argument: int = 0


@dataclass(frozen=True, slots=True)
class KinkAt:
    """The gradient jumps where an argument's element is `point`."""

    point: float
    argument: int = 0


@dataclass(frozen=True, slots=True)
class KinkWhereEqual:
    """The gradient, or the value, jumps where elements of the two arguments are equal."""


@dataclass(frozen=True, slots=True)
class KinkAtTie:
    """The gradient jumps where the largest (or, `smallest`, the smallest) element is not unique."""

    smallest: bool = False


@dataclass(frozen=True, slots=True)
class NotEmpty:
    """The argument has at least one element."""


@dataclass(frozen=True, slots=True)
class OfLiterals:
    """The domain follows from the literals: `pow` and `clip`."""


Guard = Within | NotNear | KinkAt | KinkWhereEqual | KinkAtTie | NotEmpty | OfLiterals


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    `kink` says what the gradient of the suite's own evaluators is where it jumps; no loss of the suite goes there.
    """

    name: str
    arguments: tuple[ArgumentKind, ...]
    shape: ShapeRule
    meaning: str
    guards: tuple[Guard, ...] = ()
    kink: str = ""


_ONE: tuple[ArgumentKind, ...] = ("node",)
_TWO: tuple[ArgumentKind, ...] = ("node", "node")
_MODERATE = Within(-60.0, 60.0)
_HALF = "1/2 to each at a tie"
_SHARED = "shared equally by the elements that tie"

GROUPS: dict[str, tuple[Operation, ...]] = {
    "leaves": (
        Operation("lps", (), "T", "all logprobs, concatenated"),
        Operation("fields", ("key",), "T", "one input of every datum, concatenated; as long as the datum's logprobs"),
        Operation("lens", (), "D", "the number of elements of each datum's logprobs"),
        Operation("lp", ("datum",), "V", "the logprobs of one datum"),
        Operation("field", ("datum", "key"), "V", "one input of one datum; any length"),
        Operation("const", ("number",), "S", "a literal"),
    ),
    "ragged": (
        Operation("seg_sum", _ONE, "segments", "the sum over each datum; 0 for a datum without elements"),
        Operation("seg_mean", _ONE, "segments", "the mean over each datum; 0 for a datum without elements"),
        Operation("expand", _ONE, "expand", "each datum's value, repeated for each of its elements"),
        Operation(
            "take", ("node", "indices"), "take", "the elements at these positions, from 0; repetition is allowed"
        ),
    ),
    "elementwise, one argument": (
        Operation("neg", _ONE, "same", "-a"),
        Operation("abs", _ONE, "same", "the absolute value", (KinkAt(0.0),), kink="0 here and in torch, 1 in Nx"),
        Operation("exp", _ONE, "same", "e to the a", (Within(-8.0, 6.9),)),
        Operation("log", _ONE, "same", "natural logarithm", (Within(0.01, 1e6),)),
        Operation("log1p", _ONE, "same", "log(1 + a)", (Within(-0.98, 1e6),)),
        Operation("expm1", _ONE, "same", "exp(a) - 1", (Within(-8.0, 6.9),)),
        Operation("sqrt", _ONE, "same", "square root", (Within(0.01, 1e6),)),
        Operation("square", _ONE, "same", "a times a"),
        Operation("recip", _ONE, "same", "1 / a", (NotNear(0.01),)),
        Operation("sigmoid", _ONE, "same", "1 / (1 + exp(-a))", (_MODERATE,)),
        Operation("tanh", _ONE, "same", "hyperbolic tangent", (_MODERATE,)),
        Operation("sin", _ONE, "same", "sine"),
        Operation("cos", _ONE, "same", "cosine"),
        Operation("softplus", _ONE, "same", "log(1 + exp(a)); smooth, its gradient at 0 is 1/2", (_MODERATE,)),
        Operation("logsigmoid", _ONE, "same", "-softplus(-a); smooth", (_MODERATE,)),
        Operation(
            "relu",
            _ONE,
            "same",
            "the larger of a and 0",
            (KinkAt(0.0),),
            kink="1/2 here and with these spellings, 0 with torch.relu",
        ),
    ),
    "elementwise, two arguments": (
        Operation("add", _TWO, "join", "a + b"),
        Operation("sub", _TWO, "join", "a - b"),
        Operation("mul", _TWO, "join", "a times b"),
        Operation("div", _TWO, "join", "a / b", (NotNear(0.01, argument=1),)),
        Operation("max", _TWO, "join", "the larger", (KinkWhereEqual(),), kink=_HALF),
        Operation("min", _TWO, "join", "the smaller", (KinkWhereEqual(),), kink=_HALF),
        Operation("gt", _TWO, "join", "1 where a > b, else 0; no gradient", (KinkWhereEqual(),)),
        Operation("ge", _TWO, "join", "1 where a >= b, else 0; no gradient", (KinkWhereEqual(),)),
        Operation("lt", _TWO, "join", "1 where a < b, else 0; no gradient", (KinkWhereEqual(),)),
        Operation("le", _TWO, "join", "1 where a <= b, else 0; no gradient", (KinkWhereEqual(),)),
    ),
    "elementwise, with literals": (
        Operation("pow", ("node", "number"), "same", "a to the power p", (OfLiterals(),)),
        Operation(
            "clip",
            ("node", "number", "number"),
            "same",
            "a, but at least lo and at most hi (lo < hi)",
            (OfLiterals(),),
            kink="1/2 at a bound here and with these spellings, 1 with torch.clamp",
        ),
    ),
    "choice and gradient": (
        Operation("where", ("node", "node", "node"), "join", "a where c is not 0, else b; no gradient to c"),
        Operation("stop_grad", _ONE, "same", "a, without a gradient"),
    ),
    "reductions": (
        Operation("sum", _ONE, "reduce", "the sum; 0 of nothing"),
        Operation("mean", _ONE, "reduce", "the mean", (NotEmpty(),)),
        Operation(
            "rmax",
            _ONE,
            "reduce",
            "the largest element",
            (NotEmpty(), KinkAtTie()),
            kink=_SHARED,
        ),
        Operation(
            "rmin",
            _ONE,
            "reduce",
            "the smallest element",
            (NotEmpty(), KinkAtTie(smallest=True)),
            kink=_SHARED,
        ),
        Operation("logsumexp", _ONE, "reduce", "log of the sum of exp(a)", (NotEmpty(),)),
        Operation("var", _ONE, "reduce", "the variance, divided by the count (not count - 1)", (NotEmpty(),)),
        Operation("dot", _TWO, "dot", "the sum of a times b"),
    ),
    "along a vector": (
        Operation(
            "softmax", _ONE, "vector", "exp(a) over its sum, over the whole vector, not per datum", (NotEmpty(),)
        ),
        Operation("log_softmax", _ONE, "vector", "a - logsumexp(a), over the whole vector", (NotEmpty(),)),
        Operation("cumsum", _ONE, "vector", "running sum, over the whole vector"),
    ),
}
"""The operations by group, in the order of the documentation."""

OPERATIONS: dict[str, Operation] = {operation.name: operation for group in GROUPS.values() for operation in group}
"""Every operation by name."""

MAGNITUDE = 1e3
"""No node of a loss of the suite exceeds this absolute value: beyond it float32 loses what the tolerance needs."""

KINK_DISTANCE = 1e-4
"""How far, relative to max(1, |a|), a loss of the suite stays away from a kink."""
