"""
The agent's ears and pulse on a link that may fall silent: what the client sends, read ahead, and a beat both ways.

A broken network ends no connection by itself: without this, an agent whose client's laptop was closed would hold the deploy
lock for as long as TCP tries. One thread; it must not live while the process forks.
"""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
import time
from typing import Callable, Optional, Union

from deployer.wire import frames

AHEAD_BYTES = 8 * 1024 * 1024
"""Read ahead at most: an upload that is faster than the disk waits on the link."""
READ_BYTES = 1 << 18
LEAVE_WITHIN = 10.0
"""Seconds that the agent of a silent client has to let go by itself."""
PAUSE, ROOM = b"p", b"r"


class Pump:
    """
    Reads frames from *source* in a thread, and sends a beat every *beat* seconds by *send_beat*, which must not block.

    `receive` gives the frames in order, None at the end. `gone` is a descriptor that becomes readable once the client has closed,
    or was silent for *silent* seconds.
    """

    def __init__(self, source: int, beat: float, silent: float, send_beat: Callable[[], None]) -> None:
        self._source = source
        self._beat = beat
        self._silent = silent
        self._send_beat = send_beat
        self._decoder = frames.Decoder()
        self._frames: "queue.SimpleQueue[Union[frames.Frame, frames.BrokenFrame, None]]" = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._ahead = 0
        self._full = False
        self._ended = False
        self._heard = time.monotonic()
        self.gone, self._alive = os.pipe()
        self._wake, self._waker = os.pipe()
        self._thread: Optional[threading.Thread] = None

    def start(self) -> None:
        """Begin, or go on after `pause`."""
        if self._ended:
            return
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Return when no thread runs, until `start`: for a fork."""
        if self._thread is not None:
            os.write(self._waker, PAUSE)
            self._thread.join()
            self._thread = None

    def receive(self) -> Optional[frames.Frame]:
        """The next frame; None at the end. Raises BrokenFrame."""
        frame = self._frames.get()
        if frame is None or isinstance(frame, frames.BrokenFrame):
            self._frames.put(None)  # it stays ended
            if frame is not None:
                raise frame
            return None
        with self._lock:
            self._ahead -= _weight(frame)
            roomy = self._full and self._ahead <= AHEAD_BYTES
            self._full = self._full and not roomy
        if roomy:
            os.write(self._waker, ROOM)
        return frame

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # without us nobody would notice that the client has gone: the lock would stay held
            self._end(frames.BrokenFrame(f"the link could not be read: {type(error).__name__}: {error}"))

    def _serve(self) -> None:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due:
                due = now + self._beat
                self._send_beat()
            if not self._full and now - self._heard > self._silent:
                return self._forsaken()
            watched = [self._wake] if self._full else [self._wake, self._source]
            readable = select.select(watched, [], [], due - now)[0]
            if self._wake in readable:
                said = os.read(self._wake, 64)
                self._heard = time.monotonic()  # we did not listen meanwhile
                if PAUSE in said:
                    return
            elif self._source in readable and not self._read():
                return

    def _read(self) -> bool:
        """Whether there is more to come."""
        try:
            data = os.read(self._source, READ_BYTES)
        except OSError:
            data = b""
        self._heard = time.monotonic()
        if not data:
            self._end(None)
            return False
        try:
            arrived = self._decoder.feed(data)
        except frames.BrokenFrame as error:
            self._end(error)
            return False
        with self._lock:
            self._ahead += sum(map(_weight, arrived))
            self._full = self._ahead > AHEAD_BYTES
        for frame in arrived:
            self._frames.put(frame)
        return True

    def _end(self, error: Optional[frames.BrokenFrame]) -> None:
        self._ended = True
        self._frames.put(error)
        os.close(self._alive)

    def _forsaken(self) -> None:
        sys.stderr.write("agent: the client has fallen silent\n")
        self._end(None)
        # Whoever writes to a link that nobody reads may never come back to notice.
        time.sleep(LEAVE_WITHIN)
        os._exit(1)


def _weight(frame: frames.Frame) -> int:
    return len(frame) if isinstance(frame, bytes) else 1
