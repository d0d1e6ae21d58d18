"""Frames: what is packed comes out again, whole or not at all."""

from __future__ import annotations

import io
import zlib

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
        frames.HEADER.pack(b"J", 200_000) + b"[" * 200_000,
    ],
)
def test_garbage_is_a_broken_frame_and_never_an_endless_read(garbage: bytes) -> None:
    with pytest.raises(frames.BrokenFrame):
        frames.read(io.BytesIO(garbage))


def test_what_expands_beyond_the_bound_of_an_answer_is_broken() -> None:
    body = zlib.compress(b'{"a":"' + b"x" * 5000 + b'"}')
    bomb = frames.HEADER.pack(b"Z", len(body)) + body
    assert frames.Decoder(6000).feed(bomb)
    for most, sent in ((5000, bomb), (6000, bomb * 2)):
        with pytest.raises(frames.BrokenFrame, match="beyond all bounds"):
            frames.Decoder(most).feed(sent)


def test_an_answer_that_only_claims_to_be_too_large_is_not_waited_for() -> None:
    with pytest.raises(frames.BrokenFrame):
        frames.Decoder(5000).feed(frames.HEADER.pack(b"J", 5001))
