"""One app under test: a deploy.toml, a host path, and the real `deployer` command. Everything is a real process."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import engines
from read_ahead import whole

SERVICES = Path(__file__).parent / "services"
SOURCE = engines.OURS


@dataclass
class Result:
    """What one `deployer` command did: exit code, both streams, and the events where it ran with --json."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict[str, Any]:
        """The last event of that name; fails with the whole output when there is none."""
        found = [event for event in self.events if event["event"] == name]
        assert found, f"no {name} in:\n{self.out}\n{self.err}"
        return found[-1]

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]


@dataclass
class App:
    """An app in *root*: `root/dist` is the artifact, `root/host` the target's path, `root/deploy.toml` what `configure` wrote."""

    root: Path
    port: int
    env: dict[str, str] = field(default_factory=dict)
    args: list[str] = field(default_factory=list)

    @property
    def dist(self) -> Path:
        return self.root / "dist"

    @property
    def host(self) -> Path:
        return self.root / "host"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(
        self, run: str = "", args: list[str] | None = None, health: str | None = None, more: str = "", **tables: str
    ) -> None:
        """
        Write deploy.toml. *args* are service.py's; *run* are more lines of [run]; *health* replaces the [health] lines
        ("" for none); other keywords are tables by name (`drain='ceiling = "2s"'`); *more* is appended as it is.
        """
        if args is not None:
            self.args = args
        if "command" not in run:
            command = json.dumps([sys.executable, "-S", "service.py", "--port", str(self.port), *self.args])
            run = f"command = {command}\n{run}"
        if "env =" not in run:
            names = {
                name: str(self.root / f"{name.lower()}.txt") for name in ("SIGNALS_FILE", "WORK_FILE", "STARTS_FILE")
            }
            run += "\nenv = { " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in names.items()) + " }"
        if health is None:
            health = f'url = "{self.url}/health"\ninterval = "50ms"\nready_within = "10s"'
        tables = {
            "build": 'artifact = "dist"',
            "run": run,
            "health": health,
            **tables,
            "target.local": f'path = "{self.host}"',
        }
        text = 'app = "t-app"\n' + "".join(f"\n[{name}]\n{lines}\n" for name, lines in tables.items() if lines) + more
        (self.root / "deploy.toml").write_text(text)

    def release(self, text: str) -> None:
        """Make the artifact another one, so that the next push is a new release."""
        (self.dist / "version.txt").write_text(text)

    def run(
        self, *args: str, timeout: float = 60, env: dict[str, str] | None = None, check: int | None = None
    ) -> Result:
        """Run `deployer ARGS` to its end."""
        started = time.monotonic()
        with self._popen(args, env or {}) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        result = Result(process.returncode, out, err, time.monotonic() - started)
        assert check is None or result.code == check, (
            f"exit {result.code}, not {check}:\n{result.out}\n{result.err}\n{self.engine_log()}"
        )
        return result

    def push(self, *args: str, check: int | None = 0, **more: Any) -> Result:
        """`deployer push --json ARGS`; one that must succeed may find the engine compiled on a host that is new."""
        if check == 0 and not self.host.exists():
            engines.seed(self.host, Path(self.env.get("PYTHONPATH", SOURCE)))
        return self.run("push", "--json", *args, check=check, **more)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start `deployer ARGS` and return while it runs. The caller ends it."""
        return self._popen(args, {}, start_new_session=True)

    def _popen(self, args: tuple[str, ...], env: dict[str, str], **more: Any) -> subprocess.Popen[str]:
        """`deployer ARGS`, begun. Another kind of app has its commands run elsewhere (systemd_rig.py)."""
        return subprocess.Popen(
            command(*args), cwd=self.root, env={**clean_environment(), **self.env, **env}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, **more,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """The facts of `deployer status --json`."""
        facts: dict[str, Any] = self.run("status", "--json", check=0).events[0]["hosts"][0]["facts"]
        return facts

    def get(self, path: str = "/health", timeout: float = 5) -> dict[str, Any]:
        """The JSON that the service answers (also with a 503)."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            found = json.load(error)
        return found

    def task(self, seconds: float = 1, name: str = "callClaude", after: float | None = None) -> subprocess.Popen[str]:
        """
        A client of its own process that waits for a task of *seconds*; returns once the task is in flight.

        With *after* it is done so many seconds after the app was asked to stop, or by `finish`: a busy machine outlasts any
        number of seconds before a test has come to what shall happen meanwhile.
        """
        until = "" if after is None else f"&after={after}"
        client = ask("POST", f"{self.url}/task?seconds={seconds}&name={name}{until}")
        wait_until(
            lambda: any(task.get("name") == name for task in self.get().get("tasks", [])), what="the task is in flight"
        )
        return client

    def finish(self) -> None:
        """Let every task that is in flight be done: for a test that needs it to last until something has happened."""
        asked = urllib.request.Request(f"{self.url}/finish", method="POST")
        urllib.request.urlopen(asked, timeout=30).close()

    def lines(self, name: str) -> list[list[str]]:
        """The lines of SIGNALS_FILE, WORK_FILE or STARTS_FILE, split into words."""
        path = self.root / f"{name.lower()}.txt"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def engine_log(self) -> str:
        path = self.host / ".deployer" / "engine.log"
        return path.read_text() if path.exists() else ""

    def current(self) -> str | None:
        link = self.host / "current"
        return os.path.basename(os.readlink(link)) if link.is_symlink() else None

    def processes(self) -> list[int]:
        """Every living process that belongs to this app: marked instances, and engine parts that name its path."""
        mark = os.fsencode(self.root)
        return [
            pid
            for pid in pids()
            if mark in read(f"/proc/{pid}/environ") + b"\0" + read(f"/proc/{pid}/cmdline") and alive(pid)
        ]

    def close(self) -> None:
        """End everything, by pid. Not by `deployer stop` first: it would be killed all the same, half a second of CPU later."""
        for _ in range(10):  # a keeper that dies may have started something a moment before
            left = {*self.processes(), *self._inhabitants()}
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            wait_until(lambda killed=left: not any(map(alive, killed)), what="what was killed has gone")

    def _inhabitants(self) -> list[int]:
        """Whoever has its working directory here: clients, and what an app started without our mark."""
        here = f"{self.root}/"
        return [pid for pid in pids() if f"{directory(pid)}/".startswith(here) and alive(pid)]


def ask(method: str, url: str, within: Sequence[str] = ()) -> subprocess.Popen[str]:
    """A client of its own process that prints the body of its answer; *within* is how to get to where it runs."""
    argv = [*within, sys.executable, "-S", str(SERVICES / "ask.py"), method, url]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def heard(process: subprocess.Popen[str], text: str) -> str:
    """What *process* has said when *text* has come."""
    said = ""
    assert whole(process).stdout is not None
    for line in process.stdout:  # type: ignore[union-attr]
        said += line
        if text in line:
            return said
    raise AssertionError(f"{text} never came: {said}")


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "deployer", *args]


def clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR", "USER")}
    return {**kept, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def pids() -> list[int]:
    """Every process but this one."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def directory(pid: int) -> str | None:
    """Where *pid* works; None when there is no such process."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None


def state(pid: int) -> str | None:
    """The state letter of *pid*; None when there is no such process."""
    raw = read(f"/proc/{pid}/stat")
    return raw[raw.rindex(b")") + 2 :].split()[0].decode() if raw else None


def alive(pid: int) -> bool:
    return state(pid) not in ("Z", "X", None)


EACH = 1250
"""Ports that each of eight test workers has to itself."""
# Begins at a place of this process's own, so that two test runs on one machine do not walk in step.
_PORTS = itertools.cycle([*range(os.getpid() * 37 % EACH, EACH), *range(os.getpid() * 37 % EACH)])


def free_port() -> int:
    """
    A port on which nobody listens, never given twice in a row. Below the range from which the kernel takes the ports of clients,
    and each test worker has numbers of its own: nobody can take it before the service does.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8
    for offset in _PORTS:
        port = 20_000 + EACH * worker + offset
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("unreachable")


def wait_until(condition: Callable[[], Any], within: float = 40, what: str = "the condition") -> Any:
    """
    The first true value of *condition*; fails after *within* seconds.

    Looks less often the longer it takes, and rests as long as a look took: some are whole commands.
    """
    deadline, pause = time.monotonic() + within, 0.01
    while True:
        looked = time.monotonic()
        try:
            found = condition()
        except (OSError, ValueError):
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {within} s in vain: {what}"
        time.sleep(max(pause, min(1.0, time.monotonic() - looked)))
        pause = min(0.1, pause * 1.3)


@contextmanager
def make_app(root: Path, kind: Callable[[Path, int], App] = App) -> Iterator[App]:
    """An app with service.py as its artifact, configured plainly; ended at the end."""
    app = kind(root, free_port())
    app.dist.mkdir(parents=True)
    shutil.copy(SERVICES / "service.py", app.dist / "service.py")
    app.release("v1")
    app.configure(args=[])
    try:
        yield app
    finally:
        app.close()
