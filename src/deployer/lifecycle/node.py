"""NodeAgent: tells a node registry that this process is there, what it does, and, at once, that it goes."""

from __future__ import annotations

import atexit
import importlib.util
import os
import ssl
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence
from urllib.parse import urlsplit

from deployer.lifecycle.limits import Duration, seconds
from deployer.lifecycle.node_words import Facts, Node
from deployer.lifecycle.running import in_forks

if TYPE_CHECKING:
    from deployer.lifecycle.node_link import Link


TOKEN_VARIABLE = "DEPLOYER_REGISTRY_NODE_TOKEN"
LONGEST_NAME = 200


@dataclass(frozen=True)
class Pauses:
    """
    Seconds between two tries to connect: drawn from 0 up to `first`, twice as much after each failure, at most `longest`.
    `aside`: at most, while another process has our id.
    """

    first: float
    longest: float
    aside: float


class NodeAgent:
    """
    One node of the registry at *url* ("ws://127.0.0.1:7070", or "wss://…"), from `start` to `stop`.

    It has a thread of its own: the heartbeat goes on while the app blocks, and the registry is told that we go whatever the
    main thread does. An unexpected break makes it connect again, after a random pause; `stop` never does. Give it to a
    `Lifecycle(node=agent)`, which calls all of this; alone it serves a program with a lifecycle of its own.

    *id* names the node, whichever process of it runs: a new one with the same id replaces the old one, which comes back within
    *aside* should the new one go first (a release that did not prove itself). *capacity*: tasks that it
    takes at once, None for no limit. *endpoint* tells dispatchers where it takes them. *release* defaults to $DEPLOYER_RELEASE,
    *token* to $DEPLOYER_REGISTRY_NODE_TOKEN.
    *stop_within* bounds the wait for the close frame's answer. *tls* is a context for "wss://" (default: the system's CAs).
    """

    def __init__(
        self,
        url: str,
        *,
        id: str,
        pools: Sequence[str] = (),
        endpoint: Optional[str] = None,
        release: Optional[str] = None,
        capacity: Optional[int] = None,
        token: Optional[str] = None,
        stop_within: Duration = "100ms",
        reconnect_first: Duration = "500ms",
        reconnect_longest: Duration = "15s",
        aside: Duration = "5s",
        tls: Optional[ssl.SSLContext] = None,
    ) -> None:
        self.url = _url(url)
        self.tls = tls
        self.pauses = Pauses(
            seconds("reconnect_first", reconnect_first),
            seconds("reconnect_longest", reconnect_longest),
            seconds("aside", aside),
        )
        self._id = _name("id", id)
        self._pools = _pools(pools)
        self._release, self._capacity, self._token = release, _capacity(capacity), token
        self._endpoint = endpoint if endpoint is None else _name("endpoint", endpoint)
        self._stop_within = seconds("stop_within", stop_within)
        self._link: Optional[Link] = None
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def id(self) -> str:
        """The node's name in the registry."""
        return self._id

    @property
    def online(self) -> bool:
        """Whether the registry has us at this moment, as far as we know."""
        return self._link is not None and self._link.registered.is_set()

    @property
    def marked(self) -> bool:
        """Whether somebody has marked this node at the registry, so that it gets no new work there."""
        return self._link is not None and self._link.marked

    def start(self, facts: Optional[Facts] = None) -> None:
        """
        Begin to connect, and return; `wait_online` waits. *facts* gives `busy`, `tasks`, `status` and `stuck` whenever they
        are told; it is called in the agent's thread. Raises RuntimeError without the package websockets, or after `stop`.
        """
        if importlib.util.find_spec("websockets") is None:
            raise RuntimeError("NodeAgent needs the package websockets, which is not installed: pip install websockets")
        from deployer.lifecycle.node_link import Link

        with self._lock:
            if self._stopped:
                raise RuntimeError(f"the agent of node {self._id} was stopped, and stays so; make another NodeAgent")
            if self._link is not None:
                return
            self._link = Link(self, self._node(), facts or _idle, self._token or os.environ.get(TOKEN_VARIABLE))
            in_forks(self, NodeAgent._forget)
            atexit.register(self.stop)  # a program that just ends has stopped as well
            self._link.thread.start()

    def wait_online(self, timeout: Duration = "10s") -> bool:
        """Whether the registry has us within *timeout*."""
        return self._link is not None and self._link.registered.wait(seconds("timeout", timeout))

    def changed(self) -> None:
        """What *facts* gives has changed: tell the registry soon. Cheap, from any thread."""
        if self._link is not None:
            self._link.changed()

    def leaving(self, why: str) -> bool:
        """
        Tell the registry that we take no more work, and finish what we have. Whether it was sent within `stop_within`;
        where there is no connection now, the next one says so when it registers.
        """
        return self._link is not None and self._link.leave(why, self._stop_within)

    def stop(self, why: str = "stopped", code: int = 1000) -> bool:
        """
        Say that we are gone (a close frame with *code* and *why*); whether the registry has answered within `stop_within`.
        Never raises, never takes longer, never connects again.
        """
        with self._lock:
            before, self._stopped = self._stopped, True
            link = self._link
        return not before and link is not None and link.stop(why, code, self._stop_within)

    def __enter__(self) -> NodeAgent:
        self.start()
        return self

    def __exit__(self, kind: Optional[type], error: Optional[BaseException], trace: object) -> None:
        if error is None:
            self.stop()
        else:
            self.stop(type(error).__name__, 1011)

    def _node(self) -> Node:
        release = self._release or os.environ.get("DEPLOYER_RELEASE") or None
        instance = f"{os.environ.get('DEPLOYER_INSTANCE', '')}:{uuid.uuid4().hex}".lstrip(":")
        return Node(self._id, self._pools, release, self._capacity, instance, self._endpoint)

    def _forget(self) -> None:
        """In a forked child: the connection is our parent's. A copy kept open here would hide its death from the registry."""
        link, self._link, self._stopped = self._link, None, True
        self._lock = threading.Lock()
        if link is not None:
            link.abandon()


def _idle() -> Dict[str, Any]:
    return {"busy": 0, "tasks": []}


def _url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f'{url!r} is no address of a registry; write one such as "ws://127.0.0.1:7070"')
    if parts.username or parts.password:
        raise ValueError(f"a registry's address holds no password; give the token as token=, or in ${TOKEN_VARIABLE}")
    return url


def _name(what: str, value: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= LONGEST_NAME:
        raise ValueError(f"{what} {value!r} is no name: write 1 to {LONGEST_NAME} printable characters")
    return value


def _pools(pools: Sequence[str]) -> Sequence[str]:
    if isinstance(pools, str):  # a list of its letters otherwise
        raise TypeError(f'pools is "{pools}"; write a list: ["{pools}"]')
    return tuple(dict.fromkeys(_name("pool", one) for one in pools))


def _capacity(capacity: Optional[int]) -> Optional[int]:
    if capacity is not None and (not isinstance(capacity, int) or capacity < 1):
        raise ValueError(f"capacity is {capacity!r}; write how many tasks the node takes at once, or None for no limit")
    return capacity
