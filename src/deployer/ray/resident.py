"""One instance of a user's class, inside its process: built, called, quieted, drained, closed. Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
import traceback
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Set, Union

from deployer.jobs.closing import Closed, close
from deployer.ray.lanes import Closers, Loop, Threads, is_async
from deployer.ray.words import Last, Refused

_TOLD = 1500
SETTLES = 0.5
"""Seconds that a reply, which nobody confirms, has to reach its caller before this process may go."""


@dataclass
class Call:
    """One call that was let in; `future` ends with it, and is cancelled when it never came to its turn."""

    id: str
    method: str
    began: float = field(default_factory=time.monotonic)
    future: "Future[Any]" = field(default_factory=Future)

    def to_json(self) -> Dict[str, Any]:
        return {"id": self.id, "name": self.method, "age_s": round(time.monotonic() - self.began, 3)}


class Resident:
    """
    States: new, building, ready, failed, quiet, closed. Every method may be called from any thread.

    A call is in flight from the moment it is let in; those in line count, until `quiet` sends them elsewhere.
    """

    def __init__(self, name: str, path: str, at_once: int) -> None:
        self.name = name
        self.state = "new"
        self.trouble: Optional[str] = None
        self.quiet_since: Optional[float] = None
        self._path = path
        self._lane: Union[Threads, Loop] = Threads(at_once)
        self._instance: Any = None
        self._calls: Dict[str, Call] = {}
        self._unheard: Set[str] = set()
        self._ended_at = float("-inf")
        self._changed = threading.Condition()

    async def build(self, health_interval: float) -> Optional[str]:
        """Construct the instance and wait until its `health()`, if it has one, is true; what went wrong, or None."""
        self.state = "building"
        try:
            cls = await asyncio.wrap_future(self._lane.run(lambda: load_class(self._path)))
            if is_async(cls):
                self._lane = Loop()
            self._instance = await asyncio.wrap_future(self._lane.run(cls))
            await self._is_healthy(health_interval)
        except BaseException as error:  # SystemExit of a constructor is its failure, not ours
            if isinstance(error, asyncio.CancelledError):
                raise
            self.trouble = told(error)
        with self._changed:
            if self.state == "building":  # else it was asked to go meanwhile
                self.state = "failed" if self.trouble else "ready"
            self._changed.notify_all()
        return self.trouble

    def begun(self, within: float) -> bool:
        """Whether `build` has ended before *within* seconds have passed."""
        with self._changed:
            return self._changed.wait_for(lambda: self.state not in ("new", "building"), within)

    async def _is_healthy(self, interval: float) -> None:
        health = getattr(self._instance, "health", None)
        while callable(health):
            try:
                self.trouble = None if await asyncio.wrap_future(self._lane.run(health)) else "health() is not true"
            except Exception as error:
                self.trouble = f"health() raised {told(error)}"
            if self.trouble is None:
                return
            await asyncio.sleep(interval)

    async def call(self, ident: str, method: str, args: Any, kwargs: Any) -> Any:
        """What *method* returns or raises; Refused where nothing of it was begun."""
        call = self._let_in(ident, method, args, kwargs)
        if isinstance(call, Refused):
            return call
        try:
            return await asyncio.wrap_future(call.future)
        except (CancelledError, asyncio.CancelledError):
            if not call.future.cancelled():
                raise
            return self._refusal()
        finally:
            with self._changed:
                self._calls.pop(ident, None)
                self._ended_at = time.monotonic()
                self._changed.notify_all()

    def on_its_way(self, ident: str, result: Any) -> Any:
        """*result* as it goes to the caller of *ident*: one who asked an instance that is quiet by now says when he `heard` it."""
        with self._changed:
            if self.quiet_since is None or isinstance(result, Refused):
                return result
            self._unheard.add(ident)
            return Last(result)

    def heard(self, ident: str) -> None:
        with self._changed:
            self._unheard.discard(ident)
            self._changed.notify_all()

    def settled(self, within: float) -> bool:
        """Whether the replies have reached their callers, as far as anybody can know, before *within* seconds have passed."""
        until = time.monotonic() + within
        with self._changed:
            while True:
                now = time.monotonic()
                left, rest = until - now, self._ended_at + SETTLES - now
                if left <= 0 or (rest <= 0 and not self._unheard):
                    return not self._unheard
                self._changed.wait(left if self._unheard else min(left, rest))

    def _let_in(self, ident: str, method: str, args: Any, kwargs: Any) -> Union[Call, Refused]:
        if method.startswith("_"):
            raise AttributeError(f"{method} is not for callers: its name begins with an underscore")
        with self._changed:
            if self.state != "ready":
                return self._refusal()
            bound: Callable[..., Any] = getattr(self._instance, method)
            call = Call(ident, method, future=self._lane.run(lambda: bound(*args, **kwargs)))
            self._calls[ident] = call
            return call

    def _refusal(self) -> Refused:
        return Refused(self.name, self.state)

    def quiet(self) -> List[Dict[str, Any]]:
        """Take no more calls; those in line are refused as well. Those that are being worked on."""
        with self._changed:
            if self.quiet_since is None:
                self.quiet_since = time.monotonic()
            if self.state in ("new", "building", "ready"):
                self.state = "quiet"
            if isinstance(self._lane, Threads):
                for call in list(self._calls.values()):
                    if call.future.cancel():
                        self._calls.pop(call.id, None)
            return self._in_flight()

    def in_flight(self) -> List[Dict[str, Any]]:
        with self._changed:
            return self._in_flight()

    def _in_flight(self) -> List[Dict[str, Any]]:
        return [call.to_json() for call in self._calls.values()]

    def drained(self, within: float) -> List[Dict[str, Any]]:
        """What is still in flight when nothing is any more, or when *within* seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._calls, within)
            return self._in_flight()

    def close(self, timeout: float) -> Closed:
        """stop() and cleanup(), each under *timeout* seconds; once."""
        with self._changed:
            instance, self._instance, self.state = self._instance, None, "closed"
        if instance is None:
            return Closed(False, True, False, 0.0, None)
        return close(Closers(instance, self._lane) if isinstance(self._lane, Loop) else instance, timeout)


def load_class(path: str) -> type:
    """The class at "package.module:Class". Raises what its import raises, TypeError where it is none."""
    module, _, name = path.replace(":", ".").rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not isinstance(found, type):
        raise TypeError(f"{path} is not a class")
    return found


def told(error: BaseException) -> str:
    """The end of what Python would say of *error*: where it happened, and what."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return "".join(lines[-3:]).strip()[-_TOLD:]
