"""
The story of a stop, told in a thread of its own, so that it goes on whatever the main thread or the loop does.

    told: the registry hears `draining`, /health turns, everybody who waits wakes     (in whoever tells)
    lame duck and children are asked · work is waited for · main comes back · snapshot
    the registry hears the end · clean-up · the last line                              (in the story's thread)
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from deployer import durations
from deployer.lifecycle import ending, snapshot
from deployer.lifecycle.hands import Hands, apart
from deployer.lifecycle.parties import until
from deployer.lifecycle.tasks import InFlight, instant
from deployer.lifecycle.voice import name_of, say

if TYPE_CHECKING:
    import asyncio

    from deployer.lifecycle.parts import Parts

_MOMENT = 0.25
"""Seconds in which a main that was told comes back by itself, or at least notices."""
_SERVICES_WITHIN = 2.0
"""Seconds for all services together to say their state: the registry waits for it."""
_END_WITHIN = 3.0
"""Seconds for the rest of a program in which something hangs: `asyncio.run` would wait for it."""
_RETURN_WITHIN = 1.0
"""Seconds between the last line and the return of a main that can return."""


class Stop:
    """One stop: begun once, by whoever tells first; `over` when the last line has been said."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._news = parts.news
        self._lock = threading.Lock()
        self._hurry = False
        self._began = 0.0
        self._release: Optional[str] = None
        self.why: Optional[str] = None
        self.error: Optional[BaseException] = None
        self._late: Optional[BaseException] = None
        self.hands = Hands()
        self.loop: Optional[asyncio.AbstractEventLoop] = None
        self.verdict: Optional[str] = None
        self.abandoned: List[InFlight] = []
        self._given_up: List[InFlight] = []
        self._killed: List[InFlight] = []
        self._told = threading.Event()
        self.over = threading.Event()
        self._after: List[Callable[[], None]] = []
        self.process_ends = False
        """Whether the process has to end after the story: it was told to by a signal, or it crashed."""

    @property
    def code(self) -> int:
        """The exit code: 1 after an uncaught exception or abandoned work. A clean-up that hangs is told, and loses no work."""
        return 1 if self.error or self._late or self.abandoned else 0

    def begin(self) -> None:
        """Have the thread ready: when the interpreter ends, it may be too late to start one (Python 3.12)."""
        apart(self._story, "lifecycle-stop")

    def tell(self, why: str, *, error: Optional[BaseException] = None, ends: bool = False) -> bool:
        """Begin to leave; from any thread. False, and nothing happens, where somebody told before."""
        with self._lock:
            if self.why is not None:
                self._late = self._late or error
                return False
            self.why, self.error, self.process_ends, self._began = why, error, ends, time.monotonic()
        parts = self._parts
        parts.tasks.close()
        parts.agent.leaving(why)
        parts.told.tell()
        parts.notify.stopping()
        self._told.set()
        return True

    def hurry(self) -> None:
        """End the wait for work: what is in flight now is given up."""
        with self._news:
            self._hurry = True
            self._news.notify_all()

    def then(self, call: Callable[[], None]) -> None:
        """Have *call* called once the story is over; at once if it is."""
        with self._lock:
            if not self.over.is_set():
                self._after.append(call)
                return
        call()

    def _story(self) -> None:
        self._told.wait()
        try:
            self._leave()
            self._wait_for_work()
            limit = self._parts.limits.crash_within if self.error is not None else self._parts.limits.cleanup_within
            deadline = time.monotonic() + limit
            self._clean_up(deadline)
            self._last_line()
        except BaseException as error:  # a mistake of ours must not keep the process
            say(f"the stop itself failed: {name_of(error)}")
            self.error = self.error or error
            self._parts.agent.stop(*self._farewell())
        self._end()

    def _leave(self) -> None:
        self._parts.leaving.begin(self.loop)
        self._parts.children.ask()

    def _wait_for_work(self) -> None:
        """Until nothing is in flight; after an exception, not at all."""
        if self.error is not None:
            return
        self._announce()
        deadline = self._began + self._parts.limits.max_wait
        tick = self._say_status if self._parts.notify else None
        until(self._news, lambda: self._hurry or self._idle(), deadline, tick)
        if not self._parts.tasks.busy:
            self._let_main_finish(deadline)
        self._given_up = self._parts.tasks.now()
        if self._given_up:
            self._killed = self._parts.children.kill()

    def _idle(self) -> bool:
        return not self._parts.tasks.busy and not self._parts.leaving.pending

    def _let_main_finish(self, deadline: float) -> None:
        main = self._parts.main
        if until(self._news, lambda: main.back or main.noticed, time.monotonic() + _MOMENT) and not main.back:
            until(self._news, lambda: main.back or self._hurry, deadline)

    def _call_main_back(self, seconds: float) -> None:
        """SystemExit, or a cancellation, for a main that is not back; what it does on its way out has *seconds*."""
        main = self._parts.main
        if not main.back and main.call():
            until(self._news, lambda: main.back, time.monotonic() + seconds)

    def _clean_up(self, deadline: float) -> None:
        parts, crashed = self._parts, self.error is not None
        if not crashed or not parts.tasks.busy:
            half = (deadline - time.monotonic()) / 2
            if crashed:
                self._let_main_finish(time.monotonic() + half)
            self._call_main_back(half)
        left = self._snapshot()
        parts.agent.stop(*self._farewell())
        parts.cleanup.run(self.hands, deadline)
        if crashed:
            self._killed = parts.children.kill()
        self.abandoned = self._unfinished()
        self.verdict = _verdict(self.abandoned, time.monotonic() - self._began)
        snapshot.save(parts.state, {**left, "verdict": self.verdict})

    def _unfinished(self) -> List[InFlight]:
        """What is in flight, and what was when its time was over and has been cut since."""
        works = [*self._parts.tasks.now(), *self._killed, *(work for work in self._given_up if work.cut)]
        return list({work.id: work for work in works}.values())

    def _farewell(self) -> tuple[str, int]:
        """Why we go, as the close frame says it: WebSocket codes, 1011 for a fault."""
        return (type(self.error).__name__, 1011) if self.error is not None else (str(self.why), 1000)

    def _snapshot(self) -> Dict[str, Any]:
        parts = self._parts
        left = {
            "time": instant(time.time()), "pid": parts.pid, "release": parts.release, "why": self.why, "verdict": None,
            "tasks": [work.listed() for work in self._unfinished()],
            "services": self._services() if parts.state is not None else {},
        }  # fmt: skip
        snapshot.save(parts.state, left)
        return left

    def _services(self) -> Dict[str, Any]:
        """What each service says of itself; None for one that cannot, which is said."""
        found: Dict[str, Any] = {}
        deadline = time.monotonic() + _SERVICES_WITHIN
        for name, tell in self._parts.services.items():
            found[name] = None
            errand = self.hands.do(lambda tell=tell: snapshot.plain(tell()), deadline - time.monotonic())  # type: ignore[misc]
            if errand is None:
                say(f'service "{name}" did not say its state in time: not saved')
            elif errand.error is not None:
                say(f'service "{name}" has no state to save: {name_of(errand.error)}')
            else:
                found[name] = errand.result
        return found

    def _announce(self) -> None:
        in_flight = self._parts.tasks.now()
        if in_flight:
            longest = durations.show(self._parts.limits.max_wait)
            hint = "; Ctrl-C again to give it up" if self.why == "SIGINT" else ""
            say(f"{self.why}: waiting up to {longest} for {_listed(in_flight)}{hint}")
            self._say_status()

    def _say_status(self) -> None:
        self._parts.notify.status(f"draining: {_listed(self._parts.tasks.now())}")

    def _last_line(self) -> None:
        assert self.verdict is not None
        self._parts.notify.status(self.verdict)
        say(self.verdict)

    def _end(self) -> None:
        with self._lock:
            self.over.set()
            after, self._after = self._after, []
        self.hands.release()
        for call in after:
            call()
        main_ends = threading.Event()
        ending.when_main_ends(main_ends.set)
        if self.process_ends or self._parts.cleanup.hung:
            self._see_main_off(main_ends)
        main_ends.wait()
        if self.process_ends or self._parts.cleanup.hung:  # else the program goes on, and its end is its own
            ending.release(self.code)

    def _see_main_off(self, main_ends: threading.Event) -> None:
        """Main returns from us, or is made to; where something hangs, it has to reach its end as well."""
        parts = self._parts
        if not parts.returned.wait(_RETURN_WITHIN):
            self._call_main_back(_RETURN_WITHIN)
        hangs = self.abandoned or parts.cleanup.hung or not parts.main.back
        if not parts.returned.is_set() or (hangs and not main_ends.wait(_END_WITHIN)):
            ending.end_now(self.code)


def _listed(in_flight: List[InFlight]) -> str:
    shown = ", ".join(f"{work.name} {durations.show(work.seconds())}" for work in in_flight[:10])
    return shown + (f" and {len(in_flight) - 10} more" if len(in_flight) > 10 else "")


def _verdict(abandoned: List[InFlight], took: float) -> str:
    return f"abandoned: {_listed(abandoned)}" if abandoned else f"drained, 0 lost in {durations.show(took)}"
