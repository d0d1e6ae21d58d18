"""What units have said, read from systemd's journal through `journalctl`."""

from __future__ import annotations

import io
import os
import select
import subprocess
from typing import Any, Callable, Dict, List, Mapping, Optional

from deployer.host.say import say
from deployer.wire import frames

ANSWER_WITHIN = 15.0


def kept(owner: Optional[Mapping[str, Any]]) -> bool:
    """Whether the output of an instance with `Spec.owner` *owner* goes to the journal."""
    return bool(owner and owner.get("journal"))


def tail(owner: Mapping[str, Any], lines: int, since: float, until: Optional[float] = None) -> List[str]:
    """The last *lines* lines of a unit from *since* to *until* (seconds since 1970); none where the journal cannot be read."""
    span = [f"--since=@{since:.6f}", *([f"--until=@{until:.6f}"] if until else [])]
    argv = [*_argv(owner, str(owner["unit"])), f"--lines={lines}", *span]
    try:
        subprocess.run(["journalctl", "--sync"], capture_output=True, timeout=ANSWER_WITHIN, env=_environment())
        done = subprocess.run(
            argv, capture_output=True, timeout=ANSWER_WITHIN, env=_environment(), stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        say(f"the journal was not read: {error}")
        return []
    return done.stdout.decode("utf-8", "replace").splitlines()


def follow(
    owner: Mapping[str, Any], app: str, lines: int, goes_on: bool, send: Callable[[frames.Frame], None], client: int
) -> None:
    """Send the last *lines* lines of all units of *app* as bytes, and with *goes_on* what comes, until *client* closes."""
    argv = [*_argv(owner, f"{app}@*.service"), f"--lines={lines}", *(["--follow"] if goes_on else [])]
    reading = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=_environment()
    )
    assert reading.stdout is not None
    output = reading.stdout.fileno()
    try:
        while True:
            readable = select.select([output, client], [], [])[0]
            data = os.read(output, 65536) if output in readable else b""
            for piece in frames.slices(io.BytesIO(data)):
                send(piece)
            if (output in readable and not data) or client in readable:
                return
    finally:
        reading.kill()
        reading.wait()
        reading.stdout.close()


def _argv(owner: Mapping[str, Any], unit: str) -> List[str]:
    # Not `--user --unit`: users below 1000, root among them, have no journal of their own.
    which = "--user-unit" if owner.get("scope") == "user" else "--unit"
    return ["journalctl", f"{which}={unit}", "--output=cat", "--no-pager", "--quiet"]


def _environment() -> Dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
