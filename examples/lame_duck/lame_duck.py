"""
A lame duck: a server that was told to stop, and loses nobody while it goes. Copy this file into your app; it needs nothing.

It stops accepting (on a shared socket the next process gets them), answers what was accepted, says `Connection: close` in
each answer, lets idle connections linger so that a request on its way is not met by a closed door, and finishes its work.

With uvicorn (the socket of deployer is descriptor 3):

    duck = LameDuck()
    config = uvicorn.Config(duck.asgi(app), fd=3, loop="asyncio")
    duck.uvicorn(uvicorn.Server(config)).run()

With hypercorn: `serve(duck.asgi(app), config, shutdown_trigger=duck.trigger)`, with `config.bind = ["fd://3"]`.

With asyncio streams, see `run` and `begins`. With `strategy = "restart"` the linger is part of the gap: LameDuck(linger=0.3).
Python 3.9 or newer. WebSockets and event streams of your own: wait for `told()` and end them.
"""

import asyncio
import os
import signal

FIRST_FD = 3
TURN = 0.05
"""Seconds. What the kernel has handed over becomes a connection within some turns of the loop (cpython#109564)."""


class LameDuck:
    """
    *linger*: seconds that a connection which was used before may stay idle; *unread*: one that has never sent anything, since
    whoever has just connected is about to ask. Both count while the loop runs: a machine that stalls takes no time from them.
    """

    def __init__(self, linger=1.0, unread=5.0):
        self.leaving = False
        self._linger, self._unread = linger, unread
        self._left = None  # an Event of the loop that serves; before 3.10 it must be made there
        self._open = 0

    async def told(self):
        """Return once we go. For what would last for ever otherwise: WebSockets, event streams, long polls."""
        await self._event().wait()

    # --- asyncio streams ---------------------------------------------------------------------------------------------

    async def run(self, *servers):
        """Serve until SIGTERM, then go; returns when the last connection has ended."""
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        await told.wait()
        await self.leave(*servers)

    async def leave(self, *servers):
        """Stop accepting; return when every connection has ended."""
        self._stop_accepting(servers)
        await asyncio.sleep(TURN)  # closed at once, it would drop connections that were accepted in this very turn
        for server in servers:
            server.close()
        while self._open:
            await asyncio.sleep(TURN)

    async def begins(self, reader, used):
        """
        The first bytes of the next request; b"" when there will be none, or when we go and the linger is over.

        Ask between two requests, within `connection()`; *used* is whether there was one before on this connection.
        """
        read = asyncio.ensure_future(reader.read(65536))
        left = asyncio.ensure_future(self.told())
        await asyncio.wait({read, left}, return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        waits = self._linger if used else self._unread
        while not read.done() and waits > 0:
            await asyncio.wait({read}, timeout=TURN)
            waits -= TURN
        if read.done():
            return read.result()
        read.cancel()
        return b""

    def connection(self):
        """Around all that is done for one connection: `leave` waits for it."""
        return _Counted(self)

    # --- ASGI, uvicorn -----------------------------------------------------------------------------------------------

    def asgi(self, app):
        """*app*, whose answers say `Connection: close` once we go."""

        async def ducked(scope, receive, send):
            async def sends(message):
                if self.leaving and message["type"] == "http.response.start":
                    kept = [
                        (name, value) for name, value in message.get("headers", ()) if name.lower() != b"connection"
                    ]
                    message = {**message, "headers": [*kept, (b"connection", b"close")]}
                await send(message)

            await app(scope, receive, sends if scope["type"] == "http" else send)

        return ducked

    def uvicorn(self, server):
        """*server*, a uvicorn.Server, which goes as a lame duck before it shuts down in its own way."""
        shutdown = server.shutdown

        async def leave_then_shutdown(*args, **named):
            self._stop_accepting(server.servers)
            waited = 0.0
            while server.server_state.connections and waited < self._linger:
                await asyncio.sleep(TURN)
                waited += TURN
            await asyncio.sleep(TURN)
            await shutdown(*args, **named)

        server.shutdown = leave_then_shutdown
        return server

    # --- ASGI, hypercorn ---------------------------------------------------------------------------------------------

    async def trigger(self):
        """Return when the server may stop: after SIGTERM, and a linger in which it accepts nobody."""
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, told.set)
        await told.wait()
        for number in range(int(os.environ.get("LISTEN_FDS", "0"))):
            loop.remove_reader(FIRST_FD + number)
        self._leaves()
        await asyncio.sleep(self._linger)

    # --- both --------------------------------------------------------------------------------------------------------

    def _stop_accepting(self, servers):
        loop = asyncio.get_running_loop()
        for server in servers:
            # Neither shutdown() nor setblocking(): both would reach the other process that has this socket.
            for listener in server.sockets:
                loop.remove_reader(listener.fileno())
        self._leaves()

    def _leaves(self):
        self.leaving = True
        self._event().set()

    def _event(self):
        if self._left is None:
            self._left = asyncio.Event()
        return self._left


class _Counted:
    def __init__(self, duck):
        self._duck = duck

    def __enter__(self):
        self._duck._open += 1

    def __exit__(self, *error):
        self._duck._open -= 1
