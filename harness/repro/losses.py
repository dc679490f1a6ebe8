"""A loss graph as plain torch code: what its author would have written by hand.

The code evaluates what `harness.drivers.python.graph` evaluates, node by node, without the checks of shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.suite.losses.pruning import pruned
from harness.suite.scenario import AppendDatum, Effect, Loss, RemoveDatum, SetInput, UnsetInput

_SUMS = "torch.zeros(len(logprobs), dtype=dtype).index_add(0, segments, {0})"

_TEMPLATES: Mapping[str, str] = {
    "lps": "torch.cat([each.reshape(-1) for each in logprobs])",
    "lens": "lengths.to(dtype)",
    "seg_sum": _SUMS,
    "seg_mean": f"{_SUMS} / lengths.clamp(min=1).to(dtype)",
    "expand": "{0}.index_select(0, segments)",
    "neg": "-{0}",
    "square": "torch.square({0})",
    "recip": "torch.reciprocal({0})",
    "softplus": "torch.logaddexp({0}, torch.zeros_like({0}))",
    "logsigmoid": "torch.nn.functional.logsigmoid({0})",
    "relu": "torch.maximum({0}, torch.zeros_like({0}))",
    "stop_grad": "{0}.detach()",
    "sum": "{0}.sum()",
    "mean": "{0}.mean()",
    "rmax": "torch.amax({0})",
    "rmin": "torch.amin({0})",
    "var": "torch.var({0}, correction=0)",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "max": "torch.maximum({0}, {1})",
    "min": "torch.minimum({0}, {1})",
    "gt": "({0} > {1}).to({0}.dtype)",
    "ge": "({0} >= {1}).to({0}.dtype)",
    "lt": "({0} < {1}).to({0}.dtype)",
    "le": "({0} <= {1}).to({0}.dtype)",
    "where": "torch.where({0} != 0, {1}, {2})",
    "dot": "torch.dot({0}, {1})",
}
_NAMED = {"abs", "exp", "log", "log1p", "expm1", "sqrt", "sigmoid", "tanh", "sin", "cos"}
_ALONG = {"logsumexp", "softmax", "log_softmax", "cumsum"}


HELPER = '''
def end_to_end(data, logprobs, key):
    """Return one input of every datum as a flat tensor; a server may answer for fewer datums."""
    given = [each.loss_fn_inputs[key] for each in data[: len(logprobs)]]
    return torch.cat([each.to_torch().reshape(-1) for each in given])
'''
"""What a loss with `fields` calls."""

OVERWRITE = '''
def overwrite(datum, key, values):
    """Replace an input of the caller's datum by other numbers."""
    old = datum.loss_fn_inputs[key]
    new = types.TensorData(data=values, dtype=old.dtype, shape=old.shape)
    datum.loss_fn_inputs[key] = new
'''
"""What a loss calls that writes into an input."""


def loss_source(name: str, loss: Loss) -> list[str]:
    """Return the lines of a function `name(data, logprobs)` that returns the loss and its metrics."""
    lines = [f"def {name}(data, logprobs):"]
    if loss.about:
        lines.append(f'    """{_one_line(loss.about)}"""')
    if loss.delay_seconds:
        lines.append(f"    time.sleep({loss.delay_seconds})")
    failures = (loss.fail, *(term.fail for term in ((loss.apart and loss.apart.regularizers) or ())))
    for failure in failures:
        if failure is not None:
            return [*lines, f"    raise RuntimeError({quoted(failure)})"]
    # Some nodes are for those who take the parts of a loss one by one; nobody writes what nobody looks at.
    nodes, places = pruned(loss.nodes, (loss.loss, *loss.metrics.values()))
    code = [_node(node) for node in nodes]
    used = "\n".join(code)
    if "dtype" in used:
        lines.append("    dtype = logprobs[0].dtype if logprobs else torch.float32")
    if "lengths" in used or "segments" in used:
        lines.append("    lengths = torch.tensor([each.numel() for each in logprobs])")
    if "segments" in used:
        lines.append("    # The datum that each token belongs to.")
        lines.append("    segments = torch.repeat_interleave(torch.arange(len(logprobs)), lengths)")
    lines += [f"    v{index} = {expression}" for index, expression in enumerate(code)]
    metrics = ", ".join(f"{quoted(key)}: float(v{places[node]}.detach())" for key, node in loss.metrics.items())
    lines += [f"    {_change(effect)}" for effect in loss.mutates]
    return [*lines, f"    return v{places[loss.loss]}, {{{metrics}}}"]


def _change(effect: Effect) -> str:
    match effect:
        case SetInput():
            values = ", ".join(number(value) for value in effect.values)
            return f"overwrite(data[{effect.datum}], {quoted(effect.key)}, [{values}])"
        case UnsetInput():
            return f"del data[{effect.datum}].loss_fn_inputs[{quoted(effect.key)}]"
        case AppendDatum():
            return f"data.append(data[{effect.datum}])"
        case RemoveDatum():
            return f"del data[{effect.datum}]"


def quoted(text: str) -> str:
    """Return a Python string literal in double quotes."""
    body = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{body}"'


def number(value: float) -> str:
    """Return a Python literal, also of what is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def _node(node: Sequence[Any]) -> str:
    operation, *arguments = node
    special = _SPECIAL.get(operation)
    if special is not None:
        return special(*arguments)
    operands = [f"v{argument}" for argument in arguments]
    if operation in _NAMED:
        return f"torch.{operation}({operands[0]})"
    if operation in _ALONG:
        return f"torch.{operation}({operands[0]}, dim=0)"
    return _TEMPLATES[operation].format(*operands)


def _const(value: float) -> str:
    return f"torch.tensor({number(float(value))}, dtype=dtype)"


def _fields(key: str) -> str:
    return f"end_to_end(data, logprobs, {quoted(key)}).to(dtype)"


def _field(datum: int, key: str) -> str:
    return f"data[{datum}].loss_fn_inputs[{quoted(key)}].to_torch().reshape(-1).to(dtype)"


def _take(operand: int, indices: Sequence[int]) -> str:
    return f"v{operand}.index_select(0, torch.tensor({list(indices)}))"


def _pow(operand: int, exponent: float) -> str:
    return f"torch.pow(v{operand}, {number(float(exponent))})"


def _clip(operand: int, low: float, high: float) -> str:
    return f"v{operand}.clamp({number(float(low))}, {number(float(high))})"


_SPECIAL: Mapping[str, Callable[..., str]] = {
    "const": _const,
    "lp": lambda datum: f"logprobs[{datum}].reshape(-1)",
    "field": _field,
    "fields": _fields,
    "take": _take,
    "pow": _pow,
    "clip": _clip,
}


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', "'")
