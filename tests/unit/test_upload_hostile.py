"""A client that lies, and a link that garbles: an error for a person, never a crash, never a wrong blob."""

from __future__ import annotations

import base64
import random
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from release_files import small_disk
from upload_fakes import Host, send

from artifacts import noise, opened, write
from deployer.errors import DeployerError, GateError, PreflightError
from deployer.host.inflow import Inflow
from deployer.host.receiving import Receiving
from deployer.wire.content import COPY, END, LENGTHS, LITERAL, PAYLOAD, RAW, SQUEEZED, number
from deployer.wire.frames import BrokenFrame

BIG = 2 << 20


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """It has a release with `big`, in chunks; the next one has `big` changed, `a` and `b`."""
    host = Host(tmp_path / "host")
    host.push(write(tmp_path / "artifact", {"big": noise(BIG)}))
    write(tmp_path / "artifact", {"big": noise(BIG) + b"x", "a": b"12345", "b": b"67890"})
    return host


@pytest.fixture
def receiving(host: Host, tmp_path: Path) -> Receiving:
    """The manifest is agreed on: 0 is `a`, 1 is `b`, 2 is `big`."""
    wire = host.wire()
    with opened(tmp_path / "artifact") as content:
        manifest = content.manifest
    marks = base64.b64encode(b"".join(manifest.marks)).decode()
    wire.call("have", digest=manifest.digest, marks=marks, chunks=True)
    assert wire.call("entries", entries=manifest.to_json(), all=True)["missing"] == [[0, 3]]
    return wire.receiving


def inflow(frames: Iterable[Any]) -> Inflow:
    return Inflow(iter([*frames, b"", None]).__next__)


def raw(*parts: bytes) -> bytes:
    return bytes([RAW]) + b"".join(parts)


def literal(data: bytes) -> bytes:
    return number(LITERAL) + number(len(data)) + data


A = number(0) + number(0) + literal(b"12345") + number(END)
HUGE = number((1 << 63) - 1)

BAD = {
    "another content": [raw(number(0), number(0), literal(b"54321"), number(END))],
    "too short": [raw(number(0), number(0), literal(b"123"), number(END))],
    "too long": [raw(number(0), number(0), literal(b"123456"), number(END))],
    "no end": [raw(number(0), number(0), literal(b"12345"))],
    "ends within": [raw(number(0), number(0), number(LITERAL), number(5), b"12")],
    "nobody asked": [raw(number(99), number(0), literal(b"12345"), number(END))],
    "twice": [raw(A, A)],
    "a huge index": [raw(HUGE, number(0))],
    "a start beyond the end": [raw(number(0), number(6), number(END))],
    "an absurd start": [raw(number(0), HUGE, number(END))],
    "a start where nothing is": [raw(number(0), number(3), literal(b"45"), number(END))],
    "a number without end": [raw(b"\xff" * 100)],
    "an absurd literal": [raw(number(0), number(0), number(LITERAL), HUGE, b"123456789")],
    "an unknown step": [raw(number(0), number(0), number(77))],
    "a copy without a base": [raw(number(0), number(0), number(COPY), number(0), number(1), number(END))],
    "a copy beyond the base": [raw(number(2), number(0), number(COPY), number(0), number(1 << 20), number(END))],
    "an absurd copy": [raw(number(2), number(0), number(COPY), HUGE, HUGE, number(END))],
    "copies without end": [raw(number(2), number(0), *[number(COPY) + number(0) + number(400)] * 1000, number(END))],
    "absurd lengths": [raw(number(0), number(0), number(LENGTHS), HUGE)],
    "a bomb": [bytes([SQUEEZED]) + zlib.compress(bytes(PAYLOAD * 40))],
    "no zlib": [bytes([SQUEEZED]) + b"garbage"],
    "zlib that ends early": [bytes([SQUEEZED]) + zlib.compress(noise(1000))[:-100]],
    "an unknown form": [b"\x07data"],
    "a frame too long": [raw(bytes(PAYLOAD + 1))],
    "JSON in the middle": [raw(number(0)), {"op": "commit"}],
    "the link's end": [raw(number(0)), None],
}


@pytest.mark.parametrize("frames", BAD.values(), ids=BAD.keys())
def test_bad_stream_is_an_error_and_leaves_no_blob(host: Host, receiving: Receiving, frames: list[Any]) -> None:
    before = blobs(host)
    try:
        again = receiving.blobs(inflow(frames))["again"]
    except (GateError, BrokenFrame):
        again = []
    assert blobs(host) - before <= {name for name in blobs(host) if name.startswith("5994471abb01112")}  # "12345"
    assert host.incoming() == []
    assert again in ([], [[0, 1]], [[2, 1]]), "what was made of what was here is asked for again"


def test_good_files_before_the_bad_one_stay(host: Host, receiving: Receiving) -> None:
    with pytest.raises(GateError):
        receiving.blobs(inflow([raw(A), raw(number(1), number(0), literal(b"wrong"), number(END))]))
    assert any(name.startswith("5994471abb01112") for name in blobs(host))


def test_lengths_that_lie_cost_nothing_but_the_base(host: Host, receiving: Receiving) -> None:
    known = host.lists()
    told = number(LENGTHS) + number(2) + b"\xff\xff\x00\x00"
    content = literal(noise(BIG) + b"x")
    stream = number(2) + number(0) + told + content + number(END)
    receiving.blobs(inflow([raw(stream[at : at + PAYLOAD]) for at in range(0, len(stream), PAYLOAD)]))
    assert host.lists() == known


def test_random_garbage_never_gets_through(host: Host, receiving: Receiving) -> None:
    chance = random.Random(7)
    before = blobs(host)
    for _ in range(3000):
        noise = bytes(chance.choice([0, 0, 1, 2, 3, 5, chance.randrange(256)]) for _ in range(chance.randrange(1, 60)))
        try:
            receiving.blobs(inflow([raw(noise)]))
        except (GateError, BrokenFrame):
            pass
    assert blobs(host) == before and host.incoming() == []


ENTRY = {"path": "x", "type": "d", "mode": 0o755, "size": 0, "sha256": "", "target": ""}
WORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "no base64": ("have", {"digest": "x", "marks": "ä!"}),
    "entries that are none": ("entries", {"entries": {"a": 1}}),
    "entries that climb out": ("entries", {"entries": [{**ENTRY, "path": "../x"}], "all": True}),
    "another manifest": ("entries", {"entries": [], "all": True}),
    "no such base": ("chunks", {"index": 0, "groups": [[0, 1]]}),
    "an index that is none": ("chunks", {"index": "2"}),
    "groups beyond": ("chunks", {"index": 2, "groups": [[0, 1 << 40]]}),
    "groups backwards": ("chunks", {"index": 2, "groups": [[1, 1], [0, 1]]}),
    "groups that are none": ("chunks", {"index": 2, "groups": "all"}),
}


@pytest.mark.parametrize(("op", "params"), WORDS.values(), ids=WORDS.keys())
def test_bad_word_is_refused(receiving: Receiving, op: str, params: dict[str, Any]) -> None:
    with pytest.raises(DeployerError):
        getattr(receiving, op)(params)


@pytest.mark.parametrize("damage", [b"", b"dch1", b"\xff" * 1000])
def test_torn_chunk_list_is_none(host: Host, tmp_path: Path, damage: bytes) -> None:
    host.lists()[0].write_bytes(damage)
    wire = host.push(tmp_path / "artifact")
    assert wire.content > BIG


def test_full_disk_in_the_middle_is_told_and_leaves_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=4m") as disk:
        host = Host(disk / "host")
        write(tmp_path / "artifact", {"big": noise(6 << 20)})
        with opened(tmp_path / "artifact") as content, pytest.raises(PreflightError, match="could not store"):
            send(host.wire(), content)
        assert host.incoming() == []


def blobs(host: Host) -> set[str]:
    return {path.name for path in (host.root / ".deployer" / "store" / "blobs").iterdir()}
