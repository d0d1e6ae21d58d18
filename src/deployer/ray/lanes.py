"""Where a user's code runs: in threads of its own, or in an event loop of its own. What controls an instance never waits for it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable


class Threads:
    """For a plain class: at most *size* calls at a time, the others in line; a call still in line can be cancelled."""

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=size, thread_name_prefix="service")

    def run(self, call: Callable[[], Any]) -> "Future[Any]":
        return self._pool.submit(call)


class Loop:
    """For a class with coroutine methods: all calls at once, in one event loop, which is never that of Ray."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="service", daemon=True).start()

    def run(self, call: Callable[[], Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(_awaited(call), self._loop)


async def _awaited(call: Callable[[], Any]) -> Any:
    result = call()
    return await result if inspect.isawaitable(result) else result


class Closers:
    """`stop` and `cleanup` of an instance whose coroutines belong to the loop that it lived in."""

    def __init__(self, instance: Any, lane: Loop) -> None:
        for name in ("stop", "cleanup"):
            method = getattr(instance, name, None)
            if callable(method):
                setattr(self, name, lambda method=method: lane.run(method).result())


def is_async(cls: type) -> bool:
    """Whether *cls* has a coroutine method that callers may ask for."""
    members = (inspect.getattr_static(cls, name, None) for name in dir(cls) if not name.startswith("__"))
    return any(inspect.iscoroutinefunction(getattr(member, "__func__", member)) for member in members)
