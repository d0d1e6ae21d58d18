"""
Real OpenSSH servers on 127.x.y.z, each of them a host of its own, and the HOME of the person who logs in there.

All hosts share one file system, so each login gets a HOME of its own by `SetEnv HOME=…` (bash and dash keep it): with
`path = "~/app"` every host has its app elsewhere. With root they share no network either: whatever logs in is in a network
namespace of that host (the server re-executes itself for each connection, by a name of ours), so that every host has its
service on the same port, and nobody else's. An unprivileged server (`daemon=`) has neither that nor `become`.

    bed.hosts(3)                        three hosts; each knows our key, and our known_hosts knows theirs
    bed.host(user=bed.user())           log in as a throwaway user
    bed.host(daemon=bed.user())         the server itself runs as one
    bed.host(own_network=False)         a jump host
    bed.host(path=[dir], options={"MaxStartups": "10:30:100"})              PATH of its sessions; lines of sshd_config
    host.written                        as it stands in `hosts`             host.home, host.path: its HOME, and ~/app in it
    host.kill_sessions()                the link is cut                     host.freeze(), host.thaw(): the peer falls silent
    host.stop(), host.start()           the server, sessions live on        host.power_off(): everything of the host dies
    host.get("/health"), host.task(5), host.finish()   the app there                       host.log(): what sshd said
    bed.home, bed.env()                 HOME of the client, with .ssh       bed.config(text), bed.key(name)
    bed.trust(host), bed.distrust(host) known_hosts
    bed.agent(key)                      an ssh-agent: its SSH_AUTH_SOCK     bed.black_hole(): an address that never answers
"""

from __future__ import annotations

import getpass
import itertools
import json
import os
import pwd
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import parts
from app import alive, ask, read, state, wait_until
from netns import Network

PORT = 2222
SERVICE_PORT = 3901
OPTIONS = {
    "StrictModes": "no",
    "UsePAM": "no",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "PermitRootLogin": "yes",
    "UseDNS": "no",
    "PidFile": "none",
    "PrintMotd": "no",
    "MaxStartups": "500",
    "LogLevel": "VERBOSE",
    "Subsystem": "sftp internal-sftp",
}
_NUMBERS = itertools.count(1)


@dataclass
class Host:
    """One server, and what lives behind it. `user` logs in; `daemon` runs the server (None: we do)."""

    root: Path
    address: str
    user: str
    daemon: str | None
    options: dict[str, str]
    env: dict[str, str]
    network: Network | None
    service_port: int = SERVICE_PORT
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def written(self) -> str:
        """As it stands in `hosts`."""
        at = "" if self.user == getpass.getuser() else f"{self.user}@"
        return f"{at}{self.address}:{PORT}"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def path(self) -> Path:
        """What `path = "~/app"` means here."""
        return self.home / "app"

    @property
    def key(self) -> str:
        """The server's public key: type and base64."""
        return " ".join((self.root / "host_key.pub").read_text().split()[:2])

    @property
    def fingerprint(self) -> str:
        told = subprocess.run(["ssh-keygen", "-lf", str(self.root / "host_key.pub")], capture_output=True, text=True)
        return told.stdout.split()[1]

    # The server ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen."""
        lines = [f"{name} {value}" for name, value in [*self._own().items(), *self.options.items()]]
        lines += [f"{name} {value}" for name, value in OPTIONS.items() if name not in self.options]
        config = self.root / "sshd_config"
        config.write_text("\n".join(lines) + "\n")
        server = parts.find("sshd") or "sshd"
        self._process = subprocess.Popen(
            [self._server(server), "-D", "-f", str(config), "-E", str(self.root / "log")],
            executable=server, user=self.daemon, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        wait_until(self._listens, what=f"sshd listens: {self.log()}")

    def _own(self) -> dict[str, str]:
        env = {"HOME": str(self.home), **self.env}
        return {
            "ListenAddress": f"{self.address}:{PORT}",
            "HostKey": str(self.root / "host_key"),
            "AuthorizedKeysFile": str(self.root / "authorized_keys"),
            "SetEnv": " ".join(f'{name}="{value}"' for name, value in env.items()),
        }

    def _server(self, server: str) -> str:
        """The name under which sshd executes itself for each connection."""
        if self.network is None:
            return server
        wrapper = self.root / "sshd"
        enter = " ".join(map(shlex.quote, self.network.prefix()))
        wrapper.write_text(f'#!/bin/sh\nexec {enter} {server} "$@"\n')
        wrapper.chmod(0o755)
        return str(wrapper)

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log()
        with socket.create_connection((self.address, PORT), 1):
            return True

    def stop(self) -> None:
        """Listen no more; sessions live on."""
        if self._process is not None:
            orphans = self.sessions()
            self._process.kill()
            self._process.wait()
            self._process = None
            self._left = orphans

    _left: list[int] = field(default_factory=list, repr=False)

    def sessions(self) -> list[int]:
        """The server's processes that carry connections."""
        roots = [self._process.pid] if self._process else []
        children = _children()
        found, todo = [], [pid for pid in roots for pid in children.get(pid, [])] + list(self._left)
        while todo:
            pid = todo.pop()
            if read(f"/proc/{pid}/comm").startswith((b"sshd", b"nsenter")) and alive(pid):
                found.append(pid)
                todo += children.get(pid, [])
        return found

    def kill_sessions(self) -> None:
        """Cut every link; the server takes new ones."""
        pids = self.sessions()
        _send(pids, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, pids)), what="the sessions have gone")

    def freeze(self) -> list[int]:
        """Every link falls silent, without a word; the server takes new ones. Thaw the pids that it gives before the end."""
        pids = self.sessions()
        _send(pids, signal.SIGSTOP)
        wait_until(lambda: all(state(pid) in ("T", None) for pid in pids), what="the sessions have stopped")
        return pids

    def thaw(self, pids: Sequence[int]) -> None:
        _send(pids, signal.SIGCONT)

    def power_off(self) -> None:
        """All that runs on the host dies at once: sessions, engine, app."""
        self.stop()

        def dark() -> bool:
            left = [*self.sessions(), *self.processes()]
            _send(left, signal.SIGKILL)  # again and again: one may have been forked while we looked
            return not left

        wait_until(dark, what="the host is dark")

    def processes(self) -> list[int]:
        """Every living process that lives from this host's HOME, the server's own excepted."""
        mark, found = os.fsencode(self.home), []
        for pid in _pids():
            told = read(f"/proc/{pid}/environ") + b"\0" + read(f"/proc/{pid}/cmdline")
            if mark in told and pid != os.getpid() and alive(pid):
                found.append(pid)
        return found

    def log(self) -> str:
        """What the server said."""
        return read(str(self.root / "log")).decode("utf-8", "replace")

    def close(self) -> None:
        for _ in range(20):  # a keeper that dies may have started something a moment before
            self.stop()
            pids = [*self.sessions(), *self.processes()]
            if not pids:
                break
            _send(pids, signal.SIGKILL)
            wait_until(lambda ended=pids: not any(map(alive, ended)), what="what was killed has gone")
        if self.network is not None:
            self.network.close()

    # The app there ---------------------------------------------------------------------------------------------------

    def connect(self, port: int | None = None, timeout: float = 5) -> socket.socket:
        """A connection to the service, from beside it."""
        port = port or self.service_port
        if self.network is not None:
            return self.network.connect(port, timeout)
        return socket.create_connection(("127.0.0.1", port), timeout)

    def get(self, path: str = "/health", timeout: float = 5, method: str = "GET") -> dict[str, Any]:
        """The JSON that the service answers (also with a 503)."""
        http = HTTPConnection("127.0.0.1", self.service_port)
        http.sock = self.connect(timeout=timeout)
        try:
            http.request(method, path)
            found: dict[str, Any] = json.load(http.getresponse())
            return found
        finally:
            http.close()

    def task(self, seconds: float = 1, name: str = "callClaude", after: float | None = None) -> subprocess.Popen[str]:
        """As App.task."""
        until = "" if after is None else f"&after={after}"
        url = f"http://127.0.0.1:{self.service_port}/task?seconds={seconds}&name={name}{until}"
        client = ask("POST", url, self.network.prefix() if self.network else ())
        wait_until(
            lambda: any(task.get("name") == name for task in self.get().get("tasks", [])), what="the task is in flight"
        )
        return client

    def finish(self) -> None:
        """Let every task that is in flight be done."""
        self.get("/finish", timeout=30, method="POST")

    def lines(self, name: str) -> list[list[str]]:
        """The lines of SIGNALS_FILE, WORK_FILE or STARTS_FILE (fleet.py sets them), split into words."""
        return [line.split() for line in read(str(self.file(name))).decode().splitlines()]

    def file(self, name: str) -> Path:
        return self.home / f"{name.lower()}.txt"

    def current(self) -> str | None:
        """The release that `current` names."""
        link = self.path / "current"
        return os.path.basename(os.readlink(link)) if link.is_symlink() else None

    def engine_log(self) -> str:
        return read(str(self.path / ".deployer" / "engine.log")).decode("utf-8", "replace")


class Bed:
    """A set of hosts, and a person with a HOME, a key and known_hosts. Everything ends with `close`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "client"
        self._hosts: list[Host] = []
        self._users: list[str] = []
        self._agents: list[subprocess.Popen[bytes]] = []
        self._sockets: list[socket.socket] = []
        (self.home / ".ssh").mkdir(mode=0o700, parents=True)
        self.key("id_ed25519")

    # Hosts -----------------------------------------------------------------------------------------------------------

    def hosts(self, count: int, **like: Any) -> list[Host]:
        """*count* hosts that are alike."""
        return [self.host(**like) for _ in range(count)]

    def host(
        self, user: str | None = None, daemon: str | None = None, path: Sequence[str | Path] | None = None,
        options: dict[str, str] | None = None, env: dict[str, str] | None = None, known: bool = True,
        key: str = "ed25519", start: bool = True, own_network: bool = True,
    ) -> Host:  # fmt: skip
        """
        One more host, which listens. *known*: to our known_hosts. *key*: the type of its host key. A host through which others are
        reached (ProxyJump) has no *own_network*.
        """
        number = len(self._hosts) + 1
        root = self.root / f"host{number}"
        (root / "home").mkdir(parents=True)
        keygen(root / "host_key", key)
        shutil.copy(self.home / ".ssh/id_ed25519.pub", root / "authorized_keys")
        env = dict(env or {})
        if path is not None:
            env["PATH"] = ":".join(map(str, path))
        user = user or daemon or getpass.getuser()
        network = None
        if os.geteuid() == 0 and daemon is None and own_network:
            network = Network(f"dpl-{os.getpid()}-{next(_NUMBERS)}")
        host = Host(root, _address(), user, daemon, options or {}, env, network)
        self._hosts.append(host)
        give(root, daemon)
        give(host.home, user)
        if known:
            self.trust(host)
        if start:
            host.start()
        return host

    def user(self) -> str:
        """A throwaway user, who may log in with our key. Only root can make one."""
        parts.need_root()
        name = f"dpl{secrets.token_hex(4)}"
        # A home, so that there is a place that is not ours; `*`: locked accounts are refused.
        add = ["useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", name]
        wait_until(lambda: subprocess.run(add, capture_output=True).returncode == 0, 60, "useradd gets its lock")
        self._users.append(name)
        return name

    def sudoer(self, user: str, rule: str = "ALL=(ALL) NOPASSWD: ALL") -> None:
        """Let *user* use sudo; gone with the user."""
        file = Path("/etc/sudoers.d") / user
        file.write_text(f"{user} {rule}\n")
        file.chmod(0o440)

    def black_hole(self) -> str:
        """host:port of something that takes no connection and refuses none."""
        listener = socket.socket()
        listener.bind((_address(), 0))
        listener.listen(0)
        self._sockets.append(listener)
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._sockets.append(filler)
        host, port = listener.getsockname()
        return f"{host}:{port}"

    # The person ------------------------------------------------------------------------------------------------------

    def env(self) -> dict[str, str]:
        """What the client's environment adds: its HOME, and no agent of ours."""
        return {"HOME": str(self.home)}

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    def trust(self, host: Host, pattern: str | None = None) -> None:
        """Write the host's key into known_hosts, by *pattern* instead of its address."""
        with self.known_hosts.open("a") as file:
            file.write(f"{pattern or f'[{host.address}]:{PORT}'} {host.key}\n")

    def distrust(self, host: Host) -> None:
        """Forget the host's key."""
        lines = self.known_hosts.read_text().splitlines(keepends=True)
        self.known_hosts.write_text("".join(line for line in lines if host.key not in line))

    def config(self, text: str) -> Path:
        """Write ~/.ssh/config."""
        file = self.home / ".ssh" / "config"
        file.write_text(text)
        file.chmod(0o600)
        return file

    def key(self, name: str, kind: str = "ed25519", passphrase: str = "") -> Path:
        """A new key pair in ~/.ssh; no host knows it yet, but for the very first."""
        file = self.home / ".ssh" / name
        keygen(file, kind, passphrase)
        return file

    def agent(self, key: Path) -> str:
        """An ssh-agent that holds *key*; the path of its socket."""
        path = self.root / f"agent{len(self._agents)}"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
        self._agents.append(process)
        with_agent: dict[str, Any] = {"env": {**os.environ, "SSH_AUTH_SOCK": str(path)}, "stdin": subprocess.DEVNULL}
        asked = ["ssh-add", "-l"]  # 1: it has no key; 2: nobody answers, as between its bind() and its listen()
        wait_until(lambda: subprocess.run(asked, capture_output=True, **with_agent).returncode == 1, what="the agent")
        subprocess.run(["ssh-add", "-q", str(key)], check=True, **with_agent)
        return str(path)

    def close(self) -> None:
        for host in self._hosts:
            host.close()
        for agent in self._agents:
            agent.kill()
            agent.wait()
        for opened in self._sockets:
            opened.close()
        for user in self._users:
            self._remove(user)
        shutil.rmtree(self.root, ignore_errors=True)

    def _remove(self, user: str) -> None:
        (Path("/etc/sudoers.d") / user).unlink(missing_ok=True)
        number = pwd.getpwnam(user).pw_uid
        _send([pid for pid in _pids() if _owner(pid) == number], signal.SIGKILL)
        remove = ["userdel", "--remove", "--force", user]
        wait_until(lambda: subprocess.run(remove, capture_output=True).returncode in (0, 6, 12), 60, "userdel")


@contextmanager
def make_bed() -> Iterator[Bed]:
    """A bed of hosts below /tmp, where throwaway users can go too. Skips where there is no sshd."""
    parts.need("sshd", "ssh", "ssh-keygen", *(["ip", "nsenter"] if os.geteuid() == 0 else []))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where Debian's sshd locks itself in
    root = Path(tempfile.mkdtemp(prefix="deployer-sshd-"))
    root.chmod(0o755)
    bed = Bed(root)
    try:
        yield bed
    finally:
        bed.close()


def _address() -> str:
    """An address of 127/8 that belongs to this process, as far as can be told; nobody listens there."""
    while True:
        number = os.getpid() * 251 + next(_NUMBERS)
        address = f"127.{64 + (number >> 16) % 128}.{(number >> 8) % 256}.{number % 254 + 1}"
        with socket.socket() as probe:
            try:
                probe.bind((address, PORT))
                return address
            except OSError:
                continue


def keygen(file: Path, kind: str, passphrase: str = "") -> None:
    words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", file.name, "-f", str(file)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def give(path: Path, user: str | None) -> None:
    """Let *path* and all in it belong to *user*, where we may."""
    if os.geteuid() == 0 and user is not None:
        for each in (path, *path.rglob("*")):
            shutil.chown(each, user, pwd.getpwnam(user).pw_gid)


def _send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid in _pids():
        raw = read(f"/proc/{pid}/stat")
        if raw:
            found.setdefault(int(raw[raw.rindex(b")") + 2 :].split()[1]), []).append(pid)
    return found


def _owner(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
