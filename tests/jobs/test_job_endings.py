"""However a job ends, its services are stopped and cleaned up, and nothing of it is left. On Ray: test_jobs_on_ray.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import alive, clean_environment, pids, read, wait_until

PROGRAMS = Path(__file__).with_name("programs.py")
Start = Callable[..., "subprocess.Popen[str]"]
FINE = {"initialized": True, "cleanup_called": True, "cleanup_completed": True, "running": False, "error": None}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A program of programs.py, begun; its processes know *tmp_path* by their arguments."""
    begun = []

    def start(name: str, *more: str) -> subprocess.Popen[str]:
        argv = [sys.executable, str(PROGRAMS), name, str(tmp_path), *more]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        begun.append(subprocess.Popen(argv, env=clean_environment(), text=True, start_new_session=True, **pipes))  # type: ignore[call-overload]
        return begun[-1]

    yield start
    for process in begun:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def reports(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What it printed, when it has ended by itself and well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def of_session(leader: int) -> list[str]:
    """Every living process of the session that *leader* began, also when it has gone."""
    found = []
    for pid in pids():
        raw = read(f"/proc/{pid}/stat")
        if raw and int(raw[raw.rindex(b")") + 2 :].split()[3]) == leader and alive(pid):
            found.append(read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode())
    return found


def nothing_is_left(process: subprocess.Popen[str], within: float = 40) -> bool:
    wait_until(lambda: not of_session(process.pid), within, "every process of the job has gone")
    return True


def picked(service: dict[str, Any]) -> dict[str, Any]:
    return {name: service[name] for name in FINE}


BOTH = ["second stop", "second cleanup", "first stop", "first cleanup"]


def test_a_healthy_job_ends_its_services_in_reverse_order(start: Start, tmp_path: Path) -> None:
    job = start("healthy")
    (report,) = reports(job)
    assert report["ok"] and report["clean"] and report["raised"] is None
    assert (report["items_in"], report["items_out"]) == (20, 20)
    assert [picked(each) for each in report["services"].values()] == [FINE, FINE]
    assert lines(tmp_path / "closed") == BOTH and nothing_is_left(job)


def test_a_job_that_raises_ends_its_services_too_and_says_what_raised(start: Start, tmp_path: Path) -> None:
    job = start("raises")
    (report,) = reports(job)
    assert not report["ok"] and report["clean"]
    assert report["raised"][1] == "ValueError" and "map boom raised ValueError: boom at item 8" in report["raised"][0]
    assert [picked(each) for each in report["services"].values()] == [FINE, FINE]
    assert lines(tmp_path / "closed") == BOTH and nothing_is_left(job)


def test_a_clean_up_that_raises_or_hangs_keeps_none_of_the_others_from_theirs(start: Start, tmp_path: Path) -> None:
    job = start("closes_badly")
    (report,) = reports(job)
    services = report["services"]
    assert report["ok"] and not report["clean"], "the job itself went well"
    assert picked(services["first"]) == picked(services["fourth"]) == FINE
    assert picked(services["second"]) == {**FINE, "cleanup_completed": False, "error": "stop() raised OSError: no way"}
    third = services["third"]
    assert third["cleanup_called"] and not third["cleanup_completed"]
    assert third["running"] and "cleanup() did not end within 1 s" in third["error"], (
        "nobody can end its thread, so it is said"
    )
    assert lines(tmp_path / "closed") == [
        f"{name} {call}" for name in ("fourth", "third", "second", "first") for call in ("stop", "cleanup")
    ]
    assert nothing_is_left(job), "and it does not keep the process from its end"


def test_a_killed_worker_process_fails_the_job_which_is_cleaned_up(start: Start, tmp_path: Path) -> None:
    job = start("worker_killed")
    (report,) = reports(job)
    assert report["raised"] and "died (signal 9)" in report["raised"][0] and report["left"] == []
    assert picked(report["services"]["first"]) == FINE
    assert lines(tmp_path / "closed") == BOTH[2:] and nothing_is_left(job)


def test_a_service_that_cannot_be_built_has_those_before_it_cleaned_up(start: Start, tmp_path: Path) -> None:
    job = start("not_built")
    (report,) = reports(job)
    assert 'service "second" could not be built: RuntimeError: no such model' in report["raised"][0]
    assert picked(report["services"]["first"]) == FINE
    assert not report["services"]["second"]["initialized"] and "third" not in report["services"]
    assert lines(tmp_path / "closed") == BOTH[2:] and nothing_is_left(job)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_the_services_before_the_process(
    start: Start, tmp_path: Path, number: int, code: int
) -> None:
    job = start("waits")
    wait_until(lambda: len(lines(tmp_path / "begun")) == 2, what="two steps wait")
    job.send_signal(number)
    job.communicate(timeout=60)
    assert job.returncode == code
    assert lines(tmp_path / "closed") == BOTH and nothing_is_left(job)


def test_ctrl_c_at_the_terminal_ends_worker_processes_that_would_not_end(start: Start, tmp_path: Path) -> None:
    job = start("waits_in_processes")
    wait_until(lambda: len(lines(tmp_path / "begun")) == 2, what="two workers wait")
    os.killpg(job.pid, signal.SIGINT)  # a terminal tells all of them
    _, err = job.communicate(timeout=60)
    assert job.returncode == -2 and "KeyboardInterrupt" in err and "tether" not in err
    assert lines(tmp_path / "closed") == BOTH[2:] and nothing_is_left(job)


def test_further_ctrl_cs_cut_no_clean_up_short(start: Start, tmp_path: Path) -> None:
    job = start("waits_and_closes_slowly")
    wait_until(lambda: lines(tmp_path / "begun"), what="a step waits")
    job.send_signal(signal.SIGINT)
    wait_until(lambda: "second begins" in lines(tmp_path / "closed"), what="the clean-up is under way")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        job.send_signal(number)
        wait_until(lambda bit=1 << (number - 1): not pending(job.pid) & bit, what="it has heard that")
    (tmp_path / "go").touch()
    job.communicate(timeout=60)
    assert job.returncode == -2
    assert lines(tmp_path / "closed") == ["second stop", "second begins", *BOTH[1:]]


def pending(pid: int) -> int:
    """Signals that the process has not taken yet."""
    fields = dict(line.split(":", 1) for line in read(f"/proc/{pid}/status").decode().splitlines())
    return int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)


def test_a_killed_client_takes_its_worker_processes_along(start: Start, tmp_path: Path) -> None:
    job = start("waits_in_processes")
    wait_until(lambda: len(lines(tmp_path / "begun")) == 2, what="two workers wait")
    files = shared_memory(job.pid)
    assert files, "semaphores of the pool"
    job.kill()
    job.wait()
    assert nothing_is_left(job)
    assert not any(alive(int(pid)) for pid in lines(tmp_path / "begun"))
    assert {path.name for path in tmp_path.iterdir()} == {"begun"} and not any(map(os.path.exists, files))


def shared_memory(pid: int) -> set[str]:
    """The files that the process holds there."""
    mapped = read(f"/proc/{pid}/maps").decode().splitlines()
    return {line.split(maxsplit=5)[5] for line in mapped if "/dev/shm/" in line}


def test_services_that_are_left_running_run_until_stop(start: Start, tmp_path: Path) -> None:
    job = start("left_running")
    left, stopped, again = reports(job)
    assert left["services"]["first"] == {
        **left["services"]["first"], "running": True, "kept": True, "cleanup_called": False, "error": None
    }  # fmt: skip
    assert (tmp_path / "alive").read_text() == "True"
    assert picked(stopped["services"]["first"]) == FINE and again == stopped
    assert lines(tmp_path / "closed") == BOTH[2:], "the second stop() called nothing"


def test_services_that_nobody_stopped_end_with_the_interpreter_which_says_so(start: Start, tmp_path: Path) -> None:
    job = start("forgotten")
    _, err = job.communicate(timeout=60)
    assert job.returncode == 0
    assert lines(tmp_path / "closed") == BOTH and "service second still ran at exit, and is ended" in err
