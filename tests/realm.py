"""
A realm: processes in namespaces and a cgroup of their own, with an init; what the tests run systemd in (shared/TESTBED.md,
its first warning). Made, started and taken down by a warden (rig/warden.py), who outlives a test run that was killed.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import parts
from app import Result, alive, read, wait_until

RIG = Path(__file__).parent / "rig"
CLONE_NEWPID = 0x20000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_NUMBERS = itertools.count(1)


class Realm:
    """
    *argv* unshares and becomes the init of the realm; *root* is its directory, gone at the end like *user* and *network*. With
    *size* there is `root/disk`, a tmpfs that lasts from one `boot` to the next.
    """

    def __init__(
        self, root: Path, argv: Sequence[str], namespaces: Sequence[str] = ("pid", "mnt", "cgroup"),
        user: str | None = None, network: str | None = None, size: str | None = None,
    ) -> None:  # fmt: skip
        self.root = root
        self.namespaces = namespaces
        self.cgroup = cgroup2() / f"deployer-rig-{os.getpid()}-{next(_NUMBERS)}"
        self.init = 0
        orders = {
            "argv": list(argv), "cgroup": str(self.cgroup), "root": str(root), "log": str(root / "realm.log"),
            "user": user, "network": network, "disk": str(root / "disk") if size else None, "size": size,
        }  # fmt: skip
        warden = [sys.executable, "-S", "-E", str(RIG / "warden.py"), json.dumps(orders)]
        own_mounts = ["unshare", "--mount", "--propagation", "private"] if size else []
        self._warden = subprocess.Popen(
            [*own_mounts, *warden], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def boot(self) -> None:
        """Start the init; again after its end."""
        assert self._warden.stdin is not None and self._warden.stdout is not None
        self._warden.stdin.write("start\n")
        self._warden.stdin.flush()
        self.init = int(self._warden.stdout.readline() or 0)
        assert self.running, f"the realm does not start: {self.log()}"

    @property
    def running(self) -> bool:
        return self.init != 0 and alive(self.init)

    def power_cut(self) -> None:
        """SIGKILL to the init: the kernel kills all that lives in there."""
        self.signal_init(signal.SIGKILL)

    def signal_init(self, number: int, within: float = 40) -> None:
        """Send *number* to the init and wait until it has gone."""
        os.kill(self.init, number)
        wait_until(lambda: not self.running, within, f"the realm has ended: {self.log()}")

    def inside(self, path: str | Path) -> Path:
        """How a file of in there is called out here, while it runs. (Absolute symbolic links lead astray.)"""
        return Path(f"/proc/{self.init}/root/{str(path).lstrip('/')}")

    def outer(self, pid: int) -> int:
        """How the process that is *pid* in there is called out here."""
        for each in map(int, self._members()):
            for line in read(f"/proc/{each}/status").decode().splitlines():
                if line.startswith("NSpid:") and line.split()[-1] == str(pid):
                    return each
        raise ProcessLookupError(f"no process {pid} in {self.cgroup}")

    def _members(self) -> list[str]:
        """Every process of the realm, by its pid out here."""
        return [
            pid
            for file in [self.cgroup / "cgroup.procs", *self.cgroup.rglob("cgroup.procs")]
            for pid in read(str(file)).decode().split()
        ]

    # Commands --------------------------------------------------------------------------------------------------------

    def popen(
        self, argv: Sequence[str], env: dict[str, str], user: str | None = None, cwd: str | Path = "/", **more: Any
    ) -> subprocess.Popen[str]:
        """
        Start *argv* inside, as *user*, in the realm's cgroup `session`. It is our own child, with a pid of ours: a signal to it
        reaches the command itself, where a `nsenter` in between would die of it alone.
        """
        assert self.running, f"the realm has ended: {self.log()}"
        person = pwd.getpwnam(user) if user else None
        groups = os.getgrouplist(person.pw_name, person.pw_gid) if person else []
        names = [name for name in self.namespaces if name != "pid"]
        handles = [os.open(f"/proc/{self.init}/ns/{name}", os.O_RDONLY) for name in names]
        session = os.open(self.cgroup / "session" / "cgroup.procs", os.O_WRONLY)

        def enter() -> None:
            os.write(session, b"0")
            for handle in handles:
                _setns(handle)
            if person:
                os.setgroups(groups)
                os.setgid(person.pw_gid)
                os.setuid(person.pw_uid)
            os.chdir(cwd)

        try:
            with self._children_inside():
                return subprocess.Popen(argv, env=env, text=True, preexec_fn=enter, **more)
        finally:
            for handle in [*handles, session]:
                os.close(handle)

    @contextmanager
    def _children_inside(self) -> Iterator[None]:
        """What this thread forks meanwhile is born in the realm's pid namespace."""
        with open("/proc/thread-self/ns/pid") as own, open(f"/proc/{self.init}/ns/pid") as other:
            _setns(other.fileno(), CLONE_NEWPID)
            try:
                yield
            finally:
                _setns(own.fileno(), CLONE_NEWPID)

    def run(
        self, argv: Sequence[str], env: dict[str, str], user: str | None = None, check: bool = True,
        timeout: float = 60, **more: Any,
    ) -> Result:  # fmt: skip
        """Run *argv* inside to its end. With *check* it must succeed."""
        started = time.monotonic()
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        out, err, code = finished(self.popen(argv, env, user, **streams, **more), timeout)
        assert not check or code == 0, f"{argv} ended with {code}:\n{out}\n{err}"
        return Result(code, out, err, time.monotonic() - started)

    def log(self) -> str:
        """What the init and systemd had to say."""
        return read(str(self.root / "realm.log")).decode("utf-8", "replace")

    def close(self) -> None:
        """Everything ends. Returns when nothing is left."""
        assert self._warden.stdin is not None and self._warden.stdout is not None
        self._warden.stdin.close()
        self._warden.wait()
        self._warden.stdout.close()


def finished(process: subprocess.Popen[str], timeout: float) -> tuple[str, str, int]:
    """Both streams and the exit code of *process*; killed when it takes longer."""
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return out, err, process.returncode


def make_root(name: str) -> Path:
    """A directory for a realm, where throwaway users can go too."""
    root = Path(tempfile.mkdtemp(prefix=f"deployer-{name}-"))
    root.chmod(0o755)
    return root


def cgroup2() -> Path:
    """Where cgroups of version 2 are made on this machine."""
    for line in Path("/proc/mounts").read_text().splitlines():
        words = line.split()
        if words[2] == "cgroup2":
            return Path(words[1])
    parts.missing("no cgroup2 is mounted")


def need_systemd() -> None:
    """Return where systemd can be run in namespaces; skip, or fail, with the reason."""
    parts.need_root()
    parts.need("systemctl", "journalctl", "unshare", "setpriv", "ip", "useradd")
    if not Path("/lib/systemd/systemd").exists():
        parts.missing("systemd is not installed")
    probe = cgroup2() / f"deployer-probe-{os.getpid()}-{next(_NUMBERS)}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        parts.missing(f"no cgroup can be made: {error}")
    words = ["unshare", "--cgroup", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private", "true"]
    tried = subprocess.run(words, capture_output=True, text=True)
    if tried.returncode != 0:
        parts.missing(f"no namespaces can be made: {tried.stderr.strip()}")


def _setns(descriptor: int, kind: int = 0) -> None:
    if _LIBC.setns(descriptor, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
