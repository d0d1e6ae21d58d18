"""The main job, with real processes: a push waits for the work in flight and loses nothing."""

from __future__ import annotations

import json

from app import App


def test_first_push_starts_the_service(app: App) -> None:
    result = app.push()
    health = app.get()
    assert health["release"] == result.event("push.finished")["hosts"][0]["release"] == app.current()
    assert health["pid"] == result.event("start.finished")["pid"]


def test_task_in_flight_is_finished_and_the_push_waits_for_it(app: App) -> None:
    app.push()
    client = app.task(after=1.0)
    app.release("v2")
    result = app.push()
    answer, _ = client.communicate(timeout=60)
    assert json.loads(answer)["result"] == "done"
    assert result.event("drain.finished")["verdict"] == "clean"
    assert result.event("drain.finished")["waited_s"] > 0.9
    assert [line[:2] for line in app.lines("SIGNALS_FILE")] == [["SIGTERM", "main"]]
    health = app.get()
    assert health["release"] == app.current() == result.event("ready")["release"]
    assert health["pid"] == result.event("start.finished")["pid"]
