"""A throwaway OpenSSH server on loopback, and a HOME whose keys it knows: the same for scp, rsync and us."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import end, free_port, wait_until

ADDRESS = "127.77.0.1"
SERVER = """\
ListenAddress {address}:{port}
HostKey {root}/host_key
AuthorizedKeysFile {root}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
UseDNS no
Subsystem sftp internal-sftp
"""
CLIENT = """\
Host {address}
  Port {port}
  User {user}
  IdentityFile {root}/key
  IdentitiesOnly yes
  UserKnownHostsFile {root}/home/.ssh/known_hosts
"""


@dataclass(frozen=True)
class Server:
    """`config` is for `ssh -F`; `written` as it stands in `hosts`."""

    root: Path
    port: int

    @property
    def written(self) -> str:
        return f"{getpass.getuser()}@{ADDRESS}:{self.port}"

    @property
    def config(self) -> Path:
        return self.root / "home" / ".ssh" / "config"


@contextmanager
def sshd(root: Path) -> Iterator[Server]:
    """A server, and HOME set so that its key is known and ours is used."""
    server = Server(root, free_port())
    home = os.environ.get("HOME")
    _write(server)
    daemon = shutil.which("sshd") or "/usr/sbin/sshd"
    Path("/run/sshd").mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([daemon, "-D", "-f", str(root / "sshd_config"), "-E", str(root / "log")])
    try:
        wait_until(lambda: _listens(server.port), "sshd listens")
        os.environ["HOME"] = str(root / "home")
        yield server
    finally:
        if home is not None:
            os.environ["HOME"] = home
        end(process)


def _write(server: Server) -> None:
    ssh = server.config.parent
    ssh.mkdir(parents=True)
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(server.root / name)], check=True)
    told = {"address": ADDRESS, "port": server.port, "root": server.root, "user": getpass.getuser()}
    (server.root / "sshd_config").write_text(SERVER.format(**told))
    server.config.write_text(CLIENT.format(**told))
    key = " ".join((server.root / "host_key.pub").read_text().split()[:2])
    (ssh / "known_hosts").write_text(f"[{ADDRESS}]:{server.port} {key}\n")


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((ADDRESS, port), 1):
            return True
    except OSError:
        return False
