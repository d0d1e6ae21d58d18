"""What a worker process does first: it ends with its parent, however that ended."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading


def tether() -> None:
    """
    Exit when the parent has gone. Ctrl-C at a terminal reaches every process there: it is the parent's to decide.

    The parent's death is seen at a pipe that only it holds, so SIGKILL counts too. Code that never lets go of the GIL delays it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), name="tether", daemon=True).start()


def _follow(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
