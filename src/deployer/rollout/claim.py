"""Every host locked and looked at, before the first one is changed."""

from __future__ import annotations

from deployer.errors import LockedError, UsageError
from deployer.rollout.fleet import Fleet
from deployer.rollout.hostdeploy import HostDeploy


def claim(fleet: Fleet) -> bool:
    """
    Every host that can be reached is ours and fit: whether the rollout may begin.

    A host that refuses (a stranger on its port, no space, another deploy) ends it, whatever the budget: nothing has changed.
    """
    if fleet.alone:
        fleet.each(fleet.standing, HostDeploy.open)
    else:
        fleet.each(fleet.standing, HostDeploy.connect)
        if fleet.why_to_stop() is None:
            _lock_all(fleet)
    return bool(fleet.standing) and not _refused(fleet) and fleet.why_to_stop() is None


def _refused(fleet: Fleet) -> bool:
    return any(result.status == "failed" for result in fleet.results)


def _lock_all(fleet: Fleet) -> None:
    """
    The first host in sorted order is the gate at which pushes to the same hosts meet; the rest are locked at once.

    Where somebody holds one of those all the same (pushes to hosts that overlap), all are let go and locked in sorted order,
    one by one: nobody then waits for somebody who waits for him.
    """
    deploys = sorted(fleet.standing, key=lambda deploy: deploy.host)
    fleet.each(deploys[:1], HostDeploy.open)
    held: list[str] = []

    def try_to_lock(deploy: HostDeploy) -> None:
        try:
            deploy.open(wait_lock=0.0)
        except LockedError as error:
            if str(deploy.deploy) in (error.cause or "") + error.title:
                raise UsageError(
                    f"{deploy.host} is the same place as another host of the target",
                    cause="this very push holds the lock there", state="nothing was changed", hint="list it once",
                ) from error  # fmt: skip
            held.append(deploy.host)

    if not _refused(fleet):
        fleet.each(deploys[1:], try_to_lock)
    if held:
        _one_by_one(fleet, deploys)


def _one_by_one(fleet: Fleet, deploys: list[HostDeploy]) -> None:
    for deploy in deploys:
        deploy.close()
    for deploy in deploys:
        if not _refused(fleet):
            fleet.each([deploy], HostDeploy.open)
