"""Overlap under load, counted by an independent client that never tries again: nothing is refused, reset or cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import make_app
from load import Load
from overlapping import overlapping
from parts import need

LOAD = {"rate": 100, "kept": 8, "slow_rate": 1, "slow_seconds": 1.5}


@pytest.mark.parametrize("language", ["python", pytest.param("node", marks=pytest.mark.full)])
def test_pushes_in_a_row_lose_nothing(tmp_path: Path, language: str) -> None:
    need("node" if language == "node" else "sh")
    with overlapping(tmp_path, language) as app:
        app.push()
        with Load(app.url, **LOAD) as load:
            for number in range(3):
                app.release(f"v{number + 2}")
                result = app.push()
                assert result.event("host.finished")["gap_ms"] == 0
            figures = load.stop()
        assert figures.lost == 0, figures.losses
        assert len(figures.releases) == 4 and figures.sent > 300


@pytest.mark.parametrize(
    "how", ["exit", "500", *(pytest.param(how, marks=pytest.mark.full) for how in ("hang", "503"))]
)
def test_broken_release_fails_no_request(tmp_path: Path, how: str) -> None:
    with overlapping(tmp_path) as app:
        app.push()
        served = app.current()
        app.broken(how)
        app.release("v2")
        with Load(app.url, **LOAD) as load:
            app.push(check=7)
            figures = load.stop()
        assert figures.lost == 0, figures.losses
        assert set(figures.releases) == {served} and app.current() == served


def test_release_that_dies_before_it_serves_fails_no_request_even_without_a_rehearsal(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        app.push()
        served = app.current()
        app.write(run=f'socket = "127.0.0.1:{app.port}"\nrehearse = false', env={"BROKEN": "exit"})
        app.release("v2")
        with Load(app.url, **LOAD) as load:
            result = app.push(check=1)
            figures = load.stop()
        assert figures.lost == 0, figures.losses
        assert set(figures.releases) == {served} and app.current() == served
        assert result.event("push.finished")["status"] == "reverted"


def test_restart_with_a_held_socket_refuses_nobody_and_its_stall_is_told(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        app.write(strategy="restart", env={"BOOT": "0.5"})
        app.push()
        app.release("v2")
        with Load(app.url, rate=100, kept=0) as load:
            result = app.push()
            figures = load.stop()
        assert figures.lost == 0, figures.losses
        gap = result.event("host.finished")["gap_ms"]
        assert gap > 400 and abs(figures.longest_stall_ms - gap) < 0.5 * gap + 500


def test_quiet_first_makes_the_gap_of_a_restart_a_boot_and_not_a_drain(tmp_path: Path) -> None:
    """Asked to take no new work, the old process still answers; only once it is idle is it asked to stop."""
    with make_app(tmp_path) as app:
        health = f'url = "{app.url}/health"\ninterval = "50ms"\nready_within = "10s"'
        app.configure(
            run=f'socket = "127.0.0.1:{app.port}"', args=["--quiet-signal", "SIGUSR1"], health=health,
            drain='quiet = "SIGUSR1"\nwait_idle = "30s"',
        )  # fmt: skip
        app.push()
        client = app.task(5)
        app.release("v2")
        with Load(f"{app.url}/", rate=50, kept=0, fresh_share=1) as load:
            result = app.push()
            figures = load.stop()
        assert "done" in client.communicate(timeout=10)[0]
        assert figures.lost == 0, figures.losses
        drained = result.event("drain.finished")["waited_s"]
        assert result.event("host.finished")["gap_ms"] < 4000 and drained < 4
        assert figures.longest_stall_ms < 4000
