"""The actor's class: all of it that a node needs before it has shown that it has deployer at all."""

from __future__ import annotations

from typing import Any


def door() -> type:
    """
    A class made here, so that it travels to the cluster by value: a node without deployer, or with another one, can then say so.

    Everything is asynchronous: a shard waits for hundreds of hosts at once, and must hear when it shall let go of one.
    """

    class Shard:
        def __init__(self) -> None:
            self._lines: Any = None

        async def fit(self) -> dict[str, Any]:
            """What this node has: `same` names the deployer there, `missing` why there is none."""
            import os
            import platform
            import socket
            import sys

            told: dict[str, Any] = {
                "node": socket.gethostname(),
                "pid": os.getpid(),
                "python": platform.python_version(),
            }
            try:
                told["node"] = str(sys.modules["ray"].util.get_node_ip_address())
                from deployer.rollout.engine.same import same
                from deployer.rollout.engine.shard import Lines

                self._lines = Lines(told["node"])
                return {**told, "same": same()}
            except Exception as error:  # a package that is not there, or does not load: the client says which
                return {**told, "missing": f"{type(error).__name__}: {error}"}

        async def say(self, key: str, verb: str, words: dict[str, Any]) -> Any:
            return await self._lines.say(key, verb, words)

        async def more(self, key: str) -> Any:
            return await self._lines.more(key)

        async def leave(self, key: str) -> None:
            self._lines.leave(key)

        async def pulse(self) -> None:
            """It lives, and comes to answer."""

        async def close(self, key: str) -> None:
            await self._lines.close(key)

    return Shard
