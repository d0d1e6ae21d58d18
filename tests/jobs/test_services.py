"""Services in this process: policies, references, what they leave behind; the report and the hook."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

import pytest

from app import free_port
from deployer.errors import LinkError, UsageError
from deployer.jobs import JobError, LocalEnvironment
from deployer.jobs.threads import Threads


class Recorder:
    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def stop(self) -> None:
        self.calls.append("stop")

    async def cleanup(self) -> None:
        self.calls.append("cleanup")


class Leaks:
    """Begins a thread and a process, and forgets them."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.thread = threading.Thread(target=self.go.wait, name="forgotten", daemon=True)
        self.thread.start()
        self.child = subprocess.Popen(["sleep", "3600"])

    def cleanup(self) -> None:
        pass


def boom(_item: int) -> None:
    raise ValueError("boom")


@pytest.mark.parametrize(
    ("policy", "fails", "kept"),
    [("always", True, False), ("on_success", False, False), ("on_success", True, True), ("never", False, True)],
)
def test_a_policy_keeps_a_service_for_a_look_and_says_so(policy: str, fails: bool, kept: bool) -> None:
    calls: list[str] = []
    env = LocalEnvironment("policy")
    env.register_service("cache", Recorder, (calls,), cleanup=policy)
    env.from_batch([1]).map(boom if fails else str)
    try:
        report = env.submit()
    except JobError as failed:
        report = failed.report
    cache = report.services["cache"]
    assert (cache.kept, cache.running, cache.cleanup_called) == (kept, kept, not kept)
    assert calls == ([] if kept else ["stop", "cleanup"]) and ("kept" in str(report)) == kept
    assert env.stop() is report and report.services["cache"].cleanup_completed
    assert calls == ["stop", "cleanup"], "stop() ends what was kept"


def test_what_a_service_began_and_left_is_found_and_said() -> None:
    env = LocalEnvironment("leaks")
    env.register_service("leaky", Leaks, cleanup_timeout="200ms")
    env.from_batch([1])
    env.submit(autostop=False)
    leaky = env.service("leaky")
    go, child = leaky.go, leaky.child
    report = env.stop()
    go.set()
    child.kill()
    child.wait()
    assert report is not None and not report.clean and report.services["leaky"].running
    assert f"thread forgotten, process {child.pid}" in str(report.services["leaky"].error)


def test_a_service_is_there_while_the_job_runs_and_only_then() -> None:
    env, got = LocalEnvironment("reference"), []
    env.register_service("words", dict, (), {"a": "b"})
    words = env.service("words")
    with pytest.raises(UsageError, match='service "words" does not run'):
        words.get("a")
    env.from_batch(["a"]).map(lambda key: words.get(key)).sink(got.append)
    assert env.submit().ok and got == ["b"]
    with pytest.raises(UsageError, match='service "words" does not run'):
        words.get("a")


def test_a_service_of_this_process_does_not_travel_to_another_one() -> None:
    env = LocalEnvironment("reference")
    env.register_service("words", dict)
    env.from_batch(["a"]).map(_Asks(env.service("words")), executor="processes")
    with pytest.raises(UsageError, match="runs in processes cannot call a service"):
        env.submit()
    assert env.report is not None and env.report.services["words"].running is False


class _Asks:
    def __init__(self, service: Any) -> None:
        self.service = service

    def __call__(self, key: str) -> Any:
        return self.service.get(key)


def test_autostop_off_leaves_nothing_of_a_job_that_could_not_begin() -> None:
    calls: list[str] = []
    env = LocalEnvironment("half")
    env.register_service("cache", Recorder, (calls,))
    env.register_service("broken", Recorder)
    with pytest.raises(JobError, match='service "broken" could not be built: TypeError'):
        env.submit(autostop=False)
    assert calls == ["stop", "cleanup"]


def test_leaving_the_environment_ends_what_runs() -> None:
    calls: list[str] = []
    with LocalEnvironment("context") as env:
        env.register_service("cache", Recorder, (calls,))
        env.submit(autostop=False)
        assert calls == []
    assert calls == ["stop", "cleanup"]


def test_a_hook_hears_what_happens_and_one_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[dict[str, Any]] = []

    def hook(event: dict[str, Any]) -> None:
        heard.append(json.loads(json.dumps(event)))
        raise RuntimeError("no monitoring today")

    env = LocalEnvironment("hook", on_event=hook)
    env.register_service("cache", Recorder, ([],))
    env.from_batch(range(1000)).map(str)
    report = env.submit()
    names = [event["event"] for event in heard]
    assert names == ["service.started", "job.started", "job.progress", "service.stopped", "job.finished"]
    assert heard[-1]["report"] == report.to_json() and heard[0]["ready_s"] >= 0
    assert report.ok and [record.message for record in caplog.records] == [
        "on_event raised at service.started; the job goes on"
    ]


def test_work_that_cannot_be_ended_keeps_no_service_from_its_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the cluster has gone: whoever is asked raises."""

    def gone(*_: Any) -> None:
        raise OSError("nobody answers")

    monkeypatch.setattr(Threads, "stop", gone)
    calls: list[str] = []
    env = LocalEnvironment("trial")
    env.register_service("first", Recorder, (calls,))
    env.from_batch(range(3)).map(str)
    report = env.submit()
    assert calls == ["stop", "cleanup"]
    assert report.ok and not report.clean and report.left == ["what threads do: OSError: nobody answers"]


def test_one_submit_at_a_time() -> None:
    env = LocalEnvironment("twice")
    env.from_batch([1]).sink(lambda _: env.stop())
    with pytest.raises(JobError, match="is being submitted or stopped already"):
        env.submit()
    assert env.submit().ok, "and the environment is free again"


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    env = LocalEnvironment("nobody", ray=f"127.0.0.1:{free_port()}")
    env.from_batch([1]).map(str)
    with pytest.raises(LinkError, match="no Ray cluster answers at") as caught:
        env.submit()
    assert "refused" in str(caught.value.cause)
