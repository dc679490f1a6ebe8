"""Headless Chromium, driven through its own debugging pipe: no library, no port, nothing but the browser.

Everything a page says or asks for is kept: console messages, exceptions, requests.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
)
PATIENCE = 60.0
"""Seconds for one answer: what takes longer hangs."""

DRAWN = """new Promise(done => {
  const look = () => document.querySelector('[aria-busy=true]') ? setTimeout(look, 5) : done();
  look();
})"""
"""A page unpacks its data before it draws, and is marked as busy until then."""

KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    " ": (32, " "),
    "End": (35, ""),
    "Home": (36, ""),
    "ArrowLeft": (37, ""),
    "ArrowUp": (38, ""),
    "ArrowRight": (39, ""),
    "ArrowDown": (40, ""),
}


def find_chromium() -> str:
    """Return the browser's path. AssertionError, with what to install, where there is none."""
    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, "the page's tests need a browser: apt-get install chromium, or CHROMIUM=/path/to/chromium"
    return found


class Browser:
    """One browser process with an empty profile, ended by `close`."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="parity-browser-", ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # Out of the way of 3 and 4, which the browser reads from and writes to.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, to_write)]

        def connect() -> None:
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        arguments = (*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "about:blank")
        self._process = subprocess.Popen(
            [find_chromium(), *arguments],
            preexec_fn=connect,
            pass_fds=(3, 4),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (to_read, to_write, *ends):
            os.close(end)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result; events that come meanwhile are kept."""
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, f"the browser has ended with status {self._process.wait()}"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """End the browser and remove its profile."""
        try:
            self.call("Browser.close")
        finally:
            self._process.wait(PATIENCE)
            os.close(self._read)
            os.close(self._write)
            self._profile.cleanup()


class Page:
    """One tab. `said` has what its console and its exceptions said, `asked` the addresses it asked for."""

    def __init__(self, browser: Browser, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self._browser = browser
        self._forgotten: list[str] = []
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.size(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of this tab."""
        return self._browser.call(method, self._session, **parameters)

    def first(self, script: str) -> None:
        """Run a script in every document to come, before its own."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def size(self, width: int, height: int) -> None:
        """Give the window a size in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, file: Path, fragment: str = "") -> None:
        """Load a file and wait until its script has run and it is drawn."""
        self.call("Page.navigate", url=file.resolve().as_uri() + fragment)
        ready = "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        self.run(ready)
        self.run(DRAWN)

    def run(self, expression: str) -> Any:
        """Return the value of an expression of the page, a promise awaited; an exception in it is an AssertionError."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys, one after the other: names such as `Tab`, or single characters."""
        for key in keys:
            code, text = KEYS.get(key, (ord(key[0].upper()), key))
            told: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code}
            down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            self.call("Input.dispatchKeyEvent", **down, **told)
            self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    def click(self, selector: str) -> None:
        """Click in the middle of the first element of a selector."""
        middle = f"""(() => {{
          const e = document.querySelector({json.dumps(selector)});
          e.scrollIntoView({{block: 'center'}});
          const b = e.getBoundingClientRect();
          return [b.x + b.width / 2, b.y + b.height / 2];
        }})()"""
        box = self.run(middle)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """Write a screenshot of the window, or of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _events(self, method: str) -> list[dict[str, Any]]:
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        return [event["params"] for event in mine if event.get("method") == method]

    def forget(self, complaint: str) -> None:
        """Leave out of `said` what a test provoked: there must be such a complaint."""
        assert any(complaint in said for said in self.said), self.said
        self._forgotten.append(complaint)

    @property
    def said(self) -> list[str]:
        """What the page complained about, or wrote to the console."""
        thrown = [event["exceptionDetails"]["text"] for event in self._events("Runtime.exceptionThrown")]
        logged = [event["entry"]["text"] for event in self._events("Log.entryAdded")]
        written = [json.dumps(event["args"]) for event in self._events("Runtime.consoleAPICalled")]
        everything = [*thrown, *logged, *written]
        return [said for said in everything if not any(known in said for known in self._forgotten)]

    @property
    def asked(self) -> list[str]:
        """The addresses the page asked for, its own file among them."""
        return [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]
