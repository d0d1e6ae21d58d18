"""Another version of deployer takes over a keeper that runs: same process, same app, same record."""

from __future__ import annotations

import shutil

from app import SOURCE, App


def newer(app: App) -> dict[str, str]:
    """The environment of a deployer whose engine differs from this one's."""
    copy = app.root / "newer"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "deployer" / "host" / "clock.py").open("a") as engine:
        engine.write("\n# a newer engine\n")
    return {"PYTHONPATH": str(copy)}


def test_newer_engine_takes_over_the_keeper_and_its_record_unharmed(app: App) -> None:
    app.push()
    keeper = app.status()["keeper"]["pid"]
    client = app.task(after=0.7)
    app.release("v2")
    result = app.push(env=newer(app))
    client.communicate(timeout=60)
    assert result.event("drain.finished")["verdict"] == "clean"
    assert [line[0] for line in app.lines("SIGNALS_FILE")] == ["SIGTERM"]
    assert (app.host / ".deployer" / "state.db").read_bytes().startswith(b"SQLite format 3\0")
    facts = app.status()
    assert facts["keeper"]["pid"] == keeper, app.engine_log()
    assert len(facts["releases"]) == 2 and facts["current"] == app.get()["release"]
