"""What a deploy will do, computed from what was observed: facts in, steps out. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from deployer.durations import show
from deployer.host.beside import changes
from deployer.model import Step

Facts = Dict[str, Any]

GATES = ("stage", "install", "check", "rehearse")
"""Steps during which the old release serves undisturbed: whatever fails here fails the deploy with exit code 7."""


RUN = "run"
"""The kind of a deploy that is a batch job with its services."""


@dataclass(frozen=True)
class Want:
    """
    What was asked for. `settings` are those of the release that shall run; `drain` those of the config, now; `pool` its kind.

    `commands` are the user's `start` and `stop`, where these own the process. `services` are the changes of those beside the app;
    `same_app`: but for them, what runs is what is wanted.
    """

    kind: str
    settings: Dict[str, Any]
    drain: Dict[str, Any]
    release: Optional[str] = None
    release_hash: Optional[str] = None
    files: int = 0
    bytes_total: int = 0
    staged: bool = False
    same_secrets: bool = True
    same_owner: bool = True
    hashes: Dict[str, str] = field(default_factory=dict)
    pool: Optional[str] = None
    commands: Optional[Dict[str, Any]] = None
    services: List[Dict[str, Any]] = field(default_factory=list)
    same_app: bool = False

    @property
    def overlaps(self) -> bool:
        return bool(self.settings.get("strategy") == "overlap")


def plan(facts: Facts, want: Want) -> List[Step]:
    """The steps of this deploy in order; none when what is wanted already serves."""
    if want.kind in ("push", "rollback"):
        return _brought(facts, want)
    if want.kind == "restart":
        return _swap(facts, want)
    if want.kind == "start":
        up = changes.before(want.services) if changes.changed(want.services) else []
        return up if facts["instance"] else up + _swap(facts, want)
    if want.kind == "stop":
        if facts.get("parts"):
            names = ", ".join(str(one["part"]) for one in facts["parts"])
            return [Step("leftovers", f"stop and clean up {names}, which a run has left")]
        running = _leave(want) if facts["instance"] else []
        app = [*running, _stop(facts, want)] if facts["instance"] or facts["desired"] or facts["draining"] else []
        return app + changes.after(want.services)
    if want.kind == RUN:
        return [*_gates(facts, want), *_batch(want.settings)]
    raise ValueError(f"no plan for {want.kind!r}")


def _brought(facts: Facts, want: Want) -> List[Step]:
    """A release that is pushed or rolled back to: with its services, before and after it."""
    up, down = changes.before(want.services), changes.after(want.services)
    if not unchanged(facts, want):
        return _gates(facts, want) + up + _pruned(_swap(facts, want), _when_drained(facts, want, down))
    if not changes.changed(want.services):
        return []
    if serves(facts, want):
        return up + down
    gates = [step for step in _gates(facts, want) if step.name != "rehearse"]
    good = Step("confirm", f"{want.release} is the release to come back to; the app runs on")
    return gates + up + _pruned([*_switch(want), good], down)


def serves(facts: Facts, want: Want) -> bool:
    """Whether the release that is current here has this content and these settings, those of its services too."""
    if want.kind == "rollback":
        return bool(facts["current"] == want.release)
    return want.release_hash is not None and want.hashes.get(facts["current"]) == want.release_hash


def _when_drained(facts: Facts, want: Want, down: List[Step]) -> List[Step]:
    # An old generation that drains may need a service until its end.
    if down and want.overlaps and not facts.get("gap"):
        return [Step("room", "wait for what drains, which may need them"), *down]
    return down


def unchanged(facts: Facts, want: Want) -> bool:
    """Whether the instance that serves is already of this content, these settings and these secrets."""
    running = facts["instance"]
    if not running or running["adopted"] or not running["confirmed"] or not want.same_secrets:
        return False
    if not want.same_owner:
        return False
    if want.same_app:
        return True
    if want.kind == "rollback":
        return bool(running["release"] == want.release)
    return want.release_hash is not None and want.hashes.get(running["release"]) == want.release_hash


def _batch(settings: Dict[str, Any]) -> List[Step]:
    names, job = ", ".join(settings["services"]), settings["job"]
    limit = f" (at most {show(job['timeout'])})" if job["timeout"] is not None else ""
    steps = [Step("services", f"start {names}, each once the one before is ready")] if names else []
    steps.append(Step("job", f"{_shown(job['command'])}{limit}"))
    return [*steps, Step("cleanup", f"stop and clean up {names}, in reverse order" if names else "nothing is left")]


def _gates(facts: Facts, want: Want) -> List[Step]:
    steps = []
    settings = want.settings
    if not want.staged:
        steps.append(
            Step(
                "stage",
                f"{want.files} file{'s' if want.files != 1 else ''}, {want.bytes_total} bytes into releases/{want.release}",
            )
        )
        if settings["install"]["command"]:
            steps.append(
                Step(
                    "install",
                    f"{_shown(settings['install']['command'])} (at most {show(settings['install']['timeout'])})",
                )
            )
    if settings["check"]["command"] and not (want.kind == RUN and want.staged):
        steps.append(
            Step("check", f"{_shown(settings['check']['command'])} (at most {show(settings['check']['timeout'])})")
        )
    if settings["run"]["rehearse"]:
        steps.append(Step("rehearse", "boot the new release on a private port or socket, then end it"))
    return steps


def _swap(facts: Facts, want: Want) -> List[Step]:
    steps = []
    if facts["adopt"]:
        steps.append(Step("adopt", f"take over pid {facts['adopt']['pid']} ({facts['adopt']['command']})"))
    # What runs and lets nobody share its socket has to go before anybody else can listen.
    if want.overlaps and not facts.get("gap"):
        return steps + _overlap(facts, want)
    running = facts["instance"] or facts["adopt"]
    if running:
        steps += _room(facts) + _leave(want) + _quiet(want)
    steps += _switch(want)
    steps.append(Step("replace", _replace_text(facts, want)))
    steps.append(Step("ready", _ready_text(want.settings["health"])))
    if want.pool:
        steps.append(Step("join", f"{want.pool} sends traffic to it"))
    steps.append(Step("confirm", f"{want.release} is the release to come back to"))
    return steps


def _overlap(facts: Facts, want: Want) -> List[Step]:
    running = facts["instance"] or facts["adopt"]
    beside = f" beside pid {running['pid']}" if running else ""
    steps = [
        Step("launch", f"start {_shown(want.settings['run']['command'])}{beside}"),
        Step("ready", _ready_text(want.settings["health"])),
    ]
    if want.pool:
        steps.append(
            Step("pool", f"{want.pool} sends traffic to it" + (", and none to the old one" if running else ""))
        )
    steps += _switch(want)
    steps.append(
        Step("retire", f"{want.release} is the service" + (f"; {_signal_text(facts, want)}" if running else ""))
    )
    # What should run and does not (a crash, a reboot) is started again meanwhile, and then it has to drain as well.
    if running or facts["desired"]:
        whom = "it" if running else "whatever else runs by then,"
        steps.append(
            Step("drain", f"wait for {whom} up to {show(want.drain['ceiling'])}{_expected(facts)}; the new one serves")
        )
    return steps


def _room(facts: Facts) -> List[Step]:
    if not facts["draining"]:
        return []
    pids = ", ".join(str(one["pid"]) for one in facts["draining"])
    return [Step("room", f"wait for pid {pids}, which drains; the old one serves")]


def _switch(want: Want) -> List[Step]:
    if want.kind not in ("push", "rollback"):
        return []
    return [Step("switch", f"current -> releases/{want.release}")]


def _leave(want: Want) -> List[Step]:
    return [Step("leave", f"{want.pool} sends no traffic here")] if want.pool else []


def _quiet(want: Want) -> List[Step]:
    steps = []
    if want.drain.get("quiet"):
        steps.append(Step("quiet", f"ask the old process to take no new work: {_shown(want.drain['quiet'])}"))
    if want.drain.get("wait_idle"):
        steps.append(Step("wait_idle", f"look for an idle moment, at most {show(want.drain['wait_idle'])}"))
    return steps


def _stop(facts: Facts, want: Want) -> Step:
    return Step("replace", _drain_text(facts, want) + "; then nothing runs")


def _replace_text(facts: Facts, want: Want) -> str:
    command = _shown((want.commands or {}).get("start") or want.settings["run"]["command"])
    if facts["instance"] or facts["adopt"]:
        return f"{_drain_text(facts, want)}; then start {command}"
    if facts["draining"]:
        pids = ", ".join(str(one["pid"]) for one in facts["draining"])
        return f"wait for pid {pids}, which is draining; then start {command}"
    return f"nothing runs, so nothing is drained; start {command}"


def _drain_text(facts: Facts, want: Want) -> str:
    running = facts["instance"] or facts["adopt"]
    if not running:
        return "nothing runs"
    return f"{_signal_text(facts, want)}, wait up to {show(want.drain['ceiling'])}{_expected(facts)}"


def _signal_text(facts: Facts, want: Want) -> str:
    count = len(facts["health"]["tasks"])
    work = f", {count} task{'s' if count != 1 else ''} in progress" if count else ""
    pid = (facts["instance"] or facts["adopt"])["pid"]
    if want.commands:
        return f"{_shown(want.commands['stop'])} stops pid {pid}{work}"
    return f"{want.drain['signal']} to pid {pid}{work}"


def _expected(facts: Facts) -> str:
    return f", {facts['drains']['text']}" if facts.get("drains") else ""


def _ready_text(health: Dict[str, Any]) -> str:
    if health["url"]:
        return f"{health['streak']} good answers in a row from {health['url']} within {show(health['ready_within'])}"
    return f"alive for {show(health['alive_for'])}"


def _pruned(steps: List[Step], down: List[Step]) -> List[Step]:
    """*steps*, and after the last one that needs the lock *down* and the prune."""
    last = [*down, Step("prune", "remove old releases that nobody needs")]
    return [*steps[:-1], *last, steps[-1]] if steps[-1].name == "drain" else [*steps, *last]


def _shown(command: Any) -> str:
    if isinstance(command, str):
        return command
    words = list(command)
    return str(words[2]) if words[:2] == ["sh", "-c"] and len(words) == 3 else " ".join(map(str, words))
