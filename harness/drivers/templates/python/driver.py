"""The driver: answers the commands of parity's driver protocol.

It creates models and asks about them, with the stand-in for an SDK in client.py, and says that it can do nothing else.
README.md says how it grows.
"""

import json
import os
import platform
import sys
import threading
import time
import traceback

# stdout belongs to the protocol. Before the SDK is imported: what it prints goes to stderr from here on.
ANSWERS = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
sys.stdout = sys.stderr

import client  # noqa: E402 - see above

PROTOCOL = "1.3"
CONTRACT = "tinker-0.15.0"
CAPABILITIES = ["create_model", "get_info"]
WRITING = threading.Lock()


def hello(command):
    """Say what is driven."""
    return {
        "protocol": PROTOCOL,
        "nonce": command["nonce"],
        "sdk": {"name": "SDK_NAME", "version": client.VERSION, "file": os.path.realpath(client.__file__)},
        "language": "python",
        "runtime": f"{platform.python_implementation()} {platform.python_version()}",
        "contract": CONTRACT,
        "capabilities": CAPABILITIES,
        "max_in_flight": 1,
    }


def evaluate(command):
    """Compute losses without the SDK. Needed once forward_backward_custom is among the capabilities, not before."""
    raise NotImplementedError("this driver has no losses yet")


class Run:
    """The steps of one scenario, each with the result that its user saw."""

    def __init__(self, command):
        """Refuse what this driver has not declared."""
        self.command = command
        for step in command["steps"]:
            if step["do"] not in ("await", *CAPABILITIES):
                raise ValueError(f"no step {step['do']!r} here")
        names = [step["id"] for step in command["steps"] if "id" in step]
        self.results = {name: {"step": name, "status": "skipped"} for name in [*names, "close"]}
        self.service = None
        self.models = {}

    def execute(self):
        """Run the steps in a thread, for as long as there is time; what is still open then is a hang."""
        work = threading.Thread(target=self.work, daemon=True)
        work.start()
        work.join(self.command["timeout"])
        return {"steps": list(self.results.values())}

    def work(self):
        """Do one step after the other. An error is a result: the steps after it still run."""
        for step in self.command["steps"]:
            name = step.get("id", step.get("of"))
            self.results[name] = {"step": name, "status": "hang", "raised_at": "submit"}
            try:
                self.results[name] = {"step": name, "status": "ok", **getattr(self, step["do"])(step)}
            except KeyError:
                self.results[name] = {"step": name, "status": "skipped", "message": "the model was not created"}
            except Exception as error:  # noqa: BLE001 - whatever the SDK raises is what its user saw
                self.results[name] = {
                    "step": name,
                    "status": "error",
                    "kind": kind_of(error),
                    "type": type(error).__name__,
                    "message": str(error),
                    "raised_at": "submit",
                }

    def create_model(self, step):
        """Create a model, with a client that all models of a run share."""
        if self.service is None:
            self.service = client.Client(self.command["base_url"], self.command["api_key"])
        model = self.service.create_model(step["base_model"], rank=step["rank"], seed=step["seed"])
        self.models[step["id"]] = model
        return {"type": "TrainingClient", "fields": {"model_id": model}}

    def get_info(self, step):
        """Ask about a model."""
        info = self.service.get_info(self.models[step["model"]])
        return {"type": "GetInfoResponse", "fields": {"model_id": info["model_id"]}}


def kind_of(error):
    """Return which of the protocol's kinds (section 5) an error of the SDK is: by its type, not by its message."""
    return "http_status" if isinstance(error, client.StatusError) else "transport"


COMMANDS = {
    "hello": hello,
    "evaluate": evaluate,
    "run": lambda command: Run(command).execute(),
    "shutdown": lambda _command: {},
}


def answer(command):
    """Answer one command. `driver_error` is for what this driver could not do, never for what the SDK raised."""
    try:
        if command["cmd"] not in COMMANDS:
            raise ValueError(f"no command {command['cmd']!r} here")
        write({"id": command["id"], "ok": COMMANDS[command["cmd"]](command)})
    except Exception as error:  # noqa: BLE001 - it is said
        said = {"code": type(error).__name__, "message": str(error), "detail": traceback.format_exc()}
        write({"id": command["id"], "driver_error": said})
    if command["cmd"] == "shutdown":
        os._exit(0)


def write(line):
    """Write one answer, whole."""
    with WRITING:
        ANSWERS.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        ANSWERS.flush()


def main():
    """Read commands until stdin ends: then the runner is gone, and so is this process, whatever still runs."""
    for line in sys.stdin.buffer:
        try:
            command = json.loads(line)
            command["id"], command["cmd"]
        except (ValueError, TypeError, KeyError) as error:
            print(f"a line that is no command ({error!r}): {line[:200]!r}", file=sys.stderr)
            continue
        # A thread for each: the end of stdin is noticed during a run too.
        threading.Thread(target=answer, args=(command,), daemon=True).start()
        if command["cmd"] == "shutdown":
            time.sleep(5)
    os._exit(0)


if __name__ == "__main__":
    main()
