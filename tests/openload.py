"""
A client that asks at a constant rate and never again: what is lost stays lost, and is told by kind.

Fresh connections and kept ones side by side, in a thread of its own. A kept connection that the server closed while it
was idle is replaced before it is used; one that was closed under a request is a loss.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

PATIENCE = 20.0


class Place(NamedTuple):
    """Where to ask: a port of this machine, or a unix socket."""

    port: int = 0
    path: str = ""


@dataclass
class Load:
    """
    `with Load(place) as load:` asks until the block ends. `answers` counts who answered, `losses` what went wrong;
    `slow()` puts a request of some seconds in flight.
    """

    place: Place
    fresh_rate: float = 60
    kept: int = 8
    kept_rate: float = 60
    answers: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    longest: float = 0.0

    def __enter__(self) -> Load:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE + 10)
        assert not self._thread.is_alive()

    def slow(self, seconds: float) -> Future[str]:
        """A request of *seconds* on a connection of its own; its result is who answered it, or how it was lost."""
        return asyncio.run_coroutine_threadsafe(self._fresh(f"/?seconds={seconds}"), self._loop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        gap = self.kept / self.kept_rate if self.kept else 0
        keepers = [asyncio.create_task(self._keep(number * gap / self.kept, gap)) for number in range(self.kept)]
        self._ready.set()
        due = time.monotonic()
        tasks: set[asyncio.Task[str]] = set()
        while not self._stop.is_set():
            due += 1 / self.fresh_rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._fresh("/"))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*keepers)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)

    async def _keep(self, offset: float, gap: float) -> None:
        due, link = time.monotonic() + offset, None
        while not self._stop.is_set():
            due += gap
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if link is not None and link[0].at_eof():
                self.closed += 1
                link[1].close()
                link = None
            link = await self._ask("/", link)
        if link is not None:
            link[1].close()

    async def _fresh(self, path: str) -> str:
        before = Counter(self.losses)
        said: list[str] = []
        link = await self._ask(path, None, said)
        if link is not None:
            link[1].close()
        return said[0] if said else ", ".join(self.losses - before)

    async def _ask(
        self, path: str, link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None, said: list[str] | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """One request on *link*, or on a new one; the link where it can be used again."""
        kind, started = "fresh" if link is None else "kept", time.monotonic()
        got = b""
        try:
            if link is None:
                link = await asyncio.wait_for(self._open(), PATIENCE)
            reader, writer = link
            writer.write(f"GET {path} HTTP/1.1\r\nHost: app\r\n\r\n".encode())
            got = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            lines = got.decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
            body = await asyncio.wait_for(_body(reader, headers), PATIENCE)
        except asyncio.IncompleteReadError as error:
            return self._lost(link, "cut" if got or error.partial else f"eof on a {kind} connection")
        except ConnectionRefusedError:
            return self._lost(link, "refused")
        except OSError as error:
            return self._lost(link, "cut" if got else f"{type(error).__name__} on a {kind} connection")
        except TimeoutError:
            return self._lost(link, "timeout")
        if " 200 " not in lines[0]:
            return self._lost(link, lines[0])
        half = body[: len(body) // 2].decode()
        self.answers[half] += 1
        if said is not None:
            said.append(half)
        if path == "/":
            self.longest = max(self.longest, time.monotonic() - started)
        if headers.get("connection") == "close":
            writer.close()
            return None
        return link

    def _lost(self, link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None, how: str) -> None:
        self.losses[how] += 1
        if link is not None:
            link[1].close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.place.path:
            return await asyncio.open_unix_connection(self.place.path)
        return await asyncio.open_connection("127.0.0.1", self.place.port)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    whole = b""
    while True:  # chunked
        size = int((await reader.readuntil(b"\r\n")).strip(), 16)
        whole += await reader.readexactly(size)
        await reader.readexactly(2)
        if size == 0:
            return whole
