"""One deploy as a timeline: what happened when, how long it took, and what was waited for. Rows in, entries out; no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

from deployer.durations import show
from deployer.host import told
from deployer.host.journal import timestamp
from deployer.host.state import Row

Entry = Dict[str, Any]

_INSIDE = ("replace", "drain", "revert", "log", "last_call")
"""Steps that are told by what they consist of: drains, starts, events."""
_NAMED = 3
"""Tasks that a wait names; the others are counted."""


@dataclass(frozen=True)
class Record:
    """
    What state.db says of one deploy, and `now` (seconds since 1970). `drains` and `instances` are those that it dealt with.

    `working` are the tasks that the draining process has named just now; `running` whether a runner is at it.
    """

    deploy: Row
    journal: List[Row]
    events: List[Dict[str, Any]]
    drains: List[Row]
    signals: List[Row]
    instances: List[Row]
    now: float
    working: List[Dict[str, Any]] = field(default_factory=list)
    running: bool = True

    @property
    def end(self) -> Optional[float]:
        """When the deploy ended; None while it is under way."""
        return None if self.deploy["ended_at"] is None else float(self.deploy["ended_at"])

    @property
    def request(self) -> Dict[str, Any]:
        found: Dict[str, Any] = json.loads(self.deploy["request"] or "{}")
        return found

    @property
    def opened(self) -> Dict[str, Any]:
        return self.request.get("opened") or {}

    @property
    def start(self) -> float:
        """When it was asked for: before the lock was had, and before the client had built."""
        return float(self.opened.get("at") or self.deploy["started_at"])


def entries(record: Record) -> List[Entry]:
    """
    Every entry in order: `time`, `at_s` (seconds since the start), `what`, `text`, `took_s`, `waited_for`, `part`, `so_far`,
    `detail`.

    `part` is the share of the whole that its time counts to (waits.py); `so_far` says that it goes on.
    """
    line = _Line(record)
    makers = (line.asked, line.steps, line.drains, line.signals, line.starts, line.told, line.ended)
    found = [entry for make in makers for entry in make()]
    return sorted(found, key=lambda entry: float(entry["at_s"]))


class _Line:
    def __init__(self, record: Record) -> None:
        self._record = record
        self._request = record.request
        self._verdicts = {event.get("instance"): event for event in record.events if event["event"] == "drain.finished"}
        self._commands = {row["pid"]: _command(row) for row in record.instances if row["pid"]}
        killed = [one for event in self._verdicts.values() for one in event.get("killed") or []]
        self._commands.update({one["pid"]: _short(str(one["command"])) for one in killed if "command" in one})

    def asked(self) -> Iterator[Entry]:
        """Who asked, the wait for the lock, and what the client did until it handed over."""
        deploy, opened, start = self._record.deploy, self._record.opened, self._record.start
        yield self._entry(start, "asked", f"{deploy['kind']} by {deploy['who']}")
        locked = float(opened.get("locked_at") or start)
        if opened.get("behind"):
            waited_for = f"the lock: {told.holder(opened['behind'])}"
            yield self._entry(start, "lock", took=locked - start, waited_for=waited_for, part="lock")
        if opened and deploy["kind"] == "push":
            took = deploy["started_at"] - locked
            yield self._entry(locked, "prepare", "built and sent by the client", took=took, part="prepare")

    def steps(self) -> Iterator[Entry]:
        """Each step of the plan that was begun, from its begin to its end."""
        plan = {step["step"]: step["what"] for step in self._request.get("steps") or []}
        for name, (begun, done) in self._begun().items():
            text, waited_for = self._step(name, plan.get(name, ""), done)
            end = done or self._broke_off(begun)
            part = {"ready": "start", "launch": "start", "leave": "pool", "join": "pool"}.get(name, name)
            yield self._entry(begun, name, text, end=end, waited_for=waited_for, part=part)

    def drains(self) -> Iterator[Entry]:
        """Each drain: the order with what was waited for, and the verdict."""
        for row in self._record.drains:
            one = self._instance(row["instance"])
            verdict = json.loads(row["verdict"]) if row["verdict"] else None
            end = row["asked_at"] + verdict["waited_s"] if verdict else self._record.end
            failed = row["instance"] == self._request.get("instance")
            tasks = self._verdicts.get(row["instance"], {}).get("tasks") or ([] if verdict else self._record.working)
            waited_for = f"{self._process(one.get('pid'))} to {_finish(tasks)}"
            part = None if failed else "drain"  # the drain of a release that failed belongs to the way back
            yield self._entry(row["asked_at"], "drain", _order(row), end=end, waited_for=waited_for, part=part)
            if verdict and end is not None:
                event = self._verdicts.get(row["instance"], {})
                yield self._entry(end, "verdict", told.verdict({**verdict, **event}))

    def signals(self) -> Iterator[Entry]:
        """Each signal; one entry for all those by which a tree was killed."""
        killed: Dict[str, List[Row]] = {}
        for row in self._record.signals:
            if row["signal"] == "SIGKILL":
                killed.setdefault(row["instance"], []).append(row)
                continue
            sent = "" if row["sent_at"] else " (intended; whether it was sent is not known)"
            text = f"{row['signal']} to pid {row['pid']}{sent}"
            yield self._entry(row["sent_at"] or row["intended_at"], "signal", text)
        for rows in killed.values():
            text = "SIGKILL to " + ", ".join(self._process(row["pid"]) for row in rows)
            yield self._entry(rows[0]["intended_at"], "force", text)

    def starts(self) -> Iterator[Entry]:
        """Each instance that this deploy started, or could not; and those that went without being asked."""
        drained = {row["instance"] for row in self._record.drains}
        for row in self._record.instances:
            if row["deploy"] != self._record.deploy["id"] or not self._during(row["created_at"]):
                continue
            if row["error"]:
                yield self._entry(row["ended_at"], "start", f"{row['release']} could not be started: {row['error']}")
            elif row["pid"]:
                yield self._entry(row["started_at"], "start", f"pid {row['pid']} runs {row['release']}")
                if row["ended_at"] and self._during(row["ended_at"]) and row["id"] not in drained:
                    text = f"pid {row['pid']} exited by itself{told.code(row['exit_code'])}"
                    yield self._entry(row["ended_at"], "exit", text)

    def told(self) -> Iterator[Entry]:
        """What only an event tells, also one that this version does not know."""
        for event in self._record.events:
            said = told.said(event)
            if said is not None:
                what, text = said
                at = told.moment(event, self._record.start)
                if event["event"] == "revert.started":
                    yield self._entry(at, what, text, end=self._reverted(), part="revert")
                else:
                    yield self._entry(at, what, text)

    def ended(self) -> Iterator[Entry]:
        """How it ended; where it stands when it has not."""
        deploy, end = self._record.deploy, self._record.end
        if end is not None:
            result = json.loads(deploy["result"] or "{}")
            error = result.get("error") or {}
            cause = str(error.get("cause") or "").splitlines()
            yield {**self._entry(end, "end", told.end(deploy, result)), "detail": cause}
        else:
            nobody = (
                "" if self._record.running else "; no runner is at it: the keeper or the next command goes on with it"
            )
            yield self._entry(self._record.now, "now", f"at {deploy['step']}{nobody}")

    def _entry(
        self, at: float, what: str, text: str = "", *, took: Optional[float] = None, end: Optional[float] = None,
        waited_for: Optional[str] = None, part: Optional[str] = None,
    ) -> Entry:  # fmt: skip
        lasted = part is not None or waited_for is not None
        if took is None and lasted:
            took = (end if end is not None else self._record.now) - at
        return {
            "time": timestamp(at), "at_s": round(at - self._record.start, 3), "what": what, "text": text,
            "took_s": None if took is None else round(max(0.0, took), 3), "waited_for": waited_for, "part": part,
            "so_far": lasted and end is None and self._record.end is None and what not in ("lock", "prepare"), "detail": [],
        }  # fmt: skip

    def _begun(self) -> Dict[str, Tuple[float, Optional[float]]]:
        """The steps in the order of their begin; a resumed one began when it was first tried."""
        found: Dict[str, Tuple[float, Optional[float]]] = {}
        for row in self._record.journal:
            if row["phase"] == "begin" and row["step"] not in _INSIDE:
                found.setdefault(row["step"], (row["at"], None))
            elif row["phase"] == "done" and row["step"] in found:
                found[row["step"]] = (found[row["step"]][0], row["at"])
        return found

    def _step(self, name: str, what: str, done: Optional[float]) -> Tuple[str, Optional[str]]:
        """What a step says of itself, and what was waited for in it."""
        failed = "" if done or self._record.end is None else "not done"
        if name in ("install", "check"):
            return failed, f"{name}: {what.rpartition(' (at most')[0] or what}"
        if name == "rehearse":
            return failed, "the new release to prove itself on a private port or socket"
        if name == "wait_idle":
            return failed, "an idle moment"
        if name == "ready":
            return self._proof(done), self._proven_by()
        return failed or what, None

    def _proof(self, done: Optional[float]) -> str:
        probes = next((event["probes"] for event in self._record.events if event["event"] == "ready"), None)
        if done:
            return f"serves, after {probes} probes" if probes else "serves"
        return "" if self._record.end is None and not self._reverting() else "it did not become ready"

    def _proven_by(self) -> str:
        health = (self._request.get("settings") or {}).get("health") or {}
        pid = self._instance(self._request.get("instance")).get("pid")
        who = f"pid {pid}" if pid else "the new process"
        if health.get("url"):
            return f"{health['streak']} good answers in a row from {who}"
        return f"{who} to be alive for {show(float(health.get('alive_for') or 0))}"

    def _broke_off(self, begun: float) -> Optional[float]:
        """When a step ended that was never done: with the way back, or with the deploy."""
        back = self._reverting()
        return back if back is not None and back >= begun else self._record.end

    def _reverting(self) -> Optional[float]:
        return next(
            (told.moment(event, 0.0) for event in self._record.events if event["event"] == "revert.started"), None
        )

    def _reverted(self) -> Optional[float]:
        ends = [told.moment(event, 0.0) for event in self._record.events if event["event"] == "revert.finished"]
        return ends[-1] if ends else self._record.end

    def _instance(self, name: Any) -> Row:
        return next((row for row in self._record.instances if row["id"] == name), {})

    def _process(self, pid: Any) -> str:
        command = self._commands.get(pid)
        return f"pid {pid} ({command})" if command else f"pid {pid}"

    def _during(self, at: float) -> bool:
        return self._record.end is None or at <= self._record.end


def _order(row: Row) -> str:
    allowed = row["deadline_mono"] - row["asked_mono"]
    moved = f", moved to {show(allowed)}" if abs(allowed - row["ceiling"]) > 1 else ""
    whole = " to the whole tree" if row["signal_to"] == "tree" else ""
    return f"{row['signal']}{whole}, ceiling {show(row['ceiling'])}{moved}"


def _finish(tasks: List[Dict[str, Any]]) -> str:
    names = [told.task(task) for task in tasks[:_NAMED]]
    more = [f"{len(tasks) - _NAMED} more"] if len(tasks) > _NAMED else []
    return f"finish: {', '.join(names + more)}" if names else "exit"


def _command(row: Row) -> str:
    return _short(" ".join(json.loads(row["spec"] or "{}").get("argv") or []))


def _short(words: str) -> str:
    return words if len(words) <= 60 else words[:59] + "…"
