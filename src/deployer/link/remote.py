"""Frames to the engine of another host, over whichever SSH client, with a pulse: a silent peer is a broken link."""

from __future__ import annotations

import threading
import time
from collections import deque

from deployer.errors import LinkError
from deployer.link import bootstrap
from deployer.link.heart import HEART
from deployer.link.pipe import Pipe
from deployer.wire import frames
from deployer.wire.frames import Frame

READ = 1 << 18


class RemoteChannel:
    """
    A Channel over *pipe* to the engine for the app at *path* on *host*.

    *pulse*: how often to beat, and how long a silence may last until the link counts as broken, both in seconds. Raises what
    `bootstrap.greet` raises.
    """

    def __init__(self, pipe: Pipe, host: str, path: str, pulse: tuple[float, float], become: str | None = None) -> None:
        self._pipe = pipe
        self._host = host
        self._every, self._longest = pulse
        self._sending = threading.Lock()
        self._decoder = frames.Decoder()
        self._arrived: deque[Frame] = deque()
        self._heard = time.monotonic()
        self._due = self._heard + self._every
        self._silent: float | None = None
        self._reading = threading.Lock()
        self._reading.acquire()
        self._greeted = False
        self.sent = self.received = 0
        HEART.add(self)
        try:
            self._arrived.extend(bootstrap.greet(pipe, self._decoder, host, path, pulse, become))
        except BaseException as error:
            self.close()
            if self._silent is not None and isinstance(error, LinkError):
                raise LinkError(
                    f"{host} does not answer",
                    cause=f"the login was silent for {self._silent:.0f} s",
                    state="nothing was changed",
                    hint="does something hang there, a login script for instance? [target.….ssh] silent_after gives it longer",
                ) from error
            raise
        self._heard = time.monotonic()
        self._greeted = True
        self._reading.release()

    squeezes = True

    def send(self, frame: Frame) -> None:
        data = frames.pack(frame, squeeze=True)
        with self._sending:
            try:
                self._pipe.write(data)
            except OSError as error:
                raise self._lost(self._last_words() or str(error)) from error
        self.sent += len(data)

    def receive(self) -> Frame | None:
        while not self._arrived:
            with self._reading:
                if not self._arrived:
                    self._read()
        return self._arrived.popleft()

    def _read(self) -> None:
        try:
            data = self._pipe.read(READ)
        except OSError as error:
            raise self._lost(str(error)) from error
        if not data:
            raise self._lost(self._last_words())
        self._heard = time.monotonic()
        self.received += len(data)
        try:
            self._arrived.extend(self._decoder.feed(data))
        except frames.BrokenFrame as error:
            raise self._lost(str(error)) from error

    def waiting(self) -> bool:
        self._listen()
        return bool(self._arrived)

    def close(self) -> None:
        HEART.remove(self)
        self._pipe.stop()

    def beat(self, now: float) -> float:
        """See heart.py."""
        self._listen()
        if now - self._heard > self._longest and not self._pipe.ready():
            self._silent = now - self._heard
            self._pipe.stop()
            return float("inf")
        if now >= self._due:
            self._due = now + self._every
            self._send_beat()
        return self._due

    def _listen(self) -> None:
        """Take in what came while nobody reads: who builds for a minute has not heard the other side's beats."""
        if self._reading.acquire(blocking=False):
            try:
                while self._pipe.ready():
                    self._read()
            except LinkError:
                pass  # whoever reads next finds out
            finally:
                self._reading.release()

    def _send_beat(self) -> None:
        # Who is sending is heard anyway. Before the greeting is over there is nobody who would understand.
        if self._greeted and self._sending.acquire(blocking=False):
            try:
                self._pipe.write(frames.BEAT)
            except OSError:
                pass  # as above
            finally:
                self._sending.release()

    def _last_words(self) -> str:
        """What the other side said of its end."""
        return self._pipe.end().said.strip()[-1000:] if self._silent is None else ""

    def _lost(self, why: str) -> LinkError:
        cause = f"it was silent for {self._silent:.0f} s" if self._silent is not None else why or "the link closed"
        return LinkError(f"the link to {self._host} broke", cause=cause)
