"""The driver of the official SDK: on real releases against the mock server, and on a stand-in for the odd cases."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from harness.drivers.failure import DriverFailure
from harness.drivers.process import DriverProcess
from harness.drivers.protocol import StepResult
from harness.drivers.registry import resolve
from harness.drivers.spec import DriverSpec
from harness.drivers.wire import summarise
from harness.errors import ParityError
from harness.suite.data import DatumValue, InputValue
from mock_server import MockServer, Script
from mock_server.script import Logprobs

RELEASES = ("0.7.0", "0.38.0")
T = TypeVar("T")
FAKE_SDK = Path(__file__).with_name("fake_sdk")
SUM = {"nodes": [["lps"], ["sum", 0]], "loss": 1, "metrics": {"twice": 1}}
LOSSES = {
    "sum": SUM,
    "fail": {"nodes": [["const", 1.0]], "loss": 0, "fail": "on purpose"},
    "first": {"nodes": [["lp", 0], ["sum", 0]], "loss": 1},
    "fields": {"nodes": [["lps"], ["fields", "advantages"], ["mul", 0, 1], ["sum", 2]], "loss": 3},
}
TABLE = Script(logprobs=Logprobs(kind="table", table=tuple(-k / 8 for k in range(1, 17))))
CREATE = {"do": "create_model", "id": "model"}


def datum(tokens: list[int], **inputs: tuple[Any, str]) -> DatumValue:
    """Return a datum whose targets are the next tokens, with further inputs as (array, container)."""
    targets = InputValue(np.array(tokens, dtype=np.int64) + 1, "tensor")
    others = {name: InputValue(array, container) for name, (array, container) in inputs.items()}  # type: ignore[arg-type]
    return DatumValue(np.array(tokens, dtype=np.int64), {"target_tokens": targets, **others})


BATCH = (datum([1, 2]), datum([4, 5, 6]), datum([8]))


def call(do: str, step: str, **keys: Any) -> dict[str, Any]:
    """Return a step that submits."""
    return {"do": do, "id": step, **keys}


def wait(step: str) -> dict[str, Any]:
    """Return a step that awaits."""
    return {"do": "await", "of": step}


class Drivers:
    """One process per subject, used by many tests; a tainted one is replaced."""

    def __init__(self, specs: Mapping[str, DriverSpec]) -> None:
        self.specs = specs
        self._runner = asyncio.Runner()
        self._processes: dict[str, DriverProcess] = {}

    def process(self, subject: str) -> DriverProcess:
        """Return the process of a subject, fit for use."""
        driver = self._processes.get(subject)
        if driver is not None and driver.tainted:
            self.wait(driver.stop())
        if driver is None or driver.tainted:
            driver = self._processes[subject] = self.wait(DriverProcess.start(self.specs[subject]))
        return driver

    def run(self, subject: str, steps: list[dict[str, Any]], **options: Any) -> dict[str, StepResult]:
        """Run steps; return their results by step id."""
        defaults = {"base_url": "http://127.0.0.1:9", "api_key": "tml-x", "data": {"batch": BATCH}, "timeout": 60.0}
        answer = self.wait(self.process(subject).run(steps=steps, **{**defaults, "losses": LOSSES, **options}))
        assert answer.steps[-1].step == "close"
        return {step.step: step for step in answer.steps}

    def wait(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop that the processes belong to."""
        return self._runner.run(waiting)

    def close(self) -> None:
        """Stop every process."""
        for driver in self._processes.values():
            self.wait(driver.stop())
        self._runner.close()


@pytest.fixture(scope="module")
def drivers(cache: Path) -> Iterator[Drivers]:
    """Give the drivers of two real releases and of the stand-in."""
    assert cache.is_dir()
    found = {release: resolve(f"tinker=={release}") for release in RELEASES}
    opened = Drivers({**found, "fake": resolve("tinker==0.38.0", sdk_path=FAKE_SDK)})
    yield opened
    opened.close()


# --- real releases ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_the_interpreter_of_a_release_has_torch_and_nothing_of_the_harness(drivers: Drivers, release: str) -> None:
    """The interpreter finds torch and tinker; it finds neither harness nor click; own packages come first."""
    script = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.import_module(name).__file__
    except ImportError:
        found[name] = None
print(json.dumps(found))
"""
    absent = ["harness", "mock_server", "click", "msgspec", "starlette", "uvicorn", "pytest", "transformers", "rich"]
    present = ["torch", "tinker", "numpy", "typing_extensions"]
    spec = drivers.specs[release]
    command = [spec.argv[0], "-s", "-B", "-P", "-c", script, *absent, *present]
    done = subprocess.run(command, env=dict(spec.env), capture_output=True, text=True, check=True, cwd="/")
    found = json.loads(done.stdout)
    assert [name for name in absent if found[name]] == []
    assert [name for name in present if not found[name]] == []
    environment = Path(spec.argv[0]).parent.parent
    assert [name for name in present if not Path(found[name]).is_relative_to(environment)] == ["torch"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_says_what_it_is(drivers: Drivers, release: str) -> None:
    """Name, version and imported file come from the installed package; only releases that can close say so."""
    hello = drivers.process(release).hello
    environment = Path(drivers.specs[release].argv[0]).parent.parent
    assert (hello.sdk.name, hello.sdk.version, hello.contract) == ("tinker", release, f"tinker-{release}")
    assert Path(hello.sdk.file).is_relative_to(environment.resolve())
    assert len(hello.sdk.digest) == 64
    assert hello.libraries["tinker"] == release
    assert "torch" in hello.libraries
    declared = {*hello.capabilities}
    assert {"concurrent", "create_model", "forward_backward_custom", "load_state_with_optimizer"} <= declared
    assert {"loss_delay", "loss_mutates", "cancel", "exit", "idle", "thread", "telemetry"} <= declared
    assert ("close" in hello.capabilities) is (release == "0.38.0")


@pytest.mark.parametrize("release", RELEASES)
def test_a_custom_loss_is_run_and_reported(drivers: Drivers, server: MockServer, release: str) -> None:
    """Outputs, metrics, paths and what the callback saw are the user's; the server saw the negative gradient."""
    steps = [
        CREATE,
        call("forward_backward_custom", "fb", data="batch", loss="sum"),
        call("optim_step", "opt", params={"learning_rate": 0.5}),
        wait("fb"),
        wait("opt"),
        call("save_state", "save", name="ck"),
        wait("save"),
        call("load_state", "load", path_of="save"),
        wait("load"),
        call("get_info", "info"),
        call("forward", "left", data="batch"),
    ]
    tenant = server.open_tenant(script=TABLE)
    results = drivers.run(release, steps, base_url=server.base_url, api_key=tenant.api_key)
    record = tenant.record()
    tenant.close()
    assert {step: result.status for step, result in results.items()} == {
        **dict.fromkeys(("model", "fb", "opt", "save", "load", "info"), "ok"),
        "left": "unawaited",
        "close": "ok" if release == "0.38.0" else "skipped",
    }
    expected = [np.array(row, dtype=np.float32) for row in ([-0.375, -0.5], [-0.75, -0.875, -1.0], [-1.25])]
    fb = results["fb"]
    assert fb.outputs == [{"logprobs": summarise(row)} for row in expected]
    assert fb.metrics is not None
    assert fb.metrics["twice"] == -4.75
    assert fb.saw is not None
    assert (fb.saw.calls, fb.saw.datums, fb.saw.count, fb.saw.leaves, fb.saw.unchanged) == (1, 3, 3, True, True)
    assert fb.saw.shapes == [[2], [3], [1]]
    assert fb.saw.digest == hashlib.sha256(b"".join(row.tobytes() for row in expected)).hexdigest()
    assert fb.saw.keys == [["target_tokens"]] * 3
    assert record.aliases[results["save"].fields["path"]] == record.aliases[results["load"].fields["path"]]
    assert results["info"].fields["model_id"] == results["model"].fields["model_id"]
    backward = next(operation for operation in record.operations if operation.kind == "forward_backward")
    batch = record.exchanges[backward.request].batch
    assert batch is not None
    assert [sent.inputs["weights"].dense().tolist() for sent in batch.datums] == [[-1.0, -1.0], [-1.0] * 3, [-1.0]]


@pytest.mark.parametrize("release", RELEASES)
def test_steps_go_on_after_an_error(drivers: Drivers, server: MockServer, release: str) -> None:
    """What follows a failed call is tried: it works up to 0.36, and finds a poisoned client in 0.38."""
    tenant = server.open_tenant(script=TABLE)
    steps = [
        CREATE,
        call("forward_backward_custom", "raises", data="batch", loss="fail"),
        wait("raises"),
        call("optim_step", "after", params={}),
        wait("after"),
        {**CREATE, "id": "other"},
        call("forward_backward_custom", "missing", data="batch", loss="first", model="other"),
        wait("missing"),
    ]
    results = drivers.run(release, steps, base_url=server.base_url, api_key=tenant.api_key)
    tenant.close()
    assert (results["raises"].kind, results["raises"].message) == ("loss_failed", "on purpose")
    assert results["missing"].kind == "no_gradient"
    late = release == "0.38.0"
    assert results["raises"].raised_at == ("await" if late else "submit")
    assert (results["after"].status, results["after"].kind) == (("error", "client_poisoned") if late else ("ok", None))


@pytest.mark.parametrize("release", RELEASES)
def test_concurrent_calls_start_before_any_is_waited_for(drivers: Drivers, server: MockServer, release: str) -> None:
    """Up to 0.36 an optimizer step started with a custom call overtakes its backward pass; in 0.38 it does not."""
    tenant = server.open_tenant(script=TABLE)
    steps = [
        CREATE,
        call("forward_backward_custom", "fb", data="batch", loss="sum", style="concurrent"),
        call("optim_step", "opt", params={"learning_rate": 0.5}, style="concurrent"),
        wait("fb"),
        wait("opt"),
    ]
    results = drivers.run(release, steps, base_url=server.base_url, api_key=tenant.api_key)
    kinds = [operation.kind for operation in tenant.record().operations]
    tenant.close()
    assert [results["fb"].status, results["opt"].status] == ["ok", "ok"]
    overtaken = ["forward", "optim_step", "forward_backward"]
    assert kinds == (overtaken if release == "0.7.0" else ["forward", "forward_backward", "optim_step"])


@pytest.mark.parametrize("release", RELEASES)
def test_a_server_that_never_answers_is_a_hang(drivers: Drivers, release: str) -> None:
    """The open call hangs, with stacks; the rest is skipped; the process answers, and ends when asked to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        steps = [CREATE, call("forward", "f", data="batch"), wait("f")]
        driver = drivers.process(release)
        results = drivers.run(release, steps, base_url=address, timeout=1.0)
        drivers.wait(driver.stop())
    assert driver.tainted
    assert driver.failure is None
    assert [results[step].status for step in ("model", "f", "close")] == ["hang", "skipped", "skipped"]
    assert results["model"].raised_at == "submit"
    assert "Thread parity-steps" in results["model"].stacks
    assert "_create_model" in results["model"].stacks


def test_the_real_environment_of_the_user_does_not_reach_the_sdk(
    drivers: Drivers, server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, endpoints, proxies and start-up files of the user's make no difference to a run of 0.38.0."""
    for name, value in {
        "TINKER_API_KEY": "tml-real-key",
        "TINKER_BASE_URL": "http://127.0.0.1:9",
        "TINKER_TELEMETRY": "1",
        "TINKER_TAGS": "hostile",
        "TINKER_PROJECT_ID": "hostile",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "PYTHONPATH": str(FAKE_SDK),
        "PYTHONSTARTUP": "/nonexistent",
        "PYTHONHOME": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    tenant = server.open_tenant(script=TABLE)
    steps = [CREATE, call("forward", "f", data="batch"), wait("f")]
    driver = drivers.wait(DriverProcess.start(drivers.specs["0.38.0"]))
    options: dict[str, Any] = {"base_url": server.base_url, "api_key": tenant.api_key, "losses": {}, "timeout": 60.0}
    answer = drivers.wait(driver.run(steps=steps, data={"batch": BATCH}, **options))
    drivers.wait(driver.stop())
    record = tenant.record()
    tenant.close()
    assert [step.status for step in answer.steps] == ["ok", "ok", "ok"]
    assert "hostile" not in repr(record.exchanges)


@pytest.mark.parametrize("release", RELEASES)
def test_each_thread_makes_the_calls_of_its_client(drivers: Drivers, server: MockServer, release: str) -> None:
    """Calls of one client follow each other though no step waits for them; every client has a thread."""
    tenant = server.open_tenant(script=TABLE)
    names = ("one", "two")
    steps = [{**CREATE, "id": name} for name in names]
    for name in names:
        custom = {"data": "batch", "loss": "sum", "model": name, "style": "thread"}
        steps += [call("forward_backward_custom", f"fb_{name}", **custom)]
        steps += [call("optim_step", f"opt_{name}", params={}, model=name, style="thread")]
    steps += [wait(f"{step}_{name}") for name in names for step in ("fb", "opt")]
    results = drivers.run(release, steps, base_url=server.base_url, api_key=tenant.api_key)
    record = tenant.record()
    tenant.close()
    assert {result.status for step, result in results.items() if step != "close"} == {"ok"}
    for name in names:
        model_id = results[name].fields["model_id"]
        kinds = [operation.kind for operation in record.operations if operation.model_id == model_id]
        assert kinds == ["forward", "forward_backward", "optim_step"]


@pytest.mark.parametrize("release", RELEASES)
def test_the_program_ends_with_a_call_in_flight(drivers: Drivers, server: MockServer, release: str) -> None:
    """What is known is answered, the client is not closed, and the process ends of itself as a script does."""
    tenant = server.open_tenant(script=TABLE)
    driver = drivers.wait(DriverProcess.start(drivers.specs[release]))
    options: dict[str, Any] = {"base_url": server.base_url, "api_key": tenant.api_key, "losses": {}, "timeout": 60.0}
    steps = [CREATE, call("forward", "f", data="batch"), {"do": "exit"}]
    answer = drivers.wait(driver.run(steps=steps, data={"batch": BATCH}, **options))
    drivers.wait(driver.stop())
    routes = [exchange.route for exchange in tenant.record().exchanges]
    tenant.close()
    assert [(step.step, step.status) for step in answer.steps] == [("model", "ok"), ("f", "unawaited"), ("exit", "ok")]
    assert driver.failure is None
    assert "session/finish" not in routes


@pytest.mark.parametrize("release", RELEASES)
def test_telemetry_is_on_when_it_is_asked_for(drivers: Drivers, server: MockServer, release: str) -> None:
    """A failing call is reported to /telemetry then, and otherwise not."""
    steps = [CREATE, call("forward_backward_custom", "fb", data="batch", loss="fail"), wait("fb")]
    for client in ({"telemetry": True}, {}):
        tenant = server.open_tenant(script=TABLE)
        drivers.run(release, steps, base_url=server.base_url, api_key=tenant.api_key, client=client)
        routes = {exchange.route for exchange in tenant.record().exchanges}
        tenant.close()
        assert ("telemetry" in routes) is bool(client)


@pytest.mark.parametrize("release", RELEASES)
def test_a_client_is_closed_where_a_step_says_so(drivers: Drivers, server: MockServer, release: str) -> None:
    """It is closed once; a later call is the SDK's to refuse. A release without close says so."""
    tenant = server.open_tenant(script=TABLE)
    steps = [CREATE, {"do": "close"}, {"do": "idle", "seconds": 0.01}, call("get_info", "info")]
    results = drivers.run(release, steps, base_url=server.base_url, api_key=tenant.api_key)
    routes = [exchange.route for exchange in tenant.record().exchanges]
    tenant.close()
    closes = release == "0.38.0"
    assert results["close"].status == ("ok" if closes else "skipped")
    assert routes.count("session/finish") == closes


# --- the stand-in: what no release shows ------------------------------------------------------------------------------


def model(behaviour: str, name: str = "model") -> dict[str, Any]:
    """Create a client of the stand-in."""
    return {"do": "create_model", "id": name, "base_model": behaviour}


def test_a_directory_is_driven_instead_of_the_release(drivers: Drivers) -> None:
    """Its code is imported, named and digested; it is not written to; the release's dependencies are there."""

    def tree() -> dict[str, str]:
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files()}

    def files() -> list[Path]:
        return [file for file in sorted(FAKE_SDK.rglob("*")) if file.is_file()]

    before = tree()
    hello = drivers.process("fake").hello
    results = drivers.run("fake", [model("path")])
    assert tree() == before
    assert hello.sdk.file == str(FAKE_SDK / "tinker" / "__init__.py")
    path = json.loads(results["model"].fields["model_id"])
    assert path[0] == str(FAKE_SDK)
    assert not [entry for entry in path if "harness" in entry]
    assert hello.libraries["pydantic"]


def test_a_directory_whose_code_is_not_imported_is_refused(drivers: Drivers, tmp_path: Path) -> None:
    """The runner compares the imported file with the directory that was asked for."""
    package = tmp_path / "tinker"
    package.mkdir()
    (package / "__init__.py").write_text(
        "__file__ = '/somewhere/else/tinker/__init__.py'\n" + "ServiceClient = object\n"
    )
    (package / "lib" / "public_interfaces").mkdir(parents=True)
    (package / "lib" / "public_interfaces" / "training_client.py").write_text("TrainingClient = object\n")

    with pytest.raises(ParityError) as caught:
        drivers.wait(DriverProcess.start(resolve("tinker==0.38.0", sdk_path=tmp_path)))
    assert caught.value.code == "sdk-path-mismatch"


def test_the_stand_in_sees_only_what_the_driver_was_given(drivers: Drivers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment inside the SDK's process is the one that was built."""
    monkeypatch.setenv("TINKER_API_KEY", "tml-real-key")
    results = drivers.run("fake", [model("environment")])
    seen = json.loads(results["model"].fields["model_id"])
    assert seen.pop("HOME").endswith("/home")
    assert seen.pop("TMPDIR").endswith("/tmp")
    seen.pop("LC_CTYPE", None)
    assert seen == dict(drivers.specs["fake"].env)
    assert seen["TINKER_TELEMETRY"] == "0"
    assert seen["PYTHONHASHSEED"] == "0"


def test_containers_are_what_a_caller_hands_over(drivers: Drivers) -> None:
    """A native input is a torch tensor, a list nested, with integers where all are whole."""
    floats = np.array([[1.0, 0.0], [2.0, 3.0]], dtype=np.float32)
    mixed = np.array([0.5, 1.0], dtype=np.float32)
    negative = np.array([-0.0, 1.0], dtype=np.float32)
    data = (
        datum([1, 2], a=(floats, "native"), b=(floats, "list"), c=(mixed, "list"), d=(negative, "list")),
        datum(list(range(2000)), e=(np.arange(2000, dtype=np.int64), "native")),
    )
    steps = [model("plain"), call("forward", "f", data="batch", loss_fn="cross_entropy"), wait("f")]
    results = drivers.run("fake", steps, data={"batch": data})
    first, second, loss_fn = json.loads(results["f"].fields["model_id"])
    assert first == {
        "a": "Tensortensor([[1., 0.],\n        [2., 3.]])",
        "b": "list[[1, 0], [2, 3]]",
        "c": "list[0.5, 1.0]",
        "d": "list[-0.0, 1.0]",
    }
    assert second["e"].startswith("Tensortensor([   0,    1,    2")
    assert loss_fn == "cross_entropy"


def test_odd_results_are_spelled(drivers: Drivers) -> None:
    """NaN, -0.0, infinities, large integers, a missing shape and metrics that are no numbers all arrive."""
    steps = [model("plain"), call("forward_backward", "fb", data="batch"), wait("fb"), wait("fb")]
    steps += [call("optim_step", "opt", params={"beta1": 0.5}), wait("opt")]
    results = drivers.run("fake", steps)
    odd = np.array([[1.0, -0.0], [np.nan, np.inf]], dtype=np.float32)
    assert results["fb"].outputs == [{"logprobs": summarise(odd), "flat": summarise(np.array([2**60, 1]))}]
    assert results["fb"].outputs[0]["logprobs"].first == [1.0, "-0.0", "NaN", "Infinity"]
    assert results["fb"].metrics == {
        "nan": "NaN",
        "none": None,
        "tensor": "tensor(2.)",
        "large": str(2**60),
        "true": "True",
        "x": 0.5,
    }
    assert results["opt"].metrics == {"{'beta1': 0.5}": 1.0}


@pytest.mark.parametrize(
    ("behaviour", "saw"),
    [
        ("plain", {"calls": 1, "unchanged": True, "leaves": True, "datums": 3}),
        ("twice", {"calls": 2, "unchanged": True}),
        ("changes", {"unchanged": False}),
        ("extends", {"unchanged": False, "datums": 3}),
        ("copies", {"leaves": False}),
        ("uncalled", {"calls": 0, "leaves": None, "shapes": []}),
    ],
)
def test_the_callback_notes_what_the_sdk_does_with_it(drivers: Drivers, behaviour: str, saw: dict[str, Any]) -> None:
    """Calls are counted, and a change of the caller's data or a tensor that is no leaf is seen."""
    steps = [model(behaviour), call("forward_backward_custom", "fb", data="batch", loss="sum"), wait("fb")]
    results = drivers.run("fake", steps)
    noted = results["fb"].saw
    assert noted is not None
    assert {name: getattr(noted, name) for name in saw} == saw


def test_a_loss_that_fails_is_recognised_however_it_is_wrapped(drivers: Drivers) -> None:
    """The kind follows the chain of causes; a field that the datum lacks makes the loss fail too."""
    steps = [model("plain")]
    for name in ("fail", "fields"):
        steps += [call("forward_backward_custom", name, data="batch", loss=name), wait(name)]
    results = drivers.run("fake", steps)
    assert [results[name].kind for name in ("fail", "fields")] == ["loss_failed", "loss_failed"]
    assert (results["fail"].type, results["fail"].message) == ("RuntimeError", "wrapped")


def test_errors_have_the_kinds_of_the_protocol(drivers: Drivers) -> None:
    """Every kind is found by type, cause or message; type and message are kept."""
    names = [
        *("http_status", "http_status-wrapped", "transport", "transport-os", "timeout", "timeout-builtin"),
        *("request_failed", "cancelled", "bad_output", "bad_output-key", "bad_output-zip"),
        *("invalid_input", "invalid_input-key", "invalid_input-type", "client_poisoned", "no_gradient", "not_scalar"),
    ]
    steps = []
    for number, name in enumerate(names):
        steps += [model(name, f"m{number}"), call("forward", f"s{number}", data="batch", model=f"m{number}")]
    results = drivers.run("fake", steps)
    found = {name: results[f"s{number}"].kind for number, name in enumerate(names)}
    assert found == {name: name.partition("-")[0] for name in names}
    assert all(results[f"s{number}"].raised_at == "submit" for number in range(len(names)))
    assert results["s9"].type == "KeyError"


def test_concurrent_errors_are_raised_where_the_user_meets_them(drivers: Drivers) -> None:
    """What a task raises, at once or later, its user meets when awaiting it; one nobody awaits is unawaited."""
    steps = [model("early", "early"), model("late", "late")]
    steps += [call("forward", "f_none", data="batch", model="early", style="concurrent")]
    for name in ("early", "late"):
        steps += [call("forward", f"f_{name}", data="batch", model=name, style="concurrent"), wait(f"f_{name}")]
    results = drivers.run("fake", steps)
    assert [results["f_early"].raised_at, results["f_late"].raised_at] == ["await", "await"]
    assert results["f_none"].status == "unawaited"
    assert [results["f_early"].kind, results["f_late"].kind] == ["request_failed"] * 2


def test_a_concurrent_call_has_begun_before_the_next_step(drivers: Drivers) -> None:
    """The first synchronous parts of calls run in the order of the steps, and before any await."""
    steps = [model("plain")]
    steps += [call("optim_step", f"o{n}", params={"learning_rate": n}, style="concurrent") for n in range(3)]
    steps += [wait("o2"), wait("o0")]
    results = drivers.run("fake", steps)
    assert results["o2"].metrics == {"[0, 1, 2]": 1.0}
    assert results["o1"].status == "unawaited"


@pytest.mark.parametrize("style", ["blocking", "concurrent", "thread"])
def test_a_call_can_be_cancelled_in_every_style(drivers: Drivers, style: str) -> None:
    """Waiting for a call that was cancelled ends at once; one that is not waited for is unawaited."""
    given = {"data": "batch", "style": style}
    steps = [
        model("unending"),
        call("forward", "f", **given),
        call("forward", "g", **given),
        {"do": "cancel", "of": "f"},
        {"do": "cancel", "of": "g"},
        wait("f"),
    ]
    results = drivers.run("fake", steps)
    assert (results["f"].status, results["f"].kind, results["f"].raised_at) == ("error", "cancelled", "await")
    assert results["g"].status == "unawaited"


def test_what_shows_no_future_is_not_cancelled(drivers: Drivers) -> None:
    """The step is skipped and says why; waiting for it changes nothing."""
    steps = [model("uncancellable"), call("forward", "f", data="batch"), {"do": "cancel", "of": "f"}, wait("f")]
    results = drivers.run("fake", steps)
    assert (results["f"].status, results["f"].message) == ("skipped", "a SimpleNamespace cannot be cancelled")


def test_every_client_has_one_thread(drivers: Drivers) -> None:
    """All threaded calls of a client are made by the same thread, those of another by another."""
    steps = [model("threads", "m1"), model("threads", "m2")]
    names = (("a", "m1"), ("b", "m2"), ("c", "m1"))
    for name, client in names:
        steps += [call("forward", name, data="batch", model=client, style="thread"), wait(name)]
    results = drivers.run("fake", steps)
    (noted,) = results["c"].metrics or ()
    assert ast.literal_eval(noted)[-3:] == [f"parity-user-{client}" for _, client in names]


def test_what_builds_on_a_failure_is_skipped(drivers: Drivers) -> None:
    """A call on a model that was not created, and a load of a path that was not given, are skipped, and say why."""
    steps = [
        model("uncreatable", "none"),
        call("forward", "f", data="batch", model="none"),
        wait("f"),
        model("pathless"),
        call("save_state", "save", name="ck"),
        wait("save"),
        call("load_state", "load", path_of="save"),
        wait("load"),
    ]
    results = drivers.run("fake", steps)
    assert (results["none"].status, results["none"].kind) == ("error", "request_failed")
    assert (results["f"].status, results["f"].message) == ("skipped", "none was not created")
    assert (results["load"].status, results["load"].message) == ("skipped", "save gave no path")
    assert results["close"].status == "ok"


def test_a_defect_of_the_driver_is_no_result(drivers: Drivers) -> None:
    """A step that the driver does not know is a driver error, and the process stays usable."""
    with pytest.raises(DriverFailure, match="driver_error: ValueError: unknown step 'sample'") as caught:
        drivers.run("fake", [model("plain"), call("sample", "s")])
    assert "Traceback" in caught.value.stacks
    with pytest.raises(DriverFailure, match="loss 'absent' is not there"):
        drivers.run("fake", [model("plain"), call("forward_backward_custom", "f", data="batch", loss="absent")])
    assert not drivers.process("fake").tainted
    assert drivers.run("fake", [model("plain")])["model"].status == "ok"


def test_losses_are_evaluated_without_the_sdk(drivers: Drivers) -> None:
    """The answer has loss, metrics and gradients in float32, null where there is none, and errors by case."""
    cases = [
        {"loss": SUM, "logprobs": [[-1.0, -0.5], [-0.25]], "fields": [{}, {}]},
        {
            "loss": LOSSES["fields"],
            "logprobs": [{"dtype": "float32", "shape": [2, 1], "data": [-1.0, "-0.0"]}],
            "fields": [{"advantages": [2.0, "NaN"]}],
        },
        {"loss": LOSSES["first"], "logprobs": [[-1.0], [-0.25]], "fields": [{}, {}]},
        {"loss": LOSSES["fail"], "logprobs": [[-1.0]], "fields": [{}]},
    ]

    total, fields, first, failing = drivers.wait(drivers.process("fake").evaluate(cases)).results
    assert total == {"loss": -1.75, "metrics": {"twice": -1.75}, "gradients": [[1.0, 1.0], [1.0]]}
    assert fields == {"loss": "NaN", "metrics": {}, "gradients": [[2.0, "NaN"]]}
    assert first["gradients"] == [[1.0], None]
    assert failing == {"error": "RuntimeError: on purpose"}


def test_a_driver_ends_when_its_stdin_ends_though_a_call_hangs(drivers: Drivers) -> None:
    """The end of stdin is noticed during a run: the process exits with status 0."""
    command = {"cmd": "run", "id": 2, "base_url": "http://127.0.0.1:9", "api_key": "tml-x", "timeout": 600.0}
    steps = [model("plain"), call("get_info", "info")]
    lines = [
        {"cmd": "hello", "id": 1, "protocol": "1.0", "nonce": "n"},
        {**command, "steps": steps, "data": {}, "losses": {}},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    spec = drivers.specs["fake"]
    environment = {**spec.env, "HOME": os.devnull, "TMPDIR": os.devnull}
    done = subprocess.run(
        spec.argv, input=text, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    [hello] = done.stdout.splitlines()
    assert json.loads(hello)["id"] == 1
    assert done.stderr.splitlines() == ["an SDK that prints", "and writes to fd 1"]
