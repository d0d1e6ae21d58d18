"""
An app that overlaps: its listening socket is another process' too, and it goes as a lame duck. Python 3.9, standard library only.

    GET /   GET /slow?seconds=S   GET /slow?while=FILE (is there)   GET /stream?seconds=S (a chunk every 100 ms)   GET /health

fd 3 and on where LISTEN_FDS is ours, else PORT on 127.0.0.1. By the environment:
  BOOT=S        sleep before it listens            LINGER=S     of the lame duck (1)
  LAME_DUCK=0   on SIGTERM close the listener and the idle connections at once, as most servers do
  GENERATION=N  told in each answer
  BROKEN=       exit: complain and exit · hang: accept, say nothing · 500, 503: to everything · garbage: 200 and no JSON
                crash-after-S: exit 3 while it serves · wrong: ok, with the release and pid of somebody else
"""

import asyncio
import json
import os
import socket
import sys
import time
from urllib.parse import parse_qs, urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
if not os.path.exists(HERE + "/lame_duck.py"):  # in an artifact it lies beside us
    sys.path.insert(0, HERE + "/../../examples/lame_duck")

from lame_duck import LameDuck  # noqa: E402

BROKEN = os.environ.get("BROKEN", "")
STREAM_EVERY = 0.1
LOOKS_EVERY = 0.05
duck = LameDuck(linger=float(os.environ.get("LINGER", "1")))
working = 0
idle = set()


def identity():
    told = {"release": os.environ.get("DEPLOYER_RELEASE", "none"), "pid": os.getpid()}
    if BROKEN == "wrong":
        told = {"release": "20200101T000000Z-000000", "pid": 1}
    if "GENERATION" in os.environ:
        told["generation"] = os.environ["GENERATION"]
    return told


def head(status, headers, closes):
    lines = [f"HTTP/1.1 {status} X", *headers, *(["Connection: close"] if closes else [])]
    return "\r\n".join([*lines, "\r\n"]).encode()


def whole(status, body, closes):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, ["Content-Type: application/json", f"Content-Length: {len(data)}"], closes) + data


async def answer(writer, path, query, asks_to_close):
    """Answer one request; whether the connection ends with it."""
    global working

    def closes():
        return asks_to_close or duck.leaving

    if BROKEN in ("500", "503"):
        said = whole(int(BROKEN), {"error": "broken"}, closes())
    elif BROKEN == "garbage":
        said = whole(200, b'{"status": "o', closes())
    elif path == "/health":
        status = "shutting_down" if duck.leaving else "ok"
        said = whole(503 if duck.leaving else 200, {"status": status, "busy": working, **identity()}, closes())
    elif path in ("/slow", "/stream"):
        working += 1
        try:
            said = await (stream if path == "/stream" else slow)(writer, query, closes)
        finally:
            working -= 1
    else:
        said = whole(200 if path == "/" else 404, identity(), closes())
    writer.write(said)
    await writer.drain()
    # Only what was said counts: who was not told may be about to ask again.
    return b"Connection: close" in said or asks_to_close


async def slow(writer, query, closes):
    while "while" in query and os.path.exists(query["while"][0]):
        await asyncio.sleep(LOOKS_EVERY)
    await asyncio.sleep(float(query.get("seconds", "0" if "while" in query else "1")[0]))
    return whole(200, identity(), closes())


async def stream(writer, query, closes):
    writer.write(head(200, ["Content-Type: text/plain", "Transfer-Encoding: chunked"], closes()))
    until = time.monotonic() + float(query.get("seconds", "1")[0])
    while time.monotonic() < until:
        line = (json.dumps(identity()) + "\n").encode()
        writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        await writer.drain()
        await asyncio.sleep(STREAM_EVERY)
    return b"0\r\n\r\n"


async def serve(reader, writer):
    with duck.connection():
        used = ends = False
        try:
            while not ends:
                idle.add(writer)
                asked = await duck.begins(reader, used)
                idle.discard(writer)
                while asked and b"\r\n\r\n" not in asked:
                    more = await reader.read(65536)
                    asked = asked + more if more else b""
                if not asked:
                    break
                if BROKEN == "hang":
                    await asyncio.sleep(86400)
                url = urlsplit(asked.split(b" ", 2)[1].decode())
                ends = await answer(writer, url.path, parse_qs(url.query), b"connection: close" in asked.lower())
                used = True
        except OSError:
            pass  # the client has gone
        finally:
            idle.discard(writer)
            writer.close()


def listeners():
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return [socket.socket(fileno=3 + number) for number in range(int(os.environ["LISTEN_FDS"]))]
    return [socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=1024)]


async def leave_at_once(*servers):
    """What most servers do with SIGTERM, for comparison."""
    duck.leaving = True
    for server in servers:
        server.close()
    for writer in list(idle):
        writer.close()
    while duck._open:
        await asyncio.sleep(0.01)


async def main():
    servers = [await asyncio.start_server(serve, sock=listener) for listener in listeners()]
    if os.environ.get("LAME_DUCK") == "0":
        duck.leave = leave_at_once
    if BROKEN.startswith("crash-after-"):
        asyncio.get_running_loop().call_later(float(BROKEN[12:]), os._exit, 3)
    await duck.run(*servers)


if __name__ == "__main__":
    if BROKEN == "exit":
        sys.exit("overlap_app: told to be broken")
    time.sleep(float(os.environ.get("BOOT", "0")))
    asyncio.run(main())
