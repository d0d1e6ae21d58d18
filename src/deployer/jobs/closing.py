"""
The end of one service: `stop()` if it has one, then `cleanup()` if it has one, each under its limit, whatever the other did.

Knows neither Ray nor jobs: it runs beside the service, in this process or inside an actor.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from typing import Any, Callable, List, NamedTuple, Optional

_READ = 300
"""Characters of an error that a person reads in a line."""


class Closed(NamedTuple):
    """
    How it went. `called`: one of the two was begun. `completed`: whatever it has of the two ended well, in time; so True,
    and not `called`, where it has neither. `running`: a call that hangs was left behind, in a daemon thread. `error` names what
    raised or hung. A plain tuple: what crosses a process boundary is `tuple(closed)`.
    """

    called: bool
    completed: bool
    running: bool
    seconds: float
    error: Optional[str]


class Call(NamedTuple):
    """How one call went."""

    error: Optional[str]
    hung: bool


_FINE = Call(None, False)


def close(instance: Any, timeout: float) -> Closed:
    """
    Call `stop()`, then `cleanup()` of *instance*, those that it has, each under *timeout* seconds. Never raises.

    Each runs in a thread of its own; one that hangs is abandoned there and does not keep the other from its turn. Coroutine
    functions are run to their end. So it takes twice *timeout* at the longest.
    """
    began = time.monotonic()
    calls = [call_within(name, call, timeout) for name, call in _closers(instance)]
    errors = "; ".join(call.error for call in calls if call.error)
    hung = any(call.hung for call in calls)
    return Closed(bool(calls), not errors, hung, time.monotonic() - began, errors or None)


def _closers(instance: Any) -> Any:
    """Looked up one after the other: what stop() did may decide whether there is something left to clean."""
    for name in ("stop", "cleanup"):
        try:
            call = getattr(instance, name, None)
        except Exception as error:  # a property, or a __getattr__ of its own
            call = _raiser(error)
        if callable(call):
            yield name, call


def _raiser(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def call_within(name: str, call: Callable[[], Any], timeout: float) -> Call:
    """Call it in a thread of its own, and wait *timeout* seconds. Never raises; *name* is what its error calls it."""
    outcome: List[Call] = []
    thread = threading.Thread(target=lambda: outcome.append(_tried(name, call)), name=f"closing-{name}", daemon=True)
    try:
        thread.start()
    except (
        RuntimeError
    ):  # the interpreter is ending and takes no threads any more (3.12): better without limit than not at all
        return _tried(name, call)
    thread.join(timeout)
    if thread.is_alive():
        return Call(f"{name}() did not end within {timeout:g} s and was left behind", True)
    return outcome[0] if outcome else _FINE


def _tried(name: str, call: Callable[[], Any]) -> Call:
    try:
        result = call()
        if inspect.isawaitable(result):
            asyncio.run(_awaited(result))
    except BaseException as error:  # also SystemExit: it is this call's end only
        logging.getLogger("deployer.jobs").warning("%s() of a service failed; the others go on", name, exc_info=True)
        return Call(f"{name}() raised {described(error)}", False)
    return _FINE


async def _awaited(result: Any) -> None:
    await result


def described(error: BaseException) -> str:
    """*error* in one line, its kind first, not longer than a person reads."""
    text = " ".join(str(error).split())
    text = text if len(text) <= _READ else f"{text[:_READ]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
