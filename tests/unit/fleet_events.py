"""The events of a rollout over any number of hosts, as the rollout emits them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli_fakes import NEW, OLD, event, progress

Event = dict[str, Any]


def names(count: int) -> list[str]:
    return [f"web-{number}" for number in range(1, count + 1)]


def of(host: str, made: Event) -> Event:
    return {**made, "host": host}


def without_host(name: str, at: float = 0.0, **fields: Any) -> Event:
    return {key: value for key, value in event(name, at, **fields).items() if key != "host"}


def rollout(hosts: Sequence[str], ends: Mapping[str, str] | None = None, batch: int = 75) -> Iterator[Event]:
    """
    A push to *hosts*: a canary, then batches. *ends* says how a host ends where it is not "done": the rollout stops after
    the first batch with a failure, and hosts that it did not come to are untouched.
    """
    ends = dict(ends or {})
    skipped = [host for host in hosts if ends.get(host) in ("unreachable", "unchanged")]
    act = [host for host in hosts if host not in skipped]
    batches = [act[:1], *(act[start : start + batch] for start in range(1, len(act), batch))]
    yield without_host("push.started", app="mini-agent", target="production", release=None, kind="push", who="root")
    yield without_host("build.finished", 1, took_s=1.0)
    listed = {kind: [host for host in hosts if ends.get(host) == kind] for kind in ("unchanged", "unreachable")}
    yield without_host("rollout.started", 1, hosts=list(hosts), batches=batches, canary=1, **listed)
    for host in skipped:
        yield ended(host, ends[host], 1)
    stopped = False
    for number, members in enumerate(batches, 1):
        if stopped:
            for host in members:
                ends[host] = "untouched"
                yield ended(host, "untouched", 300)
            continue
        what = "canary" if number == 1 else "batch"
        yield without_host("batch.started", 2, batch=number, of=len(batches), hosts=members, what=what)
        yield from together(members, ends)
        failed = [host for host in members if ends.get(host, "done") != "done"]
        fields = {"done": len(members) - len(failed), "failed": len(failed)}
        yield without_host("batch.finished", 290, batch=number, of=len(batches), **fields)
        if failed:
            stopped = True
            yield without_host("rollout.stopped", 290, reason="more hosts failed than max_failed = 0", failed=failed)
    yield finished(hosts, ends)


def together(hosts: Sequence[str], ends: Mapping[str, str]) -> Iterator[Event]:
    """Every step of *hosts*, side by side."""
    yield from (of(host, event("host.started", 2)) for host in hosts)
    sent = {"bytes_total": 2_000_000, "rate_bps": 100_000.0}
    yield from (of(host, event("upload.progress", 2, bytes_sent=500_000, **sent)) for host in hosts)
    staged = {"files": 212, "bytes_total": 2_000_000, "bytes_sent": 2_000_000, "took_s": 1.0, "release": NEW}
    yield from (of(host, event("stage.finished", 3, **staged)) for host in hosts)
    go_on = [host for host in hosts if ends.get(host, "done") != "failed"]
    started = {"pid": 8812, "ceiling_s": 660, "tasks": []}
    yield from (of(host, event("drain.started", 4, **started)) for host in go_on)
    yield from (of(host, progress(31.0)) for host in go_on)
    drained = {"verdict": "clean", "exit_code": 0, "waited_s": 270.0, "lost": []}
    yield from (of(host, event("drain.finished", 275, **drained)) for host in go_on)
    for host in hosts:
        yield from last_steps(host, ends.get(host, "done"))


def last_steps(host: str, end: str) -> Iterator[Event]:
    if end == "done":
        yield of(host, event("ready", 276, pid=9120, probes=2, took_s=0.8, release=NEW))
    elif end == "reverted":
        yield of(host, event("revert.started", 277, reason="GET /health answered 503"))
        yield of(host, event("revert.finished", 278, release=OLD, ok=True))
    yield ended(host, end, 280)


def ended(host: str, status: str, at: float) -> Event:
    code = {"failed": 7, "reverted": 1, "unreachable": 6, "down": 8}.get(status, 0)
    titles = {
        "failed": "the check failed",
        "unreachable": f"{host} could not be reached",
        "reverted": f"{host} did not become ready",
    }
    error = {"kind": "GateError", "code": code, "title": titles.get(status, "no")} if code else None
    release = NEW if status in ("done", "unchanged") else None if status == "unreachable" else OLD
    fields = {"gap_ms": 83.0 if status == "done" else None, "exit_code": code, "release": release, "error": error}
    return of(host, event("host.finished", at, status=status, **fields))


def finished(hosts: Sequence[str], ends: Mapping[str, str]) -> Event:
    listed = [ended(host, ends.get(host, "done"), 281) for host in hosts]
    shown = [{key: one[key] for key in ("host", "status", "release")} for one in listed]
    good = all(one["status"] in ("done", "unchanged") for one in shown)
    status, code = ("done", 0) if good else ("partial", 4)
    return without_host("push.finished", 281, status=status, exit_code=code, hosts=shown)
