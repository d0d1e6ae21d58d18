"""Start one instance: its environment, its inherited socket, its output, its own session; then exec."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple

from deployer.errors import UsageError
from deployer.host import disk, envfile
from deployer.model import Spec

BASE_NAMES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")
FIRST_FD = 3  # sd_listen_fds(3): inherited sockets start here


class StartError(Exception):
    """The instance could not even be executed; the text says why."""


def base_environment(source: Mapping[str, str]) -> Dict[str, str]:
    """What an app may know of the environment of the engine: where programs are, who it is, its language."""
    kept = {name: value for name, value in source.items() if name in BASE_NAMES or name.startswith("LC_")}
    kept.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return kept


def environment(spec: Spec, base: Mapping[str, str], notify: Optional[str] = None) -> Dict[str, str]:
    """
    The instance's environment; later wins: base, `run.env`, the env file, secrets, what deployer itself sets.

    Raises UsageError when the env file is missing or malformed.
    """
    env = {"PYTHONUNBUFFERED": "1", **base}  # else what a Python app prints is in its log only when it ends
    env.update(spec.env)
    if spec.env_file:
        env.update(envfile.read(Path(spec.env_file)))
    if spec.secrets_file:
        env.update(read_secrets(Path(spec.secrets_file)))
    env.update(DEPLOYER_APP=spec.app, DEPLOYER_RELEASE=spec.release, DEPLOYER_INSTANCE=spec.id)
    if spec.port is not None:
        env["PORT"] = str(spec.port)
    if spec.rehearsal:
        env["DEPLOYER_REHEARSAL"] = "1"
    if spec.gate:
        env["DEPLOYER_GATE"] = "1"
    if notify:
        env["NOTIFY_SOCKET"] = notify
    return env


def read_secrets(path: Path) -> Dict[str, str]:
    """The values kept for a release; none when it has no file. Raises UsageError on a damaged one."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"the secrets kept in {path} cannot be read", cause=type(error).__name__) from error
    if not isinstance(values, dict):
        raise UsageError(f"the secrets kept in {path} cannot be read", cause="the file is damaged")
    return {str(name): str(value) for name, value in values.items()}


def write_secrets(path: Path, values: Mapping[str, str]) -> None:
    """Keep *values* for a release, whole or not at all, readable by the owner only."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    disk.write_atomically(str(path), json.dumps(dict(values)).encode())


def spawn(
    argv: Sequence[str],
    cwd: str,
    env: Mapping[str, str],
    output: int,
    sockets: Sequence[Tuple[str, int]] = (),
    user: Optional[Tuple[int, int]] = None,
    announce: Callable[[int], None] = lambda pid: None,
) -> int:
    """
    The pid of *argv*, in its own session, with *output* as stdout and stderr, and *sockets* (name, fd) from fd 3 on.

    Returns once exec has succeeded. *announce* is told the pid before the exec: if it raises, or if we die in it, nothing is
    executed. Raises StartError when the exec failed. The caller must be single-threaded.
    """
    told, tell = os.pipe()
    may, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        _child(argv, cwd, dict(env), output, list(sockets), user, tell, may)  # never returns
    os.close(tell)
    os.close(may)
    with os.fdopen(told, "rb") as pipe:
        _let_go(pid, go, announce)
        failure = pipe.read()
    if not failure:
        return pid
    os.waitpid(pid, 0)
    code, where = struct.unpack_from("i", failure)[0], failure[4:].decode("utf-8", "replace")
    raise StartError(f"{where}: {os.strerror(code)}")


def _let_go(pid: int, go: int, announce: Callable[[int], None]) -> None:
    try:
        announce(pid)
        os.write(go, b"!")
    except BaseException:
        os.close(go)
        os.waitpid(pid, 0)
        raise
    os.close(go)


def _child(
    argv: Sequence[str],
    cwd: str,
    env: Dict[str, str],
    output: int,
    sockets: Sequence[Tuple[str, int]],
    user: Optional[Tuple[int, int]],
    tell: int,
    may: int,
) -> None:
    where = "start"
    try:
        os.setsid()
        _default_signals()
        os.umask(0o022)
        # Out of the way of 3, 4, … first: a socket may itself be one of these numbers.
        moved = [(name, _above(fd)) for name, fd in sockets]
        tell, may = _above(tell), _above(may)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for offset, (_, fd) in enumerate(moved):
            os.dup2(fd, FIRST_FD + offset, inheritable=True)
        if sockets:
            env["LISTEN_FDS"] = str(len(sockets))
            env["LISTEN_FDNAMES"] = ":".join(name for name, _ in sockets)
            env["LISTEN_PID"] = str(os.getpid())  # exec keeps the pid
        if user is not None and os.geteuid() == 0 and user[0] != 0:
            where = f"become user {user[0]}"
            os.setgroups([user[1]])
            os.setgid(user[1])
            os.setuid(user[0])
        where = f"change to {cwd}"
        os.chdir(cwd)
        where = f"run {argv[0]!r}"
        if os.read(may, 1):
            _exec(argv, env)
    except OSError as error:
        os.write(tell, struct.pack("i", error.errno or errno.EIO) + where.encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _exec(argv: Sequence[str], env: Dict[str, str]) -> None:
    if "/" in argv[0]:
        os.execve(argv[0], list(argv), env)
    missing: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for directory in env.get("PATH", os.defpath).split(os.pathsep):
        try:
            os.execve(f"{directory or '.'}/{argv[0]}", list(argv), env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            missing = error
    raise missing


def _default_signals() -> None:
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP) and signal.getsignal(number) != signal.SIG_DFL:
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _above(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
