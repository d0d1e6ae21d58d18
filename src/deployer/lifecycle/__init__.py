"""What an app imports to drain well: docs/lifecycle.md. Standard library only, Python 3.9 and newer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deployer.lifecycle.life import Lifecycle
from deployer.lifecycle.tasks import ShuttingDown

if TYPE_CHECKING:
    from deployer.lifecycle.node import NodeAgent

__all__ = ["Lifecycle", "NodeAgent", "ShuttingDown"]


def __getattr__(name: str) -> Any:
    if name == "NodeAgent":  # on demand: it alone needs websockets
        from deployer.lifecycle.node import NodeAgent

        return NodeAgent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
