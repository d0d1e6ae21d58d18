"""A service as it was registered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Tuple

ALWAYS, ON_SUCCESS, NEVER = POLICIES = ("always", "on_success", "never")


@dataclass(frozen=True)
class ServiceSpec:
    """Times in seconds; `ready_within` and `options` (those of `ray.remote`) are for `remote` ones."""

    name: str
    cls: Callable[..., Any]
    args: Tuple[Any, ...] = ()
    kwargs: Dict[str, Any] = field(default_factory=dict)
    remote: bool = False
    cleanup_timeout: float = 5.0
    cleanup: str = ALWAYS
    ready_within: float = 300.0
    options: Dict[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        return self.cls(*self.args, **self.kwargs)

    def keeps(self, succeeded: bool) -> bool:
        """Whether it is left for a look when a job ended so."""
        return self.cleanup == NEVER or (self.cleanup == ON_SUCCESS and not succeeded)
