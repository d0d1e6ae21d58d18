"""However a job on Ray ends, its services are cleaned up, and no actor, task or process of it is left: looked for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_job_endings import BOTH, FINE, PROGRAMS, lines, picked

from app import SOURCE, wait_until
from ray_rig import RayBox, app_on, ray_box

pytestmark = pytest.mark.timeout(600)  # the first one may wait for the boxes of other tests


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayBox]:
    """Its nodes do not have deployer: what runs there travels."""
    with ray_box() as box:
        path = box.env.pop("PYTHONPATH")
        box.head(cpus=4)
        box.env["PYTHONPATH"] = path
        yield box


@pytest.fixture(scope="module")
def scenarios(cluster: RayBox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each scenario of `all_of_ray` printed; and "closed", what the services wrote."""
    here = tmp_path_factory.mktemp("all")
    result = cluster.run([sys.executable, str(PROGRAMS), "all_of_ray", str(here), "ray"])
    found: dict[str, list[Any]] = {}
    ours = ("{", "[", '"', "6")  # Ray talks on stdout too
    said = [line for line in result.out.splitlines() if line.startswith(ours)]
    for line in map(json.loads, said):
        if isinstance(line, str):
            found[line] = []
        else:
            found[list(found)[-1]].append(line)
    return {**found, "closed": lines(here / "closed"), "alive": [(here / "alive").read_text()]}


def actors_and_tasks(box: RayBox) -> list[str]:
    """Processes that have something of a job: Ray shows in their title what they run."""
    ours = ("Service", "Raises", "Hangs", "Broken", "Slow", "work_afar", "programs.py")
    return [line for line in box.processes() if any(word in line for word in ours)]


def nothing_is_left(box: RayBox) -> bool:
    wait_until(lambda: not actors_and_tasks(box), what="no actor, task or driver is left")
    return True


def test_a_healthy_job_on_ray(scenarios: dict[str, list[Any]]) -> None:
    (report,) = scenarios["healthy"]
    assert report["ok"] and report["clean"] and (report["items_in"], report["items_out"]) == (20, 20)
    assert [picked(each) for each in report["services"].values()] == [FINE, FINE]
    assert scenarios["closed"][:4] == BOTH


def test_a_job_on_ray_that_raises(scenarios: dict[str, list[Any]]) -> None:
    (report,) = scenarios["raises"]
    assert report["clean"] and report["raised"][1] == "ValueError" and "boom at item 8" in report["raised"][0]
    assert [picked(each) for each in report["services"].values()] == [FINE, FINE]


def test_actors_whose_clean_up_raises_or_hangs_are_ended_like_the_others(scenarios: dict[str, list[Any]]) -> None:
    (report,) = scenarios["closes_badly"]
    services = report["services"]
    assert picked(services["first"]) == picked(services["fourth"]) == FINE
    assert picked(services["second"]) == {**FINE, "cleanup_completed": False, "error": "stop() raised OSError: no way"}
    hung = "cleanup() did not end within 1 s and was left behind"
    assert picked(services["third"]) == {**FINE, "cleanup_completed": False, "error": hung}, (
        "not running: its actor is dead"
    )


def test_a_killed_worker_of_a_task_fails_the_job_which_is_cleaned_up(scenarios: dict[str, list[Any]]) -> None:
    (report,) = scenarios["worker_killed"]
    assert "the worker of a Ray task died" in report["raised"][0] and report["left"] == []
    assert picked(report["services"]["first"]) == FINE


def test_an_actor_that_died_is_said_and_the_others_are_cleaned_up(scenarios: dict[str, list[Any]]) -> None:
    (report,) = scenarios["service_killed"]
    second = report["services"]["second"]
    assert report["raised"] and picked(report["services"]["first"]) == FINE
    assert (second["initialized"], second["cleanup_called"], second["running"]) == (True, False, False)
    assert "its actor had died" in second["error"]


def test_an_actor_that_cannot_be_built_has_those_before_it_cleaned_up(scenarios: dict[str, list[Any]]) -> None:
    (report,) = scenarios["not_built"]
    assert 'service "second" could not be built: RuntimeError: no such model' in report["raised"][0]
    assert picked(report["services"]["first"]) == FINE and not report["services"]["second"]["running"]


def test_actors_that_are_left_running_run_until_stop_and_our_tie_is_not_cut(scenarios: dict[str, list[Any]]) -> None:
    left, stopped, again = scenarios["left_running"]
    assert left["services"]["first"]["kept"] and left["services"]["first"]["running"] and scenarios["alive"] == ["True"]
    assert picked(stopped["services"]["first"]) == FINE and again == stopped
    assert scenarios["fails_often"][1] == ["initialized", True]


def test_sixty_failing_jobs_in_a_row_do_not_end_their_process(scenarios: dict[str, list[Any]]) -> None:
    """Ray aborts a process that cancels a task whose result is just arriving."""
    assert scenarios["fails_often"][0] == 60


def test_after_all_of_them_no_actor_and_no_task_is_left(cluster: RayBox, scenarios: dict[str, list[Any]]) -> None:
    assert "left_running" in scenarios and nothing_is_left(cluster)


def waiting(box: RayBox, here: Path) -> subprocess.Popen[str]:
    """A job whose tasks wait for ever, with two actors."""
    job = box.popen([sys.executable, str(PROGRAMS), "waits", str(here), "ray"], start_new_session=True)
    wait_until(lambda: len(lines(here / "begun")) == 2, what="two tasks wait")
    assert len([line for line in actors_and_tasks(box) if line.startswith("ray::")]) >= 4, (
        "what is looked for can be seen"
    )
    return job


def test_ctrl_c_on_ray_ends_tasks_and_services(cluster: RayBox, tmp_path: Path) -> None:
    job = waiting(cluster, tmp_path)
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=60)
    assert job.returncode == -2, err
    assert lines(tmp_path / "closed") == BOTH and nothing_is_left(cluster)


def test_a_killed_client_takes_its_actors_and_tasks_along(cluster: RayBox, tmp_path: Path) -> None:
    job = waiting(cluster, tmp_path)
    job.kill()
    job.communicate()
    assert nothing_is_left(cluster)
    assert {path.name for path in tmp_path.iterdir()} == {"begun"}, "no clean-up, but no file either"


@pytest.mark.full
def test_a_cluster_that_was_begun_for_one_service_is_ended_with_it(cluster: RayBox, tmp_path: Path) -> None:
    cluster.realm.run(["mkdir", "/tmp/ray/own"], {})  # where it finds no cluster
    env = {name: value for name, value in cluster.env.items() if name != "RAY_ADDRESS"}
    job = cluster.realm.run(
        [sys.executable, str(PROGRAMS), "own_cluster", str(tmp_path)],
        {**env, "RAY_TMPDIR": "/tmp/ray/own"}, timeout=90,
    )  # fmt: skip
    report, (got, connected, children) = map(json.loads, job.out.splitlines())
    assert got == [0, 4, 8, 12, 16] and not connected and children == [], "nothing is left when submit() returns"
    assert [picked(each) for each in report["services"].values()] == [FINE, FINE]
    assert lines(tmp_path / "closed") == ["actor stop", "actor cleanup", "here stop", "here cleanup"]
    wait_until(lambda: not cluster.processes("/tmp/ray/own"), what="the processes of its cluster have gone")
    assert nothing_is_left(cluster)


def test_service_of_a_run_is_an_actor(cluster: RayBox, tmp_path: Path) -> None:
    """`deployer run` with `ray = true`: the job calls it on its socket; nothing of it is left on the cluster."""
    with app_on(cluster, tmp_path) as app:
        (app.dist / "model.py").write_text(MODEL)
        (app.root / "deploy.toml").write_text(
            RUN.format(python=sys.executable, here=tmp_path, host=app.host, source=SOURCE)
        )
        result = app.run("run", "--json")
        assert result.code == 0, f"{result.out}\n{result.err}\n{app.engine_log()}"
        words = (tmp_path / "told").read_text().split()
        assert words[0] == words[1] != words[2] and words[3:] == ["cleanup"]  # in one process, which is not the job's
        stopped = result.event("service.stopped")
        assert stopped["cleanup_completed"] and not stopped["running"] and not stopped["error"]
        assert nothing_is_left(cluster)


MODEL = """
import os
class ServiceOnRay:
    def note(self, word):
        with open(os.environ["HERE"] + "/told", "a") as file:
            file.write(f"{word}\\n")
    def where(self):
        self.note(os.getpid())
        return os.getpid()
    def cleanup(self):
        self.note("cleanup")
def ask():
    from deployer.jobs import service
    import ray
    model = service("model")
    print("on", model.where(), model.where(), flush=True)
    model.note(os.getpid())
"""
RUN = """
app = "t-app"
[build]
artifact = "dist"
[install]
command = 'mkdir -p .venv/bin && printf "#!/bin/sh\\nexec {python} \\"\\$@\\"\\n" > .venv/bin/python && chmod +x .venv/bin/python'
[run]
env = {{ HERE = "{here}", RAY_ADDRESS = "127.0.0.1:6379", RAY_AUTH_MODE = "disabled", PYTHONPATH = "{source}:." }}
[services.model]
class = "model:ServiceOnRay"
ray = true
[services.model.health]
ready_within = "90s"
[job]
command = [".venv/bin/python", "-c", "import model; model.ask()"]
[target.local]
path = "{host}"
"""
