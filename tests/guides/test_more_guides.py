"""The pages whose servers take too long to fetch for each run of scripts/test: `pytest -m extended tests/guides`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from guide import Guide, blocks, guide
from test_guides import PUSHES, pushed_under_load

from app import free_port
from load import Figures, Load
from parts import missing, need

sys.path.append(str(Path(__file__).parents[1] / "integration"))

from test_pool_nginx import by_directory, command, nginx

pytestmark = [pytest.mark.extended, pytest.mark.timeout(300)]


def test_go_loses_nobody(tmp_path: Path) -> None:
    need("go")
    with guide(tmp_path, "go.md") as app:
        seen = pushed_under_load(app)
        assert seen.losses == {}, seen.examples


def test_puma_loses_nobody(tmp_path: Path) -> None:
    need("puma")
    with guide(tmp_path, "puma.md") as app:
        seen = pushed_under_load(app)
        assert seen.losses == {}, seen.examples


def test_express_loses_nobody(tmp_path: Path) -> None:
    need("node", "npm")
    with guide(tmp_path, "node.md") as app:
        done = subprocess.run(
            ["npm", "install", "express@5"], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            missing(f"express could not be installed: {done.stderr[-300:]}")
        config = tmp_path / "deploy.toml"
        config.write_text(config.read_text().replace('"app.js"', '"express.js"').replace('"node_modules/", ', ""))
        seen = pushed_under_load(app)
        assert seen.losses == {}, seen.examples


def test_install_of_a_page_as_it_stands(tmp_path: Path) -> None:
    with guide(tmp_path, "uvicorn.md") as app:
        app.run("push", check=0, timeout=200)
        assert app.get()["release"] == app.current()


def test_php_fpm_behind_nginx_loses_nobody(tmp_path: Path) -> None:
    need("php-fpm8.2")
    with guide(tmp_path, "php-fpm.md") as app:
        location = blocks("php-fpm.md")["nginx-location.conf"].replace("3001", str(app.port))
        inner = location.partition("{")[2].rpartition("}")[0]
        inner = inner.replace("include fastcgi_params", "include /etc/nginx/fastcgi_params")
        if os.geteuid() == 0:  # the files of a test are below a directory of root's
            config, pool = tmp_path / "deploy.toml", tmp_path / "fpm.conf"
            config.write_text(
                config.read_text().replace('"--nodaemonize"', '"--nodaemonize", "--allow-to-run-as-root"')
            )
            pool.write_text(pool.read_text().replace("www-data", "root"))
        app.push()
        with nginx(tmp_path / "nginx", inner) as proxy:
            seen = pushed_behind(app, f"http://127.0.0.1:{proxy.port}")
        assert seen.losses == {}, seen.examples


def test_granian_behind_nginx_loses_nobody(tmp_path: Path) -> None:
    place = tmp_path / "venv"
    for args in (["-m", "venv", "--without-pip", place], ["-m", "pip", "--python", place, "install", "-q", "granian"]):
        done = subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, timeout=120)
        if done.returncode:
            missing(f"granian could not be installed: {done.stderr[-300:]}")
    root = tmp_path / "app"
    root.mkdir()
    with guide(root, "granian.md", place) as app:
        other = free_port()
        config = (root / "deploy.toml").read_text().replace("3002", str(other))
        proxy_root = tmp_path / "nginx"
        config = config.replace("/srv/my-app-live", f"{proxy_root}/live")
        config = config.replace('kind = "nginx"', f'kind = "nginx"\ncommand = {json.dumps(command(proxy_root))}')
        (root / "deploy.toml").write_text(config)
        with by_directory(proxy_root, f"127.0.0.1:{app.port}", f"127.0.0.1:{other}") as proxy:
            app.push()
            seen = pushed_behind(app, f"http://127.0.0.1:{proxy.port}")
        assert seen.losses == {}, seen.examples


def pushed_behind(app: Guide, url: str) -> Figures:
    """As pushed_under_load, through the proxy at *url*."""
    with Load(url, rate=100, kept=8, slow_rate=2, slow_seconds=1.5) as clients:
        for number in range(PUSHES):
            app.release(f"v{number + 2}")
            assert app.push().event("drain.finished")["verdict"] == "clean"
        seen = clients.stop()
    assert len(seen.releases) == PUSHES + 1
    return seen
