"""The words that the parts on a cluster say to each other; they stay as they are, for old and new releases talk to one another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Optional

DIRECTORY = "deployer"
"""The name of an app's directory, in the app's namespace. Names of instances have a "#" in them."""
CALLS = 1000
"""Calls that may be inside one instance at once; more wait outside."""
CONTROLS = 10_000
"""Words to a directory or an instance that may be answered at once: many callers wait for the same thing."""


@dataclass(frozen=True)
class Refused:
    """The answer of an instance that takes no calls: nothing of the call was begun, somebody else may be asked."""

    instance: str
    why: str


@dataclass(frozen=True)
class Last:
    """The result of a call, from an instance that is about to go: it stays until the caller has said that he has it."""

    result: Any


def instance_name(service: str, deploy: str) -> str:
    """The name under which Ray knows the instance of *service* that *deploy* made."""
    return f"{service}#{deploy}"


def parts_of(name: str) -> Optional[tuple]:  # type: ignore[type-arg]
    """The service and the deploy in the name of an instance; None for any other actor."""
    service, mark, deploy = name.partition("#")
    return (service, deploy) if mark else None


def now() -> str:
    """UTC with milliseconds, as in every event."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
