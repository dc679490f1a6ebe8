"""The skeleton of a driver with one mistake: `python wrong_driver.py FINDING` breaks the rule that FINDING names.

Without an argument, or with `losses`, it is a driver that keeps every rule; with `losses` it computes them, too.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import harness.drivers

sys.path.insert(0, str(Path(harness.drivers.__file__).parent / "templates" / "python"))

import driver  # the skeleton, as it is written for a user

MODE = sys.argv[1] if len(sys.argv) > 1 else ""
RUNS = []
SHORT = 1.0  # seconds that a run is given which cannot succeed

good_hello, good_run, good_write, good_loads = driver.hello, driver.COMMANDS["run"], driver.write, json.loads


def hello(command):
    """Say what this is, or not."""
    told = good_hello(command)
    told["sdk"]["name"] = "My SDK" if MODE == "sdk-unnamed" else "wrong"
    told["max_in_flight"] = 2
    told |= {
        "nonce-not-echoed": {"nonce": "stale"},
        "protocol-foreign": {"protocol": "2.0"},
        "contract-malformed": {"contract": "0.15.0"},
        "capability-unknown": {"capabilities": ["create_model", "get_info", "custom_forward"]},
    }.get(MODE, {})
    if MODE in LOSSES:
        told["capabilities"] = ["create_model", "get_info", "forward_backward_custom"]
    if MODE == "hello-malformed":
        del told["language"]
    if MODE == "hello-unanswered":
        raise RuntimeError("the SDK cannot be imported")
    if MODE == "left-behind":
        subprocess.Popen(["/bin/sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return told


def run(command):
    """Run, the first or fourth time not as it should be."""
    RUNS.append(command)
    number = len(RUNS) if command["timeout"] > SHORT else 0  # of those that can succeed
    if MODE == "unknown-key" and "newer" in command:
        raise ValueError("no key 'newer' here")
    if MODE == "unknown-step":
        command = {**command, "steps": [step for step in command["steps"] if step["do"] != "sharpen"]}
    if MODE == "timeout-ignored":
        command = {**command, "timeout": 600.0}
    if number == 1 and MODE == "run-unanswered":
        raise RuntimeError("no client today")
    if number == 1 and MODE == "run-elsewhere":
        return {"steps": [{"step": "model", "status": "ok"}, {"step": "close", "status": "skipped"}]}
    told = good_run(command)
    if number == 1 and MODE == "run-results":
        told["steps"].reverse()
    if MODE == "run-failed":
        told["steps"][0] = {"step": "model", "status": "error", "kind": "invalid_input"}
    if number == 4 and MODE == "runs-mixed":
        told["steps"][0]["fields"]["model_id"] = "of-another-run:train:0"
    if MODE == "server-gone" and told["steps"][0].get("kind") == "transport":
        os._exit(1)
    return told


def write(line):
    """Write an answer, and what does not belong there."""
    if len(RUNS) == 1 and "steps" in line.get("ok", {}):
        driver.ANSWERS.write(
            {
                "stray-output": b"Downloading weights: 3%\n",
                "line-too-long": b"x" * (17 << 20) + b"\n",
                "answered-twice": json.dumps(line).encode() + b"\n",
                "answer-unasked": json.dumps({**line, "id": line["id"] + 1000}).encode() + b"\n",
            }.get(MODE, b"")
        )
    good_write(line)
    if MODE == "shutdown-unheeded" and line.get("ok") == {}:
        os._exit(3)


def loads(line):
    """Read a line, or not."""
    if MODE == "long-line" and len(line) > 1 << 20:
        raise ValueError("too long for a buffer")
    if MODE == "split-line" and b"\xe6\xbc\xa2" in line:
        raise ValueError("not in one piece")
    try:
        return good_loads(line)
    except ValueError:
        if MODE == "bad-line":
            os._exit(1)
        raise


def evaluate(command):
    """Compute losses, or not."""
    from harness.drivers.python import vectors

    cases = command["cases"]
    results = [vectors.evaluate_case(case) for case in cases]
    if MODE == "vectors-differ":
        for case, result in zip(cases, results, strict=True):
            if any(node[0] == "tanh" for node in case["loss"]["nodes"]):
                result["loss"] *= -1
    if MODE == "evaluate-unanswered" and len(cases) > 10:
        results.pop()
    if MODE == "unknown-operation" and any("error" in result for result in results):
        raise RuntimeError("an operation that does not exist")
    if MODE == "number-spelling":
        results = [{**result, "loss": None} if isinstance(result.get("loss"), str) else result for result in results]
    return {"results": results}


class Everything(dict):
    """Knows every command there could be."""

    def __contains__(self, name):
        """Say so."""
        return True

    def __missing__(self, name):
        """Do nothing for a command, and say that it was done."""
        return lambda _command: {}


LOSSES = ("losses", "vectors-differ", "evaluate-unanswered", "unknown-operation", "number-spelling")

driver.COMMANDS |= {"hello": hello, "run": run, "evaluate": evaluate}
driver.write = write
driver.json = SimpleNamespace(loads=loads, dumps=json.dumps)
if MODE == "unknown-command":
    driver.COMMANDS = Everything(driver.COMMANDS)
if MODE == "termination":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if MODE == "end-of-input":
    leave = os._exit
    os._exit = lambda status: (
        threading.Event().wait() if threading.current_thread().name == "MainThread" else leave(status)
    )
driver.main()
