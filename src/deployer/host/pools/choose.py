"""Which pool a target has, and how it reaches the app."""

from __future__ import annotations

from typing import Any, Dict, Optional

from deployer.errors import UsageError
from deployer.host.pools.base import UNTOUCHED, Pool

ADDRESS = "127.0.0.1:{port}"


def pool_of(target: Dict[str, Any], app: str) -> Optional[Pool]:
    """
    The pool in `target["pool"]` (the config's table as plain JSON, durations in seconds) of *app*; None without one.

    Raises UsageError for a kind that this version does not know.
    """
    settings = target.get("pool")
    if not settings:
        return None
    kind = settings["kind"]
    # A host has one kind of pool, and the engine starts faster without the others.
    if kind == "nginx":
        return _nginx(settings, app)
    if kind == "haproxy":
        from deployer.host.pools.haproxy import HAProxy

        return HAProxy(settings, app)
    if kind == "caddy":
        return _caddy(settings, app)
    if kind == "command":
        from deployer.host.pools.command import Command

        return Command(settings, app)
    if kind == "registry":
        from deployer.host.pools.registry import Registry

        return Registry(settings, app, str(target.get("host") or "local"))
    raise UsageError(
        f"a pool of kind {kind}: not available in this version",
        cause="the host engine knows nginx, haproxy, caddy, registry and command",
        state=UNTOUCHED,
        hint='write kind = "command" and a script that tells it, or remove the pool of this target',
    )


def _nginx(settings: Dict[str, Any], app: str) -> Pool:
    if settings.get("directory"):
        from deployer.host.pools.nginx_directory import NginxDirectory

        return NginxDirectory(settings)
    from deployer.host.pools.nginx import Nginx

    return Nginx(settings, app)


def _caddy(settings: Dict[str, Any], app: str) -> Pool:
    if settings.get("directory"):
        from deployer.host.pools.caddy_directory import CaddyDirectory

        return CaddyDirectory(settings)
    from deployer.host.pools.caddy import Caddy

    return Caddy(settings, app)


def address(pool_settings: Dict[str, Any], port: int, host: str = "local") -> str:
    """How the pool reaches the app on *port* of *host* (as the target's `hosts` name it): the setting, filled in."""
    name = "127.0.0.1" if host == "local" else host.rpartition("@")[2]
    if name.count(":") == 1 or name.startswith("["):  # web1:2222, [::1]:2222: that port is sshd's
        name = name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
    return str(pool_settings.get("address") or ADDRESS).replace("{port}", str(port)).replace("{host}", name)
