"""A conversation with a host over a link that a shard of the cluster holds; as `deployer.link.session.Session`, one hop further."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from deployer.errors import LinkError
from deployer.rollout.carrier import Stranded
from deployer.rollout.engine.pieces import Shelf
from deployer.rollout.engine.shards import Shards
from deployer.wire.spans import spread

CLOSE_WITHIN = 20.0
"""Seconds that a shard may take to let go of a host: longer than a link that hangs."""


class CarriedTalk:
    """
    One link of one of *shards*, under a key of its own. Raises Stranded when the shard is lost: the host itself may be well.

    Waits for events, never in turns: an answer of the cluster, or `leave`, wakes whoever waits.
    """

    def __init__(self, host: str, shards: Shards) -> None:
        self.host = host
        self._key = f"{host}#{secrets.token_hex(4)}"
        self._mail: SimpleQueue[Any] = SimpleQueue()
        self._left = self._closed = False
        self._shard = shards.pick(self._key, self._mail.put)

    def __exit__(self, *_: object) -> None:
        if self._closed:
            return
        self._closed = True
        self.leave()
        self._shard.gave_back(self._key)
        if not self._shard.lost:
            self._await_close()

    def dial(self, **words: Any) -> None:
        """Let the shard call the host. Raises what `deployer.link.dial` raises."""
        self._ask("dial", words)

    def call(self, op: str, **params: Any) -> Any:
        return self._ask("call", {"op": op, "params": params})

    def call_telling(self, tell: Callable[[dict[str, Any]], None], op: str, **params: Any) -> Any:
        return self._ask("call", {"op": op, "params": params}, tell)

    def follow(self, deploy: str, since: int = 0, output: int = 0) -> Iterator[dict[str, Any]]:
        """As `Session.follow`."""
        for told in self._exchange("follow", {"deploy": deploy, "since": since, "output": output}):
            if isinstance(told, dict):
                yield told

    def listen(self) -> None:
        """Raise what the engine has said unasked. A link, or a shard, that broke without a word is found by the next request."""
        try:
            self._ask("listen", {})
        except Stranded:
            pass

    def upload(self, shelf: Shelf, blobs: int, tell: Callable[..., None]) -> None:
        """All of the artifact on *shelf*, of so many *blobs*, is on the host; only what it lacks travels."""
        missing = self._ask("agree", {"digest": shelf.digest, "manifest": [shelf.manifest]})
        if missing:
            pieces = shelf.pieces(spread(missing, blobs))
            self._ask("deliver", {"pieces": pieces}, lambda told: tell(told.pop("told"), **told))

    def leave(self) -> None:
        """Begin to let go: whoever waits stops waiting, and the shard lets go too."""
        if not self._left:
            self._left = True
            self._mail.put(None)
            if not self._shard.lost:
                self._shard.actor.leave.remote(self._key)

    def _ask(self, verb: str, words: dict[str, Any], tell: Callable[[dict[str, Any]], None] = lambda told: None) -> Any:
        for told in self._exchange(verb, words):
            if not isinstance(told, dict):
                return told.answer
            tell(told)
        raise LinkError(f"the link to {self.host} ended in the middle of a request")

    def _exchange(self, verb: str, words: dict[str, Any]) -> Iterator[Any]:
        """What is told, and at last the ending. Raises the DeployerError that it brings."""
        told = self._wait(self._shard.actor.say.remote(self._key, verb, words))
        while True:
            for one in told:
                if not isinstance(one, dict):
                    if one.error is not None:
                        raise one.error
                    yield one
                    return
                yield one
            told = self._wait(self._shard.actor.more.remote(self._key))

    def _wait(self, reference: Any) -> Any:
        if self._left:
            raise self._let_go()
        reference.future().add_done_callback(self._mail.put)
        came = self._mail.get()
        if came is None:
            raise self._let_go()
        if isinstance(came, Stranded):
            raise came
        try:
            return came.result()
        except Exception as error:
            raise self._shard.broke(error) from error

    def _let_go(self) -> LinkError:
        return LinkError(f"{self.host} was let go of", state="what was handed over goes on there")

    def _await_close(self) -> None:
        mail: SimpleQueue[Any] = SimpleQueue()
        self._shard.actor.close.remote(self._key).future().add_done_callback(mail.put)
        try:
            mail.get(timeout=CLOSE_WITHIN).exception()
        except Empty:
            pass  # the shard ends with this client, and its links with it
