"""The limits of a stop, in seconds, as `Lifecycle` was given them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Union

from deployer import durations

if TYPE_CHECKING:
    from datetime import timedelta

Duration = Union[str, "timedelta"]


class Limits(NamedTuple):
    max_wait: float
    cleanup_within: float
    crash_within: float
    linger: float
    unread: float


def seconds(name: str, value: Duration) -> float:
    """Seconds of a string with units or a timedelta. Raises TypeError for a bare number, with the correction, and ValueError."""
    if isinstance(value, str):
        return durations.parse(value)
    span = getattr(value, "total_seconds", None)
    if span is None:
        raise TypeError(f'{name}={value!r} has no unit: write {name}="{value}s", or give a timedelta')
    if span() < 0:
        raise ValueError(f"{name}={value!r} is in the past")
    return float(span())
