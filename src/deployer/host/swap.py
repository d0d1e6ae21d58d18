"""The swap: hand the promise to the supervisor, follow the drain and the start, prove the new instance, or go back."""

from __future__ import annotations

import json
import signal
from dataclasses import replace as changed
from typing import Any, Dict, List, Optional

from deployer.errors import DeployerError, PreflightError
from deployer.host import adopt as adoption
from deployer.host import drain_history, logs, observe, ports, program, quiet, units
from deployer.host.deploy import Deploy, spec_of
from deployer.host.heed import Attentive, aborted_by
from deployer.host.hooks import LastCall
from deployer.host.ready import NotReady, Proof, Prover
from deployer.host.spawn import write_secrets
from deployer.host.supervise import new_instance_id
from deployer.host.watch import Watch
from deployer.model import DrainOrder, Identity, Spec, Verdict

PROGRESS_EVERY = 1.0
STUCK_AFTER = 10.0
"""Seconds for which a keeper may be unable to do what is due, because the disk refuses to have it written down."""


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
        secrets_file=str(secrets), user=found.user,
    )  # fmt: skip
    deploy.supervisor.adopt(spec, found.identity)


def switch(deploy: Deploy) -> None:
    """Point `current` at the new release: from here on a start picks it. Raises GateError when its command is not there."""
    program.require(deploy.spec(str(deploy.request.instance)))
    deploy.releases.flip(str(deploy.request.release))


def ask_for_quiet(deploy: Deploy) -> None:
    """Ask the old process to take no new work, while it goes on serving. What `switch` may fail on is tried before."""
    if deploy.request.kind in ("push", "rollback"):
        program.require(deploy.spec(str(deploy.request.instance)))
        deploy.releases.prepare_flip(str(deploy.request.release))
    quiet.ask(deploy)


def wait_idle(deploy: Deploy) -> None:
    """Look for a moment without work, for at most `drain.wait_idle`."""
    quiet.wait_idle(deploy)


def replace(deploy: Deploy) -> None:
    """Hand the promise over and follow it until the old instances have drained and the new one has been started."""
    request = deploy.request
    new = deploy.spec(request.instance) if request.instance and request.kind != "stop" else None
    unit = (request.target.get("adopt") or {}).get("unit")
    if request.adopt and unit and request.previous:
        # If we die right here, the keeper sees its adopted service go and starts it again: never nothing at all.
        units.stop(unit, request.previous["spec"]["id"], Identity.from_json(request.adopt), deploy)
    _hand_over(deploy, new, request.drain_order, LastCall(deploy))


def ready(deploy: Deploy) -> None:
    """Wait for the proof that the new instance serves. Raises NotReady."""
    proof = _prove(deploy, str(deploy.request.instance), deploy.request.settings)
    deploy.journal.event("ready", probes=proof.probes, took_s=proof.took_s, pid=proof.pid)


def confirm(deploy: Deploy) -> None:
    """The new release is the one to come back to, after a crash and after a failed push."""
    release = str(deploy.request.release)
    deploy.supervisor.confirm(str(deploy.request.instance))
    with deploy.state.transaction():
        deploy.state.update("releases", release, state="good")
        deploy.state.set_meta("last_good", release)
    if deploy.request.kind in ("push", "rollback"):
        deploy.journal.event("switched", release=release)


def revert(deploy: Deploy, reason: str) -> bool:
    """Bring the old release back; True once it has proven itself, False when it would not start, or nothing ran before."""
    failed = deploy.request.instance
    tail = logs.tail(deploy.paths.app_log, 20, offset=_log_offset(deploy, failed))
    back = deploy.journal.data("revert", "begin") or {}
    if not back:
        deploy.journal.event("revert.started", reason=reason, log_tail=tail, aborted=aborted_by(deploy) is not None)
    flip_back(deploy)
    previous = deploy.request.previous
    instance = _who_comes_back(deploy, back.get("instance"))
    deploy.journal.begin("revert", instance=instance, reason=reason)
    if deploy.request.release and deploy.request.kind in ("push", "rollback"):
        deploy.state.execute("UPDATE releases SET state='failed' WHERE id=? AND state!='good'", deploy.request.release)
    spec = _previous_spec(deploy, instance) if previous else None
    # A release that was never started leaves the old one draining, which has its last call; one that was has nothing to save.
    started = deploy.state.row("SELECT 1 FROM instances WHERE id=? AND pid IS NOT NULL", failed)
    _hand_over(deploy, spec, _order_of_revert(deploy), None if started else LastCall(deploy))
    ok = spec is not None and _came_back(deploy, spec)
    deploy.journal.event("revert.finished", release=spec.release if spec else None, ok=ok, gap_ms=deploy.gap_ms)
    deploy.journal.done("revert", ok=ok)
    return ok


def _who_comes_back(deploy: Deploy, asked: Optional[str]) -> str:
    """
    The instance of the old release that shall run: *asked* by a runner that died, or whoever has taken its place since.

    One that was restarted meanwhile is not to be drained for a dead one; a start that a reboot undid proves nothing.
    """
    row = deploy.state.row("SELECT * FROM instances WHERE id=?", asked) if asked else None
    if asked is None or row is None:
        return asked or new_instance_id()
    desired = deploy.supervisor.status()["desired"]
    if desired and desired["id"] != asked and desired["release"] == row["release"]:
        return str(desired["id"])
    return asked if row["boot"] in (None, deploy.processes.boot) else new_instance_id()


def _order_of_revert(deploy: Deploy) -> DrainOrder:
    order = deploy.request.drain_order
    if deploy.state.row("SELECT 1 FROM instances WHERE id=?", deploy.request.instance) is None:
        return order  # the new one was never promised: what drains is the old one, with work in progress
    return changed(order, ceiling=min(order.ceiling, float(deploy.request.drain["revert_ceiling"])))


def handed_over(deploy: Deploy) -> bool:
    """Whether the supervisor has the promise: the one thing that must be gone on with and not undone."""
    if not deploy.journal.has("replace", "begin"):
        return False
    if deploy.request.kind == "stop":
        return True
    return deploy.state.row("SELECT 1 FROM instances WHERE id=?", deploy.request.instance) is not None


def _came_back(deploy: Deploy, spec: Spec) -> bool:
    try:
        _prove(deploy, _restarted(deploy, spec), deploy.old_settings)
        return True
    except NotReady as error:
        deploy.journal.event("warning", text=f"the old release did not become ready either: {error}")
        return False
    finally:
        # Confirmed whatever the proof said: the supervisor shall go on trying, nothing better is there.
        deploy.supervisor.confirm(spec.id)


def _restarted(deploy: Deploy, spec: Spec) -> str:
    """The instance of *spec*, or the one that the keeper started in its place after a crash or a reboot."""
    desired = deploy.supervisor.status()["desired"]
    return str(desired["id"]) if desired and desired["release"] == spec.release else spec.id


def _hand_over(deploy: Deploy, new: Optional[Spec], order: DrainOrder, last_call: Optional[LastCall]) -> None:
    olds = _to_drain(deploy, new)
    watch = _watch(deploy, olds)
    try:
        for old in olds:
            _tell_drain(deploy, old, order)
        if deploy.gap_from is None and olds and not _stopping_already(deploy, olds):
            deploy.gap_from = deploy.clock.now()
        deploy.supervisor.replace(deploy.request.deploy, deploy.request.who, new, order)
        _follow(deploy, [old["id"] for old in olds], new, watch, last_call)
    finally:
        watch.stop()
    # A runner that took over in the middle of a drain knows when the service stopped only if it saw it serve.
    if watch.last_good_at is not None:
        deploy.gap_from = max(deploy.gap_from or watch.last_good_at, watch.last_good_at)


def _follow(deploy: Deploy, olds: List[str], new: Optional[Spec], watch: Watch, last_call: Optional[LastCall]) -> None:
    waiting = list(olds)
    keeper = Attentive(deploy, deploy.supervisor, last_call)
    well_at = deploy.clock.now()
    progress_at = well_at + PROGRESS_EVERY
    while True:
        status = deploy.supervisor.status()
        well_at = _require_able(deploy, status, well_at)
        running = {one["id"] for one in status["instances"]}
        waiting = [old for old in waiting if not _tell_verdict(deploy, old, watch, old in running)]
        if last_call is not None and not waiting:
            last_call.end()
        desired = status["desired"]
        started = new is None or desired is None or desired["id"] != new.id or desired["state"] != "promised"
        if not waiting and started:
            if new is not None and desired and desired["pid"] and not _told(deploy, "start.finished", desired["pid"]):
                deploy.journal.event("start.finished", pid=desired["pid"], release=new.release)
            return
        draining = next((one for one in status["instances"] if one["drain"]), None)
        if deploy.clock.now() >= progress_at:
            progress_at = deploy.clock.now() + PROGRESS_EVERY
            if draining:
                _tell_progress(deploy, draining, watch)
        keeper.wait(min(progress_at, _last_call(deploy, draining, last_call)))


def _require_able(deploy: Deploy, status: Dict[str, Any], well_at: float) -> float:
    """When the keeper was last able to do what is due. Raises PreflightError once that is long ago."""
    now = deploy.clock.now()
    if not status.get("trouble"):
        return now
    if now - well_at > STUCK_AFTER:
        raise PreflightError("the keeper cannot go on", cause=status["trouble"])
    return well_at


def _last_call(deploy: Deploy, draining: Optional[Dict[str, Any]], last_call: Optional[LastCall]) -> float:
    """Make the last call if it is due; when to look again (monotonic seconds)."""
    if last_call is None or draining is None:
        return float("inf")
    last_call.look(draining)
    due = last_call.due_in(draining)
    return float("inf") if due is None else deploy.clock.now() + due


def _stopping_already(deploy: Deploy, olds: List[Dict[str, Any]]) -> bool:
    ordered = [deploy.state.row("SELECT 1 FROM drains WHERE instance=?", old["id"]) for old in olds]
    return any(ordered) or deploy.journal.has("revert", "begin")


def _told(deploy: Deploy, name: str, pid: int) -> bool:
    """Whether a runner that died has told this already."""
    return any(event["pid"] == pid for event in deploy.journal.told(name))


def _tell_drain(deploy: Deploy, old: Dict[str, Any], order: DrainOrder) -> None:
    if _told(deploy, "drain.started", old["pid"]):
        return
    row = deploy.state.row("SELECT ceiling FROM drains WHERE instance=?", old["id"])
    ceiling = row["ceiling"] if row else order.ceiling
    known = None if deploy.journal.has("revert", "begin") else drain_history.past(deploy.state)
    deploy.journal.event(
        "drain.started", pid=old["pid"], ceiling_s=ceiling, command=old["command"], signal=order.signal,
        expected=drain_history.expected(known),
    )  # fmt: skip
    if not deploy.journal.has("revert", "begin"):
        _warn_of_the_deaf(deploy, old, order)
        _warn_of_the_ceiling(deploy, drain_history.warning(known, ceiling))


def _warn_of_the_deaf(deploy: Deploy, old: Dict[str, Any], order: DrainOrder) -> None:
    pids = [process["pid"] for process in old.get("processes", [])]
    if not deploy.processes.heard(pids, signal.Signals[order.signal]):
        deploy.journal.event(
            "warning",
            text=f"pid {old['pid']} has no handler for {order.signal}: it dies of it at once, with whatever it is working on",
        )


def _warn_of_the_ceiling(deploy: Deploy, text: Optional[str]) -> None:
    if text and not any(event["text"] == text for event in deploy.journal.told("warning")):
        deploy.journal.event("warning", text=text)


def _tell_verdict(deploy: Deploy, old: str, watch: Watch, running: bool) -> bool:
    row = deploy.state.row("SELECT verdict FROM drains WHERE instance=?", old)
    if row is not None and row["verdict"] is not None:
        verdict = json.loads(row["verdict"])
    elif row is None and not running:
        verdict = _by_itself(deploy, old)
    else:
        return False
    died = (verdict["exit_code"] or 0) < 0
    verdict["lost"] = (
        watch.lost() if verdict["verdict"] == "killed" or (verdict["verdict"] == "exited" and died) else []
    )
    verdict["instance"] = old
    verdict["tasks"] = watch.worked()
    deploy.verdicts.append(verdict)
    deploy.lost += verdict["lost"]
    pid = (deploy.state.row("SELECT pid FROM instances WHERE id=?", old) or {}).get("pid")
    deploy.journal.event("drain.finished", pid=pid, **verdict)
    return True


def _by_itself(deploy: Deploy, old: str) -> Dict[str, Any]:
    # It exited between our look and the promise: nobody will ever drain it, so there is nothing to wait for.
    code = (deploy.state.row("SELECT exit_code FROM instances WHERE id=?", old) or {}).get("exit_code")
    return Verdict("exited" if code else "clean", code, 0.0).to_json()


def _tell_progress(deploy: Deploy, one: Dict[str, Any], watch: Watch) -> None:
    waited, left = one["drain"]["waited_s"], one["drain"]["left_s"]
    deploy.journal.progress(
        "drain.progress", pid=one["pid"], elapsed_s=round(waited, 1), ceiling_s=round(waited + left, 1),
        health=watch.answer.health, busy=watch.answer.busy, tasks=watch.answer.tasks, processes=one["processes"],
        heard=watch.heard(), status=one["status"],
    )  # fmt: skip


def _watch(deploy: Deploy, olds: List[Dict[str, Any]]) -> Watch:
    settings = deploy.old_settings
    url = observe.filled_url(settings) if olds and settings["health"]["url"] else None
    return Watch(url, settings["health"]["timeout"], settings["health"]["busy"], deploy.clock)


def _prove(deploy: Deploy, instance: str, settings: Dict[str, Any]) -> Proof:
    port = observe.port_of(settings)
    keeper = Attentive(deploy, deploy.supervisor)
    proof = Prover(keeper, settings["health"], port, deploy.clock, deploy.processes).prove(instance)
    if deploy.gap_from is not None:
        deploy.gap_ms = max(0, round((proof.first_good_at - deploy.gap_from) * 1000))
    return proof


def why_not(deploy: Deploy, error: NotReady) -> str:
    """*error*, and who sits on the service's port where that is somebody else."""
    ours = {process["pid"] for one in deploy.supervisor.status()["instances"] for process in one["processes"]}
    seen = []
    for port in observe.service_ports(deploy.request.settings):
        inodes = ports.listening(port)
        others = [pid for pid in ports.holders(inodes, deploy.processes.table()) if pid not in ours]
        if others and not ports.holders(inodes, ours) and not deploy.request.settings["run"]["socket"]:
            seen.append(f"port {port} is held by pid {others[0]} ({deploy.processes.command(others[0], 80)})")
    return "; ".join([str(error), *seen])


def _to_drain(deploy: Deploy, new: Optional[Spec]) -> List[Dict[str, Any]]:
    olds = _alive(deploy, except_for=new.id if new else None)
    if new is None or deploy.state.row("SELECT 1 FROM instances WHERE id=?", new.id) is None:
        return olds
    # The promise was given before: what runs beside and is not drained is what the keeper restarted since, *new* itself.
    return [old for old in olds if deploy.state.row("SELECT 1 FROM drains WHERE instance=?", old["id"])]


def _alive(deploy: Deploy, except_for: Optional[str]) -> List[Dict[str, Any]]:
    # Also the ones whose drain ended while nobody looked: a resumed deploy must still tell their verdict.
    told = {verdict["instance"] for verdict in deploy.verdicts}
    running = [one for one in deploy.supervisor.status()["instances"] if one["id"] != except_for]
    ended = deploy.state.rows(
        "SELECT i.id, i.pid, i.spec FROM drains d JOIN instances i ON i.id=d.instance WHERE d.deploy=? AND d.verdict IS NOT NULL",
        deploy.request.deploy,
    )
    gone = [{"id": row["id"], "pid": row["pid"], "command": " ".join(json.loads(row["spec"])["argv"])} for row in ended]
    return [one for one in running + gone if one["id"] not in told and one["id"] != except_for]


def _log_offset(deploy: Deploy, instance: Optional[str]) -> int:
    row = deploy.state.row("SELECT log_offset FROM instances WHERE id=?", instance) if instance else None
    return int((row or {}).get("log_offset") or 0)


def flip_back(deploy: Deploy) -> None:
    """`current` is the release of before the push again; a warning where the disk refuses: that the old one serves matters more."""
    try:
        _flip_back(deploy)
    except (DeployerError, OSError) as error:
        deploy.journal.event("warning", text=f"`current` still points at the new release: {error}")


def _flip_back(deploy: Deploy) -> None:
    back = deploy.request.previous_release
    if deploy.request.kind not in ("push", "rollback"):
        return
    if back and deploy.releases.current() == back:
        return
    if back and deploy.releases.there(back):
        deploy.releases.flip(back)
    elif deploy.releases.current() == deploy.request.release:
        deploy.releases.unset()


def _previous_spec(deploy: Deploy, instance: str) -> Spec:
    previous = deploy.request.previous or {}
    settings = previous.get("settings")
    if settings is None:  # adopted: started again as it was found
        row = deploy.state.row("SELECT spec FROM instances WHERE id=?", previous["spec"]["id"])
        assert row is not None
        return Spec.from_json({**json.loads(row["spec"]), "id": instance})
    return spec_of(deploy.paths, previous["spec"]["release"], settings, instance)


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
