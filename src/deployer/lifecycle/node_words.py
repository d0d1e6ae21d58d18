"""What a node says to its registry: the messages of docs/registry.md."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

log = logging.getLogger("deployer.lifecycle.node")

Facts = Callable[[], Mapping[str, Any]]

MOST_TASKS = 100
LONGEST_NAME = 200
"""Characters of a task's name that the registry keeps."""
LARGEST = 64 * 1024
"""Bytes of one message: a registry closes the connection over a longer one, and would so again and again."""
LONGEST_REASON = 120
"""Bytes: a close frame holds 123."""


@dataclass(frozen=True)
class Node:
    """
    Who registers. `instance` tells this process from every other one that has the same id, before it and after it. It begins
    with $DEPLOYER_INSTANCE, where that is set: so a push finds its node.
    """

    id: str
    pools: Sequence[str]
    release: Optional[str]
    capacity: Optional[int]
    instance: str
    endpoint: Optional[str] = None


class Words:
    """The messages of *node*, with what *facts* gives at that moment. `leaving` and `yields` are said when it registers."""

    def __init__(self, node: Node, facts: Facts) -> None:
        self.node = node
        self.leaving: Optional[str] = None
        self.yields = False
        self._facts = facts

    def register(self) -> str:
        node, facts = self.node, self._told()
        leaves = self.leaving is not None or facts.get("status") in ("draining", "shutting_down")
        return _message(
            "register", v=1, id=node.id, instance=node.instance, pools=list(node.pools), release=node.release,
            capacity=node.capacity, endpoint=node.endpoint, pid=os.getpid(), status="draining" if leaves else "online",
            yields=self.yields, **_load(facts),
        )  # fmt: skip

    def heartbeat(self) -> str:
        return _message("heartbeat", **_load(self._told()))

    def draining(self) -> str:
        return _message("draining", why=self.leaving)

    def goodbye(self, why: str) -> str:
        """*why* as the close frame says it, with the work that is given up: whoever sent it should hear of that."""
        facts = self._told()
        given_up = facts.get("tasks") if facts.get("status") == "shutting_down" else None
        return cut(f"{why}, abandoned: {', '.join(str(task.get('name')) for task in given_up)}" if given_up else why)

    def _told(self) -> Mapping[str, Any]:
        try:
            return self._facts()
        except Exception:  # the app's, and no reason to let the registry believe that we are dead
            log.exception("node %s: its facts could not be had", self.node.id)
            return {}


def cut(why: str) -> str:
    """*why* as a close frame holds it."""
    return why.encode()[:LONGEST_REASON].decode("utf-8", "ignore")


def _load(facts: Mapping[str, Any]) -> Dict[str, Any]:
    tasks = [_short(task) for task in list(facts.get("tasks") or [])[:MOST_TASKS]]
    return {"busy": int(facts.get("busy") or 0), "tasks": tasks, "stuck_s": facts.get("stuck")}


def _short(task: Mapping[str, Any]) -> Mapping[str, Any]:
    name = task.get("name")
    return {**task, "name": name[:LONGEST_NAME]} if isinstance(name, str) and len(name) > LONGEST_NAME else task


def _message(kind: str, **rest: Any) -> str:
    """With as many of its tasks as fit; `busy` counts them all."""
    while True:
        text = json.dumps({"type": kind, **rest}, separators=(",", ":"), default=str)
        if len(text) <= LARGEST or not rest.get("tasks"):
            return text
        rest["tasks"] = rest["tasks"][: len(rest["tasks"]) // 2]
