"""`Lifecycle`: what an app says of its work, and what it is spared when it has to leave. docs/lifecycle.md is the guide."""

from __future__ import annotations

import atexit
import functools
import os
import signal
import threading
import weakref
from typing import Any, Awaitable, Callable, Dict, Optional, Sequence, TypeVar, Union

from deployer.lifecycle import snapshot
from deployer.lifecycle.cleanup import called
from deployer.lifecycle.crash import Hooks, is_crash
from deployer.lifecycle.limits import Duration, Limits, seconds
from deployer.lifecycle.mainline import Called, leave
from deployer.lifecycle.parts import Parts
from deployer.lifecycle.signals import Signals
from deployer.lifecycle.stop import Stop
from deployer.lifecycle.tasks import ShuttingDown, Task, Tasks
from deployer.lifecycle.voice import name_of, say

F = TypeVar("F", bound=Callable[..., Any])

_REACHED_WITHIN = 0.5
"""Seconds in which a main thread that is not inside a C call hears a signal."""


class Lifecycle:
    """
    The work of one process, and its end. Nothing happens before `run`, `serve`, `start` or `with`.

    Durations are strings with units ("10m") or timedeltas; a bare number is a TypeError.
    """

    def __init__(
        self,
        *,
        max_wait: Duration = "10m",
        node: Any = None,
        cleanup_within: Duration = "30s",
        crash_within: Duration = "5s",
        linger: Duration = "1s",
        unread: Duration = "5s",
        health: Any = None,
        state: Union[str, "os.PathLike[str]", None] = None,
        signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT),
        starting: bool = False,
    ) -> None:
        limits = Limits(
            seconds("max_wait", max_wait),
            seconds("cleanup_within", cleanup_within),
            seconds("crash_within", crash_within),
            seconds("linger", linger),
            seconds("unread", unread),
        )
        self._node, self._starting, self._numbers, self._health_at = node, starting, tuple(signals), health
        self._state = None if state is None else os.fspath(state)
        self._watched_forks = False
        self._make(limits)

    def _make(self, limits: Limits, tasks: Optional[Tasks] = None) -> None:
        self._parts = Parts(limits, self._node, self._state, tasks)
        self._stop = Stop(self._parts)
        self._signals = Signals(self._numbers, self._heard)
        self._hooks = Hooks(self._at_top, self._crashed)
        self._started = self._is_ready = False
        self._pulse: Any = None
        self._previous: Any = ...

    # Work

    def task(self, name: str, *, part: bool = False) -> Task:
        """
        *name* in flight: `with`, `async with`, or a decorator. Raises ShuttingDown once we leave, except within work in flight.

        What is within follows the context (contextvars): asyncio's tasks and `to_thread` do, a plain thread does not;
        `part=True` says that this belongs to something in flight.
        """
        return Task(self._parts.tasks, name, part)

    @property
    def busy(self) -> int:
        return self._parts.tasks.busy

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """What is in flight, the oldest first: `{"id", "name", "started_at"}`."""
        return [work.listed() for work in self._parts.tasks.now()]

    def popen(
        self,
        argv: Any,
        *,
        name: Optional[str] = None,
        signal: int = signal.SIGTERM,
        ask: Optional[bool] = None,
        **options: Any,
    ) -> Any:
        """
        `subprocess.Popen`, in a session of its own: a task until it has exited, asked with *signal* once when we begin to leave.

        `ask=False`: left to finish, as is by default what is part of a task. Killed, with its group, when the time is over.
        """
        return self._parts.children.popen(argv, name, signal, ask, options)

    def child(
        self, process: Any, *, name: Optional[str] = None, signal: int = signal.SIGTERM, ask: Optional[bool] = None
    ) -> Any:
        """The same for a *process* that was started already: subprocess', asyncio's, multiprocessing's. Returns it."""
        return self._parts.children.adopt(process, name, signal, ask)

    # Leaving

    @property
    def shutting_down(self) -> bool:
        return self._noticed(bool(self._parts.told))

    def wait(self, timeout: Union[float, Duration, None] = None) -> bool:
        """Wait in a thread until we leave: True; False when *timeout* passes first."""
        return self._noticed(self._parts.told.wait(_span(timeout)))

    def sleep(self, seconds: Union[float, Duration]) -> bool:
        """A pause, before another attempt: True when it is over, False at once when we begin to leave."""
        return not self.wait(seconds)

    async def told(self) -> None:
        """Wait in a loop until we leave."""
        self._noticed(await self._parts.told.wait_in_loop())

    async def asleep(self, seconds: Union[float, Duration]) -> bool:
        """`sleep` in a loop."""
        return not self._noticed(await self._parts.told.wait_in_loop(_span(seconds)))

    def on_leaving(self, call: Callable[[], Any]) -> None:
        """
        Have *call* called once, when we begin to leave, and waited for as work is.

        Sync: in a thread of its own. Async: on the loop of `serve`.
        """
        self._parts.leaving.add(call)

    def _noticed(self, told: bool) -> bool:
        if told:
            self._parts.main.notice()
        return told

    # What is left behind

    def cleanup(self, call: Any = None, *, name: Optional[str] = None) -> Any:
        """
        Have *call*, sync or async, called before the end, in the order of registration, each for its share of the limit.

        A decorator too. Raises RuntimeError once the clean-up has begun.
        """
        if call is None:
            return lambda call: self.cleanup(call, name=name)
        self._parts.cleanup.add(call, name or called(call))
        return call

    def service(self, name: str, state: Callable[[], Any]) -> None:
        """`state()`, plain JSON, is saved under *name* before the stop; the next process finds it in `previous`."""
        self._parts.services[name] = state

    @property
    def previous(self) -> Optional[Dict[str, Any]]:
        """What the last process left: `{"time", "pid", "release", "why", "verdict", "tasks", "services"}`, or None."""
        if self._previous is ...:
            self._previous = snapshot.load(self._parts.state or snapshot.default_path())
        found: Optional[Dict[str, Any]] = self._previous
        return found

    # What others may know

    def ready(self) -> None:
        """Ready for work: the supervisor hears READY=1, the registry of this node. Once; by itself without `starting=True`."""
        if self._is_ready or not self._started:
            return
        self._is_ready = True
        self._parts.notify.ready()
        if (
            not self._parts.told and os.environ.get("DEPLOYER_REHEARSAL") != "1"
        ):  # a rehearsal must not replace who serves
            self._parts.agent.start(self.facts)

    def say(self, status: str) -> None:
        """One line for the supervisor: sd_notify's STATUS."""
        self._parts.notify.status(status)

    def facts(self) -> Dict[str, Any]:
        """
        `{"busy", "tasks", "status": "ok" | "starting" | "shutting_down", "stuck"}`.

        "stuck": seconds since which a blocked loop owes an answer, or None. From any thread.
        """
        status = "shutting_down" if self._parts.told else "ok" if self._is_ready or not self._starting else "starting"
        tasks = self.tasks
        return {
            "busy": len(tasks),
            "tasks": tasks,
            "status": status,
            "stuck": self._pulse.stuck() if self._pulse else None,
        }

    # Begin and end

    def run(self, main: Any = None, *args: Any) -> int:
        """
        Run *main* in the main thread, or wait for a signal; then stop. An async *main* runs in a loop of its own, as under `serve`.

        Returns 0. Raises SystemExit(1) after abandoned work or an uncaught exception elsewhere; what *main* raises is raised again.
        """
        if main is not None and _is_async(main):
            import asyncio

            return asyncio.run(self.serve(main=main(*args)))
        with self:
            if main is not None and not self._parts.told:
                main(*args)
            elif main is None:
                self._parts.told.wait()
        return 0

    async def serve(self, *servers: Any, main: Optional[Awaitable[Any]] = None) -> int:
        """The same in asyncio: *servers* accept until we leave, *main* runs beside them. Without *main*, until we are told."""
        import asyncio

        from deployer.lifecycle.pulse import Pulse
        from deployer.lifecycle.serving import Serving

        self._stop.loop = asyncio.get_running_loop()
        self._pulse = Pulse(self._stop.loop)
        for server in servers:
            self.on_leaving(functools.partial(self._retire, server))
        self._begin()
        try:
            await Serving(self._parts, self._stop, self._main_ended).until_over(main, self._crashed)
        finally:
            self._restore()
        return self._verdict()

    def start(self) -> None:
        """For a main loop that is somebody else's: begin, and return. Outside of the main thread, signals stay the caller's."""
        self._begin()
        main = self._parts.main
        if threading.current_thread() is threading.main_thread():
            main.enter()
            main.call = lambda: self._call_main(pass_on=True)
            _at_threads_end(main.returned)

    def stop(self, why: str = "stop") -> int:
        """Stop now, by the story; returns the exit code. Within a task, or in a loop, which must go on for that, it only tells."""
        if not self._started:
            return 0
        self._stop.tell(why)
        if self._parts.tasks.around() is not None or _in_loop():
            return 0
        if threading.current_thread() is threading.main_thread():
            return self._finish()
        self._stop.over.wait()
        return self._stop.code

    def __enter__(self) -> "Lifecycle":
        self._begin()
        if threading.current_thread() is threading.main_thread():
            self._token = self._parts.main.enter()
            self._parts.main.call = self._call_main
        return self

    def __exit__(self, _kind: Any, error: Optional[BaseException], _traceback: Any) -> bool:
        if not self._started:  # the child of a fork, or stopped within
            return False
        try:
            self._leave_main()
            self._main_ended(error)
            self._finish()
        except Called:  # called back in the very moment of coming back
            self._finish()
        return self._end_with(error)

    def _end_with(self, error: Optional[BaseException]) -> bool:
        """True where *error* ends here; raises SystemExit(1) where nothing worse is under way already."""
        orderly = (
            error is None
            or isinstance(error, (Called, ShuttingDown))
            or (isinstance(error, SystemExit) and not error.code)
        )
        if orderly:
            self._verdict()
        return isinstance(error, (Called, ShuttingDown))

    # Inside

    def _begin(self) -> None:
        if self._started or self._stop.why is not None:
            raise RuntimeError("this Lifecycle has been started before; one serves for one run of a process")
        self._parts.settle()
        _ = self.previous  # before we overwrite it
        self._started = True
        self._watch_forks()
        self._hooks.install()
        atexit.register(self._at_exit)
        if not self._signals.install():
            say("not in the main thread: signals stay the caller's; call stop() when one comes")
        self._start_web()
        if not self._starting:
            self.ready()

    def _start_web(self) -> None:
        """Place of the web's side: what is to listen from the start, such as /health, and stops with `self._stop.then`."""

    def _retire(self, server: Any) -> Any:
        """Place of the web's side: how an `asyncio.Server` leaves (the lame duck)."""
        server.close()

    def _heard(self, number: int, times: int) -> None:
        """A signal, in the thread of the signals. SIGTERM twice is SIGTERM; SIGINT twice ends the wait."""
        told = self._stop.tell(signal.Signals(number).name, ends=True)
        if number == signal.SIGINT and times >= 2 and not told:
            self._stop.hurry()

    def _main_ended(self, error: Optional[BaseException]) -> None:
        if error is None or isinstance(error, (Called, ShuttingDown)):
            self._stop.tell("main returned", ends=True)
        elif is_crash(error):
            self._stop.tell(name_of(error), error=error, ends=True)
        else:
            self._stop.tell(f"exit {error.code}" if isinstance(error, SystemExit) else type(error).__name__, ends=True)

    def _crashed(self, error: BaseException, where: str) -> None:
        if self._stop.tell(f"{name_of(error)} in {where}", error=error, ends=True):
            say(f"uncaught {type(error).__name__} in {where}: stopping")

    def _at_top(self, error: BaseException) -> None:
        self._main_ended(error)
        self._finish()

    def _at_exit(self) -> None:
        if self._started:
            self._stop.tell("exit", ends=True)
            self._finish()

    def _finish(self) -> int:
        """Main is back: lend it to what is left to do, then all is as it was before."""
        self._parts.main.returned()
        self._stop.hands.lend()
        self._restore()
        return self._stop.code

    def _restore(self) -> None:
        self._started = False
        self._parts.returned.set()
        self._signals.remove()
        self._hooks.remove()
        atexit.unregister(self._at_exit)

    def _verdict(self) -> int:
        if self._stop.code:
            raise SystemExit(self._stop.code)
        return 0

    def _leave_main(self) -> None:
        self._parts.main.returned()
        token = self.__dict__.pop("_token", None)
        if token is not None:
            leave(token)

    def _call_main(self, pass_on: bool = False) -> bool:
        """Have the main thread come back. *pass_on*: by the handler that its framework had installed, where there is one."""
        main, reached = self._parts.main, threading.Event()

        def act(before: Any, number: int, frame: Any) -> None:
            reached.set()
            if main.back:
                return
            if pass_on and callable(before) and before is not signal.default_int_handler:
                before(number, frame)
            else:
                raise Called(1 if self._stop.error is not None or self.busy else 0)

        return self._signals.interrupt_main(act) and reached.wait(_REACHED_WITHIN)

    def _watch_forks(self) -> None:
        if not self._watched_forks and hasattr(os, "register_at_fork"):
            self._watched_forks = True
            mine = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forget(mine()))

    def _in_child(self) -> None:
        """The child of a fork answers for nothing of its parent's: no work, no signals, no node, no clean-up."""
        if self._started:
            self._signals.forget()
            self._hooks.remove()
            atexit.unregister(self._at_exit)
            self._node, self._state = None, ""
            self._make(self._parts.limits, self._parts.tasks)


def _forget(life: Optional[Lifecycle]) -> None:
    if life is not None:
        life._in_child()


def _span(value: Union[float, Duration, None]) -> Optional[float]:
    """Seconds of a pause: here a number is what it says, as in `time.sleep`."""
    if value is None or isinstance(value, (int, float)):
        return value
    return seconds("timeout", value)


def _is_async(main: Any) -> bool:
    from deployer.lifecycle.wrapping import is_async

    return is_async(main)


def _in_loop() -> bool:
    import sys

    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def _at_threads_end(call: Callable[[], None]) -> None:
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(call)
