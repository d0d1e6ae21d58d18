"""What changes from one release to the next: the strategy, the address, the way back; the service is reachable all the same."""

from __future__ import annotations

import shutil
import stat
import threading
import urllib.request
from pathlib import Path

import pytest
from test_overlap_sockets import gated

from app import SERVICES, free_port, wait_until
from overlapping import overlapping


@pytest.mark.parametrize("strategy", ["overlap", pytest.param("restart", marks=pytest.mark.full)])
@pytest.mark.parametrize("addresses", [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")])
def test_address_that_collides_with_the_one_before_is_listened_on_after_a_gap_that_is_told(
    tmp_path: Path, strategy: str, addresses: tuple[str, str]
) -> None:
    with overlapping(tmp_path) as app:
        app.write(run=f'socket = "{addresses[0]}:{app.port}"', strategy=strategy)
        app.push()
        app.write(run=f'socket = "{addresses[1]}:{app.port}"', strategy=strategy)
        result = app.push()
        assert any("has a gap" in event["text"] for event in result.events if event["event"] == "warning")
        listening = Path("/proc/net/tcp").read_text()
        said = {"127.0.0.1": "0100007F", "0.0.0.0": "00000000"}[addresses[1]]
        assert f"{said}:{app.port:04X} 00000000:0000 0A" in listening
        assert app.get()["release"] == app.current()


def test_unix_socket_may_move_to_another_directory(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            app.write(run=f'socket = "unix:{tmp_path}/{name}/app.sock"')
            config = app.root / "deploy.toml"
            lines = config.read_text().splitlines()
            config.write_text("\n".join("alive_for = '100ms'" if line.startswith("url") else line for line in lines))
            app.push()
        assert not (tmp_path / "a/app.sock").exists() and stat.S_ISSOCK((tmp_path / "b/app.sock").stat().st_mode)


@pytest.mark.full
def test_restart_waits_for_older_generations_before_it_stops_what_serves(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        app.write()
        app.push()
        slow = threading.Thread(target=lambda: urllib.request.urlopen(f"{app.url}/slow?seconds=8").read())
        slow.start()
        wait_until(lambda: app.get()["busy"] == 1, what="a request is in flight")
        app.release("v2")
        app.push("--detach")
        app.write(strategy="restart")
        app.release("v3")
        result = app.push()
        slow.join(30)
        names = result.names()
        assert names.index("room.waiting") < names.index("drain.started")
        assert result.event("host.finished")["gap_ms"] < 5000


def test_old_release_with_a_gate_opens_by_itself_when_it_has_to_come_back(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        shutil.copy(SERVICES / "gated.py", app.dist)
        gated(app, DRAINS="0.1")
        config = app.root / "deploy.toml"
        restart = config.read_text().replace('"overlap"', '"restart"')
        config.write_text(restart)
        app.push()
        pid = app.status()["instance"]["pid"]
        config.write_text(restart.replace("DRAINS", 'BROKEN = "1", DRAINS', 1))
        app.release("v2")
        app.push(check=1)
        assert app.get("/")["pid"] != pid


@pytest.mark.parametrize("how", ["broken", "abort"])
def test_pool_that_was_left_is_joined_again_when_the_old_release_serves(tmp_path: Path, how: str) -> None:
    script = tmp_path / "pool.sh"
    script.write_text(
        f'#!/bin/sh\ncase "$1" in in-flight) cat {tmp_path}/busy;; *) echo "$1 $2" >> {tmp_path}/said;; esac\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "busy").write_text("0\n")
    with overlapping(tmp_path / "app") as app:
        run = f"ports = [{app.port}]"
        pool = f'[target.local.pool]\nkind = "command"\ncommand = ["{script}"]\ncounts = true'
        app.write(run=run, strategy="restart", more=pool)
        app.push()
        app.release("v2")
        if how == "broken":
            app.write(run=run, strategy="restart", more=pool, env={"BROKEN": "503"}, health="ready_within = '1s'")
            result = app.push(check=1)
            assert result.event("push.finished")["status"] == "reverted"
        else:
            (tmp_path / "busy").write_text("1\n")
            push = app.start("push")
            wait_until(lambda: (app.status()["under_way"] or {}).get("step") == "leave", what="the pool is left")
            app.run("abort", check=0)
            push.communicate(timeout=60)
        said = (tmp_path / "said").read_text().splitlines()
        assert said[-1] == f"join 127.0.0.1:{app.port}"
        assert app.get()["release"] == app.current()


def test_bind_that_cannot_succeed_is_told_before_anything_is_stopped(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        app.write(strategy="restart")
        app.push()
        pid = app.status()["instance"]["pid"]
        app.write(run=f'socket = "192.0.2.1:{free_port()}"', strategy="restart", health="ready_within = '2s'")
        config = app.root / "deploy.toml"
        lines = config.read_text().splitlines()
        config.write_text("\n".join("alive_for = '100ms'" if line.startswith("url") else line for line in lines))
        result = app.push(check=6)
        assert "cannot listen on 192.0.2.1" in result.err
        assert app.status()["instance"]["pid"] == pid


@pytest.mark.full
def test_result_names_its_own_release_though_another_was_pushed_meanwhile(tmp_path: Path) -> None:
    with overlapping(tmp_path) as app:
        app.push()
        slow = threading.Thread(target=lambda: urllib.request.urlopen(f"{app.url}/slow?seconds=10").read())
        slow.start()
        wait_until(lambda: app.get()["busy"] == 1, what="a request is in flight")
        app.release("v2")
        first = app.start("push", "--json")
        wait_until(lambda: app.status()["draining"], what="the old one drains")
        second = app.current()
        app.release("v3")
        app.push()
        out, _ = first.communicate(timeout=60)
        slow.join(30)
        assert f'"release": "{second}"' in out.splitlines()[-1]
        assert app.current() != second
