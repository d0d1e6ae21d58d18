"""Overlap under a real `systemd --user`: one socket unit, instances beside each other, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_systemd import SUPERVISOR

from load import Load
from overlapping import Overlapping, overlapping
from systemd_rig import InsideApp, user_manager


class Inside(InsideApp, Overlapping):
    """Its `deployer` runs beside the manager."""


@pytest.fixture(params=["root", pytest.param("user", marks=pytest.mark.full)])
def app(request: pytest.FixtureRequest) -> Iterator[Inside]:
    with user_manager(throwaway=request.param == "user") as manager:

        def kind(root: Path, port: int) -> Inside:
            made = Inside(root, port)
            made.manager = manager
            return made

        with overlapping(manager.root / "app", kind=kind) as made:
            assert isinstance(made, Inside)
            made.write(target=SUPERVISOR)
            yield made


@pytest.mark.full
@pytest.mark.parametrize("pushes", [2, pytest.param(20, marks=pytest.mark.full)])
def test_pushes_in_a_row_lose_nothing(app: Inside, pushes: int) -> None:
    app.push()
    with Load(app.url, rate=100, kept=8, slow_rate=1, slow_seconds=3) as load:
        for number in range(pushes):
            app.release(f"v{number + 2}")
            result = app.push()
            assert result.event("host.finished")["gap_ms"] == 0
        figures = load.stop()
    assert figures.lost == 0, figures.losses
    assert len(figures.releases) == pushes + 1 and figures.sent > 300


def test_instances_share_one_socket_unit_that_is_never_restarted(app: Inside) -> None:
    app.push()
    before = app.manager.show("t-app.socket", "ActiveEnterTimestampMonotonic", "ActiveState")
    app.release("v2")
    app.push()
    assert app.manager.show("t-app.socket", "ActiveEnterTimestampMonotonic", "ActiveState") == before
    app.run("stop")
    # A connection waits; it does not bring back what was stopped.
    assert app.status()["instance"] is None


def test_broken_release_fails_no_request(app: Inside) -> None:
    app.push()
    served = app.current()
    app.write(run=f'socket = "127.0.0.1:{app.port}"\nrehearse = false', env={"BROKEN": "exit"}, target=SUPERVISOR)
    app.release("v2")
    with Load(app.url, rate=100, kept=8, slow_rate=1, slow_seconds=3) as load:
        result = app.push(check=1)
        figures = load.stop()
    assert figures.lost == 0, figures.losses
    assert set(figures.releases) == {served} and app.current() == served
    assert result.event("push.finished")["status"] == "reverted"
