"""Instances whose process somebody else starts and keeps: followed to their start, found again after it, missed at their end."""

from __future__ import annotations

from deployer.errors import FailedError
from deployer.host import logs
from deployer.host.draining import Draining
from deployer.host.ground import Ground
from deployer.host.instance import Instance, spec_of
from deployer.host.owned import LOOK_AGAIN, Owned
from deployer.host.restarting import Restarts
from deployer.host.roster import Roster
from deployer.host.starting import Starting
from deployer.host.state import Row
from deployer.host.supervisors import owner
from deployer.model import Spec


class Elsewhere:
    """Looks at what the owners of one app's instances do, turn by turn, and writes it down."""

    def __init__(
        self, ground: Ground, roster: Roster, starting: Starting, restarts: Restarts, draining: Draining, owned: Owned
    ) -> None:
        self._paths = ground.paths
        self._state = ground.state
        self._processes = ground.processes
        self._clock = ground.clock
        self._say = ground.say
        self._roster = roster
        self._starting = starting
        self._restarts = restarts
        self._draining = draining
        self._owned = owned

    # Starts ----------------------------------------------------------------------------------------------------------

    def start(self, row: Row) -> None:
        """Have what was promised in *row* started by its owner, or look how far it is."""
        self._start(spec_of(row))
        self._roster.take_started(row)

    def _start(self, spec: Spec) -> None:
        by = self._owned.by(spec)
        if self._draining.one_has_just_ended and not by.stops:
            # It takes its time: whoever watches the old one hears of its end before the new one answers in its place.
            self._roster.look_at[spec.id] = self._clock.now()
            return
        first = self._owned.begun_after(spec.id) is None
        if first:
            self._state.update("instances", spec.id, log_offset=logs.size(self._paths.app_log))
            self._owned.begin(spec, lambda: by.start(spec))
        now = by.seen(spec)
        before = self._owned.begun_after(spec.id)
        if now.state == owner.RUNNING and now.run != before:
            self._take(spec, now)
        elif now.state in (owner.STARTING, owner.STOPPING) or now.waits:
            self._look_again(spec.id)
        elif now.run == before and now.ended and now.begun and now.pid is None:
            self._failed(spec, FailedError("it ended at once, or was never started", cause=now.text))
        elif now.run == before and now.ended:
            if not first:  # whoever asked before died of it, or its owner does not want to
                by.start(spec)
            self._roster.look_at[spec.id] = self._restarts.put_off(spec.id)
        else:
            self._take(spec, now)

    def _take(self, spec: Spec, now: owner.Seen) -> None:
        """*spec* has been started by its owner: on record, also where it has ended since."""
        self._roster.look_at.pop(spec.id, None)
        self._owned.note_run(spec.id, now.run)
        if now.ended and now.pid is None:
            self._failed(spec, FailedError(now.text or "it ended at once"))
            return
        self._restarts.settled(spec.id)
        row = self._state.row("SELECT log_offset FROM instances WHERE id=?", spec.id)
        self._starting.record(spec, int(now.pid or 0), int(row["log_offset"] or 0) if row else 0)
        if now.ended:
            self._state.update(
                "instances", spec.id, state="ended", ended_at=self._clock.wall(), exit_code=now.code,
                error=now.text if now.code is None else None,
            )  # fmt: skip
            self._say(f"{spec.release} as {spec.id} ended at once: {now.code}")
        else:
            self._state.update("instances", spec.id, state="running")

    def _failed(self, spec: Spec, error: FailedError) -> None:
        self._restarts.settled(spec.id)
        self._starting.failed(spec, error)

    # What runs -------------------------------------------------------------------------------------------------------

    def look_after(self, instance: Instance) -> None:
        """Take note of the end of *instance*, or that its owner has started it again."""
        handle = instance.tree.handle(instance.main.pid)
        if handle is None:
            instance.members()
            handle = instance.tree.handle(instance.main.pid)
        if handle is not None and not handle.exited():
            return
        by = self._owned.by(instance.spec)
        now = by.seen(instance.spec)
        stat = self._processes.stat(now.pid) if now.pid else None
        if now.state == owner.RUNNING and stat is not None and not instance.tree.is_main(stat):
            self._take_again(instance, now)
        elif now.ended and not by.whole:
            self._look_after_what_is_left(instance)
        elif now.ended:
            ended = by.seen(instance.spec, self._owned.run_of(instance.id) or None)
            self._say(f"instance {instance.id} of {instance.spec.release} exited by itself: {ended.code}")
            if instance.members() and not by.stops:
                self._draining.begin_leftovers(instance)
            else:
                self._roster.end(instance, ended.code)
        else:
            self._look_again(instance.id)

    def _look_after_what_is_left(self, instance: Instance) -> None:
        """Its main process has gone, and its supervisor, which knows no more than that, does not start it again."""
        if instance.members():
            self._draining.begin_leftovers(instance)
        elif not instance.confirmed:
            self._say(f"instance {instance.id} of {instance.spec.release} exited by itself: {instance.reap()}")
            self._roster.end(instance, instance.reap())
        else:
            # It may come up later, after a back-off of its supervisor or by a person: whoever looks next finds it by this record.
            self._look_again(instance.id)

    def _take_again(self, instance: Instance, now: owner.Seen) -> None:
        """Its owner has started it again, after a crash, a reboot or because somebody asked for it."""
        self._roster.put_aside(instance)
        self._owned.note_run(instance.id, now.run)
        self._starting.record(instance.spec, int(now.pid or 0), logs.size(self._paths.app_log))
        row = self._state.row("SELECT * FROM instances WHERE id=?", instance.id)
        assert row is not None
        self._roster.take_over(row)
        self._say(f"{instance.spec.release} was started again: pid {now.pid}")

    def _look_again(self, instance: str) -> None:
        self._roster.look_at[instance] = self._clock.now() + LOOK_AGAIN
