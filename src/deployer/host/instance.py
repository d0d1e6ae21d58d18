"""One instance as its keeper sees it: the spec, the process tree, the record in state.db."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional
from uuid import uuid4

from deployer.host.clock import Clock
from deployer.host.process import Processes, Stat
from deployer.host.state import Row, State
from deployer.host.tree import Tree
from deployer.model import Identity, Spec

_ON_RECORD = (
    "id", "release", "state", "pid", "start", "boot", "started_at", "exit_code", "error", "confirmed", "deploy", "log_offset",
)  # fmt: skip


def new_instance_id() -> str:
    return uuid4().hex[:12]


class Instance:
    """A started instance. `exit_code` is None until its main process has exited, and where nobody can know it."""

    def __init__(
        self, spec: Spec, tree: Tree, started_at: float, log_offset: int, adopted: bool, deploy: Optional[str]
    ) -> None:
        self.spec = spec
        self.tree = tree
        self.started_at = started_at
        self.log_offset = log_offset
        self.adopted = adopted
        self.deploy = deploy
        self.exit_code: Optional[int] = None
        self.is_child = False
        self.confirmed = False
        self.crashes = 0
        self.status_text: Optional[str] = None  # sd_notify STATUS=
        self.notified_ready = False

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def main(self) -> Identity:
        return self.tree.main

    def members(self) -> List[Stat]:
        """The living processes of this instance, looked up now."""
        return self.tree.refresh()

    def reap(self) -> Optional[int]:
        """The exit code of the main process, as far as it can be known: only a parent is told."""
        if self.is_child and self.exit_code is None:
            try:
                self.exit_code = self.tree.bury_main()
            except ChildProcessError:
                self.is_child = False
        return self.exit_code

    def describe(self, clock: Clock) -> Dict[str, Any]:
        """This instance for a client."""
        members = self.members()
        return {
            "id": self.id,
            "release": self.spec.release,
            "pid": self.main.pid,
            "start": self.main.start,
            "boot": self.main.boot,
            "started_at": self.started_at,
            "uptime_s": round(max(0.0, clock.wall() - self.started_at), 1),
            "adopted": self.adopted,
            "confirmed": self.confirmed,
            "command": " ".join(self.spec.argv),
            "part": self.spec.part,
            "port": self.spec.port,
            "status": self.status_text,
            "log_offset": self.log_offset,
            "processes": [self.tree.describe(stat) for stat in members],
        }


def spec_of(row: Row) -> Spec:
    """What the instance that state.db knows in *row* is started from."""
    return Spec.from_json(json.loads(row["spec"]))


def on_record(row: Optional[Row]) -> Optional[Dict[str, Any]]:
    """*row* for a client: what is on record of one instance, whether or not it runs."""
    return {name: row[name] for name in _ON_RECORD} if row is not None else None


def from_row(row: Row, processes: Processes, clock: Optional[Clock] = None) -> Instance:
    """The instance that state.db knows in *row*; its processes may have gone."""
    spec = spec_of(row)
    identity = Identity(int(row["pid"]), int(row["start"]), str(row["boot"]))
    # A daemon of its supervisor's may carry our mark as well: the first `pm2 start` makes one that outlives all apps.
    marked = not row["adopted"] and (spec.owner or {}).get("kind") != "command"
    tree = Tree(processes, identity, spec.id if marked else None, clock)
    instance = Instance(spec, tree, row["started_at"], row["log_offset"] or 0, bool(row["adopted"]), row["deploy"])
    instance.confirmed = bool(row["confirmed"])
    instance.crashes = int(row["crashes"] or 0)
    return instance


def desired(state: State) -> Optional[Row]:
    """The row of the instance that should run; None when nothing should."""
    wanted = state.meta("desired")
    return state.row("SELECT * FROM instances WHERE id=?", wanted) if wanted else None


def alive_rows(state: State) -> List[Row]:
    """The rows of instances that were running or draining when last heard of, oldest first."""
    return state.rows(
        "SELECT * FROM instances WHERE state IN ('running','draining') AND pid IS NOT NULL ORDER BY created_at, rowid"
    )
