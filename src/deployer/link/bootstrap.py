"""
The one command that is ever run on a host, and the first words with what it starts.

The command is a constant: nothing from a config, an environment or a person is pasted into it. It finds a Python (3.9 or
newer) that reads `host/loader.py` from its stdin; everything else travels in frames.
"""

from __future__ import annotations

import shlex
import zlib
from collections.abc import Callable

from deployer.errors import DeployerError, LinkError, PreflightError
from deployer.link.bundle import bundle
from deployer.link.pipe import End, Pipe
from deployer.wire import frames

NO_PYTHON, NO_SUDO = 91, 92
_TOO_OLD = 90
MAGIC = b"\ndeployer-engine-1\n"
NOISE = 64 * 1024
"""What a login shell may print before the engine speaks."""

_PYTHONS = (
    "python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 "
    "/usr/local/bin/python3 /opt/homebrew/bin/python3"
)
# No quote, no "$", no backslash, no "!": it stands between double quotes in sh, and between single ones in any login shell.
_PROGRAM = (
    "import os,sys;sys.version_info<(3,9)and sys.exit(90);"
    "sys.excepthook=lambda*_:os._exit(90);import zlib;sys.excepthook=sys.__excepthook__;"  # some are built without it
    "exactly=lambda n:n and(lambda b:b+exactly(n-len(b))if b else os._exit(1))(os.read(0,n))or bytes();"
    "exec(zlib.decompress(exactly(int(exactly(8)))))"
)
_FIND = (
    f"for p in {_PYTHONS}; do command -v $p >/dev/null 2>&1 || continue; "
    # The mark of our own processes: by it somebody who aborts finds the agent, and nobody takes it for part of the app.
    f'DEPLOYER_ENGINE=agent $p -I -S -X utf8 -c "{_PROGRAM}" "$1"; s=$?; [ $s = {_TOO_OLD} ] || exit $s; '
    'old="$old $p"; done; echo "too old:$old" >&2; '
    f"exit {NO_PYTHON}"
)
_SUDO = f'command -v sudo >/dev/null 2>&1 || exit {NO_SUDO}; exec sudo -n -- /bin/sh -c "$1" sh "$2"'


def command(become: str | None) -> str:
    """What the host's login shell is given: sh, bash, zsh, fish and csh read it alike."""
    if become == "sudo":
        return f'exec /bin/sh -c {shlex.quote(_SUDO)} sh {shlex.quote(_FIND)} "$HOME"'
    return f'exec /bin/sh -c {shlex.quote(_FIND)} sh "$HOME"'


def greet(
    pipe: Pipe, decoder: frames.Decoder, host: str, path: str, pulse: tuple[float, float], become: str | None = None,
    heard: Callable[[], None] = lambda: None,
) -> list[frames.Frame]:  # fmt: skip
    """
    Bring the engine up at the other end; what it has said beyond the greeting is in *decoder*, and returned as far as it is whole.

    *pulse* is the beat and the longest silence, in seconds; *heard* is called
    whenever something came. Raises PreflightError when the host cannot run it, LinkError when
    the link breaks.
    """
    engine = bundle()
    loader = zlib.compress(engine.loader, 9)
    asked = {"engine": engine.digest, "path": path, "argv": [str(seconds) for seconds in pulse]}
    try:
        pipe.write(b"%08d" % len(loader) + loader + frames.pack(asked))
        seen = _after_magic(pipe, host, become, heard)
        while not (found := decoder.feed(seen)):
            seen = _read(pipe, host, become)
            heard()
        answer = found[0]
        if not isinstance(answer, dict):
            raise frames.BrokenFrame("its greeting is no message")
        if not answer.get("have"):
            pipe.write(frames.pack(engine.packed()))
    except OSError as error:
        raise refused(pipe.end(), host, become, _rest(pipe), str(error)) from error
    except frames.BrokenFrame as error:
        raise LinkError(f"{host} does not speak our protocol", cause=str(error)) from error
    return found[1:]


def _after_magic(pipe: Pipe, host: str, become: str | None, heard: Callable[[], None]) -> bytes:
    seen = b""
    while MAGIC not in seen:
        seen += _read(pipe, host, become, seen)
        heard()
        if len(seen) > NOISE:
            raise PreflightError(
                f"{host} printed something else than the engine's greeting",
                cause=_shown(seen),
                state="nothing was changed",
                hint="a login script (.bashrc) prints without end: let it print only where a terminal is",
            )
    return seen.partition(MAGIC)[2]


def _read(pipe: Pipe, host: str, become: str | None, seen: bytes = b"") -> bytes:
    data = pipe.read(65536)
    if not data:
        raise refused(pipe.end(), host, become, seen)
    return data


def _rest(pipe: Pipe) -> bytes:
    """What it printed before it hung up on us."""
    seen = b""
    try:
        while len(seen) < NOISE and pipe.ready() and (data := pipe.read(65536)):
            seen += data
    except OSError:
        pass  # that was all
    return seen


def refused(end: End, host: str, become: str | None, seen: bytes, broken: str | None = None) -> DeployerError:
    """Why there is no engine at the other end, which printed *seen* instead."""
    if end.error is not None:
        return end.error
    said = end.said.strip()[-1000:]
    untouched = "nothing was changed"
    if end.status == NO_PYTHON:
        old = said.rpartition("too old:")[2].split()
        cause = (
            f"found only {', '.join(old)}, older than 3.9 or without zlib" if old else "there is no python3 in its PATH"
        )
        return PreflightError(
            f"{host} has no Python 3.9 or newer", cause=cause, state=untouched, hint="install python3 there"
        )
    if end.status == NO_SUDO:
        return PreflightError(
            f"{host} has no sudo", cause='become = "sudo", and no sudo is in its PATH', state=untouched,
            hint="install sudo there, or log in as the app's user and remove become",
        )  # fmt: skip
    if become and end.status == 1 and "sudo" in said:
        return PreflightError(
            f"sudo on {host} refused us", cause=said or None, state=untouched,
            hint="allow it without a password (NOPASSWD in sudoers), or remove become",
        )  # fmt: skip
    ended = f"it ended with status {end.status}" if end.status is not None else "the link closed"
    cause = said or _shown(seen) or broken or ended
    hint = "can this user run commands there? try `ssh HOST true`; its login shell may end at once, or be none"
    return LinkError(f"the host engine did not start on {host}", cause=cause, state=untouched, hint=hint)


def _shown(seen: bytes) -> str:
    """The beginning of what a login shell printed, without what would move a terminal's cursor."""
    text = seen[:200].decode("utf-8", "replace").strip()
    return "".join(char if char.isprintable() or char == "\n" else "·" for char in text)
