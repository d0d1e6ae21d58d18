"""The gates: everything that can be done before the old process is asked to stop."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Set

from deployer.errors import GateError
from deployer.host import disk, gates, logs, observe, sockets, spawn, unix
from deployer.host.deploy import Deploy, spec_of
from deployer.host.gates import Command
from deployer.host.heed import Attention, Attentive
from deployer.host.instance import new_instance_id
from deployer.host.ready import NotReady, Prover, url_port
from deployer.host.rehearse import Rehearsal
from deployer.host.store import Store
from deployer.model import Spec


def stage(deploy: Deploy) -> None:
    """Lay the new release out in releases/<id>, linked to the store, with its linked paths in place."""
    request, started = deploy.request, deploy.clock.now()
    assert request.release is not None and deploy.manifest is not None
    releases, store = deploy.releases, Store(deploy.paths.store)
    staged = releases.stage(request.release, deploy.manifest, store)
    releases.link_shared(request.release, request.settings["run"]["linked"])
    store.sync()
    deploy.state.replace(
        "releases", id=request.release, hash=request.release_hash, state="staged", created_at=time.time(),
        files=staged.files, bytes=staged.bytes_total, settings=request.settings,
    )  # fmt: skip
    deploy.journal.common["release"] = request.release
    deploy.journal.event(
        "stage.finished", files=staged.files, bytes_total=staged.bytes_total, bytes_sent=request.bytes_sent,
        took_s=_took(deploy, started),
    )  # fmt: skip


def install(deploy: Deploy) -> None:
    """Run `[install] command` inside the new release. What it made is on the disk when this returns: a power cut keeps it."""
    _gate(deploy, "install")
    release = str(deploy.paths.release(str(deploy.request.release)))
    with disk.disk_errors("write what install made to the disk", release):
        disk.sync_filesystem(release)


def check(deploy: Deploy) -> None:
    """Run `[check] command`: the last gate before the old process is asked to stop."""
    deploy.journal.common["release"] = deploy.request.release
    _gate(deploy, "check")


def rehearse(deploy: Deploy) -> None:
    """Boot the new release on a private port or socket, see it ready, end it again."""
    request = deploy.request
    spec = spec_of(deploy.paths, str(request.release), request.settings, new_instance_id(), rehearsal=True)
    deploy.journal.note("rehearse", "instance", instance=spec.id)  # so that a resume can end what we leave behind
    if spec.port is not None:
        spec = changed(spec, port=_private_port())
    output = deploy.paths.output(request.deploy, "rehearse")
    private = deploy.paths.health_socket(spec.id) if spec.private_health else None
    with ExitStack() as opened:
        listeners = {
            name: opened.enter_context(_private(address)) for name, address in sockets.named(spec.socket).items()
        }
        if private is not None:
            opened.callback(partial(private.unlink, missing_ok=True))
            listeners["health"] = opened.enter_context(unix.listen(private))
        _rehearse(deploy, Rehearsal(deploy, spec, listeners, output), spec, _public(listeners), private)


def _take_the_socket(deploy: Deploy, error: NotReady) -> str:
    if error.exited or not deploy.request.settings["run"]["socket"]:
        return "fix the release; "
    return (
        "fix the release: it has to answer on the socket that it inherits as fd 3 (LISTEN_FDS), "
        "and must not open a port of its own for that; "
    )


def _rehearse(
    deploy: Deploy, rehearsal: Rehearsal, spec: Spec, listener: Optional[socket.socket], private: Optional[Path]
) -> None:
    port = spec.port if listener is None else int(listener.getsockname()[1])
    started, output = deploy.clock.now(), deploy.paths.output(deploy.request.deploy, "rehearse")
    watched, health = Attentive(deploy, rehearsal), _private_health(deploy.request.settings)
    try:
        proof = Prover(watched, health, port, deploy.clock, deploy.processes, private, listener).prove(spec.id)
    except NotReady as error:
        raise GateError(
            "the rehearsal failed: the new release did not become ready",
            cause="\n".join([str(error), *(f"  {line}" for line in logs.tail(output, 20))]),
            state=gates.OLD_SERVES,
            hint=_take_the_socket(deploy, error) + "if it cannot run beside the old one, set run.rehearse = false",
        ) from error
    finally:
        rehearsal.end()
    deploy.journal.event("rehearse.finished", probes=proof.probes, took_s=_took(deploy, started))


def _gate(deploy: Deploy, step: str) -> None:
    request = deploy.request
    table = request.settings[step]
    assert request.release is not None
    spec = deploy.spec(new_instance_id())
    deploy.journal.note(step, "instance", instance=spec.id)  # so that a resume can end what we leave behind
    env = spawn.environment(spec, spawn.base_environment(os.environ))
    output = deploy.paths.output(request.deploy, step)
    command = Command(step, table["command"], deploy.paths.release(request.release), env, table["timeout"], output)
    damaged = _damaged(deploy)
    with disk.disk_errors(f"run {step}", str(output)):
        took = gates.run(command, deploy.journal.redact, deploy.processes, Attention(deploy))
    _require_intact(step, sorted(_damaged(deploy) - damaged))
    if request.kind == "push":
        disk.require_room(str(command.cwd), f"go on after {step}")
    deploy.journal.event(f"{step}.finished", took_s=round(took, 3))


def _damaged(deploy: Deploy) -> Set[str]:
    """The files of the release that serves whose content is no longer what was pushed: releases share unchanged files."""
    serving = deploy.request.previous_release
    manifest = deploy.releases.manifest(serving) if serving else None
    return {entry.path for entry in Store(deploy.paths.store).missing(manifest)} if manifest else set()


def _require_intact(step: str, damaged: List[str]) -> None:
    if damaged:
        raise GateError(
            f"{step} changed files in place that the running release shares",
            cause="\n".join(damaged[:10]),
            state="the running process was not signalled, but these files of its release are not what they were",
            hint="write a new file and rename it over the old one, or keep what changes in run.linked; then push again",
        )


def _private(address: str) -> socket.socket:
    """A listening socket of the kind of *address*, where nobody will look for it."""
    if address.startswith(sockets.UNIX):
        if not sys.platform.startswith("linux"):
            raise GateError(
                "a Unix socket cannot be rehearsed on this system", cause="only Linux has sockets without a path",
                state="the running release was not touched", hint="write rehearse = false in [run], or a TCP address as socket",
            )  # fmt: skip
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("")  # the kernel chooses an abstract name
        listener.listen(128)
        return listener
    return sockets.bind("[::1]:0" if "[" in address else "127.0.0.1:0", 128)


def _private_port() -> int:
    # The app binds by itself: all we can give it is a number that was free a moment ago.
    with sockets.bind("127.0.0.1:0", 1) as probe:
        return int(probe.getsockname()[1])


def _public(listeners: Mapping[str, socket.socket]) -> Optional[socket.socket]:
    """The TCP socket on which the rehearsed instance serves; None where it inherits none."""
    return next((one for name, one in listeners.items() if name != "health" and one.family != socket.AF_UNIX), None)


def _private_health(settings: Dict[str, Any]) -> Dict[str, Any]:
    """The `health` table for a rehearsal: also a port that is written in the URL gives way to the private one."""
    health, port = settings["health"], observe.port_of(settings)
    if port is None or not health["url"] or url_port(health["url"].replace("{port}", "1")) != port:
        return dict(health)
    return {**health, "url": health["url"].replace(f":{port}", ":{port}", 1)}


def _took(deploy: Deploy, started: float) -> float:
    return round(deploy.clock.now() - started, 3)
