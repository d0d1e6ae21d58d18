"""Find the process that somebody else started, for a first push to drain: by pid file, port, pattern or unit."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from deployer.errors import DeployerError, PreflightError
from deployer.host import ports
from deployer.host.process import Processes, Stat
from deployer.host.supervisors.systemctl import Manager
from deployer.host.tree import is_engine
from deployer.model import Identity

UNTOUCHED = "nothing was changed"


@dataclass(frozen=True)
class Found:
    """A running process as it would have to be started again: what a revert needs."""

    identity: Identity
    argv: List[str]
    cwd: str
    user: Optional[tuple[int, int]]

    def summary(self, processes: Processes) -> Dict[str, Any]:
        return {**self.identity.to_json(), "command": processes.command(self.identity.pid), "cwd": self.cwd}


def find(how: Dict[str, Any], processes: Processes) -> Found:
    """The one process that `[adopt]` means. Raises PreflightError, with what was seen, when it is none or several."""
    return _describe(pid_of(how, processes), processes)


def pid_of(how: Dict[str, Any], processes: Processes) -> int:
    """Its pid alone; it may be somebody else's. Raises as `find`."""
    if how.get("pidfile"):
        return _from_pidfile(Path(os.path.expanduser(str(how["pidfile"]))), processes)
    if how.get("port"):
        return _from_port(int(how["port"]), processes)
    if how.get("unit"):
        scope = str(how.get("scope") or "system")
        if scope == "launchd":
            from deployer.host import launchd_jobs

            return launchd_jobs.pid_of(str(how["unit"]))
        return _from_unit(str(how["unit"]), scope)
    return _from_pattern(str(how["match"]), processes)


def again(identity: Identity, processes: Processes) -> Found:
    """The process that `find` found before the gates. Raises PreflightError when it is no longer there."""
    if not processes.alive(identity):
        raise _none(f"process {identity.pid}, which was found before the gates, has exited meanwhile")
    return _describe(identity.pid, processes)


def environment_of(found: Found, processes: Processes) -> Dict[str, str]:
    """The environment that the process was started with. Secret: it goes into a 0600 file and nowhere else."""
    values = {}
    for part in processes.environ(found.identity.pid).split(b"\0"):
        name, equals, value = part.partition(b"=")
        if equals and name:
            values[os.fsdecode(name)] = os.fsdecode(value)
    return values


def _from_pidfile(path: Path, processes: Processes) -> int:
    try:
        text = path.read_text("ascii").split()[0]
        pid = int(text)
    except FileNotFoundError:
        raise _none(f"the pid file {path} does not exist") from None
    except (OSError, ValueError, IndexError) as error:
        raise _none(f"the pid file {path} holds no pid ({type(error).__name__})") from error
    if pid <= 1 or processes.identity(pid) is None:
        raise _none(f"the pid file {path} says {pid}, and no such process runs")
    if pid in _ours(processes):
        raise _none(f"the pid file {path} says {pid}, which is deployer itself or the shell it was called from")
    if processes.started(pid) > path.stat().st_mtime + 60:
        who = f"{pid} ({processes.command(pid, 60)})"
        raise _none(f"the pid file {path} is older than process {who}: the number has been used again")
    return pid


def _from_port(port: int, processes: Processes) -> int:
    inodes = ports.listening(port)
    # Not 1: an init that holds the socket for a service is not the service.
    owners = sorted(set(ports.holders(inodes, processes.table())) - _ours(processes))
    if not owners:
        why = "what listens there belongs to another user, or to deployer itself" if inodes else "nothing listens there"
        raise _none(f"adopt.port = {port}: {why}")
    roots = _roots(owners, processes.table())
    if len(roots) > 1:
        raise _several(f"adopt.port = {port}", roots, processes)
    return roots[0]


def _from_pattern(pattern: str, processes: Processes) -> int:
    expression = re.compile(pattern)
    ours = _ours(processes)
    table = processes.table()
    matches = [
        pid for pid, stat in table.items()
        if pid not in ours and not stat.exited and expression.search(" ".join(processes.argv(pid)))
    ]  # fmt: skip
    roots = _roots(matches, table)
    if not roots:
        similar = _similar(pattern, table, processes, ours)
        seen = "\nsimilar: " + "\n         ".join(similar) if similar else ""
        raise _none(f'no process has a command line that matches "{pattern}"{seen}')
    if len(roots) > 1:
        raise _several(f'adopt.match = "{pattern}"', roots, processes)
    return roots[0]


def _from_unit(unit: str, scope: str) -> int:
    shown = unit_properties(unit, scope)
    if shown.get("LoadState") != "loaded":
        raise _none(f"systemd knows no unit {unit}")
    pid = int(shown.get("MainPID") or 0)
    if pid <= 1:
        raise _none(f"{unit} is {shown.get('ActiveState', 'unknown')}: it has no main process")
    return pid


def unit_properties(unit: str, scope: str = "system") -> Dict[str, str]:
    """What `systemctl show` says of *unit*. Raises PreflightError when systemd cannot be asked."""
    names = (
        "LoadState",
        "ActiveState",
        "MainPID",
        "TimeoutStopUSec",
        "KillMode",
        "KillSignal",
        "Restart",
        "TriggeredBy",
    )
    try:
        return Manager(scope).show(unit, names)
    except DeployerError as error:
        said = error.cause or str(error)
        raise PreflightError(f"systemd could not be asked about {unit}", cause=said, state=UNTOUCHED) from error


def _describe(pid: int, processes: Processes) -> Found:
    identity = processes.identity(pid)
    if identity is None:
        raise _none(f"process {pid} exited while it was looked at")
    owner = processes.owner(pid)
    if owner is not None and os.geteuid() not in (0, owner[0]):
        raise PreflightError(
            f"process {pid} ({processes.command(pid, 80)}) belongs to user {owner[0]}",
            cause="only its own user or root may stop it",
            state=UNTOUCHED,
            hint="run deployer as that user",
        )
    return Found(identity, processes.argv(pid), processes.cwd(pid) or "/", owner)


def _ours(processes: Processes) -> Set[int]:
    """
    Deployer itself, and init: this process and whoever called it, the engine's other parts, and every other `deployer`
    command with the shells and wrappers that name it.
    """
    table = processes.table()
    commands = {pid: processes.argv(pid) for pid in table}
    clients = {pid for pid, argv in commands.items() if _is_command(argv)}
    callers = {pid for client in clients for pid in _ancestors(client, table) if "deployer" in " ".join(commands[pid])}
    engines = {pid for pid in table if is_engine(processes.environ(pid))}
    return {1, os.getpid()} | _ancestors(os.getpid(), table) | clients | callers | engines


def _is_command(argv: List[str]) -> bool:
    """Whether *argv* is a `deployer` command: the script, an interpreter with the script, or `python -m deployer`."""
    words = [os.path.basename(word) for word in argv[:8]]
    as_module = "-m" in words and words[words.index("-m") + 1 :][:1] == ["deployer"]
    return as_module or "deployer" in words[:1] or ("deployer" in words[:3] and words[0].startswith("python"))


def _roots(pids: List[int], table: Dict[int, Stat]) -> List[int]:
    """Those of *pids* that no other of them started: a wrapper and its child are one service."""
    chosen = set(pids)
    return sorted(pid for pid in chosen if not (_ancestors(pid, table) & chosen))


def _ancestors(pid: int, table: Dict[int, Stat]) -> Set[int]:
    found: Set[int] = set()
    pid = table[pid].ppid if pid in table else 0
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = table[pid].ppid if pid in table else 0
    return found


def _similar(pattern: str, table: Dict[int, Stat], processes: Processes, ours: Set[int]) -> List[str]:
    words = re.findall(r"[A-Za-z0-9_]{3,}", pattern)
    lines = []
    for pid in sorted(set(table) - ours):
        command = processes.command(pid, 100)
        if any(word in command for word in words):
            lines.append(f"pid {pid} {command}")
    return lines[:5]


def _none(cause: str) -> PreflightError:
    return PreflightError(
        "the process to adopt was not found",
        cause=cause,
        state=UNTOUCHED,
        hint="correct [adopt], or remove it if nothing runs yet",
    )


def _several(what: str, pids: List[int], processes: Processes) -> PreflightError:
    seen = "\n".join(f"pid {pid} {processes.command(pid, 120)}" for pid in pids[:10])
    return PreflightError(
        f"{what} fits {len(pids)} processes, and only one can be the service",
        cause=seen,
        state=UNTOUCHED,
        hint="make [adopt] more exact, or use adopt.pidfile",
    )
