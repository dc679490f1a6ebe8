"""Reads commands, answers them: the line of the protocol, and what stands for `hello`, `evaluate` and `shutdown`."""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import platform
import resource
import signal
import sys
import threading
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from ..python import vectors  # noqa: TID252 - there is no harness where this runs
from . import probe
from .run import ScenarioRun

PROTOCOL = "1.3"

_QUICK_EXIT = 0


class Service:
    """One driver process. Answers are written whole, one at a time, whichever thread they come from."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = os.fdopen(commands, "rb")
        self._answers = os.fdopen(answers, "wb")
        self._writing = threading.Lock()
        self._sdk: Any = None

    def serve(self) -> NoReturn:
        """Answer until stdin ends, then leave at once: calls that still hang must not keep the process."""
        for line in self._commands:
            try:
                command = json.loads(line)
                command["id"], command["cmd"]
            except (ValueError, TypeError, KeyError) as error:
                # There is no id to answer.
                sys.stderr.write(f"a line that is no command ({error!r}): {line[:200]!r}\n")
                continue
            try:
                self._dispatch(command)
            except Exception as error:  # noqa: BLE001 - whatever fails here is the driver's failure and is said
                self._fail(command["id"], error)
        os._exit(_QUICK_EXIT)

    def _dispatch(self, command: dict[str, Any]) -> None:
        match command["cmd"]:
            case "hello":
                self._answer(command["id"], self._hello(command["nonce"]))
            case "run":
                # The main thread goes on reading, so that the end of stdin is noticed during a run too.
                threading.Thread(target=self._run, args=(command,), name="parity-run", daemon=True).start()
            case "evaluate":
                self._answer(command["id"], {"results": [vectors.evaluate_case(case) for case in command["cases"]]})
            case "shutdown":
                self._answer(command["id"], {})
                os._exit(_QUICK_EXIT)
            case other:
                raise ValueError(f"unknown command {other!r}")

    def _hello(self, nonce: str) -> dict[str, Any]:
        self._sdk = importlib.import_module("tinker")
        version = metadata.version("tinker")
        file = Path(str(self._sdk.__file__)).resolve()
        installed = {found.metadata["Name"]: found.version for found in metadata.distributions()}
        return {
            "protocol": PROTOCOL,
            "nonce": nonce,
            "sdk": {
                "name": "tinker",
                "version": version,
                "file": str(file),
                "digest": probe.digest_of_package(file.parent),
            },
            "language": "python",
            "runtime": f"{platform.python_implementation()} {platform.python_version()}",
            "contract": f"tinker-{version}",
            "capabilities": probe.capabilities(self._sdk),
            "max_in_flight": 1,  # all clients of the SDK share one event loop of the process
            "libraries": dict(sorted(installed.items())),
        }

    def _run(self, command: dict[str, Any]) -> None:
        try:
            run = ScenarioRun(self._sdk, command)
            self._answer(command["id"], {"steps": run.execute()})
        except Exception as error:  # noqa: BLE001 - as in `serve`
            self._fail(command["id"], error)
            return
        if run.ends_the_program:
            # The script of a user has come to its end: the main thread leaves, and whatever happens then, happens.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def _answer(self, number: int, ok: dict[str, Any]) -> None:
        self._write({"id": number, "ok": ok})

    def _fail(self, number: int, error: Exception) -> None:
        said = {"code": type(error).__name__, "message": str(error), "detail": traceback.format_exc()}
        self._write({"id": number, "driver_error": said})

    def _write(self, answer: dict[str, Any]) -> None:
        line = json.dumps(answer, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with self._writing:
            self._answers.write(line)
            self._answers.flush()


def serve(commands: int, answers: int) -> NoReturn:
    """Serve on two descriptors, until the first of them ends."""
    faulthandler.enable(sys.stderr)  # stacks of all threads when the runner aborts a silent process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGUSR1, _leave)
    Service(commands, answers).serve()


def _leave(*_: object) -> NoReturn:
    raise SystemExit(_QUICK_EXIT)
