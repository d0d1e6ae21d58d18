"""The timeout ladder as the real command tells it, with limits that were found and not written in deploy.toml."""

from __future__ import annotations

import json
import sys

import pytest

from app import App

DRAIN = 'longest_task = "8m"\napp_grace = "10m"'


def test_doctor_and_plan_name_a_limit_that_the_running_service_has(app: App) -> None:
    argv = ["timeout", "-k", "5", "90", sys.executable, "-S", "service.py", "--port", str(app.port)]
    app.configure(run=f"command = {json.dumps(argv)}", drain=DRAIN)
    app.push()
    found = app.run("doctor", "--json", check=2).event("doctor")
    rungs = {rung["name"]: rung for rung in found["rungs"]}
    assert list(rungs) == ["drain.longest_task", "drain.app_grace", "timeout -k", "drain.ceiling", "timeout"]
    assert [rungs["timeout"][key] for key in ("seconds", "ok")] == [90.0, False]
    assert f"pid {app.status()['instance']['pid']}" in rungs["timeout"]["where"]
    shown = app.run("doctor", check=2)
    assert "timeout = 1m30s does not outlast drain.ceiling = 11m" in shown.out
    picture = shown.out[shown.out.index("timeout ladder") :].splitlines()
    assert picture[1].split()[-1] == "timeout" and max(map(len, picture)) <= 80
    app.release("v2")
    assert "timeout -k = 5s does not outlast drain.app_grace = 10m" in app.run("plan", check=0).out


@pytest.mark.full
def test_doctor_finds_the_ladder_of_a_plain_service_in_order(app: App) -> None:
    app.configure(drain=DRAIN)
    app.push()
    checks = app.run("doctor", "--json", check=0).event("doctor")["checks"]
    [check] = [check for check in checks if check["check"] == "ladder"]
    assert check["ok"] is True and "3 time limits" in check["detail"]


def test_push_in_a_ci_job_that_ends_too_early_is_refused_unless_nobody_waits_for_it(app: App) -> None:
    job = {"CI_JOB_TIMEOUT": "600"}
    refused = app.push(check=2, env=job)
    assert "GitLab CI_JOB_TIMEOUT = 10m does not outlast drain.ceiling = 11m" in refused.err
    assert not app.host.joinpath("releases").exists()
    app.push("--detach", env=job)
    app.run("restart", check=2, env=job)
    app.run("restart", check=0, env={"CI_JOB_TIMEOUT": "3600"})
