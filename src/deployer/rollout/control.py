"""`deployer abort` and `deployer drain`: what a person may still ask of a deploy that is under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError, FailedError
from deployer.rollout.attach import meant, raise_first
from deployer.rollout.each import on_each
from deployer.rollout.events import Emit, Event, Stream
from deployer.rollout.fleet import Fleet
from deployer.rollout.hostdeploy import HostDeploy
from deployer.rollout.hosts import chosen, connect, look, who
from deployer.rollout.order import Order, PushOptions, policy
from deployer.rollout.rollout import Rollout

ABORTED = ("reverted", "failed", "untouched")


def abort(config: Config, detach: bool, emit: Emit, hosts: Sequence[str] = ()) -> int:
    """
    Abort the deploy under way, on every host that has one, and follow it until the old release serves; the exit code, 0 when
    nothing was under way.

    Every event of the deploy goes to *emit*, then `abort.finished`. Raises FailedError when it was too late.
    """
    require_available(config)
    config = meant(config, hosts)
    stream = Stream(None, lambda event: emit(_without_error(event)))
    fleet = Fleet(Order(config, "abort", PushOptions()), stream, chosen(config, hosts), policy(config))
    answers: dict[str, dict[str, Any]] = {}
    rollout = Rollout(fleet)
    with rollout.interruptible():
        fleet.each(fleet.standing, lambda deploy: _ask_to_end(deploy, answers))
        _raise_alone(fleet)
        stream.deploy = next((deploy.deploy for deploy in fleet.deploys.values() if deploy.deploy), None)
        if not detach:
            fleet.each(fleet.standing, lambda deploy: deploy.follow(), at_once=len(fleet.deploys))
    fleet.close()
    return _finish(fleet, answers, detach)


def drain(config: Config, extend: float | None, hosts: Sequence[str] = ()) -> dict[str, Any]:
    """
    Lengthen the drains under way by *extend* seconds, or end them now (None).

    `hosts` has the `drains` of each host, or its `error`. Raises the first error where no host could do it.
    """
    require_available(config)

    def ask(host: str) -> list[dict[str, Any]]:
        with connect(config, host) as session:
            under_way = session.call("observe", wake=True, **look(config, host))["under_way"] or {}
            what = "now" if extend is None else "extend"
            answer = session.call(
                "control", what=what, who=who(), seconds=extend or 0.0, deploy=under_way.get("deploy")
            )
            return list(answer.get("drains") or [])

    names = chosen(config, hosts)
    found = on_each(names, ask)
    if not any(isinstance(one, list) and one for one in found):
        raise_first(found)
    return {"hosts": [_drained(host, one) for host, one in zip(names, found, strict=True)]}


def _drained(host: str, found: list[dict[str, Any]] | DeployerError) -> dict[str, Any]:
    if isinstance(found, DeployerError):
        return {"host": host, "drains": [], "error": found.to_json()}
    return {"host": host, "drains": found}


def _ask_to_end(deploy: HostDeploy, answers: dict[str, dict[str, Any]]) -> None:
    facts = deploy.ask("observe", wake=True)
    deploy.deploy, deploy.serving = (facts["under_way"] or {}).get("deploy"), facts["current"]
    answer = answers[deploy.host] = deploy.ask("control", what="abort", who=who(), deploy=deploy.deploy)
    if not answer.get("nothing") and not answer.get("prepared"):
        deploy.deploy, deploy.committed = answer["deploy"], True


def _raise_alone(fleet: Fleet) -> None:
    """The error of the only host; of several, each is told by its own end."""
    only = next(iter(fleet.deploys.values()))
    if fleet.alone and only.finished is not None and only.finished.get("error"):
        raise DeployerError.from_json(only.finished["error"])


def _finish(fleet: Fleet, answers: dict[str, dict[str, Any]], detach: bool) -> int:
    hosts = [_became(deploy, answers.get(deploy.host)) for deploy in fleet.deploys.values()]
    statuses = {status for _, status in hosts}
    if "late" in statuses:
        raise _too_late([deploy for deploy, status in hosts if status == "late"])
    asked = [deploy for deploy, status in hosts if status not in ("nothing", "error")]
    down = next((deploy for deploy, status in hosts if status == "down"), None)
    failed = next((deploy for deploy, status in hosts if status == "error"), None)
    status = "down" if down else ("asked" if detach and "asked" in statuses else "aborted") if asked else "nothing"
    code = (down or failed).result.exit_code if down or failed else 0  # type: ignore[union-attr]
    shown = [_shown(deploy, status) for deploy, status in hosts]
    fleet.stream.event("abort.finished", status=status, exit_code=code, hosts=shown, kind="abort")
    return code


def _became(deploy: HostDeploy, answer: dict[str, Any] | None) -> tuple[HostDeploy, str]:
    if answer is None:
        return deploy, "error"
    if answer.get("nothing"):
        return deploy, "nothing"
    if answer.get("prepared"):
        return deploy, "aborted"
    if deploy.finished is None:
        return deploy, "asked"
    status = str(deploy.finished["status"])
    return deploy, "aborted" if status in ABORTED else status if status in ("down", "lost") else "late"


def _shown(deploy: HostDeploy, status: str) -> dict[str, Any]:
    last = deploy.finished or {"status": status, "release": deploy.serving}
    return {"host": deploy.host, "status": last["status"], "release": last["release"]}


def _too_late(deploys: Sequence[HostDeploy]) -> FailedError:
    where = "" if len(deploys) == 1 else f" on {', '.join(deploy.host for deploy in deploys)}"
    release = (deploys[0].finished or {}).get("release")
    return FailedError(
        f"{deploys[0].deploy} was done before it could be aborted{where}",
        state=f"{release} serves" if release else "`deployer status` says what runs",
        hint="go back with `deployer rollback`" if release else None,
    )


def _without_error(event: Event) -> Event:
    """The end of an aborted deploy is no error to who wanted it; that the service is down is one to everybody."""
    if event["event"] != "host.finished" or event["status"] not in ABORTED or not event.get("error"):
        return event
    return {**event, "error": None, "reason": DeployerError.from_json(event["error"]).title}
