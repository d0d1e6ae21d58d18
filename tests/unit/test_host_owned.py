"""The keeper's mind where somebody else owns the process, and that one does not do as it is asked: nobody is pestered for ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from host_fakes import KEEPER, FakeClock, FakeTable

from deployer.host.ordered import named
from deployer.host.paths import HostPaths
from deployer.host.restarting import BACKOFF_FIRST, BACKOFF_LONGEST
from deployer.host.state import State
from deployer.host.supervise import Core
from deployer.host.supervisors import choose
from deployer.host.supervisors.owner import ENDED, RUNNING, STARTING, Seen
from deployer.model import DrainOrder, Spec

HOUR = 3600.0


class Refusing:
    """An owner whose unit has run before, as pid 100; asked to start it, it says `now`, and nothing else happens."""

    stops = whole = True

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.now = Seen(ENDED, "run-1", pid=100)
        self.asked_at: list[float] = []

    def start(self, new: Spec) -> None:
        self.asked_at.append(self._clock.now())

    def placed(self, spec: Spec, others: Sequence[Spec]) -> Spec:
        return spec

    def seen(self, spec: Spec, run: str | None = None) -> Seen:
        return Seen(ENDED, run, pid=100) if run and run != self.now.run else self.now

    def prepare(self, new: Spec, env: Mapping[str, str], olds: Sequence[Spec], how: DrainOrder, proven: bool) -> None:
        """It writes nothing down."""

    def stop(self, spec: Spec) -> None:
        """Nothing runs."""

    def confirm(self, spec: Spec | None, others: Sequence[Spec]) -> None:
        """It starts nothing by itself."""


class Mind:
    """A keeper's mind with such an owner, in a time that only moves to what is due next."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = HostPaths(root)
        paths.prepare_private()
        self.clock, self.table, self.said = FakeClock(), FakeTable(), list[str]()
        self.owner = Refusing(self.clock)
        monkeypatch.setattr(choose, "owner_of", lambda paths, owner: self.owner)
        self.table.add(KEEPER, 1)
        self.state = State(paths.state)
        self.core = Core(paths, self.state, self.table, self.clock, {}, self.said.append)
        self.root = root

    def spec(self, name: str) -> Spec:
        return Spec(name, f"r-{name}", "app", ("true",), str(self.root), owner={"kind": "refusing"})

    def turn(self) -> float | None:
        """Take a turn; when the next one is due."""
        self.core.advance()
        return self.core.next_deadline()

    def for_an_hour(self) -> int:
        """The turns that are taken in an hour in which nothing happens by itself."""
        end, turns = self.clock.seconds + HOUR, 0
        due = self.turn()
        while due is not None and due < end:
            assert due > self.clock.seconds or turns < HOUR, f"it does not wait: {due - self.clock.seconds} s"
            self.clock.seconds, turns = max(due, self.clock.seconds), turns + 1
            due = self.turn()
        self.clock.seconds = end
        return turns


@pytest.fixture
def mind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mind]:
    yield Mind(tmp_path, monkeypatch)


@pytest.fixture(params=["replaced", "launched"])
def refused(request: pytest.FixtureRequest, mind: Mind) -> Mind:
    if request.param == "launched":
        mind.core.launch("d1", mind.spec("new"))
    else:
        mind.core.replace("d1", "me", mind.spec("new"), DrainOrder(), confirmed=True)
    return mind


def test_start_that_makes_no_new_run_is_asked_for_ever_less_often(refused: Mind) -> None:
    turns = refused.for_an_hour()
    asked = refused.owner.asked_at
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses[-1] == BACKOFF_LONGEST and pauses == sorted(pauses), pauses
    assert HOUR / BACKOFF_LONGEST < len(asked) < HOUR / BACKOFF_LONGEST + 10 and turns < 2 * len(asked)


def test_turns_in_between_ask_for_nothing_more(refused: Mind) -> None:
    for _ in range(5):
        due = refused.turn()
    asked = len(refused.owner.asked_at)
    assert due is not None and due > refused.clock.seconds and asked == 1


def test_start_that_makes_a_run_after_all_is_taken_over(refused: Mind) -> None:
    refused.for_an_hour()
    refused.table.add(200, 1)
    refused.owner.now = Seen(RUNNING, "run-2", pid=200)
    refused.clock.seconds += BACKOFF_LONGEST
    refused.turn()
    assert [one.main.pid for one in refused.core.instances.values()] == [200]
    assert refused.core.status()["restart_in_s"] is None


def test_person_is_told_when_it_is_asked_for_again(mind: Mind) -> None:
    mind.core.replace("d1", "me", mind.spec("new"), DrainOrder(), confirmed=True)
    mind.for_an_hour()
    left: Any = mind.core.status()["restart_in_s"]
    assert 0 <= left <= BACKOFF_LONGEST and any("asked again in 60" in line for line in mind.said)


def test_start_that_is_asked_for_anew_begins_anew(mind: Mind) -> None:
    mind.core.replace("d1", "me", mind.spec("new"), DrainOrder(), confirmed=True)
    mind.for_an_hour()
    mind.core.replace("d2", "me", mind.spec("newer"), DrainOrder(), confirmed=True)
    mind.turn()
    assert mind.core.status()["restart_in_s"] == BACKOFF_FIRST


def test_start_that_is_no_longer_wanted_keeps_nobody_awake(mind: Mind) -> None:
    mind.owner.now = Seen(STARTING)
    mind.core.replace("d1", "me", mind.spec("new"), DrainOrder(), confirmed=True)
    assert mind.turn() is not None
    mind.core.replace("d2", "me", None, DrainOrder())
    mind.clock.seconds += HOUR
    assert mind.turn() is None, "a look at what nobody wants any more is due for ever"


def test_launched_one_that_is_dismissed_keeps_nobody_awake(mind: Mind) -> None:
    mind.core.launch("d1", mind.spec("new"))
    for _ in range(5):
        mind.clock.seconds += HOUR
        mind.turn()
    mind.core.dismiss("d1", "me", "new", DrainOrder())
    mind.clock.seconds += HOUR
    assert mind.turn() is None and mind.core.status()["restart_in_s"] is None


@pytest.mark.parametrize(
    ("code", "forced", "verdict"),
    [
        (0, False, "clean"),
        (None, False, "clean"),
        (-15, False, "clean"),
        (3, False, "exited"),
        (-9, False, "exited"),
        (-2, False, "exited"),
        (0, True, "killed"),
    ],
)
def test_verdict_has_one_name_whoever_stopped_it(code: int | None, forced: bool, verdict: str) -> None:
    assert named(code, "SIGTERM", forced) == verdict
