"""The one moment that may not be cut in two: handing a deploy over to the host."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deployer.link.session import Session
from deployer.rollout.events import Stream


def commit(session: Session, stream: Stream, **asked: Any) -> None:
    """
    Hand the deploy over: from here on the host goes on without us.

    Ctrl-C waits until it is certain on which side of this moment we are; a person is told the right one of two stories.
    """
    with _uninterrupted():
        session.call("commit", deploy=stream.deploy, **asked)
        stream.committed = True


@contextmanager
def _uninterrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: asked.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
        if callable(signal.getsignal(number))
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for late in asked:
        signal.raise_signal(late)
