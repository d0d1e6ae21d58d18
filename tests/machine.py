"""
A machine for the tests: systemd as its PID 1, a disk that outlives a power cut, sshd, a network interface that can be cut.

    with make_machine() as machine:             booted to multi-user.target; what is WantedBy= it starts at boot
        machine.ssh_address                     deploy@198.18.0.2:2222; machine.bed: the client's HOME, its keys, known_hosts
        machine.run(["systemctl", "status"])    inside, as root; user="deploy" as the one who logs in (`sudo -n` is his)
        machine.show(unit, "MainPID"), .journal(unit)
        machine.power_cut(); machine.boot()     SIGKILL of its init, the link silent; the same disk again
        machine.power_off()                     orderly: every unit is stopped
        machine.cut(); machine.plug()           the network cable
        machine.get("/health"), .task(5), ...   the app there: a machine is a Host (sshd.py)
        with machine_fleet(root, [machine]) as fleet: fleet.push()

A login is a session of logind's: `systemctl --user` works there, and without lingering (`loginctl enable-linger`) all that it
started ends with the last session.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import parts
from app import SERVICES, Result, wait_until
from fleet import FILES, Fleet
from netns import Network
from realm import RIG, Realm, make_root, need_systemd
from sshd import OPTIONS, PORT, SERVICE_PORT, Bed, Host, keygen, make_bed

USER = "deploy"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
UNIT = """[Unit]
After=network.target systemd-user-sessions.service systemd-logind.service
[Service]
Type=notify
ExecStart=/usr/sbin/sshd -D -f /etc/rig/sshd_config
KillMode=process
RuntimeDirectory=sshd
[Install]
WantedBy=multi-user.target
"""
_NUMBERS = itertools.count(1)


class Machine(Host):
    """One machine. Its sshd takes logins of `deploy` with the bed's first key."""

    def __init__(self, bed: Bed, options: dict[str, str] | None = None, size: str = "512m") -> None:
        number = next(_NUMBERS)
        network = Network(f"dplm-{os.getpid()}-{number}")
        self.bed = bed
        self.cable = f"dm{os.getpid()}-{number}"
        root = make_root("machine")
        try:
            super().__init__(root, _connect(network, self.cable), USER, None, options or {}, {}, network)
            self._sow()
        except BaseException:  # from the next line on, the warden has all that
            network.close()
            shutil.rmtree(root)
            raise
        namespaces = ["--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--uts", "--ipc"]
        script = ["sh", str(RIG / "machine.sh"), str(root), f"rig{number}", USER]
        argv = [*network.prefix(), "unshare", *namespaces, "--propagation", "private", *script]
        kinds = ("pid", "mnt", "cgroup", "uts", "ipc", "net")
        self.realm = Realm(root, argv, kinds, network=network.name, size=size)

    def _sow(self) -> None:
        """What the new disk gets."""
        seed = self.root / "seed"
        seed.mkdir()
        keygen(self.root / "host_key", "ed25519")
        shutil.copy(self.root / "host_key", seed)
        shutil.copy(self.bed.home / ".ssh/id_ed25519.pub", seed / "authorized_keys")
        wanted = {
            **OPTIONS, "UsePAM": "yes", "ListenAddress": f"0.0.0.0:{PORT}", "HostKey": "/etc/rig/host_key",
            "AuthorizedKeysFile": "/etc/rig/authorized_keys", **self.options,
        }  # fmt: skip
        (seed / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in wanted.items()))
        (seed / "rig-sshd.service").write_text(UNIT)
        self.bed.trust(self)

    # Power and cable -------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Switch it on; returns when multi-user.target has been reached (or units have failed), and sshd listens."""
        self.realm.boot()
        self.plug()
        wait_until(self._up, what=f"the machine is up: {self.realm.log()}")
        wait_until(self._listens, what="sshd listens")

    def _up(self) -> bool:
        assert self.realm.running, self.realm.log()
        told = self.run(["systemctl", "is-system-running"], check=False).out.strip()
        return told in ("running", "degraded")

    def power_cut(self) -> None:
        """All that lives there dies at once, and nobody hears of it."""
        self.cut()
        self.realm.power_cut()

    def power_off(self) -> None:
        """Shut it down in order."""
        self.realm.signal_init(signal.SIGRTMIN + 4)

    def cut(self) -> None:
        """Pull the cable: packets vanish both ways."""
        _ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        _ip("link", "set", self.cable, "up")

    def start(self) -> None:
        self.boot()

    def stop(self) -> None:
        """Listen no more; sessions live on."""
        self.run(["systemctl", "stop", "rig-sshd.service"])

    def close(self) -> None:
        self.realm.close()

    # Commands --------------------------------------------------------------------------------------------------------

    @property
    def ssh_address(self) -> str:
        """As it stands in `hosts`, and behind `ssh://`."""
        return self.written

    def run(self, argv: Sequence[str], check: bool = True, user: str | None = None, **more: Any) -> Result:
        """Run *argv* inside to its end, as root or as *user*. It is of no session: for one, log in."""
        return self.realm.run(_as(user, argv), ENVIRONMENT, None, check, **more)

    def popen(self, argv: Sequence[str], user: str | None = None, **more: Any) -> subprocess.Popen[str]:
        """Start *argv* inside, and return while it runs."""
        return self.realm.popen(_as(user, argv), ENVIRONMENT, **more)

    def ssh(self, command: str, check: bool = True, timeout: float = 60) -> Result:
        """Log in as `deploy` and run *command* there."""
        words = [
            "ssh", "-F", "none", "-o", "BatchMode=yes", "-i", str(self.bed.home / ".ssh/id_ed25519"),
            "-o", f"UserKnownHostsFile={self.bed.known_hosts}", "-p", str(PORT), f"{self.user}@{self.address}", command,
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log()}"
        return Result(done.returncode, done.stdout, done.stderr, 0)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """What systemd knows of *unit*; all of it without *properties*."""
        wanted = ["-p", ",".join(properties)] if properties else []
        told = self.run(["systemctl", "show", "--no-pager", *wanted, unit]).out
        return dict(line.split("=", 1) for line in told.splitlines())

    def journal(self, unit: str) -> list[str]:
        """What *unit* said, in all boots, and systemd of it."""
        words = ["journalctl", "--unit", unit, "--output=cat", "--no-pager", "--quiet"]
        return self.run(words, check=False).out.splitlines()

    def log(self) -> str:
        return "\n".join(self.journal("rig-sshd.service")) if self.realm.running else self.realm.log()

    # What a Host tells -----------------------------------------------------------------------------------------------

    @property
    def home(self) -> Path:
        """The HOME of `deploy`, as it is called out here while the machine runs."""
        return self.realm.inside(f"/home/{USER}")

    def _listens(self) -> bool:
        return bool(self.run(["systemctl", "is-active", "rig-sshd.service"], check=False).out == "active\n")

    def prepare(self) -> None:
        """Give it the env file that tells its service where it is."""
        lines = [
            f"SERVICE_PORT={self.service_port}",
            *(f"{name}=/home/{USER}/{self.file(name).name}" for name in FILES),
        ]
        text = "\\n".join(lines) + "\\n"
        self.run(["sh", "-c", f"mkdir -p ~/app/shared && printf '{text}' >~/app/shared/app.env"], user=USER)


@contextmanager
def make_machine(bed: Bed | None = None, **like: Any) -> Iterator[Machine]:
    """A machine that is up. Skips where there can be none."""
    need_systemd()
    parts.need("ip", "nsenter", "sudo", "sshd", "ssh", "ssh-keygen")
    if not any(Path("/usr/lib").glob("**/security/pam_systemd.so")):
        parts.missing("libpam-systemd is not installed")
    if bed is None:
        with make_bed() as own, make_machine(own, **like) as machine:
            yield machine
        return
    machine = Machine(bed, **like)
    try:
        machine.boot()
        yield machine
    finally:
        machine.close()


@contextmanager
def machine_fleet(root: Path, machines: Sequence[Machine]) -> Iterator[Fleet]:
    """An app for *machines*, configured plainly (fleet.py)."""
    bed = machines[0].bed
    fleet = Fleet(root, SERVICE_PORT, dict(bed.env()), bed=bed, hosts=list(machines))
    fleet.dist.mkdir(parents=True)
    shutil.copy(SERVICES / "service.py", fleet.dist / "service.py")
    fleet.release("v1")
    for machine in machines:
        machine.prepare()
    fleet.configure(args=[])
    yield fleet


def _as(user: str | None, argv: Sequence[str]) -> list[str]:
    return ["runuser", "--login", user, "-s", "/bin/sh", "-c", 'exec "$@"', "--", "sh", *argv] if user else list(argv)


def _connect(network: Network, cable: str) -> str:
    """A cable between us and the network; its address there. 198.18.0.0/15 is for tests (RFC 2544): nobody else's."""
    _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", network.name)
    taken = subprocess.run([parts.find("ip") or "ip", "-4", "addr"], capture_output=True, text=True).stdout
    for number in itertools.count(os.getpid() * 7):
        net = f"198.{18 + (number >> 14) % 2}.{(number >> 6) % 256}"
        last = (number % 64) * 4
        if f" {net}.{last + 1}/" not in taken:
            break
    _ip("addr", "add", f"{net}.{last + 1}/30", "dev", cable)
    _ip("-n", network.name, "addr", "add", f"{net}.{last + 2}/30", "dev", "eth0")
    _ip("-n", network.name, "link", "set", "eth0", "up")
    return f"{net}.{last + 2}"


def _ip(*words: str) -> None:
    subprocess.run([parts.find("ip") or "ip", *words], check=True)
