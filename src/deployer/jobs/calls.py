"""
A service that other processes of its run may call: a Unix socket, in a directory that only its user may enter.

The program around a class (host/batch/class_main.py) loads this by its file: standard library only, and nothing of ours. A call
is `(method, args, kwargs)`, its answer `(True, result)` or `(False, error)`, each a pickle.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import threading
import time
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, Dict, Iterator, Optional, Tuple

LONGEST = 100
"""Bytes of a socket's name that every kernel takes."""
FULL_PAUSE = 0.05
"""Seconds until it is tried again to take a caller."""


class Calls:
    """Answers calls of *service* at the socket *path*, each caller in a thread of its own, until `close`."""

    def __init__(self, service: Any, path: str) -> None:
        self._service = service
        self._path = path
        self._closed = False
        self._remove()
        with _short(path) as name:
            self._listener = Listener(name, family="AF_UNIX", backlog=64)
        os.chmod(path, 0o600)
        threading.Thread(target=self._accept, name="calls", daemon=True).start()

    def close(self) -> None:
        """No more callers."""
        self._closed = True
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
                if self._closed:
                    return
                time.sleep(FULL_PAUSE)  # out of descriptors, for now: whoever waits is answered then
                continue
            try:
                threading.Thread(target=self._serve, args=(caller,), name="call", daemon=True).start()
            except RuntimeError:  # no more threads: this one caller is told, by the end of the line
                caller.close()

    def _serve(self, caller: Connection) -> None:
        with caller:
            try:
                while True:
                    caller.send_bytes(self._answer(caller.recv_bytes()))
            except (EOFError, OSError):
                pass  # the caller has gone

    def _answer(self, asked: bytes) -> bytes:
        try:
            method, args, kwargs = pickle.loads(asked)
        except Exception as error:  # a class of the caller's own script, as a rule
            why = f"what was sent to the service cannot be read there: {described(error)}"
            return pickle.dumps((False, RuntimeError(why)))
        try:
            return self._answered(str(method), args, kwargs)
        except Exception as error:
            return _raised(str(method), error)
        except BaseException as error:  # a SystemExit is the end of this call, and of no process
            return pickle.dumps((False, RuntimeError(f"{method} raised {error!r}")))

    def _answered(self, method: str, args: Any, kwargs: Any) -> bytes:
        if method.startswith("_"):
            raise AttributeError(f"{method} is not for callers")
        result = getattr(self._service, method)(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        try:
            return pickle.dumps((True, result))
        except Exception as error:  # PicklingError and many others
            raise RuntimeError(f"{method} gave what cannot be sent to another process: {error}") from None

    def _remove(self) -> None:
        try:
            os.unlink(self._path)
        except OSError:
            pass


def _raised(method: str, error: Exception) -> bytes:
    try:
        answer = pickle.dumps((False, error))
        pickle.loads(answer)  # an error whose __init__ wants more than its args can be written, and never read
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{method} raised {described(error)}")))
    return answer


def described(error: BaseException) -> str:
    """*error* with its kind, whatever its own methods do."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def answering(service: Any, path: Optional[str]) -> Optional[Calls]:
    """*service*, answering at *path*; None where nobody gave it one."""
    return Calls(service, path) if path else None


def call(path: str, method: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Tuple[bool, Any]:
    """
    (True, what *method* of the service at *path* gives), (False, what it raises). What cannot be pickled raises.

    OSError or EOFError: nobody answers.
    """
    asked = pickle.dumps((method, args, kwargs))
    with _short(path) as name, Client(name, family="AF_UNIX") as service:
        service.send_bytes(asked)
        answer = service.recv_bytes()
    try:
        told: Tuple[bool, Any] = pickle.loads(answer)
    except Exception as error:  # a class that only the service's process can import
        return False, RuntimeError(f"what {method} gave cannot be read here: {described(error)}")
    return told


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
