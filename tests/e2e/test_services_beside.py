"""`[services.NAME]` with `push`: started before the app, stopped after it, kept over a push unless they have changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app import alive, wait_until
from beside import BesideApp, make_beside, services


@pytest.fixture
def app(tmp_path: Path) -> Iterator[BesideApp]:
    with make_beside(tmp_path) as found:
        yield found


def test_life_of_services(app: BesideApp) -> None:
    first = app.push()
    assert app.turns() == ["cache up", "queue up", "app up"]
    before = app.pids()
    assert services(app.status()) == {"cache": "running", "queue": "running"}
    assert [event["service"] for event in first.events if event["event"] == "service.started"] == ["cache", "queue"]

    again = app.push()
    assert again.event("push.finished")["status"] == "unchanged" and app.pids() == before

    app.release("v2")
    second = app.push()
    assert app.pids() == {**before, "app": app.pids()["app"]} and app.pids()["app"] != before["app"]
    assert [event["service"] for event in second.events if event["event"] == "service.kept"] == ["cache", "queue"]
