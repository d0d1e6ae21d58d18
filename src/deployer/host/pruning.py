"""After the swap: what is no longer needed goes, never what is in use, good to roll back to, or still asked about."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Set

from deployer.host import disk, drain_history, log_tails
from deployer.host.beside import seen
from deployer.host.beside.homes import homes
from deployer.host.boot import launcher
from deployer.host.deploy import Deploy
from deployer.host.drain import CRASH
from deployer.host.state import State
from deployer.host.store import Store
from deployer.host.supervisors import choose

ENGINES_KEPT = 3
"""Copies of the engine that are kept: the last used is the one that the keeper runs."""
LEFT_OVER_AFTER = 3600.0
"""Seconds until half a copy of the engine belongs to nobody."""
OUTPUTS_KEPT = 20
"""Deploys whose install and check output is kept."""

RECORDS_KEPT = 500
"""
Ended deploys, and instances without one, whose record is kept: years for who pushes daily, a few megabytes of state.db for
who pushes at every commit.
"""


def prune(deploy: Deploy) -> None:
    """Remove old releases, never one in use or the newest good one to roll back to."""
    log_tails.keep(deploy)  # while the secrets that must not be in it are still known
    releases = deploy.releases
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
    owner = choose.owner_on(deploy.paths, deploy.request.target, deploy.request.settings)
    if owner is not None and removed:
        owner.forget(deploy.request.settings["app"], [str(release) for release in releases.listing()])
    prune_records(deploy.state)
    _prune_beside(deploy)
    _prune_private(deploy)
    _prune_ends(deploy)
    store = Store(deploy.paths.store)
    store.forget_partial()
    if removed:
        store.collect({blob for release in releases.listing() for blob in releases.blobs(release)})
        deploy.journal.event("prune.finished", removed=removed)


def prune_records(state: State, kept: int = RECORDS_KEPT) -> None:
    """
    Forget what was recorded of deploys beyond the *kept* newest ended ones, all of it or nothing.

    Never an instance that lives, is wanted, or is the last that proved itself (it may be the one to start again); never a
    drain that tells what to expect of the next; never the last good deploy of a release that is here (a rollback asks it).
    """
    with state.transaction():
        state.execute("CREATE TEMP TABLE IF NOT EXISTS gone (deploy TEXT PRIMARY KEY)")
        state.execute("DELETE FROM gone")
        state.execute(
            "INSERT INTO gone SELECT id FROM deploys WHERE ended_at IS NOT NULL ORDER BY started_at DESC, rowid DESC "
            "LIMIT -1 OFFSET ?", kept,
        )  # fmt: skip
        for table in ("events", "journal"):
            state.execute(f"DELETE FROM {table} WHERE deploy IN gone")
        _prune_drains(state)
        _prune_instances(state, kept)
        state.execute("DELETE FROM signals WHERE instance NOT IN (SELECT id FROM instances)")
        state.execute(
            "DELETE FROM deploys WHERE id IN gone AND id NOT IN (SELECT id FROM (SELECT id, max(started_at) FROM deploys "
            "WHERE status='done' AND kind IN ('push','rollback') AND release IN (SELECT id FROM releases) GROUP BY release))"
        )


def _prune_drains(state: State) -> None:
    counted = drain_history.counted(state)
    marks = ",".join("?" * len(counted))
    state.execute(
        f"DELETE FROM drains WHERE verdict IS NOT NULL AND instance NOT IN ({marks}) AND "
        "(deploy IN gone OR deploy NOT IN (SELECT id FROM deploys))", *counted,
    )  # fmt: skip


def _prune_instances(state: State, kept: int) -> None:
    """Ended instances of forgotten deploys; of the others, those beyond the newest: a crash loop makes many under one deploy."""
    state.execute(
        "DELETE FROM instances WHERE state='ended' AND id IS NOT (SELECT value FROM meta WHERE key='desired') "
        "AND id IS NOT (SELECT id FROM instances WHERE confirmed=1 ORDER BY created_at DESC, rowid DESC LIMIT 1) "
        "AND id NOT IN (SELECT instance FROM drains WHERE who IS NOT ?) "
        "AND (deploy IN gone OR deploy NOT IN (SELECT id FROM deploys) "
        "OR id NOT IN (SELECT id FROM instances ORDER BY created_at DESC, rowid DESC LIMIT ?))",
        CRASH, kept,
    )  # fmt: skip
    state.execute("DELETE FROM drains WHERE verdict IS NOT NULL AND instance NOT IN (SELECT id FROM instances)")


def _prune_beside(deploy: Deploy) -> None:
    """What the services beside the app have recorded: a crash loop of one makes as many instances as one of the app."""
    for paths in homes(deploy.paths).values():
        state = State(paths.state)
        try:
            prune_records(state)
        finally:
            state.close()


def _prune_private(deploy: Deploy) -> None:
    """The environments of adopted services that have been replaced for good, and what old gates printed."""
    running = _running(deploy)
    for path in deploy.paths.secrets.glob("adopted-*.json"):
        if path.stem not in running:
            path.unlink(missing_ok=True)
    for old in sorted(deploy.paths.deploys.iterdir())[:-OUTPUTS_KEPT]:
        disk.remove_tree(str(old))
    launcher.refresh(deploy.paths)  # first: it may name an engine that goes now
    engines = sorted(deploy.paths.engines.glob("[!.]*"), key=lambda path: path.stat().st_mtime)
    for old in engines[:-ENGINES_KEPT] + [path for path in deploy.paths.engines.glob(".*") if _is_left_over(path)]:
        disk.remove_tree(str(old))


def _prune_ends(deploy: Deploy) -> None:
    """What runners of ended deploys that were killed have left behind: the sockets and locks of those who live stay."""
    living = {row["id"] for row in deploy.state.rows("SELECT id FROM deploys WHERE ended_at IS NULL")}
    for pattern in ("runner-*.sock", "drain-*.lock"):
        for path in deploy.paths.run.glob(pattern):
            if path.stem.partition("-")[2] not in living:
                path.unlink(missing_ok=True)


def _is_left_over(path: Path) -> bool:
    """Whether a copy that is being made has been so for too long: whoever made it was killed."""
    try:
        return path.stat().st_mtime < time.time() - LEFT_OVER_AFTER
    except FileNotFoundError:
        return False


def _running(deploy: Deploy) -> Set[str]:
    return {one["release"] for one in deploy.supervisor.status()["instances"]} | seen.in_use(deploy.paths)
