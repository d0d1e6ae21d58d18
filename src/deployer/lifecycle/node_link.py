"""A node's tie to its registry for the life of the process: a thread with a loop of its own, one connection after another."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from typing import TYPE_CHECKING, Callable, List, Optional

from deployer.lifecycle.node_session import FAULTS, REPLACED, RESTARTED, Session, code, said
from deployer.lifecycle.node_words import Facts, Node, Words

if TYPE_CHECKING:
    from deployer.lifecycle.node import NodeAgent

log = logging.getLogger("deployer.lifecycle.node")

SPREAD = 4.0
"""A registry that says it restarts has lost all of its nodes at once: they come back over this much longer than one alone."""
ENDED_WITHIN = 1.0
"""Seconds for a connection to be torn down, once we have said goodbye and nobody waits any more."""


class Link:
    """Everything but what is on the loop may be called from any thread."""

    def __init__(self, agent: NodeAgent, node: Node, facts: Facts, token: Optional[str]) -> None:
        self.registered = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"node-agent {node.id}", daemon=True)
        self._agent, self._words, self._token = agent, Words(node, facts), token
        self._loop = asyncio.new_event_loop()
        self._session = self._next()
        self._farewell: asyncio.Future[None] = self._loop.create_future()
        self._departed: Callable[[bool], None] = lambda closed: None
        self._goodbye = ("", 1000)
        self._troubled = False
        self._change_asked = False

    @property
    def marked(self) -> bool:
        return self._session.marked

    # --- asked from other threads ------------------------------------------------------------------------------------

    def changed(self) -> None:
        if not self._change_asked:  # each call wakes the loop, and apps begin and end thousands of tasks
            self._change_asked = True
            self._call(self._pass_change_on)

    def leave(self, why: str, within: float) -> bool:
        """Whether "draining" was sent within *within* seconds."""
        first, self._words.leaving = self._words.leaving is None, self._words.leaving or why
        return first and self._ask(lambda answer: self._session.say_draining(answer), within)

    def stop(self, why: str, code: int, within: float) -> bool:
        """Whether the registry has answered our close frame within *within* seconds."""
        self._goodbye = (self._words.goodbye(why), code)
        return self._ask(self._say_goodbye, within)

    def abandon(self) -> None:
        """In a forked child, which has none of our threads."""
        self._session.abandon()

    def _call(self, what: Callable[[], object]) -> bool:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop is closed: we have stopped
            return False
        return True

    def _ask(self, what: Callable[[Callable[[bool], None]], object], within: float) -> bool:
        """What *what*, on our loop, answers by its callback; False after *within* seconds."""
        answered = threading.Event()
        answers: List[bool] = []

        def answer(value: bool) -> None:
            answers.append(value)
            answered.set()

        return self._call(lambda: what(answer)) and answered.wait(within) and answers[0]

    def _pass_change_on(self) -> None:
        self._change_asked = False
        self._session.changed()

    # --- on the loop -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
        finally:
            self.registered.clear()
            self._loop.close()

    async def _live(self) -> None:
        failures = 0
        while not self._farewell.done():
            running = asyncio.ensure_future(self._session.run())
            await asyncio.wait({running, self._farewell}, return_when=asyncio.FIRST_COMPLETED)
            if self._farewell.done():
                await self._depart(running)
                return
            failures = 0 if self.registered.is_set() else failures + 1
            self.registered.clear()
            error = running.exception()
            self._words.yields = code(error) == REPLACED
            self._tell_trouble(error)
            await asyncio.wait({self._farewell}, timeout=self._pause(failures, code(error)))
            self._session = self._next()

    def _next(self) -> Session:
        return Session(self._agent.url, self._words, self._token, self._agent.tls, self._welcomed)

    def _welcomed(self) -> None:
        self._words.yields = False
        self.registered.set()
        if self._troubled:
            log.warning("node %s: the registry %s has us again", self._agent.id, self._agent.url)
        self._troubled = False

    def _pause(self, failures: int, ended: Optional[int]) -> float:
        pauses = self._agent.pauses
        if ended == REPLACED:
            return pauses.aside * random.uniform(0.5, 1.0)
        if ended in FAULTS:
            return pauses.longest * random.uniform(0.5, 1.0)
        most = min(pauses.longest, pauses.first * (SPREAD if ended == RESTARTED else 1) * 2 ** min(failures, 16))
        return random.uniform(0, most)  # all of it at random: nodes that lost the registry together come back apart

    def _say_goodbye(self, answer: Callable[[bool], None]) -> None:
        if self._farewell.done():
            answer(False)
            return
        self._departed = answer
        self._farewell.set_result(None)

    async def _depart(self, running: asyncio.Future[None]) -> None:
        why, number = self._goodbye
        closed = await self._session.close(number, why)
        self.registered.clear()
        self._departed(closed)
        running.cancel()
        await asyncio.wait({running}, timeout=ENDED_WITHIN)

    def _tell_trouble(self, error: Optional[BaseException]) -> None:
        """Once for each outage: a registry that is away for an hour is no reason for thousands of lines."""
        if not self._troubled:
            self._troubled = True
            log.warning(
                "node %s: not in the registry %s: %s; trying again", self._agent.id, self._agent.url, said(error)
            )
