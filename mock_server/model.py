"""The tiny language model: a bigram table of logits in float64, with its exact gradient.

Logprobs come from one log_softmax over the whole table, gathered afterwards: a logprob depends on the parameters, the
input token and the target token only, never on what else is in the batch. The scripted sources of logprobs live here
too; they are content-addressed in the same way.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mock_server.script import ModelSpec

Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)


def initial_table(spec: ModelSpec) -> Matrix:
    """Return the logits `[vocab, vocab]` every model of a tenant starts from.

    Drawn by numpy's legacy RandomState, whose stream is frozen for all versions of numpy.
    """
    draws = np.random.RandomState(spec.seed).standard_normal((spec.vocab, spec.vocab))
    return draws * spec.scale


def log_softmax(table: Matrix) -> Matrix:
    """Return the row-wise log softmax of a table of logits."""
    shifted = table - table.max(axis=1, keepdims=True)
    result: Matrix = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def gradient(logprobs: Matrix, tokens: Ints, targets: Ints, weights: Matrix) -> Matrix:
    """Return d/dlogits of sum(-logprob * weight), `[vocab, vocab]`.

    `logprobs` is the log softmax of the table; `tokens`, `targets` and `weights` are flat and of equal length, one
    entry per gathered logprob.
    """
    vocab = logprobs.shape[0]
    hits = np.bincount(tokens * vocab + targets, weights=weights, minlength=vocab * vocab)
    rows = np.bincount(tokens, weights=weights, minlength=vocab)
    result = rows[:, None] * np.exp(logprobs) - hits.reshape(vocab, vocab)
    return result.astype(np.float64, copy=False)


def table_logprobs(table: tuple[float, ...], targets: Ints) -> Matrix:
    """Return `table[target % len(table)]` for each target."""
    values = np.asarray(table, dtype=np.float64)
    result: Matrix = values[targets % len(table)]
    return result


def hash_logprobs(tokens: Ints, targets: Ints, positions: Ints) -> Matrix:
    """Return a multiple of 1/8 in [-32, -1/8] for each (input token, target token, position).

    `-(h % 256 + 1) / 8` with `h = mix(token + mix(target + mix(position)))`, where `mix` is the finalizer of
    splitmix64 (`docs/server.md` has it in full). Exact in float32, the same on every machine.
    """
    mixed = _mix(tokens.astype(np.uint64) + _mix(targets.astype(np.uint64) + _mix(positions.astype(np.uint64))))
    return -((mixed % np.uint64(256)).astype(np.float64) + 1.0) / 8.0


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    value = value + _INCREMENT
    value = (value ^ (value >> np.uint64(30))) * _MULTIPLIERS[0]
    value = (value ^ (value >> np.uint64(27))) * _MULTIPLIERS[1]
    return value ^ (value >> np.uint64(31))
