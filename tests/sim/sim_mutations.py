"""
Bugs that somebody might make, planted in the engine one at a time: each must break a promise in some schedule.

`seed` is where the search for such a schedule begins; with the engine as it was when this was written it is the one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from sim_host import HOW

from deployer.host import drain, overlap, revert, roster, runner
from deployer.host.drain import Drain
from deployer.host.instance import Instance, from_row, new_instance_id
from deployer.host.journal import Journal
from deployer.host.process import Processes, Stat
from deployer.host.roster import Roster
from deployer.host.starting import Starting
from deployer.host.state import State
from deployer.host.supervise import Core
from deployer.host.tree import Tree
from deployer.model import DrainOrder, Identity, Spec

Plant = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Mutation:
    """*promise* is what the schedule of *seed* breaks with it: the beginning of what sim_promises.broken says."""

    name: str
    seed: int
    promise: str
    plant: Plant


def _sent_before_it_is_recorded() -> AbstractContextManager[Any]:
    def send(self: Drain, stat: Stat) -> None:
        key, handle = (stat.pid, stat.start), self.instance.tree.handle(stat.pid)
        if handle is not None and key not in self._signalled:
            self._signalled.add(key)
            if handle.send(self._signal):
                self._sent(stat, self._signal.name)

    return mock.patch.object(Drain, "_send", send)


def _never_recorded() -> AbstractContextManager[Any]:
    def send(self: Drain, stat: Stat) -> None:
        key, handle = (stat.pid, stat.start), self.instance.tree.handle(stat.pid)
        if handle is not None and key not in self._signalled:
            self._signalled.add(key)
            handle.send(self._signal)

    return mock.patch.object(Drain, "_send", send)


def _signals_not_read() -> AbstractContextManager[Any]:
    return mock.patch.object(Drain, "_recorded", lambda self, signal: set())


def _identity_by_pid_only() -> AbstractContextManager[Any]:
    stack = ExitStack()

    def alive(self: Processes, identity: Identity) -> bool:
        found = self.identity(identity.pid)
        return identity.boot == self.boot and found is not None

    def known(self: Tree, stat: Stat) -> bool:
        return stat.pid in self._known

    stack.enter_context(mock.patch.object(Processes, "alive", alive))
    stack.enter_context(mock.patch.object(Tree, "_is_known", known))
    stack.enter_context(mock.patch.object(Tree, "is_main", lambda self, stat: stat.pid == self.main.pid))
    return stack


def _boot_ignored() -> AbstractContextManager[Any]:
    original = from_row

    def of_this_boot(row: Any, processes: Processes, clock: Any = None) -> Instance:
        return original(dict(row, boot=processes.boot), processes, clock)

    return mock.patch.object(roster, "from_row", of_this_boot)


def _force_at_resume() -> AbstractContextManager[Any]:
    original = Core.recover

    def recover(self: Core, inherited: Any = None) -> None:
        original(self, inherited)
        for found in self.drains.values():
            found.deadline = self._clock.now()

    return mock.patch.object(Core, "recover", recover)


def _deadline_forgotten() -> AbstractContextManager[Any]:
    return mock.patch.object(Drain, "next_deadline", lambda self: float("inf"))


def _ceiling_of_a_revert_for_everyone() -> AbstractContextManager[Any]:
    original = drain.order

    def order(state: State, clock: Any, instance: Instance, deploy: str, who: str, how: DrainOrder) -> None:
        original(state, clock, instance, deploy, who, replace(how, ceiling=30.0))

    return mock.patch.object(drain, "order", order)


def _drain_only_in_memory() -> AbstractContextManager[Any]:
    """The promise is written down only after the drain has begun."""
    original = Core.replace

    def replaces(self: Core, deploy: str, who: str, new: Any, how: DrainOrder, confirmed: bool = False) -> None:
        for instance in self.instances.values():
            drain.order(self._state, self._clock, instance, deploy, who, how)
            self.drains[instance.id] = Drain(instance, self._state, self._clock)
            self.drains[instance.id].advance()
        original(self, deploy, who, new, how, confirmed)

    return mock.patch.object(Core, "replace", replaces)


def _never_handed_over() -> AbstractContextManager[Any]:
    return mock.patch.object(runner, "handed_over", lambda deploy: False)


def _current_not_flipped_back() -> AbstractContextManager[Any]:
    return mock.patch.object(revert, "flip_back", lambda deploy: None)


def _confirm_forgotten_by_a_resume() -> AbstractContextManager[Any]:
    original = runner.Runner._run

    def run(self: runner.Runner) -> Any:
        if self._resumed:
            self._how = {**self._how, "confirm": lambda deploy: None}
        return original(self)

    return mock.patch.object(runner.Runner, "_run", run)


def _desired_after_the_start() -> AbstractContextManager[Any]:
    """`replace` remembers what it wants, and writes it down when it has come to be."""
    set_meta, begin = State.set_meta, Core._start

    def later(self: State, key: str, value: str | None) -> None:
        if key != "desired" or value is None:
            set_meta(self, key, value)

    def start(self: Core, row: Any) -> None:
        begin(self, row)
        set_meta(self._state, "desired", row["id"])

    def desired(self: Core) -> Any:
        rows = self._state.rows("SELECT * FROM instances WHERE state='promised' ORDER BY rowid DESC LIMIT 1")
        wanted = self._state.meta("desired")
        return rows[0] if rows else self._state.row("SELECT * FROM instances WHERE id=?", wanted)

    stack = ExitStack()
    stack.enter_context(mock.patch.object(State, "set_meta", later))
    stack.enter_context(mock.patch.object(Core, "_start", start))
    stack.enter_context(mock.patch.object(Core, "desired", desired))
    return stack


def _started_before_the_old_one_has_gone() -> AbstractContextManager[Any]:
    def start_desired(self: Core) -> None:
        desired = self.desired()
        if desired is not None and desired["state"] == "ended" and desired["confirmed"]:
            self._restarts.schedule(desired)
        elif desired is not None and desired["state"] == "promised" and self._restarts.is_time(desired["id"]):
            self._start(desired)

    return mock.patch.object(Core, "_start_desired", start_desired)


def _second_start() -> AbstractContextManager[Any]:
    """What a dead keeper announced is taken for something that was never executed."""

    def settle(self: Starting, row: Any) -> None:
        self._state.update("instances", row["id"], pid=None, start=None, boot=None)

    return mock.patch.object(Starting, "settle", settle)


def _wrapper_counts_as_gone() -> AbstractContextManager[Any]:
    original = Instance.members

    def members(self: Instance) -> list[Stat]:
        found = original(self)
        return found if any(self.tree.is_main(stat) for stat in found) else []

    return mock.patch.object(Instance, "members", members)


def _asked_twice_starts_two() -> AbstractContextManager[Any]:
    """A repeated `replace` is taken for a new one."""
    original = Core.replace

    def replaces(self: Core, deploy: str, who: str, new: Spec | None, how: DrainOrder, confirmed: bool = False) -> None:
        if new is not None and self._state.row("SELECT 1 FROM instances WHERE id=?", new.id):
            new = replace(new, id=new_instance_id())
        original(self, deploy, who, new, how, confirmed)

    return mock.patch.object(Core, "replace", replaces)


def _killed_by_group() -> AbstractContextManager[Any]:
    """A second signal for good measure, half way to the ceiling."""
    original = Drain.advance

    def advance(self: Drain) -> Any:
        verdict = original(self)
        if verdict is None and self.waited() > 100:
            for handle in self.instance.tree.handles():
                handle.send(signal.SIGTERM)
        return verdict

    return mock.patch.object(Drain, "advance", advance)


def _abort_not_written_down() -> AbstractContextManager[Any]:
    """An abort is known to the runner that was asked, and to nobody after it."""
    original = Journal.note

    def note(self: Journal, step: str, phase: str, **data: Any) -> None:
        if (step, phase) != ("abort", "asked"):
            original(self, step, phase, **data)

    return mock.patch.object(Journal, "note", note)


def _extension_only_in_memory() -> AbstractContextManager[Any]:
    def move(self: Drain, deadline: float) -> bool:
        self.deadline = deadline
        return True

    return mock.patch.object(Drain, "move_deadline", move)


def _ended_before_it_is_asked() -> AbstractContextManager[Any]:
    return mock.patch.object(Drain, "_unasked", lambda self, members: False)


def _retired_before_the_proof() -> AbstractContextManager[Any]:
    return mock.patch.dict(HOW, ready=overlap.retire)


def _asked_before_the_proof() -> AbstractContextManager[Any]:
    """The old one is asked to stop as soon as the new one has been started."""
    original = Core.launch

    def launch(self: Core, deploy: str, new: Spec) -> None:
        original(self, deploy, new)
        for instance in [one for one in self.instances.values() if one.id not in self.drains]:
            how = DrainOrder(ceiling=660.0)
            drain.order(self._state, self._clock, instance, deploy, "me", how)
            self._draining.begin([instance], deploy, "me", how)

    return mock.patch.object(Core, "launch", launch)


def _retire_forgets_the_wish() -> AbstractContextManager[Any]:
    original = Core.retire

    def retire(self: Core, deploy: str, who: str, keep: str, how: DrainOrder) -> None:
        wished = self._state.meta("desired")
        original(self, deploy, who, keep, how)
        self._state.set_meta("desired", wished)

    return mock.patch.object(Core, "retire", retire)


def _dismisses_the_wrong_one() -> AbstractContextManager[Any]:
    original = Core.dismiss

    def dismiss(self: Core, deploy: str, who: str, instance_id: str, how: DrainOrder) -> None:
        others = [one for one in self.instances.values() if one.id not in (instance_id, *self.drains)]
        for other in others:
            drain.order(self._state, self._clock, other, deploy, who, how)
        self._draining.begin(others, deploy, who, how)
        original(self, deploy, who, instance_id, how)

    return mock.patch.object(Core, "dismiss", dismiss)


def _resumed_launches_another() -> AbstractContextManager[Any]:
    """Asked again for what it has on record, the keeper starts one more."""
    original = Core.launch

    def launch(self: Core, deploy: str, new: Spec) -> None:
        if self._state.row("SELECT 1 FROM instances WHERE id=?", new.id):
            new = replace(new, id=new_instance_id())
        original(self, deploy, new)

    return mock.patch.object(Core, "launch", launch)


def _drains_without_a_lock() -> AbstractContextManager[Any]:
    return mock.patch.object(overlap, "sign_in", lambda deploy: None)


def _crash_waits_for_the_drain() -> AbstractContextManager[Any]:
    return mock.patch.object(Core, "_in_the_way", lambda self, spec: bool(self.instances))


def _crash_of_the_new_one_is_told() -> AbstractContextManager[Any]:
    return mock.patch.object(overlap, "CRASH", "nobody")


def _newborn_is_an_orphan() -> AbstractContextManager[Any]:
    """Every unmarked child of the keeper is the old instance's, for as long as it was alone."""

    def share(self: Roster) -> None:
        for instance in self.living.values():
            instance.tree.reaper = self._processes.own_pid()

    return mock.patch.object(Roster, "share_orphans", share)


def _announced_is_forgotten() -> AbstractContextManager[Any]:
    return mock.patch.object(Starting, "settle_announced", lambda self: None)


MUTATIONS = (
    Mutation("signal recorded only after it was sent", 501, "one SIGTERM", _sent_before_it_is_recorded),
    Mutation("signal not recorded at all", 39, "one SIGTERM", _never_recorded),
    Mutation("the next keeper does not read `signals`", 39, "one SIGTERM", _signals_not_read),
    Mutation("a process is its pid: start time ignored", 12, "no stranger", _identity_by_pid_only),
    Mutation("an instance of another boot is taken for one of this", 27, "it runs", _boot_ignored),
    Mutation("SIGKILL when a keeper resumes a drain", 35, "force after the ceiling", _force_at_resume),
    Mutation("the deadline wakes nobody", 3, "it ends", _deadline_forgotten),
    Mutation("the ceiling of a revert for everyone", 3, "force after the ceiling", _ceiling_of_a_revert_for_everyone),
    Mutation("the promise written down after the signal", 2492, "record", _drain_only_in_memory),
    Mutation("a resumed runner takes nothing for handed over", 12, "it runs", _never_handed_over),
    Mutation("revert leaves `current` on the failed release", 11, "it runs", _current_not_flipped_back),
    Mutation("a resumed runner skips `confirm`", 17, "it runs", _confirm_forgotten_by_a_resume),
    Mutation("`desired` set only after the start", 25, "journal", _desired_after_the_start),
    Mutation("new release started before the old one has gone", 3, "it runs", _started_before_the_old_one_has_gone),
    Mutation("what a dead keeper started is started again", 31, "it runs", _second_start),
    Mutation("a tree has gone when its main process has", 4, "it runs", _wrapper_counts_as_gone),
    Mutation("asking twice is asking for two", 1097, "force after the ceiling", _asked_twice_starts_two),
    Mutation("SIGTERM again while it drains", 447, "one SIGTERM", _killed_by_group),
    Mutation("an abort is known only to the runner that was asked", 970, "abort", _abort_not_written_down),
    Mutation("an extension is known only to the keeper that was asked", 1456, "force", _extension_only_in_memory),
    Mutation("a drain ended as it begins kills without asking", 24, "asked first", _ended_before_it_is_asked),
    Mutation("overlap: retired before it was proven", 500002, "somebody listens", _retired_before_the_proof),
    Mutation("overlap: asked to stop at the launch", 500000, "somebody listens", _asked_before_the_proof),
    Mutation("overlap: `retire` forgets the wish", 500000, "it runs", _retire_forgets_the_wish),
    Mutation("overlap: `dismiss` takes the wrong one along", 500001, "somebody listens", _dismisses_the_wrong_one),
    Mutation("overlap: a resumed runner launches a second one", 500087, "it runs", _resumed_launches_another),
    Mutation("overlap: the drain step without its lock", 500000, "one runner", _drains_without_a_lock),
    Mutation("overlap: a crash waits for the drain", 500042, "it runs", _crash_waits_for_the_drain),
    Mutation("overlap: take_back leaves `current` on the failed release", 500162, "it runs", _current_not_flipped_back),
    Mutation(
        "overlap: a crash of the new one is a drain of its deploy", 503339, "overlap", _crash_of_the_new_one_is_told
    ),
    Mutation("overlap: what was just launched is an orphan", 500335, "force after the ceiling", _newborn_is_an_orphan),
    Mutation("overlap: what was announced is forgotten", 503051, "it runs", _announced_is_forgotten),
)
