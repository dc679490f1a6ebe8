"""Driver protocol v1: JSON lines on stdin and stdout (`docs/driver-protocol.md`).

The runner writes a command, the driver answers with the same `id`. The driver reports what the user of the SDK saw;
it never judges and never learns an expected value. These structs are the schema; the published JSON Schema is
generated from them. They are lenient towards unknown keys in answers of a newer minor version.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

PROTOCOL = "1.3"

ErrorKind = Literal[
    "invalid_input",
    "loss_failed",
    "no_gradient",
    "not_scalar",
    "bad_output",
    "client_poisoned",
    "request_failed",
    "http_status",
    "transport",
    "timeout",
    "cancelled",
]
"""The closed list of error kinds; harness.engine.words and docs/driver-protocol.md say what each means."""


class WireTensor(Struct, omit_defaults=True):
    """A tensor on the driver's line, row-major.

    Either `data` (numbers; NaN, Infinity, -Infinity and -0.0 are spelled as those strings) or `file` with `offset`
    (raw little-endian bytes of `dtype`). `container` as in the scenario schema.
    """

    dtype: str
    shape: list[int]
    data: list[float | int | str] | None = None
    file: str | None = None
    offset: int = 0
    container: Literal["tensor", "native", "list"] = "tensor"


class WireDatum(Struct):
    """One datum: input tokens and loss_fn_inputs."""

    tokens: WireTensor
    inputs: dict[str, WireTensor]


class Hello(Struct, tag_field="cmd", tag="hello"):
    """First command. The driver echoes `nonce`."""

    id: int
    protocol: str
    nonce: str


class Run(Struct, tag_field="cmd", tag="run", omit_defaults=True):
    """Run one scenario's steps against `base_url` with `api_key`.

    `steps` are the scenario's steps as JSON objects (key `do`). `timeout` is in seconds for the whole run; a call
    still open then is answered with status `hang`. `client` has the options the client is made with (since 1.1).
    """

    id: int
    base_url: str
    api_key: str
    steps: list[dict[str, Any]]
    data: dict[str, list[WireDatum]]
    losses: dict[str, dict[str, Any]]
    timeout: float
    client: dict[str, Any] = {}


class Evaluate(Struct, tag_field="cmd", tag="evaluate"):
    """Evaluate loss graphs: the operation vectors. Each case has `loss`, `logprobs` and `fields` per datum."""

    id: int
    cases: list[dict[str, Any]]


class Shutdown(Struct, tag_field="cmd", tag="shutdown"):
    """End the driver. It answers, then exits with status 0."""

    id: int


Command = Hello | Run | Evaluate | Shutdown


class SdkInfo(Struct):
    """What is driven: `file` is the imported entry file, `digest` the SHA-256 over the SDK's source files."""

    name: str
    version: str
    file: str = ""
    digest: str = ""


class HelloAnswer(Struct):
    """What the driver is. `contract` is the contract point the SDK claims (`tinker-0.38.0`)."""

    protocol: str
    nonce: str
    sdk: SdkInfo
    language: str
    runtime: str
    contract: str
    capabilities: list[str]
    max_in_flight: int = 1
    libraries: dict[str, str] = {}


class TensorSummary(Struct):
    """A tensor the SDK's user saw: dtype, shape, SHA-256 of its float32/int64 little-endian bytes, first values.

    `digest` is computed over the values converted to `dtype`, row-major. `first` holds at most 8 values, spelled as
    in `WireTensor.data`.
    """

    dtype: str
    shape: list[int]
    digest: str
    first: list[float | int | str]


class Saw(Struct, omit_defaults=True):
    """What the loss callback saw, over all its calls.

    Of a loss that is taken apart it is the base's callback, or, without one, that of the first regularizer.
    `regularizers` (since 1.2) says how often each regularizer was called, by name, where they are parts. `ended` (since
    1.3) says of each asynchronous one how many of these calls had ended, with a result, a failure or because they were
    cancelled, when the step was over.

    `calls` counts calls; the rest describes the last one: the number of datums and logprobs, the dtype and shape of
    each logprobs tensor, one digest over all their float32 bytes, the sorted loss_fn_inputs keys of each datum, and
    whether every tensor was a leaf that requires a gradient (null where the library has no such notion).
    `unchanged`: the caller's data equals, after the call, what it was before.
    """

    calls: int
    datums: int
    count: int
    dtypes: list[str]
    shapes: list[list[int]]
    digest: str
    keys: list[list[str]]
    leaves: bool | None
    unchanged: bool
    regularizers: dict[str, int] = {}
    ended: dict[str, int] = {}


class FailedPart(Struct):
    """The part of a composition that an error is blamed on; `name` is the regularizer's, null where it is not told."""

    part: Literal["base", "regularizer"]
    name: str | None = None


class StepResult(Struct, omit_defaults=True):
    """What the user saw of one step.

    `step` is the step's id. `status`: `ok`, `error` (`kind`, `type`, `message`), `hang` (still open at the timeout;
    `stacks` where the runtime can show them), `unawaited` (submitted, never awaited) or `skipped` (never reached).
    `raised_at` says whether the error came from the call itself (`submit`) or from waiting (`await`).
    `type` is the SDK's result type or error type. `outputs` has one mapping per datum.

    Since 1.2: `report` is the SDK's report of a composition, keys and nulls as they are; `flat` its flat form, where
    the SDK has one; `failed` the part that an error is blamed on.
    """

    step: str
    status: Literal["ok", "error", "hang", "unawaited", "skipped"]
    type: str = ""
    kind: ErrorKind | None = None
    message: str = ""
    raised_at: Literal["", "submit", "await"] = ""
    outputs: list[dict[str, TensorSummary]] | None = None
    metrics: dict[str, float | int | str | None] | None = None
    fields: dict[str, Any] = {}
    saw: Saw | None = None
    stacks: str = ""
    report: dict[str, Any] | None = None
    flat: dict[str, float | int | str | None] | None = None
    failed: FailedPart | None = None


class RunAnswer(Struct):
    """The results of one run: one per step that has an id, in step order, and last the result of the end.

    That is `close`, the client's end, or `exit`, the program's.
    """

    steps: list[StepResult]


class EvaluateAnswer(Struct):
    """Per case: `loss`, `metrics`, `gradients` (one list per datum, or null), or `error`."""

    results: list[dict[str, Any]]


class DriverError(Struct):
    """What the driver itself could not do."""

    code: str
    message: str
    detail: str = ""


class Answer(Struct, omit_defaults=True):
    """One line from the driver: exactly one of `ok` and `driver_error`."""

    id: int
    ok: dict[str, Any] | None = None
    driver_error: DriverError | None = None
