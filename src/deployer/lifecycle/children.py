"""Commands that the app started: each a task until it has exited, asked to stop once, killed only when the time is over."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import Any, Dict, List, Optional

from deployer.lifecycle.hands import apart
from deployer.lifecycle.sockets import for_children
from deployer.lifecycle.tasks import InFlight, Tasks
from deployer.lifecycle.voice import name_of, say


class Child:
    """
    One process. Its end is an event of the kernel's (a pidfd), seen without reaping: whoever started it still gets its exit code.

    `group`: it leads a process group that we made for it, and is killed with all of it.
    """

    def __init__(self, process: Any, work: InFlight, number: int, group: bool) -> None:
        self.process, self.work, self.number, self.group = process, work, number, group
        self._pidfd = _pidfd(process.pid)

    def ask(self) -> None:
        if self.number:
            self._signal(self.number)

    def kill(self) -> None:
        if self.group:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
                return
            except OSError:
                pass
        self._signal(signal.SIGKILL)

    def wait(self) -> None:
        """Until it has exited."""
        if self._pidfd is None:
            _wait_without_pidfd(self.process)
            return
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.poll()

    def close(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _signal(self, number: int) -> None:
        try:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)  # type: ignore[attr-defined, unused-ignore]
            elif getattr(self.process, "returncode", None) is None:
                os.kill(self.process.pid, number)
        except ProcessLookupError:
            pass
        except OSError as error:
            say(f'child "{self.work.name}" (pid {self.process.pid}) could not be signalled: {name_of(error)}')


class Children:
    """All of them. `ask` and `kill` concern those of this moment; one that came between is asked as it is added."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._lock = threading.Lock()
        self._alive: Dict[str, Child] = {}
        self._asked = False

    def popen(self, argv: Any, name: Optional[str], number: int, ask: Optional[bool], options: Dict[str, Any]) -> Any:
        """Start *argv* in a session of its own, unless *options* say where it belongs, and look after it."""
        import subprocess

        own = not {"start_new_session", "process_group", "preexec_fn"} & set(options)
        if options.get("env") is None and "pass_fds" not in options:
            options = {**options, "env": for_children(os.environ)}  # the sockets are ours, and are not passed on
        work = self._tasks.enter(name or _command_name(argv))
        try:
            process = subprocess.Popen(argv, **(dict(options, start_new_session=True) if own else options))
        except BaseException:
            self._tasks.leave(work)
            raise
        self._look_after(Child(process, work, number, group=own), ask)
        return process

    def adopt(self, process: Any, name: Optional[str], number: int, ask: Optional[bool]) -> Any:
        """Look after *process*, which somebody else started: subprocess', asyncio's or multiprocessing's."""
        name = name or _command_name(getattr(process, "args", None) or f"pid {process.pid}")
        self._look_after(Child(process, self._tasks.enter(name, part=True), number, group=False), ask)
        return process

    def ask(self) -> None:
        with self._lock:
            self._asked = True
            children = list(self._alive.values())
            for child in children:
                child.ask()

    def kill(self) -> List[InFlight]:
        """Kill those that are left, and say which work that was."""
        with self._lock:
            children = list(self._alive.values())
            for child in children:
                child.kill()
        return [child.work for child in children]

    def _look_after(self, child: Child, ask: Optional[bool]) -> None:
        """*ask* None: yes, unless it is a part of other work in flight, which is waited for and not cut."""
        if ask is None:
            ask = child.work.parent is None
        if not ask:
            child.number = 0
        with self._lock:
            self._alive[child.work.id] = child
            if self._asked and not child.work.late:
                child.ask()
        apart(lambda: self._until_exit(child), f"lifecycle-child-{child.process.pid}")

    def _until_exit(self, child: Child) -> None:
        child.wait()
        with self._lock:
            del self._alive[child.work.id]
            child.close()
        poll = getattr(child.process, "poll", None)
        if poll is not None:
            poll()  # nobody else may ever ask: no zombie
        self._tasks.leave(child.work)


def _pidfd(pid: int) -> Optional[int]:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, an old kernel, or gone and reaped
        return None


def _wait_without_pidfd(process: Any) -> None:
    """macOS and the like: an event of kqueue; where there is none, subprocess' own wait."""
    kernel: Any = select
    if hasattr(kernel, "kqueue"):
        queue = kernel.kqueue()
        event = kernel.kevent(process.pid, kernel.KQ_FILTER_PROC, kernel.KQ_EV_ADD, kernel.KQ_NOTE_EXIT)
        try:
            queue.control([event], 1, None)
        except ProcessLookupError:
            pass
        finally:
            queue.close()
    elif hasattr(process, "poll"):
        process.wait()


def _command_name(argv: Any) -> str:
    first = argv if isinstance(argv, (str, bytes, os.PathLike)) else next(iter(argv), "command")
    words = os.fsdecode(first).split()
    return os.path.basename(words[0]) if words else "command"
