"""The hosts of a target as sessions."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time
from typing import Any

from deployer.config.model import Config
from deployer.link import local
from deployer.link.session import Session


def connect(config: Config) -> Session:
    """A session with the host of *config*'s target, which is this machine as yet."""
    session = Session("local", local.channel())
    try:
        session.hello(config.target()["path"])
    except BaseException:
        session.__exit__()
        raise
    return session


def look(config: Config) -> dict[str, Any]:
    """The parameters with which a host is asked about this app."""
    return {"target": config.target(), "settings": config.settings()}


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
