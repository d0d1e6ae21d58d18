"""From a promise to a process of ours: on record before it is forked, and again before it is executed."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import Iterator, List, Optional, Tuple

from deployer.errors import DeployerError
from deployer.host import unix
from deployer.host.ground import Ground
from deployer.host.held import Held
from deployer.host.instance import spec_of
from deployer.host.roster import Roster
from deployer.host.spawn import environment
from deployer.host.state import Row
from deployer.host.telling import Telling
from deployer.host.tree import Tree
from deployer.model import JOB, Identity, Spec

SETTLES_WITHIN = 1.0
"""Seconds that a forked process has to exec, or to notice that its keeper has died."""


class Starting:
    """The starts of one app's instances; those of somebody else's are only written down here (`record`, `failed`)."""

    def __init__(self, ground: Ground, held: Held, telling: Telling, roster: Roster) -> None:
        self._paths = ground.paths
        self._state = ground.state
        self._processes = ground.processes
        self._clock = ground.clock
        self._base_env = ground.base_env
        self._say = ground.say
        self._held = held
        self._telling = telling
        self._roster = roster

    # Promises --------------------------------------------------------------------------------------------------------

    def promise(self, spec: Spec, deploy: Optional[str], confirmed: bool, crashes: int) -> None:
        """Write down that *spec* will be started. Within the caller's transaction, if there is one."""
        self._state.insert(
            "instances", id=spec.id, release=spec.release, spec=spec.to_json(), state="promised", deploy=deploy,
            created_at=self._clock.wall(), confirmed=int(confirmed), crashes=crashes,
        )  # fmt: skip

    def forget_promised(self, instance: Optional[str] = None) -> None:
        """What was promised and never started (or *instance* alone) is no longer wanted: its turn never came, or it was aborted."""
        if instance is None:
            sql = "UPDATE instances SET state='ended', ended_at=? WHERE state='promised' AND pid IS NULL"
            self._state.execute(sql, self._clock.wall())
        else:
            sql = "UPDATE instances SET state='ended', ended_at=? WHERE id=? AND state='promised' AND pid IS NULL"
            self._state.execute(sql, self._clock.wall(), instance)

    # Starts ----------------------------------------------------------------------------------------------------------

    def start(self, row: Row) -> None:
        """Start what was promised in *row*, once, whoever died over it before; on record also where it cannot be."""
        if row["pid"] is not None:  # announced, and then the disk refused the line that it runs
            self.settle(row)
        if self._state.row("SELECT 1 FROM instances WHERE id=? AND pid IS NULL", row["id"]):
            spec = spec_of(row)
            try:
                self._spawn(spec)
            except Exception as error:  # whatever it is: the record must say so, and the keeper go on
                self.failed(spec, error)
                return
            self._state.update("instances", spec.id, state="running")
        self._roster.take_started(row)

    def settle_announced(self) -> None:
        # Forked, and then the disk refused the line that it runs: it must drain like any other, and not be forgotten.
        for row in self._roster.announced():
            self.settle(row)
            self._roster.take_started(row)

    def settle(self, row: Row) -> None:
        """Find out whether what was forked for *row* was executed. Its keeper died in between, or just after."""
        identity = Identity(int(row["pid"]), int(row["start"]), str(row["boot"]))
        mark = f"DEPLOYER_INSTANCE={row['id']}".encode()
        deadline = self._clock.now() + SETTLES_WITHIN
        while self._processes.alive(identity) and self._clock.now() < deadline:
            if mark in self._processes.environ(identity.pid).split(b"\0"):
                self._state.update("instances", row["id"], state="running")
                return
            self._clock.sleep(0.005)
        # One that lives on was executed: without its keeper's word it would have ended. Its environment may say nothing (env -i),
        # and a daemon's main process has gone by now.
        if self._processes.alive(identity) or Tree(self._processes, identity, row["id"], self._clock).refresh():
            self._state.update("instances", row["id"], state="running")
        elif spec_of(row).part == JOB:
            # Perhaps it was executed and has ended: a job is never begun twice.
            self._state.update("instances", row["id"], state="ended", ended_at=self._clock.wall())
        else:
            self._state.update("instances", row["id"], pid=None, start=None, boot=None)

    def _spawn(self, spec: Spec) -> None:
        self._roster.expect_another()
        listeners = self._held.of(spec)
        self._telling.open(spec)
        env = environment(spec, self._base_env, self._telling.address(spec.id))
        with self._private_health(spec) as private:
            # On record before it is executed: a keeper that comes back must find it, and not start a second one.
            start = partial(self.record, spec)
            log = self._paths.logs / spec.log if spec.log else self._paths.app_log
            self._processes.start(spec, env, log, [*listeners, *private], start)

    @contextmanager
    def _private_health(self, spec: Spec) -> Iterator[List[Tuple[str, int]]]:
        """Its listening socket `health`, which is the instance's alone once it runs."""
        if not spec.private_health:
            yield []
            return
        listener = unix.listen(self._paths.health_socket(spec.id))
        try:
            yield [("health", listener.fileno())]
        finally:
            listener.close()

    # What came of it -------------------------------------------------------------------------------------------------

    def record(self, spec: Spec, pid: int, offset: int) -> None:
        """Write down that *pid* is the main process of *spec*, whose output begins at *offset* of the log."""
        stat = self._processes.stat(pid)
        self._state.update(
            "instances", spec.id, pid=pid, start=stat.start if stat else 0, boot=self._processes.boot,
            started_at=self._clock.wall(), log_offset=offset,
        )  # fmt: skip

    def failed(self, spec: Spec, error: Exception) -> None:
        """Write down that *spec* could not be started, and why."""
        text = str(error)
        if isinstance(error, DeployerError) and error.cause:
            text = f"{error.title} ({error.cause})"
        self._roster.look_at.pop(spec.id, None)
        self._state.update(
            "instances", spec.id, state="ended", ended_at=self._clock.wall(), error=text, exit_code=None, pid=None
        )
        self._telling.close(spec.id)
        self._say(f"could not start {spec.release}: {text}")
