"""The copy of the engine that outlives the client: whole, and made once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import deployer
import parts
from deployer.host import engine
from deployer.host.paths import HostPaths


def installed(tmp_path: Path) -> Path:
    paths = HostPaths(tmp_path)
    paths.prepare_private()
    return engine.install(paths)


def test_copy_is_exactly_this_engine_and_is_made_once(tmp_path: Path) -> None:
    copy = installed(tmp_path)
    assert engine.digest(copy) == engine.digest(engine.source()) == copy.parent.name
    before = (copy / "errors.py").stat()
    assert installed(tmp_path) == copy and (copy / "errors.py").stat().st_ino == before.st_ino


def test_name_of_an_engine_that_the_loader_has_proven_is_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.own_digest() == engine.digest(engine.source())
    monkeypatch.setattr(deployer, "__digest__", "proven", raising=False)
    assert engine.own_digest() == "proven"


def test_torn_copy_is_made_anew(tmp_path: Path) -> None:
    copy = installed(tmp_path)
    (copy / "errors.py").write_bytes(b"")
    (copy / "host" / "keeper.py").unlink()
    assert engine.digest(installed(tmp_path)) == engine.digest(engine.source())


@pytest.mark.parametrize(
    "open_to_others", ["deployer/host/__pycache__", "deployer/host", "deployer/errors.py", "", ".."]
)
def test_copy_that_others_could_have_written_to_is_not_believed(tmp_path: Path, open_to_others: str) -> None:
    copy = installed(tmp_path)
    planted = copy / "host" / "__pycache__" / "agent.cpython-311.pyc"
    planted.parent.mkdir(exist_ok=True)
    planted.write_bytes(b"planted")
    assert installed(tmp_path) == copy and planted.exists()  # what only we can write to is kept
    os.chmod(copy.parent / open_to_others, 0o775)
    assert installed(tmp_path) == copy and not planted.exists()


def test_copy_of_another_user_is_not_believed(tmp_path: Path) -> None:
    parts.need_root()
    copy = installed(tmp_path)
    os.chown(copy / "errors.py", 12345, -1)
    installed(tmp_path)
    assert (copy / "errors.py").stat().st_uid == 0


def test_copy_that_the_disk_refuses_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OSError):
        installed(tmp_path)
    assert os.listdir(HostPaths(tmp_path).engines) == []
