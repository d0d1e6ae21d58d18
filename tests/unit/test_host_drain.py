"""The story of a stop on a clock that stands still: one signal each, force at the ceiling and not before, a verdict."""

from __future__ import annotations

import io
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from host_fakes import FakeClock, FakeTable, service

from deployer.errors import DeployerError
from deployer.host import drain, health
from deployer.host.clock import Clock
from deployer.host.drain import Drain
from deployer.host.health import Answer
from deployer.host.instance import Instance
from deployer.host.notify import LONGEST_EXTENSION, extension
from deployer.host.state import State
from deployer.host.tree import Tree
from deployer.host.watch import UNHEARD_AFTER, Watch
from deployer.model import DrainOrder, Spec, Verdict

TERM, KILL, CONT = signal.SIGTERM, signal.SIGKILL, signal.SIGCONT
SPEC = Spec("one", "r1", "app", ("x",), "/")


@dataclass
class Scene:
    """One instance (main process 100) with a drain of *ceiling* seconds ordered."""

    table: FakeTable
    tree: Tree
    state: State
    clock: FakeClock
    instance: Instance
    drain: Drain

    def resumed(self) -> Drain:
        """The drain as a second keeper finds it."""
        tree = Tree(self.table, self.tree.main, "one")
        return Drain(Instance(SPEC, tree, 0.0, 0, False, None), self.state, self.clock)

    def exits(self, *pids: int) -> None:
        for pid in pids:
            self.table.remove(pid)

    def code(self, code: int | None) -> None:
        self.instance.exit_code = code

    def after(self, seconds: float) -> Verdict | None:
        self.clock.seconds += seconds
        return self.drain.advance()


def scene(path: Path, ceiling: float = 10.0, signal_to: str = "main") -> Scene:
    table, tree = service()
    clock, state = FakeClock(), State(path / "state.db")
    instance = Instance(SPEC, tree, 0.0, 0, False, None)
    state.insert("instances", id="one", state="running")
    drain.order(state, clock, instance, "d", "me", DrainOrder("SIGTERM", signal_to, ceiling))
    return Scene(table, tree, state, clock, instance, Drain(instance, state, clock))


def test_main_process_gets_one_signal_however_often_we_look(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.table.add(101, 100)
    for _ in range(5):
        assert told.after(1) is None
    assert told.table.sent == [(100, TERM)]


def test_a_second_keeper_sends_no_second_signal(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.after(1)
    assert told.resumed().advance() is None
    assert told.table.sent == [(100, TERM)]


def test_a_second_order_changes_nothing(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.after(1)
    drain.order(told.state, told.clock, told.instance, "other", "you", DrainOrder("SIGINT", "tree", 1.0))
    assert told.resumed().deadline == told.drain.deadline
    assert told.resumed().advance() is None and told.table.sent == [(100, TERM)]


def test_whoever_outlives_the_main_process_gets_one_of_its_own(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.table.add(101, 100, sid=100)
    told.table.add(102, 101, sid=100)
    told.after(1)
    told.exits(100)
    told.after(1)
    told.after(1)
    assert told.table.sent == [(100, TERM), (101, TERM), (102, TERM)]
    told.exits(102)
    assert told.after(1) is None
    told.exits(101)
    assert told.after(1) == Verdict("clean", None, 5.0)


def test_clean_up_started_by_a_living_orphan_is_left_to_it_until_it_is_orphaned_itself(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.table.add(101, 100, sid=100)
    told.after(1)
    told.exits(100)
    told.after(1)
    told.table.add(102, 101, sid=100)
    told.after(1)
    assert (102, TERM) not in told.table.sent
    told.exits(101)
    told.after(1)
    assert told.table.sent.count((102, TERM)) == 1


def test_tree_mode_signals_all_at_once_and_nobody_twice(tmp_path: Path) -> None:
    told = scene(tmp_path, signal_to="tree")
    told.table.add(101, 100, sid=100)
    told.after(1)
    told.after(1)
    assert told.table.sent == [(100, TERM), (101, TERM)]


def test_force_comes_at_the_ceiling_and_not_a_moment_before(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.table.add(101, 100, sid=100)
    told.table.add(102, 1, sid=102, environ=b"DEPLOYER_INSTANCE=one\0")
    assert told.drain.next_deadline() == told.clock.now() + 10
    told.after(9.999)
    assert KILL not in [number for _, number in told.table.sent]
    told.after(0.001)
    assert sorted(pid for pid, number in told.table.sent if number == KILL) == [100, 101, 102]


def test_verdict_of_force_names_who_was_killed_and_after_how_long(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.after(0)
    told.after(10)
    told.exits(100)
    told.code(-KILL)
    killed = [{"pid": 100, "command": "program 100"}]
    assert told.after(0.5) == Verdict("killed", -9, 10.5, killed)


def test_one_that_appears_while_others_are_killed_is_killed_too(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.after(0)
    told.after(10)
    told.table.add(101, 100, sid=100)
    told.exits(100)
    assert told.after(0.1) is None
    assert told.table.sent.count((101, KILL)) == 1 and told.table.sent.count((100, KILL)) == 1


def test_nobody_survives_force_because_the_ceiling_was_lifted_too_late(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.after(0)
    told.after(10)
    told.table.add(101, 100, sid=100)
    told.drain.move_deadline(told.clock.now() + 100)
    told.after(0.1)
    assert (101, KILL) in told.table.sent


def test_one_that_cannot_be_killed_is_given_up_and_named(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.after(0)
    told.table.forbidden.add(100)
    assert told.after(10) is None
    assert told.after(drain.STUCK_AFTER - 0.1) is None
    verdict = told.after(0.1)
    assert verdict is not None and verdict.verdict == "killed" and [one["pid"] for one in verdict.stuck] == [100]
    assert told.table.sent == [(100, TERM)]


def test_moved_deadline_is_kept_by_the_next_keeper(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.drain.move_deadline(told.clock.now() + 60)
    assert told.after(30) is None and told.resumed().advance() is None
    assert told.table.sent == [(100, TERM)]


def test_drain_that_is_ended_as_it_begins_asks_first_and_kills_after(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.drain.move_deadline(told.clock.now())
    told.after(0)
    assert told.table.sent == [(100, TERM)]
    told.after(0)
    assert told.table.sent == [(100, TERM), (100, KILL)]


def test_one_that_nobody_can_ask_does_not_hold_up_the_end(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.table.descriptors = 0
    told.after(10)
    assert told.drain.next_deadline() > told.clock.now(), "the keeper would turn round and round"


def test_deadline_cannot_be_moved_once_force_was_used(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.after(0)
    told.after(10)
    assert not told.drain.move_deadline(told.clock.now() + 60)


def test_stopped_process_is_woken_after_the_signal(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.table.lines[100].stat = told.table.lines[100].stat._replace(state="T")
    told.after(1)
    assert told.table.sent == [(100, TERM), (100, CONT)]


def test_a_stranger_with_the_main_process_number_is_not_signalled(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.exits(100)
    told.table.add(100, 1, start=9999, environ=b"HOME=/\0")
    verdict = told.after(20)
    assert verdict is not None and verdict.verdict == "clean" and told.table.sent == []


def test_after_a_reboot_nobody_is_signalled_and_the_drain_is_over(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.table.boot, told.clock.seconds = "the next", 3.0
    verdict = told.resumed().advance()
    assert verdict == Verdict("clean", None, 0.0) and told.table.sent == []


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(0, "clean"), (-15, "clean"), (None, "clean"), (1, "exited"), (143, "exited"), (-9, "exited"), (-11, "exited")],
)
def test_verdict_follows_the_exit_code(tmp_path: Path, code: int | None, verdict: str) -> None:
    told = scene(tmp_path)
    told.after(1)
    told.exits(100)
    told.code(code)
    found = told.after(1)
    assert found is not None and (found.verdict, found.exit_code) == (verdict, code)


# The witness beside it -----------------------------------------------------------------------------------------------


def watch(clock: FakeClock) -> Watch:
    return Watch(None, 1.0, None, clock)


def test_still_ok_long_after_the_signal_means_not_heard() -> None:
    clock = FakeClock()
    found = watch(clock)
    found.answer = Answer("ok", good=True, status=200)
    assert found.heard() is None
    clock.seconds += UNHEARD_AFTER + 0.1
    assert found.heard() is False
    found.answer = Answer("shutting_down", status=503)
    assert found.heard() is True
    found.answer = Answer("timeout")
    assert found.heard() is None


def test_lost_names_the_tasks_or_counts_them_and_no_number_is_too_big() -> None:
    found = watch(FakeClock())
    assert found.lost() == []
    found.last_with_work = health.read(200, b'{"busy": 3}')
    assert len(found.lost()) == 3
    found.last_with_work = health.read(200, b'{"busy": true}')
    assert len(found.lost()) == 1
    found.last_with_work = health.read(200, b'{"busy": 1000000000000}')
    assert len(found.lost()) == health.TASKS_LIMIT
    found.last_with_work = health.read(200, b'{"busy": 2, "tasks": [{"name": "callClaude"}]}')
    assert [task["name"] for task in found.lost()] == ["callClaude"]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1000", 0.001),
        ("10000000", 10.0),
        ("9" * 400, LONGEST_EXTENSION),
        ("", None),
        ("-1", None),
        ("²", None),
        ("1s", None),
    ],
)
def test_extension_is_read_in_microseconds_and_nothing_odd_is_believed(said: str, seconds: float | None) -> None:
    assert extension({"EXTEND_TIMEOUT_USEC": said}) == seconds
    assert extension({}) is None


def test_signal_goes_out_when_the_disk_refuses_to_write_it_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scene(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for write in ("replace", "mark", "execute"):
        monkeypatch.setattr(here.state, write, full)
    assert here.after(0) is None
    assert here.after(1) is None
    assert [signum for _, signum in here.table.sent] == [TERM]


def test_force_comes_at_the_ceiling_on_a_full_disk_too_and_names_whom_it_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scene(tmp_path, ceiling=5)
    assert here.after(0) is None

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(here.state, "update", full)
    monkeypatch.setattr(here.state, "replace", full)
    assert here.after(4.9) is None
    assert [signum for _, signum in here.table.sent] == [TERM]
    here.after(0.2)
    assert [signum for _, signum in here.table.sent] == [TERM, KILL]


def test_second_keeper_still_names_whom_the_first_one_killed(tmp_path: Path) -> None:
    here = scene(tmp_path, ceiling=5)
    here.after(0)
    here.after(6)
    second = here.resumed()
    here.exits(100)
    verdict = second.advance()
    assert verdict is not None and verdict.verdict == "killed"
    assert [one["pid"] for one in verdict.killed] == [100]


def test_signals_go_out_when_even_the_engines_log_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = scene(tmp_path)
    monkeypatch.setattr(State, "replace", refuses)
    monkeypatch.setattr(sys, "stderr", FullLog())
    told.after(0)
    told.after(10)
    monkeypatch.undo()
    assert told.table.sent == [(100, TERM), (100, KILL)]


class FullLog(io.StringIO):
    """The engine's log on the same full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def refuses(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_force_comes_when_the_main_process_cannot_be_asked(tmp_path: Path) -> None:
    told = scene(tmp_path)
    told.table.add(101, 100, sid=100)
    told.tree.refresh()
    told.tree._handles.pop(100).close()
    told.table.descriptors = 0
    told.after(10)
    told.after(0)
    assert (101, KILL) in told.table.sent
    assert told.drain.next_deadline() > told.clock.now()


@pytest.mark.parametrize("refused", [False, True])
def test_signal_that_somebody_else_is_told_to_send_is_on_record_unless_he_refuses(
    tmp_path: Path, refused: bool
) -> None:
    state, seen = State(tmp_path / "state.db"), []
    with suppress(DeployerError), drain.asked_through_another(state, Clock(), "i1", [(7, 70), (8, 80)], "SIGTERM"):
        seen = state.rows("SELECT pid, sent_at FROM signals ORDER BY pid")
        if refused:
            raise DeployerError("systemd says no")
    # On record before he is asked: whoever goes on after our death must not send a second one.
    assert [row["pid"] for row in seen] == [7, 8] and all(row["sent_at"] for row in seen)
    assert len(state.rows("SELECT 1 FROM signals")) == (0 if refused else 2)
