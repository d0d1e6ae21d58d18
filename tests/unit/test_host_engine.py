"""The copy of the engine that outlives the client: whole, and made once."""

from __future__ import annotations

from pathlib import Path

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


def test_torn_copy_is_made_anew(tmp_path: Path) -> None:
    copy = installed(tmp_path)
    (copy / "errors.py").write_bytes(b"")
    (copy / "host" / "keeper.py").unlink()
    assert engine.digest(installed(tmp_path)) == engine.digest(engine.source())
