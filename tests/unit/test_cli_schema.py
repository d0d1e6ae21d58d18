"""The published schema of the events: it accepts what is promised, and refuses what would break a reader."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from cli_fakes import clean_push, event, explained, killed_push, progress, reverted_push, until_drain
from fleet_events import rollout, without_host
from jsonschema import Draft202012Validator

from deployer.cli.render.json import encode, stamped
from deployer.errors import LinkError
from deployer.rollout.boot import BLANK
from deployer.rollout.ladder import Rung
from deployer.rollout.showing import NO_TIMELINE

SCHEMA = json.loads(files("deployer.cli").joinpath("events.schema.json").read_text("utf-8"))
HOSTS: list[dict[str, Any]] = [{"host": "local", "status": "done", "release": None}]
PROBES = {"probes": 40, "failed": 2, "skipped": 1, "kinds": {"refused": 2}, "longest_gap_ms": 210.0, "slowest_ms": None}
WITNESS = {**PROBES, "url": "http://127.0.0.1:1/", "rate": 10, "phases": {"drain": PROBES}}
REFUSED = LinkError("web-1 could not be reached", cause="refused").to_json()
RUNG = Rung("drain.ceiling", 660.0, "ceiling", "deployer kills what is left", "deploy.toml").to_json()
BOOT = {"host": "web-1", "way": "crontab", "where": "@reboot", "comes_up": True, "changed": True, "error": None}

SAMPLES = [
    *clean_push(),
    *killed_push(),
    *reverted_push(),
    progress(3.0),
    event("install.finished", took_s=1.0, release="r"),
    event("warning", text="careful"),
    {**clean_push()[-1], "witness": WITNESS},
    event("restart.finished", status="done", exit_code=0, hosts=HOSTS, witness=WITNESS),
    event("upload.progress", bytes_sent=1_000_000, bytes_total=4_000_000, rate_bps=2_000_000),
    event("upload.finished", bytes_sent=4096, took_s=0.1),
    event("start.finished", status="done", exit_code=0, hosts=HOSTS),
    event("stop.finished", status="done", exit_code=0, hosts=HOSTS),
    event("restart.finished", status="failed", exit_code=1, hosts=HOSTS),
    stamped("push.finished", {"deploy": None, "status": "failed", "exit_code": 2, "hosts": []}),
    stamped("status", {"hosts": []}),
    stamped("logs", {"lines": ["one"]}),
    stamped("logs", {"host": "web-1", "lines": [], "error": REFUSED}),
    stamped("releases", {"hosts": [{"host": "web-1", "releases": None, "error": REFUSED}]}),
    stamped("explain", {"hosts": [explained(), {"host": "web-2", **NO_TIMELINE, "error": REFUSED}]}),
    *rollout(["web-1", "web-2", "web-3"], {"web-2": "reverted", "web-3": "unreachable"}),
    without_host("bake.started", seconds=30.0, hosts=["web-1"]),
    without_host("bake.finished", ok=True),
    event("link.lost", cause="it was silent for 15 s"),
    event("link.restored", after_s=12.0),
    stamped("explain", {"hosts": [explained()]}),
    {**until_drain()[-1], "expected": {"count": 2, "median_s": 1.5, "longest_s": 3.0, "at_least": True}},
    stamped("enable", {"hosts": [BOOT, {"host": "web-2", **BLANK, "error": REFUSED}]}),
    stamped("disable", {"hosts": [{"host": "web-1", **BLANK, "changed": True, "error": None}]}),
    stamped("doctor", {"checks": [], "ladder": "", "rungs": [RUNG], "exit_code": 0}),
]

PROMISED = {
    "push.started",
    "build.finished",
    "stage.finished",
    "install.finished",
    "check.finished",
    "drain.started",
    "drain.progress",
    "drain.finished",
    "start.finished",
    "ready",
    "switched",
    "revert.started",
    "revert.finished",
    "host.finished",
    "push.finished",
    "rollout.started",
    "batch.started",
    "batch.finished",
    "bake.started",
    "bake.finished",
    "rollout.stopped",
    "host.started",
    "link.lost",
    "link.restored",
    "upload.progress",
}


def test_the_schema_is_one() -> None:
    assert list(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(SCHEMA)) == []


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["event"])
def test_sample_is_accepted_as_it_is_written(sample: dict[str, Any]) -> None:
    written = json.loads(encode({**sample, "more": "fields are allowed"}))
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(written)] == []


def test_every_promised_event_is_published_and_has_a_sample() -> None:
    published = {branch["properties"]["event"]["const"] for branch in SCHEMA["oneOf"]}
    assert published >= PROMISED
    assert {sample["event"] for sample in SAMPLES} >= PROMISED


def test_every_event_is_published_once() -> None:
    published = [branch["properties"]["event"]["const"] for branch in SCHEMA["oneOf"]]
    assert sorted(published) == sorted(set(published))


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("stage.finished", "bytes_sent"),
        ("upload.progress", "bytes_total"),
        ("drain.started", "ceiling_s"),
        ("drain.progress", "tasks"),
        ("drain.finished", "verdict"),
        ("ready", "probes"),
        ("host.finished", "gap_ms"),
        ("push.finished", "hosts"),
        ("drain.finished", "host"),
        ("push.started", "time"),
    ],
)
def test_event_without_a_promised_field_is_refused(name: str, field: str) -> None:
    sample = next(sample for sample in SAMPLES if sample["event"] == name)
    lacking = {key: value for key, value in sample.items() if key != field}
    assert not Draft202012Validator(SCHEMA).is_valid(lacking)


@pytest.mark.parametrize(
    "wrong",
    [
        event("moon.phase"),
        {**clean_push()[-1], "witness": {**WITNESS, "failed": "2"}},
        {**clean_push()[-1], "witness": {**WITNESS, "phases": {"drain": {"probes": 1}}}},
        {**clean_push()[-1], "status": "great"},
        {**clean_push()[-1], "hosts": [{"host": "local"}]},
        {**clean_push()[0], "v": 2},
        without_host("batch.started", batch=1, of=2, hosts=["web-1"], what="all"),
        stamped("status", {"hosts": [{"host": "web-1", "error": {"title": "no"}}]}),
        stamped("explain", {"hosts": [{**explained(), "timeline": [{"what": "drain"}]}]}),
        stamped("explain", {"hosts": [{**explained(), "logs": {"old": [], "new": []}}]}),
        {**until_drain()[-1], "expected": {"count": 2}},
        {**clean_push()[0], "time": "2026-11-21T20:00:00+01:00"},
    ],
)
def test_wrong_event_is_refused(wrong: dict[str, Any]) -> None:
    assert not Draft202012Validator(SCHEMA).is_valid(wrong)
