"""
The same deploy by each tool: stage the files in a new release directory, stop the old process and wait for its exit, flip
`current`, start the new one.

The peers get what serves them best: one tarball that is made before the clock starts, one script, as many hosts at once as they
can, no gathering of facts, pipelining and shared connections.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.fleet_hosts import PORT, Host, Hosts, directories
from benchmarks.processes import deployer

PEERS = ("ansible-core==2.19.*", "pyinfra==3.*", "fabric==3.*")
REAPER = Path(__file__).with_name("reaper.py")
SERVICE = ["sleep", "1000000"]
# A zombie has exited, however late the machine's init takes it away: not a reason for a peer to wait.
SCRIPT = """\
set -e
cd {path}
mkdir -p releases/{release}
tar xzf {tarball} -C releases/{release}
if [ -f pid ]; then
  p=$(cat pid)
  kill $p
  while grep -qs '^State:.[^ZX]' /proc/$p/status; do sleep 0.02; done
fi
ln -sfn releases/{release} next
mv -T next current
cd current
setsid {service} </dev/null >>../../app.log 2>&1 &
echo $! >../../pid
"""


@dataclass(frozen=True)
class Cost:
    """Of one deploy to all hosts: wall clock and the CPU of the client with all that it started, in seconds; what it said."""

    wall: float
    cpu: float
    hosts_cpu: float | None
    out: str


@dataclass
class Scene:
    """What a tool deploys (`dist`) and to whom; `work` is a directory for its own files."""

    work: Path
    dist: Path
    all: Hosts
    hosts: Sequence[Host]
    name: str
    releases: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _seen: set[str] = field(default_factory=set)

    def path(self, host: Host) -> Path:
        """Where the app lives on *host*: a place of its own for each tool."""
        return host.home / self.name

    def pack(self) -> Path:
        """The artifact as a tarball."""
        tarball = self.work / "release.tgz"
        with tarfile.open(tarball, "w:gz", compresslevel=1) as archive:
            archive.add(self.dist, ".")
        return tarball

    def run(self, command: Sequence[str | Path]) -> Cost:
        """Run *command* to its end. SystemExit with its output when it fails."""
        before = self.all.cpu()
        done = subprocess.run(
            [sys.executable, "-S", str(REAPER), *map(str, command)], cwd=self.work, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment(), check=False,
        )  # fmt: skip
        after = self.all.cpu()
        out, _, last = done.stdout.rstrip().rpartition("\n")
        told = json.loads(last) if last.startswith("{") else {"status": done.returncode or 1}
        if told["status"] != 0:
            raise SystemExit(f"bench: {self.name} failed with {told['status']}:\n{done.stdout[-4000:]}")
        hosts_cpu = after - before if before is not None and after is not None else None
        return Cost(told["wall"], told["cpu"], hosts_cpu, out)

    def check(self) -> None:
        """Every host runs one service, from what `current` names, which is another release than the last time; else SystemExit."""
        at_work = directories(b"\0".join(word.encode() for word in SERVICE) + b"\0")
        for host in self.hosts:
            path = self.path(host)
            current = os.path.realpath(path / "current")
            if [where for where in at_work if where.startswith(f"{path}/")] != [current] or current in self._seen:
                raise SystemExit(f"bench: {self.name} left {host.address} with something else than it should run")
            self._seen.add(current)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "SSH_"))}
        return {**kept, "HOME": str(self.all.home)}


class Tool(Protocol):
    """A way to deploy what is in `scene`."""

    scene: Scene

    def deploy(self) -> Cost:
        """Bring what is in `dist` to all hosts, and start it."""


def peers() -> Path:
    """The directory of the peers' commands, installed from the package index into an environment of their own when missing."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deployer-bench" / "peers"
    mark = home / "installed.txt"
    if not mark.exists() or mark.read_text() != "\n".join(PEERS):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PEERS], check=True)
        mark.write_text("\n".join(PEERS))
    return home / "bin"


class Deployer:
    """Ours, all hosts at once: as the others do it."""

    CONFIG = """\
app = "bench"
[build]
artifact = {artifact}
[run]
command = {service}
[health]
alive_for = "0s"
[target.fleet]
hosts = {hosts}
path = "~/{name}"
[target.fleet.rollout]
canary = 0
batch = "100%"
bake = "0s"
"""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        words = {"artifact": str(scene.dist), "service": SERVICE, "hosts": [f"{h.address}:{PORT}" for h in scene.hosts]}
        written = {name: json.dumps(value) for name, value in words.items()}
        (scene.work / "deploy.toml").write_text(self.CONFIG.format(**written, name=scene.name))

    def deploy(self) -> Cost:
        return self.scene.run([*deployer(), "push", "fleet"])


class Ansible:
    """One `copy` and one `shell` for each host: a playbook of `unarchive`, `file` and `command` needs twice as many tasks."""

    CONFIG = """\
[defaults]
inventory = inventory
forks = 50
gathering = explicit
stdout_callback = minimal
interpreter_python = /usr/bin/python3
[ssh_connection]
pipelining = True
ssh_args = -F {config} -o ControlMaster=auto -o ControlPersist=60s
control_path_dir = {work}/cp
"""
    TUNED = """\
- hosts: all
  gather_facts: false
  tasks:
    - copy: {{src: {tarball}, dest: "{{{{ path }}}}/release.tgz"}}
    - shell: {script}
"""
    USUAL = """\
- hosts: all
  gather_facts: false
  tasks:
    - file: {{path: "{{{{ path }}}}/releases/{release}", state: directory}}
    - unarchive: {{src: {tarball}, dest: "{{{{ path }}}}/releases/{release}"}}
    - shell: {stop}
    - file: {{src: "releases/{release}", dest: "{{{{ path }}}}/current", state: link}}
    - shell: {start}
"""

    def __init__(self, scene: Scene, usual: bool = False) -> None:
        self.scene, self._usual = scene, usual
        (scene.work / "ansible.cfg").write_text(self.CONFIG.format(config=scene.all.config, work=scene.work))
        lines = [f"{host.address} path={scene.path(host)}\n" for host in scene.hosts]
        (scene.work / "inventory").write_text("".join(lines))
        for host in scene.hosts:
            scene.path(host).mkdir()

    def deploy(self) -> Cost:
        scene, release = self.scene, f"r{next(self.scene.releases)}"
        scene.pack()
        template = self.USUAL if self._usual else self.TUNED
        anywhere = SCRIPT.format(path="{{ path }}", release=release, tarball="release.tgz", service=" ".join(SERVICE))
        begin, stop = anywhere.index("if ["), anywhere.index("ln -sfn")
        words = {
            "script": anywhere,
            "stop": "cd {{ path }}\n" + anywhere[begin:stop],
            "start": "cd {{ path }}\n" + anywhere[anywhere.index("cd current") :],
        }
        text = template.format(tarball="release.tgz", release=release, **{n: json.dumps(w) for n, w in words.items()})
        (scene.work / "deploy.yml").write_text(text)
        return scene.run([peers() / "ansible-playbook", "deploy.yml"])


class Pyinfra:
    """`files.put` and `server.shell`, all hosts at once and none waiting for another."""

    INVENTORY = "hosts = {hosts!r}\n"
    DEPLOY = """\
from pyinfra import host
from pyinfra.operations import files, server

files.put(src={tarball!r}, dest=host.data.path + "/release.tgz")
server.shell(commands=[{script!r}.replace("PATH_OF_APP", host.data.path)])
"""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        hosts = [
            (
                host.address,
                {
                    "path": str(scene.path(host)), "ssh_port": PORT, "ssh_user": "root", "ssh_key": str(scene.all.key),
                    "ssh_known_hosts_file": str(scene.all.home / ".ssh" / "known_hosts"),
                },
            )
            for host in scene.hosts
        ]  # fmt: skip
        (scene.work / "inventory.py").write_text(self.INVENTORY.format(hosts=hosts))
        for host in scene.hosts:
            scene.path(host).mkdir()

    def deploy(self) -> Cost:
        scene, release = self.scene, f"r{next(self.scene.releases)}"
        tarball = scene.pack()
        words = {"path": "PATH_OF_APP", "release": release, "tarball": "release.tgz", "service": " ".join(SERVICE)}
        script = SCRIPT.format(**words)
        (scene.work / "deploy.py").write_text(self.DEPLOY.format(tarball=str(tarball), script=script))
        parallel = ["--parallel", str(len(scene.hosts)), "--no-wait"]
        return scene.run([peers() / "pyinfra", "-y", *parallel, "inventory.py", "deploy.py"])


class Fabric:
    """A thread for each host: `put` and `run`."""

    PROGRAM = """\
from concurrent.futures import ThreadPoolExecutor
from fabric import Config, Connection

config = Config(overrides={{"connect_kwargs": {{"key_filename": {key!r}}}, "load_ssh_configs": False}})

def deploy(place):
    with Connection(place[0], user="root", port={port}, config=config) as host:
        host.put({tarball!r}, place[1] + "/release.tgz")
        host.run({script!r}.replace("PATH_OF_APP", place[1]), hide=True)

hosts = {hosts!r}
with ThreadPoolExecutor(len(hosts)) as pool:
    list(pool.map(deploy, hosts))
"""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        for host in scene.hosts:
            scene.path(host).mkdir()

    def deploy(self) -> Cost:
        scene, release = self.scene, f"r{next(self.scene.releases)}"
        words = {"path": "PATH_OF_APP", "release": release, "tarball": "release.tgz", "service": " ".join(SERVICE)}
        program = self.PROGRAM.format(
            key=str(scene.all.key), port=PORT, tarball=str(scene.pack()), script=SCRIPT.format(**words),
            hosts=[(host.address, str(scene.path(host))) for host in scene.hosts],
        )  # fmt: skip
        (scene.work / "fabfile.py").write_text(program)
        return scene.run([peers() / "python", "fabfile.py"])
