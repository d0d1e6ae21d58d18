"""Rules that concern more than one key, asked of what holds for a target: an override may mend or break them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from deployer import durations
from deployer.config import addresses, ladder
from deployer.config.explain import Place, Problem, show, spell
from deployer.config.ladder import Rung
from deployer.config.schema import Adopt, Drain, Run, Target
from deployer.config.tables import ServiceTables, Tables, set_rungs
from deployer.model import JOB

Where = Callable[[Place], Place]


def problems(
    strategy: str, tables: Tables, where: Where, supervisor: str = "builtin", ray: bool = False
) -> Iterator[Problem]:
    """What is wrong between the keys of *tables*; *where* gives the place at which a key was written."""
    if not ray:  # where services are all that runs, and replace each other in Ray's own way
        yield from _something_runs(tables, where, supervisor)
        yield from _overlap_has_room(strategy, tables)
    yield from _each_generation_is_asked(strategy, tables, where)
    yield from _port_is_known(tables, where)
    yield from _rehearsal_has_room(tables, where)
    yield from _secrets_stay_secret(tables, where)
    yield from _drain_rises(tables.drain, ("drain",), where)
    yield from _one_way_to_adopt(tables.adopt, where)
    for name, service in tables.services.items():
        yield from _service(service, ("services", name), where)


def _something_runs(tables: Tables, where: Where, supervisor: str) -> Iterator[Problem]:
    job = tables.job
    if tables.run.command is None and job.command is None and supervisor != "command":
        yield Problem(("run", "command"), "missing", 'add [run] command = ["node", "api.js"]')
    if job.command is None and (job.env or job.timeout):
        hint = 'add command = ["python", "job.py"] to [job], or remove [job]'
        yield Problem((*where(("job",)), "command"), "missing", hint)


def _overlap_has_room(strategy: str, tables: Tables) -> Iterator[Problem]:
    if strategy == "overlap" and not tables.run.socket and len(tables.run.ports) < 2:
        hint = 'add socket = "127.0.0.1:3001" or ports = [3001, 3002] to [run], or write strategy = "restart"'
        yield Problem(("strategy",), "overlap needs run.socket or two run.ports", hint, '"overlap"')


def _each_generation_is_asked(strategy: str, tables: Tables, where: Where) -> Iterator[Problem]:
    url = tables.health.url
    if (
        strategy == "overlap"
        and tables.run.ports
        and not tables.run.socket
        and url
        and "{port}" not in url
        and not tables.health.private
    ):
        why = "with overlap each generation has a port of its own, and this URL asks always the same one"
        yield Problem(
            where(("health", "url")), why, 'write {port} for the port: "http://127.0.0.1:{port}/health"', show(url)
        )


def _port_is_known(tables: Tables, where: Where) -> Iterator[Problem]:
    url = tables.health.url
    if url and "{port}" in url and not _has_port(tables.run) and not tables.health.private:
        why = "{port} is that of run.socket or run.ports, and neither is set"
        hint = 'add ports = [3001] or socket = "127.0.0.1:3001" to [run], or write the port as a number'
        yield Problem(where(("health", "url")), why, hint, show(url))


def _has_port(run: Run) -> bool:
    return bool(run.ports) or bool(addresses.tcp_ports(run.socket))


def _rehearsal_has_room(tables: Tables, where: Where) -> Iterator[Problem]:
    run = tables.run
    if run.rehearse and tables.health.url and not run.socket and not run.ports and not tables.health.private:
        why = "a rehearsal needs a private address, and the port of this service is written in its own code"
        hint = 'add socket = "127.0.0.1:3001" or ports = [3001] to [run], or remove rehearse'
        yield Problem(where(("run", "rehearse")), why, hint, "true")


def _secrets_stay_secret(tables: Tables, where: Where) -> Iterator[Problem]:
    for name in tables.run.secrets:
        if name in tables.run.env:
            why = f"{name} stands in run.env too"
            yield Problem(where(("run", "secrets")), why, f"remove {name} from env, or from secrets")


def _drain_rises(drain: Drain, above: Place, where: Where) -> Iterator[Problem]:
    rungs = [Rung(spell(where((*above, name))), seconds) for name, seconds in set_rungs(drain)]
    found = ladder.fault(rungs)
    if found:
        # The rung that a target overrides is the one to mend; of two alike, the inner one.
        culprit = max(found, key=lambda rung: rung.name.startswith("target."))
        hint = f"raise {found[1].name} above {durations.show(found[0].seconds)}, or lower {found[0].name}"
        why = f"the timeout ladder must rise, but {ladder.sentence(*found)}"
        place = where((*above, culprit.name.rpartition(".")[2]))
        yield Problem(place, why, hint, f'"{durations.show(culprit.seconds)}"')
    yield from _last_call_fits(drain, above, where)


def _last_call_fits(drain: Drain, above: Place, where: Where) -> Iterator[Problem]:
    if drain.last_call and drain.last_call_before >= drain.ceiling:
        before, ceiling = durations.show(drain.last_call_before), durations.show(drain.ceiling)
        why = f"the last call would come before the signal: it is not shorter than ceiling = {ceiling}"
        hint = f"write last_call_before shorter than {ceiling}, or raise ceiling above {before}"
        yield Problem(where((*above, "last_call_before")), why, hint, f'"{before}"')


def _one_way_to_adopt(adopt: Adopt, where: Where) -> Iterator[Problem]:
    forms = list(adopt.model_dump(exclude_none=True))
    if len(forms) > 1:
        why = f"{' and '.join(forms)} stand together, and a process is found in one way"
        yield Problem(where(("adopt",)), why, f"keep {forms[0]}, remove the rest")


def _service(tables: ServiceTables, place: Place, where: Where) -> Iterator[Problem]:
    service, url = tables.service, tables.health.url
    if place[-1] == JOB:
        yield Problem(where(place), "this is the name of the job itself", "give the service another one")
    if service.command and service.class_:
        yield Problem(where(place), "command and class stand together", "keep one of them")
    if not service.command and not service.class_ and service.model_fields_set:
        hint = 'add command = ["redis-server"] or class = "module:Class"'
        yield Problem(where(place), "neither command nor class", hint)
    if service.command and service.ray:
        yield Problem(
            where((*place, "ray")), "only a class can be a Ray actor", "remove ray, or replace command by class"
        )
    if url and "{port}" in url:
        why, hint = "{port} is that of [run], and a service has none", "write the port as a number"
        yield Problem(where((*place, "health", "url")), why, hint, show(url))
    yield from _drain_rises(tables.drain, (*place, "drain"), where)


def target_problems(name: str, target: Target) -> Iterator[Problem]:
    """What is wrong between the keys of the target itself."""
    place = ("target", name, "path")
    if target.hosts and target.path is None:
        yield Problem(place, "missing; a target with hosts says where the app lives", 'add path = "/srv/my-app"')
    if target.hosts and target.path and not target.path.startswith(("/", "~")):
        why = "a relative path; on a host there is nothing it could be relative to"
        yield Problem(place, why, 'write path = "/srv/my-app", or "~/my-app"', show(target.path))
    if target.pool:
        from deployer.config import pools  # most configs have none

        yield from pools.problems(("target", name, "pool"), target.pool)
    if target.ssh:
        yield from _silence_is_longer_than_a_beat(name, target.ssh)


def _silence_is_longer_than_a_beat(name: str, written: dict[str, Any]) -> Iterator[Problem]:
    from deployer.config.fleet import Ssh  # most configs have none of its tables

    ssh = Ssh.model_validate(written)
    if ssh.silent_after <= ssh.heartbeat:
        # The one that is written is the one to mend.
        key = "silent_after" if "silent_after" in written else "heartbeat"
        silent, beat = durations.show(ssh.silent_after), durations.show(ssh.heartbeat)
        why = f"a healthy link is silent for a heartbeat: heartbeat = {beat}, silent_after = {silent}"
        hint = f"raise silent_after above {beat}, or lower heartbeat; some beats may be lost: 15s for 2s"
        yield Problem(("target", name, "ssh", key), why, hint, f'"{durations.show(getattr(ssh, key))}"')


def warnings(strategy: str, tables: Tables, pool: bool) -> Iterator[str]:
    """What is allowed, and yet not what its writer can have meant."""
    if strategy == "overlap" and not tables.run.socket and not pool:
        yield "with overlap every push moves the service to another of run.ports, and no pool is told: who finds it?"
    if strategy == "overlap":
        for place, asked in (("drain.quiet", tables.drain.quiet), ("drain.wait_idle", tables.drain.wait_idle)):
            if asked:
                yield f"{place} has no effect with overlap: the new release serves before the old one is asked to stop"
    if not tables.health.url:
        for place, value in (("health.busy", tables.health.busy), ("drain.wait_idle", tables.drain.wait_idle)):
            if value:
                yield f"{place} has no effect without health.url: nothing tells when the app is busy"
    for name, service in tables.services.items():
        if not service.service.model_fields_set:
            yield f"services.{name} is empty: nothing will be started for it"
