"""The pool in front, as steps of a deploy: join after the proof, leave before the signal, wait until nothing is in flight."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

from deployer.durations import show
from deployer.errors import DeployerError, PreflightError
from deployer.host import sockets
from deployer.host.deploy import Deploy
from deployer.host.heed import Attentive
from deployer.host.pools import choose
from deployer.host.pools.base import NotOnline, Pool
from deployer.host.ready import NotReady
from deployer.model import Spec

LOOK_EVERY = 0.1
"""Seconds between two looks at what the pool has in flight: no proxy tells it unasked."""


def switch_over(deploy: Deploy) -> None:
    """New requests go to the new instance, and the pool has none left at the old one. Raises DeployerError when it refuses."""
    pool, new = _pool(deploy), _places(deploy, [str(deploy.request.instance)])
    leaving = [place for place in _all(deploy) if place not in new]
    pool.send_to(new, leaving)
    deploy.journal.event("pool.joined", addresses=pool.named(new), left=pool.named(leaving))
    _await_nothing_in_flight(deploy, pool, leaving)


def leave(deploy: Deploy) -> None:
    """This host takes no new requests, and the pool has none left here. A stop goes on even where the pool refuses."""
    leaving = _all(deploy)
    try:
        pool = _pool(deploy)
        pool.send_to([], leaving)
    except DeployerError as error:
        if deploy.request.kind != "stop":
            raise
        deploy.journal.event("warning", text=f"the pool was not left: {_said(error)}")
        return
    deploy.journal.event("pool.left", addresses=pool.named(leaving))
    _await_nothing_in_flight(deploy, pool, leaving)


def join(deploy: Deploy) -> None:
    """
    New requests come to the new instance. A pool that refuses is no reason to stop what serves: the result says so. Raises
    NotReady where a new release should have joined by itself, and has not.
    """
    new = _places(deploy, [str(deploy.request.instance)])
    try:
        pool = _pool(deploy)
        pool.send_to(new, [place for place in _all(deploy) if place not in new])
    except NotOnline as error:
        raise NotReady(_said(error)) from error
    except DeployerError as error:
        deploy.journal.note("join", "refused", why=_said(error), hint=error.hint)
        return
    deploy.journal.event("pool.joined", addresses=pool.named(new), left=[])


def back(deploy: Deploy) -> None:
    """
    The instance that shall run gets its traffic again, where this deploy has changed that; what the pool has at the others is
    waited for. As far as the pool lets us: that the service runs matters more, and the result says so.
    """
    begun = [step for step in ("pool", "leave", "join") if deploy.journal.has(step, "begin")]
    if not deploy.request.target.get("pool") or not begun:
        return
    desired = deploy.supervisor.status()["desired"]
    old = _places(deploy, [str(desired["id"])] if desired else [])
    others = [place for place in _all(deploy) if place not in old]
    try:
        pool = _pool(deploy)
        pool.send_to(old, others)
    except DeployerError as error:
        if begun != ["pool"] or deploy.journal.has("pool", "done"):
            deploy.journal.note("join", "refused", why=_said(error), hint=error.hint)
        # A pool that has just refused the new one is as it was, and would refuse again.
        deploy.journal.event("warning", text=f"the pool refuses to be set back: {_said(error)}")
        return
    deploy.journal.event("pool.joined", addresses=pool.named(old), left=pool.named(others))
    _await_nothing_in_flight(deploy, pool, others)


def check(target: Dict[str, Any], settings: Dict[str, Any]) -> None:
    """Raises PreflightError when the pool of *target* cannot be reached or does not know the service. Changes nothing."""
    pool = choose.pool_of(target, settings["app"])
    if pool is None:
        return
    if pool.by_address and not _ports(settings):
        raise PreflightError(
            "the pool of this target has no address to send traffic to",
            cause="neither run.ports nor a TCP address in run.socket says where the service listens", state="nothing was changed",
            hint='write ports = [3001, 3002] or socket = "127.0.0.1:3001" in [run], or remove the pool',
        )  # fmt: skip
    pool.check([_address(target, port) for port in _ports(settings)] if pool.by_address else [])


def _pool(deploy: Deploy) -> Pool:
    found = choose.pool_of(deploy.request.target, deploy.request.settings["app"])
    assert found is not None, "the plan has a step for the pool, and the target has none"
    return found


def _all(deploy: Deploy) -> List[str]:
    """Every place that this service may have here: of the release that comes, of the one that goes, of what was adopted."""
    if not _pool(deploy).by_address:
        return [str(row["id"]) for row in deploy.state.rows("SELECT id FROM instances WHERE state != 'ended'")]
    known = [*_ports(deploy.request.settings), *_ports(deploy.old_settings)]
    adopted = (deploy.request.target.get("adopt") or {}).get("port")
    known += [int(adopted)] if adopted and deploy.request.adopt else []
    return [_address(deploy.request.target, port) for port in dict.fromkeys(known)]


def _address(target: Dict[str, Any], port: int) -> str:
    return choose.address(target["pool"], port, str(target.get("host") or "local"))


def _ports(settings: Dict[str, Any]) -> List[int]:
    return [*sockets.tcp_ports(settings["run"]["socket"]), *map(int, settings["run"]["ports"])]


def _places(deploy: Deploy, instances: List[str]) -> List[str]:
    """Where the pool finds *instances*: their addresses, as far as they have a port, or the instances themselves."""
    if not _pool(deploy).by_address:
        return instances
    found = [_port(deploy, one) for one in instances]
    return list(dict.fromkeys(_address(deploy.request.target, port) for port in found if port is not None))


def _port(deploy: Deploy, instance: str) -> Optional[int]:
    row = deploy.state.row("SELECT spec FROM instances WHERE id=?", instance)
    if row is None:
        return None
    spec = Spec.from_json(json.loads(row["spec"]))
    return spec.port or next(iter(sockets.tcp_ports(spec.socket)), None)


def _await_nothing_in_flight(deploy: Deploy, pool: Pool, leaving: List[str]) -> None:
    within = float(deploy.request.target["pool"]["drain_within"])
    deadline = deploy.clock.now() + within
    keeper = Attentive(deploy, deploy.supervisor)
    # Twice: between the pool's choice of a server and its count lies a moment.
    seen = 0
    while (seen := 0 if any(pool.in_flight(address) for address in leaving) else seen + 1) < 2 and leaving:
        if deploy.clock.now() >= deadline:
            text = f"the pool still has requests at {', '.join(leaving)} after {show(within)}; the signal is sent all the same"
            deploy.journal.event("warning", text=text)
            return
        keeper.wait(min(deadline, deploy.clock.now() + LOOK_EVERY))


def _said(error: DeployerError) -> str:
    return f"{error.title} ({error.cause})" if error.cause else error.title
