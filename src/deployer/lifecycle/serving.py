"""`Lifecycle.serve`: the same story around a running loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Optional

from deployer.lifecycle.crash import LoopHook
from deployer.lifecycle.hands import answers
from deployer.lifecycle.mainline import Called, leave
from deployer.lifecycle.pulse import Pulse
from deployer.lifecycle.tasks import ShuttingDown

if TYPE_CHECKING:
    from deployer.lifecycle.running import Running


class Serving:
    """The running loop under a stop, with a main or without."""

    def __init__(self, running: Running) -> None:
        self._running, self._parts, self._stop = running, running.parts, running.stop
        self._loop = self._stop.loop = asyncio.get_running_loop()
        self._stop.hands.lend_loop(self._loop)
        self.pulse = Pulse(self._loop)
        if getattr(self._loop, "_default_executor", None) is None:  # somebody's own stays
            self._loop.set_default_executor(_Executor(self._stop.over))
        self._main: Optional[asyncio.Task[Any]] = None
        self._cancelled = False

    async def until_over(self, main: Any) -> None:
        """Run *main*, and return when the stop's story is over, which whoever tells begins. Raises what ended main."""
        hook = LoopHook(self._loop, self._running.crashed)
        try:
            self._start(main)
            await self._over()
        finally:
            hook.remove()
        if self._main is not None and self._main.done() and not self._main.cancelled():
            self._raise(self._main.exception())
        if self._cancelled:
            raise asyncio.CancelledError

    def _start(self, main: Any) -> None:
        if main is None or self._parts.told:
            getattr(main, "close", lambda: None)()  # told before it began
            self._parts.main.returned()
            return
        token = self._parts.main.enter()
        self._parts.main.call = self._call_main
        self._main = self._loop.create_task(_whole(main() if callable(main) else main), name="main")
        leave(token)
        self._main.add_done_callback(self._main_ended)

    def _call_main(self) -> bool:
        if self._main is None or not answers(self._loop, 0.2):
            return False
        self._loop.call_soon_threadsafe(self._main.cancel)
        return True

    def _main_ended(self, task: asyncio.Task[Any]) -> None:
        self._parts.main.returned()
        error = None if task.cancelled() else task.exception()
        self._running.ended(error.error if isinstance(error, _Exit) else error)

    async def _over(self) -> None:
        over = asyncio.Event()
        self._stop.then(lambda: self._wake(over))
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:  # whoever cancels us wants us to leave; who does it again, at once
                self._cancelled = True
                if not self._stop.tell("cancelled", ends=True):
                    self._stop.hurry()

    def _wake(self, over: asyncio.Event) -> None:
        try:
            self._loop.call_soon_threadsafe(over.set)
        except RuntimeError:
            pass

    def _raise(self, error: Optional[BaseException]) -> None:
        if isinstance(error, _Exit):
            raise error.error
        if error is not None and not isinstance(error, (ShuttingDown, Called)):
            raise error


class _Executor(ThreadPoolExecutor):
    """The loop's own, which `asyncio.run` waits for in the end: but not for ever, for a thread that waits for work, say."""

    def __init__(self, over: threading.Event) -> None:
        super().__init__(thread_name_prefix="asyncio")
        self._over = over

    def shutdown(self, wait: bool = True, **options: Any) -> None:
        super().shutdown(wait=wait and not self._over.is_set(), **options)


class _Exit(Exception):
    """SystemExit and KeyboardInterrupt of main, on their way past asyncio, which would stop the loop for them at once."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


async def _whole(main: Any) -> Any:
    try:
        return await main
    except (SystemExit, KeyboardInterrupt) as error:
        raise _Exit(error) from None
