"""
Fixtures for every ring: `app` is one app with real processes.

Tests marked `full` repeat with other values what their neighbours show; they run with `--full` only.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from app import App, make_app

# A shell that runs us in the background has it ignored, and so would every command that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup does


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the tests that repeat others with more values")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if not item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """A test that calls what quiets its own process would leave every later test of this worker, and their commands, deaf."""
    yield
    deaf = [number.name for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if not _hears(number)]
    assert not deaf, f"this test left {deaf} ignored"


def _hears(number: signal.Signals) -> bool:
    return signal.getsignal(number) is not signal.SIG_IGN and number not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with make_app(tmp_path) as made:
        yield made
