"""What an upload sends, and that what arrives is what was sent: with real files, without a link."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from upload_fakes import Host, send

from artifacts import noise, opened, write
from deployer import cuts
from deployer.errors import GateError
from deployer.wire.frames import BrokenFrame

MEGABYTE = 1 << 20


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return tmp_path / "artifact"


def many(count: int = 5000) -> dict[str, bytes]:
    return {f"lib/p{number % 83}/module_{number}.js": b"export default %d" % number for number in range(count)}


def test_many_small_files_go_in_one_stream(host: Host, artifact: Path) -> None:
    wire = host.push(write(artifact, {**many(), "empty": b"", "again": b"export default 1"}))
    assert wire.ops() == ["have", "entries", "blobs"]
    assert wire.content < 5001 * 30


def test_unchanged_push_sends_neither_manifest_nor_stream(host: Host, artifact: Path) -> None:
    host.push(write(artifact, many()))
    wire = host.wire()
    with opened(artifact) as content:
        send(wire, content)
    assert wire.ops() == ["have"] and wire.bytes < 2500


def test_one_changed_file_of_many_costs_its_bucket_only(host: Host, artifact: Path) -> None:
    host.push(write(artifact, many()))
    write(artifact, {"lib/p0/module_0.js": b"changed"})
    wire = host.push(artifact)
    entries = dict(wire.asked)["entries"]["entries"]
    assert 1 <= len(entries) < 150
    assert wire.bytes < 6000


def test_manifest_of_an_earlier_release_is_known_too(host: Host, artifact: Path) -> None:
    host.push(write(artifact, {"a": b"1"}))
    host.push(write(artifact, {"a": b"2"}))
    assert host.push(write(artifact, {"a": b"1"})).ops() == ["have"]


def test_buckets_with_one_mark_are_found_out_and_all_is_sent(host: Host, artifact: Path) -> None:
    host.push(write(artifact, many(200)))
    wire = host.wire()
    find = wire.receiving._manifests.buckets

    def alike(marks: Any) -> Any:
        found = find(marks)
        return {mark: next(iter(found.values())) for mark in marks}  # as if all had one mark

    wire.receiving._manifests.buckets = alike  # type: ignore[method-assign]
    host.push(write(artifact, {"new": b"x"}), wire)
    assert wire.ops() == ["have", "entries", "entries", "blobs"]


def test_big_file_with_an_insertion_is_sent_as_a_difference(host: Host, artifact: Path) -> None:
    data = noise(8 * MEGABYTE)
    host.push(write(artifact, {"big": data}))
    assert len(host.lists()) == 1
    changed = data[: 3 * MEGABYTE] + noise(100_003, 2) + data[3 * MEGABYTE :]
    wire = host.push(write(artifact, {"big": changed}))
    assert wire.space is not None and wire.space[0] == len(changed), "space is for the whole file"
    assert wire.bytes < 1.2 * 100_003
    assert (host.root / "current" / "big").read_bytes() == changed


def test_differences_go_on_from_differences(host: Host, artifact: Path) -> None:
    data = bytearray(noise(4 * MEGABYTE))
    host.push(write(artifact, {"big": bytes(data)}))
    for turn in range(4):
        data[turn * 900_000 : turn * 900_000 + 1000] = noise(1000, turn)
        del data[2_000_000:2_000_777]
        wire = host.push(write(artifact, {"big": bytes(data)}))
        assert wire.content < 60_000
        assert (host.root / "current" / "big").read_bytes() == data


def test_file_with_another_version_in_its_name_is_a_base(host: Host, artifact: Path) -> None:
    host.push(write(artifact, {"app-1.9.2.bin": noise(2 * MEGABYTE)}))
    (artifact / "app-1.9.2.bin").unlink()
    wire = host.push(write(artifact, {"app-1.10.0.bin": noise(2 * MEGABYTE) + b"more"}))
    assert wire.content < 20_000


@pytest.mark.parametrize("content", [bytes(3 * MEGABYTE), b"ab" * MEGABYTE * 2, b"line\n" * MEGABYTE])
def test_file_that_repeats_itself_arrives_whole(host: Host, artifact: Path, content: bytes) -> None:
    changed = content[:1_000_000] + b"x" + content[1_000_000:]
    for sent in (content, changed):
        host.push(write(artifact, {"big": sent}))
        assert (host.root / "current" / "big").read_bytes() == sent


def test_without_pyfastcdc_files_go_whole(host: Host, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(2 * MEGABYTE)
    host.push(write(artifact, {"big": data}))
    monkeypatch.setitem(sys.modules, "pyfastcdc", None)
    assert not cuts.possible()
    wire = host.push(write(artifact, {"big": data + b"x"}))
    assert wire.content > 2 * MEGABYTE
    assert len(host.lists()) == 1


def test_file_cut_in_the_middle_goes_on_from_there(host: Host, artifact: Path) -> None:
    data = noise(8 * MEGABYTE)
    write(artifact, {"a": b"small", "big": data})
    with opened(artifact) as content:
        with pytest.raises(BrokenFrame):
            send(host.wire(cut=5 * MEGABYTE), content)
        (left,) = host.incoming()
        assert left.stat().st_size > 4 * MEGABYTE
        wire = host.wire()
        send(wire, content)
        host.stage(wire, content.manifest)
    assert wire.content < 4 * MEGABYTE
    assert wire.space is not None and wire.space[0] < 4 * MEGABYTE, "what is on the disk already needs no more room"
    assert host.incoming() == []
    assert len(host.lists()) == 1, "the next push has a base all the same"


def test_beginning_that_is_not_what_it_should_be_is_sent_anew(host: Host, artifact: Path) -> None:
    write(artifact, {"big": noise(4 * MEGABYTE)})
    with opened(artifact) as content:
        with pytest.raises(BrokenFrame):
            send(host.wire(cut=3 * MEGABYTE), content)
        (left,) = host.incoming()
        with left.open("r+b") as file:
            file.write(b"poison")
        wire = host.wire()
        send(wire, content)
        host.stage(wire, content.manifest)
    assert wire.ops() == ["have", "entries", "blobs", "blobs"]
    assert (host.root / "current" / "big").read_bytes() == noise(4 * MEGABYTE)


def test_base_that_the_app_wrote_into_is_no_base(host: Host, artifact: Path) -> None:
    data = noise(4 * MEGABYTE)
    host.push(write(artifact, {"big": data}))
    with (host.root / "current" / "big").open("r+b") as file:
        file.write(b"written in place")
    host.push(write(artifact, {"big": data + b"more"}))
    assert (host.root / "current" / "big").read_bytes() == data + b"more"


def test_base_that_changes_under_way_makes_no_wrong_file(host: Host, artifact: Path) -> None:
    data = noise(4 * MEGABYTE)
    host.push(write(artifact, {"big": data}))
    wire = host.wire()
    bases = wire.receiving._base

    def spoilt(index: int) -> Any:
        base = bases(index)
        if base is not None:
            base._starts = [0, *(start + 1 for start in base._starts[1:])]
        return base

    wire.receiving._base = spoilt  # type: ignore[method-assign]
    host.push(write(artifact, {"big": data + b"more"}), wire)
    assert wire.ops()[-2:] == ["blobs", "blobs"]


def test_small_files_that_arrived_count_after_a_break(host: Host, artifact: Path) -> None:
    write(artifact, {f"f{number:03}": noise(20_000, number) for number in range(200)})
    with opened(artifact) as content:
        with pytest.raises(BrokenFrame):
            send(host.wire(cut=2_000_000), content)
        wire = host.wire()
        send(wire, content)
    assert wire.content < 2_600_000


def test_file_that_shrinks_while_it_is_sent_is_an_error(host: Host, artifact: Path) -> None:
    write(artifact, {"a": b"x" * 100, "b": b"y" * 100})
    with opened(artifact) as content:
        (artifact / "b").write_bytes(b"short")
        with pytest.raises(GateError, match="changed while it was read"):
            send(host.wire(), content)


def test_finished_tells_the_bytes_of_the_link(host: Host, artifact: Path) -> None:
    events: list[dict[str, Any]] = []
    wire = host.wire()
    with opened(write(artifact, {"text": b"the same line again\n" * 20_000})) as content:
        send(wire, content, events)
    assert [event["event"] for event in events] == ["upload.finished"]
    assert events[0]["bytes_sent"] == wire.content < 40_000, "squeezed"
    assert 0 < wire.receiving.wire - wire.content < 50, "the host counts the headers too"


def test_progress_is_told_of_a_long_upload_and_fits_its_total(
    host: Host, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.rollout.upload.QUIET", 0.0)
    monkeypatch.setattr("deployer.rollout.upload.EVERY", 0.0)
    events: list[dict[str, Any]] = []
    size = 2 * MEGABYTE
    with opened(write(artifact, {"a": b"small", "big": noise(size)})) as content:
        send(host.wire(), content, events)
    told = [event for event in events if event["event"] == "upload.progress"]
    assert len(told) >= 8
    assert [event["bytes_sent"] for event in told] == sorted(event["bytes_sent"] for event in told)
    assert {event["bytes_total"] for event in told} == {size + 5} and told[-1]["bytes_sent"] == size + 5
    assert all(event["host"] == "web-1" and event["rate_bps"] > 0 for event in told)


def test_short_upload_shows_no_progress(host: Host, artifact: Path) -> None:
    events: list[dict[str, Any]] = []
    with opened(write(artifact, {"a": b"small"})) as content:
        send(host.wire(), content, events)
    assert [event["event"] for event in events] == ["upload.finished"]
