"""
One app on several hosts: a deploy.toml with `hosts`, the real `deployer`, real servers (sshd.py). As app.py's App, for a fleet.

    fleet.configure(args=[...], ssh='client = "openssh"', rollout='canary = 0', become='become = "sudo"', drain=...)
    fleet.push(), fleet.run("status"), fleet.start("push")      the client, in the bed's HOME
    fleet.hosts[1].get(), .task(5), .lines("SIGNALS_FILE")      the app on one host
    fleet.status()["127.1.2.3:2222"]                            the facts of a host, by its name as written
"""

from __future__ import annotations

import getpass
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import engines
from app import SERVICES, App
from sshd import Bed, Host, give, make_bed

FILES = ("SIGNALS_FILE", "WORK_FILE", "STARTS_FILE")


@dataclass
class Fleet(App):
    """`root/dist` is the artifact, `~/app` of each host its path; ports and files of the service come from an env file there."""

    bed: Bed = field(kw_only=True)
    ssh: str = field(default="", kw_only=True)
    hosts: list[Host] = field(kw_only=True)

    def configure(
        self, run: str = "", args: list[str] | None = None, health: str | None = None, more: str = "", ssh: str = "",
        rollout: str = "canary = 0\nbatch = \"100%\"\nbake = \"0s\"", become: str = "", **tables: str,
    ) -> None:  # fmt: skip
        """
        Write deploy.toml for all `hosts`, in their order. *ssh* and *rollout* are the lines of those tables, *become* a line of the
        target; the rest as App.configure.
        """
        if args is not None:
            self.args = args
        if "command" not in run:
            run = f"command = {json.dumps(['python3', '-S', 'service.py', *self.args])}\n{run}"
        if "env_file" not in run:
            run += '\nenv_file = "app.env"'
        if health is None:
            health = f'url = "http://127.0.0.1:{self.port}/health"\ninterval = "50ms"\nready_within = "10s"'
        written = json.dumps([host.written for host in self.hosts])
        tables = {
            "build": 'artifact = "dist"',
            "run": run,
            "health": health,
            **tables,
            "target.fleet": f'hosts = {written}\npath = "~/app"\n{become}',
            "target.fleet.ssh": ssh,
            "target.fleet.rollout": rollout,
        }
        text = 'app = "t-app"\n' + "".join(f"\n[{name}]\n{lines}\n" for name, lines in tables.items() if lines) + more
        (self.root / "deploy.toml").write_text(text)

    def prepare(self, host: Host) -> None:
        """Give *host* the env file that tells its service where it is."""
        shared = host.path / "shared"
        shared.mkdir(parents=True, exist_ok=True)
        lines = [f"SERVICE_PORT={host.service_port}", *(f"{name}={host.file(name)}" for name in FILES)]
        (shared / "app.env").write_text("\n".join(lines) + "\n")
        if host.user == getpass.getuser():  # with become, what belongs to the login user is not trusted
            engines.seed(host.path)
        give(host.home, host.user)

    def status(self) -> dict[str, Any]:
        """The facts of `deployer status --json`, by host."""
        return {host["host"]: host["facts"] for host in self.run("status", "--json", check=0).events[0]["hosts"]}

    def close(self) -> None:
        """All that lives on the hosts ends with the bed."""


@contextmanager
def make_fleet(root: Path, count: int, kind: type[Fleet] = Fleet, **like: Any) -> Iterator[Fleet]:
    """*count* hosts that are alike (Bed.host), and an app for them, configured plainly: a Fleet of that *kind*."""
    with make_bed() as bed:
        hosts = bed.hosts(count, **like)
        fleet = kind(root, hosts[0].service_port, dict(bed.env()), bed=bed, hosts=hosts)
        fleet.dist.mkdir(parents=True)
        shutil.copy(SERVICES / "service.py", fleet.dist / "service.py")
        fleet.release("v1")
        for host in hosts:
            fleet.prepare(host)
        fleet.configure(args=[])
        yield fleet
