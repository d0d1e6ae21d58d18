"""What a `Lifecycle` is made of, as its stop needs it."""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, Dict, Optional

from deployer.lifecycle.children import Children
from deployer.lifecycle.cleanup import Cleanup
from deployer.lifecycle.limits import Limits
from deployer.lifecycle.mainline import Mainline
from deployer.lifecycle.notify import Notify
from deployer.lifecycle.parties import Agent, Leaving
from deployer.lifecycle.pause import Told
from deployer.lifecycle.snapshot import default_path
from deployer.lifecycle.tasks import Tasks


class Parts:
    """One process' worth of parts. Nothing here begins anything; `settle` reads the environment of the process that starts."""

    def __init__(self, limits: Limits, node: Any, state: Optional[str], tasks: Optional[Tasks] = None) -> None:
        self.limits, self.state = limits, state
        self.news = threading.Condition()
        self.agent = Agent(node)
        self.tasks = tasks or Tasks()  # decorators know them by this object, also in the child of a fork
        self.tasks.reset(self.news, self.agent.changed)
        self.children = Children(self.tasks)
        self.told = Told()
        self.notify = Notify("")
        self.leaving = Leaving(self.news)
        self.cleanup = Cleanup()
        self.main = Mainline(self.news)
        self.services: Dict[str, Callable[[], Any]] = {}
        self.returned = threading.Event()
        self.pid = 0
        self.release: Optional[str] = None

    def settle(self) -> None:
        self.notify = Notify.from_environment()
        self.pid, self.release = os.getpid(), os.environ.get("DEPLOYER_RELEASE")
        self.state = default_path() if self.state is None else self.state or None
