"""
A backend that says who it is: `tiny.py PORT NAME`. GET /?seconds=2 takes as long, between the halves of its answer.

GET /waiting tells how many of those it has. It stops at once when told to: what it loses then, was sent to it too long.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

WAITING: set[asyncio.StreamWriter] = set()


async def serve(name: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            seconds = float(parse_qs(urlsplit(target).query).get("seconds", ["0"])[0])
            if target == "/waiting":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%3d" % len(WAITING))
                continue
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * len(name)) + name)
            if seconds:
                await writer.drain()
                WAITING.add(writer)
                await asyncio.sleep(seconds)
                WAITING.discard(writer)
            writer.write(name)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    name = sys.argv[2].encode()
    server = await asyncio.start_server(lambda r, w: serve(name, r, w), "127.0.0.1", int(sys.argv[1]), backlog=1024)
    async with server:
        await server.serve_forever()


asyncio.run(main())
