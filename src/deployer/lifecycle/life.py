"""`Lifecycle`: what an app says of its work, and what it is spared when it has to leave. docs/lifecycle.md is the guide."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Sequence, Tuple, Union

from deployer.lifecycle import snapshot
from deployer.lifecycle.cleanup import called
from deployer.lifecycle.hands import on_errand
from deployer.lifecycle.limits import Duration, Limits, seconds
from deployer.lifecycle.mainline import Called
from deployer.lifecycle.parts import Parts
from deployer.lifecycle.running import Running, in_forks
from deployer.lifecycle.tasks import ShuttingDown, Task, Tasks
from deployer.lifecycle.web import Web

if TYPE_CHECKING:
    from deployer.lifecycle.sockets import Sockets


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
        self._watches_forks = False
        self._web = Web(lambda: self._parts, self.facts, health)
        self._make(limits)

    def _make(self, limits: Limits, tasks: Optional[Tasks] = None) -> None:
        self._running = Running(Parts(limits, self._node, self._state, tasks), self._numbers)
        self._is_ready = False
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
        return len(self._parts.tasks.now())

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
        if self._is_ready or not self._running.begun:
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

            return asyncio.run(self.serve(main=functools.partial(main, *args)))
        with self:
            if main is None:
                self._parts.told.wait()
            elif not self._parts.told:
                main(*args)
        return 0

    async def serve(self, *servers: Any, main: Any = None) -> int:
        """
        The same in asyncio: *servers* accept until we leave, *main*, a coroutine, runs beside them.

        A main that notices (`told`, `shutting_down`) is let finish; one that does not is cancelled when nothing is in flight.
        """
        from deployer.lifecycle.serving import Serving

        for server in servers:
            self.on_leaving(functools.partial(self._retire, server))
        serving = Serving(self._running)
        self._pulse = self._web.pulse = serving.pulse
        self._begin()
        try:
            await serving.until_over(main)
        finally:
            self._running.put_back()
        return self._running.verdict()

    def start(self) -> None:
        """For a main loop that is somebody else's: begin, and return. Outside of the main thread, signals stay the caller's."""
        self._begin(pass_on=True)

    def stop(self, why: str = "stop") -> int:
        """
        Stop now, by the story; returns the exit code.

        Within a task, in a loop, or in what the stop itself has called, which must go on for that, it only tells.
        """
        running = self._running
        if not running.begun:
            return running.stop.code
        in_main = threading.current_thread() is threading.main_thread()
        running.stop.tell(why, ends=not in_main)
        if self._parts.tasks.around() is not None or _in_loop() or on_errand():
            self._parts.main.notice()
            return 0
        if in_main:
            return running.finish()
        return running.wait()

    def __enter__(self) -> Lifecycle:
        self._begin()
        return self

    def __exit__(self, _kind: Any, error: Optional[BaseException], _traceback: Any) -> bool:
        running = self._running
        if not running.begun:  # in the child of a fork, or stopped within
            return False
        try:
            running.main_is_back()
            running.ended(error)
            running.finish()
        except Called:  # called back in the very moment of coming back
            running.finish()
        if isinstance(error, (Called, ShuttingDown)):
            running.verdict()
            return True
        if error is None or (isinstance(error, SystemExit) and not error.code):
            running.verdict()
        return False

    # Inside

    @property
    def _parts(self) -> Parts:
        return self._running.parts

    def _begin(self, *, pass_on: bool = False) -> None:
        _ = self.previous  # before this run overwrites it
        if not self._watches_forks:
            self._watches_forks = True
            in_forks(self, Lifecycle._in_child)
        self._running.begin(pass_on=pass_on)
        try:
            self._web.start()
            if not self._starting:
                self.ready()
        except BaseException:
            self._running.put_back()
            raise

    def _in_child(self) -> None:
        """The child of a fork answers for nothing of its parent's: no work, no signals, no node, no clean-up, no snapshot."""
        if self._running.begun:
            self._running.forget()
            self._node, self._state = None, ""
            self._web.forget()
            self._make(self._parts.limits, self._parts.tasks)

    # The web's side

    @property
    def sockets(self) -> Sockets:
        """The inherited sockets by name: `life.sockets["http"]`; "http" is also the name of one that was given none."""
        return self._web.sockets

    async def opened(self) -> None:
        """Wait in a loop until the public may come in: at once, unless deployer wants to prove us on the private socket first."""
        await self._web.gate.opened()

    def wait_opened(self, timeout: Union[float, Duration, None] = None) -> bool:
        """The same in a thread; False when *timeout* passes first."""
        return self._web.gate.wait(_span(timeout))

    def health(self) -> Tuple[int, Dict[str, Any]]:
        """What /health answers: status code and document."""
        return self._web.health()

    def asgi(self, app: Any = None, *, path: str = "/health", admit: Optional[bool] = None) -> Any:
        """
        The ASGI *app*, which answers *path*, says `Connection: close` while we leave, and 503 where ShuttingDown was raised.

        *admit*: whether a request that comes while we leave may still begin tasks. Default: yes where our socket is inherited,
        because it was accepted and nobody else can answer it; else no. Without *app* there is only *path*.
        """
        from deployer.lifecycle.asgi import Asgi

        return Asgi(self._web, self.on_leaving, app, path, self._web.requests(admit))

    def wsgi(self, app: Any = None, *, path: str = "/health", admit: Optional[bool] = None) -> Any:
        """The same for WSGI. For Flask: `app.wsgi_app = life.wsgi(app.wsgi_app)`."""
        from deployer.lifecycle.wsgi import Wsgi

        return Wsgi(self, self._web, app, path, self._web.requests(admit))

    def uvicorn(self, app: Any, **config: Any) -> int:
        """
        Run *app* under uvicorn, and leave well; what `run` returns and raises. *config* is uvicorn.Config's.

        The inherited socket comes before `host` and `port`, $PORT where no port is given. Only when the lifespan has started
        is it `ready()`, and only when the gate is open does it accept.
        """
        from deployer.lifecycle import under_uvicorn

        by_itself, self._starting = not self._starting, True
        return self.run(under_uvicorn.main(self, self._web, app, config, self.ready if by_itself else None))

    async def begins(self, reader: Any, *, used: bool = False) -> bytes:
        """
        For asyncio streams: the first bytes of the next request; b"" when there will be none, or the linger is over.

        *used*: there was one before on this connection.
        """
        from deployer.lifecycle.duck import begins

        return await begins(reader, self._web, used)

    async def trigger(self) -> None:
        """For hypercorn's `shutdown_trigger`: returns when it may stop, which is after the linger and the last task."""
        from deployer.lifecycle.duck import trigger

        await self.told()
        await trigger(self._web)

    def http_server(self, server: Any) -> None:
        """
        Have a `ThreadingHTTPServer` accept, in a thread, and leave well. Call it once, before or after the start.

        Its handler stays as it is; on inherited sockets: make the server with bind_and_activate=False, and set its `socket`.
        """
        from deployer.lifecycle.under_http_server import Duck

        duck = Duck(server, self._web, self._web.requests(None))
        self.on_leaving(duck.leave)
        duck.start()

    async def _retire(self, server: Any) -> None:
        """How an `asyncio.Server` leaves: the lame duck."""
        from deployer.lifecycle.duck import retire

        await retire(server, self._web)


def _span(value: Union[float, Duration, None]) -> Optional[float]:
    """Seconds of a pause: here a number is what it says, as in `time.sleep`."""
    if value is None or isinstance(value, (int, float)):
        return value
    return seconds("timeout", value)


def _is_async(main: Any) -> bool:
    from deployer.lifecycle.wrapping import is_async

    return is_async(main)


def _in_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
