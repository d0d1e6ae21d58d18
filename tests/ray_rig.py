"""
A real Ray cluster for the tests, in namespaces of its own (shared/TESTBED.md): processes, network, /tmp/ray and /dev/shm.

    with ray_box() as box:                       one at a time on this machine; nothing runs in it yet
        head = box.head(cpus=2)                  a node; `box.node(cpus=2, resources={"second": 1})` is another one
        box.python(script, "an argument")        a driver to its end, RAY_ADDRESS set; `box.popen([...])`: begun
        box.kill(node)                           the whole node dies at once
        box.processes("ray::")                   what lives in there, whose command line has that in it
    with ray_box() as box, app_on(box, tmp_path) as app: …      an App (app.py) whose `deployer` runs inside
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import parts
from app import SOURCE, App, Result, alive, clean_environment, command, make_app, read, wait_until
from realm import Realm, make_root, need_systemd

ADDRESS = "127.0.0.1:6379"
STORE = 80_000_000
_INIT = """
set -e
ip link set lo up
mkdir -p /tmp/ray "$1/ray"
mount --bind "$1/ray" /tmp/ray
mount -t tmpfs -o size=600m tmpfs /dev/shm
exec "$2" -S -E -c 'import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); [signal.pause() for _ in iter(int, 1)]'
"""
_ONE_AT_A_TIME = Path(tempfile.gettempdir()) / f"deployer-ray-{os.getuid()}.lock"
"""A cluster takes half a gigabyte and both cores while it starts: two at once are slower than one after the other."""


class RayBox:
    """Namespaces in which Ray runs alone; `env` is what its commands get."""

    def __init__(self, root: Path) -> None:
        self.root = root
        alone = ["--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        init = ["sh", "-c", _INIT, "init", str(root), sys.executable]
        self.realm = Realm(root, ["unshare", *alone, *init], namespaces=("pid", "mnt", "net"))
        self.env = clean_environment() | {
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": ADDRESS, "HOME": str(root),
            "RAY_DEDUP_LOGS": "0", "PYTHONPATH": str(SOURCE), "RAY_health_check_initial_delay_ms": "2000",
            "RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
        }  # fmt: skip
        self._begun: list[subprocess.Popen[str]] = []
        self.realm.boot()
        wait_until(self._is_up, what="the namespaces are ready")
        (self.realm.cgroup / "session").mkdir()

    def _is_up(self) -> bool:
        return b"signal.pause" in read(f"/proc/{self.realm.init}/cmdline")

    def head(self, cpus: int = 2, **resources: int) -> subprocess.Popen[str]:
        """The first node. Returns when it takes drivers."""
        return self._start(["--head", "--port=6379", "--include-dashboard=false"], cpus, resources, nodes=1)

    def node(self, cpus: int = 2, **resources: int) -> subprocess.Popen[str]:
        """Another node of the same cluster. Returns when the cluster counts it."""
        return self._start([f"--address={ADDRESS}"], cpus, resources, nodes=self.living() + 1)

    def _start(self, how: Sequence[str], cpus: int, resources: dict[str, int], nodes: int) -> subprocess.Popen[str]:
        limits = [f"--num-cpus={cpus}", f"--object-store-memory={STORE}", f"--resources={json.dumps(resources)}"]
        env = {name: value for name, value in self.env.items() if name != "RAY_ADDRESS"}
        log = open(self.root / f"node-{len(self._begun)}.log", "w")  # noqa: SIM115 - the child has it
        with log:
            started = self.realm.popen(
                [ray_command(), "start", "--block", "--disable-usage-stats", *how, *limits], env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._begun.append(started)
        wait_until(lambda: started.poll() is not None or self.living() >= nodes, 60, "the node is up")
        assert started.poll() is None, Path(log.name).read_text()
        return started

    def living(self) -> int:
        """How many nodes the cluster counts; 0 while there is none."""
        script = (
            "from ray._raylet import GcsClientOptions; from ray._private.state import GlobalState; state = GlobalState(); "
            f"state._initialize_global_state(GcsClientOptions.create({ADDRESS!r}, None, True, False)); "
            "print(sum(1 for node in state.node_table() if node['Alive']))"
        )
        found = self.realm.run([sys.executable, "-c", script], self.env, check=False)
        return int(found.out.strip() or 0) if found.code == 0 else 0

    def kill(self, node: subprocess.Popen[str]) -> None:
        """All of *node* dies at once, as in a power cut."""
        pids = [node.pid, *_descendants(node.pid)]
        for pid in pids:
            _signal(pid, signal.SIGSTOP)  # so that nothing new is begun meanwhile
        for pid in {*pids, *_descendants(node.pid)}:
            _signal(pid, signal.SIGKILL)
        node.wait()
        wait_until(lambda: not any(map(alive, pids)), what="the node is dead")

    def popen(self, argv: Sequence[str], **more: Any) -> subprocess.Popen[str]:
        """A command inside, begun; a child of ours, with a pid of ours."""
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        begun = self.realm.popen(argv, {**self.env, **more.pop("env", {})}, **more)
        self._begun.append(begun)
        return begun

    def run(self, argv: Sequence[str], check: bool = True, timeout: float = 90, **more: Any) -> Result:
        """A command inside, to its end."""
        return self.realm.run(argv, {**self.env, **more.pop("env", {})}, check=check, timeout=timeout, **more)

    def python(self, script: str, *args: str, **more: Any) -> Result:
        """A Python program inside, to its end: our interpreter and packages."""
        return self.run([sys.executable, "-c", script, *args], **more)

    def processes(self, mark: str = "") -> list[str]:
        """The command lines of all that lives in there and has *mark* in it."""
        pids = _namespace_members(self.realm.init)
        lines = [read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip() for pid in pids]
        return [line for line in lines if line and mark in line]

    def close(self) -> None:
        """Everything ends."""
        if self.realm.running:
            os.kill(self.realm.init, signal.SIGKILL)
        for begun in self._begun:  # the init has not ended before they are buried, and they are children of ours
            begun.wait()
        self.realm.close()


def ray_command() -> str:
    return str(Path(sys.executable).with_name("ray"))


def need_ray() -> None:
    """Return where Ray can run in namespaces; skip, or fail, with the reason."""
    need_systemd()  # the same namespaces
    if not Path(ray_command()).exists():
        parts.missing("ray is not installed")


@contextmanager
def ray_box() -> Iterator[RayBox]:
    """An empty box; the only one on this machine meanwhile."""
    need_ray()
    with open(_ONE_AT_A_TIME, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        box = RayBox(make_root("ray"))
        try:
            yield box
        finally:
            box.close()


@contextmanager
def app_on(box: RayBox, root: Path) -> Iterator[App]:
    """An App whose `deployer` runs inside *box*."""

    class Inside(App):
        def _popen(self, args: tuple[str, ...], env: dict[str, str], **more: Any) -> subprocess.Popen[str]:
            return box.popen(command(*args), cwd=str(self.root), env={**self.env, **env}, **more)

    with make_app(root, Inside) as app:
        yield app


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # a worker, which has ended with its parent


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(name) for name in read(f"/proc/{pid}/task/{pid}/children").split()]
    except ValueError:
        children = []
    return [*children, *(other for child in children for other in _descendants(child))]


def _namespace_members(init: int) -> list[int]:
    mine = os.readlink(f"/proc/{init}/ns/pid")
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/ns/pid") == mine:
                    found.append(int(name))
            except OSError:
                pass  # gone meanwhile
    return found


@pytest.fixture
def box() -> Iterator[RayBox]:
    with ray_box() as made:
        yield made
