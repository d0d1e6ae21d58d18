"""`Lifecycle.serve`: the same story around a running loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Callable, Optional

from deployer.lifecycle.crash import LoopHook
from deployer.lifecycle.hands import answers
from deployer.lifecycle.mainline import Called, leave
from deployer.lifecycle.tasks import ShuttingDown

if TYPE_CHECKING:
    from deployer.lifecycle.parts import Parts
    from deployer.lifecycle.stop import Stop


class Serving:
    """One loop under a stop: *ended(error)* is called with what ended main, None where it returned."""

    def __init__(self, parts: Parts, stop: Stop, ended: Callable[[Optional[BaseException]], None]) -> None:
        self._parts, self._stop, self._ended = parts, stop, ended
        self._loop = asyncio.get_running_loop()
        self._main: Optional[asyncio.Task[Any]] = None
        self._cancelled = False

    async def until_over(self, main: Any, crashed: Callable[[BaseException, str], None]) -> None:
        """Run *main*, and return when the stop's story is over, which whoever tells begins. Raises what ended main."""
        hook = LoopHook(self._loop, crashed)
        self._stop.hands.lend_loop(self._loop)
        try:
            if main is not None:
                self._start(main() if callable(main) else main)
            await self._over()
        finally:
            hook.remove()
        if self._main is not None and self._main.done() and not self._main.cancelled():
            self._raise(self._main.exception())
        if self._cancelled:
            raise asyncio.CancelledError

    def _start(self, main: Any) -> None:
        if self._parts.told:
            getattr(main, "close", lambda: None)()
            return
        token = self._parts.main.enter()
        self._parts.main.call = self._call_main
        self._main = self._loop.create_task(_whole(main), name="main")
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
        self._ended(error.error if isinstance(error, _Exit) else error)

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
