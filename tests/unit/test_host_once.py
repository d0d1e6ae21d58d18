"""A user's command is run once, whoever of us dies; a question is asked without waiting for its answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import wait_until
from deployer.host.process import Processes
from deployer.host.supervisors import once
from deployer.host.supervisors.once import ENDED, NEVER, UNDER_WAY, Once, Question

NOTE = 'echo called >> "$0"; '


@pytest.fixture
def output() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_WRONLY)
    yield fd
    os.close(fd)


def begun(place: Path) -> Once:
    """As another keeper sees it, who has begun nothing yet."""
    return Once(place, Processes())


def begin(made: Once, calls: Path, script: str, output: int) -> None:
    made.begin(["sh", "-c", NOTE + script, str(calls)], str(calls.parent), dict(os.environ), output)


def test_command_is_run_once_and_its_end_is_known_to_who_comes_later(tmp_path: Path, output: int) -> None:
    place, calls = tmp_path / "i1" / "stop", tmp_path / "calls"
    first = begun(place)
    assert first.state() == NEVER
    begin(first, calls, f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exit 4", output)
    assert first.state() == UNDER_WAY
    wait_until(calls.exists, what="it runs")
    second = begun(place)
    begin(second, calls, "exit 0", output)
    assert second.state() == UNDER_WAY
    (tmp_path / "go").touch()
    for each in (first, second, begun(place)):
        wait_until(lambda each=each: each.state() == ENDED, what="it has ended")
        assert each.code == 4
        begin(each, calls, "exit 0", output)
    assert calls.read_text() == "called\n"


def test_two_who_begin_at_the_same_moment_run_it_once(tmp_path: Path, output: int) -> None:
    place, calls = tmp_path / "i1" / "stop", tmp_path / "calls"
    both = [begun(place), begun(place)]
    for each in both:
        each.state = lambda: NEVER  # type: ignore[method-assign]
        begin(each, calls, "exit 0", output)
    wait_until(lambda: begun(place).code == 0, what="it has ended")
    wait_until(lambda: not any(Processes().alive(each._begun) for each in both if each._begun), what="both have ended")
    assert calls.read_text() == "called\n"


def test_command_that_is_ended_has_ended_without_a_code(tmp_path: Path, output: int) -> None:
    place, calls = tmp_path / "i1" / "start", tmp_path / "calls"
    begin(begun(place), calls, "sleep 100", output)
    wait_until(lambda: calls.exists() and (place / "pid").exists(), what="it runs")
    later = begun(place)
    assert later.state() == UNDER_WAY
    later.end()
    wait_until(lambda: later.state() == ENDED, what="it has ended")
    assert later.code is None


def test_command_is_run_where_the_disk_refuses_its_record(tmp_path: Path, output: int) -> None:
    (tmp_path / "i1").touch()  # no directory can be made below a file
    made, calls = begun(tmp_path / "i1" / "stop"), tmp_path / "calls"
    begin(made, calls, "exit 0", output)
    wait_until(lambda: made.state() == ENDED, what="it has ended")
    assert calls.read_text() == "called\n"


def test_question_is_answered_with_code_and_text(tmp_path: Path) -> None:
    asked = Question(["sh", "-c", "echo 4711; exit 3"], str(tmp_path), dict(os.environ), tmp_path / "q" / "pid.txt")
    assert wait_until(asked.answered, what="the answer") == (3, "4711")
    assert asked.answered() == (3, "4711")


def test_question_that_takes_too_long_is_answered_with_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "ANSWERS_WITHIN", 0.3)
    hang = [sys.executable, "-S", "-c", f"open({str(tmp_path / 'up')!r}, 'w'); import time; time.sleep(100)"]
    asked = Question(hang, str(tmp_path), dict(os.environ), tmp_path / "pid.txt")
    code, _ = wait_until(asked.answered, what="the answer")
    assert code == -1
