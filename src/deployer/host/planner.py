"""From what a client asked and what the host shows to the request that a runner carries out."""

from __future__ import annotations

import json
from dataclasses import replace as changed
from typing import Any, Dict, List, Optional

from deployer.errors import UsageError
from deployer.host import spawn
from deployer.host.beside import changes
from deployer.host.deploy import Request, settings_of
from deployer.host.instance import new_instance_id
from deployer.host.paths import HostPaths
from deployer.host.plan import RUN, Want, plan, serves, unchanged
from deployer.host.releases import Releases
from deployer.host.state import State
from deployer.host.supervisors import choose
from deployer.manifest import Manifest, release_digest

Params = Dict[str, Any]


class Planner:
    """Turns what a client asked and what the host shows into a Request."""

    def __init__(
        self,
        paths: HostPaths,
        params: Params,
        facts: Params,
        manifest: Optional[Manifest],
        state: Optional[State],
        received: int,
    ) -> None:
        self._paths = paths
        self._params = params
        self._facts = facts
        self._manifest = manifest
        self._state = state
        self._received = received

    def request(self) -> Request:
        params, facts, kind = self._params, self._facts, self._params["kind"]
        release = self._release(kind)
        settings = self._settings(kind, release)
        digest = release_digest(self._manifest.digest, settings) if self._manifest else None
        ready = self._ready(digest) if kind == RUN else None
        release = ready or release
        want = Want(
            kind=kind, settings=settings, drain=params["settings"]["drain"], release=release, release_hash=digest,
            files=len(self._manifest.files) if self._manifest else 0,
            bytes_total=self._manifest.bytes_total if self._manifest else 0,
            staged=kind not in ("push", RUN) or ready is not None, hashes=self._hashes(),
            same_secrets=kind != "push" or self._same_secrets(),
            pool=(params["target"].get("pool") or {}).get("kind"), same_owner=self._same_owner(settings),
            commands=params["target"].get("commands"),
        )  # fmt: skip
        if kind != RUN:
            want = self._beside(want)
        settings, release = want.settings, want.release
        steps = plan(facts, want)
        return Request(
            deploy=params["deploy"], kind=kind, who=params["who"], target=params["target"], settings=settings,
            drain=params["settings"]["drain"], release=release,
            release_hash=digest, instance=None if kind == "stop" else new_instance_id(), previous=self._previous(),
            previous_release=facts["current"], steps=[{"step": step.name, "what": step.what} for step in steps],
            bytes_sent=self._received, adopt=facts["adopt"], spec=self._foreign_spec(release),
            opened=params.get("opened"), gap=facts.get("gap"), services=want.services,
        )  # fmt: skip

    # Services beside the app -----------------------------------------------------------------------------------------

    def _beside(self, want: Want) -> Want:
        """*want* with what becomes of the services, and the release that is current where that is what is wanted."""
        settings = self._with_content(want.settings) if want.kind == "push" else want.settings
        want = changed(want, settings=settings, services=self._changes(want, settings))
        want = changed(want, same_app=self._same_app(settings, self._digest_of(want)))
        if want.kind != "push" or not unchanged(self._facts, want):
            return want
        if serves(self._facts, want):
            return changed(want, release=self._facts["current"], staged=True)
        return want if changes.changed(want.services) else changed(want, release=self._facts["instance"]["release"])

    def _with_content(self, settings: Params) -> Params:
        """*settings* in which each service says what its own files are: a rollback will ask."""
        known = self._params.get("service_files") or {}
        services = {
            name: {**table, "content": known[name]} if name in known else table
            for name, table in settings["services"].items()
        }
        return {**settings, "services": services}

    def _changes(self, want: Want, settings: Params) -> List[Params]:
        seen = self._facts.get("services") or []
        if want.kind == "stop":
            return changes.stopped(settings, seen)
        if want.kind == "restart":
            return []
        return changes.changes(settings, seen, [one["name"] for one in seen if self._rotated(one, want)])

    def _rotated(self, one: Params, want: Want) -> bool:
        """Whether the secrets of the service *one* have other values in what is wanted."""
        try:
            now = self._params.get("secrets") or {}
            if want.kind != "push":
                now = spawn.read_secrets(self._paths.secrets_of(str(want.release)))
            return spawn.read_secrets(self._paths.secrets_of(one["release"])) != now
        except UsageError:
            return True

    def _digest_of(self, want: Want) -> Optional[str]:
        """The digest of the content of *want*."""
        if self._manifest is not None:
            return self._manifest.digest
        manifest = Releases(self._paths.root).manifest(want.release) if want.release else None
        return manifest.digest if manifest is not None else None

    def _same_app(self, settings: Params, digest: Optional[str]) -> bool:
        """Whether what runs is of the content *digest* and of *settings*, but for the services."""
        release = (self._facts["instance"] or {}).get("release")
        kept = settings_of(self._state, release) if release and self._state is not None else None
        if kept is None or digest is None or not (settings.get("services") or kept.get("services")):
            return False
        manifest = Releases(self._paths.root).manifest(str(release))
        return manifest is not None and _of_the_app(manifest.digest, kept) == _of_the_app(digest, settings)

    def _serving(self) -> Optional[str]:
        """The release that serves: the current one also where a push has changed no more than its services."""
        running, current = (self._facts["instance"] or {}).get("release"), self._facts["current"]
        if running is None or current is None or current == running or self._state is None:
            return str(running) if running else None
        kept = settings_of(self._state, current)
        manifest = Releases(self._paths.root).manifest(current)
        good = any(row["id"] == current and row["state"] == "good" for row in self._facts["releases"])
        same = good and kept is not None and manifest is not None and self._same_app(kept, manifest.digest)
        return str(current) if same else str(running)

    def _release(self, kind: str) -> Optional[str]:
        if kind in ("push", RUN):
            return str(self._params["release"])
        if kind == "rollback":
            return self._rollback_release()
        serving = self._serving()
        if serving:
            return serving
        release = self._facts["last_good"] or self._facts["current"] or self._last_proven()
        if kind == "stop":
            return str(release) if release else None
        if not release:
            raise UsageError(
                f"there is no release to {kind}", state="nothing was changed", hint="push one first: deployer push"
            )
        return str(release)

    def _rollback_release(self) -> str:
        known = {row["id"]: row for row in self._facts["releases"]}
        asked = self._params.get("release")
        if asked:
            if asked not in known:
                have = ", ".join(known) or "none"
                raise UsageError(
                    f"release {asked} is not on this host",
                    cause=f"here are: {have}",
                    state="nothing was changed",
                    hint="deployer releases",
                )
            return str(asked)
        serving = self._serving() or self._facts["current"]
        good = [row["id"] for row in self._facts["releases"] if row["state"] == "good" and row["id"] != serving]
        older = [name for name in good if serving is None or self._created(known, name) < self._created(known, serving)]
        before = self._served_before(serving)
        if before in good:
            return str(before)
        if not older:
            raise UsageError(
                "there is no earlier good release to roll back to",
                cause=f"{serving} serves" if serving else "nothing was pushed here", state="nothing was changed",
                hint="name one of `deployer releases`, or push a fixed one",
            )  # fmt: skip
        return str(older[0])

    def _served_before(self, serving: Optional[str]) -> Optional[str]:
        """What the push of *serving* replaced. After a rollback this is not asked: twice back means further back."""
        if self._state is None:
            return None
        row = self._state.row(
            "SELECT kind, previous FROM deploys WHERE release=? AND status='done' AND kind IN ('push','rollback') "
            "ORDER BY started_at DESC LIMIT 1",
            serving,
        )
        return str(row["previous"]) if row and row["kind"] == "push" else None

    def _created(self, known: Dict[str, Params], name: Optional[str]) -> str:
        return str(known[name]["created_at"]) if name in known else "9999"

    def _ready(self, digest: Optional[str]) -> Optional[str]:
        """The release of this very content that has passed its gates: a job that runs every night is staged once."""
        rows = [row for row in self._facts["releases"] if row["hash"] == digest and row["state"] == "good"]
        return str(rows[0]["id"]) if rows and digest is not None else None

    def _settings(self, kind: str, release: Optional[str]) -> Params:
        if kind not in ("push", RUN) and release and self._state is not None:
            kept = settings_of(self._state, release)
            if kept is not None:
                return kept
        settings: Params = self._params["settings"]
        return settings

    def _last_proven(self) -> Optional[str]:
        """What ran last, where it was nothing of ours: a service that was adopted."""
        if self._state is None:
            return None
        row = self._state.row("SELECT release FROM instances WHERE confirmed=1 ORDER BY created_at DESC LIMIT 1")
        return str(row["release"]) if row else None

    def _foreign_spec(self, release: Optional[str]) -> Optional[Params]:
        """How to start an adopted service again, which has no release of ours."""
        if self._state is None or not release or settings_of(self._state, release) is not None:
            return None
        row = self._state.row("SELECT spec FROM instances WHERE release=? ORDER BY created_at DESC LIMIT 1", release)
        found: Optional[Params] = json.loads(row["spec"]) if row else None
        return found

    def _same_secrets(self) -> bool:
        running = self._facts["instance"]
        try:
            return bool(running) and spawn.read_secrets(self._paths.secrets_of(running["release"])) == (
                self._params.get("secrets") or {}
            )
        except UsageError:
            return False  # those of the running release are damaged: this push brings them anew

    def _same_owner(self, settings: Params) -> bool:
        """Whether what runs belongs to the supervisor of the config: a push moves it there."""
        running = self._facts["instance"]
        row = (
            self._state.row("SELECT spec FROM instances WHERE id=?", running["id"]) if running and self._state else None
        )
        now = json.loads(row["spec"]).get("owner") if row else None
        wanted = choose.setting(self._params["target"], settings)
        return row is None or [(now or {}).get(key) for key in ("kind", "scope")] == [
            (wanted or {}).get(key) for key in ("kind", "scope")
        ]

    def _hashes(self) -> Dict[str, str]:
        return {row["id"]: row["hash"] for row in self._facts["releases"]}

    def _previous(self) -> Optional[Params]:
        # What runs; else what should: a release that keeps crashing is still the one to go back to.
        instance = (self._facts["instance"] or {}).get("id") or self._facts["desired"]
        if instance and self._state is not None:
            row = self._state.row("SELECT release, spec FROM instances WHERE id=?", instance)
            if row:
                return {"spec": json.loads(row["spec"]), "settings": settings_of(self._state, row["release"])}
        if self._facts["adopt"]:
            return {"spec": {"id": new_instance_id(), "release": "adopted"}, "settings": None}
        return None


def _of_the_app(manifest: str, settings: Params) -> str:
    return release_digest(manifest, {name: value for name, value in settings.items() if name != "services"})
