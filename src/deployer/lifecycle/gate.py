"""The gate: healthy on the private socket first, the public one is accepted from only once somebody said so."""

from __future__ import annotations

import os
from typing import Mapping, Optional

from deployer.lifecycle.pause import Told
from deployer.lifecycle.sockets import PRIVATE, Sockets


class Gate:
    """
    Closed where `DEPLOYER_GATE=1` says that somebody will open it and a private socket is there to be told at; else open.

    After a crash nobody would come to tell, and deployer starts us without the variable.
    """

    def __init__(self, closed: bool) -> None:
        self._opened = Told()
        if not closed:
            self._opened.tell()

    @classmethod
    def found(cls, sockets: Sockets, environment: Optional[Mapping[str, str]] = None) -> Gate:
        env = os.environ if environment is None else environment
        return cls(env.get("DEPLOYER_GATE") == "1" and PRIVATE in sockets)

    def __bool__(self) -> bool:
        """Whether it is open."""
        return bool(self._opened)

    def open(self) -> None:
        """From now on the public may come in; from any thread, and again if you like."""
        self._opened.tell()

    def wait(self, seconds: Optional[float] = None) -> bool:
        """Wait in a thread until it opens; False when *seconds* pass first."""
        return self._opened.wait(seconds)

    async def opened(self) -> None:
        """Wait in a loop until it opens."""
        await self._opened.wait_in_loop()
