"""Waiting for instances of a run: by the keeper's word, with what people ask heeded meanwhile."""

from __future__ import annotations

from typing import Any, Dict, Optional

from deployer.errors import FailedError
from deployer.host.deploy import Deploy
from deployer.host.heed import Attentive, Calm

LOOK_EVERY = 2.0
"""Seconds between two looks even if nobody says that something changed."""
GONE_WITHIN = 30.0
"""Seconds beyond its ceiling until a part that was asked to stop must have gone."""


def alive(deploy: Deploy, instance: str) -> Optional[Dict[str, Any]]:
    """What the keeper says of *instance* while it runs; None when it has gone, or does not run yet."""
    return next((one for one in deploy.supervisor.status()["instances"] if one["id"] == instance), None)


def await_gone(deploy: Deploy, instance: str, ceiling: float) -> bool:
    """Whether *instance* has gone within its ceiling and a little; what cannot be killed stays."""
    keeper, deadline = Calm(deploy), deploy.clock.now() + ceiling + GONE_WITHIN
    while alive(deploy, instance) is not None:
        if deploy.clock.now() >= deadline:
            return False
        keeper.wait(min(deadline, deploy.clock.now() + LOOK_EVERY))
    return True


def await_start(deploy: Deploy, instance: str, within: float, what: str) -> Dict[str, Any]:
    """The record of *instance* once it was started. Raises FailedError when it cannot be, or when nobody does."""
    keeper, deadline = Attentive(deploy, deploy.supervisor), deploy.clock.now() + within
    while True:
        late = deploy.clock.now() >= deadline
        record = deploy.supervisor.record(instance) or {}
        if record.get("error"):
            raise FailedError(f"{what} could not be started", cause=str(record["error"]))
        if record.get("pid") and record.get("state") != "promised":
            return record
        if late:
            raise FailedError(f"{what} could not be started", cause=f"the keeper did not start it within {within:g} s")
        keeper.wait(min(deadline, deploy.clock.now() + LOOK_EVERY))
