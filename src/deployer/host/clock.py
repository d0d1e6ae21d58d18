"""Time, where a test or a simulation must be able to hold it still."""

from __future__ import annotations

import time


class Clock:
    """`now` is monotonic seconds, the same for every process of one boot; `wall` is seconds since 1970."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
