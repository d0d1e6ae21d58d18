"""One question to every host of a target, side by side; each answer, or why there is none, has its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError
from deployer.link.session import Session
from deployer.rollout.each import on_each
from deployer.rollout.hosts import connect, hosts, look

Answer = dict[str, Any]
Question = Callable[[Session, dict[str, Any]], Answer]


def ask(config: Config, question: Question) -> list[Answer | DeployerError]:
    """
    What *question* gives for a session with each host and what it is to be asked with (`look`), in the order of `hosts`.

    Raises UsageError for what this version cannot do; what a host refuses is in the list.
    """
    require_available(config)

    def one(host: str) -> Answer:
        with connect(config, host) as session:
            return question(session, look(config, host))

    return on_each(hosts(config), one)


def answers(config: Config, question: Question, blank: Answer) -> Answer:
    """
    `hosts`: each host's answer, or *blank* and its `error`.

    This machine has no other that its error could hide: it is raised.
    """
    found = ask(config, question)
    if not config.hosts and isinstance(found[0], DeployerError):
        raise found[0]
    return {"hosts": [placed(host, one, blank) for host, one in zip(hosts(config), found, strict=True)]}


def placed(host: str, found: Answer | DeployerError, blank: Answer) -> Answer:
    """*found* as one of `hosts`."""
    if isinstance(found, DeployerError):
        return {"host": host, **blank, "error": found.to_json()}
    return {"host": host, **found}
