"""
The whole timeout ladder of a target: what deploy.toml says, what was found on its hosts, and the CI job around us.

`longest_task < app_grace < the server's own limit`, and below the ceiling; `ceiling < who may end the service from
outside < the CI job`. What is inside must give up before what is outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from deployer import durations
from deployer.config.model import Config
from deployer.errors import UsageError
from deployer.rollout.ci import job_limit

WORK, SERVER, CALL, CEILING, OUTER, PUSH, CI = "work", "inner", "call", "ceiling", "outer", "push", "ci"
_ORDER = (WORK, SERVER, CALL, CEILING, OUTER, PUSH, CI)
"""From the inside out."""
_BELOW = {SERVER: (WORK,), CEILING: (WORK,), OUTER: (CEILING,), CI: (CEILING, PUSH)}
"""What each kind of rung must outlast. Not the ceiling its servers: it is the end, whatever they would allow."""
_ACTS = {
    "drain.longest_task": "the longest work that there is",
    "drain.app_grace": "the app gives up by itself",
    "drain.ceiling": "deployer kills what is left",
}


@dataclass(frozen=True)
class Rung:
    """
    One limit: *seconds* (None: for ever), who *acts* when it is reached, *where* it is set, on which *hosts*.

    `ok` is False for one that breaks the ladder for certain, None where it may; `fault` and `hint` say how.
    """

    name: str
    seconds: float | None
    kind: str
    acts: str
    where: str
    hosts: tuple[str, ...] = ()
    certain: bool = True
    binding: bool = False
    ours: bool = False
    ok: bool | None = True
    fault: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.name} = {shown(self.seconds)}"

    def to_json(self) -> dict[str, Any]:
        """What `doctor --json` shows of it."""
        return {name: value for name, value in asdict(self).items() if name not in ("certain", "binding", "ours")}


def shown(seconds: float | None) -> str:
    """*seconds* of a rung for a person."""
    return "no limit" if seconds is None else durations.show(seconds)


def ladder(config: Config, found: Mapping[str, Sequence[Mapping[str, Any]]], environ: Mapping[str, str]) -> list[Rung]:
    """Every rung from the inside out, judged; *found* are the `limits` of each host that was looked at."""
    rungs = [*_of_config(config), *_of_hosts(found), *_of_ci(environ)]
    rungs.sort(key=lambda rung: (_ORDER.index(rung.kind), float("inf") if rung.seconds is None else rung.seconds))
    return [_judged(rung, rungs) for rung in rungs]


def require_time(config: Config, environ: Mapping[str, str]) -> None:
    """Return when the CI job around us outlasts the longest drain; UsageError naming both rungs otherwise."""
    for rung in ladder(config, {}, environ):
        if rung.kind == CI and rung.fault:
            raise UsageError(
                f"the timeout ladder does not rise: {rung.fault}",
                cause=f"{rung.acts} while the drain goes on, and nobody would see how it ends",
                state="nothing was changed",
                hint=f"{rung.hint}; or push with --detach",
            )


def faults(rungs: Sequence[Rung]) -> list[Rung]:
    """The rungs that do not outlast what is inside them, or may not."""
    return [rung for rung in rungs if rung.ok is not True]


def _of_config(config: Config) -> Iterator[Rung]:
    drain = config.tables.drain
    for rung in config.rungs():
        kind = CEILING if rung.name == "drain.ceiling" else WORK
        yield Rung(rung.name, rung.seconds, kind, _ACTS[rung.name], config.file.name)
    if drain.last_call:
        before = max(0.0, drain.ceiling - drain.last_call_before)
        yield Rung("drain.last_call", before, CALL, "the last call before force", config.file.name)
    if drain.wait_idle:
        # The wait comes before the signal: no outer limit has begun to count, but the client waits for both.
        whole = drain.wait_idle + drain.ceiling
        yield Rung("drain.wait_idle + ceiling", whole, PUSH, "the longest that a drain keeps a push", config.file.name)


def _of_hosts(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Rung]:
    """A rung that several hosts have alike once, with their names where not all of them have it."""
    known: dict[tuple[Any, ...], tuple[Mapping[str, Any], list[str]]] = {}
    for host, limits in found.items():
        for limit in limits:
            alike = (limit["name"], limit["seconds"], limit["binding"])
            known.setdefault(alike, (limit, []))[1].append(host)
    for limit, hosts in known.values():
        kind = OUTER if limit["kind"] == OUTER else SERVER
        names = () if len(set(hosts)) == len(found) else tuple(dict.fromkeys(hosts))
        yield Rung(
            limit["name"], limit["seconds"], kind, limit["acts"], limit["where"], names,
            certain=limit["certain"], binding=limit["binding"], ours=limit["ours"],
        )  # fmt: skip


def _of_ci(environ: Mapping[str, str]) -> Iterator[Rung]:
    job = job_limit(environ)
    if job:
        yield Rung(f"{job.system} {job.name}", job.seconds, CI, f"{job.system} cancels the job", job.where)


def _judged(rung: Rung, rungs: Sequence[Rung]) -> Rung:
    below = [other for other in rungs if other.kind in _BELOW.get(rung.kind, ()) and other.seconds is not None]
    # The unit of a release carries the ceiling out: it is told the very same.
    too_long = [
        other
        for other in below
        if _shorter(rung.seconds, other.seconds) or (rung.seconds == other.seconds and not rung.ours)
    ]
    if too_long:
        inner = max(too_long, key=lambda other: other.seconds or 0)
        return replace(
            rung, ok=False if _sure(rung) else None, fault=f"{rung} does not outlast {inner}", hint=_hint(rung, inner)
        )
    ceiling = next(other.seconds for other in rungs if other.kind == CEILING)
    if rung.kind == SERVER and not rung.certain and not below and _shorter(rung.seconds, ceiling):
        # Nobody chose it, and nobody has said how long the work takes: most who have it do not know of it.
        hint = f"raise it to {shown(ceiling)} ({rung.where}); or say drain.longest_task, and deployer checks it"
        return replace(rung, ok=None, fault=f"{rung}, long before drain.ceiling = {shown(ceiling)}", hint=hint)
    return rung


def _sure(rung: Rung) -> bool:
    """Whether the fault is one for certain. Who ends the service from outside needs a reason to; a default may be set elsewhere."""
    return rung.binding or rung.kind == CI or (rung.certain and rung.kind == SERVER) or rung.name == "timeout"


def _shorter(seconds: float | None, than: float | None) -> bool:
    return seconds is not None and than is not None and seconds < than


def _hint(rung: Rung, inner: Rung) -> str:
    return f"raise {rung.name} above {shown(inner.seconds)} ({rung.where}), or lower {inner.name}"
