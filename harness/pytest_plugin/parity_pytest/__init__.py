"""`pytest --parity`: every check of every scenario is a test.

pytest imports this module whenever it starts: it holds two hooks and imports nothing. It is a distribution of its own
beside `harness`: a folder of that name in somebody's repository cannot stand in its way, and an SDK's environment needs
nothing of what parity needs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("parity", "conformance of an SDK of the Tinker training API")
    group.addoption(
        "--parity",
        action="store_true",
        help="Make every check of parity a test, of the driver or the SDK that parity.toml names.",
    )
    group.addoption("--parity-sdk", metavar="SDK", help="The same, of this SDK: tinkex, tinker==0.38.0, ...")
    group.addoption("--parity-driver", metavar="COMMAND", help="The same, of the SDK that this driver of yours drives.")
    group.addoption("--parity-sdk-path", metavar="DIR", help="Drive this checkout, as with parity run --sdk-path.")
    group.addoption(
        "--parity-args",
        metavar="ARGUMENTS",
        help="Further options of parity run, such as '--ledger parity-ledger.toml --slow -k chunks'.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load the rest where checks are asked for."""
    options = ("--parity-sdk", "--parity-driver", "--parity-sdk-path", "--parity-args")
    # Also where a value is empty, as of a variable that is not set: who asks for checks is told why there are none.
    if config.getoption("--parity") or any(config.getoption(name) is not None for name in options):
        from .items import ParityPlugin

        config.addinivalue_line("markers", "parity: a check of an SDK's conformance, made by --parity")
        config.pluginmanager.register(ParityPlugin(config), "parity-checks")
