"""
The witness: whoever asks the service from outside while it is replaced, and says what a client saw.

Two threads, one with a fresh connection for each probe and one that keeps its own alive, take turns. Each has one probe in
flight at most: a slow service is not asked more often, and what was not asked is counted as skipped.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from deployer.config.addresses import tcp_ports
from deployer.config.model import Config
from deployer.rollout.account import Account, Probe
from deployer.rollout.events import Emit, Event, Stream
from deployer.rollout.hostdeploy import HostDeploy
from deployer.rollout.phases import Phases

END_WITHIN = 1.0
"""Seconds that a deploy waits, at its end, for probes that are in flight."""


@dataclass(frozen=True)
class Watch:
    """What is asked, how often a second, and how long (s) one answer may take."""

    url: str
    rate: int = 10
    timeout: float = 5.0


def watch_of(config: Config) -> Watch | None:
    """`[target.X.verify]`; without it `health.url`, on this machine; None where there is no one address to ask."""
    verify = config.target_table["verify"]
    if verify:
        return Watch(verify["url"], verify["rate"], verify["timeout"])
    url, run = config.tables.health.url, config.tables.run
    if config.hosts or not url:
        return None
    if "{port}" in url:
        ports = tcp_ports(run.socket)
        if not ports:
            return None  # of run.ports each generation has another one
        url = url.replace("{port}", str(ports[0]))
    return Watch(url)


class Witness:
    """Asks within its `with`. It never fails a deploy: what goes wrong in here is a warning."""

    def __init__(self, watch: Watch | None) -> None:
        self._watch = watch
        self._phases = Phases()
        self._account = Account()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._broken: Exception | None = None

    def noting(self, emit: Emit) -> Emit:
        """*emit*, of which the witness hears too: the events say in which phase a probe was asked."""

        def noted(event: Event) -> None:
            try:
                self._phases.note(event)
            except Exception as error:
                self._broken = error
            emit(event)

        return noted if self._watch else emit

    def __enter__(self) -> Witness:
        if self._watch is not None:
            for number, kept in enumerate((False, True)):
                thread = threading.Thread(target=self._run, args=(self._watch, number, kept), daemon=True)
                self._threads.append(thread)
                thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._account.ended = time.monotonic()
        self._over.set()

    def seen(self, deploys: Iterable[HostDeploy], stream: Stream) -> dict[str, Any]:
        """
        `witness` for the last event, where anything was replaced; else nothing.

        What is in flight is waited for, a second at most. An error of ours becomes a warning.
        """
        deploys = list(deploys)
        replaced = any(one.committed and one.result.status != "unchanged" for one in deploys)
        if self._watch is None or not replaced:
            return {}
        until = time.monotonic() + min(END_WITHIN, self._watch.timeout)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        try:
            told = self._account.told(any(one.facts.get("instance") for one in deploys), self._phases.order)
        except Exception as error:
            self._broken, told = error, {"probes": 0}
        if self._broken is not None:
            stream.event("warning", text=f"the witness could not go on: {self._broken!r}; the deploy is not affected")
        return {"witness": {"url": self._watch.url, "rate": self._watch.rate, **told}} if told["probes"] else {}

    def _run(self, watch: Watch, number: int, kept: bool) -> None:
        try:
            self._ask(watch, number, kept)
        except Exception as error:  # a bug of ours, told as a warning
            self._broken = error

    def _ask(self, watch: Watch, number: int, kept: bool) -> None:
        from deployer.rollout.asker import Asker  # imports httpx: only where there is something to ask

        every = 2 / watch.rate
        due = time.monotonic() + number * every / 2
        with Asker(watch.url, watch.timeout, kept) as asker:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                phase, asked = self._phases.now, time.monotonic()
                trouble = asker.trouble()
                self._account.note(Probe(phase, asked, time.monotonic(), trouble))
                due += every
                missed = max(0, math.ceil((time.monotonic() - due) / every))
                due += missed * every
                self._account.skip(phase, missed)


def witness_of(config: Config, kind: str) -> Witness:
    """The witness of a deploy of *kind*; he has nothing to ask where nothing is replaced."""
    return Witness(watch_of(config) if kind in ("push", "rollback", "restart") else None)
