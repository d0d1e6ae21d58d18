"""An instance as its directory sees it: the words to its actor, each with a deadline of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Awaitable, Dict, List, Optional

from deployer.jobs.cluster import require
from deployer.ray.instance import create

Json = Dict[str, Any]
ANSWERS_WITHIN = 10.0
"""Seconds for a word that costs nothing. An instance whose node was lost is silent until Ray has found it another."""
GONE_WITHIN = 20.0
SETTLED_WITHIN = 5.0
"""Seconds for the callers of an instance that goes to say that they have its last results: one of them may have died."""


@dataclass
class Placed:
    """One instance and the actor that it lives in."""

    spec: Json
    actor: Any
    secrets: Dict[str, str] = field(default_factory=dict)
    pid: Optional[int] = None

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def service(self) -> str:
        return str(self.spec["service"])

    async def begin(self, within: float) -> Optional[str]:
        """It is built and ready, or this is why not."""
        try:
            answer = await asyncio.wait_for(_answer(self.actor.begin.remote(self.secrets)), within)
        except asyncio.TimeoutError:
            return await self._why_not_yet(within)
        except Exception as error:
            return _lost(error)
        self.pid = answer["pid"]
        return None if answer["trouble"] is None else str(answer["trouble"])

    async def _why_not_yet(self, within: float) -> str:
        try:
            seen = await self.observe(2.0)
        except Exception:
            needs = {name: value for name, value in self.spec["ray"].items() if value and name != "max_concurrency"}
            return f"Ray had no place for it within {within:g} s; it needs {needs or 'nothing'}"
        if seen["trouble"]:
            return f"not ready within {within:g} s: {seen['trouble']}"
        return f"not ready within {within:g} s: its constructor has not returned"

    async def observe(self, within: float = ANSWERS_WITHIN) -> Json:
        seen: Json = await asyncio.wait_for(_answer(self.actor.observe.remote()), within)
        self.pid = seen["pid"]
        return seen

    async def admit(self) -> Optional[str]:
        """It knows that it serves, or this is why not."""
        try:
            await asyncio.wait_for(_answer(self.actor.admit.remote()), ANSWERS_WITHIN)
        except asyncio.TimeoutError:
            return f"it did not answer within {ANSWERS_WITHIN:g} s"
        except Exception as error:
            return _lost(error)
        return None

    async def quiet(self) -> List[Json]:
        """It takes no more calls; those in flight. Raises what Ray says of one that has gone."""
        found: List[Json] = await asyncio.wait_for(_answer(self.actor.quiet.remote()), ANSWERS_WITHIN)
        return found

    async def drained(self, within: float) -> List[Json]:
        """What is in flight after at most *within* seconds."""
        found: List[Json] = await asyncio.wait_for(_answer(self.actor.drained.remote(within)), within + ANSWERS_WITHIN)
        return found

    async def settled(self) -> bool:
        """Whether the replies to its calls were heard, or may count as heard, within SETTLED_WITHIN."""
        asked = _answer(self.actor.settled.remote(SETTLED_WITHIN))
        return bool(await asyncio.wait_for(asked, SETTLED_WITHIN + ANSWERS_WITHIN))

    async def close(self) -> List[Any]:
        """stop() and cleanup(), each under its limit: the fields of `Closed`."""
        timeout = float(self.spec["cleanup_timeout"])
        found: List[Any] = await asyncio.wait_for(
            _answer(self.actor.close.remote(timeout)), 2 * timeout + ANSWERS_WITHIN
        )
        return found

    async def kill(self) -> bool:
        """Whether its process has gone, for good. It is not brought back."""
        ray = require()
        end = _answer(self.actor.end.remote())
        ray.kill(self.actor, no_restart=True)
        try:
            await asyncio.wait_for(end, GONE_WITHIN)
        except asyncio.TimeoutError:
            return False
        except Exception:
            pass  # it has gone, as `end` says it
        return True


async def _answer(ref: Awaitable[Any]) -> Any:
    return await ref


def place(spec: Json, secrets: Dict[str, str]) -> Placed:
    """A new instance, not begun yet. Raises what Ray says of a spec that it cannot take."""
    return Placed(spec, create(spec), secrets)


def _lost(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
