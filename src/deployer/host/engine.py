"""The engine's own files and processes: which code this is, a copy that outlives the client, how to start a part of it."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional

import deployer
from deployer.host import disk
from deployer.host.paths import HostPaths

PARTS = ("__init__.py", "errors.py", "durations.py", "manifest.py", "model.py", "wire", "host")


def source() -> Path:
    """The directory of the package this code was loaded from."""
    return Path(deployer.__file__).resolve().parent


def files(package: Path) -> Iterator[Path]:
    """The engine's source files below *package*, in a fixed order."""
    for part in PARTS:
        path = package / part
        if path.is_file():
            yield path
        else:
            yield from sorted(path.rglob("*.py"))


def digest(package: Path) -> str:
    """A name for exactly this engine."""
    whole = hashlib.sha256()
    for path in files(package):
        whole.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def install(paths: HostPaths) -> Path:
    """
    The package directory of a copy of this engine below `.deployer/engine`, made if it is not there yet.

    Keeper and runner live longer than the client's virtual environment may.
    """
    package = source()
    home = paths.engines / digest(package)
    target = home / "deployer"
    if target == package or _whole(home):
        _touch(home)
        return target
    building = paths.engines / f".{home.name}.{os.getpid()}"
    try:
        _copy(package, building / "deployer")
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


def _touch(home: Path) -> None:
    try:
        os.utime(home)  # pruning goes by the time of the last use
    except OSError:
        pass  # a disk that is read-only prunes nothing either


def _copy(package: Path, target: Path) -> None:
    for path in files(package):
        copy = target / path.relative_to(package)
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())


def _whole(home: Path) -> bool:
    # A power cut may have left files empty that had been written: by its name it can be told.
    return (home / "deployer").is_dir() and digest(home / "deployer") == home.name


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
