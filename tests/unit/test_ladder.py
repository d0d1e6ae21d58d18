"""The whole ladder: what was found beside what the config says, judged from the inside out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployer.config.load import load
from deployer.config.model import Config
from deployer.errors import UsageError
from deployer.rollout.ladder import Rung, faults, ladder, require_time
from deployer.rollout.ladder_picture import picture

DRAIN = 'longest_task = "8m"\napp_grace = "10m"'


def config(tmp_path: Path, drain: str = DRAIN) -> Config:
    file = tmp_path / "deploy.toml"
    file.write_text(f'app = "a"\n[build]\nartifact = "dist"\n[run]\ncommand = ["x"]\n[drain]\n{drain}\n')
    return load(file, None)


def limit(name: str, seconds: float | None, kind: str, **more: Any) -> dict[str, Any]:
    base = {"acts": "somebody acts", "where": "somewhere", "certain": True, "binding": False, "ours": False}
    return {"name": name, "seconds": seconds, "kind": kind, **base, **more}


def judged(config: Config, *limits: dict[str, Any], environ: dict[str, str] | None = None) -> list[Rung]:
    return ladder(config, {"local": list(limits)}, environ or {})


def test_ladder_is_told_from_the_inside_out(tmp_path: Path) -> None:
    found = [limit("TimeoutStopSec of a.service", 720.0, "outer"), limit("gunicorn", 660.0, "inner")]
    rungs = judged(config(tmp_path), *found, environ={"CI_JOB_TIMEOUT": "3600"})
    assert [rung.name for rung in rungs] == [
        "drain.longest_task", "drain.app_grace", "gunicorn", "drain.ceiling", "TimeoutStopSec of a.service",
        "GitLab CI_JOB_TIMEOUT",
    ]  # fmt: skip
    assert faults(rungs) == []


@pytest.mark.parametrize(
    ("found", "ok", "named"),
    [
        (limit("gunicorn", 600.0, "inner"), False, "gunicorn = 10m does not outlast drain.app_grace = 10m"),
        (limit("gunicorn", 30.0, "inner", certain=False), None, "gunicorn = 30s does not outlast drain.app_grace = 10m"),
        (limit("unit", 660.0, "outer", binding=True), False, "unit = 11m does not outlast drain.ceiling = 11m"),
        (limit("unit", 90.0, "outer"), None, "unit = 1m30s does not outlast drain.ceiling = 11m"),
        (limit("timeout", 30.0, "outer"), False, "timeout = 30s does not outlast drain.ceiling = 11m"),
    ],
)  # fmt: skip
def test_limit_that_is_too_short_is_told_with_both_rungs(
    tmp_path: Path, found: dict[str, Any], ok: bool | None, named: str
) -> None:
    [fault] = faults(judged(config(tmp_path), found))
    assert (fault.ok, fault.fault) == (ok, named)


@pytest.mark.parametrize(
    "found", [limit("uvicorn", None, "inner"), limit("unit", None, "outer"), limit("g", 661, "inner")]
)
def test_who_waits_for_ever_or_longer_is_no_fault(tmp_path: Path, found: dict[str, Any]) -> None:
    assert faults(judged(config(tmp_path), found)) == []


def test_default_that_nobody_chose_is_told_where_nobody_said_how_long_work_takes(tmp_path: Path) -> None:
    plain = config(tmp_path, "")
    [fault] = faults(judged(plain, limit("gunicorn", 30.0, "inner", certain=False)))
    assert fault.ok is None and "drain.ceiling = 11m" in str(fault.fault) and "longest_task" in str(fault.hint)
    assert faults(judged(plain, limit("gunicorn", 30.0, "inner"))) == []


def test_ci_job_that_ends_before_the_drain_is_refused_and_not_one_that_does_not(tmp_path: Path) -> None:
    patient = config(tmp_path, 'wait_idle = "5m"')
    for environ in ({"CI_JOB_TIMEOUT": "900"}, {"BUILDKITE_TIMEOUT": "16"}):
        with pytest.raises(UsageError, match=r"does not outlast drain.wait_idle \+ ceiling = 16m") as caught:
            require_time(patient, environ)
        assert "--detach" in str(caught.value.hint)
    for environ in ({}, {"CI_JOB_TIMEOUT": "961"}, {"BUILDKITE_TIMEOUT": "false"}, {"CI_JOB_TIMEOUT": "²"}):
        require_time(patient, environ)


def test_rung_that_only_some_hosts_have_names_them(tmp_path: Path) -> None:
    unit = limit("TimeoutStopSec of a.service", 90.0, "outer")
    rungs = ladder(config(tmp_path), {"web-1": [unit], "web-2": [], "web-3": [unit]}, {})
    assert [rung.hosts for rung in faults(rungs)] == [("web-1", "web-3")]
    everywhere = ladder(config(tmp_path), {"web-1": [unit], "web-2": [unit]}, {})
    assert [rung.hosts for rung in faults(everywhere)] == [()]


def test_picture_has_the_outermost_on_top_marks_what_is_out_of_order_and_fits(tmp_path: Path) -> None:
    long = "TimeoutStopSec of " + "a" * 80 + ".service"
    rungs = judged(config(tmp_path), limit(long, 90.0, "outer"), limit("hypercorn", 3.0, "inner"))
    lines = picture(rungs).splitlines()
    assert max(map(len, lines)) <= 78
    order = [line.split(" |  ")[1] for line in lines if line[:2] != "|-" and "<-" not in line]
    assert [name[:17] for name in order] == [
        "TimeoutStopSec of", "drain.ceiling", "hypercorn", "drain.app_grace", "drain.longest_tas",
    ]  # fmt: skip
    assert [line.split()[1] for line in lines if "<-" in line] == ["??", "!!"]
    assert "|   11m |  drain.ceiling" in lines


def test_data_of_a_rung_is_plain(tmp_path: Path) -> None:
    [first, *_] = judged(config(tmp_path))
    assert first.to_json() == {
        "name": "drain.longest_task", "seconds": 480.0, "kind": "work", "acts": "the longest work that there is",
        "where": "deploy.toml", "hosts": (), "ok": True, "fault": None, "hint": None,
    }  # fmt: skip
