"""
A deploy over the hosts of a target: all are locked and looked at before the first is changed; then a canary, then batches.

One host is the smallest fleet: the same steps, without the words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from deployer.errors import DeployerError, Interrupted, UsageError
from deployer.rollout.bake import bake
from deployer.rollout.batches import Policy, batches, idle_first
from deployer.rollout.claim import claim
from deployer.rollout.content import Content
from deployer.rollout.engine.chosen import carrier
from deployer.rollout.fleet import Fleet
from deployer.rollout.hostdeploy import HostDeploy
from deployer.rollout.order import Order
from deployer.rollout.told import interrupted
from deployer.rollout.undo import take_back
from deployer.rollout.witness import Witness

CANARY_KINDS = ("push",)
"""What comes back (a rollback, a restart) has proven itself: it needs batches, and no canary."""
AT_ONCE_KINDS = ("start", "stop")


class Rollout:
    """The course of one deploy over a fleet. Its methods come in this order, and each does nothing once there is no point."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.kind = fleet.order.kind
        self._began = False

    @property
    def order(self) -> Order:
        return self.fleet.order

    def reorder(self, kind: str, release: str) -> None:
        """What is handed over is a deploy of *kind* after all: a push of a release that is there already."""
        self._ordered(replace(self.order, kind=kind, release=release))

    def carry(self, carriers: ExitStack, engine: str) -> bool:
        """
        The links are carried by *engine* from here on, until *carriers* is closed: whether they can be. Nothing was changed else.
        """
        try:
            found = carriers.enter_context(carrier(self.order.config, engine, len(self.fleet.deploys)))
        except DeployerError as error:
            self.fail(error)
            return False
        self._ordered(replace(self.order, carrier=found))
        return True

    def _ordered(self, order: Order) -> None:
        self.fleet.order = order
        for deploy in self.fleet.deploys.values():
            deploy.order = order

    def has(self, release: str) -> bool:
        """Whether the hosts have *release*. Raises UsageError where only some do."""
        lacking = [deploy.host for deploy in self.fleet.standing if release not in deploy.known]
        if lacking and len(lacking) < len(self.fleet.standing):
            raise UsageError(
                f"release {release} is not on every host", cause=f"it is missing on {', '.join(lacking)}",
                state="nothing was changed", hint="push without --release, or name the hosts that have it with --host",
            )  # fmt: skip
        return not lacking

    def fail(self, error: DeployerError) -> None:
        """*error* ends the part of every host. Raises it where a host goes on without us."""
        if any(deploy.committed for deploy in self.fleet.deploys.values()):
            raise error
        for deploy in self.fleet.standing:
            deploy.failed(error)

    def claim(self) -> bool:
        """Every host is locked and fit, or none is changed: whether there is anything to go on with."""
        return claim(self.fleet)

    def stage(self, content: Content) -> bool:
        """What is new is on every host that lacks it; still no process has been touched."""
        fleet = self.fleet
        if not fleet.alone:
            content.prefer([deploy.facts for deploy in fleet.standing])
            for deploy in fleet.standing:
                self._skip_unchanged(deploy, content)
        fleet.each(fleet.standing, lambda deploy: deploy.stage(content))
        return self._may_go_on()

    def roll(self, content: Content | None = None) -> None:
        """Change the hosts, batch by batch, as long as the budget lasts; else do what `on_failure` says."""
        stages = self._stages()
        self._tell_plan(stages)
        for number, hosts in enumerate(stages, 1):
            self._batch(number, stages, hosts, content)
            self.fleet.each(self.fleet.standing, HostDeploy.listen)
            reason = self.fleet.why_to_stop()
            if reason is None and number < len(stages):
                reason = bake(self.fleet, hosts) if self.kind in CANARY_KINDS else None
            if reason is not None and not self.fleet.alone:
                self._stop(reason)
                break
        if not self.order.options.detach:
            # With overlap nobody waited for the drains of a batch: the new release serves there.
            going = [deploy for deploy in self.fleet.standing if deploy.committed]
            self.fleet.each(going, self._to_the_end)

    def finish(self, kind: str | None = None, witness: Witness | None = None) -> int:
        """The last event, of a command of *kind* (None: that which was ordered), with what *witness* saw; the exit code."""
        fleet = self.fleet
        fleet.leave_alone()
        fleet.close()
        seen = witness.seen(fleet.deploys.values(), fleet.stream) if witness else {}
        return fleet.stream.finish(kind or self.kind, fleet.results, fleet.policy.max_unreachable, **seen)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Turn Ctrl-C into what a person is told: the end of the command where nothing was handed over, else an error."""
        try:
            yield
        except KeyboardInterrupt:
            self.fleet.let_go()
            if self._began or any(deploy.committed for deploy in self.fleet.deploys.values()):
                raise self._interrupted(self.fleet.deploys.values()) from None
            for deploy in self.fleet.standing:
                deploy.failed(self._interrupted([deploy]))
        except BaseException:
            self.fleet.let_go()
            raise

    def _interrupted(self, deploys: Iterable[HostDeploy]) -> Interrupted:
        return interrupted(deploys, self.kind, of_job=self.order.config.batch is not None)

    def _may_go_on(self) -> bool:
        return bool(self.fleet.standing) and (self.fleet.alone or self.fleet.why_to_stop() is None)

    def _skip_unchanged(self, deploy: HostDeploy, content: Content) -> None:
        release = content.serves(deploy.facts)
        if release is not None:
            deploy.close()
            deploy.ended("unchanged", 0)

    def _stages(self) -> list[list[str]]:
        hosts = idle_first({deploy.host: deploy.facts for deploy in self.fleet.standing})
        if self.kind in AT_ONCE_KINDS:
            return [hosts]
        policy = self.fleet.policy
        return batches(hosts, policy if self.kind in CANARY_KINDS else Policy(canary=0, batch=policy.batch))

    def _tell_plan(self, stages: Sequence[Sequence[str]]) -> None:
        if not self.fleet.alone:
            ended = {
                status: [r.host for r in self.fleet.results if r.status == status]
                for status in ("unchanged", "unreachable")
            }
            self.fleet.stream.event(
                "rollout.started", hosts=list(self.fleet.deploys), batches=[list(hosts) for hosts in stages],
                canary=self._is_canary(1, stages), **ended,
            )  # fmt: skip

    def _is_canary(self, number: int, stages: Sequence[Sequence[str]]) -> bool:
        return number == 1 and len(stages) > 1 and self.kind in CANARY_KINDS and self.fleet.policy.canary > 0

    def _batch(
        self, number: int, stages: Sequence[Sequence[str]], hosts: Sequence[str], content: Content | None
    ) -> None:
        fleet, told = self.fleet, {"batch": number, "of": len(stages)}
        deploys = [fleet.deploys[host] for host in hosts]
        what = "canary" if self._is_canary(number, stages) else "batch"
        if not fleet.alone:
            fleet.stream.event("batch.started", **told, hosts=list(hosts), what=what)
        self._began = not fleet.alone
        # A rollout needs us until its last batch: only from that one may a person detach.
        detach = self.order.options.detach and number == len(stages)
        fleet.each(deploys, lambda deploy: self._deploy(deploy, content, detach), at_once=len(deploys))
        if not fleet.alone:
            failed = [
                deploy.host for deploy in deploys if deploy.result.status not in ("done", "unchanged", "detached")
            ]
            fleet.stream.event("batch.finished", **told, done=len(deploys) - len(failed), failed=failed)

    def _deploy(self, deploy: HostDeploy, content: Content | None, detach: bool) -> None:
        if not self.fleet.alone:
            deploy.event("host.started")
        deploy.hand_over(content)
        self._to_the_end(deploy, detach or (self.order.config.strategy == "overlap" and not self.fleet.alone))

    def _to_the_end(self, deploy: HostDeploy, detach: bool = False) -> None:
        deploy.follow(detach)
        deploy.close()

    def _stop(self, reason: str) -> None:
        fleet = self.fleet
        changed = [deploy for deploy in fleet.deploys.values() if deploy.result.status == "done"] + fleet.draining
        going_back = self.kind == "push" and fleet.policy.on_failure == "revert"
        fleet.stream.event(
            "rollout.stopped", reason=reason, failed=fleet.failed, missing=fleet.missing,
            on_failure="revert" if going_back and changed else "hold",
        )  # fmt: skip
        fleet.leave_alone()
        if going_back:
            take_back(fleet, changed, reason)
