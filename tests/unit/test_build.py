from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from deployer.build import LONGEST_LINE, run_build
from deployer.errors import GateError


def sh(script: str, directory: Path, timeout: float = 20.0) -> list[str]:
    lines: list[str] = []
    run_build(["sh", "-c", script], directory, timeout, lines.append)
    return lines


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} still runs")


def test_every_line_of_both_streams_arrives_in_order(tmp_path: Path) -> None:
    assert sh("echo one; echo two >&2; echo; printf 'no end'", tmp_path) == ["one", "two", "", "no end"]


def test_it_runs_in_the_directory_and_tells_its_time(tmp_path: Path) -> None:
    seconds = run_build(["sh", "-c", "sleep 0.2; touch made"], tmp_path, 60, print)
    assert (tmp_path / "made").exists()
    assert 0.2 <= seconds < 30


def test_nothing_is_lost_at_the_end_of_a_long_output(tmp_path: Path) -> None:
    assert sh("seq 1 50000", tmp_path) == [str(number) for number in range(1, 50001)]


def test_bytes_that_are_not_utf8_are_replaced(tmp_path: Path) -> None:
    assert sh(r"printf 'a\377b\r\n'", tmp_path) == ["a\ufffdb"]


def test_a_line_without_an_end_is_cut(tmp_path: Path) -> None:
    lines = sh("head -c 100000 /dev/zero | tr '\\0' x", tmp_path)
    assert max(map(len, lines)) <= LONGEST_LINE
    assert sum(map(len, lines)) == 100000


def test_a_failure_has_the_exit_code_and_the_last_20_lines(tmp_path: Path) -> None:
    with pytest.raises(GateError) as caught:
        sh("seq 1 30; exit 3", tmp_path)
    assert caught.value.code == 7
    assert "exit code 3" in caught.value.title
    assert (caught.value.cause or "").splitlines()[-20:] == [str(number) for number in range(11, 31)]
    assert "\n10\n" not in (caught.value.cause or "")


def test_death_by_a_signal_is_named(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="SIGKILL"):
        sh("kill -9 $$", tmp_path)


@pytest.mark.parametrize("command", [["/no/such/command"], ["nul\0byte"], [], ["."]])
def test_a_command_that_cannot_be_started_is_a_gate_error(command: list[str], tmp_path: Path) -> None:
    with pytest.raises(GateError, match="could not be started"):
        run_build(command, tmp_path, 5, print)


def test_a_directory_that_is_not_there_is_a_gate_error(tmp_path: Path) -> None:
    with pytest.raises(GateError):
        run_build(["true"], tmp_path / "nowhere", 5, print)


def test_a_timeout_ends_the_whole_group_also_what_ignores_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.build._end_group.__defaults__", (0.3,))
    script = "trap '' TERM; sleep 60 & echo $! > child; while :; do sleep 60; done"
    with pytest.raises(GateError, match=r"did not finish within 0\.5s") as caught:
        sh(script, tmp_path, timeout=0.5)
    assert caught.value.code == 7
    wait_until_gone(int((tmp_path / "child").read_text()))


def test_a_timeout_also_holds_for_a_command_that_closed_its_output(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="did not finish"):
        sh("exec >&- 2>&-; sleep 60", tmp_path, timeout=0.5)


def test_ctrl_c_ends_the_group(tmp_path: Path) -> None:
    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not (tmp_path / "child").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        sh("sleep 60 & echo $! > c; mv c child; wait", tmp_path)
    wait_until_gone(int((tmp_path / "child").read_text()))


def test_a_daemon_that_keeps_the_pipe_does_not_hold_up_the_build(tmp_path: Path) -> None:
    began = time.monotonic()
    lines = sh("(while sleep 0.01; do echo busy; done) & echo $! > child; echo done", tmp_path)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    assert "done" in lines
    assert time.monotonic() - began < 60


def test_the_build_cannot_ask_the_terminal(tmp_path: Path) -> None:
    assert sh("cat; (: < /dev/tty) 2>/dev/null || echo no tty", tmp_path) == ["no tty"]
