"""How each operation of a loss graph is spelled in torch, numpy and Nx (`docs/losses.md`).

In the spellings `a`, `b`, `c` are the node arguments, `lps` the list of logprobs, `fields` the inputs of each datum,
`n` the number of datums, `lens` the number of elements of each, `seg` the datum of each element and `idx` the
positions. In Nx every constant, field and index tensor is built inside the traced function.
"""

from __future__ import annotations

from typing import NamedTuple


class Spelling(NamedTuple):
    """One operation in three libraries."""

    torch: str
    numpy: str
    nx: str


SPELLINGS: dict[str, Spelling] = {
    "lps": Spelling(
        "cat([lp.reshape(-1) for lp in lps])",
        "concatenate([lp.ravel() for lp in lps])",
        "Nx.concatenate of Nx.flatten(lp)",
    ),
    "fields": Spelling("cat of d[key].reshape(-1)", "concatenate of d[key].ravel()", "Nx.concatenate of Nx.flatten"),
    "lens": Spelling(
        "tensor([lp.numel() for lp in lps])", "array([lp.size for lp in lps])", "Nx.tensor of each Nx.size(lp)"
    ),
    "lp": Spelling("lps[i].reshape(-1)", "lps[i].ravel()", "Nx.flatten(elem(lps, i))"),
    "field": Spelling("fields[i][key].reshape(-1)", "fields[i][key].ravel()", "Nx.flatten(elem(fields, i)[key])"),
    "const": Spelling("tensor(x, dtype=lp.dtype)", "float64(x)", "Nx.tensor(x)"),
    "seg_sum": Spelling(
        "zeros(n).index_add(0, seg, a)", "bincount(seg, a, minlength=n)", "Nx.indexed_add(zeros, seg, a)"
    ),
    "seg_mean": Spelling(
        "seg_sum / lens.clamp(min=1)", "seg_sum / maximum(lens, 1)", "seg_sum divided by Nx.max(lens, 1)"
    ),
    "expand": Spelling("a.index_select(0, seg)", "repeat(a, lens)", "Nx.take(a, seg)"),
    "take": Spelling("a.index_select(0, idx)", "a[idx]", "Nx.take(a, idx)"),
    "neg": Spelling("neg(a)", "-a", "Nx.negate(a)"),
    "abs": Spelling("abs(a)", "abs(a)", "Nx.abs(a)"),
    "exp": Spelling("exp(a)", "exp(a)", "Nx.exp(a)"),
    "log": Spelling("log(a)", "log(a)", "Nx.log(a)"),
    "log1p": Spelling("log1p(a)", "log1p(a)", "Nx.log1p(a)"),
    "expm1": Spelling("expm1(a)", "expm1(a)", "Nx.expm1(a)"),
    "sqrt": Spelling("sqrt(a)", "sqrt(a)", "Nx.sqrt(a)"),
    "square": Spelling("square(a)", "a * a", "Nx.multiply(a, a)"),
    "recip": Spelling("reciprocal(a)", "1 / a", "Nx.divide(1, a)"),
    "sigmoid": Spelling("sigmoid(a)", "exp(-logaddexp(0, -a))", "Nx.sigmoid(a)"),
    "tanh": Spelling("tanh(a)", "tanh(a)", "Nx.tanh(a)"),
    "sin": Spelling("sin(a)", "sin(a)", "Nx.sin(a)"),
    "cos": Spelling("cos(a)", "cos(a)", "Nx.cos(a)"),
    "softplus": Spelling("logaddexp(a, 0), not F.softplus", "logaddexp(a, 0)", "Nx.log1p(Nx.exp(a))"),
    "logsigmoid": Spelling("F.logsigmoid(a)", "-logaddexp(0, -a)", "Nx.negate(Nx.log1p(Nx.exp(Nx.negate(a))))"),
    "relu": Spelling("maximum(a, 0)", "maximum(a, 0)", "Nx.max(a, 0)"),
    "add": Spelling("a + b", "a + b", "Nx.add(a, b)"),
    "sub": Spelling("a - b", "a - b", "Nx.subtract(a, b)"),
    "mul": Spelling("a * b", "a * b", "Nx.multiply(a, b)"),
    "div": Spelling("a / b", "a / b", "Nx.divide(a, b)"),
    "max": Spelling("maximum(a, b)", "maximum(a, b)", "Nx.max(a, b)"),
    "min": Spelling("minimum(a, b)", "minimum(a, b)", "Nx.min(a, b)"),
    "pow": Spelling("pow(a, p)", "a ** p", "Nx.pow(a, p)"),
    "clip": Spelling(
        "minimum(maximum(a, lo), hi)", "minimum(maximum(a, lo), hi)", "Nx.min(Nx.max(a, lo), hi), never Nx.clip"
    ),
    "gt": Spelling("(a > b).to(a.dtype)", "(a > b) * 1.0", "Nx.as_type(Nx.greater(a, b), :f32)"),
    "ge": Spelling("(a >= b).to(a.dtype)", "(a >= b) * 1.0", "Nx.as_type(Nx.greater_equal(a, b), :f32)"),
    "lt": Spelling("(a < b).to(a.dtype)", "(a < b) * 1.0", "Nx.as_type(Nx.less(a, b), :f32)"),
    "le": Spelling("(a <= b).to(a.dtype)", "(a <= b) * 1.0", "Nx.as_type(Nx.less_equal(a, b), :f32)"),
    "where": Spelling("where(c != 0, a, b)", "where(c != 0, a, b)", "Nx.select(Nx.not_equal(c, 0), a, b)"),
    "stop_grad": Spelling("a.detach()", "a", "Nx.Defn.Kernel.stop_grad(a), only when a.data is a %Nx.Defn.Expr{}"),
    "sum": Spelling("sum(a)", "sum(a)", "Nx.sum(a)"),
    "mean": Spelling("mean(a)", "mean(a)", "Nx.mean(a)"),
    "rmax": Spelling("amax(a)", "max(a)", "Nx.reduce_max(a)"),
    "rmin": Spelling("amin(a)", "min(a)", "Nx.reduce_min(a)"),
    "logsumexp": Spelling("logsumexp(a, 0)", "logaddexp.reduce(a)", "Nx.logsumexp(a)"),
    "var": Spelling("var(a, correction=0)", "var(a)", "Nx.variance(a)"),
    "dot": Spelling("dot(a, b)", "dot(a, b)", "Nx.dot(a, b)"),
    "softmax": Spelling("softmax(a, 0)", "exp(a - max) / sum", "Nx.exp of log_softmax"),
    "log_softmax": Spelling("log_softmax(a, 0)", "a - logaddexp.reduce(a)", "Nx.subtract(a, Nx.logsumexp(a))"),
    "cumsum": Spelling("cumsum(a, 0)", "cumsum(a)", "Nx.cumulative_sum(a)"),
}
