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
AHEAD_BYTES = frames.MAX_ANSWER
"""What is taken in at most while nobody receives: beyond it the host waits."""
CLOSE_WITHIN = 5.0
LOGIN_LONGEST = 8
"""Times the longest silence that a login which prints now and then may take."""
OVERSLEPT = 2.0
"""Seconds by which a beat may be late until we take it that we were not running."""


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
        self._decoder = frames.Decoder(frames.MAX_ANSWER)
        self._arrived: deque[Frame] = deque()
        self._begun = self._heard = time.monotonic()
        self._patience = pipe.login_within
        self._due = self._heard + self._every
        self._beaten = self._heard
        self._silent: float | None = None
        self._reading = threading.Lock()
        self._reading.acquire()
        self._greeted = False
        self._ended = False
        self._stopping = threading.Lock()
        self._leaving: threading.Thread | None = None
        self._broken: Exception | None = None
        self._received = 0
        self.sent = self.received = 0
        HEART.add(self)
        try:
            self._arrived.extend(bootstrap.greet(pipe, self._decoder, host, path, pulse, become, self._greeting))
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
        self._received = self._decoder.taken
        self._greeted = True
        self._reading.release()

    squeezes = True

    def send(self, frame: Frame) -> None:
        data = frames.pack(frame, squeeze=True)
        with self._sending:
            try:
                self._pipe.write(data)
            except OSError as error:
                raise self._lost(error) from error
        self.sent += len(data)

    def receive(self) -> Frame | None:
        while not self._arrived:
            with self._reading:
                if not self._arrived:
                    try:
                        self._read()
                    except (OSError, frames.BrokenFrame) as error:
                        raise self._lost(error) from error
        frame = self._arrived.popleft()
        if not self._arrived:
            self._received = self._decoder.taken
        return frame

    def waiting(self) -> bool:
        self._listen()
        return bool(self._arrived) or self._ended

    def leave(self) -> None:
        HEART.remove(self)
        self._stop()

    def close(self) -> None:
        self.leave()
        # A proxy or a jump host that hangs must not hold up who only wants to leave.
        self._stop().join(CLOSE_WITHIN)

    def _stop(self) -> threading.Thread:
        with self._stopping:
            if self._leaving is None:
                thread = threading.Thread(target=self._pipe.stop, name="leaving", daemon=True)
                thread.start()
                self._leaving = thread
            return self._leaving

    def _greeting(self) -> None:
        """Something came before the engine was up: a login script may print for a while, but not byte by byte for ever."""
        now = time.monotonic()
        if now - self._begun < LOGIN_LONGEST * self._longest + self._patience:
            self._heard = now
        if self._heard == now:
            self._patience = 0.0

    def _read(self) -> None:
        """Take in what came, or wait for it. Raises OSError, at the end too, and BrokenFrame."""
        if self._broken is not None:
            raise self._broken
        data = self._pipe.read(READ)
        if not data:
            raise ConnectionAbortedError("the link closed")
        self._heard = time.monotonic()
        self.received += len(data)
        self._arrived.extend(self._decoder.feed(data))

    # The pulse -------------------------------------------------------------------------------------------------------

    def beat(self, now: float) -> float:
        """See heart.py."""
        if now - self._beaten > self._every + OVERSLEPT:
            self._heard = now  # this process was stopped, or got no processor: it is not the peer who was silent
        self._beaten = now
        self._listen()
        if self._ended:
            return float("inf")
        if now - self._heard > self._longest + self._patience and not self._pipe.ready():
            self._silent = now - self._heard
            self._ended = True
            self._stop()
            return float("inf")
        if now >= self._due:
            self._due = now + self._every
            self._send_beat()
        return self._due

    def fail(self, error: Exception) -> None:
        """See heart.py."""
        self._end(frames.BrokenFrame(f"what it sent could not be read: {type(error).__name__}: {error}"))
        self._stop()

    def _end(self, error: OSError | frames.BrokenFrame) -> None:
        self._ended, self._broken = True, error

    def _listen(self) -> None:
        """Take in what came while nobody reads: who builds for a minute has not heard the other side's beats."""
        if not self._ended and self._reading.acquire(blocking=False):
            try:
                # Once: a host that sends without end must not keep the heart from the others.
                if self._decoder.taken - self._received <= AHEAD_BYTES and self._pipe.ready():
                    self._read()
            except (OSError, frames.BrokenFrame) as error:
                self._end(error)  # whoever reads next finds out
            finally:
                self._reading.release()

    def _send_beat(self) -> None:
        # Who is sending is heard anyway. Before the greeting is over there is nobody who would understand.
        if self._greeted and self._sending.acquire(blocking=False):
            try:
                if self._pipe.writable():
                    self._pipe.write(frames.BEAT)
            except OSError:
                pass  # whoever writes next finds out
            finally:
                self._sending.release()

    def _lost(self, error: Exception) -> LinkError:
        if self._silent is not None:
            cause = f"it was silent for {self._silent:.0f} s"
        else:
            cause = self._pipe.end().said.strip()[-1000:] or str(error)
        return LinkError(f"the link to {self._host} broke", cause=cause)
