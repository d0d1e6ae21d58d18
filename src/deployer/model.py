"""Words that the client and the host engine share: plain data, no I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional, Tuple

PROTOCOL = 1

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_LOCKED = 3
EXIT_PARTIAL = 4
EXIT_KILLED = 5
EXIT_PREFLIGHT = 6
EXIT_GATE = 7
EXIT_DOWN = 8
EXIT_INTERRUPTED = 130

JOB = "job"
"""The part of a run that is its job; the others are services, by their names."""


@dataclass(frozen=True)
class Identity:
    """One process for all time: its pid, when it started (kernel ticks since boot), and the boot it lived in."""

    pid: int
    start: int
    boot: str

    @staticmethod
    def from_json(data: Dict[str, Any]) -> "Identity":
        return Identity(int(data["pid"]), int(data["start"]), str(data["boot"]))

    def to_json(self) -> Dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Spec:
    """
    How to start one instance, with nothing secret in it.

    `secrets_file` and `env_file` are read at the moment of the start. `socket` is as host/sockets.py describes it; `port`
    becomes PORT. `drain` is how to stop what a crash leaves behind. `overlap`: the release may run beside others of its app;
    `beside`: this instance need not wait until they have gone. `private_health`: it gets a socket of its own for /health;
    `gate`: it opens the others only when told there. `owner`: who starts and stops it where that is not the keeper itself (`kind`
    and what its kind needs, as host/supervisors/owner.py has it). `log`: the name of its own file below logs/, where it is not
    the app's. `part`: which part of a run it is, a service by its name or the job; None for the app. `fingerprint`: what tells a
    service beside an app from what it was before (host/beside/changes.py).
    """

    id: str
    release: str
    app: str
    argv: Tuple[str, ...]
    cwd: str
    env: Dict[str, str] = field(default_factory=dict)
    env_file: Optional[str] = None
    secrets_file: Optional[str] = None
    socket: Any = None
    port: Optional[int] = None
    user: Optional[Tuple[int, int]] = None
    rehearsal: bool = False
    drain: Optional[Dict[str, Any]] = None
    overlap: bool = False
    beside: bool = False
    private_health: bool = False
    gate: bool = False
    owner: Optional[Dict[str, Any]] = None
    log: Optional[str] = None
    part: Optional[str] = None
    fingerprint: Optional[str] = None

    @staticmethod
    def from_json(data: Dict[str, Any]) -> "Spec":
        known = {name: data[name] for name in Spec.__dataclass_fields__ if name in data}
        known["argv"] = tuple(known["argv"])
        if known.get("user"):
            known["user"] = (int(known["user"][0]), int(known["user"][1]))
        return Spec(**known)

    def to_json(self) -> Dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class DrainOrder:
    """How an instance is asked to stop: which signal, to whom, and how long it may take (seconds)."""

    signal: str = "SIGTERM"
    signal_to: str = "main"
    ceiling: float = 660.0

    @staticmethod
    def from_settings(drain: Dict[str, Any]) -> "DrainOrder":
        return DrainOrder(str(drain["signal"]), str(drain["signal_to"]), float(drain["ceiling"]))

    def to_json(self) -> Dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """
    How a drain ended: clean, exited or killed; after how long; who had to be killed.

    `exit_code` is negative for a death by signal and None where nobody could know it.
    """

    verdict: str
    exit_code: Optional[int]
    waited_s: float
    killed: List[Dict[str, Any]] = field(default_factory=list)
    stuck: List[Dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> Dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Step:
    """One step of a plan: its name, what it will do for a person, and what it needs."""

    name: str
    what: str
    args: Dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> Dict[str, Any]:
        return {"step": self.name, "what": self.what}
