"""
Keeps a realm (realm.py) for the tests: starts it, and takes it down with all that it left, by whatever end the tests come to.

    python3 -S warden.py ORDERS        ORDERS: JSON of what is told below
    stdin: `start`, a line             -> the pid of the realm's init, as seen from here
    stdin ends                         -> everything ends: its processes, cgroup, network, user, directory

A test run that is killed closes our stdin as well as one that is done: there is one way to the end, and it is always taken.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 20.0


class Warden:
    """`orders`: argv, cgroup, root, log; network, user, disk (a directory) and size of its tmpfs where there are such."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        self.cgroup = Path(orders["cgroup"])
        self.root = Path(orders["root"])
        self.child: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        self.cgroup.mkdir()
        if self.orders.get("disk"):  # we are in a mount namespace of our own: nobody else sees it, and it goes with us
            os.makedirs(self.orders["disk"], exist_ok=True)
            options = f"mode=755,size={self.orders['size']}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "rig", self.orders["disk"]], check=True)

    def start(self) -> int:
        """Run argv in the cgroup; it unshares. Returns the pid of its first child: the init of the realm."""
        self.stop()
        with open(self.orders["log"], "ab") as log:
            self.child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.orders["argv"]], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=lambda: (self.cgroup / "cgroup.procs").write_text("0") and None,
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.child.poll() is None:
            found = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
            if found:
                return int(found[0])
            time.sleep(0.005)
        return 0

    def stop(self) -> None:
        """End every process of the realm. What stands outside of the namespace's reach is still in the cgroup."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
        (self.cgroup / "cgroup.kill").write_text("1")
        _until(lambda: "populated 0" in (self.cgroup / "cgroup.events").read_text())
        _until(lambda: not [each.rmdir() for each in _below(self.cgroup)])

    def end(self) -> None:
        """Leave nothing. Each step for itself: one that fails must not keep the others from being done."""
        user, network, disk = (self.orders.get(name) for name in ("user", "network", "disk"))
        for step in (
            self.stop,
            self.cgroup.rmdir,
            lambda: network and subprocess.run(["ip", "netns", "del", network], check=True),
            lambda: disk and subprocess.run(["umount", "-l", disk], check=True),
            lambda: user and _until(lambda: subprocess.run(["userdel", "--force", user]).returncode in (0, 6)),
            lambda: shutil.rmtree(self.root),
        ):
            try:
                step()
            except (OSError, subprocess.SubprocessError, TimeoutError) as error:
                print(f"warden: {error!r}", file=sys.stderr)


def _below(cgroup: Path) -> list[Path]:
    """All cgroups below, the innermost first."""
    return [Path(top) / name for top, names, _ in os.walk(cgroup, topdown=False) for name in names]


def _until(done: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if done():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done within {PATIENCE} s")
        time.sleep(0.01)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # our stdin tells when it is time
    warden = Warden(json.loads(sys.argv[1]))
    try:
        warden.prepare()
        for line in sys.stdin:
            if line.strip() == "start":
                print(warden.start(), flush=True)
    finally:
        warden.end()


if __name__ == "__main__":
    main()
