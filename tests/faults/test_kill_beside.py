"""Whoever of the engine dies while services are brought up or put back, the services and the app end on one release, and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from points import Point

from app import alive, read, wait_until
from beside import NAMES, BesideApp, make_beside, services
from victims import unfinished

FULL = pytest.mark.full


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, engine: Path) -> Iterator[BesideApp]:
    with make_beside(tmp_path_factory.mktemp("beside")) as found:
        found.env["PYTHONPATH"] = str(engine)
        found.push()
        yield found


def change(app: BesideApp, broken: bool) -> None:
    """Both services and the app are others now."""
    number = len(list((app.host / "releases").iterdir()))
    for name in NAMES:
        app.is_now(name, f"fine {app.current()} {number}")
    if broken:
        app.is_now("app", "breaks")


def killed_at(app: BesideApp, point: Point) -> int:
    """The exit code of a push whose engine is killed at *point*; the deploy has ended when this returns."""
    pushing = app.start("push", "--json")
    wait_until(lambda: point.reached or pushing.poll() is not None, what="the point, or the end")
    assert point.passed, f"the push never came there: {pushing.communicate()}"
    point.kill()
    pushing.communicate(timeout=60)
    wait_until(lambda: app.run("status", check=0) and not unfinished(app), what="the deploy has ended")
    return int(pushing.returncode)


def one_release_runs(app: BesideApp) -> str:
    """The release in which the app and its services run, each once."""

    def all_run() -> dict[str, Any] | None:
        facts = app.status()
        return facts if facts["instance"] and set(services(facts).values()) == {"running"} else None

    facts = wait_until(all_run, what="the app and its services run")
    found = {one["name"]: one["release"] for one in facts["services"]} | {"app": facts["instance"]["release"]}
    assert set(found) == set(NAMES) and set(found.values()) == {app.current()}, found
    lives = [pid for pid in app.processes() if b"DEPLOYER_INSTANCE=" in read(f"/proc/{pid}/environ") and alive(pid)]
    assert len(lives) == len(NAMES), [read(f"/proc/{pid}/cmdline") for pid in lives]
    return str(app.current())


@pytest.mark.parametrize(
    ("write", "broken"),
    [
        ("service queue begun", False),
        ("service cache coming_back", True),
        *(
            pytest.param(write, broken, marks=FULL)
            for write, broken in [
                ("services begin", False),
                ("service cache begun", False),
                ("service cache gone", False),
                ("service cache ready", False),
                ("service queue ready", False),
                ("services done", False),
                ("switch done", False),
                ("service.started", False),
                ("revert begin", True),
                ("service queue back", True),
                ("service cache back", True),
            ]
        ),
    ],
)
def test_runner_that_dies_leaves_one_release(app: BesideApp, write: str, broken: bool) -> None:
    old = app.current()
    change(app, broken)
    code = killed_at(app, Point(app, "runner", write))
    assert (one_release_runs(app) == old) is (code != 0)
    change(app, False)
    app.push()
    assert one_release_runs(app) != old


@pytest.mark.parametrize(
    "write",
    [
        "UPDATE instances SET pid",
        *(
            pytest.param(write, marks=FULL)
            for write in ("INSERT OR REPLACE INTO signals", "UPDATE drains SET verdict", "COMMIT")
        ),
    ],
)
def test_keeper_of_a_service_that_dies_costs_nothing(app: BesideApp, write: str) -> None:
    old = app.current()
    change(app, False)
    home: Any = SimpleNamespace(host=Path(app.host, "services", "cache"))
    assert killed_at(app, Point(home, "keeper", write)) == 0 and one_release_runs(app) != old
