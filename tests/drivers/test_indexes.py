"""pip's package sources, said in uv's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.drivers import indexes
from harness.drivers.indexes import pip_settings, uv_settings

LISTED = """\
:env:.index-url='https://variable.invalid/simple'
global.extra-index-url='https://a.invalid/simple https://b.invalid/simple'
global.index-url='https://file.invalid/simple'
install.find-links='/wheels'
global.find-links='/other'
freeze.index-url='https://freeze.invalid/simple'
"""


def test_settings_come_from_files_sections_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables win over the section of `pip install`, that one over the global section; other commands don't count."""
    monkeypatch.setattr(indexes, "_run_pip_config", lambda _: LISTED)
    assert pip_settings({}) == {
        "index-url": "https://variable.invalid/simple",
        "extra-index-url": "https://a.invalid/simple https://b.invalid/simple",
        "find-links": "/wheels",
    }
    assert pip_settings({"PIP_INDEX_URL": "https://now.invalid"})["index-url"] == "https://now.invalid"


def test_the_pip_of_this_interpreter_is_asked(tmp_path: Path) -> None:
    """A configuration file that pip reads is found; an interpreter without pip has variables only."""
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nindex-url = https://mirror.invalid/simple\n")
    found = pip_settings({"PIP_CONFIG_FILE": str(configuration), "HOME": str(tmp_path), "PIP_CERT": "/cert.pem"})
    assert found["cert"] == "/cert.pem"
    assert found.get("index-url", "https://mirror.invalid/simple") == "https://mirror.invalid/simple"


def test_every_source_is_translated(tmp_path: Path) -> None:
    """Index, further indexes, folders, trust and certificates each have their variable of uv."""
    pip = {
        "index-url": "https://main.invalid/simple",
        "extra-index-url": f"https://a.invalid/simple\n{tmp_path.as_uri()}",
        "find-links": f"{tmp_path} https://wheels.invalid",
        "trusted-host": "main.invalid a.invalid",
        "no-index": "true",
        "cert": "/cert.pem",
    }
    assert uv_settings({}, pip) == {
        "UV_DEFAULT_INDEX": "https://main.invalid/simple",
        "UV_INDEX": f"https://a.invalid/simple {tmp_path.as_uri()}",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{tmp_path},https://wheels.invalid",
        "UV_INSECURE_HOST": "main.invalid a.invalid",
        "UV_NO_INDEX": "1",
        "SSL_CERT_FILE": "/cert.pem",
    }


def test_local_sources_that_do_not_exist_are_left_out(tmp_path: Path) -> None:
    """Where pip warns, uv would fail."""
    absent = tmp_path / "absent"
    pip = {"extra-index-url": absent.as_uri(), "find-links": f"{absent} {absent.as_uri()}"}
    assert uv_settings({}, pip) == {}


@pytest.mark.parametrize(
    "variable", ["UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_CONFIG_FILE", "UV_OFFLINE"]
)
def test_sources_of_uv_win(variable: str) -> None:
    """When uv has been told a source, none of pip's is added."""
    assert uv_settings({variable: "x"}, {"index-url": "https://main.invalid/simple"}) == {}


def test_a_certificate_of_the_user_is_kept() -> None:
    """SSL_CERT_FILE is set from pip's only where it is not set."""
    assert uv_settings({"SSL_CERT_FILE": "/mine.pem"}, {"cert": "/pip.pem"}) == {}
