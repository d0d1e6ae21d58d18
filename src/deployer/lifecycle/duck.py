"""
The lame duck: how a server goes without losing anybody.

It stops accepting, reads and answers what was accepted, says `Connection: close`, closes idle connections only after a linger, and
then waits for its work. On a shared socket whoever comes next is the next process'; that is why the socket itself is never touched:
neither shutdown() nor setblocking(), which would reach that process too.
"""

from __future__ import annotations

import asyncio
from typing import Any, Sequence

from deployer.lifecycle.web import Web

TURN = 0.05
"""Seconds. What the kernel has handed over becomes a connection within some turns of the loop (cpython#109564)."""


async def stop_accepting(servers: Sequence[Any], shared: bool) -> None:
    """
    Accept nobody from now on; return once those that were accepted are connections, and the listeners are closed.

    *shared*: another process has the socket too, or will. On one of our own, whoever is in the queue would be reset, and is
    let in.
    """
    if not shared:
        await asyncio.sleep(TURN)
    loop = asyncio.get_running_loop()
    for server in servers:
        for listener in server.sockets or ():
            loop.remove_reader(listener.fileno())
    await asyncio.sleep(TURN)
    for server in servers:
        server.close()


async def retire(server: Any, web: Web) -> None:
    """An `asyncio.Server` leaves; what its connections are about nobody but its handler knows, so they have the linger to end."""
    await stop_accepting([server], bool(web.sockets))
    waited = 0.0
    # In turns of the loop, not of the clock: a machine that stalls takes no time from a client.
    while connections(server) and waited < web.linger:
        await asyncio.sleep(TURN)
        waited += TURN


def connections(server: Any) -> int:
    """How many connections *server* has; one where the loop does not tell."""
    clients = getattr(server, "_clients", None)  # since 3.13; before, a number
    return len(clients) if clients is not None else int(getattr(server, "_active_count", 1))


async def begins(reader: asyncio.StreamReader, web: Web, used: bool) -> bytes:
    """
    The first bytes of the next request on a connection; b"" when there will be none, or when we leave and the linger is over.

    *used*: there was a request before. One that has just connected is about to ask, and has longer.
    """
    read = asyncio.ensure_future(reader.read(65536))
    told = asyncio.ensure_future(web.told())
    try:
        await asyncio.wait({read, told}, return_when=asyncio.FIRST_COMPLETED)
        left = web.linger if used else web.unread
        while not read.done() and left > 0:
            await asyncio.wait({read}, timeout=TURN)
            left -= TURN
        return read.result() if read.done() else b""
    finally:
        told.cancel()
        read.cancel()


async def trigger(web: Web) -> None:
    """Return when a server that stops in its own way may do so: it accepts no longer, the linger is over, nothing is in flight."""
    loop = asyncio.get_running_loop()
    for fd in web.sockets.fds:
        loop.remove_reader(fd)
    await asyncio.sleep(web.linger)
    await web.until_idle()
