"""Who may go on with a deploy whose runner died: one runner, with the lock that the deploy's step needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.host import runner_process
from deployer.host.deploy import DRAIN
from deployer.host.lock import DeployLock, free
from deployer.host.paths import HostPaths
from deployer.host.state import State

Row = dict[str, object]


@pytest.mark.parametrize("ends", [False, True])
def test_deploy_that_another_runner_has_brought_to_its_drains_meanwhile_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    paths = HostPaths(tmp_path)
    paths.prepare_private()
    state, other = State(paths.state), DeployLock(paths.drain_lock("d1"))
    state.insert("deploys", id="d1", kind="push", who="me", started_at=1.0, step="prune")
    takes = runner_process._take_lock

    def later(paths: HostPaths, row: Row) -> DeployLock | None:
        """Between our look and the lock the other one, which held it, has let go."""
        if row["step"] != DRAIN:
            other.acquire({"deploy": "d1"}, 0)
            state.update("deploys", "d1", **({"ended_at": 2.0} if ends else {"step": DRAIN}))
        return takes(paths, row)

    monkeypatch.setattr(runner_process, "_take_lock", later)
    monkeypatch.setattr(runner_process, "_quiet_signals", lambda: None)  # of this process, that is
    assert runner_process.main([str(tmp_path), "d1"]) == 0
    assert free(paths.lock)
    assert state.rows("SELECT * FROM events") == []
    other.release()
