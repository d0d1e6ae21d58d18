"""The ways to replace a service that are measured, by the name under which one is asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from benchmarks.swap import by_hand, deployer, proxies
from benchmarks.swap.gunicorn import gunicorn
from benchmarks.swap.pm2 import pm2
from benchmarks.swap.way import BROKEN, Choice, Way

ALL = tuple(BROKEN)
# Each opens a Way; mypy cannot see through partial.
WAYS: dict[str, Choice] = {
    "python": Choice("deployer overlap, Python", deployer.on_a_socket, ALL, ours=True, overlaps=True),
    "node": Choice(
        "deployer overlap, Node", partial(deployer.on_a_socket, language="node"), ALL, ours=True, overlaps=True
    ),
    "restart": Choice("deployer restart, held socket", partial(deployer.on_a_socket, strategy="restart"), ours=True),
    "nginx": Choice("deployer overlap, nginx", partial(deployer.behind, proxy=proxies.nginx), ours=True, overlaps=True),
    "haproxy": Choice(
        "deployer overlap, HAProxy", partial(deployer.behind, proxy=proxies.haproxy), ours=True, overlaps=True
    ),
    "caddy": Choice("deployer overlap, Caddy", partial(deployer.behind, proxy=proxies.caddy), ours=True, overlaps=True),
    "pm2": Choice("PM2 reload, no handler", partial(pm2, handler="none")),
    "pm2-handler": Choice("PM2 reload, handler as documented", partial(pm2, handler="documented"), ALL),
    "pm2-duck": Choice("PM2 reload, our lame duck", partial(pm2, handler="lame duck")),
    "gunicorn": Choice("gunicorn HUP", gunicorn, ALL),
    "kill": Choice("kill; wait; start", by_hand.kill_start, ("cannot start",)),
    "nginx-hand": Choice("nginx reload by hand, stop at once", by_hand.nginx_by_hand),
    "nginx-hand-wait": Choice(
        f"nginx reload by hand, stop after {by_hand.WAIT:g} s", partial(by_hand.nginx_by_hand, wait=by_hand.WAIT)
    ),
}
IN_A_ROW = {"python": 1.0, "node": 1.0, "nginx": 0.2, "haproxy": 0.2, "caddy": 0.2}
"""Who is pushed again and again with --pushes N, and how large a part of N times."""


def opened(name: str, root: Path) -> AbstractContextManager[Way]:
    """The way *name* with its files below *root*. Raises Missing."""
    return WAYS[name].open(root)
