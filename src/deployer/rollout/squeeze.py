"""Whether squeezing pays: on this link, for this content, on this machine. Found out while sending."""

from __future__ import annotations

import time
import zlib

from deployer.wire.content import RAW, SQUEEZED

LINK, ZLIB = 12e6, 60e6
"""Bytes a second that are taken for granted until they are measured: a link in the open, zlib's fastest level."""
TOO_FAST = 200e6
"""No zlib keeps up with such a link: not even a sample is looked at."""
SAMPLE, WORTH_IT = 4096, 64
WINDOW_BYTES, WINDOW_SECONDS = 512 * 1024, 0.03
"""After so much on its way, or so long at work, the link is judged anew."""


class Squeeze:
    """
    Turns payloads into frames' bodies. `sent` must be told how long the link took for each.

    A payload is squeezed when that takes less time than the link needs for the bytes it saves.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._link, self._zlib = LINK, ZLIB
        self._bytes, self._seconds, self._since = 0, 0.0, time.monotonic()

    def body(self, parts: list[bytes]) -> bytes:
        """The flag, and *parts* in the form that is there sooner."""
        if not self._wanted or self._link > TOO_FAST:
            return b"".join([bytes([RAW]), *parts])  # copied once
        payload = b"".join(parts)
        if not self._pays(payload):
            return bytes([RAW]) + payload
        began = time.perf_counter()
        squeezed = zlib.compress(payload, 1)
        took = max(time.perf_counter() - began, 1e-9)
        self._zlib += (len(payload) / took - self._zlib) / 4
        if len(squeezed) >= len(payload):
            return bytes([RAW]) + payload
        return bytes([SQUEEZED]) + squeezed

    def sent(self, count: int, seconds: float) -> None:
        """The link took *count* bytes in *seconds*."""
        self._bytes += count
        self._seconds += seconds
        now = time.monotonic()
        if self._bytes < WINDOW_BYTES and now - self._since < WINDOW_SECONDS:
            return
        rate = self._bytes / max(self._seconds, 1e-6)
        self._link += (rate - self._link) / 2
        self._bytes, self._seconds, self._since = 0, 0.0, now

    def _pays(self, payload: bytes) -> bool:
        if len(payload) < WORTH_IT:
            return False
        middle = len(payload) // 2
        sample = payload[max(0, middle - SAMPLE // 2) : middle + SAMPLE // 2]
        saved = 1 - len(zlib.compress(sample, 1)) / len(sample)
        return saved > 0.05 and self._link < self._zlib * saved
