"""The hosts of one command, side by side: what one of them refuses is told, counted, and hides nothing of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from deployer.errors import DeployerError, Interrupted, LinkError, PreflightError
from deployer.rollout.batches import Policy
from deployer.rollout.each import on_each, unexpected
from deployer.rollout.events import Stream
from deployer.rollout.hostdeploy import HostDeploy
from deployer.rollout.order import Order
from deployer.rollout.outcome import MISSING, NEW, HostResult

COMMIT_WITHIN = 10.0
"""Seconds that an interrupted client waits for commits that are on their way, to tell the right one of two stories."""


class Fleet:
    """A HostDeploy for each host. `alone`: there is one, and what it raises after its commit is raised."""

    def __init__(self, order: Order, stream: Stream, hosts: Iterable[str], policy: Policy) -> None:
        self.order = order
        self.stream = stream
        self.policy = policy
        self.deploys = {host: HostDeploy(host, order, stream) for host in hosts}
        self._joined: list[HostDeploy] = []

    @property
    def alone(self) -> bool:
        return len(self.deploys) == 1

    @property
    def standing(self) -> list[HostDeploy]:
        """Those whose part has not ended, in the order in which they were written."""
        return [deploy for deploy in self.deploys.values() if deploy.finished is None]

    @property
    def draining(self) -> list[HostDeploy]:
        """Those on which the new release serves while the old one still drains."""
        return [deploy for deploy in self.standing if deploy.committed and deploy.brought]

    @property
    def results(self) -> list[HostResult]:
        return [deploy.result for deploy in self.deploys.values()]

    @property
    def failed(self) -> list[str]:
        """The hosts that were spoken to, and are not as wished."""
        fine = (*MISSING, *NEW, "untouched", "detached")
        return [result.host for result in self.results if result.status not in fine]

    @property
    def missing(self) -> list[str]:
        """The hosts that could not be reached, or were lost."""
        return [result.host for result in self.results if result.status in MISSING]

    def each(self, deploys: Iterable[HostDeploy], step: Callable[[HostDeploy], Any], at_once: int = 0) -> None:
        """
        *step* for each of *deploys*, so many *at_once* (0: as the carrier says); what a host raises ends its part.

        Ctrl-C closes what was not handed over and lets go of the rest.
        """
        chosen = {deploy.host: deploy for deploy in deploys if deploy.finished is None}

        def act(host: str) -> None:
            self._guarded(chosen[host], step)

        for failed in on_each(list(chosen), act, self.let_go, at_once or self.order.carrier.at_once):
            if isinstance(failed, DeployerError):
                raise failed

    def _guarded(self, deploy: HostDeploy, step: Callable[[HostDeploy], Any]) -> None:
        try:
            step(deploy)
        except DeployerError as error:
            if self.order.given_up.is_set():
                return
            if deploy.committed and self.alone and not self.order.config.hosts:
                raise
            self._ended(deploy, error)
            deploy.close()
        except Exception as error:
            if self.alone:
                raise  # a bug, told as one
            self._ended(deploy, unexpected(deploy.host, error))
            deploy.close()

    def _ended(self, deploy: HostDeploy, error: DeployerError) -> None:
        if deploy.committed:
            deploy.failed(_goes_on(deploy, error), "lost")
        else:
            away = isinstance(error, LinkError) and self.order.config.hosts
            deploy.failed(error, "unreachable" if away else "failed")

    def why_to_stop(self) -> str | None:
        """Why no further host may be changed; None where the rollout may go on."""
        if any(deploy.aborted for deploy in self.deploys.values()):
            return "somebody has aborted it"
        if len(self.failed) > self.policy.max_failed:
            return f"{_count(self.failed)} failed, and max_failed is {self.policy.max_failed}"
        if len(self.missing) > self.policy.max_unreachable:
            return f"{_count(self.missing)} could not be reached, and max_unreachable is {self.policy.max_unreachable}"
        return None

    def leave_alone(self) -> None:
        """What was not begun stays as it is, and is told so."""
        for deploy in self.standing:
            if not deploy.committed:
                deploy.close()
                if not self.alone:
                    deploy.ended("untouched", 0)

    def let_go(self) -> None:
        """Nobody waits for these hosts any more: what was not handed over ends, the rest goes on by itself."""
        self.order.given_up.set()
        until = time.monotonic() + COMMIT_WITHIN
        with ExitStack() as moments:
            # A commit is not cut in two: whoever is at it is waited for.
            for deploy in self._all:
                if deploy.committing.acquire(timeout=max(0.0, until - time.monotonic())):
                    moments.callback(deploy.committing.release)
            self.close()

    @property
    def _all(self) -> list[HostDeploy]:
        return [*self.deploys.values(), *self._joined]

    def join(self, deploy: HostDeploy) -> HostDeploy:
        """*deploy*, which from here on is let go of with the others."""
        self._joined.append(deploy)
        return deploy

    def close(self) -> None:
        """Let go of every link; those that hang are waited for together."""
        for deploy in self._all:
            deploy.leave()
        for deploy in self._all:
            deploy.close()


def _count(hosts: list[str]) -> str:
    return hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts"


def _goes_on(deploy: HostDeploy, error: DeployerError) -> DeployerError:
    """We cannot listen any more, after the commit: what is true then."""
    if not isinstance(error, (LinkError, PreflightError)):
        return error
    return Interrupted(
        f"the link to {deploy.host} did not come back",
        cause=error.cause or error.title,
        state=f"{deploy.deploy} goes on there by itself: the old process finishes its work, then the new release starts",
        hint="`deployer status` tells how it ended, `deployer attach` follows it, once the host can be reached again",
    )
