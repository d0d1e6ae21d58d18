"""Which instance each part of a run is: on record before it is started, so that whoever resumes the run finds it."""

from __future__ import annotations

from typing import Optional

from deployer.host.deploy import Deploy


def instance_of(deploy: Deploy, name: str) -> Optional[str]:
    """The instance that was announced for the part *name*; None where it was never begun."""
    found = deploy.journal.data(f"part {name}", "instance")
    return str(found["instance"]) if found else None


def announce(deploy: Deploy, name: str, instance: str) -> None:
    """The part *name* is about to be started as *instance*."""
    deploy.journal.note(f"part {name}", "instance", instance=instance)
