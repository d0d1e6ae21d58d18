"""One deploy on this host: what was asked, and the parts of the engine that its steps use."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any, Callable, Dict, List, Optional

from deployer.host import sockets
from deployer.host.clock import Clock
from deployer.host.control import Control
from deployer.host.journal import Journal
from deployer.host.paths import HostPaths
from deployer.host.process import Processes
from deployer.host.releases import Releases
from deployer.host.spawn import base_environment
from deployer.host.state import Row, State
from deployer.host.supervisors import choose
from deployer.host.supervisors.base import Supervisor
from deployer.manifest import Manifest
from deployer.model import DrainOrder, Spec

DRAIN = "drain"
"""The step of an overlap in which the new release serves and the old one drains: the next deploy need not wait for it."""


@dataclass(frozen=True)
class Request:
    """
    What the runner needs to know, as it is stored with the deploy: nothing secret.

    `settings` are those of the release that shall run, `drain` the config's, `previous` the instance that serves now
    (`spec`, `settings`), `instance` the id that the new one will have, `steps` the plan. `spec` tells how to start what has
    no release of ours: an adopted service. `gap` says why nobody can listen while the old one goes, where that is so. `opened`
    tells what came before the commit: `at` when it was asked for, `locked_at` when the lock was had, `behind` whom it was
    waited for (seconds since 1970). `services`: what becomes of those beside the app (host/beside/changes.py).
    """

    deploy: str
    kind: str
    who: str
    target: Dict[str, Any]
    settings: Dict[str, Any]
    drain: Dict[str, Any]
    release: Optional[str]
    release_hash: Optional[str]
    instance: Optional[str]
    previous: Optional[Dict[str, Any]]
    previous_release: Optional[str]
    steps: List[Dict[str, Any]]
    bytes_sent: int = 0
    adopt: Optional[Dict[str, Any]] = None
    spec: Optional[Dict[str, Any]] = None
    opened: Optional[Dict[str, Any]] = None
    gap: Optional[str] = None
    services: List[Dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def from_json(data: Dict[str, Any]) -> "Request":
        return Request(**{name: data[name] for name in Request.__dataclass_fields__ if name in data})

    @property
    def host(self) -> str:
        return str(self.target.get("host") or "local")

    @property
    def overlaps(self) -> bool:
        """Whether the new instance is started beside the old one."""
        return any(step["step"] == "launch" for step in self.steps)

    @property
    def drain_order(self) -> DrainOrder:
        return DrainOrder.from_settings(self.drain)


@dataclass
class Deploy:
    """A request under way. `outcome` fields are filled in as the facts come in."""

    request: Request
    paths: HostPaths
    state: State
    journal: Journal
    supervisor: Supervisor
    clock: Clock
    processes: Processes
    releases: Releases
    control: Control = field(default_factory=Control)
    manifest: Optional[Manifest] = None
    verdicts: List[Dict[str, Any]] = field(default_factory=list)
    lost: List[Dict[str, Any]] = field(default_factory=list)
    gap_from: Optional[float] = None
    gap_ms: Optional[int] = None
    let_go: Callable[[], None] = lambda: None
    """Let go of the deploy lock: what is left concerns nobody who pushes next."""
    alone: bool = False
    """Whether we have the lock of those who only wait for the drains."""

    @property
    def old_settings(self) -> Dict[str, Any]:
        """The settings of the release that serves now; those of the wanted one where it has none of ours."""
        return (self.request.previous or {}).get("settings") or self.request.settings

    def spec(self, instance: str) -> Spec:
        """How to start the wanted release as *instance*."""
        if self.request.spec is not None:
            return Spec.from_json({**self.request.spec, "id": instance})
        found = spec_of(self.paths, str(self.request.release), self.request.settings, instance)
        owner = choose.setting(self.request.target, self.request.settings)
        return changed(found, owner=owner, argv=choose.argv(owner, found.argv))


def spec_of(paths: HostPaths, release: str, settings: Dict[str, Any], instance: str, rehearsal: bool = False) -> Spec:
    """How to start *release*, which has *settings*, as *instance*."""
    run = settings["run"]
    secrets = paths.secrets_of(release)
    return Spec(
        id=instance,
        release=release,
        app=settings["app"],
        argv=tuple(run["command"]),
        cwd=str(paths.release(release)),
        # PATH and the like are those of who pushed, not of who first started the keeper: the gates saw the same ones.
        env={**base_environment(os.environ), **run["env"]},
        env_file=str(paths.shared / run["env_file"]) if run["env_file"] else None,
        secrets_file=str(secrets) if run["secrets"] else None,
        socket=sockets.below(run["socket"], paths.shared),
        port=int(run["ports"][0]) if run["ports"] else None,
        rehearsal=rehearsal,
        drain=DrainOrder.from_settings(settings["drain"]).to_json(),
        overlap=settings.get("strategy") == "overlap",
        private_health=bool(settings["health"].get("private")),
        gate=bool(settings["health"].get("private")) and not rehearsal,
    )


def record(state: State, request: Request, at: float) -> None:
    """From here on whoever comes next knows of the deploy, and finishes or undoes it."""
    with state.transaction():
        state.set_meta("app", request.settings["app"])
        state.insert(
            "deploys", id=request.deploy, kind=request.kind, who=request.who, started_at=at, release=request.release,
            previous=request.previous_release, step="commit", request=vars(request),
        )  # fmt: skip


def settings_of(state: State, release: str) -> Optional[Dict[str, Any]]:
    """The settings that *release* was pushed with; None for one that is not ours."""
    row = state.row("SELECT settings FROM releases WHERE id=?", release)
    found: Optional[Dict[str, Any]] = json.loads(row["settings"]) if row and row["settings"] else None
    return found


def unfinished(state: Optional[State]) -> Optional[Row]:
    """
    The row of the deploy that has not ended and needs the lock, of the newest if there are more; None when there is none, or no
    record.
    """
    if state is None:
        return None
    return state.row(
        "SELECT * FROM deploys WHERE ended_at IS NULL AND (step IS NULL OR step!=?) ORDER BY started_at DESC LIMIT 1",
        DRAIN,
    )


def in_drain(state: Optional[State]) -> List[Row]:
    """The deploys whose new release serves, and which only wait for their drains, without the lock; the oldest first."""
    if state is None:
        return []
    return state.rows("SELECT * FROM deploys WHERE ended_at IS NULL AND step=? ORDER BY started_at", DRAIN)
