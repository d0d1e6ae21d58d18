"""
The link to the one host of a target, dialled while the client still imports: most of that is waiting for the server.

What is dialled ahead is told from the config before all of it was judged, so it is used only where the judged config asks for
exactly the same; else it ends with this process, and nothing was done over it.
"""

from __future__ import annotations

import os
import threading
import tomllib
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployer.config import addresses
from deployer.config.rejected import Rejected, string
from deployer.errors import DeployerError
from deployer.link.address import Address
from deployer.link.channel import Channel
from deployer.link.dial import Ssh, dial

_PLAIN = {"client": ("paramiko", "openssh"), "host_keys": ("strict", "accept-new")}
"""What may stand in [target.X.ssh]; with anything else nothing is dialled ahead."""


@dataclass(frozen=True)
class Call:
    """Whom to call, and how."""

    host: str
    path: str
    ssh: Ssh
    become: str | None

    def dial(self) -> Channel:
        return dial(Address.parse(self.host), self.path, self.ssh, self.become)


class Dialling:
    """A call under way in a thread of its own."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self._channel: Channel | None = None
        self._error: DeployerError | None = None
        self._thread = threading.Thread(target=self._run, name="dial ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._channel = self.call.dial()
        except DeployerError as error:
            self._error = error

    def channel(self) -> Channel:
        """Wait for what became of it. Raises what `dial` raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._channel or self.call.dial()


_ahead: ContextVar[Dialling | None] = ContextVar("the call that was begun ahead", default=None)


def dialled(call: Call) -> Channel:
    """A channel for *call*: the one dialled ahead, where it is the same. Raises what `dial` raises."""
    ahead = _ahead.get()
    _ahead.set(None)
    return ahead.channel() if ahead is not None and ahead.call == call else call.dial()


def dial_ahead(file: str, target: str) -> None:
    """Begin to call the host of *target* in *file*, if there is one alone and nothing special about it."""
    try:
        raw = tomllib.loads(Path(file).read_text("utf-8"))
        call = _call(raw["target"][target], Path(file).absolute().parent)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Rejected):
        return  # whoever reads the config in earnest tells
    if call is not None:
        if call.ssh.client == "paramiko":
            import deployer.link.ssh.pipe  # noqa: F401 - here: two threads that import take turns, and wait for each other
        _ahead.set(Dialling(call))


def _call(target: dict[str, Any], directory: Path) -> Call | None:
    ssh, become = dict(target.get("ssh") or {}), target.get("become")
    plain = all(value in _PLAIN.get(name, ()) for name, value in ssh.items())
    elsewhere = (target.get("rollout") or {}).get("engine") == "ray"
    if len(target["hosts"]) != 1 or elsewhere or not plain or become not in (None, "sudo"):
        return None
    path = string(target["path"], "path", "")
    full = path if path.startswith("~") else os.path.normpath(directory / path)
    return Call(addresses.ssh_host(target["hosts"][0]), full, Ssh(**ssh), become)
