"""`supervisor = "command"`: what is special where the user's own commands start and stop the process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import parts
from app import App, alive, make_app, wait_until
from supervised import Commanded
from victims import keepers, kill, runners, signals_to_mains


class Own(Commanded):
    """The commands are as a test writes them; each call of one is a line in `calls.txt`."""

    commands: dict[str, str]

    def target(self, run: str) -> str:
        usual = {
            "start": self.visor("start", "--", *self.service()),
            "stop": self.visor("stop"),
            "status": self.visor("status"),
        }
        words = {what: f"echo {what} >> {self.root}/calls.txt; exec {' '.join(argv)}" for what, argv in usual.items()}
        asked = {**words, "pidfile": f"{self.root}/visor/app.pid", **getattr(self, "commands", {})}
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in asked.items() if value)
        return f'supervisor = "command"\n[target.local.commands]\n{lines}'

    def service(self) -> list[str]:
        return [sys.executable, "-S", "service.py", "--port", str(self.port), *self.args]

    def own(self, **commands: str) -> None:
        self.commands = commands
        self.configure()

    def calls(self, what: str) -> int:
        path = self.root / "calls.txt"
        return path.read_text().split().count(what) if path.exists() else 0


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Own]:
    with make_app(tmp_path, Own) as made:
        assert isinstance(made, Own)
        yield made


def test_each_command_is_called_once_whoever_dies(app: Own) -> None:
    app.push()
    old, client = app.get(), app.task(100)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="it was asked to stop")
    for _ in range(2):
        victims = [*wait_until(lambda: keepers(app), what="a keeper"), *runners(app)]
        for pid in victims:
            kill(pid)
        app.status()
    app.finish()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    wait_until(lambda: app.status()["under_way"] is None, what="the deploy is brought to its end")
    pushing.communicate(timeout=60)
    assert app.get()["release"] == app.current() != old["release"]
    assert (app.calls("start"), app.calls("stop")) == (2, 1)
    assert signals_to_mains(app) == {str(old["pid"]): 1}


@pytest.mark.full
def test_service_that_the_commands_own_already_is_taken_over_and_given_back(app: Own) -> None:
    subprocess.run(app.visor("start", "--", *app.service()), cwd=app.dist, env=noting(app), check=True)
    wait_until(app.get, what="it serves")
    client = app.task(after=0.5)
    names = f'SERVICE_HEALTH = "never-ready", SIGNALS_FILE = "{app.root}/signals_file.txt"'
    health = f'url = "{app.url}/health"\nready_within = "2s"'
    app.configure(run=f"env = {{ {names} }}", health=health, adopt=f"port = {app.port}")
    app.push(check=1)
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    wait_until(lambda: app.get()["status"] == "ok", what="the revert starts it again, as it was started before")
    # Stopped by its supervisor, who does not start it again meanwhile.
    assert (app.calls("start"), app.calls("stop")) == (2, 2)
    assert set(signals_to_mains(app).values()) == {1}


def noting(app: App) -> dict[str, str]:
    return {**os.environ, "SIGNALS_FILE": f"{app.root}/signals_file.txt"}


@pytest.mark.full
@pytest.mark.parametrize(
    "commands, why",
    [
        pytest.param({"start": "exit 4"}, "start failed with exit code 4", marks=pytest.mark.full),
        ({"start": "sleep 100", "timeout": "1s"}, "start took too long"),
        pytest.param({"status": "exit 9"}, "status ends with exit code 9", marks=pytest.mark.full),
        ({"pidfile": "/nowhere/app.pid", "timeout": "1s"}, "does not exist"),
    ],
)
def test_start_that_fails_is_told_and_what_it_left_is_stopped(app: Own, commands: dict[str, str], why: str) -> None:
    app.own(**{"timeout": "2s", **commands})
    result = app.push(check=8)
    assert why in result.err
    with pytest.raises(OSError):
        app.get()
    app.own()
    app.push()
    assert app.get()["release"] == app.current()


def test_stop_that_fails_is_told_and_the_process_is_not_taken_for_stopped(app: Own) -> None:
    app.push()
    old = app.get()
    app.own(stop="echo no such program; exit 2")
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: "stop failed with exit code 2" in str(app.status()["draining"]), what="status tells it")
    assert app.get()["pid"] == old["pid"] and app.lines("SIGNALS_FILE") == []
    app.run("drain", "--now", check=0)
    pushing.communicate(timeout=60)
    # Its supervisor still believes that it shall run: nothing of ours is started into that.
    assert pushing.returncode in (1, 5, 8)


@pytest.mark.full
def test_plain_script_with_nobody_behind_it(app: Own) -> None:
    pidfile = f"{app.root}/app.pid"
    start = f"nohup {' '.join(app.service())} & echo $! > {pidfile}"
    app.own(start=start, stop='kill "$DEPLOYER_PID"', status=f'kill -0 "$(cat {pidfile})"', pidfile=pidfile)
    app.push()
    old, client = app.get(), app.task(after=0.5)
    app.release("v2")
    drained = app.push().event("drain.finished")
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert drained["verdict"] == "clean" and app.get()["release"] == app.current() != old["release"]
    kill(app.get()["pid"])
    # A crash that nobody mends is told, and `start` is the way back.
    wait_until(lambda: app.status()["instance"] is None, what="status knows that nothing runs")
    app.run("start", check=0)
    assert app.get()["release"] == app.current()
    assert signals_to_mains(app) == {str(old["pid"]): 1}


@pytest.mark.full
def test_daemon_that_start_leaves_behind_for_itself_is_not_the_service(app: Own) -> None:
    usual = " ".join(app.visor("start", "--", *app.service()))
    # As the first `pm2 start` does: it has the environment of that call, and outlives all apps.
    app.own(start=f"nohup sleep 1000 > /dev/null & echo $! > {app.root}/daemon.pid; exec {usual}")
    app.push()
    daemon = int((app.root / "daemon.pid").read_text())
    app.own()
    app.release("v2")
    assert app.push().event("drain.finished")["verdict"] == "clean"
    assert alive(daemon)


@pytest.mark.full
@pytest.mark.parametrize("how", ["port", pytest.param("pid", marks=pytest.mark.full)])
def test_process_is_known_by_its_port_or_by_a_command(app: Own, how: str) -> None:
    app.own(pidfile="", **({"pid": " ".join(app.visor("pid"))} if how == "pid" else {}))
    app.push()
    assert app.status()["instance"]["pid"] == app.get()["pid"]
    app.release("v2")
    assert app.push().event("drain.finished")["verdict"] == "clean"


def test_doctor_says_what_the_commands_cannot_promise(app: Own) -> None:
    said = app.run("doctor", check=0).out
    for words in ("stopwaitsecs", "after a crash or a boot", "no socket is held", "which signal is sent"):
        assert words in said
    app.own(start="/nowhere/start now", status="true")
    app.commands["start"] = ["/nowhere/start"]  # type: ignore[assignment]
    app.configure()
    assert "there is no program '/nowhere/start'" in app.run("doctor", check=6).out
    assert "nothing was changed" in app.push(check=6).err


def test_boot_is_left_to_whoever_is_behind_the_commands(app: Own) -> None:
    assert "whoever is behind your commands" in app.run("enable", check=6).err


def test_plan_names_the_commands(app: Own) -> None:
    app.push()
    app.own(stop="the-stop-command")
    app.release("v2")
    assert f"the-stop-command stops pid {app.get()['pid']}" in app.run("plan", check=0).out


def installed(name: str) -> str | None:
    """Where a part of supervisor is: beside our Python, or on the PATH."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


class Supervisord(Own):
    """Real supervisord, which knows nothing of us; what it starts has the environment of its own config."""

    def begin(self) -> None:
        run = 'DEPLOYER_RELEASE=$(basename "$(pwd -P)") exec ' + " ".join(self.service())
        files = ",".join(
            f'{name}="{self.root}/{name.lower()}.txt"' for name in ("SIGNALS_FILE", "STARTS_FILE", "WORK_FILE")
        )
        (self.root / "app.sh").write_text(run)
        self.conf.write_text(
            f"[supervisord]\npidfile={self.root}/supervisord.pid\nlogfile={self.root}/supervisord.log\n"
            f"[unix_http_server]\nfile={self.root}/s.sock\n[supervisorctl]\nserverurl=unix://{self.root}/s.sock\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[program:t-app]\ncommand=sh {self.root}/app.sh\ndirectory={self.host}/current\nenvironment={files}\n"
            f"autostart=false\nstartsecs=0\nstopwaitsecs=900\n"
        )
        subprocess.run([str(installed("supervisord")), "-c", str(self.conf)], check=True)

    @property
    def conf(self) -> Path:
        return self.root / "supervisord.conf"

    def control(self, *words: str) -> str:
        return " ".join([str(installed("supervisorctl")), "-c", str(self.conf), *words])


@pytest.fixture
def supervisord(tmp_path: Path) -> Iterator[Supervisord]:
    if installed("supervisord") is None:
        parts.missing("supervisor is not installed (pip install supervisor)")
    with make_app(tmp_path, Supervisord) as made:
        assert isinstance(made, Supervisord)
        made.begin()
        try:
            yield made
        finally:
            os.kill(int((made.root / "supervisord.pid").read_text()), signal.SIGKILL)


@pytest.mark.extended
def test_real_supervisord_runs_the_releases(supervisord: Supervisord) -> None:
    app = supervisord
    app.own(
        start=app.control("start", "t-app"), stop=app.control("stop", "t-app"), status=app.control("status", "t-app"),
        pid=app.control("pid", "t-app"), pidfile="",
    )  # fmt: skip
    app.push()
    old, client = app.get(), app.task(after=0.5)
    app.release("v2")
    drained = app.push().event("drain.finished")
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert drained["verdict"] == "clean"
    assert app.get()["release"] == app.current() != old["release"]
    assert signals_to_mains(app) == {str(old["pid"]): 1}
    kill(app.get()["pid"])
    pid = wait_until(lambda: app.get()["pid"], what="supervisord starts it again")
    wait_until(lambda: (app.status()["instance"] or {}).get("pid") == pid, what="status knows the new process")
    app.run("stop", check=0)
    assert app.status()["instance"] is None
