"""A command that finds an interrupted deploy: it is finished first, or nothing else begins."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from deployer.errors import PreflightError
from deployer.host.claim import RESUMED_AT_MOST, Claim
from deployer.host.lock import free
from deployer.host.paths import HostPaths
from deployer.host.state import State
from deployer.host.supervisors import builtin

WHO = {"deploy": "d2", "kind": "push", "who": "me", "target": {}}


@pytest.fixture
def client() -> Iterator[BinaryIO]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream:
        yield stream
    os.close(writer)


def interrupted(path: Path, client: BinaryIO) -> Claim:
    """A claim on the lock of a host where d1 has not ended."""
    paths = HostPaths(path)
    paths.prepare_private()
    State(paths.state).insert("deploys", id="d1", kind="push", started_at=1.0, step="replace")
    return Claim(paths, WHO, client.fileno(), lambda event: None)


def resumes(monkeypatch: pytest.MonkeyPatch, finish: bool) -> list[str]:
    """The deploys for which a runner was started; each dies at once, after it has finished its deploy where *finish*."""
    asked: list[str] = []
    runners: list[subprocess.Popen[bytes]] = []  # nobody buries them while the agent looks: a forgotten Popen would

    def resume(paths: HostPaths, deploy: str) -> int:
        asked.append(deploy)
        if finish:
            State(paths.state).update("deploys", deploy, ended_at=2.0)
        runners.append(subprocess.Popen(["true"]))
        return runners[-1].pid

    monkeypatch.setattr(builtin, "resume", resume)
    return asked


def test_interrupted_deploy_is_finished_first(
    tmp_path: Path, client: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, asked = interrupted(tmp_path, client), resumes(monkeypatch, finish=True)
    claim.take()
    assert (asked, claim.held) == (["d1"], True)
    claim.release()


def test_no_deploy_begins_beside_one_whose_runners_die(
    tmp_path: Path, client: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, asked = interrupted(tmp_path, client), resumes(monkeypatch, finish=False)
    with pytest.raises(PreflightError, match="interrupted deploy"):
        claim.take()
    assert (asked, claim.held) == (["d1"] * RESUMED_AT_MOST, False)
    assert free(tmp_path / ".deployer" / "lock"), "nobody else could bring it to an end"
