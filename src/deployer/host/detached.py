"""Processes of the engine that outlive whoever starts them: in a session of their own, with the engine's log as their stderr."""

from __future__ import annotations

import os
import signal
from typing import List, Mapping, Optional

from deployer.host.paths import HostPaths


def open_log(paths: HostPaths) -> int:
    """A descriptor for the engine's log; one for nowhere when the disk refuses that: what has to be done matters more."""
    try:
        return os.open(paths.engine_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


_AS_LEADER = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"


def start_detached(argv: List[str], env: Mapping[str, str], paths: HostPaths, pass_fd: Optional[int] = None) -> int:
    """The pid of *argv*, in a session of its own, its errors in the engine's log. Its parent may go at once."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    log = open_log(paths)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        if pass_fd is not None:
            actions.append((os.POSIX_SPAWN_DUP2, pass_fd, 3))
        setdef = [signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGXFSZ]
        try:
            return os.posix_spawn(
                argv[0], argv, dict(env), file_actions=actions, setsid=True, setsigdef=setdef, setsigmask=[]
            )
        except NotImplementedError:  # Python for macOS may have been built without that
            words = [argv[0], "-I", "-S", "-c", _AS_LEADER, *argv]
            return os.posix_spawn(argv[0], words, dict(env), file_actions=actions, setsigdef=setdef, setsigmask=[])
    finally:
        os.close(log)
        os.close(null)
