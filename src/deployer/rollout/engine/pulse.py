"""Shards that hang: Ray finds a process that died, and not one that stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from deployer.rollout.engine.shards import Shard

EVERY, SILENT = 5.0, 30.0
"""Seconds: how often each shard is asked, and how long it may say nothing; one with hundreds of hosts may be slow."""


class Pulse:
    """Asks the living ones of *shards* now and then; one that is silent for too long is killed, and its hosts go to others."""

    def __init__(self, shards: Callable[[], Sequence[Shard]], every: float = EVERY, silent: float = SILENT) -> None:
        self._shards, self._every, self._silent = shards, every, silent
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse of the shards", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        heard: dict[Shard, float] = {}
        while not self._over.wait(self._every):
            for shard in self._shards():
                now = time.monotonic()
                if shard not in heard or shard.answered():
                    heard[shard] = now
                    shard.ask()
                elif now - heard[shard] > self._silent:
                    shard.give_up(f"its process on the Ray node {shard.node} has said nothing for {self._silent:g}s")
