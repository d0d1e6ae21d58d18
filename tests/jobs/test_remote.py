"""RemoteEnvironment: what ends there as it would end here, with nothing left on the host; also over SSH, and without us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import SOURCE, alive, clean_environment, pids, read, wait_until
from batch import STAYS
from deployer.errors import UsageError
from deployer.jobs import RemoteEnvironment, Report
from deployer.jobs.remote import _Heard
from sshd import make_bed

FINE = {"initialized": True, "cleanup_called": True, "cleanup_completed": True, "running": False, "error": None}


class Job:
    """One program that submits, and what is seen of its job from outside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = root / "host"
        self.env = clean_environment()
        self.begun: list[subprocess.Popen[str]] = []

    def start(self, **asked: Any) -> subprocess.Popen[str]:
        words = json.dumps({"path": str(self.host), "here": str(self.root), **asked})
        argv = [sys.executable, str(Path(__file__).with_name("remote_program.py")), words]
        more: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.begun.append(
            subprocess.Popen(argv, env={**self.env, "PYTHONPATH": str(SOURCE)}, start_new_session=True, **more)
        )
        return self.begun[-1]

    def run(self, **asked: Any) -> list[dict[str, Any]]:
        """What it printed: a report for each submit or stop."""
        return self.ended(self.start(**asked))

    def ended(self, program: subprocess.Popen[str]) -> list[dict[str, Any]]:
        out, err = program.communicate(timeout=60)
        assert program.returncode == 0, err
        assert "sesame-open" not in out + err and self.gone()
        return [json.loads(line) for line in out.splitlines()]

    def told(self, *names: str) -> list[list[str]]:
        path = self.root / "told"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line[0] in names]

    def left(self) -> list[str]:
        mark = os.fsencode(self.host)
        found = [pid for pid in pids() if alive(pid) and b"DEPLOYER_INSTANCE=" in read(f"/proc/{pid}/environ")]
        processes = [read(f"/proc/{pid}/cmdline").decode() for pid in found if mark in read(f"/proc/{pid}/environ")]
        return processes + [path.name for path in (self.host / ".deployer" / "run").iterdir() if path.name not in STAYS]

    def gone(self) -> bool:
        wait_until(lambda: not self.left(), 20, "nothing is left")
        return True

    def close(self) -> None:
        for program in self.begun:
            program.kill()
            program.communicate()
        for _ in range(10):
            mark = os.fsencode(self.root)
            mine = [pid for pid in pids() if mark in read(f"/proc/{pid}/environ") + read(f"/proc/{pid}/cmdline")]
            for pid in mine:
                os.kill(pid, signal.SIGKILL)
            if not mine:
                return


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    made = Job(tmp_path)
    try:
        yield made
    finally:
        made.close()


def facts(report: dict[str, Any], service: str) -> dict[str, Any]:
    return {name: report["services"][service][name] for name in FINE}


def test_job_that_is_done(job: Job) -> None:
    (report,) = job.run()
    assert report["ok"] and report["raised"] is None and (report["items_in"], report["items_out"]) == (10, 5)
    assert facts(report, "cache") == facts(report, "queue") == FINE
    assert [words[1] for words in job.told("stored")] == ["0", "4", "8", "12", "16"]
    ends = [words[:2] for words in job.told("queue", "cache")]
    assert ends[2:] == [["cache", "stop"], ["cache", "cleanup"], ["queue", "stop"], ["queue", "cleanup"]]


def test_job_that_raises(job: Job) -> None:
    (report,) = job.run(map="fails")
    assert not report["ok"] and "ValueError: page" in report["raised"]
    assert facts(report, "cache") == facts(report, "queue") == FINE


def test_what_a_service_raises_arrives_at_its_caller(job: Job) -> None:
    (report,) = job.run(map="asks_for_too_much")
    assert "KeyError: 'no such page'" in report["raised"] and facts(report, "cache") == FINE


@pytest.mark.parametrize(
    "cache, error", [("Raises", "cleanup() raised OSError: no way"), ("Hangs", "cleanup() did not end within 0.5 s")]
)
def test_cleanup_that_fails_keeps_no_other_from_its_own(job: Job, cache: str, error: str) -> None:
    (report,) = job.run(cache=cache)
    assert report["ok"] and facts(report, "queue") == FINE
    found = facts(report, "cache")
    assert error in found.pop("error") and found == {**{name: FINE[name] for name in found}, "cleanup_completed": False}


def test_worker_that_is_killed(job: Job) -> None:
    (report,) = job.run(map="dies")
    assert "signal 9" in report["raised"] and facts(report, "cache") == facts(report, "queue") == FINE


def test_ctrl_c(job: Job) -> None:
    program = job.start(map="waits")
    wait_until(lambda: job.told("waits") or program.poll() is not None, what="the job works")
    os.kill(program.pid, signal.SIGINT)
    (report,) = job.ended(program)
    assert report["raised"] == "KeyboardInterrupt" and facts(report, "cache") == facts(report, "queue") == FINE


def test_client_that_is_killed_is_not_needed(job: Job) -> None:
    program = job.start(map="waits")
    wait_until(lambda: job.told("waits") or program.poll() is not None, what="the job works")
    program.kill()
    program.communicate()
    (job.root / "go").touch()
    assert job.gone() and [words[1] for words in job.told("stored")] == ["0", "4", "8"]
    assert [words[1] for words in job.told("cache")][1:] == ["stop", "cleanup"]


def test_without_autostop(job: Job) -> None:
    first, second = job.run(autostop=False)
    assert first["services"]["cache"]["running"] and first["services"]["cache"]["kept"]
    assert facts(second, "cache") == facts(second, "queue") == FINE


def test_over_ssh(job: Job) -> None:
    with make_bed() as bed:
        host = bed.host()
        job.host, job.root = host.home / "batch", host.home
        job.env = {**job.env, **bed.env()}
        (report,) = job.run(host=host.written, path="~/batch")
        assert report["ok"] and facts(report, "cache") == FINE
        assert [words[1] for words in job.told("stored")] == ["0", "4", "8", "12", "16"]


@pytest.mark.full
def test_the_table_of_endings_over_ssh(job: Job) -> None:
    with make_bed() as bed:
        host = bed.host()
        job.host, job.root = host.home / "batch", host.home
        job.env = {**job.env, **bed.env()}
        there: dict[str, Any] = {"host": host.written, "path": "~/batch"}
        (raised,) = job.run(**there, map="fails")
        assert "ValueError: page" in raised["raised"] and facts(raised, "cache") == facts(raised, "queue") == FINE
        (stuck,) = job.run(**there, cache="Raises")
        assert stuck["ok"] and facts(stuck, "queue") == FINE and not facts(stuck, "cache")["cleanup_completed"]
        (hung,) = job.run(**there, cache="Hangs")
        assert hung["ok"] and facts(hung, "queue") == FINE and "did not end" in facts(hung, "cache")["error"]
        (killed,) = job.run(**there, map="dies")
        assert "signal 9" in killed["raised"] and facts(killed, "cache") == facts(killed, "queue") == FINE
        program = job.start(**there, map="waits")
        wait_until(lambda: job.told("waits") or program.poll() is not None, what="the job works")
        os.kill(program.pid, signal.SIGINT)
        (stopped,) = job.ended(program)
        assert stopped["raised"] == "KeyboardInterrupt" and facts(stopped, "cache") == FINE
        first, second = job.run(**there, autostop=False)
        assert first["services"]["cache"]["running"] and facts(second, "cache") == facts(second, "queue") == FINE


def test_what_cannot_travel_is_refused_here() -> None:
    env = RemoteEnvironment("my_job", "deploy@web1")
    with pytest.raises(UsageError, match="has no name there"):
        env.from_batch([1]).map(lambda item: item)
    with pytest.raises(UsageError, match="as JSON"):
        env.register_service("cache", Job, args=[object()])
    with pytest.raises(UsageError, match="registered already"):
        env.register_service("cache", Job)
        env.register_service("cache", Job)
    env.from_batch(["x" * 200_000])
    with pytest.raises(UsageError, match="too large"):
        env.submit()


def test_text_of_any_kind_travels() -> None:
    env = RemoteEnvironment("my_job", env={"WORD": 'grün 😀 \x7f " \\ \n'}, path="/nowhere")
    assert env._config().settings()["run"]["env"] == {"WORD": 'grün 😀 \x7f " \\ \n'}


@pytest.mark.parametrize(
    "value, why", [(None, "None cannot be sent"), ("\udc80", "cannot be sent"), (3, "not a string")]
)
def test_odd_variable_is_named_as_the_caller_knows_it(value: Any, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        RemoteEnvironment("my_job", env={"WORD": value}, path="/nowhere")._config()
    assert (
        why in f"{refused.value} {refused.value.cause}"
        and "deployer-job-" not in f"{refused.value} {refused.value.cause}"
    )


def test_odd_source_and_function_are_usage_errors() -> None:
    env = RemoteEnvironment("my_job", path="/nowhere")
    with pytest.raises(UsageError, match="nothing can be taken"):
        env.from_batch(5)

    def lost() -> None: ...

    lost.__module__, lost.__qualname__ = "no_such_module", "lost"
    with pytest.raises(UsageError, match="no_such_module:lost"):
        env.from_batch([1]).map(lost)
    with pytest.raises(UsageError, match="secret TOKEN is a text, not int"):
        RemoteEnvironment("my_job", secrets={"TOKEN": 5})  # type: ignore[dict-item]


def test_hook_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def hook(event: dict[str, Any]) -> None:
        raise OSError("no space for my notes")

    heard = _Heard(Report("my_job"), hook)
    for event in ("run.started", "run.finished"):
        heard({"event": event})
    assert caplog.text.count("on_event raised at run.started") == 1 and "run.finished" not in caplog.text
