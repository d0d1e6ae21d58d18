"""The services of a run: started in order until each is ready, stopped in reverse order whatever happened."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from deployer.errors import FailedError
from deployer.host import log_tails, logs, program
from deployer.host.batch import begun, telling
from deployer.host.batch.parts import ALWAYS, NEVER, Part, service, services, socket_of
from deployer.host.batch.waiting import alive, await_gone, await_start
from deployer.host.beside import seen
from deployer.host.deploy import Deploy
from deployer.host.instance import new_instance_id
from deployer.host.overlap import Launched
from deployer.host.paths import HostPaths
from deployer.host.proving import prove
from deployer.host.ready import NotReady
from deployer.host.say import say_why


def start_all(deploy: Deploy) -> None:
    """
    Start the services one after another, each once the one before is ready. Raises FailedError; Aborted.

    One that runs beside the app is shared with it: neither started nor, at the end, stopped.
    """
    for name in services(deploy):
        if deploy.journal.has(f"part {name}", "ready") or deploy.journal.has(f"part {name}", "shared"):
            continue
        beside = _beside_the_app(deploy, name) if begun.instance_of(deploy, name) is None else None
        if beside is None:
            _start(deploy, name)
        else:
            deploy.journal.event("service.shared", service=name, pid=beside["pid"], release=beside["release"])
            deploy.journal.note(f"part {name}", "shared")


def require_all(deploy: Deploy) -> None:
    """Raises GateError when the program of a service is not there: before anything is started."""
    for name in services(deploy):
        spec = service(deploy, name, "none").spec
        program.require(deploy.paths, spec, f"service {name}", f"services.{name}")


def stop_all(deploy: Deploy, succeeded: bool) -> List[str]:
    """Stop and clean up in reverse order, each within its limit; those that are not stopped, or still run. Never raises."""
    left = []
    for name in reversed(services(deploy)):
        instance = begun.instance_of(deploy, name)
        if instance is None or deploy.journal.has(f"part {name}", "ended"):
            continue
        part = service(deploy, name, instance)
        why = _kept_because(deploy, part, succeeded)
        try:
            if why is None:
                left += [] if _stop(deploy, part) else [name]
            elif alive(deploy, instance) is not None:
                left.append(name)
                deploy.journal.event("service.kept", service=name, why=why)
                deploy.journal.note(f"part {name}", "ended")
        except Exception:  # one that cannot be stopped, for whatever reason, keeps no other from being cleaned up
            say_why()
            left.append(name)
    return left


def died(deploy: Deploy) -> Optional[str]:
    """Which service has gone though nobody asked it to, and how; None where all run."""
    running = {one["id"] for one in deploy.supervisor.status()["instances"]}
    for name in services(deploy):
        if deploy.journal.has(f"part {name}", "shared") and _beside_the_app(deploy, name) is None:
            return f"service {name}, which runs beside the app, has gone or was asked to stop"
        instance = begun.instance_of(deploy, name)
        if instance is not None and instance not in running:
            record = deploy.supervisor.record(instance) or {}
            code = record.get("exit_code")
            how = "" if code is None else f" by signal {-code}" if code < 0 else f" with code {code}"
            return f"service {name} exited{how}"
    return None


def _beside_the_app(deploy: Deploy, name: str) -> Optional[Dict[str, Any]]:
    """The service *name* of the app above the job, where there is one and it runs."""
    if not deploy.request.target.get("beside"):
        return None
    one = seen.look_at(HostPaths(deploy.paths.root.parent), name, deploy.processes)
    return one if one is not None and one["state"] == "running" else None


def _start(deploy: Deploy, name: str) -> None:
    known = begun.instance_of(deploy, name)
    part = service(deploy, name, known or new_instance_id())
    if known is None:
        begun.announce(deploy, part.name, part.spec.id)
    started = deploy.clock.now()
    logs.rotate(deploy.paths.logs / str(part.spec.log))
    deploy.supervisor.launch(deploy.request.deploy, part.spec)
    try:
        await_start(deploy, part.spec.id, float(part.health["ready_within"]), f"service {name}")
        settings = {**deploy.request.settings, "health": part.health}
        proof = prove(deploy, part.spec.id, settings, Launched(deploy, part.spec.id))
    except NotReady as error:
        raise _not_ready(deploy, part, error) from error
    deploy.journal.note(f"part {name}", "ready")
    took = round(deploy.clock.now() - started, 3)
    deploy.journal.event("service.started", service=name, pid=proof.pid, ready_s=took)


def _not_ready(deploy: Deploy, part: Part, error: NotReady) -> FailedError:
    own = telling.read(part.report).get("error")
    cause = log_tails.below(deploy, part.spec.id, deploy.paths.logs / str(part.spec.log), str(own or error))
    hint = f"correct [services.{part.name}], then run it again"
    return FailedError(f"service {part.name} did not become ready", cause=cause, hint=hint)


def _kept_because(deploy: Deploy, part: Part, succeeded: bool) -> Optional[str]:
    """Why *part* is not stopped now; None where it is."""
    if not deploy.request.target["autostop"]:
        return "--no-autostop"
    if part.kept == NEVER:
        return 'cleanup = "never"'
    if part.kept != ALWAYS and not succeeded:
        return 'cleanup = "on_success", and the job failed'
    return None


def _stop(deploy: Deploy, part: Part) -> bool:
    """Whether nothing of *part* is left."""
    order, instance = part.order, part.spec.id
    deploy.supervisor.dismiss(deploy.request.deploy, deploy.request.who, instance, order)
    gone = await_gone(deploy, instance, order.ceiling)
    deploy.journal.event("service.stopped", **telling.service_report(deploy, part, not gone))
    if gone:
        deploy.journal.note(f"part {part.name}", "ended")
        if part.report is not None:
            telling.remove(part.report)
        socket_of(deploy.paths, instance).unlink(missing_ok=True)
    return gone
