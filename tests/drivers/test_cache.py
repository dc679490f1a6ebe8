"""Cached directories appear whole or not at all, whoever builds, dies or builds at the same time."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from harness.drivers.cache import cache_directory, cached
from harness.errors import ParityError


def complete(place: Path) -> bool:
    """Whether a directory was built to its end."""
    return (place / "stamp").is_file()


def build(site: Path) -> None:
    """Build a directory."""
    (site / "stamp").write_text("")


def remains(folder: Path) -> list[str]:
    """Return what lies beside the cached directories and the locks."""
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


def test_a_directory_is_built_once(tmp_path: Path) -> None:
    """The second time nothing is built."""
    place = cached(tmp_path / "x", valid=complete, build=build)
    assert complete(place)

    def never(site: Path) -> None:
        raise AssertionError(site)

    assert cached(place, valid=complete, build=never) == place


def test_an_invalid_directory_is_replaced(tmp_path: Path) -> None:
    """What is there but not valid makes way, files and all."""
    place = tmp_path / "x"
    place.mkdir()
    (place / "half").write_text("")
    cached(place, valid=complete, build=build)
    assert [entry.name for entry in place.iterdir()] == ["stamp"]
    assert remains(tmp_path) == []


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The error goes on, the place stays empty, and the next build succeeds."""

    def fail(site: Path) -> None:
        (site / "half").write_text("")
        raise ParityError("environment-broken", "no", hint="no")

    with pytest.raises(ParityError):
        cached(tmp_path / "x", valid=complete, build=fail)
    assert not (tmp_path / "x").exists()
    assert remains(tmp_path) == []
    assert complete(cached(tmp_path / "x", valid=complete, build=build))


def test_a_build_that_is_killed_leaves_nothing_half_used(tmp_path: Path) -> None:
    """After SIGKILL in the middle of a build the place is not there; the next build clears the site away."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from harness.drivers.cache import cached

        def build(site):
            (site / "stamp").write_text("")
            os.kill(os.getpid(), signal.SIGKILL)

        cached(Path(sys.argv[1]), valid=Path.exists, build=build)
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "x")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "x").exists()
    assert len(remains(tmp_path)) == 1
    assert complete(cached(tmp_path / "x", valid=complete, build=build))
    assert remains(tmp_path) == []


def test_two_builders_build_once(tmp_path: Path) -> None:
    """Who comes while another builds waits, and finds the directory built."""
    builds = []
    entered, go_on = threading.Event(), threading.Event()

    def slow(site: Path) -> None:
        builds.append(site)
        entered.set()
        assert go_on.wait(60)
        build(site)

    def work() -> None:
        found.append(cached(tmp_path / "x", valid=complete, build=slow))

    found: list[Path] = []
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert entered.wait(60)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert found == [tmp_path / "x"] * 3
    assert len(builds) == 1


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """The message says where, the hint what to set."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ParityError) as caught:
        cached(tmp_path / "file" / "x", valid=complete, build=build)
    assert caught.value.code == "cache-unwritable"
    assert "PARITY_CACHE_DIR" in caught.value.hint


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PARITY_CACHE_DIR wins; else the platform's cache directory, of which XDG_CACHE_HOME must be absolute."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory({"PARITY_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_directory({"XDG_CACHE_HOME": "/b"}) == Path("/b/parity")
    assert cache_directory({"XDG_CACHE_HOME": "b"}) == tmp_path / ".cache" / "parity"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_directory({}) == tmp_path / "Library" / "Caches" / "parity"
