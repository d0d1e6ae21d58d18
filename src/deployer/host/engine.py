"""The engine's own files and processes: which code this is, a copy that outlives the client, how to start a part of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Dict, List, Mapping, Optional

import deployer
from deployer.host import disk
from deployer.host.paths import HostPaths
from deployer.wire import source as source_files


def source() -> Path:
    """The directory of the package this code was loaded from. Not for an engine that came as a bundle: it has none."""
    return Path(deployer.__file__).resolve().parent


def sources() -> Dict[str, bytes]:
    """The engine's files by name, "deployer/host/agent.py"; from the disk, or from the bundle that it came as."""
    bundled: Optional[Dict[str, bytes]] = getattr(deployer, "__bundle__", None)
    if bundled is not None:
        return bundled
    return source_files.collect(source())


def own_digest() -> str:
    """The name of the engine that runs here. The loader has just proven it: nobody reads all the files a second time."""
    proven: Optional[str] = getattr(deployer, "__digest__", None)
    return proven or source_files.digest(sources())


def digest(package: Path) -> str:
    """A name for exactly the engine at *package*."""
    return source_files.digest(source_files.collect(package))


def install(paths: HostPaths) -> Path:
    """
    The package directory of a copy of this engine below `.deployer/engine`, made if it is not there yet.

    Keeper and runner live longer than the client's virtual environment may.
    """
    home = paths.engines / own_digest()
    target = home / "deployer"
    if _runs_from(target) or _whole(home):
        _touch(home)
        return target
    building = paths.engines / f".{home.name}.{os.getpid()}"
    try:
        _write(sources(), building)
        if home.exists():
            os.replace(home, building.with_name(f"{building.name}.torn"))
        os.replace(building, home)
    except OSError:
        if not _whole(home):  # somebody else was quicker is fine; anything else is not
            raise
    finally:
        disk.remove_quietly(str(building))  # a full disk must not be filled further by every attempt
        disk.remove_quietly(f"{building}.torn")
    return target


def _runs_from(package: Path) -> bool:
    return not hasattr(deployer, "__bundle__") and source() == package


def _touch(home: Path) -> None:
    try:
        os.utime(home)  # pruning goes by the time of the last use
    except OSError:
        pass  # a disk that is read-only prunes nothing either


def _write(own: Mapping[str, bytes], directory: Path) -> None:
    for name, content in own.items():
        path = directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)


def _whole(home: Path) -> bool:
    # A power cut may have left files empty that had been written: by its name it can be told.
    return (home / "deployer").is_dir() and _ours(home) and digest(home / "deployer") == home.name


def _ours(home: Path) -> bool:
    """
    Whether only we, or root, could have written what would run from *home*. `host/loader.py` asks in the same way.

    A compiled file is believed by the time and size of its source alone. None is older than its engine, which is made whole
    under another name and moved here; Python writes each beside its name and moves it too.
    """
    trusted = (0, os.geteuid())
    try:
        found = [os.lstat(place) for place in (home.parent.parent, home.parent, home, *home.rglob("*"))]
    except OSError:
        return False
    return all(one.st_uid in trusted and not one.st_mode & 0o022 for one in found)


def argv(package: Path, role: str, *args: str) -> List[str]:
    """How to start *role* (agent, keeper, resume) of the engine at *package*: isolated, no site-packages."""
    return [python(), "-I", "-S", "-X", "utf8", str(package / "host" / "__main__.py"), role, *args]


def python() -> str:
    """An interpreter that stays when a virtual environment goes."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    return str(base or sys.executable)


def environment(role: str, base: Optional[Mapping[str, str]] = None) -> Dict[str, str]:
    """The environment of one of our own processes: what the app may know, and the mark that it is never part of an app."""
    from deployer.host.spawn import base_environment

    kept = base_environment(os.environ if base is None else base)
    kept["DEPLOYER_ENGINE"] = role
    return kept
