"""The one moment that may not be cut in two: handing a deploy over to the host."""

from __future__ import annotations

from typing import Any

from deployer.interrupts import uninterrupted
from deployer.rollout.carrier import Talk
from deployer.rollout.part import Part


def commit(session: Talk, part: Part, **asked: Any) -> None:
    """
    Hand the deploy over: from here on the host goes on without us.

    Ctrl-C waits until it is certain on which side of this moment we are; a person is told the right one of two stories.
    """
    with uninterrupted():
        session.call("commit", deploy=part.deploy, **asked)
        part.committed = True
