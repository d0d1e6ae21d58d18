"""A rehearsal: one instance beside the old one, on a private port or socket, which nobody is told about."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from deployer.host import gates, logs, spawn
from deployer.host.deploy import Deploy
from deployer.host.spawn import StartError
from deployer.host.tree import Tree
from deployer.model import Identity, Spec

END_WITHIN = 10.0
"""Seconds that a rehearsed instance, which never had any work, may take to stop."""


class Rehearsal:
    """Started and ended by the runner itself; to the prover it looks like a supervisor with one instance."""

    def __init__(self, deploy: Deploy, spec: Spec, listeners: Mapping[str, socket.socket], output: Path) -> None:
        self._deploy = deploy
        self._spec = spec
        self._pid = 0
        self._tree: Optional[Tree] = None
        self._error: Optional[str] = None
        self._exit_code: Optional[int] = None
        env = spawn.environment(spec, spawn.base_environment(os.environ))
        log = logs.open_output(output)
        try:
            sockets = [(name, listener.fileno()) for name, listener in listeners.items()]
            self._pid = spawn.spawn(spec.argv, spec.cwd, env, log, sockets)
            stat = deploy.processes.stat(self._pid)
            identity = Identity(self._pid, stat.start if stat else 0, deploy.processes.boot)
            self._tree = Tree(deploy.processes, identity, spec.id)
        except StartError as error:
            self._error = str(error)
        finally:
            os.close(log)

    def status(self) -> Dict[str, Any]:
        """As `Supervisor.status`, for the prover."""
        members = self._tree.refresh() if self._tree else []
        assert self._tree is not None or self._error
        if members and self._tree is not None:
            running = {
                "id": self._spec.id,
                "pid": self._pid,
                "processes": [self._tree.describe(stat) for stat in members],
            }
            return {"desired": None, "instances": [running]}
        if self._exit_code is None and self._pid:
            _, status = os.waitpid(self._pid, 0)
            self._exit_code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        gone = {"id": self._spec.id, "state": "ended", "error": self._error, "exit_code": self._exit_code}
        return {"desired": gone, "instances": []}

    def wait(self, deadline: float) -> None:
        """Until the instance exits, somebody asks something of the deploy, or *deadline* passes."""
        handle = self._tree.handle(self._pid) if self._tree else None
        if handle is not None:
            left = max(0.0, deadline - self._deploy.clock.now())
            select.select([handle.fileno(), self._deploy.control.fileno()], [], [], left)

    def end(self) -> None:
        """SIGTERM, then SIGKILL after END_WITHIN, to everything that the rehearsal started."""
        if self._tree is None:
            return
        gates.end(self._tree, END_WITHIN)
        self._tree.close()
        if self._exit_code is None:
            try:
                os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                pass
