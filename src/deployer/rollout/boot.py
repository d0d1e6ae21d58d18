"""`deployer enable` and `disable`, on every host of a target side by side."""

from __future__ import annotations

from typing import Any

from deployer.config.model import Config
from deployer.link.session import Session
from deployer.rollout.asking import answers

BLANK: dict[str, Any] = {"way": None, "where": None, "comes_up": None, "changed": False}


def boot(config: Config, what: str) -> dict[str, Any]:
    """
    `hosts`: each with `way` and `where` of what starts the service after a reboot, `comes_up`, `changed`; or its `error`.

    *what* is "enable" or "disable". This machine's own error is raised.
    """

    def question(session: Session, asked: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = session.call("boot", what=what, **asked)
        return {**found, "error": None}

    return answers(config, question, BLANK)
