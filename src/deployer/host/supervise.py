"""
The keeper's mind: what should run, what runs, and the one next thing that brings the two together.

The wish is in state.db (`desired`, the drains) before anything is done about it, so a keeper that comes back goes on from
the record. No I/O loop here: keeper.py calls `advance` after every exit, request and deadline.
"""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple, Union, cast
from uuid import uuid4

from deployer.errors import DeployerError, FailedError
from deployer.host import drain, logs, unix
from deployer.host.asked_drain import AskedDrain
from deployer.host.clock import Clock
from deployer.host.held import Held
from deployer.host.instance import Instance, alive_rows, from_row
from deployer.host.notify import NotifySocket, extension
from deployer.host.owned import LOOK_AGAIN, Owned, OwnedDrain
from deployer.host.paths import HostPaths
from deployer.host.process import Handle, Processes
from deployer.host.spawn import environment, read_secrets
from deployer.host.state import Row, State
from deployer.host.supervisors import choose, owner
from deployer.host.tree import Tree
from deployer.model import DrainOrder, Identity, Spec, Verdict
from deployer.wire.redaction import Redactor

BACKOFF_FIRST, BACKOFF_LONGEST = 0.5, 60.0
"""Seconds before the first and at most before any restart after a crash; doubled from one crash to the next."""
SETTLES_WITHIN = 1.0
"""Seconds that a forked process has to exec, or to notice that its keeper has died."""
STEADY_AFTER = 60.0
"""An instance that ran this long (seconds) before it crashed starts the back-off anew."""


def new_instance_id() -> str:
    return uuid4().hex[:12]


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
        self._paths = paths
        self._state = state
        self._processes = processes
        self._clock = clock
        self._base_env = dict(base_env)
        self._say = say
        self._listen = listen
        self.instances: Dict[str, Instance] = {}
        self.drains: Dict[str, Union[drain.Drain, OwnedDrain]] = {}
        self.notify: Dict[str, NotifySocket] = {}
        self.held = Held(say)
        self.owned = Owned(state, partial(choose.owner_of, paths))
        self._look_at: Dict[str, float] = {}
        self._not_before: Dict[str, float] = {}
        self._background: Set[str] = set()
        self._has_just_drained = False

    # What the record says --------------------------------------------------------------------------------------------

    def recover(self, inherited: Optional[Mapping[str, socket.socket]] = None) -> None:
        """Take over what an earlier keeper left: running instances, drains under way, the held socket."""
        self.held.inherit(inherited or {})
        for row in self._state.rows("SELECT * FROM instances WHERE state='promised' AND pid IS NOT NULL"):
            self._settle_start(row)
        for row in alive_rows(self._state):
            self._take_over(row)
            self._say(f"found instance {row['id']} of {row['release']}: pid {row['pid']}")
        for row in self._state.rows("SELECT instance FROM drains WHERE verdict IS NULL"):
            if row["instance"] in self.instances:
                self.drains[row["instance"]] = self._drain_of(self.instances[row["instance"]])
        self._resume_lost()

    def _settle_start(self, row: Row) -> None:
        # Its keeper died between fork and exec, or just after: it runs, or it never did and never will.
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
        else:
            self._state.update("instances", row["id"], pid=None, start=None, boot=None)

    def _take_over(self, row: Row) -> None:
        instance = from_row(row, self._processes, self._clock)
        for signalled in self._state.rows("SELECT pid, start FROM signals WHERE instance=?", instance.id):
            instance.tree.remember(Identity(signalled["pid"], signalled["start"], instance.main.boot))
        instance.is_child = self._is_my_child(instance.main)
        members = instance.members() if instance.main.boot == self._processes.boot else []
        self.instances[instance.id] = instance
        if members and not instance.tree.main_alive():
            self._background.add(instance.id)
        if instance.spec.owner is None:
            self.held.take_back(instance)
            self._open_notify(instance.spec)

    def _is_my_child(self, identity: Identity) -> bool:
        stat = self._processes.stat(identity.pid)
        return stat is not None and stat.start == identity.start and stat.ppid == self._processes.own_pid()

    def _resume_lost(self) -> None:
        # A wish whose instance was never started, or died with the last boot or keeper, is acted on by `advance`.
        desired = self.desired()
        if desired is not None and desired["state"] == "running" and desired["id"] not in self.instances:
            self._state.update("instances", desired["id"], state="ended", ended_at=self._clock.wall())

    def desired(self) -> Optional[Row]:
        """The row of the instance that should run, or None when the service should be stopped."""
        wanted = self._state.meta("desired")
        return self._state.row("SELECT * FROM instances WHERE id=?", wanted) if wanted else None

    # Requests --------------------------------------------------------------------------------------------------------

    def replace(self, deploy: str, who: str, new: Optional[Spec], how: DrainOrder, confirmed: bool = False) -> None:
        """
        Promise that *new* (or nothing) will run once everything else of this app has drained. On disk when this returns.

        Asking again for the same instance changes nothing.
        """
        if new is not None and self._state.row("SELECT 1 FROM instances WHERE id=?", new.id):
            return
        self._settle_announced()
        if new is not None and new.owner is None:
            self.held.prepare(new, self.instances.values())
        new = self._order_owned(new, self.instances.values(), how, confirmed)
        self._take_back("SELECT * FROM instances WHERE state='promised' AND pid IS NULL")
        self._not_before.clear()  # a restart that was waiting its turn is overtaken
        with self._state.transaction():
            self._forget_promised()
            if new is not None:
                self._promise(new, deploy, confirmed, crashes=0)
            self._state.set_meta("desired", new.id if new else None)
            for instance in self.instances.values():
                drain.order(self._state, self._clock, instance, deploy, who, how)
        self._drain(self.instances.values(), deploy, who, how)
        if new is None:
            self._wish(None)

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
        new = self._order_owned(new, [], DrainOrder(), confirmed=False) or new
        self._promise(new, deploy, confirmed=False, crashes=0)

    def retire(self, deploy: str, who: str, keep: str, how: DrainOrder) -> None:
        """
        *keep*, which was launched and has proven itself, is what shall run; everything else of this app drains.

        On disk when this returns. Raises FailedError when *keep* has gone. Asking again changes nothing.
        """
        row = self._state.row("SELECT state, confirmed FROM instances WHERE id=?", keep)
        if row is not None and row["confirmed"]:
            return
        self._settle_announced()
        if keep in self.instances and keep not in self.drains:
            self._look_after(self.instances[keep])  # it may have exited since
        if keep not in self.instances or keep in self.drains:
            raise FailedError(f"instance {keep} does not run any more")
        self._not_before.clear()
        others = [one for one in self.instances.values() if one.id != keep]
        self._order_owned(None, others, how)
        self._take_back("SELECT * FROM instances WHERE state='promised' AND pid IS NULL")
        # Before it is on record: who boots in between shall find the one that runs then in the record, draining or not.
        self._wish(self.instances[keep].spec)
        with self._state.transaction():
            self._forget_promised()
            self._state.update("instances", keep, confirmed=1)
            self._state.set_meta("desired", keep)
            for instance in others:
                drain.order(self._state, self._clock, instance, deploy, who, how)
        self.instances[keep].confirmed = True
        self._drain(others, deploy, who, how)

    def dismiss(self, deploy: str, who: str, instance_id: str, how: DrainOrder) -> None:
        """Take back what was launched: it drains, and was never what shall run. Asking again changes nothing."""
        if instance_id == self._state.meta("desired"):
            raise FailedError(f"instance {instance_id} is what shall run: it is not dismissed")
        self._settle_announced()
        launched = [one for one in self.instances.values() if one.id == instance_id]
        self._order_owned(None, launched, how)
        self._take_back("SELECT * FROM instances WHERE state='promised' AND pid IS NULL AND id=?", instance_id)
        with self._state.transaction():
            self._state.execute(
                "UPDATE instances SET state='ended', ended_at=? WHERE id=? AND state='promised' AND pid IS NULL",
                self._clock.wall(), instance_id,
            )  # fmt: skip
            for instance in launched:
                drain.order(self._state, self._clock, instance, deploy, who, how)
        self._drain(launched, deploy, who, how)

    def record_of(self, instance_id: str) -> Optional[Dict[str, Any]]:
        """What is on record of one instance, as `desired` in `status`; None for one that was never promised."""
        return _row_summary(self._state.row("SELECT * FROM instances WHERE id=?", instance_id))

    def _settle_announced(self) -> None:
        # Forked, and then the disk refused the line that it runs: it must drain like any other, and not be forgotten.
        for row in self._announced():
            self._settle_start(row)
            self._take_started(row)

    def _forget_promised(self) -> None:
        # What was promised and never started is no longer wanted: a restart that waited its turn, an aborted release.
        self._state.execute(
            "UPDATE instances SET state='ended', ended_at=? WHERE state='promised' AND pid IS NULL", self._clock.wall()
        )

    def _drain(self, instances: Iterable[Instance], deploy: str, who: str, how: DrainOrder) -> None:
        """Begin to carry out the drains of *instances*, which are on record."""
        for instance in instances:
            if instance.id not in self.drains:
                self.drains[instance.id] = self._drain_of(instance)
            else:
                self.drains[instance.id].take_over(deploy, who, how)

    def _drain_of(self, instance: Instance) -> Union[drain.Drain, OwnedDrain]:
        by = self.owned.by(instance.spec) if instance.spec.owner is not None else None
        if by is None or not by.stops:
            return drain.Drain(instance, self._state, self._clock)
        if not by.whole:
            return AskedDrain(instance, self._state, self._clock, cast(owner.Asker, by))
        return OwnedDrain(instance, self._state, self._clock, by, self.owned.run_of(instance.id))

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
        self._take_over(row)

    def confirm(self, instance_id: str) -> None:
        """The instance has proven itself: from now on it is restarted after a crash."""
        row = self._state.row("SELECT * FROM instances WHERE id=?", instance_id)
        if row is not None:
            self._wish(_spec(row))
        self._state.update("instances", instance_id, confirmed=1)
        if instance_id in self.instances:
            self.instances[instance_id].confirmed = True

    def move_deadline(self, instance_id: str, deadline: float, who: str = "") -> bool:
        """Move the ceiling of a drain to *deadline* (monotonic seconds), as *who* asked. False when it is too late for that."""
        found = self.drains.get(instance_id)
        moved = found is not None and found.move_deadline(deadline)
        if moved:
            left = max(0.0, deadline - self._clock.now())
            self._say(f"drain of {instance_id} may take {left:.1f} s more{f': asked by {who}' if who else ''}")
        return moved

    # Who owns it -----------------------------------------------------------------------------------------------------

    def _order_owned(
        self, new: Optional[Spec], olds: Iterable[Instance], how: DrainOrder, confirmed: bool = False
    ) -> Optional[Spec]:
        """Let the owners know how *olds* are to be stopped and *new* is started, before anybody is asked; *new*, with its place."""
        theirs = [old for old in olds if old.spec.owner is not None and old.id not in self.drains]
        if new is not None and new.owner is not None:
            by = self.owned.by(new)
            new = by.placed(new, [one.spec for one in self.instances.values() if new.beside])
            together = [old.spec for old in self.instances.values() if old.spec.owner is not None and not new.beside]
            env = environment(new, self._base_env)
            by.prepare(new, env, [old for old in together if self.owned.by(old) is by], how, confirmed)
            theirs = [old for old in theirs if old.spec not in together]
        for old in theirs:
            self.owned.by(old.spec).order(old.spec, how)
        return new

    def _take_back(self, promised: str, *words: str) -> None:
        """Let the owners start nothing of *promised* (a query) any more, before it is forgotten."""
        for spec in map(_spec, self._state.rows(promised, *words)):
            if spec.owner is None or self.owned.begun_after(spec.id) is None:
                continue
            try:
                self.owned.by(spec).stop(spec)
            except DeployerError as error:  # what follows is worth more, and stops it as well
                self._say(f"the start of {spec.id} was not taken back: {error}")

    def _ask_owners(self) -> None:
        """Ask whoever owns it to stop what drains: together with the start of what comes after it, where that is possible."""
        asked = [one for one in self.drains.values() if isinstance(one, OwnedDrain)]
        waiting = [one for one in asked if not one.asked]
        desired = self.desired()
        promised = desired is not None and desired["state"] == "promised"
        new = _spec(desired) if desired is not None and promised else None
        if waiting and self.owned.together(new, list(self.instances.values())):
            assert new is not None
            olds = [one.instance.spec for one in asked]
            if self._swap(new, olds, waiting):
                return
        for one in waiting:
            one.ask(partial(self.owned.by(one.instance.spec).stop, one.instance.spec))

    def _swap(self, new: Spec, olds: List[Spec], waiting: List[OwnedDrain]) -> bool:
        done: List[bool] = []

        def once() -> None:
            if not done:
                self.owned.begin(new, lambda: done.append(self.owned.by(new).swap(new, olds)))
            if not done[0]:
                raise _NotTogether

        try:
            for one in waiting:
                one.ask(once)
        except _NotTogether:
            return False
        return True

    def _wish(self, spec: Optional[Spec]) -> None:
        """Let the owners know what shall run from now on, also after a crash and a reboot."""
        rows = self._state.rows("SELECT * FROM instances WHERE confirmed=1 ORDER BY created_at DESC LIMIT 20")
        others = [one for one in map(_spec, rows) if one.owner is not None]
        here = self.owned.by(spec) if spec is not None and spec.owner is not None else None
        for by in {id(by): by for by in [*map(self.owned.by, others), *([here] if here else [])]}.values():
            by.confirm(spec if by is here else None, [one for one in others if self.owned.by(one) is by])

    def _start_owned(self, spec: Spec) -> None:
        by = self.owned.by(spec)
        if self._has_just_drained and not by.stops:
            # It takes its time: whoever watches the old one hears of its end before the new one answers in its place.
            self._look_at[spec.id] = self._clock.now()
            return
        if self.owned.begun_after(spec.id) is None:
            self._state.update("instances", spec.id, log_offset=logs.size(self._paths.app_log))
            self.owned.begin(spec, lambda: by.start(spec))
        now = by.seen(spec)
        before = self.owned.begun_after(spec.id)
        if now.state == owner.RUNNING and now.run != before:
            self._take_owned(spec, now)
        elif now.state in (owner.STARTING, owner.STOPPING) or now.waits:
            self._look_at[spec.id] = self._clock.now() + LOOK_AGAIN
        elif now.run == before and now.ended and now.begun and now.pid is None:
            self._not_started(spec, FailedError("it ended at once, or was never started", cause=now.text))
        elif now.run == before and now.ended:
            by.start(spec)  # whoever asked before died of it
            self._look_at[spec.id] = self._clock.now() + LOOK_AGAIN
        else:
            self._take_owned(spec, now)

    def _take_owned(self, spec: Spec, now: owner.Seen) -> None:
        """*spec* has been started by its owner: on record, also where it has ended since."""
        self._look_at.pop(spec.id, None)
        self.owned.note_run(spec.id, now.run)
        if now.ended and now.pid is None:
            self._not_started(spec, FailedError(now.text or "it ended at once"))
            return
        row = self._state.row("SELECT log_offset FROM instances WHERE id=?", spec.id)
        self._record(spec, int(now.pid or 0), int(row["log_offset"] or 0) if row else 0)
        if now.ended:
            self._state.update(
                "instances", spec.id, state="ended", ended_at=self._clock.wall(), exit_code=now.code,
                error=now.text if now.code is None else None,
            )  # fmt: skip
            self._say(f"{spec.release} as {spec.id} ended at once: {now.code}")
        else:
            self._state.update("instances", spec.id, state="running")

    def _look_after_owned(self, instance: Instance) -> None:
        handle = instance.tree.handle(instance.main.pid)
        if handle is None:
            instance.members()
            handle = instance.tree.handle(instance.main.pid)
        if handle is not None and not handle.exited():
            return
        by = self.owned.by(instance.spec)
        now = by.seen(instance.spec)
        stat = self._processes.stat(now.pid) if now.pid else None
        if now.state == owner.RUNNING and stat is not None and not instance.tree.is_main(stat):
            self._start_again(instance, now)
        elif now.ended and not by.whole:
            self._look_after_what_is_left(instance)
        elif now.ended:
            ended = by.seen(instance.spec, self.owned.run_of(instance.id) or None)
            self._say(f"instance {instance.id} of {instance.spec.release} exited by itself: {ended.code}")
            if instance.members() and not by.stops:
                self._drain_leftovers(instance)
            else:
                self._end(instance, ended.code)
        else:
            self._look_at[instance.id] = self._clock.now() + LOOK_AGAIN

    def _look_after_what_is_left(self, instance: Instance) -> None:
        """Its main process has gone, and its supervisor, which knows no more than that, does not start it again."""
        if instance.members():
            self._drain_leftovers(instance)
        elif not instance.confirmed:
            self._say(f"instance {instance.id} of {instance.spec.release} exited by itself: {instance.reap()}")
            self._end(instance, instance.reap())
        else:
            # It may come up later, after a back-off of its supervisor or by a person: whoever looks next finds it by this record.
            self._look_at[instance.id] = self._clock.now() + LOOK_AGAIN

    def _start_again(self, instance: Instance, now: owner.Seen) -> None:
        """Its owner has started it again, after a crash, a reboot or because somebody asked for it."""
        self._look_at.pop(instance.id, None)
        instance.tree.close()
        del self.instances[instance.id]
        self.owned.note_run(instance.id, now.run)
        self._record(instance.spec, int(now.pid or 0), logs.size(self._paths.app_log))
        row = self._state.row("SELECT * FROM instances WHERE id=?", instance.id)
        assert row is not None
        self._take_over(row)
        self._say(f"{instance.spec.release} was started again: pid {now.pid}")

    # The next thing to do --------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Do everything that is due now. Safe to call at any time."""
        self._share_orphans()
        self._ask_owners()
        before = len(self.drains)
        for name, under_way in list(self.drains.items()):
            verdict = under_way.advance()
            if verdict is not None:
                self._drained(self.instances[name], verdict)
        self._has_just_drained = len(self.drains) < before
        for instance in list(self.instances.values()):
            if instance.id not in self.drains:
                self._look_after(instance)
        self._release_sockets()  # first: what starts now may want to listen where another one did
        self._start_desired()
        self._start_beside()

    def _share_orphans(self) -> None:
        # Orphans come to us; where there is one instance only, no doubt is left whose an unmarked one is.
        alone = len(self.instances) == 1 and not self._announced()
        for instance in self.instances.values():
            instance.tree.reaper = self._processes.own_pid() if alone and instance.spec.owner is None else None

    def _announced(self) -> List[Row]:
        """What was forked, and is not yet on record as running: the disk refused that line, or it is about to be written."""
        return self._state.rows("SELECT * FROM instances WHERE state='promised' AND pid IS NOT NULL")

    def next_deadline(self) -> Optional[float]:
        """When `advance` is due even if nothing happens (monotonic seconds)."""
        due = [found.next_deadline() for found in self.drains.values()]
        desired = self.desired() if self._not_before else None
        if desired is not None and not self._in_the_way(_spec(desired)):
            due += self._not_before.values()
        due += self._look_at.values()
        if not all(handle.tells for handle in self._handles()):
            due.append(self._clock.now() + LOOK_AGAIN)
        return min(due) if due else None

    def reap(self) -> None:
        """Bury what has exited: our instances' main processes, whose exit code counts, and orphans that came to us."""
        mains = {instance.main.pid: instance for instance in self.instances.values() if instance.is_child}
        while True:
            pid = self._processes.exited_child()
            if pid is None:
                return
            if pid in mains and mains[pid].exit_code is None:
                mains[pid].reap()
            else:
                self._processes.bury(pid)

    def watched(self) -> List[int]:
        """The descriptors whose readability means that a process has exited."""
        return [handle.fileno() for handle in self._handles() if handle.tells]

    def _handles(self) -> List[Handle]:
        return [handle for instance in self.instances.values() for handle in instance.tree.handles()]

    def idle(self) -> bool:
        """Nothing runs and nothing should; or somebody else owns what does, and nothing is left to be done about it."""
        if self.drains or any(one.spec.owner is None for one in self.instances.values()):
            return False
        if self._state.row("SELECT 1 FROM instances WHERE state='promised'") is not None:
            return False
        desired = self.desired()
        return desired is None or _spec(desired).owner is not None

    def owned_elsewhere(self) -> bool:
        """Whether what runs, or should, is not ours to keep running: then we are here only while a deploy is under way."""
        desired = self.desired()
        specs = [*(one.spec for one in self.instances.values()), *([_spec(desired)] if desired else [])]
        return any(spec.owner is not None for spec in specs)

    def _drained(self, instance: Instance, verdict: Verdict) -> None:
        if instance.spec.owner is not None:
            verdict = self.owned.cleared(instance.spec, verdict, self._clock)
        self._state.update("drains", instance.id, verdict=json.dumps(self._redacted(instance, verdict.to_json())))
        del self.drains[instance.id]
        self._end(instance, verdict.exit_code)
        self._say(f"drained {instance.id} of {instance.spec.release}: {verdict.verdict} after {verdict.waited_s} s")

    def _redacted(self, instance: Instance, told: Dict[str, Any]) -> Any:
        # Command lines are in it, and what a shell has put into one stays a secret.
        if instance.spec.secrets_file is None:
            return told
        try:
            return Redactor(read_secrets(Path(instance.spec.secrets_file)))(told)
        except DeployerError:  # damaged: nobody can say what must not be told
            return {**told, "killed": [], "stuck": []}

    def _look_after(self, instance: Instance) -> None:
        if instance.spec.owner is not None:
            self._look_after_owned(instance)
            return
        known = instance.tree.handles()
        if instance.tree.handle(instance.main.pid) is not None and not any(handle.exited() for handle in known):
            return
        members = instance.members()  # looked up at every exit: the handle of one that has gone would wake us for ever
        code = instance.reap()
        if any(map(instance.tree.is_main, members)):
            return
        if members and (code == 0 or instance.id in self._background):
            # It went into the background, as daemons do: what lives on is the service.
            self._background.add(instance.id)
            return
        self._say(f"instance {instance.id} of {instance.spec.release} exited by itself: {code}")
        if members:
            self._drain_leftovers(instance)
        else:
            self._end(instance, code)

    def _drain_leftovers(self, instance: Instance) -> None:
        how = DrainOrder(**instance.spec.drain) if instance.spec.drain else DrainOrder()
        with self._state.transaction():
            drain.order(self._state, self._clock, instance, instance.deploy or "", drain.CRASH, how)
        self.drains[instance.id] = self._drain_of(instance)
        self.drains[instance.id].advance()

    def _end(self, instance: Instance, code: Optional[int]) -> None:
        self._state.update("instances", instance.id, state="ended", ended_at=self._clock.wall(), exit_code=code)
        instance.tree.close()
        del self.instances[instance.id]
        self._look_at.pop(instance.id, None)
        if instance.spec.owner is not None:
            self.owned.forget_run(instance.id)
        self._background.discard(instance.id)
        self._close_notify(instance.id)
        if instance.spec.private_health:
            self._paths.health_socket(instance.id).unlink(missing_ok=True)

    def _release_sockets(self) -> None:
        if self.held.items():
            # What shall run keeps its sockets while it does not: whoever comes waits for the next start.
            wanted = self._state.rows(
                "SELECT spec FROM instances WHERE state='promised' OR id=(SELECT value FROM meta WHERE key='desired')"
            )
            specs = [*map(_spec, wanted), *(one.spec for one in self.instances.values())]
            self.held.keep([spec for spec in specs if spec.owner is None])

    def _start_desired(self) -> None:
        desired = self.desired()
        if desired is None:
            return
        if desired["state"] == "ended" and desired["confirmed"] and _spec(desired).owner is None:
            self._schedule_restart(desired)
        elif desired["state"] == "promised" and not self._in_the_way(_spec(desired)) and self._is_time(desired["id"]):
            self._not_before.pop(desired["id"], None)
            self._start(desired)

    def _start_beside(self) -> None:
        """Start what was launched: nobody has to go for it, and it is not wished for until it has proven itself."""
        for row in self._state.rows("SELECT * FROM instances WHERE state='promised'"):
            if row["id"] != self._state.meta("desired") and _spec(row).beside:
                self._start(row)

    def _in_the_way(self, spec: Spec) -> bool:
        if not spec.beside:
            return bool(self.instances)
        return spec.port is not None and any(one.spec.port == spec.port for one in self.instances.values())

    def _is_time(self, instance_id: str) -> bool:
        return self._clock.now() >= self._not_before.get(instance_id, 0.0)

    def _schedule_restart(self, row: Row) -> None:
        ran = (row["ended_at"] or 0) - (row["started_at"] or row["ended_at"] or 0)
        rebooted = row["boot"] not in (None, self._processes.boot)
        crashes = 0 if rebooted else 1 if ran >= STEADY_AFTER else int(row["crashes"] or 0) + 1
        crashed = _spec(row)
        spec = changed(
            crashed, id=new_instance_id(), beside=crashed.overlap, gate=False
        )  # nobody proves it: it opens by itself
        with self._state.transaction():
            self._promise(spec, row["deploy"], True, crashes)
            self._state.set_meta("desired", spec.id)
        delay = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2 ** (min(crashes, 20) - 1)) if crashes else 0.0
        self._not_before[spec.id] = self._clock.now() + delay
        self._say(f"restarting {spec.release} in {delay} s (crash {crashes})")

    def _promise(self, spec: Spec, deploy: Optional[str], confirmed: bool, crashes: int) -> None:
        self._state.insert(
            "instances", id=spec.id, release=spec.release, spec=spec.to_json(), state="promised", deploy=deploy,
            created_at=self._clock.wall(), confirmed=int(confirmed), crashes=crashes,
        )  # fmt: skip

    # Starting --------------------------------------------------------------------------------------------------------

    def _start(self, row: Row) -> None:
        if _spec(row).owner is not None:
            self._start_owned(_spec(row))
            self._take_started(row)
            return
        if row["pid"] is not None:  # announced, and then the disk refused the line that it runs
            self._settle_start(row)
        if self._state.row("SELECT 1 FROM instances WHERE id=? AND pid IS NULL", row["id"]):
            spec = _spec(row)
            try:
                self._spawn(spec)
            except Exception as error:  # whatever it is: the record must say so, and the keeper go on
                self._not_started(spec, error)
                return
            self._state.update("instances", spec.id, state="running")
        self._take_started(row)

    def _take_started(self, row: Row) -> None:
        started = self._state.row("SELECT * FROM instances WHERE id=? AND state='running'", row["id"])
        if started is not None:
            self._take_over(started)
            self._say(f"started {row['release']} as {row['id']}: pid {started['pid']}")

    def _spawn(self, spec: Spec) -> None:
        for other in self.instances.values():
            other.tree.reaper = None  # our next child is no orphan of theirs, even if its environment says nothing
        listeners = self.held.of(spec)
        self._open_notify(spec)
        notify = self.notify.get(spec.id)
        env = environment(spec, self._base_env, notify.address if notify else None)
        with self._private_health(spec) as private:
            # On record before it is executed: a keeper that comes back must find it, and not start a second one.
            start = partial(self._record, spec)
            self._processes.start(spec, env, self._paths.app_log, [*listeners, *private], start)

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

    def _record(self, spec: Spec, pid: int, offset: int) -> None:
        stat = self._processes.stat(pid)
        self._state.update(
            "instances", spec.id, pid=pid, start=stat.start if stat else 0, boot=self._processes.boot,
            started_at=self._clock.wall(), log_offset=offset,
        )  # fmt: skip

    def _not_started(self, spec: Spec, error: Exception) -> None:
        text = str(error)
        if isinstance(error, DeployerError) and error.cause:
            text = f"{error.title} ({error.cause})"
        self._look_at.pop(spec.id, None)
        self._state.update(
            "instances", spec.id, state="ended", ended_at=self._clock.wall(), error=text, exit_code=None, pid=None
        )
        self._close_notify(spec.id)
        self._say(f"could not start {spec.release}: {text}")

    def _open_notify(self, spec: Spec) -> None:
        if spec.id in self.notify:
            return
        try:
            self.notify[spec.id] = self._listen(self._paths.run / f"notify-{spec.id}.sock")
        except OSError as error:
            self._say(f"no NOTIFY_SOCKET for {spec.id}: {error}")

    def _close_notify(self, instance_id: str) -> None:
        listener = self.notify.pop(instance_id, None)
        if listener is not None:
            listener.close()

    # What the app says -----------------------------------------------------------------------------------------------

    def heard(self, instance_id: str, pid: int, said: Mapping[str, str]) -> None:
        """Take in one sd_notify message of an instance; strangers are not listened to."""
        instance = self.instances.get(instance_id)
        if instance is None or pid not in {stat.pid for stat in instance.members()}:
            return
        if said.get("READY") == "1":
            instance.notified_ready = True
        if "STATUS" in said:
            instance.status_text = said["STATUS"]
        under_way = self.drains.get(instance_id)
        more = extension(said)
        if under_way is not None and more is not None:
            asked = self._clock.now() + more
            if asked > under_way.deadline:
                under_way.move_deadline(asked)
                self._say(f"{instance_id} asked for more time (EXTEND_TIMEOUT_USEC)")

    def status(self) -> Dict[str, Any]:
        """Everything a client or a runner may want to know, as of now."""
        desired = self.desired()
        return {
            "desired": _row_summary(desired),
            "instances": [
                dict(instance.describe(self._clock), state="draining" if instance.id in self.drains else "running",
                     ready=instance.notified_ready, drain=self._drain_summary(instance.id))
                for instance in self.instances.values()
            ],
            "restart_in_s": self._restart_in(),
            "asks": any(self._asks(instance.spec) for instance in self.instances.values()),
        }  # fmt: skip

    def _asks(self, spec: Spec) -> bool:
        by = self.owned.by(spec) if spec.owner is not None else None
        return by is not None and not by.whole and cast(owner.Asker, by).asks(spec)

    def _drain_summary(self, instance_id: str) -> Optional[Dict[str, Any]]:
        found = self.drains.get(instance_id)
        if found is None:
            return None
        left = max(0.0, found.deadline - self._clock.now())
        return {"deploy": found.deploy, "waited_s": round(found.waited(), 3), "left_s": round(left, 3)}

    def _restart_in(self) -> Optional[float]:
        due = min(self._not_before.values(), default=None)
        return None if due is None else round(max(0.0, due - self._clock.now()), 1)


class _NotTogether(Exception):
    """Its owner can stop and start, and not both in one go."""


def _spec(row: Row) -> Spec:
    return Spec.from_json(json.loads(row["spec"]))


def _row_summary(row: Optional[Row]) -> Optional[Dict[str, Any]]:
    if row is None:
        return None
    names = (
        "id",
        "release",
        "state",
        "pid",
        "start",
        "boot",
        "started_at",
        "exit_code",
        "error",
        "confirmed",
        "deploy",
        "log_offset",
    )
    return {name: row[name] for name in names}
