"""A driver process under every misbehaviour: what is reported, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from harness.drivers.failure import DriverFailure, Patience
from harness.drivers.process import DriverProcess, running
from harness.drivers.protocol import RunAnswer
from harness.drivers.scratch import Scratch, clear_leftovers
from harness.drivers.spec import DriverSpec, base_environment
from harness.errors import ParityError
from harness.suite.data import DatumValue, InputValue

FAKE = Path(__file__).with_name("fake_driver.py")
PATIENCE = Patience(hello=20.0, answer=0.3, evaluate=0.3, end=5.0, last_words=5.0)
NO_FAREWELL = Patience(hello=20.0, leave=0.3, end=5.0, last_words=5.0)
IMPATIENT = Patience(hello=20.0, answer=0.3, evaluate=0.3, end=0.2, last_words=5.0)
T = TypeVar("T")


def spec(mode: str, **changes: Any) -> DriverSpec:
    """Return the specification of a fake driver in `mode`."""
    argv = (sys.executable, "-s", str(FAKE), mode)
    return DriverSpec(**{"argv": argv, "name": "fake", "version": "1.0", "env": base_environment(), **changes})


async def run(driver: DriverProcess, *, timeout: float = 10.0, data: Any = None) -> RunAnswer:  # noqa: ASYNC109 - of the run
    """Send a run that means nothing."""
    return await driver.run(
        base_url="http://127.0.0.1:1", api_key="tml-x", steps=[], data=data or {}, losses={}, timeout=timeout
    )


def drive(mode: str, use: Callable[[DriverProcess], Awaitable[T]], patience: Patience = PATIENCE) -> T:
    """Start a fake driver, use it, stop it; afterwards its whole process group and its scratch directory are gone."""

    async def main() -> T:
        async with running(spec(mode), patience=patience) as driver:
            started.append(driver)
            return await use(driver)

    started: list[DriverProcess] = []
    try:
        return asyncio.run(main())
    finally:
        for driver in started:
            assert is_gone(driver.pid)
            assert not driver._scratch.path.exists()


def is_gone(group: int) -> bool:
    """Whether the group's leader was reaped, and each other process of it ends without further ado."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, parent, of_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) != group:
                continue
            if int(parent) == os.getpid() or (state != "Z" and not ends(int(stat.parent.name))):
                return False
    return True


def ends(pid: int) -> bool:
    """Wait for the end of a process that is not a child: one that was killed needs a moment."""
    process = os.pidfd_open(pid)
    try:
        return bool(select.select([process], [], [], 20.0)[0])
    finally:
        os.close(process)


def failure(mode: str, *, timeout: float = 10.0) -> DriverFailure:
    """Return the failure that a run on a fake driver ends in."""

    async def use(driver: DriverProcess) -> DriverFailure:
        with pytest.raises(DriverFailure) as caught:
            await run(driver, timeout=timeout)
        assert driver.tainted is (caught.value.kind != "driver_error")
        return caught.value

    return drive(mode, use)


def test_a_good_driver_answers_and_ends_without_a_failure() -> None:
    """hello, run and shutdown succeed; unknown keys of a newer driver are ignored."""

    async def use(driver: DriverProcess) -> DriverProcess:
        assert driver.hello.sdk.name == "fake"
        assert [step.step for step in (await run(driver)).steps] == ["told"]
        assert not driver.tainted
        return driver

    assert drive("good", use).failure is None


@pytest.mark.parametrize(
    ("mode", "status", "message"),
    [("leaves", "ok", ""), ("leaves-badly", "error", "exited with status 5"), ("stays", "hang", "")],
)
def test_the_end_of_the_process_is_the_result_of_exit(mode: str, status: str, message: str) -> None:
    """A process that was told to end and does is no failure; one that stays hangs, and says where."""

    async def use(driver: DriverProcess) -> DriverProcess:
        answer = await driver.run(
            base_url="http://127.0.0.1:9", api_key="tml-x", steps=[{"do": "exit"}], data={}, losses={}, timeout=10.0
        )
        assert [(step.step, step.status, step.message) for step in answer.steps] == [("exit", status, message)]
        assert ("fake_driver.py" in answer.steps[0].stacks) is (status == "hang")
        assert driver.tainted
        return driver

    patience = NO_FAREWELL if mode == "stays" else PATIENCE
    assert (drive(mode, use, patience).failure is None) is (status == "ok")


def test_the_environment_is_built_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the harness's environment reaches a driver; HOME and TMPDIR are scratch directories of the process."""
    hostile = {
        "TINKER_API_KEY": "tml-real",
        "TINKER_BASE_URL": "https://example.invalid",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "all_proxy": "http://127.0.0.1:9",
        "PYTHONPATH": "/hostile",
        "PYTHONSTARTUP": "/hostile.py",
        "LD_PRELOAD": "",
        "HOME": "/home/maintainer",
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)

    async def use(driver: DriverProcess) -> dict[str, Any]:
        return (await run(driver)).steps[0].fields

    told = drive("good", use)
    environment = told["environment"]
    environment.pop("__CF_USER_TEXT_ENCODING", None)  # macOS adds it to every process
    assert set(environment) == {*base_environment(), "HOME", "TMPDIR"}
    assert environment["HOME"] == told["cwd"]
    assert not {*hostile.values()} & {*environment.values()}


def test_data_arrives_inline_and_by_file() -> None:
    """A small array stands on the line; a large one lies in a file that exists during the run and not after it."""
    large = np.arange(5000, dtype=np.int64)
    small = InputValue(array=np.array([1.5, -0.0], dtype=np.float32), container="native")

    async def use(driver: DriverProcess) -> dict[str, Any]:
        told = (await run(driver, data={"d": [DatumValue(tokens=large, inputs={"weights": small})]})).steps[0].fields
        assert not any(driver._scratch.path.glob("run-*"))
        datum: dict[str, Any] = told["data"]["d"][0]
        return datum

    datum = drive("good", use)
    assert datum["tokens"]["file"].endswith("run-2.bin")
    assert datum["tokens"]["shape"] == [5000]
    assert "data" not in datum["tokens"]
    assert datum["inputs"]["weights"] == {
        "dtype": "float32",
        "shape": [2],
        "data": [1.5, "-0.0"],
        "container": "native",
    }


def test_answers_are_matched_by_id() -> None:
    """Several runs in flight get their own answers, in whatever order the driver answers."""

    async def use(driver: DriverProcess) -> list[str]:
        answers = await asyncio.gather(*(run(driver) for _ in range(3)))
        return [answer.steps[0].step for answer in answers]

    assert drive("reversed", use) == ["2", "3", "4"]


def test_a_crash_is_reported_with_status_and_stderr() -> None:
    """The exit status and the last lines of stderr belong to the failure."""
    found = failure("crash")
    assert (found.kind, found.message) == ("crash", "exited with status 7")
    assert found.stderr_tail == "last words\n"


def test_a_killed_driver_names_the_signal() -> None:
    """A driver that was killed says by what."""
    found = failure("killed")
    assert (found.kind, found.message) == ("crash", "killed by SIGKILL")


def test_a_driver_that_closes_stdout_has_crashed() -> None:
    """A process that runs on without a stdout is ended and reported."""

    async def use(driver: DriverProcess) -> DriverFailure:
        with pytest.raises(DriverFailure) as caught:
            await run(driver)
        return caught.value

    found = drive("closed", use, Patience(hello=20.0, last_words=0.2))
    assert (found.kind, found.message) == ("crash", "closed its stdout and runs on")


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("garbage", "a line on stdout that is no answer"),
        ("half", "exactly one of ok and driver_error"),
        ("other-shape", "an answer that is no RunAnswer"),
        ("unknown-id", "an answer to command 102, never sent"),
        ("long-line", "a line of more than 16 MiB"),
        ("nested", "an answer that nests more than 64 deep"),
        ("endless-nesting", "a line on stdout that is no answer"),
    ],
)
def test_garbage_is_reported(mode: str, message: str) -> None:
    """Anything on stdout that is not the answer to an open command ends the driver as garbage."""
    found = failure(mode)
    assert found.kind == "garbage"
    assert message in found.message


def test_an_answer_that_is_cut_off_is_a_crash() -> None:
    """A process that ends in the middle of a line has crashed, whatever it had written."""
    found = failure("cut-off")
    assert (found.kind, found.message) == ("crash", "exited with status 0")


def test_what_a_driver_says_is_kept_in_bounds() -> None:
    """A driver's message and details are repeated by every check of a scenario, and so are shortened."""
    found = failure("wordy")
    assert found.message == "long: " + "x" * 1994 + "... (100006 characters)"
    assert found.stacks == "y" * (16 << 10)


def test_a_second_answer_is_garbage_for_the_next_run() -> None:
    """The first answer counts; the second ends the driver, and the next run says so."""

    async def use(driver: DriverProcess) -> str:
        await run(driver)
        with pytest.raises(DriverFailure, match="garbage: a second answer to command 2"):
            await run(driver)
        assert driver.failure is not None
        return driver.failure.kind

    assert drive("twice", use) == "garbage"


def test_silence_ends_with_stacks() -> None:
    """No answer within timeout plus patience: the process is aborted, and Python's stacks are part of the failure."""
    found = failure("silence", timeout=0.1)
    assert found.kind == "silence"
    assert found.message == "no answer to run within 0.4 s"
    assert "fake_driver.py" in found.stacks
    assert "in run" in found.stacks


def test_a_driver_error_leaves_the_driver_usable() -> None:
    """What a driver could not do is a failure of that run alone."""

    async def use(driver: DriverProcess) -> DriverFailure | None:
        for _ in range(2):
            with pytest.raises(DriverFailure, match="no-such-step: cannot do that") as caught:
                await run(driver)
            assert caught.value.stacks == "Traceback ..."
        return driver.failure

    assert drive("driver-error", use) is None


def test_stderr_is_kept_in_bounds() -> None:
    """Only the end of a talkative driver's stderr is kept."""
    found = failure("talkative")
    assert found.stderr_tail.endswith("noise\nthe end\n")
    assert len(found.stderr_tail) == 64 << 10


def test_a_hang_taints_the_process() -> None:
    """After a call that hangs the process answers, but should not be used again."""

    async def use(driver: DriverProcess) -> bool:
        await run(driver)
        return driver.tainted

    assert drive("hang", use)


def test_a_bad_end_is_remembered() -> None:
    """A driver that dies after shutdown has failed, though every run was answered."""

    async def use(driver: DriverProcess) -> DriverProcess:
        await run(driver)
        return driver

    found = drive("dies-at-exit", use).failure
    assert found is not None
    assert (found.kind, found.message) == ("crash", "exited with status 3 after shutdown")
    assert found.stderr_tail == "cleanup failed\n"


def test_a_driver_that_ignores_shutdown_and_sigterm_is_killed() -> None:
    """Neither shutdown, nor the end of stdin, nor SIGTERM ends it: SIGKILL does, and the failure says so."""

    async def use(driver: DriverProcess) -> DriverProcess:
        await run(driver)
        return driver

    found = drive("stubborn", use, IMPATIENT).failure
    assert found is not None
    assert (found.kind, found.message) == ("silence", "still running 0.2 s after shutdown and end of stdin")


def test_a_driver_that_never_says_hello_is_silent() -> None:
    """A driver that reads nothing is ended while starting."""

    async def main() -> None:
        with pytest.raises(DriverFailure, match="no answer to hello within"):
            await DriverProcess.start(spec("deaf"), patience=Patience(hello=0.3))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("mode", "code"), [("other-major", "driver-protocol"), ("other-sdk", "sdk-mismatch"), ("stale", "")]
)
def test_a_driver_that_is_another_is_refused(mode: str, code: str) -> None:
    """Another major version, another SDK version and a stale nonce are refused at hello; the process is gone."""

    async def main() -> None:
        with pytest.raises((ParityError, DriverFailure)) as caught:
            await DriverProcess.start(spec(mode))
        assert getattr(caught.value, "code", "") == code

    asyncio.run(main())


def test_a_newer_minor_version_is_accepted() -> None:
    """Minor versions only add keys, which both sides ignore when they do not know them."""

    async def use(driver: DriverProcess) -> str:
        return driver.hello.protocol

    assert drive("newer-minor", use) == "1.9"


def test_code_from_elsewhere_is_refused(tmp_path: Path) -> None:
    """When a source directory was asked for, a driver that imported another file is refused."""

    async def main() -> None:
        with pytest.raises(ParityError) as caught:
            await DriverProcess.start(spec("good", source_dir=tmp_path))
        assert caught.value.code == "sdk-path-mismatch"
        driver = await DriverProcess.start(spec("good", source_dir=FAKE.parent))
        await driver.stop()

    asyncio.run(main())


def test_a_program_that_cannot_be_started_is_an_error() -> None:
    """A missing program is reported with a code, not as a crash."""

    async def main() -> None:
        with pytest.raises(ParityError) as caught:
            await DriverProcess.start(spec("good", argv=("/nonexistent/driver",)))
        assert caught.value.code == "driver-not-started"

    asyncio.run(main())


def test_children_of_a_driver_end_with_it() -> None:
    """A process that the driver started and left is ended with the group."""

    async def use(driver: DriverProcess) -> None:
        child = (await run(driver)).steps[0].fields["pid"]
        assert os.getpgid(child) == driver.pid

    drive("grandchild", use)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="a process out of its group is found in /proc")
def test_a_daemon_of_a_driver_ends_with_it() -> None:
    """A process that has left the driver's group, session and pipes is found by its environment and ended."""

    async def use(driver: DriverProcess) -> int:
        daemon: int = (await run(driver)).steps[0].fields["pid"]
        assert os.getpgid(daemon) != driver.pid
        return daemon

    daemon = drive("daemon", use)
    with suppress(ProcessLookupError):
        assert ends(daemon), "the daemon still runs"


def test_cancelling_leaves_nothing_behind() -> None:
    """A run that is cancelled (as Ctrl-C does) ends the process before the cancellation goes on."""

    async def main() -> int:
        open_run = asyncio.Event()
        pids: list[int] = []

        async def use() -> None:
            async with running(spec("silence")) as driver:
                pids.append(driver.pid)
                open_run.set()
                await run(driver)

        task = asyncio.create_task(use())
        await open_run.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pids[0]

    assert is_gone(asyncio.run(main()))


def test_a_cancelled_run_taints_but_its_late_answer_is_no_garbage() -> None:
    """The answer to a run that was given up is dropped."""

    async def use(driver: DriverProcess) -> DriverFailure | None:
        given_up = asyncio.create_task(run(driver))
        others = [asyncio.create_task(run(driver)) for _ in range(1)]
        await asyncio.sleep(0)  # both are written, neither can be answered before the third
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert driver.tainted
        others.append(asyncio.create_task(run(driver)))
        await asyncio.gather(*others)
        return driver.failure

    assert drive("reversed", use) is None


def test_a_driver_does_not_outlive_a_killed_harness(tmp_path: Path) -> None:
    """A harness killed with SIGKILL leaves a driver that exits by itself; the next harness removes its folder."""
    script = tmp_path / "killed.py"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    script.write_text(
        textwrap.dedent(
            f"""
            import asyncio, os, signal, sys
            from harness.drivers.process import DriverProcess
            from harness.drivers.spec import DriverSpec, base_environment

            async def main():
                argv = (sys.executable, {str(FAKE)!r}, "good")
                driver = await DriverProcess.start(
                    DriverSpec(argv=argv, name="fake", version="1.0", env=base_environment())
                )
                print(driver.pid, driver._scratch.path, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

            asyncio.run(main())
            """
        )
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == -signal.SIGKILL
    pid, scratch = done.stdout.split()
    with suppress(ProcessLookupError):
        assert ends(int(pid)), "the driver still runs"
    assert Path(scratch).parent == temporary
    clear_leftovers(temporary)
    assert not any(temporary.iterdir())


def test_only_what_a_dead_harness_left_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a living harness, other folders and links stay; the processes that a dead one left are ended."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = Scratch.make()
    (tmp_path / "parity-other").mkdir()
    (tmp_path / "parity-run-link").symlink_to(tmp_path / "parity-other")
    leftover = tmp_path / "parity-run-dead"
    leftover.mkdir()
    waits = [sys.executable, "-c", "import threading; print('up', flush=True); threading.Event().wait()"]
    left = subprocess.Popen(
        waits,
        env={**base_environment(), "HOME": str(leftover / "home")},
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    assert left.stdout is not None
    try:
        assert left.stdout.readline() == b"up\n"
        clear_leftovers(tmp_path)
        stayed = {path.name for path in tmp_path.iterdir()}
        assert stayed == {living.path.name, "parity-other", "parity-run-link"}
        if Path("/proc/self/environ").exists():
            assert left.wait(timeout=20) == -signal.SIGKILL
    finally:
        left.kill()
        left.wait()
        left.stdout.close()
        living.remove()
    assert not living.path.exists()
