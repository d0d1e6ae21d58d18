"""The pieces of an upload by themselves: buckets, spans, cuts, and when squeezing pays."""

from __future__ import annotations

import random

import pytest
from release_files import file

from artifacts import noise
from deployer.cuts import Cutter
from deployer.manifest import Manifest
from deployer.rollout.squeeze import Squeeze
from deployer.wire.chunks import SHORT, Chunks, heard, pack_lengths, short, unpack_lengths
from deployer.wire.content import PAYLOAD, RAW, SQUEEZED, expand, number
from deployer.wire.spans import spans, spread


def manifest(changed: dict[str, bytes] | None = None) -> Manifest:
    contents = {f"d{one % 7}/{one:04}": b"x" for one in range(1000)} | (changed or {})
    return Manifest(file(path, content) for path, content in contents.items())


@pytest.mark.parametrize("changed", [{"d3/0010": b"y"}, {"d3/0010a": b"new"}, {"a": b"first"}, {"z": b"last"}])
def test_change_shows_in_one_bucket_or_two(changed: dict[str, bytes]) -> None:
    before, after = manifest(), manifest(changed)
    assert 40 < len(before.buckets) < 100
    assert [entry for bucket in after.buckets for entry in bucket] == list(after.entries)
    assert len(set(after.marks) - set(before.marks)) <= 2


def test_names_that_are_not_utf8_have_buckets_too() -> None:
    assert len(Manifest([file("a\udcff"), file("b")]).marks) >= 1


@pytest.mark.parametrize("numbers", [[], [0], [3, 4, 5], [0, 2, 3, 9], list(range(1000))])
def test_spans_tell_the_numbers(numbers: list[int]) -> None:
    assert spread(spans(numbers), 1000) == numbers


@pytest.mark.parametrize("bad", [None, 3, [1], [[1]], [[1, 0]], [[-1, 1]], [[0, 1001]], [[5, 1], [5, 1]], [[True, 1]]])
def test_spans_that_are_none_are_refused(bad: object) -> None:
    with pytest.raises(ValueError):
        spread(bad, 1000)


@pytest.mark.parametrize("step", [1000, 16384, 65536, 1 << 20, 3 << 20])
def test_cuts_do_not_depend_on_how_a_file_is_read(step: int) -> None:
    data, cutter = noise(2 << 20) + bytes(100_000), Cutter()
    found = [bytes(chunk) for at in range(0, len(data), step) for chunk in cutter.feed(data[at : at + step])]
    found += [bytes(chunk) for chunk in cutter.feed(b"", last=True)]
    whole = Cutter()
    assert b"".join(found) == data
    assert list(map(bytes, whole.feed(data, last=True))) == found
    assert cutter.lengths == list(map(len, found)) and max(cutter.lengths) <= 65535


def test_groups_are_told_and_heard() -> None:
    chunks = Chunks([100] * 5000, b"".join(short(b"%d" % one) for one in range(5000)))
    counts, hashes = heard(chunks.told())
    assert tuple(counts) == chunks.groups and sum(counts) == 5000 and 100 < len(hashes) < 250
    assert chunks.of_groups([0, 1]) == chunks.hashes[: (counts[0] + counts[1]) * SHORT]


def test_lengths_cross_in_two_bytes_each() -> None:
    assert pack_lengths([1, 258]) == b"\0\1\1\2"
    assert list(unpack_lengths(pack_lengths([0, 65535, 7]))) == [0, 65535, 7]


def test_numbers_are_short() -> None:
    assert [len(number(value)) for value in (0, 127, 128, 1 << 40)] == [1, 1, 2, 6]


def text(size: int) -> bytes:
    words = ["return", "function", "const", "await", "(x) => ", "\n"]
    return " ".join(random.Random(1).choice(words) for _ in range(size // 5)).encode()[:size]


def bodies(squeeze: Squeeze, payload: bytes, rate: float, count: int = 40) -> list[int]:
    """The forms of *count* frames over a link of *rate* bytes a second."""
    forms = []
    for _ in range(count):
        body = squeeze.body([payload])
        assert expand(body) == payload
        squeeze.sent(len(body), len(body) / rate)
        forms.append(body[0])
    return forms


def test_text_over_a_slow_link_is_squeezed() -> None:
    assert set(bodies(Squeeze(True), text(PAYLOAD), 1e6)) == {SQUEEZED}


def test_text_over_a_link_faster_than_zlib_goes_as_it_is() -> None:
    forms = bodies(Squeeze(True), text(PAYLOAD), 2e9)
    assert set(forms[-20:]) == {RAW}


def test_noise_is_never_squeezed() -> None:
    assert set(bodies(Squeeze(True), noise(PAYLOAD), 1e6)) == {RAW}


def test_nothing_is_squeezed_on_this_machine() -> None:
    assert set(bodies(Squeeze(False), text(PAYLOAD), 1e6)) == {RAW}


def test_link_that_slows_down_is_noticed() -> None:
    squeeze = Squeeze(True)
    bodies(squeeze, text(PAYLOAD), 2e9)
    assert set(bodies(squeeze, text(PAYLOAD), 1e6, 60)[-20:]) == {SQUEEZED}
