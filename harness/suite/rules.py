"""What a scenario must hold beyond its schema: steps that refer to each other, to data and to losses that exist."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from harness.errors import ParityError
from harness.suite import scenario as steps
from harness.suite.data import TARGETS, check, expand
from harness.suite.judging import every_check
from harness.suite.losses.effects import effect_capabilities, unfit_effects
from harness.suite.losses.operations import OPERATIONS
from harness.suite.losses.validate import validate
from harness.suite.scenario import DataSpec, Loss, Scenario, Step, Stimulus
from mock_server.faults.script import problems

CONSUMED = "faults.consumed"
"""The check without which a run that never met a fault would look like one that stood it."""

RESERVED = frozenset({"close", "exit"})
"""Step ids a scenario cannot use: they name the result of the client's end, and of the program's."""

TRAIN, COMPUTE, TIMEOUT = "regularizers.train", "regularizers.compute", "regularizers.timeout"
ORDERED, FLAT = "regularizers.ordered", "regularizers.flat"
"""What an SDK with structured regularizers can have: in the custom call, offline, a time limit for each; a report whose
regularizers have an order, and a flat form of it."""

ADAPTERS = "regularizers.adapters"
"""An SDK that has ready-made regularizers of its own. A driver without it evaluates their graphs: no scenario asks."""

_SELF_CONTAINED = (steps.CreateModel, steps.GetInfo, steps.ComputeRegularizers)
_UNNAMED = (steps.Await, steps.Cancel, steps.Idle, steps.Close, steps.Exit)
"""Steps without an id: they are about another step, the client or the program."""

_LOADS = (steps.LoadState, steps.LoadStateWithOptimizer)
_WITH_LOSS = (steps.ForwardBackwardCustom, steps.ComputeRegularizers)
_WITH_DATA = (steps.Forward, steps.ForwardBackward, *_WITH_LOSS)
_WITHOUT_MODEL = (steps.CreateModel, steps.ComputeRegularizers)


_Custom = steps.ForwardBackwardCustom | steps.ComputeRegularizers


def losses_used(scenario: Scenario) -> tuple[str, ...]:
    """Return the names of the losses a scenario's steps name, sorted, each once."""
    return tuple(sorted({step.loss for step in scenario.stimulus.steps if isinstance(step, _WITH_LOSS)}))


def capabilities(scenario: Scenario, losses: Mapping[str, Loss]) -> frozenset[str]:
    """Return what a scenario asks of a driver: steps by their `do`, await apart, styles, options, what its losses need.

    `losses` has those that the scenario names.
    """
    found: set[str] = set().union(*(effect_capabilities(losses[name]) for name in losses_used(scenario)))
    if scenario.stimulus.client.telemetry:
        found.add("telemetry")
    for step in scenario.stimulus.steps:
        if isinstance(step, steps.Await):
            continue
        if isinstance(step, _WITH_LOSS):
            found |= _structured(step, losses[step.loss])
        found.add(COMPUTE if isinstance(step, steps.ComputeRegularizers) else str(step.__struct_config__.tag))
        found.add(getattr(step, "style", "blocking"))
    return frozenset(found - {"blocking"})


def _structured(step: _Custom, loss: Loss) -> set[str]:
    found = set() if step.regularizer_timeout is None else {TIMEOUT}
    if isinstance(step, steps.ForwardBackwardCustom) and loss.apart is not None and loss.apart.required:
        found.add(TRAIN)
    return found


def looked_at(scenario: Scenario, losses: Mapping[str, Loss]) -> frozenset[str]:
    """Return the capabilities that a scenario has something for, beside those it cannot do without.

    A driver that lacks one of them runs the scenario all the same; checks that look at nothing else are `unsupported`.
    """
    composed = [
        step for step in scenario.stimulus.steps if isinstance(step, _WITH_LOSS) and _in_parts(losses[step.loss])
    ]
    trained = {TRAIN for step in composed if isinstance(step, steps.ForwardBackwardCustom)}
    return frozenset({*trained, ORDERED, FLAT} if composed else ())


def client_options(scenario: Scenario) -> dict[str, Any]:
    """Return the options of the client that a scenario sets, as JSON-like values; empty where it sets none."""
    given = scenario.stimulus.client
    return {} if given == steps.ClientOptions() else dict(msgspec.to_builtins(given))


def ends_process(scenario: Scenario) -> bool:
    """Return whether the last step ends the program that runs it, so that nothing else may run there."""
    return bool(scenario.stimulus.steps) and isinstance(scenario.stimulus.steps[-1], steps.Exit)


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
    _check_time(scenario, place)
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
    cancelled: set[str] = set()
    closed = False
    for index, step in enumerate(stimulus.steps):
        here = f"{place}: stimulus.steps[{index}]"
        if isinstance(step, steps.Await | steps.Cancel):
            ended = awaited if isinstance(step, steps.Await) else awaited | cancelled
            _check_await(step, earlier, ended, here)
            (awaited if isinstance(step, steps.Await) else cancelled).add(step.of)
            continue
        if isinstance(step, steps.Exit) and index != len(stimulus.steps) - 1:
            raise _step(here, "exit is the last step: there is nobody to take another one")
        if isinstance(step, steps.Close):
            if closed:
                raise _step(here, "the client is closed by an earlier step")
            closed = True
        if isinstance(step, _UNNAMED):
            continue
        if step.id in earlier:
            raise _step(f"{here}.id", f"{step.id!r} is the id of an earlier step")
        if step.id in RESERVED:
            raise _step(f"{here}.id", f"{step.id!r} is reserved")
        if not isinstance(step, _WITHOUT_MODEL) and not isinstance(earlier.get(step.model), steps.CreateModel):
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
        if isinstance(step, _WITH_LOSS):
            _check_loss(step, stimulus.data[step.data], losses, here)
            _check_parts(step, losses[step.loss], stimulus.data[step.data], here)
        earlier[step.id] = step


def _check_await(step: steps.Await | steps.Cancel, earlier: Mapping[str, Step], ended: set[str], here: str) -> None:
    target = earlier.get(step.of)
    if target is None:
        raise _step(f"{here}.of", f"{step.of!r} is not an earlier step")
    if isinstance(target, _SELF_CONTAINED):
        raise _step(f"{here}.of", f"{step.of!r} needs no await: it returns its result at once")
    if step.of in ended:
        raise _step(f"{here}.of", f"{step.of!r} was awaited or cancelled before")


def _check_time(scenario: Scenario, place: str) -> None:
    """Refuse idling that cannot end in time, and repetition of what ends the process."""
    idle = [step.seconds for step in scenario.stimulus.steps if isinstance(step, steps.Idle)]
    if not all(0 < seconds < math.inf for seconds in idle):
        raise _step(f"{place}: stimulus.steps", "idle needs a positive time in seconds")
    if sum(idle) >= scenario.timeout:
        raise _step(f"{place}: stimulus.steps", f"idling takes {sum(idle):g} s of a timeout of {scenario.timeout:g} s")
    if scenario.repeat > 1 and ends_process(scenario):
        raise _judge(f"{place}: repeat", "a scenario that ends its process cannot be repeated in it")


def _check_loss(step: _Custom, data: DataSpec, losses: Mapping[str, Loss], here: str) -> None:
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
    if what := unfit_effects(loss.mutates, expand(data)) if loss.mutates else "":
        raise _unfit(f"{here}.loss: {step.loss!r}: {what}")
    for position, node in enumerate(loss.nodes):
        for kind, argument in zip(OPERATIONS[node[0]].arguments, node[1:], strict=True):
            where = f"{here}.loss: nodes[{position}] of {step.loss!r}"
            if kind == "datum" and argument >= count:
                raise _unfit(f"{where} needs datum {argument}; data {step.data!r} has {count}")
            if kind == "key" and not all(argument in keys for keys in kinds):
                raise _unfit(f"{where} needs the input {argument!r}, which not every datum of {step.data!r} has")


def _check_parts(step: _Custom, loss: Loss, data: DataSpec, here: str) -> None:
    if step.regularizer_timeout is not None and not 0 < step.regularizer_timeout < math.inf:
        raise _step(f"{here}.regularizer_timeout", "it is not a positive time in seconds")
    if not _in_parts(loss):
        how = "not taken apart" if loss.apart is None else "folded into one callback"
        if isinstance(step, steps.ComputeRegularizers):
            raise _unfit(f"{here}.loss: {step.loss!r} is {how}: there is nothing to compute")
        if step.track_grad_norms or step.run_sync_in_executor or step.regularizer_timeout is not None:
            raise _step(here, f"the loss {step.loss!r} is {how}: there is nothing to track or to run apart")
    if isinstance(step, steps.ComputeRegularizers):
        for index, datum in enumerate(expand(data)):
            if step.logprobs not in datum.inputs:
                raise _unfit(f"{here}.logprobs: datum {index} has no input {step.logprobs!r}")


def _in_parts(loss: Loss) -> bool:
    """Return whether an SDK with structured regularizers is given a loss in parts."""
    return loss.apart is not None and not loss.apart.folded


def _step(place: str, what: str) -> ParityError:
    return ParityError("step-invalid", f"{place}: {what}", hint="correct the steps of the scenario")


def _unfit(what: str) -> ParityError:
    return ParityError("loss-unfit", what, hint="give the data what the loss needs, or name another loss")


# --- server script, data and judgement --------------------------------------------------------------------------------


def _check_script(stimulus: Stimulus, place: str) -> None:
    script = stimulus.server
    table = script.logprobs.table
    wrong = {
        "model.vocab": "is not positive" if script.model.vocab < 1 else "",
        "model.scale": "is not a finite number of at least 0" if not 0 <= script.model.scale < math.inf else "",
        "model.seed": "is negative" if script.model.seed < 0 else "",
        "logprobs.table": "must be given exactly when kind is table" if bool(table) != _is_table(stimulus) else "",
        "outputs.drop": "is negative" if script.outputs.drop < 0 else "",
        "outputs.extend": "is negative" if script.outputs.extend < 0 else "",
        "polls.pending": "is negative" if script.polls.pending < 0 else "",
        "quiet_seconds": "is not a positive time" if not 0 < script.quiet_seconds < math.inf else "",
        **dict(problems(script.faults)),
    }
    for key, what in wrong.items():
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
    if scenario.stimulus.server.faults and CONSUMED not in every_check(judge):
        raise _judge(f"{place}: judge.checks", f"a server with faults needs {CONSUMED!r}")
    _check_once(judge.checks, f"{place}: judge.checks")
    for index, also in enumerate(judge.also):
        here = f"{place}: judge.also[{index}]"
        if not also.checks:
            raise _judge(f"{here}.checks", "there is no check")
        if not also.since and not also.until:
            raise _judge(here, "neither from nor until is given: what applies everywhere stands in judge.checks")
        _check_once(also.checks, f"{here}.checks")
        if common := sorted(set(also.checks) & set(judge.checks)):
            raise _judge(f"{here}.checks", f"{common[0]!r} is asked for at every release already")
    _check_expected(scenario, place)
    if not (0 <= judge.tolerance.rtol < math.inf and 0 <= judge.tolerance.atol < math.inf):
        raise _judge(f"{place}: judge.tolerance", "rtol and atol are finite and not negative")
    if not 0 < scenario.timeout < math.inf:
        raise _judge(f"{place}: timeout", f"{scenario.timeout} is not a positive time in seconds")


def _check_expected(scenario: Scenario, place: str) -> None:
    known = {step.id for step in scenario.stimulus.steps if isinstance(step, _WITH_LOSS)}
    for index, expected in enumerate(scenario.judge.expect):
        here = f"{place}: judge.expect[{index}].step"
        if expected.step not in known:
            raise _judge(here, f"{expected.step!r} is no custom call and computes no regularizers")
        if expected.step in {earlier.step for earlier in scenario.judge.expect[:index]}:
            raise _judge(here, f"{expected.step!r} has an entry already")


def _check_once(checks: Sequence[str], place: str) -> None:
    for first, second in pairwise(sorted(checks)):
        if first == second:
            raise _judge(place, f"{first!r} is listed twice")


def _judge(place: str, what: str) -> ParityError:
    return ParityError("judge-invalid", f"{place}: {what}", hint="correct the scenario")
