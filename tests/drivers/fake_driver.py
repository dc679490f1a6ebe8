"""A driver of nothing, in the standard library: behaves, or misbehaves as its argument says.

`python fake_driver.py MODE` answers `hello` and `shutdown`; what it does with `run` is the mode. It is also the
smallest example of a driver that keeps the protocol.
"""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

MODE = sys.argv[1] if len(sys.argv) > 1 else "good"
SDK = {"name": "fake", "version": "1.0", "file": str(Path(__file__).resolve()), "digest": "0"}
faulthandler.enable()


def write(line):
    """Write one line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def answer(number, **ok):
    """Answer a command."""
    write(json.dumps({"id": number, "ok": ok}))


def hello(command):
    """Say what this is, truly or not."""
    protocol = {"other-major": "2.0", "newer-minor": "1.9"}.get(MODE, "1.0")
    nonce = "stale" if MODE == "stale" else command["nonce"]
    name = {"other-sdk": {**SDK, "version": "9.9"}}.get(MODE, SDK)
    answer(
        command["id"],
        protocol=protocol,
        nonce=nonce,
        sdk=name,
        language="python",
        runtime=sys.version.split()[0],
        contract="",
        capabilities=[],
        max_in_flight=8 if MODE == "reversed" else 1,
        news="unknown keys are ignored",
    )


def steps(command):
    """Tell the test what arrived: the environment, the working directory and the data."""
    told = {"environment": dict(os.environ), "cwd": str(Path.cwd()), "data": command["data"], "pid": os.getpid()}
    return [{"step": "told", "status": "hang" if MODE == "hang" else "ok", "fields": told}]


waiting = []


def run(command):
    """Behave as the mode says."""
    number = command["id"]
    if MODE == "crash":
        os.write(2, b"last words\n")
        os._exit(7)
    elif MODE == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif MODE == "garbage":
        write("Downloading weights: 3%")
    elif MODE == "half":
        write(json.dumps({"id": number}))
    elif MODE == "other-shape":
        answer(number, steps="none")
    elif MODE == "silence":
        threading.Event().wait()
    elif MODE == "closed":
        os.close(1)
        threading.Event().wait()
    elif MODE == "unknown-id":
        answer(number + 100, steps=[])
    elif MODE == "driver-error":
        error = {"code": "no-such-step", "message": "cannot do that", "detail": "Traceback ..."}
        write(json.dumps({"id": number, "driver_error": error}))
    elif MODE == "long-line":
        sys.stdout.write("x" * (17 << 20))
        write("")
    elif MODE == "talkative":
        sys.stderr.write("noise\n" * 40000 + "the end\n")
        sys.stderr.flush()
        os._exit(1)
    elif MODE == "twice":
        answer(number, steps=steps(command))
        answer(number, steps=steps(command))
    elif MODE == "reversed":
        waiting.append(number)
        if len(waiting) == 3:
            for other in reversed(waiting):
                answer(other, steps=[{"step": str(other), "status": "ok"}])
    elif MODE == "nested":
        nested = "[" * 200 + "]" * 200
        write(f'{{"id": {number}, "ok": {{"steps": [{{"step": "a", "status": "ok", "fields": {{"a": {nested}}}}}]}}}}')
    elif MODE == "endless-nesting":
        write('{"id": 2, "ok": ' + '{"a":' * 100000)
    elif MODE == "cut-off":
        sys.stdout.write('{"id": 2, "ok": {"steps": [')
        sys.stdout.flush()
        os._exit(0)
    elif MODE == "wordy":
        error = {"code": "long", "message": "x" * 100000, "detail": "y" * 100000}
        write(json.dumps({"id": number, "driver_error": error}))
    elif MODE == "daemon":
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(writing, b"%d" % os.getpid())
                for pipe in (0, 1, 2, reading, writing):
                    os.close(pipe)
                threading.Event().wait()
            os._exit(0)
        answer(number, steps=[{"step": "daemon", "status": "ok", "fields": {"pid": int(os.read(reading, 20))}}])
    elif MODE == "grandchild":
        child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
        answer(number, steps=[{"step": "child", "status": "ok", "fields": {"pid": child.pid}}])
    elif MODE in LEAVING:
        answer(number, steps=[{"step": "exit", "status": "ok"}])
        LEAVING[MODE]()
    else:
        answer(number, steps=steps(command))


LEAVING = {
    "leaves": lambda: os._exit(0),
    "leaves-badly": lambda: os._exit(5),
    "stays": lambda: threading.Event().wait(),
}

if MODE == "deaf":
    threading.Event().wait()
if MODE == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    command = json.loads(line)
    if command["cmd"] == "hello":
        hello(command)
    elif command["cmd"] == "run":
        run(command)
    elif command["cmd"] == "shutdown":
        if MODE == "stubborn":
            continue
        answer(command["id"])
        if MODE == "dies-at-exit":
            os.write(2, b"cleanup failed\n")
            os._exit(3)
        break
if MODE == "stubborn":
    threading.Event().wait()
