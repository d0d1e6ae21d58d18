"""The web's side of a Lifecycle: inherited sockets, the gate, /health on a socket of its own, what an HTTP server asks of us."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from deployer.lifecycle.gate import Gate
from deployer.lifecycle.hands import apart
from deployer.lifecycle.health import document
from deployer.lifecycle.parties import until
from deployer.lifecycle.requests import Requests
from deployer.lifecycle.sockets import PRIVATE, Sockets, inherited

if TYPE_CHECKING:
    from deployer.lifecycle.health_server import Address
    from deployer.lifecycle.parts import Parts
    from deployer.lifecycle.pulse import Pulse


class Web:
    """
    Reads the environment when it is first asked, not before. *facts* are the Lifecycle's.

    To ask `leaving` or `told` here is not to notice for main: a request that hears of it is not the program's own loop.
    """

    def __init__(self, parts: Callable[[], Parts], facts: Callable[[], Dict[str, Any]], health_at: Any) -> None:
        self._parts, self._facts, self._health_at = parts, facts, health_at
        self._sockets: Optional[Sockets] = None
        self._gate: Optional[Gate] = None
        self.pulse: Optional[Pulse] = None
        self.address: Optional[Address] = None

    @property
    def sockets(self) -> Sockets:
        if self._sockets is None:
            self._sockets = inherited()
        return self._sockets

    @property
    def gate(self) -> Gate:
        if self._gate is None:
            self._gate = Gate.found(self.sockets)
        return self._gate

    @property
    def leaving(self) -> bool:
        return bool(self._parts().told)

    @property
    def linger(self) -> float:
        return self._parts().limits.linger

    @property
    def unread(self) -> float:
        return self._parts().limits.unread

    def start(self) -> None:
        """Answer /health where we were told to, or on the inherited private socket. Raises OSError where that is taken."""
        where = self._health_at
        if where is None and PRIVATE in self.sockets:
            where = self.sockets[PRIVATE]
        if where is None:
            return
        from deployer.lifecycle.health_server import Address, HealthServer

        try:
            self.address = Address(where)
        except OSError as error:
            raise OSError(error.errno, f"/health cannot be answered at {where}: {error.strerror or error}") from error
        HealthServer(self.address, self.health, self.gate.open, self._beat).start()

    def forget(self) -> None:
        """In the child of a fork: let go of the socket at which our parent answers."""
        if self.address is not None:
            self.address.listener.close()
        self.address = self.pulse = None

    def health(self) -> Tuple[int, Dict[str, Any]]:
        """Status code and document of /health."""
        return document(self._facts(), os.getpid(), os.environ.get("DEPLOYER_RELEASE"))

    def requests(self, admit: Optional[bool]) -> Requests:
        return Requests(self._parts().tasks, admit)

    async def told(self) -> None:
        """Wait in a loop until we leave."""
        await self._parts().told.wait_in_loop()

    async def until_idle(self) -> None:
        """Wait in a loop until nothing is in flight, or its time is over."""
        import asyncio

        parts, loop, idle = self._parts(), asyncio.get_running_loop(), asyncio.Event()

        def wait() -> None:
            until(parts.news, lambda: not parts.tasks.busy, time.monotonic() + parts.limits.max_wait)
            try:
                loop.call_soon_threadsafe(idle.set)
            except RuntimeError:  # the loop has gone before
                pass

        apart(wait, "lifecycle-idle")
        await idle.wait()

    def listeners(self) -> list[socket.socket]:
        """The inherited sockets on which the public comes in; none where we are to bind our own."""
        return self.sockets.public()

    def _beat(self) -> None:
        if self.pulse is not None:
            self.pulse.beat()
