"""Before the signal: ask the old process to take no new work (by signal, URL, command), and look for an idle moment."""

from __future__ import annotations

from typing import Any, Dict, Optional

from deployer.host import health, hooks, observe
from deployer.host.deploy import Deploy
from deployer.host.health import Answer
from deployer.host.heed import Attention, Attentive
from deployer.host.hooks import Hook

COMMAND_WITHIN = 30.0
"""Seconds that a `quiet` command or URL may take; a failure is a warning, since the drain itself is still to come."""


def ask(deploy: Deploy) -> None:
    """Do what `drain.quiet` says to the running instance, once. Never fails the deploy."""
    how = deploy.request.drain["quiet"]
    running = _running(deploy)
    if running is None or deploy.journal.has("quiet", "asked"):  # by a runner that died: no signal is sent twice
        return
    deploy.journal.note("quiet", "asked")
    problem = hooks.ask(deploy, Hook("quiet", how, running, COMMAND_WITHIN), Attention(deploy))
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
        Attentive(deploy, deploy.supervisor).wait(min(deadline, deploy.clock.now() + max(interval, 0.1)))
    deploy.journal.event("warning", text="no idle moment was found within drain.wait_idle; draining now")


def _running(deploy: Deploy) -> Optional[Dict[str, Any]]:
    for one in deploy.supervisor.status()["instances"]:
        if not one["drain"]:
            return dict(one)
    return None


def _health(deploy: Deploy) -> Answer:
    settings = deploy.old_settings
    if not settings["health"]["url"]:
        return health.NO_URL
    return health.ask(observe.filled_url(settings), settings["health"]["timeout"], settings["health"]["busy"])
