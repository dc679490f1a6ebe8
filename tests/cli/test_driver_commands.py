"""Commands about drivers of one's own, on real processes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PARITY = [sys.executable, "-m", "harness"]
ROOT = Path(__file__).parents[2]


def _parity(*arguments, cwd, **environment):
    return subprocess.run(
        [*PARITY, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=cwd,
        env=environment or None,
    )


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory):
    """Write the Python skeleton as a user does."""
    folder = tmp_path_factory.mktemp("project") / "driver"
    done = _parity("new-driver", "python", "driver", "--name", "my-sdk", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_skeleton_passes_the_first_scenario(skeleton, tmp_path):
    """The report has the driver's own name; what it can do holds, and what it cannot is unsupported."""
    report = tmp_path / "report.json"
    command = f"{sys.executable} driver.py"
    done = _parity(
        "run", "--driver", command, "-k", "session/lifecycle or metrics/optim-step", "--json", str(report), cwd=skeleton
    )
    assert done.returncode == 1, done.stderr  # the contract requires what the other scenario needs
    document = json.loads(report.read_text())
    assert document["sdk"]["name"] == "my-sdk"
    outcomes = {}
    for result in document["results"]:
        outcomes.setdefault(result["scenario"], set()).add(result["outcome"])
    assert outcomes == {"session/lifecycle": {"pass"}, "metrics/optim-step": {"unsupported"}}
    assert _parity("run", "--driver", command, "-k", "session/lifecycle", cwd=skeleton).returncode == 0


def test_parity_toml_names_the_driver(skeleton, tmp_path):
    """[driver] is used from any folder below it; --sdk on the command line is the way around it."""
    project = tmp_path / "project"
    shutil.copytree(skeleton, project / "driver")
    settings = f'[driver]\ncommand = "{sys.executable} driver/driver.py"\n'
    (project / "parity.toml").write_text(settings)
    done = _parity("run", "-k", "session/lifecycle", cwd=project / "driver")
    assert (done.returncode, "my-sdk 0.1.0 against tinker-0.15.0" in done.stdout) == (0, True), done.stderr
    done = _parity("run", "--sdk", "reference==0.15.0", "-k", "session/lifecycle", cwd=project)
    assert (done.returncode, "reference 0.15.0" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run"], "sdk-missing"),
        (["run", "--driver", "no-such-program"], "driver-missing"),
        (["run", "--driver", "'"], "driver-malformed"),
        (["run", "--driver", f"{sys.executable} -c pass"], "driver-failed"),
        (["check-driver"], "sdk-missing"),
        (["check-driver", "no-such-program"], "driver-missing"),
        (["new-driver", "cobol", "there"], "skeleton-unknown"),
        (["drive", "no/such", "--attach"], "scenario-unknown"),
        (["drive", "no/such", "--print"], "scenario-unknown"),
    ],
)
def test_what_cannot_be_is_an_error_with_a_code(tmp_path, arguments, code):
    """Exit status 2, the code and a hint, on stderr."""
    done = _parity(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert f"error [{code}]" in done.stderr
    assert "hint" in done.stderr


def test_check_driver_says_what_it_found(skeleton, tmp_path):
    """Status 0 and nothing for the skeleton; status 1, the rule and what was seen for one that echoes no nonce."""
    done = _parity("check-driver", f"{sys.executable} driver.py", cwd=skeleton)
    assert (done.returncode, "13 exams, nothing found" in done.stdout) == (0, True), done.stdout
    wrong, found = tmp_path / "wrong", tmp_path / "found.json"
    shutil.copytree(skeleton, wrong)
    file = wrong / "driver.py"
    file.write_text(file.read_text().replace('command["nonce"]', '"always the same"'))
    done = _parity("check-driver", f"{sys.executable} driver.py", "--json", str(found), cwd=wrong)
    assert done.returncode == 1
    assert "nonce-not-echoed (hello)\n  rule      the answer to hello has the nonce of its command" in done.stdout
    document = json.loads(found.read_text())
    assert [finding["code"] for finding in document["findings"]] == ["nonce-not-echoed"]
    assert document["driver"]["sdk"]["name"] == "my-sdk"


def test_a_driver_is_attached_and_judged(skeleton):
    """The runner says where its pipes are, waits, and judges whoever is connected to them."""
    runner = subprocess.Popen(
        [*PARITY, "drive", "session/lifecycle", "--attach"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        pipes = _pipes(runner)
        driver = subprocess.run(
            ["/bin/sh", "-c", f"exec {sys.executable} driver.py {pipes}"], cwd=skeleton, check=False, timeout=120
        )
        said, complaints = runner.communicate(timeout=120)
    finally:
        runner.kill()
        runner.wait()
    assert driver.returncode == 0
    assert (runner.returncode, "11 pass" in said) == (0, True), said + complaints
    assert "my-sdk 0.1.0 against tinker-0.15.0" in said
    assert not Path(pipes.split()[1]).parent.exists()


def test_an_attached_driver_that_ends_early_is_an_error_of_the_driver(skeleton):
    """A process that is gone in the middle of a run is said to be gone; the run ends."""
    runner = subprocess.Popen(
        [*PARITY, "drive", "session/lifecycle", "--attach"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    program = "import driver, os; driver.COMMANDS['run'] = lambda _: os._exit(3); driver.main()"
    try:
        pipes = _pipes(runner)
        subprocess.run(
            ["/bin/sh", "-c", f'exec {sys.executable} -c "{program}" {pipes}'], cwd=skeleton, check=False, timeout=120
        )
        said, complaints = runner.communicate(timeout=120)
    finally:
        runner.kill()
        runner.wait()
    assert runner.returncode == 1, said + complaints
    assert "the driver failed (crash): closed its stdout" in said


def test_waiting_for_a_driver_can_be_interrupted():
    """Ctrl-C ends the wait with status 2, and the pipes are gone; also where a script began it in the background."""
    runner = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *PARITY, "drive", "session/lifecycle", "--attach"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        pipes = _pipes(runner)
        runner.send_signal(signal.SIGINT)
        _, complaints = runner.communicate(timeout=60)
    finally:
        runner.kill()
        runner.wait()
    assert (runner.returncode, "interrupted" in complaints) == (2, True), complaints
    assert not Path(pipes.split()[1]).parent.exists()


def test_an_examination_that_is_interrupted_leaves_no_process(skeleton, tmp_path):
    """Ctrl-C in the middle of an exam ends the driver, however it was begun."""
    noted = tmp_path / "pid"
    program = f"import driver, os; open({str(noted)!r}, 'w').write(str(os.getpid())); driver.main()"
    wrapper = tmp_path / "driver.sh"
    wrapper.write_text(f'#!/bin/sh\ncd {skeleton}\nexec {sys.executable} -c "{program}"\n')
    wrapper.chmod(0o755)
    examiner = subprocess.Popen(
        [*PARITY, "check-driver", str(wrapper)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        for line in examiner.stdout:
            if "server-gone" in line:
                break
        examiner.send_signal(signal.SIGINT)
        examiner.communicate(timeout=60)
    finally:
        examiner.kill()
        examiner.wait()
    assert examiner.returncode == 2
    assert not Path(f"/proc/{noted.read_text()}").exists()


def _pipes(runner):
    for line in runner.stderr:
        if found := re.search(r"YOUR_DRIVER (< \S+ > \S+)", line):
            return found[1]
    raise AssertionError(f"the runner ended with status {runner.wait()}")


def test_printed_lines_drive_a_driver_by_hand(skeleton):
    """What --print writes is what a driver answers, for as long as its stdin is open."""
    server = subprocess.Popen([*PARITY, "serve"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        url = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        lines = _parity("drive", "session/lifecycle", "--print", "--base-url", url, cwd=skeleton)
        assert lines.returncode == 0, lines.stderr
        driver = subprocess.Popen(
            [sys.executable, "driver.py"], cwd=skeleton, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with driver:
            driver.stdin.write(lines.stdout)
            driver.stdin.flush()
            answers = [json.loads(driver.stdout.readline()) for _ in lines.stdout.splitlines()]
            driver.stdin.close()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    steps = answers[1]["ok"]["steps"]
    assert [(step["step"], step["status"]) for step in steps] == [("model", "ok"), ("info", "ok"), ("close", "skipped")]


def test_drive_wants_to_know_what_to_do(tmp_path):
    """Neither --print nor --attach, and both: the option parser's error."""
    for arguments in ([], ["--print", "--attach"]):
        done = _parity("drive", "session/lifecycle", *arguments, cwd=tmp_path)
        assert (done.returncode, "--print or --attach" in done.stderr) == (2, True)
