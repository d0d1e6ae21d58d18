"""The agent's connection to its client: plain pipes on this machine; on a link, with a pulse both ways."""

from __future__ import annotations

import os
import select
import threading
from typing import BinaryIO, Optional

from deployer.host.pump import Pump
from deployer.wire import frames


class Connection:
    """Frames on *stdin* and *stdout*. `gone` is a descriptor that becomes readable when the client has gone."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._in = stdin
        self._out = stdout

    @property
    def gone(self) -> int:
        return self._in.fileno()

    def receive(self) -> Optional[frames.Frame]:
        """The next frame; None when the client has closed. Raises BrokenFrame."""
        return frames.read(self._in)

    def send(self, message: frames.Frame) -> None:
        self._out.write(frames.pack(message))
        self._out.flush()

    def before_fork(self) -> None:
        """No thread of ours runs until `after_fork`."""

    def after_fork(self) -> None:
        """In the parent."""


class Link(Connection):
    """As a Connection, but a client that is silent for *silent* seconds has gone; we beat every *beat* seconds ourselves."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO, beat: float, silent: float) -> None:
        super().__init__(stdin, stdout)
        self._sending = threading.Lock()
        # Unbuffered from here on: the loader has read exactly what was meant for it.
        self._pump = Pump(stdin.fileno(), beat, silent, self._beat)
        self._pump.start()

    @property
    def gone(self) -> int:
        return self._pump.gone

    def receive(self) -> Optional[frames.Frame]:
        return self._pump.receive()

    def send(self, message: frames.Frame) -> None:
        with self._sending:
            self._out.write(frames.pack(message, squeeze=True))
            self._out.flush()

    def before_fork(self) -> None:
        self._pump.pause()

    def after_fork(self) -> None:
        self._pump.start()

    def _beat(self) -> None:
        # Never waits: who is sending is heard anyway, and a pipe that is full has somebody waiting at it already.
        if self._sending.acquire(blocking=False):
            try:
                if select.select([], [self._out], [], 0)[1]:
                    os.write(self._out.fileno(), frames.BEAT)
            except OSError:
                pass  # the reading side finds out
            finally:
                self._sending.release()
