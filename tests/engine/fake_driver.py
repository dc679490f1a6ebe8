"""A driver of no SDK: what it does in a run is told by the ids of the run's steps.

Run as `python fake_driver.py STATE_FOLDER MAX_IN_FLIGHT [MODE]`. It writes its process id into the folder, and one
file per thing it has done once, so that it can behave differently in another process.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

STATE = Path(sys.argv[1])
MAX_IN_FLIGHT = int(sys.argv[2])
MODE = sys.argv[3] if len(sys.argv) > 3 else ""

STEPS = ("create_model", "exit", "forward", "forward_backward_custom", "get_info", "load_state")


def first_time(what):
    """Return whether no process of this folder has asked for `what` before."""
    try:
        (STATE / what).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def say(**answer):
    """Write one line of the protocol."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def crash():
    """End at once, with something on stderr."""
    sys.stderr.write("last words\n")
    sys.stderr.flush()
    os._exit(3)


def call(command, route, headers):
    """Send one request to the server of the run."""
    key = {"X-API-Key": command["api_key"], **headers}
    request = urllib.request.Request(f"{command['base_url']}/api/v1/{route}", headers=key)
    with urllib.request.urlopen(request, timeout=10) as response:
        response.read()


def run(command, in_flight):
    """Answer a run, or do what its first step is called. `in_flight` names the runs that were not answered."""
    name = next(step["id"] for step in command["steps"] if step["do"] != "await")
    status = "ok"
    if name == "crash" or (name == "crash_once" and first_time("crash")):
        crash()
    if name == "garbage":
        sys.stdout.write("progress: 50%\n")
        sys.stdout.flush()
        return
    if name == "silent" or (name == "silent_once" and first_time("silent")):
        return
    if name == "refuse":
        say(
            id=command["id"], driver_error={"code": "no-torch", "message": "cannot import torch", "detail": "Traceback"}
        )
        return
    if name.startswith("leaves"):
        say(id=command["id"], ok={"steps": [{"step": name, "status": "ok"}, {"step": "exit", "status": "ok"}]})
        os._exit(0)
    if name.startswith("beside"):
        in_flight.add((command["id"], name))
        if len(in_flight) == 2:
            for number, other in sorted(in_flight):
                say(id=number, ok={"steps": [{"step": other, "status": "ok"}]})
            in_flight.clear()
        return
    if name.startswith("alone"):
        (STATE / f"beside-{name}").write_text(str(len(in_flight)))
    if name in {"guilty", "victim"}:
        again = not first_time(name)
        in_flight.add(name)
        if in_flight == {"guilty", "victim"} or (name == "guilty" and again):
            crash()
        if not again:
            return
    if name == "ping":
        call(command, "healthz", {})
    if name == "stale":
        call(command, "healthz", {"X-Stainless-Package-Version": "9.9.9"})
    if name == "wrong_third" and len(list(STATE.glob("third-*"))) < 3:
        (STATE / f"third-{len(list(STATE.glob('third-*')))}").touch()
        status = "error" if (STATE / "third-2").exists() else "ok"
    if name == "wrong" or (name == "wrong_once" and first_time("wrong")):
        status = "error"
    if name == "hang" or (name == "hang_once" and first_time("hang")):
        status = "hang"
    steps = [
        {"step": step["id"], "status": status, "type": f"pid {os.getpid()}"}
        for step in command["steps"]
        if step["do"] not in {"await", "exit"}
    ]
    if name == "hang_aside":
        steps.append({"step": "aside", "status": "hang"})
    say(id=command["id"], ok={"steps": steps})


def main():
    """Answer commands until told to end."""
    (STATE / f"pid-{os.getpid()}").touch()
    in_flight = set()
    for line in sys.stdin:
        command = json.loads(line)
        if command["cmd"] == "hello":
            if MODE == "never-starts":
                crash()
            sdk = {"name": "tinker" if MODE == "tinker" else "fake", "version": "2.0" if MODE == "another" else "1.0"}
            say(
                id=command["id"],
                ok={
                    "protocol": command["protocol"],
                    "nonce": command["nonce"],
                    "sdk": sdk,
                    "language": "python",
                    "runtime": "fake",
                    "contract": "tinker-0.38.0",
                    "capabilities": [
                        step for step in STEPS if (step, MODE) != ("forward_backward_custom", "no-losses")
                    ],
                    "max_in_flight": MAX_IN_FLIGHT,
                },
            )
        elif command["cmd"] == "evaluate":
            say(id=command["id"], ok={"results": [{"loss": 0.0, "gradients": None} for _ in command["cases"]]})
        elif command["cmd"] == "shutdown":
            say(id=command["id"], ok={})
            return
        else:
            run(command, in_flight)


main()
