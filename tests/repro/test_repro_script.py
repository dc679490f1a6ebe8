"""`parity repro`: a script that needs nothing but the SDK, torch and a server, and does what the scenario does."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from harness.checks.registry import judge
from harness.checks.verdict import Case
from harness.contracts.timeline import load_timeline
from harness.drivers.registry import resolve
from harness.engine.prepare import golden_stores, open_suite
from harness.engine.reproduce import reproduce, undescribed
from harness.errors import ParityError
from harness.locations import locate
from harness.repro import script
from harness.repro.lines import driver_lines
from harness.repro.script import python_script
from harness.suite.data import expand
from harness.suite.judging import checks_at
from harness.suite.scenario import Step
from harness.trace.normalise import make_trace
from mock_server import MockServer

LOCATIONS = locate()
SUITE = open_suite(LOCATIONS)
SDK = "tinker==0.38.0"
JUDGED = ("wire.", "chunks.", "order.", "gaps.", "forward.", "plain.", "weights.", "session.", "training.")
MODULES = {
    "asyncio",
    "concurrent.futures",
    "faulthandler",
    "functools",
    "os",
    "sys",
    "threading",
    "time",
    "tinker",
    "torch",
}
RUN = (
    "custom/sum-literal",
    "custom/clipped-ratio",
    "custom/targets-2d-sparse",
    "custom/plain-lists",
    "custom/loss-mutates-inputs",
    "custom/slow-loss",
    "errors/loss-raises",
    "order/custom-then-optim-concurrent",
    "state/load-with-optimizer",
)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Write the script of every scenario; return the folder."""
    folder = tmp_path_factory.mktemp("scripts")
    for name, scenario in SUITE.scenarios.items():
        text = python_script(scenario, SUITE.losses, sdk=SDK)
        (folder / (name.replace("/", "__").replace("-", "_") + ".py")).write_text(text, encoding="utf-8")
    return folder


def test_every_script_is_clean_and_alone(scripts):
    """Every scenario becomes Python that a linter has nothing to say about and that imports only SDK and torch."""
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    rules = ("--select", "E,F,W,I,B,UP,SIM,N,C4", "--line-length", "100", "--target-version", "py311")
    done = subprocess.run([ruff, "check", "--isolated", *rules, str(scripts)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for path in scripts.iterdir():
        tree = ast.parse(path.read_text("utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert imported <= MODULES, path.name


def test_every_kind_of_step_is_written():
    """Cancelling, idling, closing early, ending and calls from threads become what a user would write."""
    plain = SUITE.scenarios["custom/sum-literal"]
    kinds = [
        {"do": "create_model"},
        {"do": "forward_backward_custom", "id": "fb", "data": "batch", "loss": "sum", "style": "thread"},
        {"do": "cancel", "of": "fb"},
        {"do": "idle", "seconds": 1.5},
        {"do": "close"},
        {"do": "exit"},
    ]
    stimulus = msgspec.structs.replace(plain.stimulus, steps=msgspec.convert(kinds, tuple[Step, ...]))
    text = python_script(msgspec.structs.replace(plain, stimulus=stimulus), SUITE.losses, sdk=SDK)
    main = text[text.index("def main():") :]
    assert 'submit("fb", lambda: Threaded(model, lambda: model.forward_backward_custom(' in " ".join(main.split())
    lines = ['cancel("fb")', "time.sleep(1.5)", 'service.close("success").result()', "return  # the script ends here"]
    assert sorted(lines, key=main.index) == lines
    assert "hasattr(service" not in main
    compile(text, "script", "exec")


def test_large_data_is_drawn_as_the_suite_draws_it(monkeypatch):
    """Where data is drawn by the script instead of written into it, it is the same data."""
    monkeypatch.setattr(script, "LITERAL_NUMBERS", 0)
    drawn = 0
    for scenario in SUITE.scenarios.values():
        text = python_script(scenario, SUITE.losses, sdk=SDK)
        if "def below(" not in text:
            continue
        for name, spec in scenario.stimulus.data.items():
            datums = expand(spec)
            if len(datums) > 300 or not spec.generate:
                continue
            drawn += 1
            for wanted, (tokens, inputs) in zip(datums, _built(text, name), strict=True):
                assert tokens == wanted.tokens.tolist()
                assert list(inputs) == list(wanted.inputs)
                for key, value in wanted.inputs.items():
                    assert np.array_equal(inputs[key], value.array)
    assert drawn > 10


def _built(text, name):
    """Run the part of a script that makes data, with containers that are arrays."""

    def shaped(values, dtype, shape=None):
        return np.array(values, dtype=dtype).reshape(shape or [len(values)])

    body = text[text.index("RUNNING = {}") : text.index("# --- the scenario")]
    body = body.partition("# --- the loss")[0]
    import functools

    space = {
        "functools": functools,
        "tensor": shaped,
        "native": shaped,
        "datum": lambda tokens, inputs: (tokens, inputs),
    }
    if "class Started" in body:
        body = body[: body.index("# --- calls of")] + body[body.index("# --- numbers") :]
    exec(body, space)  # the generated code is what is tested
    return space[name]()


@pytest.fixture(scope="module")
def python():
    """Return the interpreter of a real 0.38.0, and the environment its driver has."""
    spec = resolve(SDK)
    return spec.argv[0], dict(spec.env)


@pytest.mark.parametrize("name", RUN)
def test_the_script_does_on_the_real_sdk_what_the_scenario_asks(name, python, scripts, tmp_path):
    """The real SDK, run by the script alone, leaves a trace that passes the scenario's checks of what is sent."""
    scenario = SUITE.scenarios[name]
    interpreter, environment = python
    path = scripts / (name.replace("/", "__").replace("-", "_") + ".py")
    with MockServer() as server:
        tenant = server.open_tenant(scenario.stimulus.server)
        done = subprocess.run(
            [interpreter, "-B", "-P", str(path), server.base_url, tenant.api_key],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**environment, "HOME": str(tmp_path)},
            cwd=tmp_path,
        )
        record = tenant.record()
    assert done.returncode == 0, done.stderr
    for step in scenario.stimulus.steps:
        if step.__struct_config__.tag == "await":
            assert f"{step.of}: " in done.stdout
    timeline = load_timeline(LOCATIONS.timeline)
    digest = SUITE.digest(scenario)
    golden = golden_stores(LOCATIONS, SUITE)(name).load(name, "0.38.0", timeline.described, stimulus=digest)
    observed = make_trace(name, digest, "tinker-0.38.0", record, ())
    case = Case(
        golden=golden,
        # How steps end is what the script prints; here only what was sent is judged.
        observed=replace(observed, steps=golden.steps),
        contract=timeline.point("tinker-0.38.0"),
        tolerance=scenario.judge.tolerance,
        script=scenario.stimulus.server,
    )
    asked = checks_at("0.38.0", timeline.described)(scenario.judge)
    verdicts = {check: judge(check, case) for check in asked if check.startswith(JUDGED)}
    assert len(verdicts) > 15
    assert {check: verdict for check, verdict in verdicts.items() if verdict.outcome != "pass"} == {}


def test_a_cancelled_call_ends_in_the_script(python, scripts, tmp_path):
    """Where the SDK returns a future at once, that future is cancelled: waiting for the call ends."""
    interpreter, environment = python
    scenario = SUITE.scenarios["faults/cancel-custom"]
    with MockServer() as server:
        tenant = server.open_tenant(scenario.stimulus.server)
        done = subprocess.run(
            [interpreter, "-B", "-P", str(scripts / "faults__cancel_custom.py"), server.base_url, tenant.api_key],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**environment, "HOME": str(tmp_path)},
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr
    assert "fb: waiting raises CancelledError" in done.stdout
    assert "again: waiting raises RuntimeError: A previous request failed" in done.stdout


HANGS = """
import threading

class types:
    TensorData = Datum = AdamParams = lambda **given: given
    class ModelInput:
        from_ints = list

class Failed:
    def result(self):
        raise ValueError("refused for good")

class Never:
    def result(self):
        threading.Event().wait()

class Model:
    forward_backward = lambda self, *given: Failed()
    optim_step = lambda self, *given: Never()

class ServiceClient:
    def __init__(self, **given): pass
    create_lora_training_client = lambda self, *given, **named: Model()
"""


def test_a_script_whose_call_never_returns_ends_and_says_where(tmp_path):
    """What was seen before is printed, then the stacks; the exit status is not 0."""
    text = python_script(SUITE.scenarios["faults/submit-middle-then-step"], SUITE.losses, sdk=SDK)
    hurried = text.replace("traceback_later(24,", "traceback_later(0.5,")
    assert hurried != text, "three times the scenario's timeout"
    (tmp_path / "script.py").write_text(hurried, encoding="utf-8")
    (tmp_path / "tinker.py").write_text(HANGS, encoding="utf-8")
    (tmp_path / "torch.py").touch()
    done = subprocess.run(
        [sys.executable, "script.py", "http://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stdout == "fb: waiting raises ValueError: refused for good\n"
    assert "Timeout" in done.stderr
    assert "in wait" in done.stderr
    assert "in main" in done.stderr


def test_the_script_runs_the_code_of_a_folder(tmp_path):
    """With a folder the script imports the SDK from there and leaves nothing in it; lines name no code."""
    tree = tmp_path / "tree" / "src" / "tinker"
    tree.mkdir(parents=True)
    (tree / "__init__.py").write_text("from tinker import types\nraise SystemExit('the tree ' + __file__)\n")
    (tree / "types.py").write_text("")
    script = tmp_path / "script.py"
    given = {"sdk": SDK, "base_url": "", "sdk_path": tmp_path / "tree"}
    script.write_text(reproduce(LOCATIONS, "custom/sum-literal", lines=False, **given))
    done = subprocess.run(
        [sys.executable, str(script), "http://127.0.0.1:9"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == f"the tree {(tree / '__init__.py').resolve()}\n"
    assert sorted(path.name for path in tree.iterdir()) == ["__init__.py", "types.py"]
    with pytest.raises(ParityError) as caught:
        reproduce(LOCATIONS, "custom/sum-literal", lines=True, **given)
    assert caught.value.code == "sdk-path-unsupported"
    with pytest.raises(ParityError) as caught:
        reproduce(LOCATIONS, "custom/sum-literal", lines=False, **{**given, "sdk_path": tmp_path})
    assert caught.value.code == "sdk-path-empty"


def test_a_release_without_a_contract_is_said():
    """A script for a release that nobody has tried comes with a warning; for a described one there is none."""
    assert "no contract describes tinker==99" in undescribed(LOCATIONS, "tinker==99")
    assert undescribed(LOCATIONS, SDK) == undescribed(LOCATIONS, "tinker==0.38") == ""
    assert undescribed(LOCATIONS, "tinkex==0.4.0") == ""


def test_the_lines_drive_a_driver(tmp_path):
    """What is written for other SDKs is what their driver reads: the reference runs the scenario from it."""
    name = "custom/sum-literal"
    scenario = SUITE.scenarios[name]
    spec = resolve("reference==0.38.0")
    with MockServer() as server:
        tenant = server.open_tenant(scenario.stimulus.server)
        lines = driver_lines(scenario, SUITE.losses, base_url=server.base_url, api_key=tenant.api_key)
        with subprocess.Popen(
            spec.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**spec.env, "HOME": str(tmp_path)},
            cwd=Path(__file__).parents[2],
        ) as driver:
            driver.stdin.write(lines.encode())
            driver.stdin.flush()
            answers = [msgspec.json.decode(driver.stdout.readline()) for _ in range(2)]
    assert [answer["id"] for answer in answers] == [1, 2]
    assert {step["step"]: step["status"] for step in answers[1]["ok"]["steps"]} == {
        "model": "ok",
        "fb": "ok",
        "close": "ok",
    }


def test_lines_for_every_other_sdk():
    """Whatever is not tinker has a driver and gets lines; so does tinker where they are asked for."""
    given = {"lines": False, "base_url": "http://x"}
    for sdk in ("reference", "tinkex==0.4.0"):
        text = reproduce(LOCATIONS, "custom/sum-literal", sdk=sdk, **given)
        assert [msgspec.json.decode(line)["cmd"] for line in text.splitlines()] == ["hello", "run"]
    assert reproduce(LOCATIONS, "custom/sum-literal", sdk=SDK, lines=True, base_url="http://x") == text


@pytest.mark.parametrize(
    ("scenario", "sdk", "code"),
    [
        ("custom/sum-litral", SDK, "scenario-unknown"),
        ("custom/sum-literal", "tinker", "sdk-version-missing"),
        ("custom/sum-literal", "tinker==x", "sdk-version-malformed"),
    ],
)
def test_what_cannot_be_written_is_refused(scenario, sdk, code):
    """An unknown scenario, or a release that is none, is an error with a code."""
    with pytest.raises(ParityError) as caught:
        reproduce(LOCATIONS, scenario, sdk=sdk, lines=False, base_url="")
    assert caught.value.code == code
