"""
What can go wrong, as one tree. Every error tells what happened, why, how things stand, and what to do next.

DeployerError
├── UsageError        2  the command line or the config (a missing secret or env file too)
├── LockedError       3  another deploy holds the lock
├── PreflightError    6  the host is not as the config says
├── GateError         7  the new release could not be made ready to switch
├── FailedError       1  failed or aborted; the old release serves
│   └── AbortedError  1  somebody wanted it to end before it was handed over
├── PoolError         1  the proxy in front of the service would not send its traffic elsewhere
├── DownError         8  neither release would start
├── LinkError         6  the host engine could not be reached
└── Interrupted     130  a person or CI stopped the client
"""

from __future__ import annotations

from typing import Any, Dict, Optional


class DeployerError(Exception):
    """
    An error for a person: `title` is what happened, `cause` why, `state` how things stand, `hint` what to do next.

    `code` is the exit code of CONTRACT.md section 3.
    """

    code = 1

    def __init__(
        self,
        title: str,
        *,
        cause: Optional[str] = None,
        state: Optional[str] = None,
        hint: Optional[str] = None,
    ) -> None:
        super().__init__(title)
        self.title = title
        self.cause = cause
        self.state = state
        self.hint = hint

    def to_json(self) -> Dict[str, Any]:
        """The form that travels: what a client needs to raise the same error again."""
        return {
            "kind": type(self).__name__,
            "code": self.code,
            "title": self.title,
            "cause": self.cause,
            "state": self.state,
            "hint": self.hint,
        }

    @staticmethod
    def from_json(data: Dict[str, Any]) -> "DeployerError":
        """The error that `to_json` described; an unknown kind keeps its exit code."""
        kind = _KINDS.get(str(data.get("kind")), DeployerError)
        error = kind(
            str(data.get("title") or "unknown error"),
            cause=data.get("cause"),
            state=data.get("state"),
            hint=data.get("hint"),
        )
        code = data.get("code")
        if isinstance(code, int) and 0 < code < 256:  # an error that would exit 0 is none
            error.code = code
        return error


class UsageError(DeployerError):
    code = 2


class LockedError(DeployerError):
    code = 3


class PreflightError(DeployerError):
    code = 6


class LinkError(DeployerError):
    code = 6


class GateError(DeployerError):
    code = 7


class FailedError(DeployerError):
    code = 1


class AbortedError(FailedError):
    """Somebody wanted the deploy to end while it was prepared: nothing was changed."""


class PoolError(DeployerError):
    """Who sends the service its traffic refused a change, or could not be asked for it."""

    code = 1


class DownError(DeployerError):
    code = 8


class Interrupted(DeployerError):
    code = 130


_KINDS = {
    kind.__name__: kind
    for kind in (
        DeployerError,
        UsageError,
        LockedError,
        PreflightError,
        LinkError,
        GateError,
        FailedError,
        AbortedError,
        PoolError,
        DownError,
        Interrupted,
    )
}
