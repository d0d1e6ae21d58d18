"""The connection of a NodeAgent: a thread with a loop of its own, which connects, beats, and says goodbye."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

if TYPE_CHECKING:
    from deployer.lifecycle.node import Facts, Node, NodeAgent

log = logging.getLogger("deployer.lifecycle.node")

BEAT = 5.0
"""Seconds between two heartbeats, until the registry says how it wants them."""
CHANGES_APART = 0.05
"""Seconds between two heartbeats that only tell a change."""
OPEN_WITHIN = 10.0
"""Seconds for the connection and the registry's welcome."""
RESTARTED, REPLACED, BAD = 1012, 4000, 4002
SPREAD = 4.0
"""A registry that says it restarts has lost all of its nodes at once: they come back over this much longer than one alone."""
MOST_TASKS = 100


class Link:
    """One node's tie to its registry, for the life of the process. Everything but `_run` may be called from any thread."""

    def __init__(self, agent: NodeAgent, node: Node, facts: Facts, token: Optional[str]) -> None:
        self.registered = threading.Event()
        self.marked = False
        self.thread = threading.Thread(target=self._run, name=f"node-agent {node.id}", daemon=True)
        self._agent, self._node, self._facts, self._token = agent, node, facts, token
        self._loop = asyncio.new_event_loop()
        self._socket: Optional[ClientConnection] = None
        self._leaving: Optional[str] = None
        self._yields = False
        self._farewell: asyncio.Future[None] = self._loop.create_future()
        self._goodbye = ("", 1000)
        self._departed: Callable[[bool], None] = lambda closed: None
        self._change_told = 0.0
        self._change_waits = False
        self._told_trouble = False

    # --- asked from other threads ------------------------------------------------------------------------------------

    def changed(self) -> None:
        if not self._change_waits:
            self._change_waits = True
            self._call(self._tell_change)

    def leave(self, why: str, within: float) -> bool:
        """Whether "draining" was sent within *within* seconds."""
        first, self._leaving = self._leaving is None, self._leaving or why
        return first and self._ask(self._say_draining, within)

    def stop(self, why: str, code: int, within: float) -> bool:
        """Whether the registry has answered our close frame within *within* seconds."""
        self._goodbye = (_cut(why), code)
        return self._ask(self._say_goodbye, within)

    def abandon(self) -> None:
        """In a forked child, which has none of our threads: let go of our copy of the connection, and say nothing."""
        transport = self._socket.transport if self._socket is not None else None
        raw = transport.get_extra_info("socket") if transport is not None else None
        if raw is not None and raw.fileno() >= 0:
            # Replaced, not closed: the socket's own object would close the number again, when it is somebody else's.
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, raw.fileno(), inheritable=False)
            os.close(nothing)

    def _call(self, what: Callable[[], object]) -> bool:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop is closed: we have stopped
            return False
        return True

    def _ask(self, what: Callable[[Callable[[bool], None]], object], within: float) -> bool:
        """What *what*, on our loop, answers by its callback; False after *within* seconds."""
        answered, answers = threading.Event(), []

        def answer(value: bool) -> None:
            answers.append(value)
            answered.set()

        return self._call(lambda: what(answer)) and answered.wait(within) and answers[0]

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
            session = asyncio.ensure_future(self._session())
            await asyncio.wait({session, self._farewell}, return_when=asyncio.FIRST_COMPLETED)
            if self._farewell.done():
                await self._depart(session)
                return
            was_in = self.registered.is_set()
            self.registered.clear()
            error = session.exception()
            failures = 0 if was_in else failures + 1
            self._yields = _code(error) == REPLACED
            self._tell_trouble(error)
            await asyncio.wait({self._farewell}, timeout=self._pause(failures, _code(error)))

    def _pause(self, failures: int, code: Optional[int]) -> float:
        pauses = self._agent.pauses
        if code == REPLACED:
            return pauses.aside * random.uniform(0.5, 1.0)
        most = min(pauses.longest, pauses.first * (SPREAD if code == RESTARTED else 1) * 2 ** min(failures, 16))
        return random.uniform(0, most)  # all of it at random: nodes that lost the registry together come back apart

    async def _session(self) -> None:
        """From one connection to its end. Raises what ended it."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else None
        context: Dict[str, Any] = {"ssl": self._agent.tls} if self._agent.tls is not None else {}
        async with connect(
            self._agent.url, additional_headers=headers, compression=None, proxy=None, open_timeout=OPEN_WITHIN,
            close_timeout=OPEN_WITHIN, ping_interval=None, max_size=64 * 1024, max_queue=4, **context,
        ) as socket:  # fmt: skip
            await socket.send(self._message("register", **self._introduction()))
            welcome = json.loads(await asyncio.wait_for(socket.recv(), OPEN_WITHIN))
            self._enter(socket, welcome)
            beats = asyncio.ensure_future(self._beat(socket, welcome))
            try:
                async for message in socket:
                    self._heed(message)
            finally:
                self._socket = None
                beats.cancel()
        raise ConnectionClosed(socket.protocol.close_rcvd, socket.protocol.close_sent)

    def _enter(self, socket: ClientConnection, welcome: Dict[str, Any]) -> None:
        self._socket, self.marked, self._yields = socket, bool(welcome.get("draining")), False
        self.registered.set()
        if self._told_trouble:
            log.warning("node %s: the registry %s has us again", self._node.id, self._agent.url)
        self._told_trouble = False

    def _introduction(self) -> Dict[str, Any]:
        node = self._node
        named = {"id": node.id, "instance": node.instance, "pools": list(node.pools), "release": node.release}
        state = {"capacity": node.capacity, "pid": os.getpid(), "status": self._status(), "yields": self._yields}
        return {"v": 1, **named, **state, **self._load()}

    def _status(self) -> str:
        leaves = self._leaving is not None or self._told().get("status") in ("draining", "shutting_down")
        return "draining" if leaves else "online"

    def _load(self) -> Dict[str, Any]:
        facts = self._told()
        return {
            "busy": int(facts.get("busy") or 0),
            "tasks": list(facts.get("tasks") or [])[:MOST_TASKS],
            "stuck_s": facts.get("stuck"),
        }

    def _told(self) -> Mapping[str, Any]:
        try:
            return self._facts()
        except Exception:  # the app's, and no reason to let the registry believe that we are dead
            log.exception("node %s: its facts could not be had", self._node.id)
            return {}

    def _message(self, kind: str, **rest: Any) -> str:
        return json.dumps({"type": kind, **rest}, separators=(",", ":"), default=str)

    def _heed(self, message: Any) -> None:
        try:
            kind = json.loads(message).get("type")
        except (ValueError, AttributeError):
            return  # what a newer registry says, and we do not know, is no reason to leave
        if kind in ("drain", "resume"):
            self.marked = kind == "drain"

    # --- heartbeats --------------------------------------------------------------------------------------------------

    async def _beat(self, socket: ClientConnection, welcome: Dict[str, Any]) -> None:
        """
        A heartbeat each time it is due, and a ping whose answer tells that the registry is there: without one, a registry whose
        machine has gone would never be noticed.
        """
        every, patience = float(welcome.get("heartbeat_s") or BEAT), float(welcome.get("timeout_s") or 3 * BEAT)
        heard = time.monotonic()
        await asyncio.sleep(random.uniform(0, every))  # nodes that came together beat apart
        while True:
            answer = await self._ping(socket)
            if answer is None:
                return
            await asyncio.wait({answer}, timeout=every)
            if answer.done():
                heard = time.monotonic()
                await asyncio.sleep(every)
            elif time.monotonic() - heard > patience:
                log.warning("node %s: the registry %s is silent for %.0f s", self._node.id, self._agent.url, patience)
                socket.transport.abort()
                return

    async def _ping(self, socket: ClientConnection) -> Optional["asyncio.Future[float]"]:
        """A heartbeat and a ping, whose answer is awaited elsewhere; None when the connection has ended."""
        try:
            await socket.send(self._message("heartbeat", **self._load()))
            return asyncio.ensure_future(await socket.ping())
        except WebSocketException:
            return None

    def _tell_change(self) -> None:
        wait = self._change_told + CHANGES_APART - self._loop.time()
        if wait > 0:
            self._loop.call_later(wait, self._tell_change)
            return
        self._change_told, self._change_waits = self._loop.time(), False
        if self._socket is not None:
            self._loop.create_task(self._send(self._socket, self._message("heartbeat", **self._load())))

    async def _send(self, socket: ClientConnection, message: str) -> bool:
        try:
            await socket.send(message)
        except WebSocketException:
            return False  # the reader of this connection learns it too, and comes back
        return True

    # --- going -------------------------------------------------------------------------------------------------------

    def _say_draining(self, answer: Callable[[bool], None]) -> None:
        if self._socket is None:
            answer(False)
            return
        said = self._loop.create_task(self._send(self._socket, self._message("draining", why=self._leaving)))
        said.add_done_callback(lambda task: answer(not task.cancelled() and task.result()))

    def _say_goodbye(self, answer: Callable[[bool], None]) -> None:
        if self._farewell.done():
            answer(False)
            return
        self._departed = answer
        self._farewell.set_result(None)

    async def _depart(self, session: asyncio.Future[None]) -> None:
        why, code = self._goodbye
        socket, closed = self._socket, False
        if socket is not None:
            try:
                await socket.close(code, why)
                closed = socket.protocol.close_rcvd is not None
            except (OSError, WebSocketException):
                pass
        self.registered.clear()
        self._departed(closed)
        session.cancel()
        await asyncio.wait({session}, timeout=1.0)

    def _tell_trouble(self, error: Optional[BaseException]) -> None:
        """Once for each outage: a registry that is away for an hour is no reason for thousands of lines."""
        if self._told_trouble:
            return
        self._told_trouble = True
        log.warning("node %s: not in the registry %s: %s; trying again", self._node.id, self._agent.url, _said(error))


def _code(error: Optional[BaseException]) -> Optional[int]:
    received = error.rcvd if isinstance(error, ConnectionClosed) else None
    return received.code if received is not None else None


def _said(error: Optional[BaseException]) -> str:
    if isinstance(error, InvalidStatus) and error.response.status_code in (401, 403):
        return f"it refuses our token (HTTP {error.response.status_code}); set $DEPLOYER_REGISTRY_NODE_TOKEN, or token="
    if _code(error) == REPLACED:
        return "another process has registered under this id, and has it until it goes"
    if _code(error) == BAD:
        return f"it does not understand us: {error}"
    return f"{type(error).__name__}: {error}" if error is not None else "it closed the connection"


def _cut(why: str) -> str:
    """*why* as a close frame holds it: at most 123 bytes."""
    return why.encode()[:120].decode("utf-8", "ignore")
