"""A scenario as a stand-alone Python script for the official SDK.

It needs that SDK, torch and a server; nothing of the harness. It does what the driver of the SDK does: calls are made
in the order of the steps, an error is shown and the next step still runs.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.repro.helpers import CANCEL, CONCURRENT, DRAWN, THREADED
from harness.repro.losses import HELPER, OVERWRITE, loss_source, number, quoted
from harness.suite.data import TARGETS, DatumValue, InputValue, expand, stream_of
from harness.suite.scenario import (
    Await,
    Cancel,
    Close,
    ComputeRegularizers,
    CreateModel,
    DataSpec,
    Exit,
    Forward,
    ForwardBackward,
    ForwardBackwardCustom,
    GeneratedData,
    GetInfo,
    Idle,
    LoadState,
    LoadStateWithOptimizer,
    Loss,
    OptimStep,
    Scenario,
    Step,
)

LITERAL_NUMBERS = 20_000
"""Data with more numbers than this is drawn by the script, from the suite's documented generator."""

_PATIENCE = 3
"""So many times the scenario's timeout a script may take: it counts creating sessions and models too."""

_WIDTH = 100

_SOURCE = """
sys.dont_write_bytecode = True
sys.path.insert(0, {folder})  # this code is run, whatever release is installed
"""

_HEAD = '''
import tinker
import torch
from tinker import types

BASE_URL = sys.argv[1] if len(sys.argv) > 1 else os.environ["TINKER_BASE_URL"]
API_KEY = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("TINKER_API_KEY", "tml-local")

# --- what is needed to write a datum and to make a call ---


def tensor(values, dtype, shape=None):
    return types.TensorData(data=values, dtype=dtype, shape=shape or [len(values)])


def native(values, dtype, shape=None):
    return torch.tensor(values, dtype=getattr(torch, dtype)).reshape(shape or [len(values)])


def datum(tokens, inputs):
    return types.Datum(model_input=types.ModelInput.from_ints(tokens), loss_fn_inputs=inputs)


RUNNING = {}
RESULTS = {}


def submit(step, call):
    """Make a call and do not wait for it. An error is shown; what follows still runs."""
    try:
        RUNNING[step] = call()
    except Exception as error:
        print(f"{step}: the call raises {type(error).__name__}: {error}")


def wait(step):
    """Wait for the result of a call, if it was made."""
    if step not in RUNNING:
        return
    try:
        RESULTS[step] = RUNNING.pop(step).result()
    except Exception as error:
        print(f"{step}: waiting raises {type(error).__name__}: {error}")
    else:
        show(step, RESULTS[step])


def show(step, result):
    parts = [type(result).__name__]
    if getattr(result, "loss_fn_outputs", None) is not None:
        parts.append(f"{len(result.loss_fn_outputs)} outputs")
    parts += [f"{n}={getattr(result, n)}" for n in ("metrics", "path") if getattr(result, n, None)]
    print(f"{step}: {', '.join(parts)}")


def ready(client):
    """Return the client itself: newer releases return a future of it."""
    return client.result() if hasattr(type(client), "result") else client
'''


def python_script(scenario: Scenario, losses: Mapping[str, Loss], *, sdk: str, folder: PurePath | None = None) -> str:
    """Return the script of a scenario for `sdk` (`tinker==0.38.0`). `losses` has those the scenario names.

    With `folder` the SDK is imported from there; the release named is then what brings its dependencies.
    """
    styles = {getattr(step, "style", "blocking") for step in scenario.stimulus.steps}
    concurrent, threaded = "concurrent" in styles, "thread" in styles
    kinds = {type(step) for step in scenario.stimulus.steps}
    expanded = {name: expand(spec) for name, spec in scenario.stimulus.data.items()}
    drawn = {
        name
        for name, datums in expanded.items()
        if scenario.stimulus.data[name].generate and _size(datums) > LITERAL_NUMBERS
    }
    used = dict.fromkeys(step.loss for step in scenario.stimulus.steps if isinstance(step, ForwardBackwardCustom))
    modules = (
        {"faulthandler", "os", "sys"}
        | ({"functools"} if expanded else set())
        | ({"asyncio", "threading"} if concurrent else set())
        | ({"concurrent.futures"} if threaded else set())
        | ({"time"} if Idle in kinds or any(losses[name].delay_seconds for name in used) else set())
    )
    start = "" if folder is None else _SOURCE.format(folder=quoted(str(folder)))
    needed_first = _HEAD if folder is None else _late(_HEAD)
    head = "\n".join(["", *(f"import {module}" for module in sorted(modules)), start + needed_first])
    lines = [*_about(scenario, sdk, folder), *head.rstrip("\n").splitlines()]
    for needed, part in ((Cancel in kinds, CANCEL), (concurrent, CONCURRENT), (threaded, THREADED)):
        if needed:
            lines += ["", *part.rstrip("\n").splitlines()]
    if drawn:
        lines += ["", *DRAWN.rstrip("\n").splitlines()]
    if expanded:
        lines += ["", "", "# --- the data ---"]
    for name, datums in expanded.items():
        built = _drawn(scenario.stimulus.data[name]) if name in drawn else _literal(datums)
        lines += ["", "", "@functools.cache", f"def {name}():", *built]
    if used:
        sources = [loss_source(_function(name), losses[name]) for name in used]
        lines += ["", "", "# --- the loss ---"]
        for helper, name in ((HELPER, "end_to_end("), (OVERWRITE, "overwrite(")):
            if any(name in line for source in sources for line in source):
                lines += ["", *helper.rstrip("\n").splitlines()]
        for source in sources:
            lines += ["", "", *_folded(source)]
    lines += ["", "", "# --- the scenario ---", "", "", "def main():"]
    lines.append("    sys.stdout.reconfigure(line_buffering=True)")
    lines.append("    # A call that never returns ends the script, with the stacks of all threads.")
    lines.append(f"    faulthandler.dump_traceback_later({_PATIENCE * scenario.timeout:g}, exit=True)")
    lines.append("    service = tinker.ServiceClient(base_url=BASE_URL, api_key=API_KEY)")
    for step in scenario.stimulus.steps:
        lines += _folded([f"    {_step(step)}"])
    if not {Close, Exit} & kinds:
        lines += ['    if hasattr(service, "close"):', '        service.close("success").result()']
    lines += ["", "", 'if __name__ == "__main__":', "    main()"]
    if Exit not in kinds:
        # Seen of 0.38.0 on a busy machine: SIGABRT when all had been said and done. Where the end is what the scenario
        # is about, the interpreter ends as it does.
        lines.append(
            "    # The SDK's threads may be in C code, which aborts when the interpreter goes away beneath it."
        )
        lines.append("    sys.stdout.flush()")
        lines.append("    os._exit(0)")
    return "\n".join(lines) + "\n"


def _late(head: str) -> str:
    """Mark the imports as those that have to stand after a statement."""
    return re.sub(r"^((?:import|from) .+)$", r"\1  # noqa: E402", head, flags=re.MULTILINE)


def _about(scenario: Scenario, sdk: str, folder: PurePath | None) -> list[str]:
    why = textwrap.wrap(" ".join(scenario.why.split()), _WIDTH - 2, break_on_hyphens=False)
    return [
        *textwrap.wrap(f'"""{scenario.id}: {scenario.title.replace(chr(34), chr(39))}', _WIDTH, break_on_hyphens=False),
        "",
        *(line.replace("\\", "\\\\").replace('"', "'") for line in why),
        "",
        "This file is all there is to it. It needs the SDK, torch and a server:",
        "",
        f"    pip install {sdk} torch",
        f"    parity serve --scenario {scenario.id}",
        "    python FILE BASE_URL [API_KEY]",
        *([] if folder is None else ["", "The SDK's code is that of the folder below; pip brings what it needs."]),
        '"""',
    ]


# --- data -------------------------------------------------------------------------------------------------------------


def _size(datums: tuple[DatumValue, ...]) -> int:
    return sum(datum.tokens.size + sum(value.array.size for value in datum.inputs.values()) for datum in datums)


def _literal(datums: tuple[DatumValue, ...]) -> Iterator[str]:
    if not datums:
        yield "    return []"
        return
    yield "    return ["
    for datum in datums:
        inputs = ", ".join(f"{quoted(name)}: {_value(value)}" for name, value in datum.inputs.items())
        yield from _wrapped(f"datum({datum.tokens.tolist()}, {{{inputs}}}),", indent=8)
    yield "    ]"


def _value(value: InputValue) -> str:
    array = value.array
    if value.container == "list":
        return _numbers(_whole(array))
    shape = f", {list(array.shape)}" if array.ndim != 1 else ""
    return f'{value.container}({_numbers(array.reshape(-1))}, "{array.dtype.name}"{shape})'


def _whole(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return whole numbers as integers if all are whole, as a caller writes them in a plain list."""
    if array.dtype.kind == "f" and np.all(np.isfinite(array) & (array == np.floor(array)) & ~np.signbit(array)):
        return array.astype(np.int64)
    return array


def _numbers(array: npt.NDArray[Any]) -> str:
    if array.ndim > 1:
        return "[" + ", ".join(_numbers(row) for row in array) + "]"
    return "[" + ", ".join(number(value) for value in array.tolist()) + "]"


def _drawn(spec: DataSpec) -> Iterator[str]:
    """Write the literal datums of a specification and, for each generated block, the loop that draws it."""
    yield "    datums = []"
    if spec.datums:
        literal = list(_literal(expand(DataSpec(datums=spec.datums))))
        yield "    datums += [" + literal[0].removeprefix("    return [")
        yield from literal[1:]
    for block in spec.generate:
        yield from _loop(block)
    yield "    return datums"


def _loop(block: GeneratedData) -> Iterator[str]:
    yield f"    for index in range({block.count}):"
    yield f"        length = {list(block.lengths)}[index % {len(block.lengths)}]"
    yield f"        tokens = below({block.vocab}, {block.seed}, 0, index, length)"
    if block.distinct:
        yield "        tokens[0] = index"
    width = block.candidates
    size, shape = (f"length * {width}", f", [length, {width}]") if width else ("length", "")
    yield f"        targets = below({block.vocab}, {block.seed}, 1, index, {size})"
    inputs = {TARGETS: _contained("targets", "int64", block.container, shape, width)}
    for name, given in block.inputs.items():
        variable = f"values{len(inputs)}"
        if given.constant is not None:
            yield f"        {variable} = [{number(float(np.float32(given.constant)))}] * ({size})"
        else:
            first, last = int(np.ceil(given.low * 8)), int(np.floor(given.high * 8))
            words = f"below({last - first + 1}, {block.seed}, {stream_of(name)}, index, {size})"
            yield f"        {variable} = [(k + {first}) / 8 for k in {words}]".replace("+ -", "- ")
        inputs[name] = _contained(variable, "float32", given.container, shape, width)
    yield "        inputs = {"
    for name in sorted(inputs):
        yield f"            {quoted(name)}: {inputs[name]},"
    yield "        }"
    yield "        datums.append(datum(tokens, inputs))"


def _contained(variable: str, dtype: str, container: str, shape: str, width: int) -> str:
    if container != "list":
        return f'{container}({variable}, "{dtype}"{shape})'
    return f"[{variable}[k : k + {width}] for k in range(0, len({variable}), {width})]" if width else variable


# --- steps ------------------------------------------------------------------------------------------------------------


def _step(step: Step) -> str:
    match step:
        case CreateModel():
            seed = f", seed={step.seed}" if step.seed is not None else ""
            created = f"service.create_lora_training_client({quoted(step.base_model)}, rank={step.rank}{seed})"
            return f"{step.id} = ready({created})"
        case Await():
            return f"wait({quoted(step.of)})"
        case Cancel():
            return f"cancel({quoted(step.of)})"
        case Idle():
            return f"time.sleep({step.seconds:g})"
        case Close():
            return 'service.close("success").result()'
        case Exit():
            return "return  # the script ends here, whatever is in flight"
        case ComputeRegularizers():
            return f'print("{step.id}: this SDK composes no regularizers offline")'
        case GetInfo():
            return f"show({quoted(step.id)}, {step.model}.get_info())"
    concurrent = step.style == "concurrent"
    method = step.__struct_config__.tag
    call = f"{step.model}.{method}{'_async' if concurrent else ''}({_arguments(step)})"
    wrapped = {"concurrent": f"Started(lambda: {call})", "thread": f"Threaded({step.model}, lambda: {call})"}
    made = wrapped.get(step.style, call)
    return f"submit({quoted(step.id)}, lambda: {made})"


def _arguments(step: Step) -> str:
    match step:
        case Forward() | ForwardBackward():
            return f"{step.data}(), {quoted(step.loss_fn)}"
        case ForwardBackwardCustom():
            return f"{step.data}(), {_function(step.loss)}"
        case OptimStep():
            params = ", ".join(f"{name}={number(value)}" for name, value in step.params.items())
            return f"types.AdamParams({params})"
        case LoadState() | LoadStateWithOptimizer():
            return f"RESULTS[{quoted(step.path_of)}].path"
        case _:
            return quoted(step.name)  # type: ignore[union-attr] # the saves are what is left


def _function(loss: str) -> str:
    return re.sub(r"\W", "_", loss) + "_loss"


# --- layout -----------------------------------------------------------------------------------------------------------


def _wrapped(text: str, *, indent: int) -> list[str]:
    first, rest = " " * indent, " " * (indent + 4)
    if len(first) + len(text) <= _WIDTH:
        return [first + text]
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _folded(lines: list[str]) -> list[str]:
    """Fold lines that are too long; a break is only ever inside parentheses of the line."""
    folded: list[str] = []
    for line in lines:
        body = line.lstrip()
        indent = len(line) - len(body)
        if len(line) <= _WIDTH or body.startswith('"""'):
            folded += _docstring(line) if body.startswith('"""') else [line]
            continue
        head, equals, value = body.partition(" = ")
        if equals and not value.startswith(("[", "{")) and head.isidentifier():
            folded += [" " * indent + f"{head} = ("]
            folded += _wrapped(value, indent=indent + 4)
            folded += [" " * indent + ")"]
        else:
            folded += _wrapped(body, indent=indent)
    return folded


def _docstring(line: str) -> list[str]:
    if len(line) <= _WIDTH:
        return [line]
    text = line.strip().strip('"')
    wrapped = textwrap.wrap(
        '"""' + text, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
    )
    return [*wrapped, '    """']
