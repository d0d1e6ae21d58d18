"""`deployer push`, `stop` and `restart` on a Ray target: build here, hand over to the app's directory there, follow."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deployer.artifact import open_artifact
from deployer.config import secrets
from deployer.config.model import Config
from deployer.errors import DeployerError, Interrupted, LockedError, UsageError
from deployer.jobs import cluster
from deployer.rollout.content import Content
from deployer.rollout.events import Emit, Stream
from deployer.rollout.hosts import deploy_id, who
from deployer.rollout.order import PushOptions
from deployer.rollout.part import Part
from deployer.rollout.raytarget.desk import Desk
from deployer.rollout.raytarget.order import bare_order, push_order, restart_order
from deployer.rollout.raytarget.packing import engine, pack
from deployer.rollout.raytarget.reach import connected, host_of, probe

Json = dict[str, Any]
KINDS = ("push", "stop", "restart")


def push(config: Config, options: PushOptions, emit: Emit) -> int:
    """Replace the instances of every service by those of a new release; the exit code of CONTRACT.md."""
    _require_sense(config, options)
    values = secrets.values(config.settings()["run"]["secrets"], os.environ)
    return _deploy(config, "push", emit, lambda order: order.push(options, values))


def lifecycle(config: Config, kind: str, options: PushOptions, emit: Emit) -> int:
    """`stop`: drain and end all services, and the directory. `restart`: the same release in new instances."""
    if kind not in KINDS:
        raise UsageError(
            f"{kind} is not available on a Ray target", state="nothing was touched",
            hint="push brings a release there; stop and restart are there too",
        )  # fmt: skip
    _require_sense(config, options)
    return _deploy(config, kind, emit, lambda order: order.act(kind, options))


def attach(config: Config, emit: Emit) -> int:
    """Follow the deploy under way to its end; its exit code, 0 when there is none."""
    with connected(config) as ray:
        desk = Desk(ray, config)
        seen = desk.ask("observe") if desk.there() else {"services": [], "under_way": None}
        going = seen["under_way"]
        if going is None:
            return 0
        order = _Deploy(config, Stream(going["deploy"], emit))
        order.part.serving, order.part.committed = _release(seen), True
        try:
            order.follow(desk, detach=False)
        except KeyboardInterrupt:
            raise order.interrupted(going["kind"]) from None
    return order.stream.finish(going["kind"], [order.part.result])


def _require_sense(config: Config, options: PushOptions) -> None:
    cluster.check()
    if options.hosts or options.supersede:
        raise UsageError(
            f"{'--host' if options.hosts else '--supersede'} has no meaning on a Ray target", state="nothing was touched",
            hint="leave it out",
        )  # fmt: skip


def _deploy(config: Config, kind: str, emit: Emit, what: Callable[[_Deploy], None]) -> int:
    stream = Stream(deploy_id(kind), emit)
    stream.event(f"{kind}.started", app=config.app, target=config.target_name, release=None, kind=kind, who=who())
    order = _Deploy(config, stream)
    try:
        what(order)
    except DeployerError as error:
        order.part.failed(error)
    except KeyboardInterrupt:
        if order.part.committed:
            raise order.interrupted(kind) from None
        order.part.failed(order.interrupted(kind))
    return stream.finish(kind, [order.part.result])


class _Deploy:
    """One deploy on the cluster of *config*, as far as its client is concerned."""

    def __init__(self, config: Config, stream: Stream) -> None:
        self.config = config
        self.stream = stream
        self.part = Part(host_of(config), stream)

    def push(self, options: PushOptions, values: dict[str, str]) -> None:
        from deployer.rollout.push import artifact_path, build

        probe(self.config)
        build(self.config, options, self.stream, values)
        with ExitStack() as stack:
            opened = stack.enter_context(open_artifact(artifact_path(self.config, options), self.config.build.exclude))
            content = Content(opened, self.config, options.release)
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deployer-ray-")))
            size = pack(opened, directory / "release.zip")
            copy, digest = engine(directory)
            local = {"working_dir": str(directory / "release.zip"), "py_modules": [str(copy)]}
            ray = stack.enter_context(connected(self.config, local))
            env = uploaded(ray)
            desk = self._desk(ray, digest, env)
            if self._unchanged(content, desk.ask("observe")):
                return
            release = content.name_for(())
            self.part.event(
                "stage.finished", files=len(opened.manifest.files), bytes_total=opened.manifest.bytes_total,
                bytes_sent=size, release=release,
            )  # fmt: skip
            assert self.stream.deploy is not None
            self._hand_over(desk, push_order(self.config, content, release, self.stream.deploy, env), options, values)

    def act(self, kind: str, options: PushOptions) -> None:
        assert self.stream.deploy is not None
        with connected(self.config) as ray:
            desk = Desk(ray, self.config)
            seen = desk.ask("observe") if desk.there() else {"services": []}
            self.part.serving = _release(seen)
            if not seen["services"]:
                return self._nothing(kind)
            make = restart_order if kind == "restart" else _stop_order
            self._hand_over(desk, make(self.config, self.stream.deploy, self.part.serving), options, {})
            if kind == "stop":
                desk.gone(15.0)

    def _nothing(self, kind: str) -> None:
        if kind == "stop":
            return self.part.ended("unchanged", 0)
        hint = f"deployer push {self.config.target_name}"
        raise UsageError(
            f"nothing of {self.config.app} runs on {self.part.host}", state="nothing was touched", hint=hint
        )

    def _desk(self, ray: Any, digest: str, env: Json) -> Desk:
        """The directory of this app: it runs from our copy of deployer, and has nothing of the release."""
        desk = Desk(ray, self.config)
        desk.require(digest, {"working_dir": env["py_modules"][0], "py_modules": env["py_modules"]})
        return desk

    def _unchanged(self, content: Content, seen: Mapping[str, Any]) -> bool:
        """Whether this very content serves already, and is told so. Secrets may be other ones: then it never does."""
        self.part.serving = _release(seen)
        specs = {one["spec"]["service"]: one["spec"] for one in seen["services"] if one["state"] == "ready"}
        same = {spec["digest"] for spec in specs.values()} == {content.digest} and set(specs) == set(
            self.config.tables.services
        )
        if not same or self.config.tables.run.secrets or seen["under_way"]:
            return False
        self.part.ended("unchanged", 0)
        return True

    def _hand_over(self, desk: Desk, order: Json, options: PushOptions, values: dict[str, str]) -> None:
        until, told = time.monotonic() + options.wait_lock, False
        while (behind := desk.hand_over(order, values)) is not None and time.monotonic() < until:
            if not told:
                self.part.event("lock.waiting", behind=behind)
            told = True
            desk.wait(until)
        if behind is not None:
            raise LockedError(
                f"another deploy is under way on {self.part.host}", state="untouched by this call",
                cause=f"{behind['kind']} {behind['deploy']} by {behind['who']}, at {behind['step']} for {behind['for_s']} s",
                hint="see `deployer status`, or wait for it with --wait-lock 10m",
            )  # fmt: skip
        self.part.committed = True
        self.follow(desk, options.detach)

    def follow(self, desk: Desk, detach: bool) -> None:
        """Pass the events on, to the last; with *detach* until the new release serves."""
        for event in desk.follow(str(self.stream.deploy)):
            self.part.passed({**event, "seq": None})
            if detach and event["event"] == "switched":
                return

    def interrupted(self, kind: str) -> Interrupted:
        if not self.part.committed:
            return Interrupted(
                f"{kind} stopped", state="nothing was changed; what runs was not touched", hint="push again"
            )
        return Interrupted(
            f"detached from {self.stream.deploy}", state="it goes on on the cluster, in the directory of the app",
            hint="follow it with `deployer attach`",
        )  # fmt: skip


def _stop_order(config: Config, deploy: str, release: str | None) -> Json:
    return bare_order(config, deploy, "stop", release)


def _release(seen: Mapping[str, Any]) -> str | None:
    releases = sorted({str(one["spec"]["release"]) for one in seen["services"]})
    return releases[-1] if releases else None


def uploaded(ray: Any) -> Json:
    """What the local directories of this connection are called on the cluster."""
    env = dict(ray.get_runtime_context().runtime_env)
    return {"working_dir": env["working_dir"], "py_modules": list(env["py_modules"])}
