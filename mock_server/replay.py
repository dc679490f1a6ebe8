"""Answers that are known beforehand: what was sent in an earlier run is sent again, nothing is computed.

Sessions, ids, turns, futures, long polls and encodings are the server's own, as ever; only results of operations come
from the replay. What a client does wrong in one request can then not change the answer to another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from mock_server.execution import Checkpoint, Pass, UncomputableError
from mock_server.model import Matrix
from mock_server.optimizer import StepParams
from mock_server.record import Batch, Tensor


class NotInTraceError(UncomputableError):
    """There is no answer left for an operation. Its future fails, and the record has it as a violation."""


@dataclass(frozen=True, slots=True, eq=False)
class Canned:
    """The answer to one operation.

    `call` tells the operations of one call from those of the next. `data` are the input tokens (bytes of int64) of the
    datums that were sent for it, in order. `failure` is the message where the operation failed, else "".
    """

    call: str = ""
    outputs: Sequence[Mapping[str, Tensor]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    data: tuple[bytes, ...] = ()


Replay = Mapping[str, Mapping[str, Sequence[Canned]]]
"""Answers by the stable name of a model (`model-1`) and the kind of the operation, in order of effect."""


class Replayer:
    """Stands where a model's `Trainer` stands, and answers from a replay. The tenant's lock guards it.

    It has no parameters: no optimizer state is recorded, and a load changes nothing.
    """

    def __init__(self, answers: Mapping[str, Sequence[Canned]]) -> None:
        self._lines = {kind: _Line(of_kind) for kind, of_kind in answers.items()}
        self._answer = Canned()
        self.parameters: Matrix | None = None
        self.gradient: Matrix | None = None

    def begin(self, kind: str, batch: Batch | None) -> None:
        """Choose the answer to an operation that takes effect now.

        Raises UncomputableError with the message of an operation that failed then, and NotInTraceError where there is
        no answer left.
        """
        line = self._lines.get(kind)
        answer = line.take(batch) if line is not None else None
        if answer is None:
            had = f"all {line.size} answers to {kind} were given" if line is not None else f"it has no {kind}"
            raise NotInTraceError(f"the replayed trace does not say what to answer: {had} of this model")
        if answer.failure:
            raise UncomputableError(answer.failure)
        self._answer = answer

    def pass_over(self, kind: str, batch: Batch | None) -> None:
        """Leave out the answer to an operation that fails now, as scripted: it failed then, too."""
        if (line := self._lines.get(kind)) is not None:
            line.take(batch)

    def forward(self, batch: Batch) -> Pass:  # noqa: ARG002  # what Trainer takes
        """Return the outputs and metrics that were sent then."""
        return Pass(self._answer.outputs, self._answer.metrics)

    def forward_backward(self, batch: Batch) -> Pass:
        """Return the outputs and metrics that were sent then."""
        return self.forward(batch)

    def optim_step(self, params: StepParams) -> tuple[Mapping[str, float], Matrix | None]:  # noqa: ARG002  # as above
        """Return the metrics that were sent then. No gradient was found: there is none."""
        return self._answer.metrics, None

    def checkpoint(self, base_model: str, rank: int | None) -> Checkpoint:
        """Return a checkpoint that holds nothing."""
        return Checkpoint(base_model, rank, None, None)

    def restore(self, checkpoint: Checkpoint, *, with_optimizer: bool) -> None:
        """Do nothing: later answers are those that followed the load then."""


class _Line:
    """The answers to one kind of operation, cut into calls.

    A request belongs to the first call, from the current one on, that has an answer left and was about its first
    datum; a request whose datum no call was about, or that has none, takes the next answer. So a call that sends too
    few requests, or too many, does not shift the answers to the calls after it as long as their data differ. A request
    that is cut elsewhere gets, for each datum, the output that its call had for it.
    """

    def __init__(self, answers: Sequence[Canned]) -> None:
        self.size = len(answers)
        self._calls = [list(group) for _, group in groupby(answers, key=lambda answer: answer.call)]
        self._data = [frozenset[bytes]().union(*(answer.data for answer in call)) for call in self._calls]
        self._given = [Counter[bytes]() for _ in self._calls]
        self._taken = [0] * len(self._calls)
        self._place = 0

    def take(self, batch: Batch | None) -> Canned | None:
        """Return the answer to the next request, or None where there is none left."""
        tokens = [datum.tokens.tobytes() for datum in batch.datums] if batch is not None else []
        if not self._covers(tokens):
            count = len(self._calls)
            left = [
                place
                for place in (*range(self._place, count), *range(self._place))
                if self._taken[place] < len(self._calls[place])
            ]
            if not left:
                return None
            first = tokens[0] if tokens else None
            self._place = next((place for place in left if first in self._data[place]), left[0])
        call = self._calls[self._place]
        answer = call[min(self._taken[self._place], len(call) - 1)]
        if tokens and tuple(tokens) != answer.data and not answer.failure:
            outputs = self._by_datum(tokens)
            answer = answer if outputs is None else replace(answer, outputs=outputs)
        self._taken[self._place] += 1
        self._given[self._place].update(tokens)
        return answer

    def _covers(self, tokens: Sequence[bytes]) -> bool:
        """Tell whether the current call is under way and still has an output for each datum."""
        return bool(self._calls and self._taken[self._place] and tokens) and self._by_datum(tokens) is not None

    def _by_datum(self, tokens: Sequence[bytes]) -> list[Mapping[str, Tensor]] | None:
        """Return the outputs that the current call had for datums; equal ones get theirs in turn. None: it had not."""
        if not self._data[self._place].issuperset(tokens):
            return None
        had: dict[bytes, list[Mapping[str, Tensor]]] = {}
        for answer in self._calls[self._place]:
            if len(answer.data) != len(answer.outputs):
                return None
            for datum, output in zip(answer.data, answer.outputs, strict=True):
                had.setdefault(datum, []).append(output)
        given = Counter(self._given[self._place])
        found = []
        for datum in tokens:
            if given[datum] >= len(had[datum]):
                return None
            found.append(had[datum][given[datum]])
            given[datum] += 1
        return found
