"""Frames: what is packed comes out again, whole or not at all."""

from __future__ import annotations

import io

import pytest

from deployer.wire import frames


def test_frames_survive_being_torn_into_single_bytes() -> None:
    sent = [{"op": "hello", "name": "odd \udcff ü"}, b"\x00\xff" * 1000, {}, b""]
    stream = b"".join(frames.pack(frame) for frame in sent)
    decoder = frames.Decoder()
    assert [frame for byte in stream for frame in decoder.feed(bytes([byte]))] == sent


def test_a_blocking_stream_gives_the_same_frames_and_then_none() -> None:
    stream = io.BytesIO(frames.pack({"a": 1}) + frames.pack(b"xyz"))
    assert [frames.read(stream), frames.read(stream), frames.read(stream)] == [{"a": 1}, b"xyz", None]


@pytest.mark.parametrize(
    "garbage",
    [
        b"Welcome to Debian GNU/Linux 12\n",
        b"J\xff\xff\xff\xff",
        b"X\x00\x00\x00\x01a",
        b"J\x00\x00\x00\x02[]",
        b"J\x00\x00\x00\x03{a}",
        b"J\x00\x00\x00\x09{}",
        b"J\x00",
    ],
)
def test_garbage_is_a_broken_frame_and_never_an_endless_read(garbage: bytes) -> None:
    with pytest.raises(frames.BrokenFrame):
        frames.read(io.BytesIO(garbage))
