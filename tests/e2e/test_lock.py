"""One deploy at a time: the next one is told who holds the lock, or waits; a killed holder never leaves it locked."""

from __future__ import annotations

import json
import os
import signal

from app import App, Result, alive, heard, read, wait_until
from evidence import faults, running, signals, untouched

SLOW_BUILD = "artifact = 'dist'\ncommand = 'touch building; until test -e built; do sleep 0.05; done'"


def building(app: App) -> bool:
    """Whether the build of a push with SLOW_BUILD has begun."""
    return (app.root / "building").exists()


def let_it_end(app: App) -> None:
    """The build has done its work."""
    (app.root / "built").touch()


def agent_of(client: int) -> int:
    """The pid of the engine that *client* has started; 0 while there is none."""
    return next((int(pid) for pid in read(f"/proc/{client}/task/{client}/children").split()), 0)


def opened(pid: int) -> list[str]:
    """The names of the files that *pid* has open."""
    return [os.path.basename(os.readlink(f"/proc/{pid}/fd/{fd}")) for fd in os.listdir(f"/proc/{pid}/fd")]


def test_second_push_is_refused_and_told_who_holds_the_lock_since_when(app: App) -> None:
    app.push()
    app.release("v2")
    app.configure(build=SLOW_BUILD)
    first = app.start("push", "--json")
    wait_until(lambda: building(app), what="the first push builds")
    second = app.push(check=3)
    let_it_end(app)
    assert faults(second) == []
    assert second.event("push.finished")["status"] == "failed"
    assert "another deploy is under way" in second.err
    out, _ = first.communicate(timeout=60)
    deploy = json.loads(out.splitlines()[0])
    assert f"push {deploy['deploy']} by {deploy['who']}, for " in second.err
    assert "at prepare" in second.err
    assert "--wait-lock" in second.err
    assert first.returncode == 0
    assert len(signals(app)) == 1


def test_second_push_waits_with_wait_lock_and_finds_nothing_left_to_do(app: App) -> None:
    app.push()
    app.release("v2")
    app.configure(build=SLOW_BUILD)
    first = app.start("push", "--json")
    wait_until(lambda: building(app), what="the first push builds")
    waiting = app.start("push", "--json", "--wait-lock", "60s", "--no-build")
    said = heard(waiting, "lock.waiting")
    let_it_end(app)
    assert first.wait(60) == 0
    out, err = waiting.communicate(timeout=60)
    second = Result(waiting.returncode, said + out, err, 0)
    assert second.code == 0, err
    assert second.event("push.finished")["status"] == "unchanged"
    assert faults(second) == []
    behind = second.event("lock.waiting")["behind"]
    assert behind["deploy"] == json.loads(first.communicate()[0].splitlines()[0])["deploy"]
    assert behind["for_s"] >= 0
    assert "@" in behind["who"]


def test_newer_push_supersedes_one_that_waits_and_never_the_one_under_way(app: App) -> None:
    app.push()
    app.release("v2")
    app.configure(build=SLOW_BUILD)
    first = app.start("push", "--json")
    wait_until(lambda: building(app), what="the first push builds")
    app.release("v3")
    older = app.start("push", "--json", "--no-build", "--wait-lock", "60s")
    rolling = app.start("rollback", "--json", "--wait-lock", "60s")
    waits = wait_until(lambda: len(found := app.status()["waiting"]) == 2 and found, what="two wait")
    assert {one["kind"] for one in waits} == {"push", "rollback"}
    app.release("v4")
    newest = app.start("push", "--json", "--no-build", "--wait-lock", "60s", "--supersede")
    out, err = older.communicate(timeout=60)
    assert first.poll() is None, "the older one gave way only when the lock was free"
    let_it_end(app)
    assert older.returncode == 3
    deploy = json.loads(newest.stdout.readline())["deploy"] if newest.stdout else "?"
    assert f"superseded by {deploy}" in err
    assert "untouched by this call" in err
    assert json.loads(out.splitlines()[-1])["exit_code"] == 3
    for one in (first, newest, rolling):
        one.communicate(timeout=60)
        assert one.returncode in (0, 2), "a rollback may find that there is nothing to go back to"
    assert app.status()["waiting"] == []
    assert os.listdir(app.host / ".deployer/run/waiting") == []


def test_one_that_waits_and_is_killed_leaves_no_place_behind(app: App) -> None:
    app.push()
    app.configure(build=SLOW_BUILD)
    app.release("v2")
    first = app.start("push", "--json")
    wait_until(lambda: building(app), what="the first push builds")
    other = app.start("push", "--json", "--no-build", "--wait-lock", "60s")
    wait_until(lambda: app.status()["waiting"], what="it waits")
    agent = agent_of(other.pid)
    for pid in (other.pid, agent):
        os.kill(pid, signal.SIGKILL)
    other.communicate()
    assert app.status()["waiting"] == []
    assert os.listdir(app.host / ".deployer/run/waiting") == []
    let_it_end(app)
    first.communicate(timeout=60)


def test_supersede_without_waiting_is_a_usage_error(app: App) -> None:
    assert app.run("push", "--supersede").code == 2


def test_wait_lock_ends_with_exit_3_when_the_holder_goes_on(app: App) -> None:
    app.configure(build=SLOW_BUILD)
    first = app.start("push", "--json")
    wait_until(lambda: building(app), what="the first push builds")
    second = app.push("--wait-lock", "500ms", check=3)
    assert "waited 0.5s for it" in second.err
    let_it_end(app)
    assert first.wait(60) == 0
    first.communicate()


def test_client_that_stops_waiting_leaves_nobody_in_the_queue(app: App) -> None:
    app.configure(build=SLOW_BUILD)
    first = app.start("push", "--json")
    wait_until(lambda: building(app), what="the first push builds")
    second = app.start("push", "--wait-lock", "10m")
    engine = wait_until(lambda: agent_of(second.pid), what="the second push has an engine")
    wait_until(lambda: "lock" in opened(engine), what="it waits for the lock")
    second.kill()
    wait_until(lambda: not alive(engine), within=10, what="the engine goes with its client")
    assert first.poll() is None
    let_it_end(app)
    assert first.wait(60) == 0
    for process in (first, second):
        process.communicate()


def killed_before_commit(app: App, victim: str) -> Result:
    """What was told by a push whose *victim* was killed while it built; what ran before it serves on, untouched."""
    app.push()
    before = running(app)
    app.release("v2")
    app.configure(build=SLOW_BUILD)
    client = app.start("push", "--json")
    wait_until(lambda: building(app), what="the push builds")
    os.kill(client.pid if victim == "client" else agent_of(client.pid), signal.SIGKILL)
    let_it_end(app)
    out, err = client.communicate(timeout=60)
    untouched(app, before)
    return Result(client.returncode, out, err, 0)


def pushed_at_once(app: App) -> bool:
    """Whether nobody holds the lock: nothing is under way, and a push that hardly waits is done."""
    idle = app.status()["under_way"] is None
    app.configure()
    return idle and app.push("--wait-lock", "1s").event("push.finished")["status"] == "done"


def test_killed_client_leaves_no_lock_and_nothing_changed(app: App) -> None:
    assert killed_before_commit(app, "client").code == -signal.SIGKILL
    assert pushed_at_once(app)


def test_killed_engine_leaves_no_lock_and_nothing_changed(app: App) -> None:
    result = killed_before_commit(app, "engine")
    assert (result.code, result.event("push.finished")["status"]) == (6, "failed")
    assert faults(result) == [] and "Traceback" not in result.err
    assert pushed_at_once(app)


def test_killed_runner_leaves_no_lock_and_its_deploy_is_brought_to_its_end(app: App) -> None:
    app.push()
    task = app.task(100)
    app.release("v2")
    client = app.start("push", "--json")
    wait_until(lambda: signals(app), what="the drain has begun")
    holder = json.loads((app.host / ".deployer" / "lock").read_text())
    assert holder["kind"] == "push"
    os.kill(holder["pid"], signal.SIGKILL)
    app.finish()
    out, err = client.communicate(timeout=60)
    assert client.returncode == 0, out + err + app.engine_log()
    assert json.loads(task.communicate(timeout=60)[0])["result"] == "done"
    assert signals(app) == ["SIGTERM"]
    app.release("v3")
    app.push()


def test_killed_engine_after_the_commit_costs_the_client_nothing(app: App) -> None:
    app.push()
    task = app.task(100)
    app.release("v2")
    client = app.start("push", "--json")
    wait_until(lambda: signals(app), what="the drain has begun")
    os.kill(agent_of(client.pid), signal.SIGKILL)
    app.finish()
    out, err = client.communicate(timeout=60)
    result = Result(client.returncode, out, err, 0)
    assert (result.code, err) == (0, "")
    assert faults(result) == []
    assert result.event("push.finished")["status"] == "done"
    numbers = [event["seq"] for event in result.events if "seq" in event]
    assert numbers == sorted(set(numbers))  # every event once
    task.communicate()


def test_six_pushes_at_once_end_in_clear_results(app: App) -> None:
    app.push()
    clients = []
    for number in range(6):
        app.release(f"v{number + 2}")
        clients.append(app.start("push", "--json", "--wait-lock", "100ms"))
    results = []
    for client in clients:
        out, err = client.communicate(timeout=60)
        results.append(Result(client.returncode, out, err, 0))
    assert [faults(result) for result in results] == [[]] * 6
    codes = [result.code for result in results]
    assert set(codes) <= {0, 3}
    assert 0 in codes
    done = [result for result in results if result.event("push.finished")["status"] == "done"]
    assert len(signals(app)) == len(done)  # one SIGTERM for each replacement
    last = app.run("history", "--json").event("history")["hosts"][0]["deploys"][0]
    assert running(app)["release"] == app.current() == last["release"]
