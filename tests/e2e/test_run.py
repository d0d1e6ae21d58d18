"""`deployer run`: a job with its services. However it ends, nothing of it is left: looked for, not assumed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from app import Result, alive, wait_until
from batch import BatchApp, make_batch, printed, services
from read_ahead import whole
from victims import agents, keepers, kill, power_cut, runners, unfinished

SCHEMA = Draft202012Validator(json.loads(files("deployer.cli").joinpath("events.schema.json").read_text("utf-8")))
FINE = {"initialized": True, "cleanup_called": True, "cleanup_completed": True, "running": False, "error": None}


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[BatchApp]:
    with make_batch(tmp_path) as app:
        yield app


def ran(batch: BatchApp, code: int, *args: str) -> Result:
    """`deployer run --json`, of which nothing is left."""
    result = batch.run("run", "--json", *args)
    assert result.code == code, f"{result.out}\n{result.err}\n{batch.engine_log()}"
    assert result.event("run.finished")["exit_code"] == code
    assert batch.gone()
    for event in result.events:
        SCHEMA.validate(event)
    return result


def how(result: Result, service: str) -> dict[str, object]:
    stopped = services(result.events)[service]
    return {name: stopped[name] for name in FINE}


def test_services_then_the_job_then_the_services_in_reverse(batch: BatchApp) -> None:
    batch.batch("lines 3 report")
    result = ran(batch, 0)
    names = [event["event"] for event in result.events if event["event"].split(".")[0] in ("service", "job")]
    assert (
        names
        == ["service.started"] * 2 + ["job.started"] + ["job.output"] * 5 + ["job.finished"] + ["service.stopped"] * 2
    )
    release = result.event("host.finished")["release"]
    assert printed(result.events) == [f"job: works in {release}", "line 0", "line 1", "line 2", "job: done"]
    assert result.event("job.finished")["exit_code"] == 0 and result.event("job.finished")["report"] == {"pages": 3}
    assert list(services(result.events)) == ["queue", "cache"]
    assert how(result, "queue") == how(result, "cache") == FINE
    assert batch.told() == {"cache": ["built", "stop", "cleanup"], "queue": ["built", "stop"]}


def test_what_the_job_prints_is_on_stdout_and_nothing_else(batch: BatchApp) -> None:
    batch.batch("lines 2000")
    result = batch.run("run", check=0)
    assert result.out.splitlines()[1:] == [f"line {number}" for number in range(2000)] + ["job: done"]
    assert "cache" in result.err and "cleanup" in result.err


def test_job_that_fails(batch: BatchApp) -> None:
    batch.batch("fail 3")
    result = ran(batch, 1)
    assert result.event("job.finished")["exit_code"] == 3
    assert how(result, "queue") == how(result, "cache") == FINE
    assert "exited with code 3" in result.event("host.finished")["error"]["title"]


def test_worker_that_is_killed(batch: BatchApp) -> None:
    batch.batch("die")
    result = ran(batch, 1)
    assert result.event("job.finished")["exit_code"] == 128 + signal.SIGKILL
    assert how(result, "queue") == how(result, "cache") == FINE


def test_cleanup_that_raises_keeps_no_other_from_its_own(batch: BatchApp) -> None:
    batch.batch(cache="Raises")
    result = ran(batch, 0)
    assert how(result, "queue") == FINE
    error = "cleanup() raised RuntimeError: the cache is stuck"
    assert how(result, "cache") == {**FINE, "cleanup_completed": False, "error": error}


def test_cleanup_that_hangs_is_left_behind(batch: BatchApp) -> None:
    batch.batch("fail 1", cache="Hangs", queue="stubborn")
    result = ran(batch, 1)
    assert services(result.events)["queue"]["verdict"] == "killed"
    assert "killed" in str(how(result, "queue")["error"]) and how(result, "queue")["cleanup_completed"] is False
    assert how(result, "cache")["cleanup_completed"] is False and "did not end within 0.5 s" in str(
        how(result, "cache")["error"]
    )


def test_service_that_does_not_become_ready_starts_no_job(batch: BatchApp) -> None:
    batch.batch(queue="breaks")
    result = ran(batch, 1)
    assert not batch.began()
    assert how(result, "cache") == FINE
    error = result.event("host.finished")["error"]
    assert "service queue" in error["title"] and "cannot open its file" in error["cause"]


def test_class_that_cannot_be_built(batch: BatchApp) -> None:
    batch.batch(cache="Broken")
    result = ran(batch, 1)
    assert not batch.began() and not batch.told()
    assert "ValueError: no model file" in result.event("host.finished")["error"]["cause"]
    assert how(result, "cache")["initialized"] is False


def test_service_that_dies_ends_the_job(batch: BatchApp) -> None:
    batch.batch("wait", queue="dies")
    result = ran(batch, 1)
    assert "service queue exited with code 9" in result.event("host.finished")["error"]["title"]
    assert result.event("job.finished")["exit_code"] == 143 and how(result, "cache") == FINE


def test_job_that_takes_too_long(batch: BatchApp) -> None:
    batch.batch("stubborn wait", timeout="300ms", stop_within="300ms")
    result = ran(batch, 1)
    assert "timeout of 0.3s" in result.event("host.finished")["error"]["title"]
    assert how(result, "queue") == how(result, "cache") == FINE


def test_what_a_job_leaves_in_the_background_ends_with_it(batch: BatchApp) -> None:
    batch.batch("child")
    result = ran(batch, 0)
    assert result.event("job.finished")["exit_code"] == 0


def test_ctrl_c_stops_the_job_and_cleans_up(batch: BatchApp) -> None:
    batch.batch("wait")
    running = batch.started()
    os.kill(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=40)
    assert running.returncode == 130, f"{out}\n{err}"
    assert (batch.root / "asked").exists() and batch.gone()
    events = batch.events_of(out)
    assert list(services(events)) == ["queue", "cache"] and events[-1]["event"] == "run.finished"
    assert "was stopped" in err


def test_client_that_is_killed_costs_nothing(batch: BatchApp) -> None:
    batch.batch("wait lines 3")
    running = batch.started()
    running.kill()
    running.communicate()
    attached = whole(batch.start("attach", "--json"))
    assert attached.stdout is not None
    first = attached.stdout.readline()  # it follows by now
    batch.go()
    out, _ = attached.communicate(timeout=40)
    assert attached.returncode == 0
    events = batch.events_of(first + out)
    assert printed(events)[1:] == [
        "line 0",
        "line 1",
        "line 2",
        "job: done",
    ]
    assert events[-1]["status"] == "done"
    assert list(services(events)) == ["queue", "cache"] and batch.gone()


@pytest.mark.parametrize("who", ["runner", "keeper", pytest.param("all", marks=pytest.mark.full)])
def test_engine_that_is_killed_does_not_cost_the_job(batch: BatchApp, who: str) -> None:
    batch.batch("wait lines 2")
    running = batch.started()
    killed = {"runner": runners, "keeper": keepers}
    for find in [runners, keepers, agents] if who == "all" else [killed[who]]:
        for pid in find(batch):
            kill(pid)
    batch.go()
    out, err = running.communicate(timeout=60)
    if who == "all":
        wait_until(lambda: batch.run("status", check=0) and not unfinished(batch), what="the run has ended")
    else:
        assert running.returncode == 0, f"{out}\n{err}\n{batch.engine_log()}"
        assert printed(batch.events_of(out))[1:] == [
            "line 0",
            "line 1",
            "job: done",
        ]
    assert batch.gone()
    assert (
        batch.told() == {"cache": ["built", "stop", "cleanup"], "queue": ["built", "stop"]} and len(batch.began()) == 1
    )


@pytest.mark.full
def test_power_cut_is_told_and_cleaned_up(batch: BatchApp) -> None:
    batch.batch("wait")
    running = batch.started()
    power_cut(batch, running.pid, *agents(batch), *runners(batch))
    running.communicate()
    batch.run("status", check=0)
    wait_until(lambda: not unfinished(batch), what="the run has ended")
    (past,) = batch.run("history", "--json", check=0).events[0]["hosts"][0]["deploys"]
    assert past["status"] == "failed" and batch.gone() and len(batch.began()) == 1
    assert batch.run("run", "--json", "--detach", check=0) and batch.go() is None


def test_abort_while_services_start(batch: BatchApp) -> None:
    path = batch.root / "deploy.toml"
    path.write_text(path.read_text().replace('alive_for = "100ms"', 'alive_for = "60s"'))
    running = batch.start("run", "--json")
    wait_until(lambda: "queue" in batch.told(), what="the second service starts")
    batch.run("abort", "--json", check=0)
    out, err = running.communicate(timeout=40)
    assert running.returncode == 1 and "aborted by" in err, f"{out}\n{err}"
    assert list(services(batch.events_of(out))) == ["queue", "cache"] and batch.gone() and not batch.began()


def test_without_autostop_the_services_stay_until_stop(batch: BatchApp) -> None:
    result = batch.run("run", "--json", "--no-autostop", check=0)
    assert not services(result.events) and len(batch.left()) >= 2
    facts = batch.status()
    assert sorted(one["part"] for one in facts["parts"]) == ["cache", "queue"] and facts["instance"] is None
    stopped = batch.run("stop", "--json", check=0)
    assert list(services(stopped.events)) == ["queue", "cache"] and batch.gone()


def test_run_ends_first_what_an_earlier_one_has_left(batch: BatchApp) -> None:
    batch.run("run", "--json", "--no-autostop", check=0)
    result = ran(batch, 0)
    left = [event["service"] for event in result.events if event.get("left_by_an_earlier_run")]
    assert left == ["queue", "cache"]
    assert batch.told() == {"cache": ["built", "stop", "cleanup"] * 2, "queue": ["built", "stop"] * 2}
    assert not [event for event in result.events if event["event"] == "stage.finished"]  # the same release as before


def test_policy_of_a_service(batch: BatchApp) -> None:
    batch.batch("fail 1", more="")
    path = batch.root / "deploy.toml"
    path.write_text(path.read_text().replace("[services.queue]", '[services.queue]\ncleanup = "on_success"'))
    result = batch.run("run", "--json", check=1)
    assert list(services(result.events)) == ["cache"] and result.event("service.kept")["service"] == "queue"
    assert "still running: queue" in result.event("host.finished")["error"]["state"]
    batch.run("stop", check=0)
    assert batch.gone()


def test_one_run_at_a_time(batch: BatchApp) -> None:
    batch.batch("wait")
    assert batch.run("run", "--json", "--detach", check=0).event("run.finished")["status"] == "detached"
    wait_until(batch.began, what="the job works")
    second = batch.run("run", "--json")
    assert second.code == 3 and len(batch.began()) == 1
    waits = batch.start("run", "--json", "--wait-lock", "60s")
    batch.go()
    out, err = waits.communicate(timeout=60)
    assert waits.returncode == 0 and len(batch.began()) == 2, f"{out}\n{err}"
    assert batch.gone()


def test_gate_that_fails_starts_nothing(batch: BatchApp) -> None:
    batch.batch(more='[install]\ncommand = "exit 4"')
    result = ran(batch, 7)
    assert not batch.told() and not list((batch.host / "releases").iterdir())
    assert result.event("host.finished")["error"]["state"] == "nothing was started"


def test_missing_program_is_found_before_anything_is_started(batch: BatchApp) -> None:
    path = batch.root / "deploy.toml"
    path.write_text(path.read_text().replace("[job]\ncommand = [", '[job]\ncommand = ["no-such-program", '))
    result = ran(batch, 7)
    assert not batch.told() and "no-such-program" in result.event("host.finished")["error"]["title"]


def test_secret_is_the_jobs_and_in_no_event(batch: BatchApp) -> None:
    batch.batch("secret")
    path = batch.root / "deploy.toml"
    path.write_text(path.read_text().replace("[run]", '[run]\nsecrets = ["TOKEN"]'))
    result = batch.run("run", "--json", env={"TOKEN": "sesame-open"}, check=0)
    assert "the token is" in result.out and "sesame-open" not in result.out + result.err + batch.engine_log()
    assert "sesame-open" in "".join(path.read_text() for path in (batch.host / "logs").glob("job-*"))


def test_app_beside_a_job_is_not_touched(batch: BatchApp) -> None:
    job = "\n[job]\ncommand = 'test -e data && touch $HERE/ran'\n"
    queue = '[services.queue]\nclass = "batch_services:Cache"\n'
    batch.configure(run=f'linked = ["data"]\nenv = {{ HERE = "{batch.root}" }}', more=job + queue)
    (batch.host / "shared" / "data").mkdir(parents=True)
    batch.push()
    before = batch.get()["pid"]
    result = batch.run("run", "--json", check=0)
    assert batch.get()["pid"] == before and batch.status()["instance"]["pid"] == before
    # The app has a service of that name beside it, which runs: the job uses it, and leaves it alone.
    assert result.event("service.shared")["service"] == "queue" and batch.told() == {"cache": ["built"]}
    batch.run("stop", check=0)
    assert batch.told() == {"cache": ["built", "stop", "cleanup"]}
    batch.run("run", "--json", check=0)  # now it has its own
    assert batch.told() == {"cache": ["built", "stop", "cleanup"] * 2}
    assert not alive(before) and (batch.root / "ran").exists()


def test_run_beside_an_app_is_found(batch: BatchApp) -> None:
    job = f"\n[job]\ncommand = ['{sys.executable}', '-S', 'batch_job.py']\nenv = {{ JOB = 'wait' }}\n"
    batch.configure(run=f'env = {{ HERE = "{batch.root}" }}', more=job)
    batch.push()
    batch.run("run", "--json", "--detach", check=0)
    wait_until(batch.began, what="the job works")
    shown = batch.run("status", "--job", "--json", check=0).events[0]["hosts"][0]["facts"]
    assert [one["part"] for one in shown["parts"]] == ["job"] and batch.status()["parts"] == []
    followed = batch.start("attach", "--json")
    assert followed.stdout is not None and "job.started" in followed.stdout.readline() + followed.stdout.readline()
    assert batch.run("abort", "--json", check=0).event("abort.finished")["status"] == "aborted"
    assert followed.stdout.read() and followed.wait(40) == 1 and (batch.root / "asked").exists()
    (past,) = batch.run("history", "--job", "--json", check=0).events[0]["hosts"][0]["deploys"]
    assert past["kind"] == "run" and past["status"] == "failed" and batch.status()["instance"]


def test_service_beside_the_app_that_is_stopped_ends_the_job_that_uses_it(batch: BatchApp) -> None:
    job = f"\n[job]\ncommand = ['{sys.executable}', '-S', 'batch_job.py']\nenv = {{ JOB = 'wait' }}\n"
    queue = '[services.queue]\nclass = "batch_services:Cache"\n'
    batch.configure(run=f'env = {{ HERE = "{batch.root}" }}', more=job + queue)
    batch.push()
    running = batch.started()
    batch.run("stop", check=0)
    out, err = running.communicate(timeout=40)
    assert running.returncode == 1 and "service queue, which runs beside the app, has gone" in err, f"{out}\n{err}"


def test_log_of_a_service(batch: BatchApp) -> None:
    batch.batch(queue="breaks")
    batch.run("run", "--json", check=1)
    assert batch.run("logs", "--service", "queue", check=0).out == "queue: cannot open its file\n"
    unknown = batch.run("logs", "--service", "nobody")
    assert unknown.code == 2 and "no log of a service nobody" in unknown.err


def test_without_a_job(batch: BatchApp) -> None:
    batch.configure()
    result = batch.run("run", "--json")
    assert result.code == 2 and "there is no job to run" in result.err


def test_push_of_what_is_only_a_job(batch: BatchApp) -> None:
    result = batch.run("push", "--json")
    assert result.code == 2 and "deployer run" in result.err and not batch.host.exists()
