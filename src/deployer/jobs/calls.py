"""
A service that other processes of its run may call: a Unix socket, in a directory that only its user may enter.

The program around a class (host/batch/class_main.py) loads this by its file: standard library only, and nothing of ours. A call
is `(method, args, kwargs)`, its answer `(True, result)` or `(False, error)`, both as multiprocessing.connection sends them.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, Dict, Iterator, Optional, Tuple

LONGEST = 100
"""Bytes of a socket's name that every kernel takes."""


class Calls:
    """Answers calls of *service* at the socket *path*, each caller in a thread of its own, until `close`."""

    def __init__(self, service: Any, path: str) -> None:
        self._service = service
        self._path = path
        self._remove()
        with _short(path) as name:
            self._listener = Listener(name, family="AF_UNIX", backlog=64)
        os.chmod(path, 0o600)
        threading.Thread(target=self._accept, name="calls", daemon=True).start()

    def close(self) -> None:
        """No more callers."""
        self._remove()
        try:
            self._listener.close()
        except OSError:
            pass  # it would remove the short name that it was bound by

    def _accept(self) -> None:
        while True:
            try:
                caller = self._listener.accept()
            except (OSError, EOFError):
                return  # closed
            threading.Thread(target=self._serve, args=(caller,), name="call", daemon=True).start()

    def _serve(self, caller: Connection) -> None:
        with caller:
            try:
                while True:
                    method, args, kwargs = caller.recv()
                    self._answer(caller, str(method), args, kwargs)
            except (EOFError, OSError):
                pass  # the caller has gone

    def _answer(self, caller: Connection, method: str, args: Any, kwargs: Any) -> None:
        try:
            if method.startswith("_"):
                raise AttributeError(f"{method} is not for callers")
            answer = (True, getattr(self._service, method)(*args, **kwargs))
        except Exception as error:
            answer = (False, error)
        try:
            caller.send(answer)
        except OSError:
            raise  # the caller has gone
        except Exception as error:  # PicklingError and many others: what it gave, or raised, cannot travel
            what = f"gave what cannot be sent to another process: {error}" if answer[0] else f"raised {answer[1]!r}"
            caller.send((False, RuntimeError(f"{method} {what}")))

    def _remove(self) -> None:
        try:
            os.unlink(self._path)
        except OSError:
            pass


def answering(service: Any, path: Optional[str]) -> Optional[Calls]:
    """*service*, answering at *path*; None where nobody gave it one."""
    return Calls(service, path) if path else None


def call(path: str, method: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Tuple[bool, Any]:
    """(True, what *method* of the service at *path* gives), (False, what it raises). OSError or EOFError: nobody answers."""
    with _short(path) as name, Client(name, family="AF_UNIX") as service:
        service.send((method, args, kwargs))
        answer: Tuple[bool, Any] = service.recv()
    return answer


@contextmanager
def _short(path: str) -> Iterator[str]:
    """A name for *path* that fits into a socket address, as host/unix.py has it."""
    if len(os.fsencode(path)) <= LONGEST or not os.path.isdir("/proc/self/fd"):
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)
