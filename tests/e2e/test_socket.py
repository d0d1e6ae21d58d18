"""`run.socket`: the keeper holds the listening socket, so that clients wait where they would be refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import App, alive, wait_until
from victims import environment_of, keeper, kill

POLITE = """
import json, os, select, signal, socket, time

# One request at a time, and none accepted once it shall stop: whatever is lost here was not lost by the app.
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.signal(signal.SIGTERM, lambda *_: None)
signal.set_wakeup_fd(writer)
listener = socket.socket(fileno=3)
listener.setblocking(True)
time.sleep(0.2)
while True:
    ready = select.select([reader, listener], [], [])[0]
    if reader in ready:
        break
    client = listener.accept()[0]
    while b"\\r\\n\\r\\n" not in client.recv(65536):
        pass
    body = json.dumps({"status": "ok", "pid": os.getpid(), "release": os.environ["DEPLOYER_RELEASE"]})
    client.sendall(f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
    client.close()
time.sleep(0.4)
"""


class Load:
    """Asks / again and again, one new connection each time; `failures` are those that were refused or cut."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with urllib.request.urlopen(self.url + "/", timeout=20) as answer:
                    answer.read()
                self.answers += 1
            except OSError as error:
                self.failures.append(repr(error))
            self._stop.wait(0.02)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


@contextmanager
def load(app: App) -> Iterator[Load]:
    made = Load(app.url)
    for thread in made._threads:
        thread.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def held(app: App) -> App:
    """An app whose listening socket the keeper holds."""
    app.configure(run=f'socket = "127.0.0.1:{app.port}"', args=[])
    return app


@pytest.fixture
def polite(app: App) -> App:
    """The same, and it takes a moment to stop and to start."""
    (app.dist / "polite.py").write_text(POLITE)
    command = json.dumps([sys.executable, "-S", "polite.py"])
    app.configure(run=f'command = {command}\nsocket = "127.0.0.1:{app.port}"')
    return app


def has_v6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def listens(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        return probe.connect_ex((address, port)) == 0


def stopped(pid: int) -> bool:
    return all(
        task.read_text().rpartition(")")[2].split()[0] == "T" for task in Path(f"/proc/{pid}/task").glob("*/stat")
    )


def test_app_gets_its_socket_as_descriptor_3(held: App) -> None:
    held.push()
    pid = held.get()["pid"]
    env = environment_of(pid)
    assert (env["LISTEN_FDS"], env["LISTEN_PID"], env["LISTEN_FDNAMES"]) == ("1", str(pid), "http")
    assert os.readlink(f"/proc/{pid}/fd/3").startswith("socket:")
    assert os.readlink(f"/proc/{pid}/fd/3") in {
        os.readlink(f"/proc/{keeper(held)}/fd/{fd}") for fd in os.listdir(f"/proc/{keeper(held)}/fd")
    }


def test_nobody_is_refused_while_a_release_is_replaced(polite: App) -> None:
    polite.push()
    with load(polite) as clients:
        for version in ("v2", "v3"):
            polite.release(version)
            polite.push()
    assert clients.failures == [] and clients.answers > 20


def test_next_keeper_gets_the_socket_back_and_still_nobody_is_refused(polite: App) -> None:
    polite.push()
    with load(polite) as clients:
        kill(keeper(polite))
        polite.status()
        polite.release("v2")
        polite.push()
        kill(keeper(polite))
        polite.release("v3")
        polite.push()
    assert clients.failures == [] and clients.answers > 20
    assert polite.get()["release"] == polite.current()


def test_restarted_app_gets_the_same_socket(held: App) -> None:
    held.push()
    pid = held.get()["pid"]
    with load(held) as clients:
        kill(pid)
        wait_until(lambda: held.get()["pid"] != pid, what="the app is back")
    # What the dead process had accepted is lost with it; nobody was refused.
    assert not [failure for failure in clients.failures if "refused" in failure]


def test_socket_may_be_added_and_taken_away_from_one_release_to_the_next(app: App) -> None:
    app.push()
    pid = app.get()["pid"]
    app.configure(run=f'socket = "127.0.0.1:{app.port}"', args=[])
    app.push()
    assert "LISTEN_FDS" in environment_of(app.get()["pid"]) and app.get()["pid"] != pid
    app.configure(args=[])
    app.push()
    last = app.get()["pid"]
    assert "LISTEN_FDS" not in environment_of(last)
    kill(last)
    assert wait_until(lambda: app.get(), what="it binds by itself again")["pid"] != last


def test_old_release_has_its_socket_again_when_the_new_one_fails(held: App) -> None:
    held.push()
    release = held.current()
    held.configure(args=["--exit-at-once", "3"])
    assert held.push(check=1).event("push.finished")["status"] == "reverted"
    assert held.get()["release"] == release
    assert "LISTEN_FDS" in environment_of(held.get()["pid"])


def test_address_held_by_a_stranger_is_named_and_nothing_is_touched(app: App) -> None:
    listen = f"s = socket.create_server(('127.0.0.1', {app.port}))"
    code = f"import socket, time; {listen}; print(1, flush=True); time.sleep(60)"
    stranger = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE)
    try:
        assert stranger.stdout is not None and stranger.stdout.readline()
        app.configure(run=f'socket = "127.0.0.1:{app.port}"', args=[], health="")
        result = app.push(check=6)
        assert str(stranger.pid) in result.out + result.err
        assert stranger.poll() is None and app.lines("STARTS_FILE") == []
    finally:
        stranger.kill()
        stranger.communicate()


def test_v6_address(app: App) -> None:
    if not has_v6():
        pytest.skip("no ::1 here")
    health = f'url = "http://[::1]:{app.port}/health"\ninterval = "50ms"\nready_within = "10s"'
    app.configure(run=f'socket = "[::1]:{app.port}"', args=[], health=health)
    app.push()
    assert listens("::1", app.port) and not listens("127.0.0.1", app.port)
    kill(keeper(app))
    app.release("v2")
    assert app.push().event("drain.finished")["verdict"] == "clean"
    with urllib.request.urlopen(f"http://[::1]:{app.port}/health", timeout=5) as answer:
        assert json.load(answer)["release"] == app.current()


def test_stop_closes_the_socket_and_start_opens_it_again(held: App) -> None:
    held.push()
    held.run("stop", check=0)
    assert not listens("127.0.0.1", held.port)
    held.run("start", check=0)
    assert held.get()["release"] == held.current()


def test_client_that_came_in_the_gap_is_answered_by_the_new_release(held: App) -> None:
    held.push()
    old = held.get()["release"]
    task = held.task(20)  # longer than a push takes here: it ends with the process
    held.release("v2")
    pushing = held.start("push", "--json")
    wait_until(lambda: held.lines("SIGNALS_FILE"), what="the old one is told to stop")
    main = int(held.lines("SIGNALS_FILE")[0][2])
    os.kill(main, signal.SIGSTOP)  # accepts nobody any more: whoever comes now waits in the queue
    wait_until(lambda: stopped(main), what="every thread of it has stopped")
    with socket.create_connection(("127.0.0.1", held.port), timeout=30) as client:
        started = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        os.kill(main, signal.SIGKILL)
        wait_until(lambda: not alive(main), what="the old one is gone")
        answer = client.makefile("rb").read().decode()
    assert "200" in answer.splitlines()[0] and old not in answer and held.current() in answer, started
    pushing.communicate(timeout=30)
    task.communicate(timeout=30)
