"""The hosts of a target as sessions."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deployer.config.model import Config
from deployer.errors import UsageError
from deployer.link.channel import Channel
from deployer.link.session import Session

if TYPE_CHECKING:
    from deployer.link.dial import Ssh
    from deployer.rollout.ahead import Call

LOCAL = "local"
SHOWN = 12
"""Hosts that an error names before it counts the others."""


def hosts(config: Config) -> tuple[str, ...]:
    """The names of the target's hosts, as written in `hosts`; "local" for this machine."""
    return config.hosts or (LOCAL,)


def chosen(config: Config, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The hosts of the target that `--host` names, in the order of the config; all of them where it names none. UsageError."""
    known = hosts(config)
    unknown = [host for host in asked if host not in known]
    if unknown:
        raise UsageError(
            f"target {config.target_name} has no host {unknown[0]}",
            state="nothing was changed",
            hint=f"it has: {', '.join(known[:SHOWN])}"
            + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""),
        )
    return tuple(host for host in known if host in asked) if asked else known


def only(config: Config, asked: Sequence[str] | None) -> Config:
    """*config* as if the target had no other hosts than those that `--host` names. Raises UsageError."""
    found = chosen(config, asked or ())
    return replace(config, hosts=found) if asked and config.hosts else config


def connect(config: Config, host: str = LOCAL) -> Session:
    """A session with *host*, one of `hosts`. Raises LinkError or PreflightError."""
    return greeted(host, _channel(config, host), config.target(host)["path"])


def greeted(host: str, channel: Channel, path: str) -> Session:
    """A session with *host* over *channel*, about the app at *path*. Raises LinkError or PreflightError."""
    session = Session(host, channel)
    try:
        session.hello(path)
    except BaseException:
        session.__exit__()
        raise
    return session


def _channel(config: Config, host: str) -> Channel:
    if host == LOCAL and not config.hosts:
        from deployer.link import local  # who asks other hosts starts no process here

        return local.channel()
    from deployer.rollout.ahead import dialled

    return dialled(call(config, host))


def call(config: Config, host: str) -> Call:
    """How *host* of *config* is called."""
    from deployer.rollout.ahead import Call

    return Call(host, config.path, ssh(config), config.target_table["become"])


def ssh(config: Config) -> Ssh:
    """`[target.X.ssh]`, or its defaults."""
    from deployer.link.dial import Ssh  # a target without hosts never needs it

    return Ssh(**(config.target_table["ssh"] or {}))


def look(config: Config, host: str = LOCAL) -> dict[str, Any]:
    """The parameters with which *host* is asked about this app."""
    return {"target": config.target(host), "settings": config.settings()}


def deploy_id(kind: str) -> str:
    """A name for a deploy that sorts by time and that nobody else will choose."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{kind}-{secrets.token_hex(2)}"


def who() -> str:
    """Who calls: user@machine, and the CI system where there is one."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    ci = next(
        (name for name in ("GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "BUILDKITE", "CI") if os.environ.get(name)),
        None,
    )
    return f"{user}@{socket.gethostname()}" + (f" ({ci})" if ci else "")
