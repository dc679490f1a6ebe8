"""The scenario schema: a stimulus (digested, frozen once released) and, apart from it, the checks that apply.

A scenario is one TOML file, `fixtures/scenarios/<id>.toml`. These structs are the strict schema: an unknown key, a
wrong type or a missing field is an error, and the published JSON Schema is generated from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from harness.suite.composition import Apart, ExpectedReport
from mock_server.script import Script

Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$", max_length=40)]
ScenarioId = Annotated[str, Meta(pattern="^[a-z0-9_-]+(/[a-z0-9_-]+)+$", max_length=80)]
Style = Literal["blocking", "concurrent", "thread"]
"""How a call is made: on the thread that runs the steps; as a task of the user's own scheduler; or from a thread that
belongs to the model, which makes the model's calls of this style one after the other."""

Container = Literal["tensor", "native", "list"]

# --- data -------------------------------------------------------------------------------------------------------------


class InputSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of loss_fn_inputs.

    `container` says how the caller hands it over: `tensor` (the SDK's own tensor container), `native` (a tensor of
    the SDK's tensor library: torch, Nx), `list` (a plain list, dtype left to the SDK). `shape` defaults to
    `[len(values)]`.
    """

    values: tuple[float | int, ...]
    dtype: Literal["float32", "int64"] = "float32"
    shape: tuple[int, ...] | None = None
    container: Container = "tensor"


class DatumSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One literal datum. `targets` becomes `target_tokens` (int64); nested lists of equal length make it 2-D."""

    tokens: tuple[int, ...]
    targets: tuple[int | tuple[int, ...], ...] | None = None
    container: Container = "tensor"
    inputs: dict[str, InputSpec] = {}


class GeneratedInput(Struct, frozen=True, forbid_unknown_fields=True):
    """A generated float32 input of the shape of target_tokens: multiples of 1/8 in [low, high], or one constant."""

    low: float = -1.0
    high: float = 1.0
    constant: float | None = None
    container: Container = "tensor"


class GeneratedData(Struct, frozen=True, forbid_unknown_fields=True):
    """Datums drawn from a documented counter-based generator: same numbers on every machine.

    Datum `i` has `lengths[i % len(lengths)]` tokens below `vocab`. `candidates` > 0 makes target_tokens 2-D,
    `[length, candidates]`. `distinct`: the i-th datum's first token encodes i, so that no two datums are equal
    (needs vocab > count).
    """

    count: int
    lengths: tuple[int, ...] = (1,)
    vocab: int = 16
    seed: int = 1
    candidates: int = 0
    distinct: bool = False
    container: Container = "tensor"
    inputs: dict[str, GeneratedInput] = {}


class DataSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """A named list of datums: literal, generated, or literal ones followed by generated ones.

    `empty` says that there is none on purpose: what a client does with no data is worth a scenario.
    """

    datums: tuple[DatumSpec, ...] = ()
    generate: tuple[GeneratedData, ...] = ()
    empty: bool = False


# --- steps ------------------------------------------------------------------------------------------------------------


class StepBase(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", kw_only=True):
    """A public SDK call (`id` names its result), or what is done between calls."""


class CreateModel(StepBase, frozen=True, tag="create_model", kw_only=True):
    """Create a LoRA training client and wait until it is ready. `id` names the model for later steps."""

    id: Name = "model"
    base_model: str = "parity/tiny-bigram"
    rank: int = 8
    seed: int | None = None


class Forward(StepBase, frozen=True, tag="forward", kw_only=True):
    """`forward(data, loss_fn)`: submitted, not awaited."""

    id: Name
    data: Name
    model: Name = "model"
    loss_fn: str = "cross_entropy"
    style: Style = "blocking"


class ForwardBackward(StepBase, frozen=True, tag="forward_backward", kw_only=True):
    """`forward_backward(data, loss_fn)`: submitted, not awaited."""

    id: Name
    data: Name
    model: Name = "model"
    loss_fn: str = "cross_entropy"
    style: Style = "blocking"


class ForwardBackwardCustom(StepBase, frozen=True, tag="forward_backward_custom", kw_only=True):
    """`forward_backward_custom(data, loss)`: submitted, not awaited. `loss` names a file of `fixtures/losses/`.

    The options are for an SDK with structured regularizers, and for a loss that is taken apart: gradient norms are
    tracked; regularizers that are plain functions run in an executor; each has so many seconds.
    """

    id: Name
    data: Name
    loss: str
    model: Name = "model"
    style: Style = "blocking"
    track_grad_norms: bool = False
    run_sync_in_executor: bool = False
    regularizer_timeout: float | None = None


class ComputeRegularizers(StepBase, frozen=True, tag="compute_regularizers", kw_only=True):
    """Compute a loss that is taken apart offline: value, norms and report, without a server.

    `logprobs` names the input of each datum that holds its logprobs. Returns its result at once; needs no await.
    """

    id: Name
    data: Name
    loss: str
    logprobs: str = "logprobs"
    track_grad_norms: bool = False
    run_sync_in_executor: bool = False
    regularizer_timeout: float | None = None


class OptimStep(StepBase, frozen=True, tag="optim_step", kw_only=True):
    """`optim_step(AdamParams(**params))`: submitted, not awaited."""

    id: Name
    params: dict[str, float] = {}
    model: Name = "model"
    style: Style = "blocking"


class SaveState(StepBase, frozen=True, tag="save_state", kw_only=True):
    """`save_state(name)`: submitted, not awaited. The result's path can be loaded by `path_of`."""

    id: Name
    name: str
    model: Name = "model"
    style: Style = "blocking"


class LoadState(StepBase, frozen=True, tag="load_state", kw_only=True):
    """`load_state(path)`: weights only, the optimizer starts afresh. `path_of` names an awaited save_state step."""

    id: Name
    path_of: Name
    model: Name = "model"
    style: Style = "blocking"


class LoadStateWithOptimizer(StepBase, frozen=True, tag="load_state_with_optimizer", kw_only=True):
    """`load_state_with_optimizer(path)`. `path_of` names an awaited save_state step."""

    id: Name
    path_of: Name
    model: Name = "model"
    style: Style = "blocking"


class SaveWeightsForSampler(StepBase, frozen=True, tag="save_weights_for_sampler", kw_only=True):
    """`save_weights_for_sampler(name)`: submitted, not awaited."""

    id: Name
    name: str
    model: Name = "model"
    style: Style = "blocking"


class GetInfo(StepBase, frozen=True, tag="get_info", kw_only=True):
    """`get_info()`: returns at once or after its request; needs no await."""

    id: Name
    model: Name = "model"


class Await(StepBase, frozen=True, tag="await", kw_only=True):
    """Wait for the result of step `of`."""

    of: Name


class Cancel(StepBase, frozen=True, tag="cancel", kw_only=True):
    """Cancel what step `of` returned, without waiting for it. A later await says what became of it."""

    of: Name


class Idle(StepBase, frozen=True, tag="idle", kw_only=True):
    """Do nothing for so many seconds. What the client does on its own, it does meanwhile."""

    seconds: float


class Close(StepBase, frozen=True, tag="close", kw_only=True):
    """Close the client here instead of after the last step. The result is `close`."""


class Exit(StepBase, frozen=True, tag="exit", kw_only=True):
    """Let the program end here, as a script does after its last line, whatever is in flight. The last step.

    The client is not closed. The result is `exit`: the process was gone in good time, or it was not (a hang).
    """


Step = (
    CreateModel
    | Forward
    | ForwardBackward
    | ForwardBackwardCustom
    | ComputeRegularizers
    | OptimStep
    | SaveState
    | LoadState
    | LoadStateWithOptimizer
    | SaveWeightsForSampler
    | GetInfo
    | Await
    | Cancel
    | Idle
    | Close
    | Exit
)

# --- the scenario -----------------------------------------------------------------------------------------------------


class Tolerance(Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers agree when |a - b| <= atol + rtol |b|. Defaults are those of float32 numbers from another library."""

    rtol: float = 1e-5
    atol: float = 1e-6


class ClientOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How the client is made. `telemetry` leaves the SDK's telemetry on, which drivers otherwise switch off."""

    telemetry: bool = False


class Stimulus(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the client is asked to do and how the server answers. Its digest identifies the scenario's content."""

    steps: tuple[Step, ...]
    data: dict[Name, DataSpec] = {}
    server: Script = Script()
    client: ClientOptions = ClientOptions()


class Also(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Checks that apply, beside the common ones, at a range of described releases.

    `from` and `until` are releases (`0.38.0`) and belong to the range; left out, it begins or ends with the timeline.
    """

    checks: tuple[str, ...]
    since: str = field(default="", name="from")
    until: str = ""


class Judgement(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which checks apply, and with which tolerance. Not part of the digest.

    `checks` apply at every release, those of `also` where releases end differently. `expect` has closed forms of
    reports.
    """

    checks: tuple[str, ...]
    also: tuple[Also, ...] = ()
    tolerance: Tolerance = Tolerance()
    expect: tuple[ExpectedReport, ...] = ()


class Scenario(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One scenario. `id` equals the file's path below `fixtures/scenarios/` without its suffix.

    `timeout` is in seconds, for the whole run; a call still open then is a hang, which is a verdict. `slow`: left out
    unless it is asked for. `exclusive`: judges arrival or timing, and is never run beside another. `repeat`: run so
    often, where a race is judged; every run must hold.
    """

    id: ScenarioId
    title: str
    why: str
    stimulus: Stimulus
    judge: Judgement
    timeout: float = 20.0
    slow: bool = False
    exclusive: bool = False
    repeat: Annotated[int, Meta(ge=1, le=100)] = 1


# --- a loss as data ---------------------------------------------------------------------------------------------------


class EffectBase(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", kw_only=True):
    """What a loss does to the caller's data, in place. `datum` counts from 0."""

    datum: int


class SetInput(EffectBase, frozen=True, tag="set", kw_only=True):
    """Replace an input by other finite numbers; dtype and shape stay."""

    key: str
    values: tuple[float | int, ...]


class UnsetInput(EffectBase, frozen=True, tag="unset", kw_only=True):
    """Remove an input."""

    key: str


class AppendDatum(EffectBase, frozen=True, tag="append", kw_only=True):
    """Append a datum that is there once more, at the end of the list."""


class RemoveDatum(EffectBase, frozen=True, tag="remove", kw_only=True):
    """Remove a datum from the list; those after it move up."""


Effect = SetInput | UnsetInput | AppendDatum | RemoveDatum


class Loss(Struct, frozen=True, forbid_unknown_fields=True):
    """A loss function as an expression graph (`docs/losses.md`).

    `nodes[k]` is `[op, argument, ...]`; arguments are indices of earlier nodes unless the operation says otherwise.
    `loss` is the node that is returned as the loss (scalar, except where a scenario wants the error), `metrics` maps
    names to scalar nodes. `numbers`: the callback makes numbers of the metrics itself where its tensor library would
    also take tensors, as users write it. `apart` is the same loss for an SDK that takes regularizers beside the
    loss. `fail` makes the callback raise instead, with that message. `delay_seconds` is how
    long the callback takes at least. `mutates` is what it does, in order, to the data it is given, having computed.
    """

    nodes: tuple[tuple[Any, ...], ...]
    loss: int
    metrics: dict[str, int] = {}
    about: str = ""
    numbers: bool = False
    apart: Apart | None = None
    fail: str | None = None
    delay_seconds: float = 0.0
    mutates: tuple[Effect, ...] = ()
