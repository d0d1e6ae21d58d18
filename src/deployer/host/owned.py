"""Instances whose process somebody else owns (systemd, launchd, commands), as the keeper's mind needs them."""

from __future__ import annotations

from dataclasses import replace as changed
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, cast

from deployer.errors import DeployerError
from deployer.host.clock import Clock
from deployer.host.instance import Instance
from deployer.host.ordered import Ordered, named
from deployer.host.say import say
from deployer.host.state import State
from deployer.host.supervisors.owner import Asker, Owner, Seen
from deployer.model import DrainOrder, Spec, Verdict

LOOK_AGAIN = 0.5
"""Seconds until the next look at what its owner is about to do, if nothing tells us before."""
TOLD_WITHIN, LOOK_OFTEN = 1.0, 0.02
"""Seconds that an owner has to notice an exit that we have seen, and between two looks."""
_AFTER = "after "


class OwnedDrain:
    """
    As `drain.Drain`, for an instance that its owner stops: it has been asked once `asked`, and forces at the ceiling by itself.

    Recorded before anything is asked; a second keeper continues it.
    """

    def __init__(self, instance: Instance, state: State, clock: Clock, by: Owner, run: str) -> None:
        self.instance = instance
        self._state = state
        self._clock = clock
        self._by = by
        self.run = run
        self._ordered = Ordered(instance, state, clock)
        self.deploy, self.deadline = self._ordered.deploy, self._ordered.deadline
        self._forced = self._ordered.forced
        self._seen_at_last: List[Dict[str, Any]] = []
        self.asked = self._was_asked()
        self._look_at = clock.now()

    def _was_asked(self) -> bool:
        # Where we cannot be sure it is asked again: an owner that is at it already takes no notice.
        main = self.instance.main
        row = self._state.row(
            "SELECT sent_at FROM signals WHERE instance=? AND pid=? AND start=?", self.instance.id, main.pid, main.start
        )
        return row is not None and row["sent_at"] is not None

    def ask(self, request: Callable[[], None]) -> None:
        """Let the owner ask the instance to stop, by *request*; written down before and after."""
        main = self.instance.main
        note = partial(self._ordered.note_signal, main.pid, main.start, self._ordered.how.signal)
        self._ordered.written(partial(note, sent=False))
        request()
        self.asked = True
        self._ordered.written(partial(note, sent=True))

    def advance(self) -> Optional[Verdict]:
        """The verdict once its owner says that it has ended, else None."""
        seen = self._by.seen(self.instance.spec, self.run)
        if seen.ended:
            return self._verdict(seen)
        members = self.instance.members()
        self._seen_at_last = [self.instance.tree.describe(stat) for stat in members] or self._seen_at_last
        self._look_at = self._clock.now() + LOOK_AGAIN
        return None

    def next_deadline(self) -> float:
        """When `advance` must be called even if no process has exited (monotonic seconds)."""
        exits_tell = bool(self.instance.tree.handles()) and self._clock.now() < self.deadline
        return max(self.deadline, self._look_at) if exits_tell else self._look_at

    def waited(self) -> float:
        return self._ordered.waited()

    def move_deadline(self, deadline: float) -> bool:
        """Lengthen or shorten the wait; recorded. False when force has been used already, or the owner refuses."""
        if self._forced:
            return False
        now = self._clock.now()
        if deadline <= now:
            self._forced = True
            self._state.update("drains", self.instance.id, deadline_mono=deadline, forced=1)
            self._by.kill(self.instance.spec)
        else:
            # More time counts only once it is on record, less only once its owner knows it.
            self._by.extend(self.instance.spec, self._ordered.how, self.waited() + deadline - now)
            self._state.update("drains", self.instance.id, deadline_mono=deadline)
        self.deadline = deadline
        return True

    def take_over(self, deploy: str, who: str, how: DrainOrder) -> None:
        """What a crash left behind is its owner's to end."""

    def _verdict(self, seen: Seen) -> Verdict:
        forced = self._forced or seen.forced
        killed = self._seen_at_last or [{"pid": self.instance.main.pid, "command": " ".join(self.instance.spec.argv)}]
        name = named(seen.code, self._ordered.how.signal, forced)
        return Verdict(name, seen.code, round(self.waited(), 3), killed if forced else [], [])


class Owned:
    """The owners of this app's instances, and which run of them each instance is."""

    def __init__(self, state: State, owner_of: Callable[[Mapping[str, Any]], Owner]) -> None:
        self._state = state
        self._owner_of = owner_of
        self._known: Dict[str, Owner] = {}

    def by(self, spec: Spec) -> Owner:
        """Who owns the process of *spec*, which has an owner."""
        assert spec.owner is not None
        name = f"{spec.owner['kind']} {spec.owner.get('scope')}"
        if name not in self._known:
            self._known[name] = self._owner_of(spec.owner)
        return self._known[name]

    def run_of(self, instance: str) -> str:
        """Which run of its owner's *instance* is; empty while it has not been seen to run."""
        found = self._state.meta(f"run-{instance}") or ""
        return "" if found.startswith(_AFTER) else found

    def note_run(self, instance: str, run: str) -> None:
        self._state.set_meta(f"run-{instance}", run)

    def begun_after(self, instance: str) -> Optional[str]:
        """The run that was there when a start of *instance* was asked for; None when it has not been."""
        found = self._state.meta(f"run-{instance}")
        return found[len(_AFTER) :] if found is not None and found.startswith(_AFTER) else None

    def begin(self, new: Spec, start: Callable[[], Any]) -> None:
        """Ask for *new* by *start*; on record before, so that it is asked for once, and known from the run before."""
        if self.begun_after(new.id) is None:
            self._state.set_meta(f"run-{new.id}", _AFTER + self.by(new).seen(new).run)
        start()

    def forget_run(self, instance: str) -> None:
        self._state.set_meta(f"run-{instance}", None)

    def cleared(self, spec: Spec, verdict: Verdict, clock: Clock) -> Verdict:
        """*verdict* on *spec*, whose processes have gone, with what its owner knows of their end; the owner then forgets it."""
        by = self.by(spec)
        if by.stops:
            return verdict
        try:
            code = self._code(spec, clock)
            by.stop(spec)
        except DeployerError as error:  # it has ended, whatever is said about it
            say(f"{error}: {error.cause}")
            return verdict
        row = self._state.row("SELECT signal FROM drains WHERE instance=?", spec.id)
        if verdict.verdict != "clean" or row is None:
            return changed(verdict, exit_code=code)
        return changed(verdict, verdict=named(code, row["signal"], forced=False), exit_code=code)

    def _code(self, spec: Spec, clock: Clock) -> Optional[int]:
        deadline = clock.now() + TOLD_WITHIN
        while True:
            seen = self.by(spec).seen(spec, self.run_of(spec.id) or None)
            if seen.ended or clock.now() >= deadline:
                return seen.code if seen.ended else None
            clock.sleep(LOOK_OFTEN)

    def asks(self, spec: Spec) -> bool:
        """Whether its owner has asked what became of *spec*, and waits for the first answer."""
        by = self.by(spec) if spec.owner is not None else None
        return by is not None and not by.whole and cast(Asker, by).asks(spec)

    def together(self, new: Optional[Spec], olds: Sequence[Instance]) -> bool:
        """Whether one owner can stop *olds* and start *new* in one go."""
        if new is None or new.owner is None or new.beside or not olds:
            return False
        return all(old.spec.owner is not None and self.by(old.spec) is self.by(new) for old in olds)
