"""Before the signal: ask the old process to take no new work (by signal, URL, command), and look for an idle moment."""

from __future__ import annotations

import os
import signal
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

from deployer.errors import DeployerError
from deployer.host import gates, health, observe, spawn
from deployer.host.deploy import Deploy
from deployer.host.gates import Command
from deployer.host.health import Answer
from deployer.host.supervise import new_instance_id
from deployer.model import Identity

COMMAND_WITHIN = 30.0
"""Seconds that a `quiet` command or URL may take; a failure is a warning, since the drain itself is still to come."""


def ask(deploy: Deploy) -> None:
    """Do what `drain.quiet` says to the running instance. Never fails the deploy."""
    how = deploy.request.drain["quiet"]
    running = _running(deploy)
    if running is None:
        return
    problem = _ask(deploy, how, running)
    if problem:
        deploy.journal.event(
            "warning", text=f"drain.quiet: {problem}; the old process goes on taking work until the signal"
        )


def wait_idle(deploy: Deploy) -> None:
    """Return at the first moment without work in progress, or after `drain.wait_idle` seconds."""
    limit = float(deploy.request.drain["wait_idle"])
    deadline = deploy.clock.now() + limit
    interval = deploy.request.settings["health"]["interval"]
    while deploy.clock.now() < deadline:
        if _running(deploy) is None:
            return
        answer = _health(deploy)
        if answer.status is None or not answer.working():
            return
        left = deadline - deploy.clock.now()
        deploy.journal.progress(
            "drain.waiting", elapsed_s=round(limit - left, 1), ceiling_s=limit, busy=answer.busy, tasks=answer.tasks
        )
        deploy.supervisor.wait(min(deadline, deploy.clock.now() + max(interval, 0.1)))
    deploy.journal.event("warning", text="no idle moment was found within drain.wait_idle; draining now")


def _ask(deploy: Deploy, how: Any, running: Dict[str, Any]) -> Optional[str]:
    if isinstance(how, str) and urlsplit(how).scheme in ("http", "https"):
        answer = health.ask(how.replace("{port}", str(observe.port_of(_old_settings(deploy)))), COMMAND_WITHIN)
        return None if answer.status is not None and answer.status < 400 else f"{how} answered {answer.health}"
    if isinstance(how, str) and how in signal.Signals.__members__:
        handle = deploy.processes.open(Identity(running["pid"], running["start"], running["boot"]))
        if handle is None or not handle.send(signal.Signals[how]):
            return "the process has gone"
        handle.close()
        return None
    return _run(deploy, ["sh", "-c", how] if isinstance(how, str) else list(how), running)


def _run(deploy: Deploy, argv: List[str], running: Dict[str, Any]) -> Optional[str]:
    current = deploy.paths.root / "current"  # where the old release lies; an adopted one has none
    env = spawn.base_environment(os.environ)
    env.update(DEPLOYER_APP=deploy.request.settings["app"], DEPLOYER_PID=str(running["pid"]))
    env["DEPLOYER_INSTANCE"] = new_instance_id()
    output = deploy.paths.output(deploy.request.deploy, "quiet")
    cwd = current if current.is_dir() else deploy.paths.root
    try:
        gates.run(Command("quiet", argv, cwd, env, COMMAND_WITHIN, output), deploy.journal.redact, deploy.processes)
    except (DeployerError, OSError) as error:  # a hook of the user's must not stop the push
        return f"{error}: {error.cause}" if isinstance(error, DeployerError) and error.cause else str(error)
    return None


def _running(deploy: Deploy) -> Optional[Dict[str, Any]]:
    for one in deploy.supervisor.status()["instances"]:
        if not one["drain"]:
            return dict(one)
    return None


def _health(deploy: Deploy) -> Answer:
    settings = _old_settings(deploy)
    if not settings["health"]["url"]:
        return health.NO_URL
    return health.ask(observe.filled_url(settings), settings["health"]["timeout"], settings["health"]["busy"])


def _old_settings(deploy: Deploy) -> Dict[str, Any]:
    return (deploy.request.previous or {}).get("settings") or deploy.request.settings
