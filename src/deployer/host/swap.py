"""The swap, step by step: take over, make quiet, switch, hand over, prove, confirm."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any, Dict, Optional

from deployer.host import adopt as adoption
from deployer.host import program, quiet, units
from deployer.host.deploy import Deploy
from deployer.host.handover import hand_over
from deployer.host.hooks import LastCall
from deployer.host.instance import new_instance_id
from deployer.host.proving import prove
from deployer.host.spawn import write_secrets
from deployer.host.supervisors import choose
from deployer.model import Identity, Spec


def adopt(deploy: Deploy) -> None:
    """Make the process that somebody else started our running instance, with all that a revert needs to start it again."""
    seen = deploy.request.adopt
    assert seen is not None
    found = adoption.again(Identity.from_json(seen), deploy.processes)
    instance = str(deploy.request.previous["spec"]["id"]) if deploy.request.previous else new_instance_id()
    release = f"adopted-{instance}"
    secrets = deploy.paths.secrets_of(release)
    write_secrets(secrets, _inheritable(adoption.environment_of(found, deploy.processes)))
    spec = Spec(
        id=instance, release=release, app=deploy.request.settings["app"], argv=tuple(found.argv), cwd=found.cwd,
        secrets_file=str(secrets), user=found.user, owner=_owner_of_adopted(deploy),
    )  # fmt: skip
    spec = changed(spec, owner=spec.owner or _commands_of_adopted(deploy, spec, found.identity))
    deploy.supervisor.adopt(spec, found.identity)


def switch(deploy: Deploy) -> None:
    """Point `current` at the new release: from here on a start picks it. Raises GateError when its command is not there."""
    program.require(deploy.paths, deploy.spec(str(deploy.request.instance)))
    deploy.releases.flip(str(deploy.request.release))


def ask_for_quiet(deploy: Deploy) -> None:
    """Ask the old process to take no new work, while it goes on serving. What `switch` may fail on is tried before."""
    if deploy.request.kind in ("push", "rollback"):
        program.require(deploy.paths, deploy.spec(str(deploy.request.instance)))
        deploy.releases.prepare_flip(str(deploy.request.release))
    quiet.ask(deploy)


def wait_idle(deploy: Deploy) -> None:
    """Look for a moment without work, for at most `drain.wait_idle`."""
    quiet.wait_idle(deploy)


def replace(deploy: Deploy) -> None:
    """Hand the promise over and follow it until the old instances have drained and the new one has been started."""
    request = deploy.request
    new = deploy.spec(request.instance) if request.instance and request.kind != "stop" else None
    if request.gap and new is not None:
        deploy.journal.event("warning", text=f"this {request.kind} has a gap: {request.gap}")
    leave_unit(deploy)
    hand_over(deploy, new, request.drain_order, LastCall(deploy))


def _owner_of_adopted(deploy: Deploy) -> Optional[Dict[str, Any]]:
    """What is adopted by a supervisor of its kind stays its: a revert starts it as it was started before."""
    unit = (deploy.request.target.get("adopt") or {}).get("unit")
    ours = choose.setting(deploy.request.target, deploy.request.settings)
    if unit and ours is not None and ours["kind"] == "launchd":
        from deployer.host import launchd_jobs

        return launchd_jobs.owner_of(unit)
    if not unit or ours is None or ours["kind"] != "systemd":
        return None
    return {"kind": "systemd", "scope": ours["scope"], "unit": unit, "foreign": True}


def _commands_of_adopted(deploy: Deploy, spec: Spec, identity: Identity) -> Optional[Dict[str, Any]]:
    """The user's commands own it already, where they say so: then `stop` stops it, for its supervisor would start it again."""
    ours = choose.setting(deploy.request.target, deploy.request.settings)
    if ours is None or ours["kind"] != "command":
        return None
    from deployer.host.supervisors import command

    theirs = {**ours, "foreign": True}
    return theirs if command.runs_as(changed(spec, owner=theirs), deploy.paths, identity) else None


def leave_unit(deploy: Deploy) -> None:
    """What is taken over shall not be started again by whoever started it: systemd's unit, launchd's job."""
    request = deploy.request
    unit = (request.target.get("adopt") or {}).get("unit")
    if not request.adopt or not unit or not request.previous:
        return
    if request.target.get("supervisor") == "launchd":
        from deployer.host import launchd_jobs

        launchd_jobs.leave(unit, request.previous["spec"]["id"], Identity.from_json(request.adopt), deploy)
    elif _owner_of_adopted(deploy) is None:
        # If we die right here, the keeper sees its adopted service go and starts it again: never nothing at all.
        units.stop(unit, request.previous["spec"]["id"], Identity.from_json(request.adopt), deploy)


def ready(deploy: Deploy) -> None:
    """Wait for the proof that the new instance serves. Raises NotReady."""
    proof = prove(deploy, str(deploy.request.instance), deploy.request.settings)
    deploy.journal.event("ready", probes=proof.probes, took_s=proof.took_s, pid=proof.pid)


def confirm(deploy: Deploy) -> None:
    """The new release is the one to come back to, after a crash and after a failed push."""
    deploy.supervisor.confirm(str(deploy.request.instance))
    proven(deploy)


def proven(deploy: Deploy) -> None:
    """On record: the release that serves now is good."""
    release = str(deploy.request.release)
    with deploy.state.transaction():
        deploy.state.update("releases", release, state="good")
        deploy.state.set_meta("last_good", release)
    if deploy.request.kind in ("push", "rollback") or deploy.request.overlaps:
        deploy.journal.event("switched", release=release)


def _inheritable(env: Dict[str, str]) -> Dict[str, str]:
    stale = (
        "NOTIFY_SOCKET",
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "WATCHDOG_USEC",
    )
    return {name: value for name, value in env.items() if name not in stale}
