"""The first push takes over a process that somebody else started; a stranger is named and left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import App, alive, clean_environment, free_port, wait_until
from evidence import faults, running, signals

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(app: App, tmp_path: Path) -> Iterator[Start]:
    """Start the service as somebody else would: `start(*args, wrapper="…", cwd=…)`; it is ended afterwards, by pid."""
    legacy = tmp_path / "legacy"
    legacy.mkdir()
    shutil.copy(app.dist / "service.py", legacy / "service.py")
    started: list[subprocess.Popen[bytes]] = []
    names = {name: str(app.root / f"{name.lower()}.txt") for name in ("SIGNALS_FILE", "WORK_FILE", "STARTS_FILE")}

    def begin(*args: str, wrapper: str = "", listens: bool = True) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-S", "service.py", "--port", str(app.port), "--version-text", "legacy", *args]
        if wrapper:
            argv = ["sh", "-c", wrapper.format(" ".join(argv))]
        env = {**clean_environment(), **names, "LEGACY_TOKEN": "s3cr3t-legacy"}
        process = subprocess.Popen(argv, cwd=legacy, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
        started.append(process)
        if listens:
            wait_until(app.get, what="the legacy service answers")
        return process

    yield begin
    for process in started:
        try:
            os.killpg(process.pid, 9)
        except ProcessLookupError:
            pass
        process.wait()


def adopted(app: App, how: str) -> tuple[str, int, list[str]]:
    """
    Push with `[adopt]` *how* with a task in flight, which is finished; the new release serves, and the next push changes nothing.

    Returns the verdict of the drain, whose it was (the main process), and the signals that were seen.
    """
    old = running(app)
    assert old["version"] == "legacy"
    app.configure(adopt=how)
    client = app.task(after=1)
    result = app.push()
    assert faults(result) == []
    assert json.loads(client.communicate(timeout=60)[0])["result"] == "done"
    drained = result.event("drain.finished")
    assert not alive(old["pid"])
    assert running(app)["release"] == app.current()
    assert app.push().event("push.finished")["status"] == "unchanged"
    return drained["verdict"], drained["pid"], signals(app)


def test_process_is_adopted_by_its_port_and_drained(app: App, start: Start) -> None:
    old = start()
    assert adopted(app, f"port = {app.port}") == ("clean", old.pid, ["SIGTERM"])


def test_process_is_adopted_by_its_pid_file(app: App, start: Start) -> None:
    pidfile = app.root / "agent.pid"
    old = start()
    pidfile.write_text(f"{old.pid}\n")
    assert adopted(app, f'pidfile = "{pidfile}"') == ("clean", old.pid, ["SIGTERM"])


def test_wrapper_and_its_child_are_one_match_and_both_are_drained(app: App, start: Start) -> None:
    wrapper = start(wrapper="{}; true")
    how = f'match = "service.py --port {app.port} --version-text legacy"'
    assert adopted(app, how) == ("clean", wrapper.pid, ["SIGTERM"])


def test_pattern_that_fits_the_calling_command_line_never_matches_deployer_itself(app: App, start: Start) -> None:
    process = start()
    app.configure(adopt=f'match = "{app.root.name}|service.py --port {app.port}"')
    config = app.root / "deploy.toml"
    # The pattern fits this shell, the client below it and (by its path) every part of the engine.
    line = f"{sys.executable} -m deployer -c {config} push --json; exit $?"
    done = subprocess.run(["sh", "-c", line], cwd=app.root, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert process.wait(60) == 0
    assert running(app)["release"] == app.current()


@pytest.mark.full
def test_other_deployer_commands_are_no_match(app: App, start: Start) -> None:
    start()
    build = "artifact = 'dist'\ncommand = 'sleep 3'"
    app.configure(adopt=f'match = "service.py --port {app.port}|{app.root.name}"', build=build)
    config = str(app.root / "deploy.toml")
    waiting = app.start("-c", config, "push", "--wait-lock", "20s")
    wait_until(lambda: (app.host / ".deployer" / "lock").read_text(), what="the first push has begun")
    plan = app.run("plan", "--json", check=0).event("plan")["hosts"][0]
    assert plan["warnings"] == []
    assert [step["step"] for step in plan["steps"] if step["step"] == "adopt"] == ["adopt"]
    assert waiting.wait(60) == 0
    waiting.communicate()


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("pidfile = '{root}/missing.pid'", "does not exist"),
        ("pidfile = '{root}/garbage.pid'", "holds no pid"),
        ("pidfile = '{root}/gone.pid'", "no such process"),
        ("pidfile = '{root}/stale.pid'", "used again"),
        ("port = {free}", "nothing listens"),
        ("match = 'no-such-command-anywhere'", "no-such-command-anywhere"),
        ("unit = 'no-such-unit-anywhere.service'", "no-such-unit-anywhere"),
    ],
    ids=["no pid file", "garbage in it", "process gone", "pid used again", "free port", "no match", "no unit"],
)
def test_nothing_to_adopt_is_refused_before_anything_was_changed(app: App, how: str, why: str) -> None:
    (app.root / "garbage.pid").write_text("not a number")
    (app.root / "gone.pid").write_text("4194305")
    stale = app.root / "stale.pid"
    stale.write_text(str(os.getpid()))
    neighbour = subprocess.Popen(["sleep", "60"])
    stale.write_text(str(neighbour.pid))
    os.utime(stale, (1, 1))
    app.configure(adopt=how.format(root=app.root, free=free_port()))
    result = app.push(check=6)
    neighbour.kill()
    neighbour.wait()
    assert why in result.err
    assert "nothing was changed" in result.err
    assert result.event("push.finished")["status"] == "failed"
    assert faults(result) == []
    assert app.current() is None
    assert not app.lines("STARTS_FILE")


def test_several_matches_are_listed_and_none_is_touched(app: App, start: Start) -> None:
    first, second = start(), start("--no-listen", listens=False)
    app.configure(adopt='match = "service.py .*--version-text legacy"')
    wait_until(lambda: len(app.lines("STARTS_FILE")) == 2)
    result = app.push(check=6)
    for process in (first, second):
        assert f"pid {process.pid} " in result.err
        assert process.poll() is None
    assert "service.py --port" in result.err
    assert not signals(app)


def test_adopted_process_is_started_again_as_it_was_when_the_new_release_is_broken(app: App, start: Start) -> None:
    old = start()
    before = seen(old.pid)
    app.configure(args=["--exit-at-once", "3"], adopt=f"port = {app.port}")
    result = app.push(check=1)
    assert result.event("push.finished")["status"] == "reverted"
    assert faults(result) == []
    now = running(app)
    assert now["version"] == "legacy"
    assert now["pid"] != old.pid
    assert seen(now["pid"]) == before
    assert app.current() is None
    # From here on it is ours: looked after, and replaced by the next push without being looked for.
    app.configure(args=[], adopt="match = 'no-such-command-anywhere'")
    assert app.push().event("drain.finished")["pid"] == now["pid"]
    assert signals(app) == ["SIGTERM", "SIGTERM"]


def seen(pid: int) -> tuple[bytes, str, str]:
    """Command line, directory and a variable of *pid*."""
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    token = next(part for part in environ if part.startswith(b"LEGACY_TOKEN="))
    return Path(f"/proc/{pid}/cmdline").read_bytes(), os.readlink(f"/proc/{pid}/cwd"), token.decode()


def test_failed_gate_leaves_the_process_to_be_adopted_by_the_next_push(app: App, start: Start) -> None:
    old = start()
    app.configure(adopt=f"port = {app.port}", check="command = 'false'")
    app.push(check=7)
    assert old.poll() is None
    assert not signals(app)
    app.configure(adopt=f"port = {app.port}")
    assert app.push().event("drain.finished")["pid"] == old.pid


def test_stranger_on_the_port_is_named_and_lives_on(app: App, start: Start) -> None:
    stranger = start()
    result = app.push(check=6)
    assert f"port {app.port} is held" in result.err
    assert f"pid {stranger.pid} " in result.err
    assert "--version-text legacy" in result.err
    assert f"[adopt] port = {app.port}" in result.err
    assert stranger.poll() is None
    assert not signals(app)
    assert faults(result) == []
    doctor = app.run("doctor", "--json", check=6)
    assert any(not check["ok"] and str(stranger.pid) in check["detail"] for check in doctor.event("doctor")["checks"])


def test_stranger_that_takes_the_port_does_not_keep_a_service_from_being_stopped(app: App, start: Start) -> None:
    app.push()
    service = running(app)["pid"]
    other = app.port
    app.port = free_port()
    stranger = start()
    app.configure()  # the config has moved to a port where somebody else sits
    app.push(check=6)
    app.run("stop", check=0)
    assert stranger.poll() is None
    assert not alive(service)
    app.port = other


FAKE_SYSTEMCTL = """#!/bin/sh
echo "$@" >> {log}
case " $* " in
*" show "*) printf 'LoadState=loaded\\nActiveState=active\\nMainPID={pid}\\nTimeoutStopUSec={limit}\\nKillMode=mixed\\n';;
*" stop "*) kill -TERM {pid};;
esac
"""


def systemctl(app: App, pid: int, limit: str) -> None:
    """Put a `systemctl` before everything else that knows one unit with the main process *pid*."""
    bin_ = app.root / "bin"
    bin_.mkdir(exist_ok=True)
    (bin_ / "systemctl").write_text(FAKE_SYSTEMCTL.format(log=app.root / "systemctl.txt", pid=pid, limit=limit))
    (bin_ / "systemctl").chmod(0o755)
    app.env["PATH"] = f"{bin_}:{os.environ['PATH']}"


def test_unit_is_stopped_through_systemd_once(app: App, start: Start) -> None:
    old = start()
    systemctl(app, old.pid, "12min")
    assert adopted(app, 'unit = "agent.service"') == ("clean", old.pid, ["SIGTERM"])
    asked = (app.root / "systemctl.txt").read_text().splitlines()
    assert [line for line in asked if " show " not in f" {line} "] == [
        "--system --no-pager --no-ask-password stop --no-block -- agent.service"
    ]


def test_unit_that_systemd_would_kill_before_the_ceiling_is_refused(app: App, start: Start) -> None:
    process = start()
    systemctl(app, process.pid, "1min 30s")
    app.configure(adopt='unit = "agent.service"')
    result = app.push(check=2)
    assert "TimeoutStopSec of agent.service is 1m30s" in result.err
    assert "drain.ceiling is 11m" in result.err
    assert process.poll() is None
    assert not signals(app)


@pytest.mark.full
def test_adopted_service_that_a_broken_push_brought_back_can_be_restarted_stopped_and_started(
    app: App, start: Start
) -> None:
    start()
    app.configure(args=["--exit-at-once", "3"], adopt=f"port = {app.port}")
    app.push(check=1)
    brought_back = running(app)["pid"]
    app.run("restart", check=0)
    restarted = running(app)["pid"]
    assert restarted != brought_back and not alive(brought_back)
    app.run("stop", check=0)
    assert not alive(restarted)
    app.run("start", check=0)
    assert app.get()["pid"] == running(app)["pid"]
