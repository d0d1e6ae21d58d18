"""Fixtures of the faults: an engine that can be stopped at any write, and an app that is run by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from points import instrumented
from scenario import prepare
from sharing import make_sharing

from app import App


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return instrumented(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def served(app: App, engine: Path) -> Iterator[App]:
    """An app whose first release serves."""
    prepare(app, engine)
    yield app


@pytest.fixture
def shared(tmp_path: Path, engine: Path) -> Iterator[App]:
    """An app that overlaps, whose first release serves."""
    with make_sharing(tmp_path / "shared") as app:
        prepare(app, engine)
        yield app
