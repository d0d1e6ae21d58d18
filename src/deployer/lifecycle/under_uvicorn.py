"""uvicorn under a Lifecycle: inherited sockets, the gate, the lame duck; its own lifespan ends after the last task."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Any, Awaitable, Callable, Dict, Iterator, List, Optional, Tuple

import uvicorn
from uvicorn.importer import import_from_string

from deployer.lifecycle.duck import TURN, stop_accepting
from deployer.lifecycle.web import Web

BACKLOG = 4096
"""As deployer binds it: a smaller one would be set on the socket that others share."""


def main(
    life: Any, web: Web, app: Any, settings: Dict[str, Any], when_up: Optional[Callable[[], None]]
) -> Callable[[], Awaitable[None]]:
    """
    The main for `Lifecycle.run`; *when_up* is called once the lifespan has started.

    Raises ValueError for settings with which nobody can leave well.
    """
    for name, wrong in (("workers", settings.get("workers") or 1), ("reload", settings.get("reload"))):
        if wrong not in (1, None, False):
            raise ValueError(
                f"uvicorn's {name} starts processes of its own, which life.uvicorn cannot drain; leave it out"
            )
    if isinstance(app, str):
        app = import_from_string(app)
    return Server(_config(life.asgi(app), settings), life, web, when_up).until_gone


def _config(app: Any, settings: Dict[str, Any]) -> uvicorn.Config:
    ours = {"backlog": BACKLOG, **({"port": int(os.environ["PORT"])} if os.environ.get("PORT") else {})}
    # uvloop listens in a way of its own, which nobody can stop without closing the socket.
    config = uvicorn.Config(app, **{**ours, **settings, "loop": "asyncio"})
    config.timeout_graceful_shutdown = None  # max_wait is the one limit
    return config


STARTUP_FAILURE = 3
"""uvicorn's own exit code for a lifespan that failed."""


class Server(uvicorn.Server):
    """Told by the Lifecycle, not by signals; accepts once the gate is open; stops once everything has been answered."""

    def __init__(self, config: uvicorn.Config, life: Any, web: Web, when_up: Optional[Callable[[], None]]) -> None:
        super().__init__(config)
        self._life, self._web, self._when_up = life, web, when_up

    async def until_gone(self) -> None:
        """Serve until the Lifecycle leaves, and then until nobody is left."""
        self._settled, self._gone = asyncio.Event(), asyncio.Event()  # of this loop: before 3.10 they belong to one
        self._life.on_leaving(self._leave)
        try:
            await self.serve(sockets=self._web.listeners() or None)
        except (
            asyncio.CancelledError
        ):  # the time is over: requests are given up, what the lifespan holds is closed all the same
            if self.started:
                await self.lifespan.shutdown()
            raise
        finally:
            self._settled.set()
            self._gone.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: the Lifecycle has them."""
        yield

    def install_signal_handlers(self) -> None:
        """None, for uvicorns before 0.29."""

    async def startup(self, sockets: Optional[List[Any]] = None) -> None:
        """The lifespan first; then /health says ok, and the public waits until the gate opens."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self.lifespan.startup = _done
        if self._when_up is not None:
            self._when_up()
        if await self._open():
            await super().startup(sockets=sockets)
        else:
            self.servers, self.started, self.should_exit = [], True, True
        self._settled.set()

    async def _open(self) -> bool:
        """Whether the gate opened before we were told to leave."""
        opened, told = asyncio.ensure_future(self._web.gate.opened()), asyncio.ensure_future(self._web.told())
        await asyncio.wait({opened, told}, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        told.cancel()
        return not self._web.leaving

    async def _leave(self) -> None:
        await self._settled.wait()
        if self._gone.is_set():  # it never came up
            return
        await stop_accepting(self.servers, bool(self._web.sockets))
        await self._close_the_idle()
        await self._web.until_idle()
        await (
            self._close_the_idle()
        )  # connections whose answers had begun before we could say that they would be closed
        self.should_exit = True
        await self._gone.wait()

    async def _close_the_idle(self) -> None:
        """Until no connection is idle any more; one that asks in time is answered, and told."""
        waited: Dict[Tuple[Any, bool], float] = {}
        connections: Any = self.server_state.connections
        while True:
            idle = [(one, one.cycle is not None) for one in list(connections) if _is_idle(one)]
            if not idle:
                return
            for one, used in idle:
                waited[one, used] = waited.get((one, used), 0.0) + TURN
                if waited[one, used] > (self._web.linger if used else self._web.unread):
                    one.shutdown()
            await asyncio.sleep(TURN)


def _is_idle(connection: Any) -> bool:
    """Of HTTP/1.1: nothing asked, or all answered. Others, such as WebSockets, have their own way to be told."""
    if not hasattr(connection, "cycle"):
        return False
    return connection.cycle is None or bool(connection.cycle.response_complete)


async def _done() -> None:
    pass
