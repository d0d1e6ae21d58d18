"""One service's turn within a deploy: asked to stop, started, proven, by its own keeper; told by the deploy's journal."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace as changed
from typing import Any, Dict, Iterator, List, Optional

from deployer.errors import FailedError
from deployer.host.batch import parts, telling
from deployer.host.batch.parts import Part
from deployer.host.beside import homes
from deployer.host.beside.changes import fingerprint
from deployer.host.deploy import Deploy
from deployer.host.drain import CRASH
from deployer.host.instance import spec_of
from deployer.host.ready import NotReady, Proof, Prover
from deployer.host.state import State
from deployer.host.supervisors.base import Watched
from deployer.host.supervisors.builtin import Builtin
from deployer.model import DrainOrder, Spec

LOOK_EVERY = 2.0
"""Seconds between two looks even if nobody says that something changed."""
STARTED_WITHIN = 30.0
"""Seconds that the keeper has to start what nothing stands in the way of."""
GONE_WITHIN = 30.0
"""Seconds beyond its ceiling until a service that was asked to stop must have gone."""


class Reported:
    """What *watched* says, where a class that was built counts as ready: its keeper may have died before it heard READY=1."""

    def __init__(self, watched: Watched, part: Part) -> None:
        self._watched = watched
        self._part = part

    def status(self) -> Dict[str, Any]:
        status, built = self._watched.status(), bool(telling.read(self._part.report).get("initialized"))
        ours = self._part.spec.id
        told = [{**one, "ready": one.get("ready") or (built and one["id"] == ours)} for one in status["instances"]]
        return {**status, "instances": told}

    def wait(self, deadline: float) -> None:
        self._watched.wait(deadline)


def step(name: str) -> str:
    """Under which name the journal has what happened to the service *name*."""
    return f"service {name}"


@contextmanager
def opened(deploy: Deploy, name: str) -> Iterator[Deploy]:
    """*deploy* as the service *name* sees it: its own home, record and keeper; the journal and what people ask are shared."""
    paths = homes.prepare(deploy.paths, name)
    state = State(paths.state)
    supervisor = Builtin(paths, deploy.request.deploy, deploy.control.fileno())
    request = changed(deploy.request, settings=_own(deploy.request.settings))
    try:
        yield changed(deploy, paths=paths, state=state, supervisor=supervisor, request=request, gap_from=None)
    finally:
        supervisor.close()
        state.close()


def wanted(own: Deploy, name: str, instance: str) -> Part:
    """The service *name* as the deploy wants it, to be started as *instance*."""
    part = parts.service(own, name, instance)
    spec = changed(part.spec, log=None, beside=False, fingerprint=fingerprint(own.request.settings, name))
    spec.env.pop("DEPLOYER_SERVICE_SOCKET", None)  # for the processes of a run
    return changed(part, spec=spec)


def on_record(own: Deploy, instance: Optional[str]) -> Optional[Spec]:
    """How *instance* was started; None where there was none."""
    row = own.state.row("SELECT * FROM instances WHERE id=?", instance) if instance else None
    return spec_of(row) if row is not None else None


def hand_over(own: Deploy, name: str, new: Optional[Spec], order: DrainOrder, watched: Watched) -> None:
    """
    What runs is asked to stop, and *new* (None: nothing) started once it has gone. The keeper promises it; twice is once.

    Raises NotReady when *new* cannot be started, FailedError when what runs does not go.
    """
    own.supervisor.replace(own.request.deploy, own.request.who, new, order)
    deadline = own.clock.now() + STARTED_WITHIN
    while True:
        late = own.clock.now() >= deadline
        status = watched.status()
        _tell_ends(own, name, status)
        if not _in_the_way(status, new) and (new is None or _is_started(status, new)):
            return
        left = [one["drain"]["left_s"] for one in status["instances"] if one["drain"]]
        if any(left):  # until its ceiling, which a person may have moved
            deadline, late = own.clock.now() + max(left) + GONE_WITHIN, False
        if late:
            raise _late(name, status, new)
        watched.wait(min(deadline, own.clock.now() + LOOK_EVERY))


def prove(own: Deploy, part: Part, watched: Watched) -> Proof:
    """The proof that *part* is ready, by its own table. Raises NotReady."""
    seen = Reported(watched, part)
    return Prover(seen, part.health, None, own.clock, own.processes).prove(part.spec.id)


def order_of(spec: Spec) -> DrainOrder:
    """How *spec* wants to be stopped."""
    return DrainOrder(**spec.drain) if spec.drain else DrainOrder()


def _own(settings: Dict[str, Any]) -> Dict[str, Any]:
    """*settings* without what only the app has: its sockets, its ports, its health."""
    run = {**settings["run"], "socket": None, "ports": []}
    return {**settings, "strategy": "restart", "run": run, "health": {**settings["health"], "private": False}}


def _in_the_way(status: Dict[str, Any], new: Optional[Spec]) -> List[Dict[str, Any]]:
    return [one for one in status["instances"] if new is None or one["id"] != new.id]


def _is_started(status: Dict[str, Any], new: Spec) -> bool:
    desired = status["desired"]
    if not desired or desired["id"] != new.id:
        raise NotReady("its keeper has been told something else meanwhile")
    if desired["error"]:
        raise NotReady(f"it could not be started: {desired['error']}", exited=True)
    return bool(desired["state"] != "promised")


def _late(name: str, status: Dict[str, Any], new: Optional[Spec]) -> Exception:
    stuck = _in_the_way(status, new)
    if not stuck:
        return NotReady(f"its keeper did not start it within {STARTED_WITHIN:g} s")
    pids = ", ".join(str(one["pid"]) for one in stuck)
    return FailedError(f"service {name} does not go", cause=f"pid {pids} is still there")


def _tell_ends(own: Deploy, name: str, status: Dict[str, Any]) -> None:
    """Tell once how those ended that this deploy has asked to stop."""
    running = {one["id"] for one in status["instances"]}
    rows = own.state.rows(
        "SELECT i.* FROM drains d JOIN instances i ON i.id=d.instance WHERE d.deploy=? AND d.who IS NOT ?",
        own.request.deploy, CRASH,
    )  # fmt: skip
    for row in rows:
        if row["id"] not in running and not own.journal.has(step(name), f"gone {row['id']}"):
            own.journal.event("service.stopped", **_ended(own, name, spec_of(row), bool(row["confirmed"])))
            own.journal.note(step(name), f"gone {row['id']}")


def _ended(own: Deploy, name: str, spec: Spec, ready: bool) -> Dict[str, Any]:
    report = parts.report_in(spec)
    part = Part(name, {}, {}, order_of(spec), spec, report)
    told = telling.service_report(own, part, False, ready)
    if report is not None:
        report.unlink(missing_ok=True)
    return told
