"""What a push decides on the client: the name of the release, and on which side of the commit a Ctrl-C falls."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from deployer.errors import GateError
from deployer.rollout.commit import commit
from deployer.rollout.content import Content
from deployer.rollout.events import Stream
from deployer.rollout.part import Part

OPENED: Any = SimpleNamespace(manifest=SimpleNamespace(digest="d" * 64))
CONFIG: Any = SimpleNamespace(settings=lambda: {"app": "a", "strategy": "restart", "run": {}, "services": {}})


class Engine:
    """A session whose `commit` is interrupted by a signal while it is under way."""

    def __init__(self, number: signal.Signals | None = None, error: Exception | None = None) -> None:
        self.number, self.error, self.answered = number, error, False

    def call(self, op: str, **params: Any) -> None:
        if self.number:
            os.kill(os.getpid(), self.number)
        if self.error:
            raise self.error
        self.answered = True


def test_id_of_a_release_is_never_one_that_the_host_has() -> None:
    known: set[str] = set()
    for _ in range(5):  # within one second
        known.add(Content(OPENED, CONFIG).name_for(known))
    assert len(known) == 5
    assert len({name.rpartition("-")[2] for name in known}) == 1


def test_interrupt_during_the_commit_waits_until_it_is_done() -> None:
    part, engine = Part("h", Stream("d1", lambda event: None)), Engine(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        commit(engine, part)  # type: ignore[arg-type]
    assert engine.answered
    assert part.committed


def test_refused_commit_is_none() -> None:
    part = Part("h", Stream("d1", lambda event: None))
    with pytest.raises(GateError):
        commit(Engine(error=GateError("no")), part)  # type: ignore[arg-type]
    assert not part.committed
