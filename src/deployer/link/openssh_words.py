"""The command line of the system's `ssh`: what a config may not turn on, and where HOME is when it is not the passwd's."""

from __future__ import annotations

import glob
import math
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from deployer.link.address import Address
from deployer.link.ssh_config import SYSTEM, home
from deployer.link.ssh_options import DEFAULT_KEYS, DEFAULT_KNOWN, Options

if TYPE_CHECKING:
    from deployer.link.dial import Ssh

_NEVER = (
    "BatchMode=yes", "RequestTTY=no", "RemoteCommand=none", "PermitLocalCommand=no", "ClearAllForwardings=yes", "Tunnel=no",
    "ForwardAgent=no", "ForwardX11=no", "ControlMaster=no", "ControlPath=none", "AddKeysToAgent=no",
    "EscapeChar=none", "LogLevel=ERROR", "NoHostAuthenticationForLocalhost=no",
)  # fmt: skip
_UNDONE = {"forkafterauthentication": "no", "stdinnull": "no", "sessiontype": "default"}
"""Younger than some ssh that is in use: only named where the config does."""
_FAST = "^aes128-gcm@openssh.com"
_ALIVE_COUNT = 2


class Words:
    """The argv for *address*; *options* where we could read the config ourselves. `close` removes what it needed on the disk."""

    def __init__(self, address: Address, ssh: Ssh, options: Options | None) -> None:
        self._address = address
        self._ssh = ssh
        self._options = options
        self._directory = Path(tempfile.mkdtemp(prefix="deployer-ssh-"))
        try:
            self._config = self._written()
        except BaseException:
            self.close()
            raise

    @property
    def where(self) -> str:
        """host:port, as far as we know."""
        return self._options.where if self._options else f"{self._address.host}:{self._address.port or 22}"

    @property
    def options(self) -> Options | None:
        return self._options

    @property
    def connect_within(self) -> float:
        """Seconds until `ssh` is through to the host at the latest, each jump host before it included."""
        ssh, found = self._ssh, self._options.found if self._options else None
        jumps = (found and found.text("proxyjump")) or "none"
        hops = 1 if jumps.lower() == "none" else 2 + jumps.count(",")
        once = self._options.connect_timeout(ssh.connect_timeout, ssh.DEFAULT_TIMEOUT) if self._options else None
        return hops * (once or ssh.connect_timeout or ssh.DEFAULT_TIMEOUT)

    def argv(self, command: str, *first: str) -> list[str]:
        """`ssh …`; *first* are options that win over all others."""
        words = ["ssh", "-T", "-x", "-a"]
        words += ["-F", str(self._config)]
        for option in (*first, *_NEVER, *self._ours()):
            words += ["-o", option]
        words += ["-l", self._address.user] if self._address.user else []
        words += ["-p", str(self._address.port)] if self._address.port else []
        return [*words, "--", self._address.host, command]

    def _ours(self) -> list[str]:
        ssh, found = self._ssh, self._options.found if self._options else None
        # Ours would hold it up: ssh must go by itself when we were killed and the server is silent. Well after our own pulse
        # has noticed, which can say that it was silence; ssh could only close without a word.
        alive = max(1, math.ceil(2 * ssh.silent_after / _ALIVE_COUNT))
        ours = [
            f"StrictHostKeyChecking={self._keys}",
            f"ServerAliveInterval={alive}",
            f"ServerAliveCountMax={_ALIVE_COUNT}",
        ]
        if ssh.connect_timeout is not None or found is None or found.text("connecttimeout") is None:
            ours.append(f"ConnectTimeout={max(1, round(ssh.connect_timeout or ssh.DEFAULT_TIMEOUT))}")
        if found is not None and found.text("ciphers") is None:
            ours.append(f"Ciphers={_FAST}")
        if found is not None:
            ours += [f"{name}={value}" for name, value in _UNDONE.items() if found.text(name) is not None]
        return ours

    @property
    def _keys(self) -> str:
        return "accept-new" if self._ssh.host_keys == "accept-new" else "yes"

    # The config ------------------------------------------------------------------------------------------------------

    def _written(self) -> Path:
        """
        A config around the person's own. The `ssh` that ProxyJump starts for the jump host is given it, and none of our `-o`.
        """
        # The first word counts: no config turns the check of a jump host's key off, or goes through an old connection.
        first = [
            "BatchMode yes",
            f"StrictHostKeyChecking {self._keys}",
            "NoHostAuthenticationForLocalhost no",
            "ControlMaster no",
        ]
        lines = [
            *first,
            "ControlPath none",
            f"Include {_included((self._ssh.config or home() / '.ssh/config').absolute())}",
        ]
        lines += ["Host *", *self._elsewhere()]
        if self._ssh.config is None:
            lines += [f"Include {SYSTEM}"]
        file = self._directory / "config"
        file.write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")
        return file

    def _elsewhere(self) -> list[str]:
        """Where $HOME is not the passwd's, into which ssh looks."""
        if home() == Path(pwd.getpwuid(os.getuid()).pw_dir):
            return []
        own = home() / ".ssh"
        known = " ".join(_quoted(Path(os.path.expanduser(name))) for name in DEFAULT_KNOWN)
        keys = [f"IdentityFile {_quoted(own / name)}" for name in DEFAULT_KEYS if (own / name).exists()]
        return [f"UserKnownHostsFile {known}", *keys]

    def close(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"') + '"'


def _included(path: Path) -> str:
    return '"' + glob.escape(str(path)).replace("\\", "\\\\").replace('"', '\\"') + '"'
