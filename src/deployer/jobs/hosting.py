"""What runs in the actor of a service: the user's object, as it is, and its end. Travels by value, like what it uses."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from deployer.jobs.closing import close
from deployer.jobs.identity import Identity, identity


class Host:
    """Calls come one at a time, as to any actor; `close` in a thread beside: a call that hangs keeps neither."""

    def __init__(self) -> None:
        self._instance: Any = None
        self._built = False

    def build(self, cls: Callable[..., Any], args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[Identity]:
        """Not in __init__: what the class raises comes back as it is, and not as an actor that died."""
        self._instance = cls(*args, **kwargs)
        self._built = True
        return identity()

    def outlive(self) -> None:
        """Never returns: who waits for it learns of the actor's death."""
        threading.Event().wait()

    def call(self, method: str, args: Sequence[Any], kwargs: Dict[str, Any]) -> Any:
        result = getattr(self._instance, method)(*args, **kwargs)
        return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result

    def close(self, timeout: float) -> Tuple[Any, ...]:
        return tuple(close(self._instance, timeout)) if self._built else (False, True, False, 0.0, None)


async def _awaited(result: Any) -> Any:
    return await result
