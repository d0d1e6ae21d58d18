"""The agent's pulse: no thread lives over a fork, nothing is lost around it, silence and the end are told."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

from deployer.host.pump import AHEAD_BYTES, Pump
from deployer.wire import frames


class Rig:
    """A pump on a pipe."""

    def __init__(self, beat: float = 0.05, silent: float = 60.0) -> None:
        self.reader, self.writer = os.pipe()
        self.beats = 0
        self.pump = Pump(self.reader, beat, silent, self._beat)
        self.pump.start()

    def _beat(self) -> None:
        self.beats += 1

    def send(self, frame: frames.Frame) -> None:
        os.write(self.writer, frames.pack(frame))

    def close(self) -> None:
        os.close(self.writer)
        self.pump.pause()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def pumping() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pump"]


def test_no_thread_lives_over_a_fork_and_no_frame_is_lost_around_it(rig: Rig) -> None:
    for number in range(50):
        rig.send({"n": number})
        rig.pump.pause()
        assert not pumping()
        rig.send({"n": -number})
        rig.pump.start()
        assert rig.pump.receive() == {"n": number} and rig.pump.receive() == {"n": -number}


def test_it_beats_while_nobody_receives(rig: Rig) -> None:
    deadline = time.monotonic() + 60
    while rig.beats < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_beats_of_the_client_are_nobodys_frames(rig: Rig) -> None:
    os.write(rig.writer, frames.BEAT * 3)
    rig.send({"real": 1})
    assert rig.pump.receive() == {"real": 1}


def test_it_reads_no_further_ahead_than_it_may(rig: Rig) -> None:
    done = []

    def send() -> None:
        for _ in range(AHEAD_BYTES * 3 // frames.SLICE):
            data = frames.pack(b"x" * frames.SLICE)
            while data:
                data = data[os.write(rig.writer, data) :]
        done.append(True)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(1)
    assert not done
    for _ in range(AHEAD_BYTES * 3 // frames.SLICE):
        assert len(rig.pump.receive() or b"") == frames.SLICE
    thread.join(60)
    assert done


def test_the_end_is_told_and_stays() -> None:
    rig = Rig()
    rig.send({"last": 1})
    os.close(rig.writer)
    assert rig.pump.receive() == {"last": 1}
    assert rig.pump.receive() is None and rig.pump.receive() is None
    assert select.select([rig.pump.gone], [], [], 60)[0]


def test_what_is_no_frame_is_told() -> None:
    rig = Rig()
    os.write(rig.writer, b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(frames.BrokenFrame):
        rig.pump.receive()
    os.close(rig.writer)


def test_an_ear_that_fails_ends_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()

    def fail(data: bytes) -> list[frames.Frame]:
        raise MemoryError("no room")

    monkeypatch.setattr(rig.pump._decoder, "feed", fail)
    rig.send({"n": 1})
    with pytest.raises(frames.BrokenFrame, match="no room"):
        rig.pump.receive()
    assert select.select([rig.pump.gone], [], [], 60)[0]
    os.close(rig.writer)


def test_a_silent_client_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr("deployer.host.pump.LEAVE_WITHIN", 0.2)
    monkeypatch.setattr(os, "_exit", left.append)
    rig = Rig(beat=0.05, silent=0.4)
    assert rig.pump.receive() is None
    assert select.select([rig.pump.gone], [], [], 60)[0]
    deadline = time.monotonic() + 60
    while not left:  # whoever is stuck is ended
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.close(rig.writer)
