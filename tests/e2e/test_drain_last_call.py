"""`drain.last_call`: the app's last chance to save its work, shortly before the ceiling."""

from __future__ import annotations

from app import App


def test_last_call_is_made_once_before_force_and_can_save_the_work(app: App) -> None:
    saved = app.root / "saved.txt"
    hook = f'ceiling = "4s"\nlast_call_before = "2s"\nlast_call = "echo $DEPLOYER_PID >> {saved}"'
    app.configure(args=["--on-term", "ignore"], drain=hook)
    app.push()
    pid = app.get()["pid"]
    app.release("v2")
    result = app.push(check=5)
    assert saved.read_text().split() == [str(pid)]
    assert result.event("last_call.finished")["ok"] is True
    names = result.names()
    assert names.index("drain.started") < names.index("last_call.started") < names.index("drain.finished")
    assert 0 < result.event("last_call.started")["left_s"] <= 2.1


def test_a_last_call_that_fails_or_hangs_holds_nothing_up_and_is_told(app: App) -> None:
    app.configure(
        args=["--on-term", "ignore"], drain='ceiling = "3s"\nlast_call_before = "1500ms"\nlast_call = ["sleep", "60"]'
    )
    app.push()
    app.release("v2")
    result = app.push(check=5)
    assert result.event("drain.finished")["waited_s"] < 20
    assert result.event("last_call.finished")["ok"] is False


def test_no_last_call_for_a_process_that_goes_in_time(app: App) -> None:
    app.configure(drain='ceiling = "30s"\nlast_call_before = "5s"\nlast_call = "touch called"')
    app.push()
    app.release("v2")
    assert "last_call.started" not in app.push().names()
