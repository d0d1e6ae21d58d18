"""What a user may have asked of the old process before it goes: a signal, a URL or a command, named in `[drain]`."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

from deployer.errors import DeployerError
from deployer.host import gates, health, observe, spawn
from deployer.host.deploy import Deploy
from deployer.host.gates import Command, Interruption
from deployer.host.instance import new_instance_id
from deployer.host.state import State
from deployer.model import Identity


@dataclass(frozen=True)
class Hook:
    """`how` is a signal's name, a URL or a command; `running` the instance; `within` the seconds that it may take."""

    name: str
    how: Any
    running: Dict[str, Any]
    within: float


def ask(deploy: Deploy, hook: Hook, interruption: Optional[Interruption] = None) -> Optional[str]:
    """
    Do what *hook* says; what went wrong, for a person, or None. It must not stop the push, so it raises nothing but what
    *interruption* does.
    """
    how = hook.how
    if isinstance(how, str) and urlsplit(how).scheme in ("http", "https"):
        answer = health.ask(how.replace("{port}", str(observe.port_of(deploy.old_settings))), hook.within)
        return None if answer.status is not None and answer.status < 400 else f"{how} answered {answer.health}"
    if isinstance(how, str) and how in signal.Signals.__members__:
        return _signal(deploy, hook)
    return _run(deploy, hook, ["sh", "-c", how] if isinstance(how, str) else list(how), interruption)


class LastCall:
    """
    `drain.last_call`: the app's last chance to save its work, once, `last_call_before` seconds before the ceiling.

    `look` is called again and again while the drain lasts; the hook runs beside it and cannot hold it up.
    """

    def __init__(self, deploy: Deploy) -> None:
        self._deploy = deploy
        self._how = deploy.request.drain.get("last_call")
        self._before = float(deploy.request.drain.get("last_call_before") or 0)
        self._thread: Optional[threading.Thread] = None
        self._problem: Optional[str] = None

    def due_in(self, draining: Dict[str, Any]) -> Optional[float]:
        """Seconds until the call is due; None when there is none to make."""
        if self._how is None or self._thread is not None or self._deploy.journal.has("last_call", "begin"):
            return None
        return max(0.0, float(draining["drain"]["left_s"]) - self._before)

    def warning(self) -> float:
        """Seconds that a drain must still last for the app to get its last call; 0 when it had it, or when there is none."""
        made = self._thread is not None or self._deploy.journal.has("last_call", "begin")
        return 0.0 if self._how is None or made else self._before

    def look(self, draining: Dict[str, Any]) -> None:
        """Make the call if it is due; tell how it went if it is over."""
        if self._thread is not None and not self._thread.is_alive():
            self._tell()
            moved = self._deploy.journal.data("drain", "moved") or {}
            if moved.get("now") and moved["instance"] == draining["id"]:  # the rest of the time was only for this call
                self._deploy.supervisor.move_deadline(draining["id"], self._deploy.clock.now())
        due = self.due_in(draining)
        if due is not None and due <= 0:
            self._deploy.journal.note("last_call", "begin")
            self._deploy.journal.event("last_call.started", pid=draining["pid"], left_s=draining["drain"]["left_s"])
            hook = Hook("last_call", self._how, draining, self._before)
            self._thread = threading.Thread(target=self._call, args=(hook,), name="last call", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """The drain is over: tell how the call went, without waiting for it."""
        if self._thread is not None:
            self._thread.join(0.1)
            self._tell()

    def _call(self, hook: Hook) -> None:
        self._problem = ask(self._deploy, hook)

    def _tell(self) -> None:
        if not self._deploy.journal.has("last_call", "told"):
            self._deploy.journal.note("last_call", "told")
            running = self._thread is not None and self._thread.is_alive()
            problem = "it had not ended when the drain did" if running else self._problem
            self._deploy.journal.event("last_call.finished", ok=problem is None, text=problem)


def warning_of(state: State, deploy: str) -> float:
    """`LastCall.warning` of *deploy*, which another runner carries out; 0 when it has ended."""
    row = state.row("SELECT request FROM deploys WHERE id=? AND ended_at IS NULL", deploy)
    made = state.row("SELECT 1 FROM journal WHERE deploy=? AND step='last_call'", deploy)
    order = json.loads(row["request"])["drain"] if row and not made else {}
    return float(order.get("last_call_before") or 0) if order.get("last_call") else 0.0


def _signal(deploy: Deploy, hook: Hook) -> Optional[str]:
    running = hook.running
    handle = deploy.processes.open(Identity(running["pid"], running["start"], running["boot"]))
    if handle is None:
        return "the process has gone"
    try:
        return None if handle.send(signal.Signals[hook.how]) else "the process has gone"
    finally:
        handle.close()


def _run(deploy: Deploy, hook: Hook, argv: List[str], interruption: Optional[Interruption]) -> Optional[str]:
    release = deploy.paths.release(str(hook.running.get("release")))  # an adopted process has none of ours
    env = spawn.base_environment(os.environ)
    env.update(DEPLOYER_APP=deploy.request.settings["app"], DEPLOYER_PID=str(hook.running["pid"]))
    env["DEPLOYER_INSTANCE"] = new_instance_id()
    output = deploy.paths.output(deploy.request.deploy, hook.name)
    cwd = release if release.is_dir() else deploy.paths.root
    try:
        command = Command(hook.name, argv, cwd, env, hook.within, output)
        gates.run(command, deploy.journal.redact, deploy.processes, interruption)
    except (DeployerError, OSError) as error:
        return f"{error}: {error.cause}" if isinstance(error, DeployerError) and error.cause else str(error)
    return None
