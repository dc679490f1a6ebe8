"""What must hold of a loss that is taken apart, on any data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from harness.suite.composition import Apart, Regularizer
from harness.suite.losses.effects import MAX_DELAY_SECONDS
from harness.suite.losses.pruning import pruned
from harness.suite.losses.shapes import SCALAR, Shape
from harness.suite.ready_made import Orthogonality, ReadyMade, reference_of
from harness.suite.scenario import Loss


def malformed_apart(loss: Loss, shapes: Sequence[Shape]) -> str:
    """Say what is wrong with the parts of a loss, "" when nothing is or it has none.

    `shapes` are those of its nodes. A part may be a vector: a scenario may want the error.
    """
    apart = loss.apart
    if apart is None:
        return ""
    terms = apart.regularizers or ()
    if apart.base is not None and not 0 <= apart.base < len(shapes):
        return f"apart.base: {apart.base} is not a node: there are {len(shapes)}"
    if apart.base is None and (loss.metrics or loss.fail is not None or loss.mutates):
        return "apart: metrics, fail and mutates are the base's, and there is none"
    for index, term in enumerate(terms):
        if what := _malformed_term(term, shapes, terms) or _malformed_adapter(term, loss, shapes):
            return f"apart.regularizers[{index}]{what}"
    if apart.folded and (what := _malformed_fold(apart, terms)):
        return f"apart.folded: {what}"
    if not apart.required and (what := _beyond_one_callback(apart, terms)):
        return f"apart.required: one callback cannot stand for {what}"
    return ""


def _malformed_term(term: Regularizer, shapes: Sequence[Shape], terms: Sequence[Regularizer]) -> str:
    if not 0 <= term.node < len(shapes):
        return f".node: {term.node} is not a node: there are {len(shapes)}"
    for name, node in term.metrics.items():
        if not 0 <= node < len(shapes) or shapes[node] != SCALAR:
            return f".metrics[{name!r}]: {node} is not a scalar node"
    if not 0 <= term.delay_seconds <= MAX_DELAY_SECONDS:
        return f".delay_seconds: {term.delay_seconds} is not in [0, {MAX_DELAY_SECONDS:g}]"
    if term.hangs and term.form == "sync":
        return ".hangs: a plain function that never ends would keep its thread for good"
    if term.hangs and (term.fail is not None or term.after):
        return ".hangs: what never ends neither fails nor waits"
    return _waiting(term, {each.name: each for each in terms})


def _malformed_adapter(term: Regularizer, loss: Loss, shapes: Sequence[Shape]) -> str:
    """Say why a ready-made regularizer cannot stand for the graph of a term, as far as the graph tells."""
    adapter = term.adapter
    if adapter is None:
        return ""
    if not _plain(term):
        return ".adapter: a ready-made regularizer is called as it is: name, node, weight and executor are all it takes"
    if shapes[term.node] != SCALAR:
        return f".adapter: node {term.node} is no scalar, and a ready-made regularizer returns one"
    if what := _out_of_range(adapter):
        return f".adapter.{what}"
    nodes, _ = pruned(loss.nodes, (term.node,))
    field = reference_of(adapter)
    if field and not any(node[0] in ("fields", "field") and node[-1] == field for node in nodes):
        return f".adapter.reference: the graph of node {term.node} does not read the input {field!r}"
    if isinstance(adapter, Orthogonality) and sum(node[0] == "lp" for node in nodes) < 2:
        return f".adapter: orthogonality is between datums, the graph of node {term.node} reads fewer than two"
    return ""


def _out_of_range(adapter: ReadyMade) -> str:
    ratio, center = getattr(adapter, "l1_ratio", 0.5), getattr(adapter, "center", None)
    norm = getattr(adapter, "target_norm", 1.0)
    if not 0 <= ratio <= 1:
        return f"l1_ratio: {ratio} is not in [0, 1]"
    if isinstance(center, float) and not math.isfinite(center):
        return f"center: {center} is not finite"
    return "" if math.isfinite(norm) and norm >= 0 else f"target_norm: {norm} is no norm"


def _malformed_fold(apart: Apart, terms: Sequence[Regularizer]) -> str:
    if apart.required:
        return "one callback cannot be all there is, and not enough"
    if apart.base is None:
        return "there is no base to add the regularizers to"
    if apart.base_form != "sync" or not all(_plain(term) and term.executor is None for term in terms):
        return "one plain callback has no forms, metrics, delays or failures of regularizers"
    return ""


def _plain(term: Regularizer) -> bool:
    """Return whether a term has nothing but its name, node, weight, adapter and executor."""
    bare = Regularizer(term.name, term.node, term.weight, executor=term.executor, adapter=term.adapter)
    return term == bare


def _waiting(term: Regularizer, by_name: dict[str, Regularizer]) -> str:
    seen = {term.name}
    while term.after:
        if term.after not in by_name:
            return f".after: there is no regularizer {term.after!r}"
        if term.after in seen:
            return f".after: {term.after!r} waits for this one"
        seen.add(term.after)
        term = by_name[term.after]
    return ""


def _beyond_one_callback(apart: Apart, terms: Sequence[Regularizer]) -> str:
    """Say what only an SDK with parts can do or refuse, "" when a weighted sum does the same."""
    names = sorted(term.name for term in terms)
    if apart.base is None and not terms:
        return "nothing at all"
    if apart.base_returns != "pair" or any(term.returns != "pair" for term in terms):
        return "a part that returns something else than loss and metrics"
    if any(first == second for first, second in pairwise(names)) or "" in names:
        return "names that are refused"
    if any(isinstance(term.weight, str) or not math.isfinite(term.weight) or term.weight < 0 for term in terms):
        return "weights that are refused"
    if any(term.hangs for term in terms):
        return "a regularizer that never ends"
    return ""
