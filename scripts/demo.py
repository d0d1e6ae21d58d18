"""The demo: one task in flight, one new release, two tools. Called by scripts/demo; everything is real and loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEPLOYER = Path(sys.executable).with_name("deployer")
TASK = {"name": "callClaude", "seconds": 20}

CONFIG = """\
app = "mini-agent-demo"

[build]
artifact = "release"

[run]
command = {command}
socket  = "127.0.0.1:{port}"

[health]
url = "http://127.0.0.1:{{port}}/health"

[drain]
longest_task = "8m"
app_grace    = "10m"
ceiling      = "11m"

[target.local]
path = {path}
"""


@dataclass(frozen=True)
class Service:
    """The example service, in the language that this machine has."""

    language: str
    command: list[str]
    source: Path

    @classmethod
    def here(cls) -> Service:
        examples = ROOT / "examples" / "mini-agent"
        node = shutil.which("node")
        if node and subprocess.run([node, "--version"], capture_output=True, check=False).returncode == 0:
            return cls("Node", [node, "api.js"], examples / "api.js")
        return cls("Python", [sys.executable, "api.py"], examples / "api.py")

    def write(self, directory: Path, version: str) -> Path:
        """The files of one version in *directory*."""
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.source, directory)
        (directory / "VERSION").write_text(version + "\n")
        return directory


@dataclass
class Fate:
    """What became of one task under one tool."""

    tool: str
    client_saw: str = "nothing"
    answered: bool = False
    sigterms: int = 0
    serving: str = "nothing answers"
    took: float = 0.0
    clean: bool = False

    @property
    def kept(self) -> bool:
        return self.answered and self.clean


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    service = Service.here()
    say(
        f"the service: a small {service.language} program, with a task of {TASK['seconds']} s in flight when v2 arrives"
    )
    scratch = Path(tempfile.mkdtemp(prefix="deployer-demo-"))
    try:
        fates = [old_script(service, scratch / "old"), deployer_push(service, scratch / "new")]
    except KeyboardInterrupt:
        say("interrupted; everything that was started has been ended")
        return 130
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(table(fates), flush=True)
    return 0 if fates[1].kept else 1


# --- the two rounds -------------------------------------------------------------------------------------------------


def old_script(service: Service, scratch: Path) -> Fate:
    """SIGTERM, two seconds, kill -9."""
    title("1/2  the old script: SIGTERM, sleep 2, kill -9")
    fate, port = Fate("legacy_deploy.sh"), free_port()
    app = service.write(scratch / "app", "v1")
    log = app / "app.log"
    with ended(lambda: health(port).get("pid")):
        say(f"v1 is started on port {port}")
        with log.open("ab") as output:
            environment = {**os.environ, "PORT": str(port)}
            process = subprocess.Popen(service.command, cwd=app, env=environment, stdout=output, start_new_session=True)
        with ended(lambda: process.pid if process.poll() is None else None):
            wait_for(lambda: health(port).get("version") == "v1", "v1 to answer")
            client = start_task(port)
            new = service.write(scratch / "release", "v2")
            command = [ROOT / "scripts" / "legacy_deploy.sh", new, app, str(port), *service.command]
            fate.took = run("legacy_deploy.sh v2", command)[1]
            wait_for(lambda: health(port).get("version") == "v2", "v2 to answer")
            client.report(fate)
            fate.serving, fate.sigterms, fate.clean = serving(port), log.read_text().count(" SIGTERM"), True
    return fate


def deployer_push(service: Service, scratch: Path) -> Fate:
    """`deployer push`, twice: the first release, then the second over a task in flight."""
    title("2/2  deployer push")
    fate, port = Fate("deployer push"), free_port()
    service.write(scratch / "release", "v1")
    config = scratch / "deploy.toml"
    config.write_text(
        CONFIG.format(command=json.dumps(service.command), port=port, path=json.dumps(str(scratch / "host")))
    )
    with stopped(config, port):
        say(f"v1 is pushed; it serves on port {port}")
        if run("deployer push", [DEPLOYER, "push", "-c", config])[0] != 0:
            raise SystemExit("demo: the first push failed")
        wait_for(lambda: health(port).get("version") == "v1", "v1 to answer")
        client = start_task(port)
        service.write(scratch / "release", "v2")
        code, fate.took = run("deployer push", [DEPLOYER, "push", "-c", config])
        client.report(fate)
        fate.serving, fate.clean = serving(port), code == 0 and health(port).get("version") == "v2"
        logs = [path for path in (scratch / "host" / "logs").rglob("*") if path.is_file()]
        fate.sigterms = sum(path.read_text(errors="replace").count(" SIGTERM") for path in logs)
    return fate


# --- the client -----------------------------------------------------------------------------------------------------


@dataclass
class Client:
    """Somebody who asked for a task and waits for the answer."""

    port: int
    saw: str = ""
    answered: bool = False
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.ask, daemon=True)
        self.thread.start()

    def ask(self) -> None:
        started = time.monotonic()
        try:
            code, body = request(self.port, "POST", "/task", TASK, timeout=60)
            self.answered = code == 200
            self.saw = f"{code}: {body.get('result') or body.get('error')}"
        except (OSError, http.client.HTTPException) as error:
            reset = isinstance(error, (ConnectionResetError, http.client.RemoteDisconnected))
            self.saw = f"{'connection reset' if reset else error} after {time.monotonic() - started:.1f} s"

    def report(self, fate: Fate) -> None:
        """What this client saw, in *fate*."""
        self.thread.join(timeout=30)
        fate.client_saw, fate.answered = self.saw or "still waiting", self.answered
        say(f"the client saw: {fate.client_saw}")


def start_task(port: int) -> Client:
    """A client whose task is in flight."""
    client = Client(port)
    wait_for(lambda: health(port).get("busy") == 1, "the task to be in flight")
    say(f"a client asks for a task of {TASK['seconds']} s; two seconds later v2 arrives")
    time.sleep(2)
    return client


def request(
    port: int, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 2
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, json.dumps(body) if body else None)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def health(port: int) -> dict[str, Any]:
    """The answer of /health; empty when nobody gives one."""
    try:
        return request(port, "GET", "/health")[1]
    except (OSError, ValueError, http.client.HTTPException):
        return {}


def serving(port: int) -> str:
    answer = health(port)
    if not answer:
        return "nothing answers"
    return f"{answer.get('version')}, pid {answer.get('pid')}"


# --- processes ------------------------------------------------------------------------------------------------------


def run(name: str, command: list[Any]) -> tuple[int, float]:
    """Run *command* with its output shown; its exit code and seconds."""
    say(f"$ {name}")
    started = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL)
    try:
        code = process.wait()
    except KeyboardInterrupt:  # a terminal's Ctrl-C reached it too; a SIGTERM to us alone did not
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        process.kill()
        raise
    return code, time.monotonic() - started


@contextlib.contextmanager
def ended(find: Callable[[], int | None]) -> Iterator[None]:
    """Afterwards the process whose pid *find* returns has been ended."""
    try:
        yield
    finally:
        with uninterrupted():
            end(find())


@contextlib.contextmanager
def stopped(config: Path, port: int) -> Iterator[None]:
    """Afterwards the app that *config* describes has been stopped, and its keeper ended."""
    try:
        yield
    except BaseException:
        # In a hurry: whoever is in the middle of something is ended, the app last.
        with uninterrupted():
            facts = status(config)
            app = (facts.get("instance") or {}).get("processes") or []
            holders = [(facts.get(name) or {}).get("pid") for name in ("under_way", "keeper")]
            for pid in [*holders, *(process.get("pid") for process in app), health(port).get("pid")]:
                end(pid, signal.SIGKILL)
        raise
    with uninterrupted():
        run("deployer stop", [DEPLOYER, "stop", "-c", config])
        end((status(config).get("keeper") or {}).get("pid"))
        end(health(port).get("pid"))


def status(config: Path) -> dict[str, Any]:
    """The facts of the one host; empty when `deployer status` has none."""
    command = [str(DEPLOYER), "status", "--json", "-c", str(config)]
    with contextlib.suppress(OSError, ValueError, LookupError, subprocess.TimeoutExpired):
        output = subprocess.run(command, capture_output=True, check=False, timeout=20).stdout
        facts: dict[str, Any] = json.loads(output)["hosts"][0]["facts"]
        return facts
    return {}


def end(pid: int | None, number: int = signal.SIGTERM) -> None:
    """End process *pid*, if there is one: asked first, then by force."""
    if not pid:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        deadline = time.monotonic() + 3
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Does *pid* run? A child of ours that has exited is reaped on the way."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A second Ctrl-C does not stop the cleaning up."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"demo: waited {seconds:.0f} s for {what}")
        time.sleep(0.05)


# --- what is shown --------------------------------------------------------------------------------------------------


def title(text: str) -> None:
    print(f"\n── {text} {'─' * max(3, 90 - len(text))}", flush=True)


def say(text: str) -> None:
    print(f"demo   {text}", flush=True)


def table(fates: list[Fate]) -> str:
    """Both fates, side by side."""
    rows: list[tuple[str, Callable[[Fate], str]]] = [
        ("tool", lambda fate: fate.tool),
        ("task", lambda _: f"{TASK['name']}, {TASK['seconds']} s, in flight"),
        ("the client saw", lambda fate: fate.client_saw),
        ("SIGTERMs seen", lambda fate: str(fate.sigterms)),
        ("now serving", lambda fate: fate.serving),
        ("the deploy took", lambda fate: f"{fate.took:.1f} s"),
        ("verdict", lambda fate: "finished, nothing lost" if fate.kept else "LOST" if not fate.answered else "FAILED"),
    ]
    cells = [[name, *(text(fate) for fate in fates)] for name, text in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    rule = "  ".join("─" * width for width in widths)
    return "\n".join(["", lines[0], rule, *lines[1:], ""])


if __name__ == "__main__":
    sys.exit(main())
