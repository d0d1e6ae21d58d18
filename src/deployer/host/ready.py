"""
Ready: would serve a request now, proven by a streak of good answers from the process that we started, which still runs.

An open port, a timer, or an answer of somebody else on the same port prove nothing.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple

from deployer.host import acceptor, health, ports
from deployer.host.clock import Clock
from deployer.host.health import Answer
from deployer.host.process import Processes
from deployer.host.supervisors.base import Watched

FIRST_DELAY = 0.01
"""Seconds between the first probes of a start; they slow down to `health.interval`."""


class NotReady(Exception):
    """The instance did not become ready; the text says why. `exited` tells that it is gone."""

    def __init__(self, reason: str, exited: bool = False) -> None:
        super().__init__(reason)
        self.exited = exited


@dataclass(frozen=True)
class Proof:
    probes: int
    took_s: float
    first_good_at: float
    pid: int


class Prover:
    """
    Proves one started instance. *settings* is its release's `health` table; *port* the one it should listen on; *private* where
    it alone answers, if anywhere; *listener* a TCP socket that it inherits and nobody else accepts on.
    """

    def __init__(
        self,
        supervisor: Watched,
        settings: Dict[str, Any],
        port: Optional[int],
        clock: Clock,
        processes: Processes,
        private: Optional[Path] = None,
        listener: Optional[socket.socket] = None,
    ) -> None:
        self._supervisor = supervisor
        self._listener = listener
        self._private = private
        self._settings = settings
        self._port = port
        self._clock = clock
        self._processes = processes
        self._probes = 0
        self._beside: Set[int] = set()
        self._last = "it did not answer yet"

    def prove(self, instance: str) -> Proof:
        """The proof that *instance* is ready. Raises NotReady, at the latest after `health.ready_within`."""
        started = self._clock.now()
        deadline = started + self._settings["ready_within"]
        streak, first_good, delay = 0, 0.0, FIRST_DELAY
        while True:
            now = self._clock.now()
            record = self._record(instance)
            if self._good(record, now - started):
                # When it answered, not when it was asked: on a held socket the question waits until somebody accepts.
                first_good = first_good if streak else self._clock.now()
                streak += 1
                if streak >= self._needed():
                    return Proof(self._probes, round(self._clock.now() - started, 3), first_good, record["pid"])
            else:
                streak = 0
            if self._clock.now() >= deadline:
                raise NotReady(self._too_late(record))
            self._pause(instance, min(self._clock.now() + delay, deadline), streak)
            delay = min(self._settings["interval"], delay * 1.4)

    def _needed(self) -> int:
        return int(self._settings["streak"]) if self._settings["url"] or self._private else 1

    def _pause(self, instance: str, until: float, streak: int) -> None:
        # The keeper's word ends the pause early only when it matters: the instance has gone.
        while self._clock.now() < until:
            self._supervisor.wait(until)
            self._record(instance)

    def _record(self, instance: str) -> Dict[str, Any]:
        status = self._supervisor.status()
        others = [one for one in status["instances"] if one["id"] != instance]
        self._beside = {process["pid"] for one in others for process in one["processes"]}
        for running in status["instances"]:
            if running["id"] == instance:
                return dict(running)
        desired = status["desired"]
        if desired and desired["id"] == instance and desired["state"] == "promised":
            return {"pid": None, "processes": []}
        raise NotReady(self._why_gone(desired if desired and desired["id"] == instance else {}), exited=True)

    def _why_gone(self, desired: Dict[str, Any]) -> str:
        if desired.get("error"):
            return f"it could not be started: {desired['error']}"
        code = desired.get("exit_code")
        if code is None:
            return "it exited before it was ready"
        return f"it exited {'by signal ' + str(-code) if code < 0 else 'with code ' + str(code)} before it was ready"

    def _good(self, record: Dict[str, Any], elapsed: float) -> bool:
        pids = {process["pid"] for process in record["processes"]}
        if not pids:
            return False
        if self._settings.get("notifies") and not self._settings["url"]:
            self._last = "it did not say that it is ready (READY=1)"
            return bool(record.get("ready"))
        if not self._settings["url"] and self._private is None:
            return self._alive_long_enough(pids, elapsed)
        self._probes += 1
        url = (self._settings["url"] or "http://localhost/health").replace("{port}", str(self._port))
        if self._private is not None:
            answer, own = health.ask(url, *self._how(), via=self._private), True
        elif self._beside and is_here(url):
            answer, own = acceptor.ask_one_of(pids, url, *self._how())
        else:
            answer, own = health.ask(url, *self._how()), False
        if answer.good and not own and self._is_shared(url):
            self._last = f"{url} answers, and nothing says that it is the new process which does"
            return answer.pid in pids
        if answer.good:
            return own or self._is_its_own(answer, url, pids)
        self._last = f"GET {url} answered {_describe(answer)}"
        if answer is health.ELSEWHERE:
            self._last = f"{url} was answered by another process that shares its socket, never by the new one"
        return False

    def _is_shared(self, url: str) -> bool:
        """Whether another instance listens where *url* leads."""
        return bool(self._beside) and is_here(url) and bool(ports.holders(ports.listening(url_port(url)), self._beside))

    def _how(self) -> Tuple[float, Optional[str]]:
        return self._settings["timeout"], self._settings["busy"]

    def _alive_long_enough(self, pids: Set[int], elapsed: float) -> bool:
        if self._port is not None and not ports.holders(ports.listening(self._port), pids):
            self._last = f"it does not listen on port {self._port}{self._instead(pids)}"
            return False
        self._last = f"it has not been alive for {self._settings['alive_for']:g} s"
        return bool(elapsed >= self._settings["alive_for"]) and self._accepts(pids)

    def _accepts(self, pids: Set[int]) -> bool:
        # Whoever inherits a socket holds it, and need not look at it: only a connection tells.
        if self._listener is None:
            return True
        self._last = "nobody accepts on the socket that it inherits"
        try:
            with socket.create_connection(self._listener.getsockname()[:2], self._settings["timeout"]) as asked:
                return bool(acceptor.accepted_by(asked, pids, self._settings["timeout"]))
        except OSError as error:
            self._last += f" ({error})"
            return False

    def _is_its_own(self, answer: Answer, url: str, pids: Set[int]) -> bool:
        if answer.pid in pids:
            return True
        inodes = ports.listening(url_port(url)) if is_here(url) else set()
        strangers = self._others(inodes, pids, answer.pid)
        if ports.holders(inodes, pids) and not strangers:
            return True
        if strangers:  # also where both listen (SO_REUSEPORT, two address families): then it could have been either
            who = ", ".join(f"pid {pid} ({self._processes.command(pid, 60)})" for pid in strangers[:3])
            self._last = f"{url} is answered by {who}, not by the new process"
            return False
        self._last = f"{url} is answered by pid {answer.pid}, which is not the new process"
        # Nobody whom we may look at listens here (a proxy, another namespace): its own word has to do.
        return answer.pid is None

    def _others(self, inodes: Set[int], pids: Set[int], answered: Optional[int]) -> List[int]:
        """Who else may have answered: the holder that says so, or who listens with a socket that *pids* do not hold."""
        holders = [pid for pid in ports.holders(inodes, self._processes.table()) if pid not in pids]
        if answered in holders:
            return [pid for pid in holders if pid == answered]
        shared = {inode for pid in pids for inode in ports.sockets_of(pid)}
        return ports.holders(inodes - shared, holders)

    def _too_late(self, record: Dict[str, Any]) -> str:
        pids = {process["pid"] for process in record["processes"]}
        return f"{self._last} ({self._settings['ready_within']:g} s allowed){self._instead(pids)}"

    def _instead(self, pids: Set[int]) -> str:
        expected = (
            url_port(self._settings["url"].replace("{port}", str(self._port))) if self._settings["url"] else self._port
        )
        found = ports.ports_of(pids)
        others = ", ".join(map(str, sorted(found - {expected})))
        # A socket that it inherits counts as its own, also where it does not look at it and listens somewhere else.
        return f"; it listens on port {others}{' as well' if expected in found else ''}" if others else ""


def is_here(url: str) -> bool:
    """Whether *url* leads to this machine's own loopback, where we can see who listens."""
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.")


def url_port(url: str) -> int:
    """The port that *url* leads to."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _describe(answer: Answer) -> str:
    if answer.status is None:
        return answer.health
    excerpt = f'; last body: "{answer.body[:120]}"' if answer.body else ""
    return f"{answer.status}{excerpt}"
