"""`deployer abort` and `deployer drain`: what a person may still ask of a deploy that is under way."""

from __future__ import annotations

from typing import Any

from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError, FailedError
from deployer.link.session import Session
from deployer.rollout.events import Emit, Event, Stream
from deployer.rollout.hosts import connect, look, who
from deployer.rollout.push import follow, one_host

ABORTED = ("reverted", "failed")


def abort(config: Config, detach: bool, emit: Emit) -> int:
    """
    Abort the deploy under way and follow it until the old release serves; the exit code, 0 when nothing was under way.

    Every event of the deploy goes to *emit*, then `abort.finished`. Raises FailedError when it was too late.
    """
    require_available(config)
    with connect(config) as session:
        facts = session.call("observe", wake=True, **look(config))
        stream = Stream((facts["under_way"] or {}).get("deploy"), lambda event: emit(_without_error(event)))
        stream.serving = facts["current"]
        answer = _ask(session, "abort", deploy=stream.deploy)
        if answer.get("nothing") or answer.get("prepared"):
            return _finish(stream, "nothing" if answer.get("nothing") else "aborted", 0)
        stream.deploy, stream.committed = answer["deploy"], True
        if detach:
            return _finish(stream, "asked", 0)
        with one_host(stream, "abort"):
            follow(config, session, stream, detach=False)
    return _ended(stream)


def drain(config: Config, extend: float | None) -> dict[str, Any]:
    """Lengthen the drain under way by *extend* seconds, or end it now (None). Raises FailedError when that cannot be done."""
    require_available(config)
    with connect(config) as session:
        facts = session.call("observe", wake=True, **look(config))
        under_way = (facts["under_way"] or {}).get("deploy")
        what = "now" if extend is None else "extend"
        answer = _ask(session, what, seconds=extend or 0.0, deploy=under_way)
        return {"hosts": [{"host": session.host, "drains": answer.get("drains") or []}]}


def _ask(session: Session, what: str, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = session.call("control", what=what, who=who(), **more)
    return answer


def _ended(stream: Stream) -> int:
    last = stream.finished or {}
    if last.get("status") in ABORTED:
        return _finish(stream, "aborted", 0)
    if last.get("status") == "down":
        return _finish(stream, "down", int(last["exit_code"]))
    raise FailedError(
        f"{stream.deploy} was done before it could be aborted",
        state=f"{last['release']} serves" if last.get("release") else "`deployer status` says what runs",
        hint="go back with `deployer rollback`" if last.get("release") else None,
    )


def _finish(stream: Stream, status: str, code: int) -> int:
    last = stream.finished or {"host": "local", "release": stream.serving, "status": status}
    hosts = [{"host": last["host"], "status": last["status"], "release": last["release"]}]
    stream.event("abort.finished", status=status, exit_code=code, hosts=hosts, kind="abort")
    return code


def _without_error(event: Event) -> Event:
    """The end of an aborted deploy is no error to who wanted it; that the service is down is one to everybody."""
    if event["event"] != "host.finished" or event["status"] not in ABORTED or not event.get("error"):
        return event
    return {**event, "error": None, "reason": DeployerError.from_json(event["error"]).title}
