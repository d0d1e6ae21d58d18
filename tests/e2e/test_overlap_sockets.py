"""Sockets of every kind that outlive the releases: IPv6, Unix, several by name, one that is private; ports in turn."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from app import SERVICES, Result, free_port, heard, wait_until
from load import Figures, Load
from overlapping import Overlapping, overlapping

PYTHON = f"[{json.dumps(sys.executable)}, '-S', "


def has_v6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def push_under_load(app: Overlapping, url: str) -> Figures:
    """What clients saw of a push of another release; both of them answered."""
    with Load(url, rate=60, kept=4) as load:
        app.release("v2")
        app.push()
        figures = load.stop()
    assert len(figures.releases) == 2
    return figures


@pytest.mark.skipif(not has_v6(), reason="this machine has no IPv6")
def test_ipv6(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        app.write(run=f'socket = "[::1]:{app.port}"', health="ready_within = '10s'")
        text = (app.root / "deploy.toml").read_text()
        (app.root / "deploy.toml").write_text(text.replace("http://127.0.0.1:", "http://[::1]:"))
        app.push()
        seen = push_under_load(app, f"http://[::1]:{app.port}")
        assert seen.lost == 0, seen.losses


@pytest.mark.parametrize("address", ["unix:app.sock", pytest.param("unix:{root}/run.sock", marks=pytest.mark.full)])
def test_unix_socket(tmp_path: Path, address: str) -> None:
    with overlapping(tmp_path) as app:
        address = address.format(root=tmp_path)
        app.write(run=f'socket = "{address}"')
        text = (app.root / "deploy.toml").read_text()
        (app.root / "deploy.toml").write_text(
            "\n".join("alive_for = '200ms'" if line.startswith("url") else line for line in text.splitlines())
        )
        app.push()
        path = app.host / "shared/app.sock" if address == "unix:app.sock" else tmp_path / "run.sock"
        assert stat.S_ISSOCK(path.stat().st_mode)
        seen = push_under_load(app, f"unix:{path}")
        assert seen.lost == 0, seen.losses
        # The keeper dies, the next one has the socket back: a push still finds it taken by nobody else.
        os.kill(app.status()["keeper"]["pid"], signal.SIGKILL)
        wait_until(lambda: app.status()["keeper"], what="there is a keeper again")
        app.release("v3")
        app.push()
        app.run("stop", check=0)
        wait_until(lambda: not path.exists(), what="the name of the socket goes with the service")


def test_several_sockets_by_name(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        second = free_port()
        app.write(
            run=f'socket = {{ http = "127.0.0.1:{app.port}", admin = "127.0.0.1:{second}", local = "unix:app.sock" }}'
        )
        app.push()
        pid = app.status()["instance"]["pid"]
        env = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert b"LISTEN_FDS=3" in env and b"LISTEN_FDNAMES=http:admin:local" in env and b"LISTEN_PID=%d" % pid in env
        seen = push_under_load(app, f"http://127.0.0.1:{second}")
        assert seen.lost == 0, seen.losses


def test_ports_in_turn_and_a_third_push_waits_until_one_is_free(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        ports = [app.port, free_port()]
        app.write(run=f"ports = {ports}\nrehearse = false")
        app.push()
        with socket.create_connection(("127.0.0.1", ports[0]), 60) as busy:
            hold = app.root / "hold"
            hold.touch()
            busy.sendall(f"GET /slow?while={hold} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            wait_until(lambda: app.get()["busy"] == 1, what="a request is in flight")
            app.release("v2")
            app.push("--detach")
            assert app.status()["instance"]["port"] == ports[1]
            app.release("v3")
            third = app.start("push", "--json")
            said = heard(third, "room.waiting")
            hold.unlink()
            out, err = third.communicate(timeout=60)
            result = Result(third.returncode, said + out, err, 0)
            assert b" 200 " in b"".join(iter(lambda: busy.recv(65536), b""))
        assert result.event("push.finished")["status"] == "done"
        assert app.status()["instance"]["port"] == ports[0]


def gated(app: Overlapping, **env: str) -> None:
    within = "3s" if "BROKEN" in env else "10s"
    health = f"private = true\nready_within = '{within}'"
    app.write(run=f'socket = "127.0.0.1:{app.port}"', env={"DRAINS": "1", **env}, health=health)
    text = (app.root / "deploy.toml").read_text().splitlines()
    command = json.dumps([sys.executable, "-S", "gated.py"])
    lines = [f"command = {command}" if line.startswith("command") else line for line in text]
    (app.root / "deploy.toml").write_text("\n".join(lines))


@pytest.mark.parametrize("strategy", ["overlap", "restart"])
def test_app_with_a_gate_takes_no_request_before_it_has_proven_itself(tmp_path: Path, strategy: str) -> None:
    with overlapping(tmp_path) as app:
        shutil.copy(SERVICES / "gated.py", app.dist)
        gated(app)
        config = app.root / "deploy.toml"
        config.write_text(config.read_text().replace('"overlap"', f'"{strategy}"'))
        result = app.push()
        assert "rehearse.finished" not in result.names()
        served = app.get("/")["release"]
        if strategy == "overlap":
            good = config.read_text()
            gated(app, BROKEN="1")
            app.release("v2")
            with Load(app.url, rate=60, kept=0) as load:
                result = app.push(check=1)
                figures = load.stop()
            assert "answered 500" in result.err
            assert figures.lost == 0 and set(figures.releases) == {served}
            config.write_text(good)
        app.release("v3")
        result = app.push()
        assert app.get("/")["release"] == app.current() != served
        finished = result.event("drain.finished")  # the old one was asked on its own socket while it drained
        assert finished["known"] is True and len(finished["tasks"]) == 1
        pid = app.status()["instance"]["pid"]
        os.kill(pid, signal.SIGKILL)  # started again by the keeper, which tells nobody to open: it does so by itself
        wait_until(lambda: app.get("/")["pid"] != pid, what="it serves again")


def test_release_that_never_accepts_is_not_proven_by_the_old_one_on_the_same_socket(tmp_path: Path) -> None:
    """Neither pid nor release in the answers, and no rehearsal: only the kernel knows who answers."""
    with overlapping(tmp_path) as app:
        shutil.copy(SERVICES / "service.py", app.dist)
        command = json.dumps([sys.executable, "-S", "service.py", "--health", "always-ok"])
        app.write(run=f'socket = "127.0.0.1:{app.port}"\nrehearse = false', health="ready_within = '10s'")
        config = app.root / "deploy.toml"
        lines = [
            f"command = {command}" if line.startswith("command") else line for line in config.read_text().splitlines()
        ]
        config.write_text("\n".join(lines))
        app.push()
        pid = app.status()["instance"]["pid"]
        deaf = config.read_text().replace('"always-ok"', '"always-ok", "--no-listen"')
        config.write_text(deaf.replace("ready_within = '10s'", "ready_within = '2s'"))
        app.release("v2")
        result = app.push(check=1)
        assert "answered by another process" in result.event("revert.started")["reason"]
        assert app.status()["instance"]["pid"] == pid


def test_fifty_connections_made_while_nobody_accepts_are_answered_by_the_new_process(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        app.write(strategy="restart", env={"BOOT": "1.5"})
        app.push()
        app.release("v2")
        push = app.start("push", "--json")
        wait_until(
            lambda: len(app.processes()) and (app.status()["under_way"] or {}).get("step") == "ready", what="it boots"
        )
        waiting = [socket.create_connection(("127.0.0.1", app.port), 20) for _ in range(50)]
        for connection in waiting:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = []
        for connection in waiting:
            with connection:
                answers.append(b"".join(iter(lambda c=connection: c.recv(65536), b"")))
        push.communicate(timeout=60)
        assert push.returncode == 0
        assert all(b" 200 " in answer and str(app.current()).encode() in answer for answer in answers)
