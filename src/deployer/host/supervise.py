"""
The keeper's mind: what should run, what runs, and the one next thing that brings the two together.

The wish is in state.db (`desired`, the drains) before anything is done about it, so a keeper that comes back goes on from
the record. No I/O loop here: keeper.py calls `advance` after every exit, request and deadline. What each step takes is in the
rooms beside: roster.py (who lives), starting.py, restarting.py, draining.py; elsewhere.py and owners.py where somebody else
owns the process; telling.py for what apps say.
"""

from __future__ import annotations

import socket
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from deployer.errors import FailedError
from deployer.host.clock import Clock
from deployer.host.draining import Draining
from deployer.host.elsewhere import Elsewhere
from deployer.host.ground import Ground
from deployer.host.held import Held
from deployer.host.instance import Instance, desired, on_record, spec_of
from deployer.host.notify import NotifySocket
from deployer.host.owned import Owned
from deployer.host.owners import Owners
from deployer.host.paths import HostPaths
from deployer.host.process import Processes
from deployer.host.restarting import Restarts
from deployer.host.roster import Roster
from deployer.host.starting import Starting
from deployer.host.state import Row, State
from deployer.host.supervisors import choose
from deployer.host.telling import Telling
from deployer.model import DrainOrder, Identity, Spec


class Core:
    """The instances of one app. `say` is called with a line for the engine's log at every turn of events."""

    def __init__(
        self,
        paths: HostPaths,
        state: State,
        processes: Processes,
        clock: Clock,
        base_env: Mapping[str, str],
        say: Callable[[str], None],
        listen: Callable[[Path], NotifySocket] = NotifySocket,
    ) -> None:
        ground = Ground(paths, state, processes, clock, dict(base_env), say)
        self._state = state
        self._clock = clock
        self._say = say
        self.held = Held(say)
        self.owned = Owned(state, partial(choose.owner_of, paths))
        self._telling = Telling(paths, say, listen)
        self._roster = Roster(ground, self.held, self._telling, self.owned)
        self._starting = Starting(ground, self.held, self._telling, self._roster)
        self._restarts = Restarts(ground, self._starting)
        self._draining = Draining(ground, self._roster, self.owned)
        self._owners = Owners(ground, self._roster, self._draining, self.owned)
        self._elsewhere = Elsewhere(ground, self._roster, self._starting, self._restarts, self._draining, self.owned)
        self.instances, self.drains = self._roster.living, self._draining.under_way
        self.notify = self._telling.sockets

    # What the record says --------------------------------------------------------------------------------------------

    def recover(self, inherited: Optional[Mapping[str, socket.socket]] = None) -> None:
        """Take over what an earlier keeper left: running instances, drains under way, the held socket."""
        self.held.inherit(inherited or {})
        for row in self._roster.announced():
            self._starting.settle(row)
        self._roster.recover()
        self._draining.recover()
        self._resume_lost()

    def _resume_lost(self) -> None:
        # A wish whose instance was never started, or died with the last boot or keeper, is acted on by `advance`.
        desired = self.desired()
        if desired is not None and desired["state"] == "running" and desired["id"] not in self.instances:
            self._state.update("instances", desired["id"], state="ended", ended_at=self._clock.wall())

    def desired(self) -> Optional[Row]:
        """The row of the instance that should run, or None when the service should be stopped."""
        return desired(self._state)

    # Requests --------------------------------------------------------------------------------------------------------

    def replace(self, deploy: str, who: str, new: Optional[Spec], how: DrainOrder, confirmed: bool = False) -> None:
        """
        Promise that *new* (or nothing) will run once everything else of this app has drained. On disk when this returns.

        Asking again for the same instance changes nothing.
        """
        if new is not None and self._state.row("SELECT 1 FROM instances WHERE id=?", new.id):
            return
        self._starting.settle_announced()
        if new is not None and new.owner is None:
            self.held.prepare(new, self.instances.values())
        new = self._owners.order(new, self.instances.values(), how, confirmed)
        self._owners.take_back()
        self._restarts.overtaken()
        with self._state.transaction():
            self._starting.forget_promised()
            if new is not None:
                self._starting.promise(new, deploy, confirmed, crashes=0)
            self._state.set_meta("desired", new.id if new else None)
            self._draining.order(self.instances.values(), deploy, who, how)
        self._draining.begin(self.instances.values(), deploy, who, how)
        if new is None:
            self._owners.wish(None)

    def launch(self, deploy: str, new: Spec) -> None:
        """
        Promise that *new* will run beside what runs. It is not wished for yet: a crash ends it for good.

        Raises PreflightError when its sockets cannot be had while the others run. Asking again changes nothing.
        """
        if self._state.row("SELECT 1 FROM instances WHERE id=?", new.id):
            return
        new = changed(new, beside=True)
        if new.owner is None:
            self.held.prepare(new, self.instances.values())
            self.held.of(new)
        new = self._owners.order(new, [], DrainOrder(), confirmed=False) or new
        self._starting.promise(new, deploy, confirmed=False, crashes=0)

    def retire(self, deploy: str, who: str, keep: str, how: DrainOrder) -> None:
        """
        *keep*, which was launched and has proven itself, is what shall run; everything else of this app drains.

        On disk when this returns. Raises FailedError when *keep* has gone. Asking again changes nothing.
        """
        row = self._state.row("SELECT state, confirmed FROM instances WHERE id=?", keep)
        if row is not None and row["confirmed"]:
            return
        self._starting.settle_announced()
        if keep in self.instances and keep not in self.drains:
            self._look_after(self.instances[keep])  # it may have exited since
        if keep not in self.instances or keep in self.drains:
            raise FailedError(f"instance {keep} does not run any more")
        self._restarts.overtaken()
        others = [one for one in self.instances.values() if one.id != keep]
        self._owners.order(None, others, how)
        self._owners.take_back()
        # Before it is on record: who boots in between shall find the one that runs then in the record, draining or not.
        self._owners.wish(self.instances[keep].spec)
        with self._state.transaction():
            self._starting.forget_promised()
            self._state.update("instances", keep, confirmed=1)
            self._state.set_meta("desired", keep)
            self._draining.order(others, deploy, who, how)
        self.instances[keep].confirmed = True
        self._draining.begin(others, deploy, who, how)

    def dismiss(self, deploy: str, who: str, instance_id: str, how: DrainOrder) -> None:
        """Take back what was launched: it drains, and was never what shall run. Asking again changes nothing."""
        if instance_id == self._state.meta("desired"):
            raise FailedError(f"instance {instance_id} is what shall run: it is not dismissed")
        self._starting.settle_announced()
        launched = [one for one in self.instances.values() if one.id == instance_id]
        self._owners.order(None, launched, how)
        self._owners.take_back(instance_id)
        with self._state.transaction():
            self._starting.forget_promised(instance_id)
            self._restarts.settled(instance_id)
            self._draining.order(launched, deploy, who, how)
        self._draining.begin(launched, deploy, who, how)

    def record_of(self, instance_id: str) -> Optional[Dict[str, Any]]:
        """What is on record of one instance, as `desired` in `status`; None for one that was never promised."""
        return on_record(self._state.row("SELECT * FROM instances WHERE id=?", instance_id))

    def adopt(self, spec: Spec, identity: Identity) -> None:
        """Count a process that somebody else started as the running instance."""
        if self._state.row("SELECT 1 FROM instances WHERE id=?", spec.id):
            return
        with self._state.transaction():
            self._state.insert(
                "instances", id=spec.id, release=spec.release, spec=spec.to_json(), pid=identity.pid, start=identity.start,
                boot=identity.boot, state="running", created_at=self._clock.wall(), started_at=self._clock.wall(),
                log_offset=0, confirmed=1, adopted=1,
            )  # fmt: skip
            self._state.set_meta("desired", spec.id)
        row = self._state.row("SELECT * FROM instances WHERE id=?", spec.id)
        assert row is not None
        if spec.owner is not None:
            self.owned.note_run(spec.id, self.owned.by(spec).seen(spec).run)
        self._roster.take_over(row)

    def confirm(self, instance_id: str) -> None:
        """The instance has proven itself: from now on it is restarted after a crash."""
        row = self._state.row("SELECT * FROM instances WHERE id=?", instance_id)
        if row is not None:
            self._owners.wish(spec_of(row))
        self._state.update("instances", instance_id, confirmed=1)
        if instance_id in self.instances:
            self.instances[instance_id].confirmed = True

    def move_deadline(self, instance_id: str, deadline: float, who: str = "") -> bool:
        """Move the ceiling of a drain to *deadline* (monotonic seconds), as *who* asked. False when it is too late for that."""
        return self._draining.move_deadline(instance_id, deadline, who)

    # The next thing to do --------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Do everything that is due now. Safe to call at any time."""
        self._roster.look_now()
        self._roster.share_orphans()
        self._owners.ask(self.desired())
        self._draining.advance()
        for instance in list(self.instances.values()):
            if instance.id not in self.drains:
                self._look_after(instance)
        self._release_sockets()  # first: what starts now may want to listen where another one did
        self._start_desired()
        self._start_beside()

    def next_deadline(self) -> Optional[float]:
        """When `advance` is due even if nothing happens (monotonic seconds)."""
        due = [found.next_deadline() for found in self.drains.values()] + self._roster.due()
        desired = self.desired() if self._restarts.waits() else None
        turn = self._restarts.due(desired["id"]) if desired is not None else None
        if desired is not None and turn is not None and not self._in_the_way(spec_of(desired)):
            due.append(turn)
        return min(due) if due else None

    def reap(self) -> None:
        """Bury what has exited: our instances' main processes, whose exit code counts, and orphans that came to us."""
        self._roster.reap()

    def watched(self) -> List[int]:
        """The descriptors whose readability means that a process has exited."""
        return self._roster.watched()

    def idle(self) -> bool:
        """Nothing runs and nothing should; or somebody else owns what does, and nothing is left to be done about it."""
        if self.drains or any(one.spec.owner is None for one in self.instances.values()):
            return False
        if self._state.row("SELECT 1 FROM instances WHERE state='promised'") is not None:
            return False
        desired = self.desired()
        return desired is None or spec_of(desired).owner is not None

    def owned_elsewhere(self) -> bool:
        """Whether what runs, or should, is not ours to keep running: then we are here only while a deploy is under way."""
        desired = self.desired()
        specs = [*(one.spec for one in self.instances.values()), *([spec_of(desired)] if desired else [])]
        return any(spec.owner is not None for spec in specs)

    def _look_after(self, instance: Instance) -> None:
        if instance.spec.owner is not None:
            self._elsewhere.look_after(instance)
            return
        known = instance.tree.handles()
        if instance.tree.handle(instance.main.pid) is not None and not any(handle.exited() for handle in known):
            return
        members = instance.members()  # looked up at every exit: the handle of one that has gone would wake us for ever
        code = instance.reap()
        if any(map(instance.tree.is_main, members)):
            return
        if members and self._roster.goes_on_without_main(instance, code):
            return
        self._say(f"instance {instance.id} of {instance.spec.release} exited by itself: {code}")
        if members:
            self._draining.begin_leftovers(instance)
        else:
            self._roster.end(instance, code)

    def _release_sockets(self) -> None:
        if self.held.items():
            # What shall run keeps its sockets while it does not: whoever comes waits for the next start.
            wanted = self._state.rows(
                "SELECT spec FROM instances WHERE state='promised' OR id=(SELECT value FROM meta WHERE key='desired')"
            )
            specs = [*map(spec_of, wanted), *(one.spec for one in self.instances.values())]
            self.held.keep([spec for spec in specs if spec.owner is None])

    def _start_desired(self) -> None:
        desired = self.desired()
        if desired is None:
            return
        if desired["state"] == "ended" and desired["confirmed"] and spec_of(desired).owner is None:
            self._restarts.schedule(desired)
        elif (
            desired["state"] == "promised"
            and not self._in_the_way(spec_of(desired))
            and self._restarts.is_time(desired["id"])
        ):
            self._restarts.begun(desired["id"])
            self._start(desired)

    def _start_beside(self) -> None:
        """Start what was launched: nobody has to go for it, and it is not wished for until it has proven itself."""
        for row in self._state.rows("SELECT * FROM instances WHERE state='promised'"):
            if row["id"] != self._state.meta("desired") and spec_of(row).beside and self._restarts.is_time(row["id"]):
                self._restarts.begun(row["id"])
                self._start(row)

    def _start(self, row: Row) -> None:
        if spec_of(row).owner is not None:
            self._elsewhere.start(row)
        else:
            self._starting.start(row)

    def _in_the_way(self, spec: Spec) -> bool:
        if not spec.beside:
            return bool(self.instances)
        return spec.port is not None and any(one.spec.port == spec.port for one in self.instances.values())

    # What the app says -----------------------------------------------------------------------------------------------

    def heard(self, instance_id: str, pid: int, said: Mapping[str, str]) -> None:
        """Take in one sd_notify message of an instance; strangers are not listened to."""
        instance = self.instances.get(instance_id)
        more = self._telling.take_in(instance, pid, said) if instance is not None else None
        if more is not None:
            self._draining.extend(instance_id, more)

    def status(self) -> Dict[str, Any]:
        """Everything a client or a runner may want to know, as of now."""
        desired = self.desired()
        return {
            "desired": on_record(desired),
            "instances": [
                dict(instance.describe(self._clock), state="draining" if instance.id in self.drains else "running",
                     ready=instance.notified_ready, drain=self._draining.summary(instance.id))
                for instance in self.instances.values()
            ],
            "restart_in_s": self._restarts.left(desired["id"]) if desired is not None else None,
            "asks": any(self.owned.asks(instance.spec) for instance in self.instances.values()),
        }  # fmt: skip
