"""An app's directory on the cluster, asked from here: found, made where there is none, and followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from deployer.config.model import Config
from deployer.errors import FailedError, LinkError
from deployer.ray.words import CONTROLS, DIRECTORY
from deployer.rollout.raytarget.reach import host_of

Json = dict[str, Any]
ANSWERS_WITHIN = 60.0
"""Seconds that a directory may be silent: Ray brings it back when its node is lost, once it has noticed."""
_PAUSE = 0.5
_ON_THE_HEAD = "node:__internal_head__"
"""Every head has this resource. Any other node may go, and the directory stays; without its head a cluster is lost anyway."""
_POLL = 10.0


class Desk:
    """Words to the directory, again where it was lost in between. All of them may be said twice, and mean the same."""

    def __init__(self, ray: Any, config: Config) -> None:
        self._ray = ray
        self._config = config

    def there(self) -> bool:
        """Whether the app has a directory, and so anything, on this cluster."""
        return self._found() is not None

    def require(self, engine: str, env: Json) -> None:
        """There is a directory of this very *engine*; an idle one of another deployer gives way."""
        if self._found() is not None and self.ask("know") != engine and self.ask("observe")["under_way"] is None:
            self.end()
        if self._found() is None:
            from deployer.ray.directory import Directory

            actor = self._ray.remote(Directory).options(
                name=DIRECTORY, namespace=self._config.app, lifetime="detached", num_cpus=0, max_restarts=-1,
                resources={_ON_THE_HEAD: 0.001}, max_concurrency=CONTROLS, get_if_exists=True, runtime_env=env,
            )  # fmt: skip
            actor.remote(self._config.app, engine)
        self.ask("know")

    def ask(self, word: str, *args: Any, waits: float = 0.0) -> Any:
        """The directory's answer. Raises LinkError when none comes within its time, and *waits* seconds more."""
        return self._again(lambda actor, left: self._ray.get(getattr(actor, word).remote(*args), timeout=left), waits)

    def hand_over(self, order: Json, secrets: dict[str, str]) -> Json | None:
        """The cluster has *order*, whatever becomes of us; or the deploy that is under way there."""
        answer: Json = self.ask("push", order, secrets)
        behind: Json | None = answer["behind"]
        return behind if behind is None or behind["deploy"] != order["deploy"] else None

    def wait(self, until: float) -> None:
        """No deploy is under way, or it is *until* (monotonic) by now."""
        while (left := until - time.monotonic()) > 0 and not self.ask("free", min(left, _POLL), waits=_POLL):
            pass

    def follow(self, deploy: str) -> Iterator[Json]:
        """Its events to the last. Raises FailedError where the directory was lost and no instance is left that knows of it."""
        life, seen, ended = "", 0, False
        while not ended:
            told = self.ask("events", deploy, life, seen, _POLL, waits=_POLL)
            if told is None:
                raise self._unknown(deploy)
            # A directory that came back tells what it knows from its own beginning.
            seen = (seen if told["life"] == life else 0) + len(told["events"])
            life = told["life"]
            yield from told["events"]
            ended = any(event["event"] == "host.finished" for event in told["events"])

    def end(self) -> None:
        """The directory goes; the instances stay as they are."""
        actor = self._found()
        if actor is not None:
            self._ray.kill(actor, no_restart=True)
        self.gone(ANSWERS_WITHIN)

    def gone(self, within: float) -> bool:
        """Whether its name is free before *within* seconds have passed."""
        until = time.monotonic() + within
        while self._found() is not None and time.monotonic() < until:
            time.sleep(_PAUSE / 5)  # Ray tells nobody when a name becomes free
        return self._found() is None

    def _found(self) -> Any:
        try:
            return self._ray.get_actor(DIRECTORY, namespace=self._config.app)
        except ValueError:
            return None

    def _again(self, word: Callable[[Any, float], Any], waits: float) -> Any:
        until = time.monotonic() + ANSWERS_WITHIN + waits
        while True:
            try:
                actor = self._ray.get_actor(DIRECTORY, namespace=self._config.app)
                return word(actor, max(0.1, until - time.monotonic()))
            except (self._ray.exceptions.RayActorError, self._ray.exceptions.GetTimeoutError, ValueError) as error:
                if time.monotonic() > until:
                    raise LinkError(
                        f"the directory of {self._config.app} on {host_of(self._config)} does not answer",
                        cause=" ".join(str(error).split())[:300], state="what was handed over goes on there",
                        hint="see `ray status`, then `deployer status`",
                    ) from error  # fmt: skip
            time.sleep(_PAUSE)

    def _unknown(self, deploy: str) -> FailedError:
        return FailedError(
            f"{host_of(self._config)} knows nothing of {deploy} any more", state="what served before serves, where it lives",
            cause="the node of the directory was lost, and no instance of this deploy has lived on",
            hint="see `deployer status`, and push again",
        )  # fmt: skip
