"""The lines for a proxy's config in deploy.example.toml, as a user would copy them."""

from __future__ import annotations

import re
from pathlib import Path

from proxies import get, running, two_backends
from test_pool_caddy import files_pool as caddy_pool
from test_pool_nginx import files_pool as nginx_pool
from test_pool_nginx import nginx

from app import free_port
from parts import need

EXAMPLE = Path(__file__).parents[2] / "deploy.example.toml"


def lines(title: str) -> str:
    """The indented block below the line of the example that ends with *title*."""
    text = EXAMPLE.read_text()
    found = re.search(rf"^# .*{re.escape(title)}\n((?:#   .*\n)+)", text, re.MULTILINE)
    assert found, title
    return re.sub(r"(?m)^# +", "", found[1])


def test_the_lines_for_nginx_switch_it(tmp_path: Path) -> None:
    live = tmp_path / "nginx" / "live"
    live.mkdir(parents=True)
    with two_backends() as (blue, green):
        text = lines("In nginx's config:").replace("/srv/my-app-live", str(live))
        text = text.replace("127.0.0.1:3001", blue.address).replace("127.0.0.1:3002", green.address)
        inner = text.partition("{")[2].rpartition("}")[0]
        green.start()
        with nginx(tmp_path / "nginx", inner) as proxy:
            sends = nginx_pool(tmp_path / "nginx")
            sends.check([blue.address, green.address])
            assert get(proxy.port) == "503"
            for now, before in ((blue, green), (green, blue), (blue, green)):
                sends.send_to([now.address], [before.address])
                assert get(proxy.port) == now.name


def test_the_lines_for_caddy_switch_it(tmp_path: Path) -> None:
    need("caddy")
    root, port = tmp_path, free_port()
    (root / "live").mkdir()
    with two_backends() as (blue, green):
        first = lines("In a Caddyfile, and the same with 127.0.0.1:3002:").replace(
            "/srv/my-app-live", str(root / "live")
        )
        second = first.replace("@a", "@b").replace("127.0.0.1:3001", green.address)
        site = first.replace("127.0.0.1:3001", blue.address) + second
        top = f"{{\n admin unix/{root}/admin.sock\n auto_https off\n}}\n"
        (root / "Caddyfile").write_text(f"{top}http://127.0.0.1:{port} {{\n{site}}}\n")
        green.start()
        env = {"HOME": str(root), "XDG_DATA_HOME": str(root), "XDG_CONFIG_HOME": str(root), "PATH": "/usr/bin"}
        with running(["caddy", "run", "--config", "Caddyfile"], root, port, env=env):
            sends = caddy_pool(root)
            sends.check([blue.address, green.address])
            for now, before in ((blue, green), (green, blue), (blue, green)):
                sends.send_to([now.address], [before.address])
                assert get(port) == now.name
                assert sends.in_flight(before.address) == 0
