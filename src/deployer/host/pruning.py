"""After the swap: what is no longer needed goes, never what is in use or good to roll back to."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Set

from deployer.host import disk
from deployer.host.deploy import Deploy
from deployer.host.releases import Releases
from deployer.host.store import Store

ENGINES_KEPT = 3
"""Copies of the engine that are kept: the last used is the one that the keeper runs."""
LEFT_OVER_AFTER = 3600.0
"""Seconds until half a copy of the engine belongs to nobody."""
OUTPUTS_KEPT = 20
"""Deploys whose install and check output is kept."""


def prune(deploy: Deploy) -> None:
    """Remove old releases, never one in use or the newest good one to roll back to."""
    releases = Releases(deploy.paths.root)
    releases.forget_way_back()
    rows = deploy.state.rows("SELECT id, state FROM releases ORDER BY created_at DESC, id DESC")
    good = [row["id"] for row in rows if row["state"] == "good"]
    failed = [row["id"] for row in rows if row["state"] != "good" and row["id"] != deploy.request.release]
    replaced = deploy.request.previous_release or ""  # what a rollback goes to first
    protected = {str(deploy.request.release), replaced, *good[:2], releases.current() or ""} | _running(deploy)
    removed = releases.prune(int(deploy.request.target["keep"]), protected, good)
    removed += releases.prune(0, protected, failed[1:])  # the newest failed one may still be looked at
    for release in removed:
        deploy.state.execute("DELETE FROM releases WHERE id=?", release)
        deploy.paths.secrets_of(release).unlink(missing_ok=True)
    _prune_private(deploy)
    if removed:
        kept = [manifest for manifest in map(releases.manifest, releases.listing()) if manifest is not None]
        Store(deploy.paths.store).collect(kept)
        deploy.journal.event("prune.finished", removed=removed)


def _prune_private(deploy: Deploy) -> None:
    """The environments of adopted services that have been replaced for good, and what old gates printed."""
    running = _running(deploy)
    for path in deploy.paths.secrets.glob("adopted-*.json"):
        if path.stem not in running:
            path.unlink(missing_ok=True)
    for old in sorted(deploy.paths.deploys.iterdir())[:-OUTPUTS_KEPT]:
        disk.remove_tree(str(old))
    engines = sorted(deploy.paths.engines.glob("[!.]*"), key=lambda path: path.stat().st_mtime)
    for old in engines[:-ENGINES_KEPT] + [path for path in deploy.paths.engines.glob(".*") if _is_left_over(path)]:
        disk.remove_tree(str(old))


def _is_left_over(path: Path) -> bool:
    """Whether a copy that is being made has been so for too long: whoever made it was killed."""
    try:
        return path.stat().st_mtime < time.time() - LEFT_OVER_AFTER
    except FileNotFoundError:
        return False


def _running(deploy: Deploy) -> Set[str]:
    return {one["release"] for one in deploy.supervisor.status()["instances"]}
