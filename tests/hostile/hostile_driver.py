"""A driver that attacks the harness: which attack is the id of the run's last step. In the standard library.

Run as `python hostile_driver.py FOLDER [MODE]`. The folder holds `bomb` and `declared-bomb` (zstd) and takes notes: the
server's address, the ids of processes, and what an attack that should have been answered otherwise saw. A step called
`honest...` does what golden does.
"""

# ruff: noqa: ARG001, D401
# Attacks are called alike, and their docstrings say what they are.

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
MODE = sys.argv[2] if len(sys.argv) > 2 else ""
PREFIX = "/api/v1/"
TEXT = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\ufeff\x00<script>alert('x')</script>]]>&\"\ud83d\udc80"
    "\n::error::owned\n##[add-mask]owned\n| [owned](javascript:alert) @owned `![x](y)` |"
)
"""What a terminal, a browser, an XML reader, GitHub's runner or a reader of Markdown would do something with."""


class Server:
    """One connection to the server of a run."""

    def __init__(self, command):
        parts = urlsplit(command["base_url"])
        self.address = (parts.hostname, parts.port)
        self.key = command["api_key"]

    def post(self, route, body, *, method="POST", chunked=False, **headers):
        """Send one request; return status and body."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        content = body if hasattr(body, "__next__") else body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(
                method,
                PREFIX + route,
                content,
                {"x-api-key": self.key, "content-type": "application/json", **named},
                encode_chunked=chunked,
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def open(self, head):
        """Open a connection, write `head` and return it."""
        connection = socket.create_connection(self.address, timeout=60)
        connection.sendall(head)
        return connection

    def head(self, route, **headers):
        """Return the head of a request, without its end."""
        named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return f"POST {PREFIX}{route} HTTP/1.1\r\nhost: x\r\nx-api-key: {self.key}\r\n{named}".encode()


def expect(seen, wanted):
    """Say what was seen where it is not what was wanted."""
    if seen != wanted:
        (FOLDER / f"unexpected-{os.getpid()}").write_text(f"{seen!r} instead of {wanted!r}")


def honest(server):
    """Do what golden does: a session, a model, a question about it."""
    _, session = server.post("create_session", {"tags": [], "sdk_version": "0"})
    session_id = json.loads(session)["session_id"]
    created = {"session_id": session_id, "model_seq_id": 0, "base_model": "b", "lora_config": {"rank": 8}}
    model_id = json.loads(server.post("create_model", created)[1])["model_id"]
    expect(server.post("get_info", {"model_id": model_id})[0], 200)


def results(name, **last):
    """Return the results of the steps."""
    done = {"step": name, "status": "ok", "type": "GetInfoResponse", **last}
    return [{"step": "model", "status": "ok", "type": "TrainingClient"}, done, {"step": "close", "status": "skipped"}]


def write(line):
    """Write to stdout, as it is."""
    sys.stdout.write(line)
    sys.stdout.flush()


def answer(number, **ok):
    """Answer a command."""
    write(json.dumps({"id": number, "ok": ok}) + "\n")


# --- attacks on the server ----------------------------------------------------------------------------------------


def a_large_body(server):
    """200 MB, announced."""
    expect(server.post("forward", b"[" + b"1," * 100_000_000 + b"1]")[0], 413)


def a_large_body_in_chunks(server):
    """200 MB, not announced."""
    expect(server.post("forward", (b"1," * 500_000 for _ in range(200)), chunked=True)[0], 413)


def large_bodies_at_a_time(server):
    """Four that are just small enough, all there before one of them ends."""
    size = 30_000_000
    opened = [server.open(server.head("telemetry", content_length=size) + b"\r\n") for _ in range(4)]
    for connection in opened:
        connection.sendall(b" " * (size - 1))
    for connection in opened:
        connection.sendall(b" ")
        expect(connection.recv(12), b"HTTP/1.1 413")
        connection.close()


def many_values(server):
    """A body within the bound, of values that take many times their text."""
    expect(server.post("forward", b'{"x":[' + b"[]," * 15_000_000 + b"[]]}")[0], 413)


def many_datums(server):
    """Protobuf within the bound, of messages that take a hundred times their bytes."""
    empty = b"\x1a\x00" * 30_000_000
    expect(server.post("forward_backward", empty, content_type="application/x-protobuf")[0], 413)


def many_chunks(server):
    """The same within one datum."""
    chunks = b"\x0a\x00" * 30_000_000
    datum = b"\x1a" + varint(len(chunks)) + chunks
    expect(server.post("forward_backward", datum, content_type="application/x-protobuf")[0], 413)


def varint(number):
    """Return a number as protobuf writes it."""
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def many_objects(server):
    """A small request's body of values that take many times their text."""
    expect(server.post("telemetry", b'{"events":[' + b"[]," * 1_000_000 + b"[]]}")[0], 413)


def many_requests(server):
    """Requests without a body, as fast as they go."""
    request = server.head("healthz").replace(b"POST", b"GET") + b"\r\n"
    connection = server.open(b"")
    answers = threading.Thread(target=lambda: drain(connection), daemon=True)
    answers.start()
    for _ in range(1000):
        connection.sendall(request * 100)
    answers.join()


def drain(connection):
    """Read until there is nothing more."""
    try:
        while connection.recv(1 << 16):
            pass
    except OSError:
        pass


def heads_without_end(server):
    """Connections that never finish a head."""
    kept.extend(server.open(server.head("create_session")) for _ in range(600))


def one_long_head(server):
    """A head that goes on and on."""
    connection = server.open(server.head("create_session"))
    line = b"x-more: " + b"y" * 8000 + b"\r\n"
    try:
        for _ in range(4000):
            connection.sendall(line)
    except OSError:
        return
    expect("taken", "closed")


def bodies_without_end(server):
    """Requests that never finish a body: as many as a client may have."""
    leave_bodies_open(server, 500)


def too_many_at_a_time(server):
    """Requests that never finish a body: more than a client may have."""
    leave_bodies_open(server, 1200)
    threading.Event().wait()


def leave_bodies_open(server, count):
    """Send heads, and wait for each until the server asks for the body, or refuses."""
    head = server.head("telemetry", content_length=1000, expect="100-continue") + b"\r\n"
    for _ in range(count):
        connection = server.open(head)
        connection.recv(12)
        connection.sendall(b"{")
        kept.append(connection)


def invalid_protobuf(server):
    """Bytes that are no message."""
    expect(server.post("forward_backward", b"\xff" * 1000, content_type="application/x-protobuf")[0], 422)


def nested_json(server):
    """Arrays within arrays, more than any parser's stack takes, and just more than the server does."""
    for depth in (200_000, 100):
        body = b'{"tags":' + b"[" * depth + b"]" * depth + b"}"
        expect(server.post("create_session", body)[0], 422)


def a_bomb(server, name="bomb"):
    """A few bytes that decompress to 200 MB."""
    body = (FOLDER / name).read_bytes()
    expect(server.post("forward_backward", body, content_encoding="zstd")[0], 413)


def a_declared_bomb(server):
    """The same, and says so."""
    a_bomb(server, "declared-bomb")


def controls_in_headers(server):
    """Control characters: those that HTTP forbids are no request, the others reach the record."""
    forbidden = server.open(server.head("create_session", x_evil="\x1b[2J\x00") + b"\r\n")
    expect(forbidden.recv(12), b"HTTP/1.1 400")
    forbidden.close()
    allowed = server.open(server.head("create_session", user_agent="\x9b31m\x85<b>", content_length=2) + b"\r\n{}")
    expect(allowed.recv(12), b"HTTP/1.1 200")
    allowed.close()


def a_path_of_controls(server):
    """A path that a report repeats."""
    expect(server.post("%1b%5D0;owned%07%c2%9b2J%e2%80%ae%00<script>", {})[0], 404)


kept = []
ON_THE_SERVER = (
    a_large_body, a_large_body_in_chunks, large_bodies_at_a_time, many_values, many_datums, many_chunks, many_objects,
    many_requests, heads_without_end, one_long_head, bodies_without_end, too_many_at_a_time, invalid_protobuf,
    nested_json, a_bomb, a_declared_bomb, controls_in_headers, a_path_of_controls,
)  # fmt: skip


# --- attacks on the runner ----------------------------------------------------------------------------------------


def a_stray_print(number):
    """What a library prints."""
    write("Downloading: 3%\x1b[2K\r<script>\n")


def a_long_line(number):
    """One line that is no answer for a long time."""
    for _ in range(40):
        write("x" * (1 << 20))


def an_unknown_id(number):
    """An answer to a command that was never sent."""
    answer(number + 100, steps=[])


def an_endless_answer(number):
    """Nested until the parser's stack is gone."""
    write(f'{{"id": {number}, "ok": ' + '{"a":' * 500_000 + "\n")


def a_deep_answer(number):
    """Nested, closed, and deeper than anybody walks."""
    fields = "[" * 500 + "]" * 500
    step = f'{{"step": "model", "status": "ok", "fields": {{"x": {fields}}}}}'
    write(f'{{"id": {number}, "ok": {{"steps": [{step}]}}}}\n')


def bytes_that_are_no_text(number):
    """No UTF-8."""
    os.write(1, b'{"id": 1, "ok": "\xff\xfe\xc3\x28"}\n')


def an_answer_of_another_shape(number):
    """An answer whose values are of other types."""
    answer(number, steps=[{"step": TEXT, "status": TEXT * 1000}])


def a_long_excuse(number):
    """A driver error that every check would repeat."""
    said = {"code": TEXT, "message": TEXT + "m" * 1_000_000, "detail": TEXT + "d" * 1_000_000}
    write(json.dumps({"id": number, "driver_error": said}) + "\n")


def an_exit_without_an_answer(number):
    """As if all were well."""
    os._exit(0)


def an_exit_in_the_middle(number):
    """Half an answer."""
    write(f'{{"id": {number}, "ok": {{"steps": [')
    os._exit(0)


def a_kill(number):
    """Killed from outside."""
    os.kill(os.getpid(), signal.SIGKILL)


def a_stop(number):
    """Stopped for ever, as a debugger does."""
    os.kill(os.getpid(), signal.SIGSTOP)


def nothing_at_all(number):
    """No answer."""
    threading.Event().wait()


def a_closed_stdout(number):
    """Runs on, and cannot answer any more."""
    os.close(1)
    threading.Event().wait()


ON_THE_RUNNER = (
    a_stray_print, a_long_line, an_unknown_id, an_endless_answer, a_deep_answer, bytes_that_are_no_text,
    an_answer_of_another_shape, a_long_excuse, an_exit_without_an_answer, an_exit_in_the_middle, a_kill, a_stop,
    nothing_at_all, a_closed_stdout,
)  # fmt: skip


# --- what holds in spite of an attack -----------------------------------------------------------------------------


def two_answers(number, name):
    """The first counts."""
    answer(number, steps=results(name))
    answer(number, steps=results(name, status="error", kind="transport"))


def an_exit_after_the_answer(number, name):
    """The answer counts."""
    answer(number, steps=results(name))
    os._exit(1)


def noise_on_stderr(number, name):
    """50 MB of it."""
    for _ in range(50):
        os.write(2, b"\xff\x1b[2J" + b"n" * 1_000_000 + b"\n")
    answer(number, steps=results(name))


def children(number, name):
    """A child, a daemon that holds the pipes, and one that holds nothing; and files without end."""
    waits = [sys.executable, "-S", "-c", "import threading; threading.Event().wait()"]
    subprocess.Popen(waits)
    subprocess.Popen(waits, start_new_session=True)
    nowhere = subprocess.DEVNULL
    subprocess.Popen(waits, start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere, cwd="/")
    Path(os.environ["TMPDIR"], "left").write_bytes(b"x" * 1_000_000)
    answer(number, steps=results(name))


def the_runner_killed(number, name):
    """The runner is killed, and what it started goes on."""
    children(number, name)
    runner = os.getppid()
    os.kill(runner, signal.SIGKILL)
    threading.Event().wait()


HARMLESS = (two_answers, an_exit_after_the_answer, noise_on_stderr, children)


def text_for_reports(number, name):
    """A result whose every text is made for terminals, browsers and XML readers."""
    told = {"status": "error", "kind": "transport", "type": TEXT, "message": TEXT, "stacks": TEXT, "raised_at": "await"}
    answer(number, steps=results(name, **told))


def run(command):
    """Do what the last step is called."""
    number, name = command["id"], command["steps"][-1]["id"]
    (FOLDER / "address").write_text(command["base_url"])
    server = Server(command)
    for attack in ON_THE_SERVER:
        if attack.__name__ == name:
            attack(server)
    for attack in ON_THE_RUNNER:
        if attack.__name__ == name:
            attack(number)
            return
    honest(server)
    for attack in (*HARMLESS, text_for_reports, the_runner_killed):
        if attack.__name__ == name:
            attack(number, name)
            return
    last = {"status": "error", "kind": "transport"} if name.startswith("wrong") else {}
    answer(number, steps=results(name, **last))


def hello(command):
    """Say what this is."""
    answer(
        command["id"],
        protocol=command["protocol"],
        nonce=command["nonce"],
        sdk={"name": "hostile", "version": "1.0", "file": TEXT, "digest": TEXT},
        language=TEXT,
        runtime=TEXT,
        contract="",
        capabilities=["create_model", "get_info"],
        max_in_flight=1,
        libraries={"torch": TEXT},
    )


def main():
    """Answer commands, or do what the mode says."""
    (FOLDER / f"pid-{os.getpid()}").touch()
    if MODE == "exits":
        os._exit(0)
    if MODE == "reads-nothing":
        threading.Event().wait()
    if MODE == "writes-without-end":
        while True:
            write("x" * (1 << 16))
    for line in sys.stdin:
        command = json.loads(line)
        if command["cmd"] == "hello":
            hello(command)
            if MODE == "exits-after-hello":
                os._exit(0)
            if MODE == "reads-no-more":
                threading.Event().wait()
        elif command["cmd"] == "run":
            run(command)
        elif command["cmd"] == "shutdown":
            answer(command["id"])
            return


if __name__ == "__main__":
    main()
