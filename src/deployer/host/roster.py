"""The instances of one app that live: taken over from the record, looked up, struck off when they have gone."""

from __future__ import annotations

from typing import Dict, Iterator, List, Optional, Set

from deployer.host.ground import Ground
from deployer.host.held import Held
from deployer.host.instance import Instance, alive_rows, from_row
from deployer.host.owned import LOOK_AGAIN, Owned
from deployer.host.process import Handle
from deployer.host.state import Row
from deployer.host.telling import Telling
from deployer.model import Identity


class Roster:
    """`living` by id: what is in it is on record as running or draining, and is looked after by one of us."""

    def __init__(self, ground: Ground, held: Held, telling: Telling, owned: Owned) -> None:
        self._paths = ground.paths
        self._state = ground.state
        self._processes = ground.processes
        self._clock = ground.clock
        self._say = ground.say
        self._held = held
        self._telling = telling
        self._owned = owned
        self.living: Dict[str, Instance] = {}
        self.look_at: Dict[str, float] = {}
        """When (monotonic seconds) an instance, also one that is just being started, is looked at though nothing told us to."""
        self._background: Set[str] = set()

    # Who is in it ----------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Take over whatever runs, as far as the record knows."""
        for row in alive_rows(self._state):
            self.take_over(row)
            self._say(f"found instance {row['id']} of {row['release']}: pid {row['pid']}")

    def take_over(self, row: Row) -> None:
        """Count the instance of *row*, which is on record as running."""
        instance = from_row(row, self._processes, self._clock)
        for signalled in self._state.rows("SELECT pid, start FROM signals WHERE instance=?", instance.id):
            instance.tree.remember(Identity(signalled["pid"], signalled["start"], instance.main.boot))
        instance.is_child = self._is_my_child(instance.main)
        members = instance.members() if instance.main.boot == self._processes.boot else []
        self.living[instance.id] = instance
        if members and not instance.tree.main_alive():
            self._background.add(instance.id)
        if instance.spec.owner is None:
            self._held.take_back(instance)
            self._telling.open(instance.spec)

    def _is_my_child(self, identity: Identity) -> bool:
        stat = self._processes.stat(identity.pid)
        return stat is not None and stat.start == identity.start and stat.ppid == self._processes.own_pid()

    def take_started(self, row: Row) -> None:
        """Count the instance of *row* if it is on record as running by now."""
        started = self._state.row("SELECT * FROM instances WHERE id=? AND state='running'", row["id"])
        if started is not None:
            self.take_over(started)
            self._say(f"started {row['release']} as {row['id']}: pid {started['pid']}")

    def put_aside(self, instance: Instance) -> None:
        """Its process has gone and another one is the same instance: whoever calls takes that over."""
        self.look_at.pop(instance.id, None)
        instance.tree.close()
        del self.living[instance.id]

    def end(self, instance: Instance, code: Optional[int]) -> None:
        """Nothing of *instance* lives any more: on record, with all that was only there for it gone."""
        self._state.update("instances", instance.id, state="ended", ended_at=self._clock.wall(), exit_code=code)
        instance.tree.close()
        del self.living[instance.id]
        self.look_at.pop(instance.id, None)
        if instance.spec.owner is not None:
            self._owned.forget_run(instance.id)
        self._background.discard(instance.id)
        self._telling.close(instance.id)
        if instance.spec.private_health:
            self._paths.health_socket(instance.id).unlink(missing_ok=True)

    def announced(self) -> List[Row]:
        """What was forked, and is not yet on record as running: the disk refused that line, or it is about to be written."""
        return self._state.rows("SELECT * FROM instances WHERE state='promised' AND pid IS NOT NULL")

    # Whose process is whose ------------------------------------------------------------------------------------------

    def goes_on_without_main(self, instance: Instance, code: Optional[int]) -> bool:
        """Whether what lives on of *instance*, whose main process has exited with *code*, is the service."""
        if code == 0:  # it went into the background, as daemons do
            self._background.add(instance.id)
        return instance.id in self._background

    def share_orphans(self) -> None:
        # Orphans come to us; where there is one instance only, no doubt is left whose an unmarked one is.
        alone = len(self.living) == 1 and not self.announced()
        for instance in self.living.values():
            instance.tree.reaper = self._processes.own_pid() if alone and instance.spec.owner is None else None

    def expect_another(self) -> None:
        """Our next child is no orphan of anybody in here, even if its environment says nothing."""
        for other in self.living.values():
            other.tree.reaper = None

    # Exits -----------------------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Bury what has exited: our instances' main processes, whose exit code counts, and orphans that came to us."""
        mains = {instance.main.pid: instance for instance in self.living.values() if instance.is_child}
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

    def look_now(self) -> None:
        """Everybody is looked at in this turn: whoever is to be looked at again is noted anew. Nothing wakes us for ever."""
        now = self._clock.now()
        for instance in [name for name, due in self.look_at.items() if due <= now]:
            del self.look_at[instance]

    def due(self) -> List[float]:
        """When somebody in here is to be looked at even if no descriptor tells (monotonic seconds)."""
        untold = not all(handle.tells for handle in self._handles())
        return [*self.look_at.values(), *([self._clock.now() + LOOK_AGAIN] if untold else [])]

    def _handles(self) -> Iterator[Handle]:
        return (handle for instance in self.living.values() for handle in instance.tree.handles())
