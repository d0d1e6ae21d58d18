"""Requests to one host, and the events of a deploy there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from deployer.errors import DeployerError, LinkError, PreflightError
from deployer.link.channel import Channel
from deployer.model import PROTOCOL
from deployer.wire import frames


class Session:
    """One conversation with one host's engine. Use as a context manager."""

    def __init__(self, host: str, channel: Channel) -> None:
        self.host = host
        self._channel = channel
        self._number = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def leave(self) -> None:
        """Begin to end it, and wait for nothing; the end of the `with` waits. Twice is fine."""
        self._channel.leave()

    def hello(self, path: str) -> dict[str, Any]:
        """Tell the engine where the app lives. Raises LinkError when the two do not speak the same protocol."""
        answer: dict[str, Any] = self.call("hello", path=path)
        if answer["protocol"] != PROTOCOL:
            raise LinkError(f"{self.host} speaks protocol {answer['protocol']}, this client speaks {PROTOCOL}")
        return answer

    def call(self, op: str, **params: Any) -> Any:
        """The engine's answer to *op*. Raises the DeployerError that it met."""
        self._send(op, params)
        return self._answer()

    def call_telling(self, tell: Callable[[dict[str, Any]], None], op: str, **params: Any) -> Any:
        """As `call`; the events that come before the answer go to *tell*."""
        self._send(op, params)
        while True:
            frame = self._channel.receive()
            if not isinstance(frame, dict) or "event" not in frame:
                return self._answered(frame)
            tell(frame["event"])

    @property
    def squeezes(self) -> bool:
        """Whether the way to the engine is slow enough that bytes may be worth squeezing."""
        return self._channel.squeezes

    def pour(self, op: str, stream: Iterator[bytes], **params: Any) -> Any:
        """
        The engine's one answer to *op* and all of *stream*, which it is sent without waiting.

        An engine that answers earlier has met an error: it is sent no more of it.
        """
        self._send(op, params)
        for frame in stream:
            if self._channel.waiting():
                break
            self._put(frame)
        self._put(b"")  # the end, which it waits for in any case
        return self._answer()

    def listen(self) -> None:
        """
        Between two requests: raise what the engine has said unasked, as when somebody aborts what we prepare.

        A link that broke without a word is found by the next request.
        """
        if self._channel.waiting():
            self._last_word()

    def stream(self, op: str, **params: Any) -> Iterator[frames.Frame]:
        """What the engine sends before its answer to *op*: events, or bytes of a log."""
        self._send(op, params)
        while True:
            frame = self._channel.receive()
            if frame is None:
                raise LinkError(
                    f"the link to {self.host} closed", hint="follow what goes on there with `deployer attach`"
                )
            if isinstance(frame, dict) and "id" in frame:
                self._unwrap(frame)
                return
            yield frame

    def follow(self, deploy: str, since: int = 0, output: int = 0) -> Iterator[dict[str, Any]]:
        """Every event of *deploy* after number *since*, to its end; of a run what its job prints from byte *output* on."""
        for frame in self.stream("follow", deploy=deploy, since=since, output=output):
            if isinstance(frame, dict) and "event" in frame:
                yield frame["event"]

    def _send(self, op: str, params: dict[str, Any]) -> None:
        self._number += 1
        self._put({"id": self._number, "op": op, **params})

    def _put(self, frame: frames.Frame) -> None:
        try:
            self._channel.send(frame)
        except LinkError:
            self._last_word()
            raise

    def _last_word(self) -> None:
        """Raise what the engine said before it went, if it said anything: somebody may have aborted what we prepare."""
        try:
            while (frame := self._channel.receive()) is not None:
                if isinstance(frame, dict) and "error" in frame:
                    self._unwrap(frame)
        except LinkError:
            pass  # it went without a word

    def _answer(self) -> Any:
        return self._answered(self._channel.receive())

    def _answered(self, frame: frames.Frame | None) -> Any:
        if not isinstance(frame, dict):
            raise LinkError(f"the link to {self.host} closed in the middle of a request")
        return self._unwrap(frame)

    def _unwrap(self, frame: dict[str, Any]) -> Any:
        if "error" in frame:
            raise _told(frame["error"])
        return frame["ok"]


def _told(error: dict[str, Any]) -> DeployerError:
    """What the engine told. The link that brought it is whole: nobody shall try again for that."""
    told = DeployerError.from_json(error)
    if isinstance(told, LinkError):
        return PreflightError(told.title, cause=told.cause, state=told.state, hint=told.hint)
    return told
