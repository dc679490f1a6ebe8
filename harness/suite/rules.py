"""What a scenario must hold beyond its schema: steps that refer to each other, to data and to losses that exist."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from harness.errors import ParityError
from harness.suite import scenario as steps
from harness.suite.data import TARGETS, check
from harness.suite.losses.operations import OPERATIONS
from harness.suite.losses.validate import validate
from harness.suite.scenario import DataSpec, Loss, Scenario, Step, Stimulus

RESERVED = frozenset({"close"})
"""Step ids a scenario cannot use: `close` is the result of the client's end."""

_SELF_CONTAINED = (steps.CreateModel, steps.GetInfo)
_LOADS = (steps.LoadState, steps.LoadStateWithOptimizer)
_WITH_DATA = (steps.Forward, steps.ForwardBackward, steps.ForwardBackwardCustom)


def losses_used(scenario: Scenario) -> tuple[str, ...]:
    """Return the names of the losses a scenario's steps name, sorted, each once."""
    return tuple(
        sorted({step.loss for step in scenario.stimulus.steps if isinstance(step, steps.ForwardBackwardCustom)})
    )


def capabilities(scenario: Scenario) -> frozenset[str]:
    """Return the operations a scenario uses (their `do`, await apart), and `concurrent` if a step has that style."""
    found = set()
    for step in scenario.stimulus.steps:
        if isinstance(step, steps.Await):
            continue
        found.add(str(step.__struct_config__.tag))
        if getattr(step, "style", "blocking") == "concurrent":
            found.add("concurrent")
    return frozenset(found)


def check_scenario(scenario: Scenario, losses: Mapping[str, Loss], *, place: str = "scenario") -> None:
    """Check a scenario that has the right schema. `place` names it in errors.

    Raises ParityError: `step-invalid` (ids, references between steps), `data-invalid`, `data-unused`, `loss-unknown`,
    `loss-unfit` (a loss that needs a datum or an input the data has not), `script-invalid`, `judge-invalid`.
    """
    stimulus = scenario.stimulus
    _check_judge(scenario, place)
    _check_script(stimulus, place)
    for name, spec in stimulus.data.items():
        check(spec, place=f"{place}: stimulus.data.{name}")
    _check_steps(stimulus, losses, place)
    used = {step.data for step in stimulus.steps if isinstance(step, _WITH_DATA)}
    for name, spec in stimulus.data.items():
        if name not in used:
            raise ParityError(
                "data-unused", f"{place}: stimulus.data.{name}: no step uses it", hint="remove it, or use it"
            )
        _check_vocabulary(stimulus, spec, f"{place}: stimulus.data.{name}")


# --- steps ------------------------------------------------------------------------------------------------------------


def _check_steps(stimulus: Stimulus, losses: Mapping[str, Loss], place: str) -> None:
    if not stimulus.steps:
        raise _step(f"{place}: stimulus.steps", "there is no step")
    earlier: dict[str, Step] = {}
    awaited: set[str] = set()
    for index, step in enumerate(stimulus.steps):
        here = f"{place}: stimulus.steps[{index}]"
        if isinstance(step, steps.Await):
            _check_await(step, earlier, awaited, here)
            awaited.add(step.of)
            continue
        if step.id in earlier:
            raise _step(f"{here}.id", f"{step.id!r} is the id of an earlier step")
        if step.id in RESERVED:
            raise _step(f"{here}.id", f"{step.id!r} is reserved")
        if not isinstance(step, steps.CreateModel) and not isinstance(earlier.get(step.model), steps.CreateModel):
            raise _step(f"{here}.model", f"{step.model!r} is not created by an earlier create_model step")
        if isinstance(step, _LOADS):
            saved = earlier.get(step.path_of)
            if not isinstance(saved, steps.SaveState) or step.path_of not in awaited:
                raise _step(f"{here}.path_of", f"{step.path_of!r} is not a save_state step that was awaited before")
        if isinstance(step, _WITH_DATA) and step.data not in stimulus.data:
            raise _step(
                f"{here}.data", f"there is no data {step.data!r}; there is {', '.join(stimulus.data) or 'none'}"
            )
        if isinstance(step, steps.OptimStep) and not all(map(math.isfinite, step.params.values())):
            raise _step(f"{here}.params", "a parameter is not finite")
        if isinstance(step, steps.ForwardBackwardCustom):
            _check_loss(step, stimulus.data[step.data], losses, here)
        earlier[step.id] = step


def _check_await(step: steps.Await, earlier: Mapping[str, Step], awaited: set[str], here: str) -> None:
    target = earlier.get(step.of)
    if target is None:
        raise _step(f"{here}.of", f"{step.of!r} is not an earlier step")
    if isinstance(target, _SELF_CONTAINED):
        raise _step(f"{here}.of", f"{step.of!r} needs no await: it returns its result at once")
    if step.of in awaited:
        raise _step(f"{here}.of", f"{step.of!r} was awaited before")


def _check_loss(step: steps.ForwardBackwardCustom, data: DataSpec, losses: Mapping[str, Loss], here: str) -> None:
    loss = losses.get(step.loss)
    if loss is None:
        raise ParityError(
            "loss-unknown",
            f"{here}.loss: there is no loss {step.loss!r}",
            hint=f"the losses are {', '.join(sorted(losses)) or 'none'}",
        )
    validate(loss, place=f"loss {step.loss}")
    count = len(data.datums) + sum(block.count for block in data.generate)
    kinds = [
        *({TARGETS, *datum.inputs} if datum.targets is not None else set(datum.inputs) for datum in data.datums),
        *({TARGETS, *block.inputs} for block in data.generate if block.count),
    ]
    for position, node in enumerate(loss.nodes):
        for kind, argument in zip(OPERATIONS[node[0]].arguments, node[1:], strict=True):
            where = f"{here}.loss: nodes[{position}] of {step.loss!r}"
            if kind == "datum" and argument >= count:
                raise _unfit(f"{where} needs datum {argument}; data {step.data!r} has {count}")
            if kind == "key" and not all(argument in keys for keys in kinds):
                raise _unfit(f"{where} needs the input {argument!r}, which not every datum of {step.data!r} has")


def _step(place: str, what: str) -> ParityError:
    return ParityError("step-invalid", f"{place}: {what}", hint="correct the steps of the scenario")


def _unfit(what: str) -> ParityError:
    return ParityError("loss-unfit", what, hint="give the data what the loss needs, or name another loss")


# --- server script, data and judgement --------------------------------------------------------------------------------


def _check_script(stimulus: Stimulus, place: str) -> None:
    script = stimulus.server
    table = script.logprobs.table
    problems = {
        "model.vocab": "is not positive" if script.model.vocab < 1 else "",
        "model.scale": "is not a finite number of at least 0" if not 0 <= script.model.scale < math.inf else "",
        "model.seed": "is negative" if script.model.seed < 0 else "",
        "logprobs.table": "must be given exactly when kind is table" if bool(table) != _is_table(stimulus) else "",
        "outputs.drop": "is negative" if script.outputs.drop < 0 else "",
        "outputs.extend": "is negative" if script.outputs.extend < 0 else "",
        "polls.pending": "is negative" if script.polls.pending < 0 else "",
        "quiet_seconds": "is not a positive time" if not 0 < script.quiet_seconds < math.inf else "",
    }
    for key, what in problems.items():
        if what:
            raise ParityError(
                "script-invalid", f"{place}: stimulus.server.{key}: {what}", hint="correct the server script"
            )


def _is_table(stimulus: Stimulus) -> bool:
    return stimulus.server.logprobs.kind == "table"


def _check_vocabulary(stimulus: Stimulus, spec: DataSpec, place: str) -> None:
    """Refuse tokens beyond the vocabulary of the tiny model; scripted logprobs do not look at it."""
    if stimulus.server.logprobs.kind != "model":
        return
    vocab = stimulus.server.model.vocab
    for index, block in enumerate(spec.generate):
        if block.vocab > vocab:
            raise _beyond(f"{place}.generate[{index}].vocab", block.vocab, vocab)
    for index, datum in enumerate(spec.datums):
        targets = [value for row in datum.targets or () for value in (row if isinstance(row, tuple) else (row,))]
        for value in (*datum.tokens, *targets):
            if not 0 <= value < vocab:
                raise _beyond(f"{place}.datums[{index}]", value, vocab)


def _beyond(place: str, value: int, vocab: int) -> ParityError:
    return ParityError(
        "data-invalid",
        f"{place}: {value} does not fit the server's model, whose vocab is {vocab}",
        hint="raise stimulus.server.model.vocab, use smaller tokens, or script the logprobs",
    )


def _check_judge(scenario: Scenario, place: str) -> None:
    judge = scenario.judge
    if not judge.checks:
        raise _judge(f"{place}: judge.checks", "there is no check: nothing would be judged")
    for first, second in pairwise(sorted(judge.checks)):
        if first == second:
            raise _judge(f"{place}: judge.checks", f"{first!r} is listed twice")
    if not (0 <= judge.tolerance.rtol < math.inf and 0 <= judge.tolerance.atol < math.inf):
        raise _judge(f"{place}: judge.tolerance", "rtol and atol are finite and not negative")
    if not 0 < scenario.timeout < math.inf:
        raise _judge(f"{place}: timeout", f"{scenario.timeout} is not a positive time in seconds")


def _judge(place: str, what: str) -> ParityError:
    return ParityError("judge-invalid", f"{place}: {what}", hint="correct the scenario")
