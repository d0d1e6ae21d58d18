"""Whole pushes behind real proxies, on two ports in turn: no request is lost, and a pool that refuses costs nothing."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import test_pool_caddy
import test_pool_haproxy
import test_pool_nginx

from app import free_port
from load import Load
from overlapping import Overlapping, overlapping

LOAD = {"rate": 100, "kept": 8, "slow_rate": 1, "slow_seconds": 1.5}


@dataclass
class Address:
    """What the proxies of the pool tests ask of a backend."""

    name: str
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def behind(kind: str, root: Path, blue: Address, green: Address) -> Iterator[tuple[str, str]]:
    """A proxy in front of two ports: its URL, and the lines of [target.local.pool]."""
    root.mkdir()
    if kind == "haproxy":
        with test_pool_haproxy.haproxy(root, test_pool_haproxy.servers((blue, green))) as proxy:
            yield f"http://127.0.0.1:{proxy.port}", f'socket = "{root}/admin.sock"\nbackend = "app"'
    elif kind == "nginx":
        with test_pool_nginx.by_directory(root, blue.address, green.address) as proxy:
            command = json.dumps(test_pool_nginx.command(root))
            yield f"http://127.0.0.1:{proxy.port}", f'directory = "{root}/live"\ncommand = {command}'
    else:
        live = root / "live"
        live.mkdir()
        (live / blue.address).touch()
        with test_pool_caddy.caddy(root, test_pool_caddy.by_file(live, (blue, green))) as proxy:
            yield f"http://127.0.0.1:{proxy.port}", f'admin = "unix/{root}/admin.sock"\ndirectory = "{live}"'


@contextmanager
def app_behind(kind: str, tmp_path: Path, **more: str) -> Iterator[tuple[Overlapping, str]]:
    blue, green = Address("blue", free_port()), Address("green", free_port())
    with overlapping(tmp_path / "app") as app, behind(kind, tmp_path / kind, blue, green) as (url, pool):
        app.port = blue.port
        table = f'[target.local.pool]\nkind = "{kind}"\n{pool}'
        app.write(run=f"ports = [{blue.port}, {green.port}]", more=table, **more)
        yield app, url


@pytest.mark.parametrize(
    "kind", [pytest.param("nginx", marks=pytest.mark.full), "haproxy", pytest.param("caddy", marks=pytest.mark.full)]
)
def test_pushes_in_a_row_lose_nothing(tmp_path: Path, kind: str) -> None:
    with app_behind(kind, tmp_path) as (app, url):
        app.push()
        with Load(url, **LOAD) as load:
            for number in range(2):
                app.release(f"v{number + 2}")
                result = app.push()
                names = result.names()
                assert names.index("ready") < names.index("pool.joined") < names.index("drain.started")
            figures = load.stop()
        assert figures.lost == 0, figures.losses
        assert len(figures.releases) == 3


def test_restart_leaves_the_pool_before_the_signal_and_joins_it_after_the_proof(tmp_path: Path) -> None:
    with app_behind("haproxy", tmp_path, strategy="restart") as (app, _):
        app.push()
        app.release("v2")
        result = app.push()
        names = result.names()
        assert names.index("pool.left") < names.index("drain.started")
        assert names.index("ready") < names.index("pool.joined") < names.index("switched")
        app.run("stop", check=0)
        app.run("start", check=0)


@pytest.mark.parametrize("when", ["preflight", "switch"])
def test_pool_that_refuses_is_an_error_before_anything_is_stopped(tmp_path: Path, when: str) -> None:
    script = tmp_path / "pool.sh"
    script.write_text(
        f'#!/bin/sh\necho "$1 $2" >> {tmp_path}/said\n'
        f'if [ -e {tmp_path}/refuses ] && [ "$1" = "$(cat {tmp_path}/refuses)" ]; then echo "no such backend" >&2; exit 3; fi\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with overlapping(tmp_path / "app") as app:
        ports = [app.port, free_port()]
        table = f'[target.local.pool]\nkind = "command"\ncommand = ["{script}"]'
        app.write(run=f"ports = {ports}", more=table)
        app.push()
        pid = app.status()["instance"]["pid"]
        (tmp_path / "refuses").write_text("check" if when == "preflight" else "join")
        app.release("v2")
        result = app.push(check=6 if when == "preflight" else 1)
        assert "no such backend" in result.err
        assert app.status()["instance"]["pid"] == pid and not app.status()["draining"]
        assert app.get()["pid"] == pid
        if when == "switch":
            assert result.event("push.finished")["status"] == "reverted"
        (tmp_path / "refuses").unlink()
        app.push()
        said = (tmp_path / "said").read_text().splitlines()
        assert said[-2:] == [f"join 127.0.0.1:{ports[1]}", f"leave 127.0.0.1:{ports[0]}"]


def test_doctor_says_whether_the_pool_can_be_told(tmp_path: Path) -> None:
    script = tmp_path / "pool.sh"
    script.write_text(
        "#!/bin/sh\n[ ! -e refuses ] || { echo out of order >&2; exit 1; }\n".replace("refuses", f"{tmp_path}/refuses")
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with overlapping(tmp_path / "app") as app:
        table = f'[target.local.pool]\nkind = "command"\ncommand = ["{script}"]'
        app.write(run=f"ports = [{app.port}, {free_port()}]", more=table)
        assert "command can be told where to send traffic" in app.run("doctor", check=0).out
        (tmp_path / "refuses").touch()
        assert "out of order" in app.run("doctor", check=6).out
