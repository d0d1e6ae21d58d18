"""Many hosts on one machine: an OpenSSH server on an address of its own for each, with a HOME of its own; one person."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import wait_until

PORT = 2222
SERVER = """\
AuthorizedKeysFile {root}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
UseDNS no
MaxStartups 500
LogLevel ERROR
Subsystem sftp internal-sftp
"""
CLIENT = """\
Host 127.*
  Port {port}
  User root
  IdentityFile {root}/key
  IdentitiesOnly yes
  UserKnownHostsFile {root}/home/.ssh/known_hosts
"""
_CGROUPS = Path("/sys/fs/cgroup/unified")


@dataclass(frozen=True)
class Host:
    """`home` is HOME of whoever logs in there."""

    address: str
    home: Path


@dataclass(frozen=True)
class Hosts:
    """`home` is HOME of the person, `key` her key, `config` her ssh config."""

    root: Path
    hosts: Sequence[Host]
    group: Path | None

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def key(self) -> Path:
        return self.root / "key"

    @property
    def config(self) -> Path:
        return self.home / ".ssh" / "config"

    def cpu(self) -> float | None:
        """Seconds of CPU that all that runs on the hosts has used; None where that cannot be told."""
        if self.group is None:
            return None
        told = dict(line.split() for line in (self.group / "cpu.stat").read_text().splitlines())
        return int(told["usage_usec"]) / 1e6

    def clear(self) -> None:
        """End all that runs on the hosts, but for the servers."""
        homes = self.root / "hosts"
        for _ in range(20):  # a keeper that dies may have started something a moment before
            pids = living(homes)
            if not pids:
                return
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            wait_until(lambda ended=pids: not set(ended) & set(living(homes)), "the killed have gone", 0.1)  # type: ignore[misc]


@contextmanager
def serve(root: Path, count: int) -> Iterator[Hosts]:
    """*count* hosts that listen. Whatever lives on them ends with them."""
    Path("/run/sshd").mkdir(parents=True, exist_ok=True)
    second = 192 + os.getpid() % 60
    addresses = [f"127.{second}.{1 + number // 250}.{1 + number % 250}" for number in range(count)]
    hosts = Hosts(root, [Host(address, root / "hosts" / address) for address in addresses], _cgroup())
    _write(hosts)
    servers = []
    try:
        servers = [_server(hosts, host) for host in hosts.hosts]
        wait_until(lambda: all(_listens(host.address) for host in hosts.hosts), "every sshd listens")
        yield hosts
    finally:
        for server in servers:
            server.kill()  # `unshare` is deaf to anything less, and takes its host with it
        for server in servers:
            server.wait()
        hosts.clear()
        if hosts.group is not None:
            wait_until(lambda: not _populated(hosts.group), "all that ran on the hosts has gone")
            hosts.group.rmdir()


def _cgroup() -> Path | None:
    """A group of processes of our own that counts its CPU, where we may make one."""
    group = _CGROUPS / f"deployer-bench-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.stat").read_text()
        return group
    except OSError:
        return None


def _populated(group: Path | None) -> bool:
    return group is not None and bool((group / "cgroup.procs").read_text().strip())


def _write(hosts: Hosts) -> None:
    hosts.config.parent.mkdir(parents=True)
    _keygen(hosts.key)
    (hosts.root / "sshd_config").write_text(SERVER.format(root=hosts.root))
    hosts.config.write_text(CLIENT.format(port=PORT, root=hosts.root))
    known = []
    for host in hosts.hosts:
        host.home.mkdir(parents=True)
        _keygen(host.home / "host_key")
        key = " ".join((host.home / "host_key.pub").read_text().split()[:2])
        known.append(f"[{host.address}]:{PORT} {key}\n")
    (hosts.config.parent / "known_hosts").write_text("".join(known))


def _keygen(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(file)], check=True)


def _server(hosts: Hosts, host: Host) -> subprocess.Popen[bytes]:
    daemon = shutil.which("sshd") or "/usr/sbin/sshd"
    options = [f"ListenAddress={host.address}:{PORT}", f"HostKey={host.home}/host_key", f"SetEnv=HOME={host.home}"]
    enter = f'echo $$ > {hosts.group}/cgroup.procs && exec "$@"' if hosts.group else 'exec "$@"'
    # A process table of its own, as every host has: whoever reads it must not pay for all the others.
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] if os.geteuid() == 0 else []
    return subprocess.Popen(
        ["/bin/sh", "-c", enter, "sh", *alone, daemon, "-D", "-f", str(hosts.root / "sshd_config"),
         "-E", str(host.home / "log"), *(word for option in options for word in ("-o", option))],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def _listens(address: str) -> bool:
    try:
        with socket.create_connection((address, PORT), 1):
            return True
    except OSError:
        return False


def directories(command: bytes) -> list[str]:
    """Where the processes with this command line are at work."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{name}/cmdline").read_bytes() == command:
                found.append(os.readlink(f"/proc/{name}/cwd"))
        except OSError:
            pass
    return found


def living(homes: Path) -> list[int]:
    """The processes whose environment or command line names *homes*, servers excepted."""
    mark, found = os.fsencode(homes) + b"/", []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            told = _read(f"/proc/{name}/environ") + _read(f"/proc/{name}/cmdline")  # both are empty for a zombie
            if mark in told and not _read(f"/proc/{name}/comm").startswith((b"sshd", b"unshare")):
                found.append(int(name))
    return found


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
