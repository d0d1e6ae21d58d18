"""The promises of CONTRACT.md, asked of a world in which a schedule has come to its end."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator

from sim_kernel import Process
from sim_stories import Story
from sim_world import World

from deployer.host.control import ABORT
from deployer.host.drain import CRASH

TERM, KILL = signal.SIGTERM, signal.SIGKILL
SLACK = 0.001
"""Seconds: figures in the record are rounded to milliseconds."""


def broken(world: World, story: Story) -> list[str]:
    """Every promise that does not hold, as `promise: what was found`."""
    return [
        *(f"one SIGTERM: {text}" for text in _one_signal(world)),
        *(f"force after the ceiling: {text}" for text in _force(world)),
        *(f"no stranger: {text}" for text in _strangers(world)),
        *(f"it runs: {text}" for text in _runs(world)),
        *(f"journal: {text}" for text in _journal(world, story)),
        *(f"record: {text}" for text in _record(world)),
        *(f"asked first: {text}" for text in _asked(world)),
        *(f"abort: {text}" for text in _aborted(world)),
        *(f"one runner: {text}" for text in world.crowded),
        *(f"somebody listens: {text}" for text in world.unheard),
        *(f"overlap: {text}" for text in _overlap(world)),
    ]


def _one_signal(world: World) -> Iterator[str]:
    """
    A signal that the disk refused to write down, mark and all, is sent all the same (docs/architecture.md): the keeper after
    the next death cannot know of it. That is the one exception.
    """
    for process, count in Counter(sent.process for sent in world.kernel.sent if sent.signum == TERM).items():
        if count > 1 and f"signal-{process.instance}-{process.pid}-{process.start}" not in world.disk.marks_refused:
            yield f"{process.name} (pid {process.pid}) got {count}"


def _force(world: World) -> Iterator[str]:
    for sent in world.kernel.sent:
        if sent.signum == KILL and sent.process.instance is not None:
            at, ceiling = world.asked.get(sent.process.instance, (float("inf"), 0.0))
            if sent.at < at + ceiling - SLACK:
                yield f"{sent.process.name} killed at {sent.at - 10_000:.3f}, asked at {at - 10_000:.3f}, ceiling {ceiling}"


def _strangers(world: World) -> Iterator[str]:
    for sent in world.kernel.sent:
        if sent.process.instance is None:
            yield f"{sent.process.name} (pid {sent.process.pid}) got signal {sent.signum}"


def _runs(world: World) -> Iterator[str]:
    """One instance lives, it is the wished one, and `current` is its release."""
    yield from world.born_broken
    living, rows = world.living(), world.disk.rows
    desired = rows("SELECT i.* FROM meta m JOIN instances i ON i.id=m.value WHERE m.key='desired'")
    if not desired:
        if living:
            yield f"nothing should run, and {sorted(living)} does"
        return
    row = desired[0]
    last = rows("SELECT * FROM deploys ORDER BY rowid DESC LIMIT 1")
    if sorted(living) != [row["id"]]:
        yield f"{row['id']} should run, and {sorted(living)} does"
    if any(process.quiet for process in living.get(row["id"], [])):
        yield f"{row['id']} was asked to take no new work, and serves on"
    if world.disk.current != row["release"]:
        yield f"current is {world.disk.current}, and {row['release']} serves"
    good = rows("SELECT value FROM meta WHERE key='last_good'")
    if (
        last
        and last[0]["status"] in ("done", "reverted", "failed")
        and (not good or good[0]["value"] != row["release"])
    ):
        yield f"last_good is {good}, and {row['release']} serves"


def _journal(world: World, story: Story) -> Iterator[str]:
    """Every deploy has ended, told so once, and says what is true."""
    rows = world.disk.rows
    deploys = rows("SELECT * FROM deploys ORDER BY rowid")
    for row in deploys[1 if story.serves else 0 :]:
        told = [
            json.loads(event["event"])
            for event in rows("SELECT event FROM events WHERE deploy=? AND event LIKE '%host.finished%'", row["id"])
        ]
        if row["ended_at"] is None:
            yield f"{row['id']} has not ended"
        elif len(told) != 1 or told[0]["status"] != row["status"]:
            yield f"{row['id']} ended {row['status']}, and was told {[one['status'] for one in told]}"
        else:
            yield from _bug(told[0])
    if deploys and deploys[-1]["ended_at"] is not None:
        yield from _outcome(world, deploys[-1])


def _bug(told: dict[str, object]) -> Iterator[str]:
    error = told.get("error")
    if isinstance(error, dict) and "deployer failed" in str(error):
        yield str(error)


def _outcome(world: World, last: dict[str, object]) -> Iterator[str]:
    desired = world.disk.rows("SELECT i.release FROM meta m JOIN instances i ON i.id=m.value WHERE m.key='desired'")
    serves = desired[0]["release"] if desired else None
    request = json.loads(str(last["request"])) if last["request"] else {}
    old = (request.get("previous") or {}).get("spec", {}).get("release")
    expected = {
        "done": None if last["kind"] == "stop" else last["release"],
        "unchanged": serves,
        "reverted": old,
        "failed": old,
        # The old one would not start either, or there was none; the keeper goes on trying, and may well succeed later.
        "down": old,
    }
    if last["id"] == "d0":
        return
    should = expected[str(last["status"])]
    if serves != should:
        yield f"{last['id']} ({last['kind']}) ended {last['status']}, and {serves} serves instead of {should}"


def _record(world: World) -> Iterator[str]:
    """Rows of instances and drains say what the kernel knows."""
    living = world.living()
    killed = {sent.process.instance for sent in world.kernel.sent if sent.signum == KILL}
    for row in world.disk.rows("SELECT * FROM instances"):
        if (row["state"] in ("running", "draining")) != bool(living.get(row["id"])):
            yield f"{row['id']} is {row['state']}, and {len(living.get(row['id'], []))} of it live"
    for row in world.disk.rows("SELECT * FROM drains"):
        if row["verdict"] is None:
            yield f"{row['instance']} has no verdict"
            continue
        verdict = json.loads(row["verdict"])
        wrong = (verdict["verdict"] == "killed") != (row["instance"] in killed)
        if wrong and not _unknowable(world, bool(row["forced"])):
            yield f"{row['instance']} has the verdict {verdict['verdict']}, and was killed: {row['instance'] in killed}"


def _unknowable(world: World, forced: bool) -> bool:
    """
    Whether a keeper died or the disk refused a line: between "it will be killed", the signal and "it was", no successor can
    know how far the one before came, and says killed. Where neither happened, the verdict is exact.
    """
    deadly = ("keeper dies", "all die", "reboot")
    return world.disk.refused > 0 or (forced and any(fault.kind in deadly for _, fault in world.struck))


def _asked(world: World) -> Iterator[str]:
    """Whoever was killed, and no living main process answered for it, had been asked before."""
    asked = {sent.process for sent in world.kernel.sent if sent.signum == TERM}
    for sent in world.kernel.sent:
        process = sent.process
        if sent.signum != KILL or process in asked or not process.main or _lost(world, process):
            continue
        yield f"{process.name} (pid {process.pid}) was killed, and never asked to stop"


def _aborted(world: World) -> Iterator[str]:
    """An abort that was accepted is kept, whoever dies; nobody else's deploy is."""
    accepted = {deploy for deploy, asked in world.asked_for if asked.what == ABORT and "ok" in asked.answer(0.0)}
    for row in world.disk.rows("SELECT id, status FROM deploys WHERE id!='d0'"):
        if row["id"] in accepted and row["status"] not in ("reverted", "failed", "down"):
            yield f"{row['id']} was aborted, and ended {row['status']}"
    for row in world.disk.rows("SELECT deploy FROM journal WHERE step='abort'"):
        if row["deploy"] not in {deploy for deploy, asked in world.asked_for if asked.what == ABORT}:
            yield f"nobody aborted {row['deploy']}"


def _lost(world: World, process: Process) -> bool:
    """Whether its keeper died between the mark and the signal: a second one must not be risked, so it was never asked."""
    here = (process.pid, process.start)
    return any(what == f"signal {int(TERM)}" and tuple(values) == here for what, values in world.deaths_before)


def _overlap(world: World) -> Iterator[str]:
    """A release that failed was never the wished one; whoever was retired has a verdict, told once, by the deploy that did it."""
    rows = world.disk.rows
    for row in rows("SELECT * FROM deploys WHERE request LIKE '%\"launch\"%' AND ended_at IS NOT NULL"):
        new = json.loads(row["request"])["instance"]
        confirmed = rows("SELECT 1 FROM instances WHERE id=? AND confirmed=1", new)
        if bool(confirmed) != (row["status"] == "done"):
            yield f"{row['id']} ended {row['status']}, and {new} was {'' if confirmed else 'never '}what should run"
        told = [
            json.loads(event["event"])["instance"]
            for event in rows("SELECT event FROM events WHERE deploy=? AND event LIKE '%drain.finished%'", row["id"])
        ]
        drained = rows("SELECT instance FROM drains WHERE deploy=? AND who!=?", row["id"], CRASH)
        retired = [one["instance"] for one in drained if one["instance"] != new]
        if sorted(told) != sorted(retired):
            yield f"{row['id']} retired {retired}, and told of {told}"
