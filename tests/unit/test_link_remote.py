"""A link's pulse beside hostile hosts: none of them stops it for another, or fills our memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from deployer.errors import LinkError, PreflightError
from deployer.link import bootstrap, heart, remote
from deployer.link.pipe import End
from deployer.link.remote import RemoteChannel
from deployer.link.session import Session
from deployer.wire import frames


class Wire:
    """A Pipe to an engine that greets; what it sends then is *more*, asked for each read; None: nothing now."""

    def __init__(self, more: Callable[[], bytes | None] = lambda: None) -> None:
        self._more = more
        self._greeting = bootstrap.MAGIC + frames.pack({"have": True, "python": "3.11"})
        self._next: bytes | None = None
        self.stopped = threading.Event()
        self.reads = self.beats = 0

    login_within = 0.0

    def ready(self) -> bool:
        if self._next is None:
            self._next = self._more()
        return self._next is not None or self.stopped.is_set()

    def read(self, most: int) -> bytes:
        if self._greeting:
            told, self._greeting = self._greeting, b""
            return told
        while not self.ready():
            self.stopped.wait(0.01)
        self.reads += 1
        told, self._next = self._next or b"", None
        return told

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        self.beats += data == frames.BEAT

    def stop(self) -> None:
        self.stopped.set()

    def end(self) -> End:
        return End(None, "")


@pytest.fixture
def own_heart(monkeypatch: pytest.MonkeyPatch) -> heart.Heart:
    made = heart.Heart()
    monkeypatch.setattr(remote, "HEART", made)
    return made


def channel(wire: Wire) -> RemoteChannel:
    return RemoteChannel(wire, "web1", "~/app", (0.02, 30.0))


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_host_that_sends_without_end_leaves_the_others_their_pulse(own_heart: heart.Heart) -> None:
    flood, calm = Wire(lambda: frames.BEAT * 10), Wire()
    channels = [channel(flood), channel(calm)]
    until(lambda: flood.reads > 5)
    beats, read = calm.beats, flood.reads
    until(lambda: calm.beats > beats + 5 and flood.reads > read)
    assert not calm.stopped.is_set() and not flood.stopped.is_set()
    for each in channels:
        each.close()


def test_what_nobody_receives_is_left_on_the_wire(own_heart: heart.Heart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "AHEAD_BYTES", 5000)
    flood = Wire(lambda: frames.pack(b"x" * 1000))
    one = channel(flood)
    until(lambda: flood.reads == 6)
    beats = flood.beats
    until(lambda: flood.beats > beats + 10)
    assert flood.reads == 6
    assert all(one.receive() == b"x" * 1000 for _ in range(20))
    until(lambda: flood.reads > 20)
    one.close()


def test_what_cannot_be_read_ends_its_own_link_alone(own_heart: heart.Heart) -> None:
    deep = frames.HEADER.pack(b"J", 200_000) + b"[" * 200_000
    calm = Wire()
    channels = [channel(Wire(lambda: deep)), channel(calm)]
    until(channels[0].waiting)
    with pytest.raises(LinkError) as caught:
        channels[0].receive()
    assert "not JSON" in (caught.value.cause or "")
    beats = calm.beats
    until(lambda: calm.beats > beats + 5)
    for each in channels:
        each.close()


def test_any_error_of_a_beat_ends_its_own_link_alone(own_heart: heart.Heart) -> None:
    def fail() -> bytes:
        raise MemoryError("no room")

    wrong, calm = Wire(), Wire()
    channels = [channel(wrong), channel(calm)]
    wrong._more = fail
    assert wrong.stopped.wait(10)
    with pytest.raises(LinkError) as caught:
        channels[0].receive()
    assert "no room" in (caught.value.cause or "")
    beats = calm.beats
    until(lambda: calm.beats > beats + 5)
    for each in channels:
        each.close()


def test_many_that_hang_are_left_in_the_time_of_one(own_heart: heart.Heart, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Wire):
        def stop(self) -> None:
            together.wait(10)
            super().stop()

    together = threading.Barrier(5)  # each waits for the others
    sessions = [Session(f"web{number}", channel(Hanging())) for number in range(5)]
    for session in sessions:
        session.leave()
        session.leave()
    for session in sessions:
        session.__exit__()
    assert not together.broken and all(session._channel._pipe.stopped.is_set() for session in sessions)  # type: ignore[attr-defined]


def test_a_link_error_that_the_host_tells_is_no_broken_link(own_heart: heart.Heart) -> None:
    told = LinkError("the host engine does not know 'dance'", hint="client and engine differ in version")
    wire = Wire(lambda: frames.pack({"id": 1, "error": told.to_json()}))
    with Session("web1", channel(wire)) as session, pytest.raises(PreflightError) as caught:
        session.call("dance")
    assert (caught.value.title, caught.value.hint, caught.value.code) == (told.title, told.hint, told.code)


class Login(Wire):
    """Its engine greets only after *words*, each of which comes *later* seconds after the last, by the heart's clock."""

    def __init__(self, own: heart.Heart, within: float, later: float, words: int) -> None:
        super().__init__()
        self.login_within, self._later, self._words, self._own = within, later, words, own

    def ready(self) -> bool:
        return bool(self._words) and self.stopped.is_set()

    def read(self, most: int) -> bytes:
        if self._words:
            self._words -= 1
            (link,) = list(self._own._links)
            link.beat(time.monotonic() + self._later)
            if self.stopped.wait(0.2):
                raise ConnectionAbortedError("stopped")
            return b"hm\n"
        return super().read(most)


@pytest.mark.parametrize(
    ("within", "later", "words", "comes"),
    [(60, 80, 1, True), (60, 91, 1, False), (0, 31, 1, False), (0, 20, 3, True), (60, 31, 2, False)],
)
def test_a_login_may_be_silent_for_so_long(
    own_heart: heart.Heart, within: float, later: float, words: int, comes: bool
) -> None:
    wire = Login(own_heart, within, later, words)
    if comes:
        RemoteChannel(wire, "web1", "~/app", (1000.0, 30.0)).close()
    else:
        with pytest.raises(LinkError, match="does not answer"):
            RemoteChannel(wire, "web1", "~/app", (1000.0, 30.0))
