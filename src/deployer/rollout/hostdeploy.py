"""One deploy on one host: opened, staged, handed over, followed; over links that may break between any two words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from deployer.errors import LinkError, PreflightError
from deployer.rollout.carrier import Stranded, Talk
from deployer.rollout.commit import commit
from deployer.rollout.content import Content
from deployer.rollout.events import Stream
from deployer.rollout.hosts import look, ssh
from deployer.rollout.order import Order
from deployer.rollout.part import Part

PAST_THE_GATES = {"restart": ("drain.started", "start.finished"), "overlap": ("switched",)}
"""From here on nothing can fail that a person who detached could mend by looking on; with overlap the new release serves."""
OWN_LOCK = 20.0
"""Seconds beyond the link's silence that the lock of our own dead connection may still be held."""
LOOK_EVERY = 0.3


class HostDeploy(Part):
    """
    Each step raises DeployerError; LinkError where the link broke for good, or a person has let go. A deploy is handed over once.

    Before the commit a broken link costs nothing: the host lets go by itself, and we begin anew, sending only what it still
    lacks. From the commit on the host goes on without us, and all we do is listen again, from the event after the last.
    """

    def __init__(self, host: str, order: Order, stream: Stream, deploy: str | None = None) -> None:
        super().__init__(host, stream, deploy)
        self.order = order
        self.facts: dict[str, Any] = {}
        self.committing = threading.Lock()
        self._session: Talk | None = None
        self._opened = self._staged = self._sent_commit = False
        self._lost_at: float | None = None

    def connect(self) -> None:
        """There is a link to the host's engine. Raises LinkError once a person has let go: nothing begins after that."""
        if self._session is None:
            self._require_wanted()
            session = self.order.carrier.connect(self.order.config, self.host)
            if self.order.given_up.is_set():  # meanwhile, and nobody could close what was not there yet
                session.__exit__()
            self._require_wanted()
            self._session = session

    def _require_wanted(self) -> None:
        if self.order.given_up.is_set():
            raise LinkError(f"{self.host} was let go of", state="what was handed over goes on there")

    def open(self, wait_lock: float | None = None) -> None:
        """The deploy lock is ours, the host is as the config says: `facts`. Nothing has changed."""
        try:
            self._open(wait_lock)
        except Stranded as error:  # nobody refused us, and whom we lost may hold our lock for a while
            self._lost(error)
            self._again(lambda: self._prepare(None))

    def _open(self, wait_lock: float | None) -> None:
        self.connect()
        options = self.order.options
        self.facts = self._here.call_telling(
            self.passed, "open", deploy=self.deploy, supersede=options.supersede, detach=options.detach,
            wait_lock=options.wait_lock if wait_lock is None else wait_lock, **self.order.asked(self.host),
        )  # fmt: skip
        self.serving = (self.facts["instance"] or {}).get("release")
        self._opened = True

    @property
    def known(self) -> set[str]:
        """The releases that the host has."""
        return {release["id"] for release in self.facts["releases"]}

    def stage(self, content: Content) -> None:
        """All of *content* is on the host; still nothing has changed."""
        self._through_breaks(lambda: self._prepare(content))

    def hand_over(self, content: Content | None = None) -> None:
        """The host has the deploy, whatever becomes of us."""
        self._through_breaks(lambda: self._hand_over(content))

    def claim(self) -> None:
        """As `open`, over links that may break, and waiting for a runner that is about to go."""
        self._through_breaks(lambda: self._prepare(None))

    def look(self, **params: Any) -> dict[str, Any]:
        """What is observed on the host, over links that may break."""
        found: list[dict[str, Any]] = []
        self._through_breaks(lambda: found.append(self.ask("observe", **params)))
        return found[-1]

    def listen(self) -> None:
        """While it waits for its turn: raise what the host has said unasked (AbortedError, as a rule)."""
        if self._session is not None and not self.committed:
            self._session.listen()

    def follow(self, detach: bool = False) -> None:
        """Pass the host's events on to the end of its part; with *detach* until the gates are behind it."""
        if self.committed and self.finished is None:
            self._through_breaks(lambda: self._pass_on(detach))

    def close(self) -> None:
        """Let go of the link, and of the lock where nothing was handed over."""
        session, self._session = self._session, None
        self._opened = self._staged = False
        if session is not None:
            session.__exit__()

    def leave(self) -> None:
        """Begin to let go, without waiting for it: for whoever closes many."""
        session = self._session
        if session is not None:
            session.leave()

    def ask(self, op: str, **params: Any) -> Any:
        """The engine's answer to *op* about this app."""
        self.connect()
        return self._here.call(op, **params, **look(self.order.config, self.host))

    @property
    def _here(self) -> Talk:
        if self._session is None:
            raise LinkError(f"there is no link to {self.host}", state="nothing was changed by this call")
        return self._session

    def _prepare(self, content: Content | None) -> None:
        if not self._opened:
            self._open(self._own_lock)
        if content is not None and not self._staged:
            self.order.carrier.upload(self._here, content.opened, self)
            self._staged = True

    def _hand_over(self, content: Content | None) -> None:
        if self._sent_commit and not self._opened and self._has_arrived():
            self.committed = True
            return
        self._prepare(content)
        with self.committing:
            self._require_wanted()
            self._sent_commit = True
            commit(self._here, self, **self._committed(content))

    def _has_arrived(self) -> bool:
        """
        Whether a commit that was sent, and never answered, counts. The engine that got it may still be at it: then we wait.
        """
        until = time.monotonic() + self._silence + OWN_LOCK
        while not any(past["deploy"] == self.deploy for past in self.ask("history")):
            under_way = self.ask("observe")["under_way"] or {}
            if under_way.get("deploy") != self.deploy:
                return any(past["deploy"] == self.deploy for past in self.ask("history"))
            if time.monotonic() > until:
                raise LinkError(f"{self.host} does not say whether it has the deploy", state="see `deployer status`")
            time.sleep(LOOK_EVERY)
        return True

    @property
    def _own_lock(self) -> float:
        """Seconds to wait for a lock that a dead connection of ours may still hold."""
        return max(self.order.options.wait_lock, self._silence + OWN_LOCK)

    @property
    def _silence(self) -> float:
        return ssh(self.order.config).silent_after

    def _committed(self, content: Content | None) -> dict[str, Any]:
        asked = self.order.asked(self.host)
        if content is None:
            return {**asked, "release": self.order.release}
        manifest = content.opened.manifest.digest  # the upload has made it known
        own = {"service_files": content.service_files, "secrets": self.order.secrets}
        return {**asked, **own, "release": content.name_for(self.known), "manifest": manifest}

    @property
    def _past_the_gates(self) -> tuple[str, ...]:
        return ("job.started",) if self.order.kind == "run" else PAST_THE_GATES[self.order.config.strategy]

    def _pass_on(self, detach: bool) -> None:
        self.connect()
        for event in self._here.follow(str(self.deploy), self.seen, self.printed):
            self.passed(event)
            if detach and event["event"] in self._past_the_gates:
                return
        if self.finished is None:
            raise LinkError(f"the engine on {self.host} has stopped telling")

    def _through_breaks(self, step: Callable[[], None]) -> None:
        """*step*, tried again over new links for as long as the config says while they break."""
        try:
            step()
        except LinkError as error:
            # An engine of this machine that went away was killed, and before the commit nothing is lost.
            if self.order.given_up.is_set() or (not self.order.config.hosts and not self.committed):
                raise
            self._lost(error)
            self._again(step)

    def _again(self, step: Callable[[], None]) -> None:
        from deployer.retry import coming_back  # imports tenacity: most links never break

        for attempt in coming_back(self.order.reconnect_within, self.order.given_up):
            with attempt:
                try:
                    self._reconnect()
                    self._restored()
                    step()
                except LinkError as error:
                    self._lost(error)
                    raise

    def _reconnect(self) -> None:
        try:
            self.connect()
        except PreflightError as error:
            if not self.committed:
                raise
            # A host that boots lets nobody in for a while. What was handed over goes on there in any case.
            raise LinkError(error.title, cause=error.cause, hint=error.hint) from error

    def _lost(self, error: LinkError) -> None:
        self.close()
        if self._lost_at is None and not self.order.given_up.is_set():
            self._lost_at = time.monotonic()
            self._told("link.lost", cause=error.cause or error.title, committed=self.committed)

    def _restored(self) -> None:
        if self._lost_at is not None:
            self._told("link.restored", after_s=round(time.monotonic() - self._lost_at, 3))
            self._lost_at = None

    def _told(self, name: str, **fields: Any) -> None:
        if self.order.config.hosts:  # this machine has no link that a person would know of
            self.event(name, **fields)
