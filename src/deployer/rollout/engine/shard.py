"""On a node of the cluster: the links to the hosts that a client keeps there, each a line with a key that the client chose."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deployer.errors import DeployerError, LinkError, PreflightError
from deployer.jobs.cluster import require
from deployer.link.session import Session
from deployer.rollout.ahead import Call
from deployer.rollout.each import unexpected
from deployer.rollout.engine.stock import Stock, Stocks
from deployer.rollout.hosts import greeted
from deployer.rollout.upload import agree, deliver

Told = dict[str, Any]


@dataclass(frozen=True)
class Ending:
    """The last word of an exchange: an answer, or an error to be raised where it was asked."""

    answer: Any = None
    error: DeployerError | None = None


class Line:
    """The link to one host, and one exchange over it at a time, in a thread: what it tells is heard by `heard`, in order."""

    def __init__(self, node: str, stocks: Stocks) -> None:
        self._node = node
        self._stocks = stocks
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[Told | Ending] = asyncio.Queue()
        self._session: Session | None = None
        self._left = False
        self._agreed: tuple[Stock, dict[str, Any]] | None = None

    def begin(self, verb: str, words: dict[str, Any]) -> None:
        """Let an exchange begin: one of `dial`, `call`, `follow`, `listen`, `agree`, `deliver`."""
        threading.Thread(target=self._run, args=(verb, words), name=f"line {verb}", daemon=True).start()

    async def heard(self) -> list[Told | Ending]:
        """What was told since the last time; waits until there is something."""
        told = [await self._told.get()]
        while not self._told.empty():
            told.append(self._told.get_nowait())
        return told

    def leave(self) -> None:
        """Begin to let go: whatever goes on ends soon, with a LinkError."""
        self._left = True
        if self._session is not None:
            self._session.leave()

    def close(self) -> None:
        """Let go, and of the lock where nothing was handed over."""
        self.leave()
        session, self._session = self._session, None
        if session is not None:
            session.__exit__()

    def _run(self, verb: str, words: dict[str, Any]) -> None:
        try:
            self._tell(Ending(getattr(self, f"_{verb}")(**words)))
        except DeployerError as error:
            self._tell(Ending(error=error))
        except Exception as error:
            host = self._session.host if self._session else words["call"].host if "call" in words else "a host"
            self._tell(Ending(error=unexpected(host, error)))

    def _tell(self, told: Told | Ending) -> None:
        self._loop.call_soon_threadsafe(self._told.put_nowait, told)

    @property
    def _here(self) -> Session:
        if self._session is None:
            raise LinkError("there is no link to the host", state="it was let go of")
        return self._session

    def _dial(self, call: Call, path: str) -> None:
        try:
            session = greeted(call.host, call.dial(), path)
        except (LinkError, PreflightError) as error:  # its keys and its known_hosts count: which node it was matters
            error.cause = f"{error.cause or error.title}, as seen from the Ray node {self._node}"
            raise
        self._session = session
        if self._left:  # meanwhile
            self.close()

    def _call(self, op: str, params: dict[str, Any]) -> Any:
        return self._here.call_telling(self._tell, op, **params)

    def _follow(self, deploy: str, since: int, output: int) -> None:
        for event in self._here.follow(deploy, since, output):
            self._tell(event)

    def _listen(self) -> None:
        self._here.listen()

    def _agree(self, digest: str, manifest: Any) -> Any:
        stock = self._stocks.of(digest, manifest)
        self._agreed = stock, agree(self._here, stock.artifact.manifest)
        return self._agreed[1]["missing"]

    def _deliver(self, pieces: dict[int, Any]) -> None:
        stock, answer = self._require_agreed()
        stock.add(pieces)
        deliver(self._here, stock.artifact, answer, self._progress)

    def _require_agreed(self) -> tuple[Stock, dict[str, Any]]:
        if self._agreed is None:
            raise LinkError("nothing was agreed on with the host")
        return self._agreed

    def _progress(self, name: str, **fields: Any) -> None:
        self._tell({"told": name, **fields})


class Lines:
    """All lines of this process."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._stocks = Stocks(require().get)
        self._lines: dict[str, Line] = {}

    async def say(self, key: str, verb: str, words: dict[str, Any]) -> list[Told | Ending]:
        """Begin an exchange over line *key*, and what it tells first."""
        line = self._lines.get(key) or self._lines.setdefault(key, Line(self._node, self._stocks))
        line.begin(verb, words)
        return await line.heard()

    async def more(self, key: str) -> list[Told | Ending]:
        """What the exchange over line *key* tells next."""
        return await self._lines[key].heard()

    def leave(self, key: str) -> None:
        self._with(key, Line.leave)

    async def close(self, key: str) -> None:
        """Line *key* is no more. Returns when the host has been let go of."""
        line = self._lines.pop(key, None)
        if line is not None:
            await asyncio.to_thread(line.close)

    def _with(self, key: str, act: Callable[[Line], None]) -> None:
        line = self._lines.get(key)
        if line is not None:
            act(line)
