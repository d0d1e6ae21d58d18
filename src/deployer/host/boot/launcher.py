"""
`.deployer/boot`: the one stable name under which a reboot finds the engine, whose copies come and go.

A shell script, so that it can fall back where the engine or the Python that it names has gone.
"""

from __future__ import annotations

import os
import shlex
from typing import Mapping

from deployer.host import disk, engine
from deployer.host.paths import HostPaths
from deployer.host.spawn import base_environment

_ONLY_NOW = ("XDG_RUNTIME_DIR", "TMPDIR")
"""Of the environment of an app: what belongs to the session of whoever calls."""

_TEXT = """#!/bin/sh
# Starts what should run of the app at {root} after a reboot. Written by deployer, and anew by every push.
# `deployer enable` has made it, `deployer disable` removes it.
{exports}
python={python}
engine={main}
[ -x "$python" ] || python=python3
[ -f "$engine" ] || engine=$(ls -t {engines}/*/deployer/host/__main__.py 2>/dev/null | head -n 1)
[ -n "$engine" ] || {{ echo "deployer: there is no engine below {shown}; push again" >&2; exit 1; }}
exec "$python" -I -S -X utf8 "$engine" boot "${{1:-start}}" {root_word}
"""


def write(paths: HostPaths) -> bool:
    """Make the launcher start this engine, with the environment that an app gets from us now. Whether it was another one."""
    package = engine.install(paths)
    text = _text(paths, str(package / "host" / "__main__.py"), base_environment(os.environ))
    if _content(paths) == text:
        return False
    disk.write_atomically(str(paths.boot), text.encode("utf-8", "surrogateescape"))
    return True


def refresh(paths: HostPaths) -> None:
    """As `write`, where there is one at all; a disk that refuses it fails nothing: the launcher finds another engine."""
    if not paths.boot.exists():
        return
    try:
        write(paths)
    except OSError:
        pass


def remove(paths: HostPaths) -> bool:
    """Whether there was one."""
    try:
        paths.boot.unlink()
    except FileNotFoundError:
        return False
    return True


def _text(paths: HostPaths, main: str, environment: Mapping[str, str]) -> str:
    kept = sorted(name for name in environment if name not in _ONLY_NOW)
    root = str(paths.root)
    return _TEXT.format(
        root=root.replace("\n", "?"), shown=shlex.quote(root).replace('"', ""), root_word=shlex.quote(root),
        exports="\n".join(f"export {name}={shlex.quote(environment[name])}" for name in kept),
        python=shlex.quote(engine.python()), main=shlex.quote(main), engines=shlex.quote(str(paths.engines)),
    )  # fmt: skip


def _content(paths: HostPaths) -> str:
    try:
        return paths.boot.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ""
