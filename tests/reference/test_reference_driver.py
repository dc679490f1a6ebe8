"""The reference driver as a process, over the protocol."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from harness.drivers.process import DriverProcess
from harness.drivers.registry import resolve
from harness.drivers.wire import summarise
from harness.suite.data import DatumValue, InputValue
from mock_server import MockServer, Script
from mock_server.faults.script import Pending
from mock_server.script import Logprobs

NEW = "tinker-0.38.0"
SCRIPT = Script(logprobs=Logprobs(kind="table", table=(-0.5, -1.0)))
SUM = {"nodes": [["lps"], ["sum", 0]], "loss": 1, "metrics": {"m": 1}}
MODEL = {"do": "create_model", "id": "model"}


def _datum(*targets):
    array = np.array(targets)
    return DatumValue(tokens=array, inputs={"target_tokens": InputValue(array, "tensor")})


DATA = {"batch": [_datum(1, 2), _datum(3)]}


def _custom(step="fb", **more):
    return {"do": "forward_backward_custom", "id": step, "data": "batch", "loss": "sum", **more}


def _await(step):
    return {"do": "await", "of": step}


def _play(contract, *runs, timeout=20.0, script=SCRIPT):
    """Run lists of steps side by side on one driver; give their results and the records."""

    async def one(driver, server, steps):
        tenant = server.open_tenant(script=script)
        try:
            answer = await driver.run(
                base_url=server.base_url,
                api_key=tenant.api_key,
                steps=steps,
                data=DATA,
                losses={"sum": SUM},
                timeout=timeout,
            )
            return {step.step: step for step in answer.steps}, tenant.record()
        finally:
            tenant.close()

    async def whole():
        driver = await DriverProcess.start(resolve("reference", contract=contract))
        try:
            with MockServer() as server:
                results = await asyncio.gather(*(one(driver, server, steps) for steps in runs))
            return driver.hello, results
        finally:
            await driver.stop()

    return asyncio.run(whole())


def test_runs_side_by_side():
    """Sixteen runs in flight each see their own results, and hello says what is driven."""
    steps = [MODEL, _custom(), {"do": "optim_step", "id": "opt"}, _await("fb"), _await("opt")]
    hello, results = _play(NEW, *[steps] * 16)
    assert (hello.sdk.name, hello.sdk.version, hello.contract) == ("reference", "0.38.0", NEW)
    assert hello.max_in_flight == 16
    assert len(hello.sdk.digest) == 64
    assert "forward_backward_custom" in hello.capabilities
    for told, record in results:
        assert {name: step.status for name, step in told.items()} == dict.fromkeys(
            ("model", "fb", "opt", "close"), "ok"
        )
        assert len(record.operations) == 3
        fb = told["fb"]
        assert fb.type == "ForwardBackwardOutput"
        # Target 2 is worth table[0], targets 1 and 3 table[1]; the loss is their sum.
        expected = [np.array([-1.0, -0.5], np.float32), np.array([-1.0], np.float32)]
        assert fb.outputs == [{"logprobs": summarise(array)} for array in expected]
        assert fb.metrics["m"] == fb.metrics["loss:sum"] == -2.5
        assert (fb.saw.calls, fb.saw.datums, fb.saw.count) == (1, 2, 2)
        assert fb.saw.shapes == [[2], [1]]
        assert fb.saw.dtypes == ["float32", "float32"]
        assert fb.saw.keys == [["target_tokens"], ["target_tokens"]]
        assert fb.saw.leaves
        assert fb.saw.unchanged


def test_steps_that_are_not_awaited_or_cannot_be_tried():
    """Unawaited is not ok, and a step whose ground is missing is skipped with the reason; the rest still runs."""
    steps = [
        MODEL,
        _custom(model="other"),
        {"do": "load_state", "id": "load", "path_of": "save"},
        {"do": "save_state", "id": "save", "name": "ck"},
    ]
    _, [(told, _)] = _play(NEW, steps)
    assert {name: step.status for name, step in told.items()} == {
        "model": "ok",
        "fb": "skipped",
        "load": "skipped",
        "save": "unawaited",
        "close": "ok",
    }
    assert "other was not created" in told["fb"].message


def test_paths_lead_from_save_to_load():
    """`path_of` gives the awaited path to the load, and both say it."""
    steps = [
        MODEL,
        {"do": "save_state", "id": "save", "name": "ck"},
        _await("save"),
        {"do": "load_state_with_optimizer", "id": "load", "path_of": "save"},
        _await("load"),
    ]
    _, [(told, _)] = _play("tinker-0.15.0", steps)
    assert told["load"].status == "ok"
    assert told["load"].fields == told["save"].fields
    assert told["save"].fields["path"].startswith("tinker://")
    assert told["close"].status == "skipped"


@pytest.mark.parametrize(
    ("contract", "style", "where"),
    [("tinker-0.7.0", "blocking", "submit"), ("tinker-0.7.0", "concurrent", "await"), (NEW, "blocking", "await")],
)
def test_where_a_failed_loss_is_raised(contract, style, where):
    """By the blocking call itself up to 0.36.0, by the await otherwise; what the loss saw is told all the same."""
    broken = {"nodes": [["lp", 0], ["sum", 0]], "loss": 1, "fail": "boom"}

    async def whole():
        driver = await DriverProcess.start(resolve("reference", contract=contract))
        try:
            with MockServer() as server:
                tenant = server.open_tenant(script=SCRIPT)
                answer = await driver.run(
                    base_url=server.base_url,
                    api_key=tenant.api_key,
                    steps=[MODEL, _custom(style=style), _await("fb")],
                    data=DATA,
                    losses={"sum": broken},
                    timeout=20.0,
                )
                tenant.close()
                return {step.step: step for step in answer.steps}
        finally:
            await driver.stop()

    fb = asyncio.run(whole())["fb"]
    assert (fb.status, fb.kind, fb.raised_at) == ("error", "loss_failed", where)
    assert "boom" in fb.message
    assert fb.saw.calls == 1


def test_a_call_that_never_ends_is_a_hang():
    """At the timeout the open call is told as a hang with stacks, the rest as skipped; the driver serves on."""

    async def silent(reader, writer):
        await reader.read(1)
        await reader.read()
        writer.close()

    async def whole():
        driver = await DriverProcess.start(resolve("reference", contract=NEW))
        deaf = await asyncio.start_server(silent, "127.0.0.1", 0)
        try:
            port = deaf.sockets[0].getsockname()[1]
            answer = await driver.run(
                base_url=f"http://127.0.0.1:{port}",
                api_key="tml-x",
                steps=[MODEL, {"do": "optim_step", "id": "opt"}],
                data={},
                losses={},
                timeout=0.3,
            )
            case = {"loss": SUM, "logprobs": [[-1.0, -2.0]], "fields": [{}]}
            return answer, await driver.evaluate([case])
        finally:
            deaf.close()
            await deaf.wait_closed()
            await driver.stop()

    answer, evaluated = asyncio.run(whole())
    model, opt, close = answer.steps
    assert (model.status, model.raised_at) == ("hang", "submit")
    assert "create_model" in model.stacks
    assert (opt.status, close.status) == ("skipped", "skipped")
    assert evaluated.results == [{"loss": -3.0, "metrics": {"m": -3.0}, "gradients": [[1.0, 1.0]]}]


def test_stdout_carries_answers_only():
    """A hello is answered with its nonce on one line, nothing else is printed, and the end of stdin is the end."""
    argv = [sys.executable, "-m", "harness.drivers.reference", "--contract", NEW]
    hello = msgspec.json.encode({"cmd": "hello", "id": 1, "protocol": "1.0", "nonce": "n"})
    done = subprocess.run(argv, input=hello + b"\n", capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    answer = msgspec.json.decode(line)
    assert (answer["id"], answer["ok"]["nonce"]) == (1, "n")


def test_an_undescribed_contract_is_refused_at_the_start():
    """The process ends with status 2 and says why."""
    argv = [sys.executable, "-m", "harness.drivers.reference", "--contract", "tinker-0.16.1"]
    done = subprocess.run(argv, input=b"", capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"contract-undescribed" in done.stderr


NEVER_OF_FB = Script(faults=(Pending(route="retrieve_future", seq_id=1, times="always", hold=0.02),))
"""The result of a model's first operation is never there."""


@pytest.mark.parametrize(("contract", "after"), [("tinker-0.15.0", "unawaited"), (NEW, "error")])
def test_a_cancelled_custom_call(contract, after):
    """The cancelled call raises; the client is as usable or as poisoned as the contract says of a failure."""
    begun = {"do": "idle", "seconds": 0.01}
    steps = [MODEL, _custom(style="concurrent"), begun, {"do": "cancel", "of": "fb"}, _await("fb")]
    steps += [{"do": "optim_step", "id": "opt"}]
    _, [(told, record)] = _play(contract, [*steps, *([_await("opt")] if after == "error" else [])], script=NEVER_OF_FB)
    assert (told["fb"].status, told["fb"].kind) == ("error", "cancelled")
    assert (told["opt"].status, told["opt"].kind) == (after, "client_poisoned" if after == "error" else None)
    assert "forward_backward" not in [operation.kind for operation in record.operations]


def test_calls_from_threads_follow_each_other_per_model():
    """An optimizer step waits until the custom call of its own model was made, and for no other model's."""
    steps = [MODEL, {**MODEL, "id": "two"}]
    for name in ("model", "two"):
        steps += [_custom(f"fb_{name}", model=name, style="thread")]
        steps += [{"do": "optim_step", "id": f"opt_{name}", "model": name, "style": "thread"}]
    steps += [_await(f"{step}_{name}") for name in ("model", "two") for step in ("fb", "opt")]
    _, [(told, record)] = _play("tinker-0.15.0", steps)
    assert {step.status for name, step in told.items() if name != "close"} == {"ok"}
    kinds = {}
    for operation in record.operations:
        kinds.setdefault(operation.model_id, []).append(operation.kind)
    assert list(kinds.values()) == [["forward", "forward_backward", "optim_step"]] * 2


def test_the_program_ends_without_a_word():
    """What is in flight is unawaited, the session is not finished, and the process is gone without a failure."""

    async def whole():
        driver = await DriverProcess.start(resolve("reference", contract=NEW))
        with MockServer() as server:
            tenant = server.open_tenant(script=SCRIPT)
            steps = [MODEL, _custom(), {"do": "exit"}]
            answer = await driver.run(
                base_url=server.base_url,
                api_key=tenant.api_key,
                steps=steps,
                data=DATA,
                losses={"sum": SUM},
                timeout=20.0,
            )
            await driver.stop()
            return answer, tenant.record(), driver.failure

    answer, record, failure = asyncio.run(whole())
    assert [(step.step, step.status) for step in answer.steps] == [("model", "ok"), ("fb", "unawaited"), ("exit", "ok")]
    assert "session/finish" not in [exchange.route for exchange in record.exchanges]
    assert failure is None


def test_a_client_that_is_closed_early_is_closed_once():
    """The result of close is that of the step; nothing more is sent at the end."""
    _, [(told, record)] = _play(NEW, [MODEL, {"do": "close"}])
    assert told["close"].status == "ok"
    assert [exchange.route for exchange in record.exchanges].count("session/finish") == 1
