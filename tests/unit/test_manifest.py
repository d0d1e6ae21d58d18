from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from release_files import file

from deployer.manifest import Entry, Manifest, is_release_id, key, release_hash, release_id


def through_json(manifest: Manifest) -> Manifest:
    return Manifest.from_json(json.loads(json.dumps(manifest.to_json())))


def test_a_manifest_survives_the_wire_whatever_its_names_are() -> None:
    manifest = Manifest(
        [
            file("b/\udcff-not-utf8", b"1"),
            Entry("b", "d", 0o700),
            Entry("a\udc80", "l", 0o777, target="../\udcfe"),
            file("é ' \" \\ space", b"2", 0o600),
            file("empty", b""),
        ]
    )
    again = through_json(manifest)
    assert again == manifest
    assert again.digest == manifest.digest
    assert [entry.path for entry in again.entries] == sorted(entry.path for entry in manifest.entries)


def test_digest_follows_content_mode_and_target_but_not_order() -> None:
    one, other = file("a", b"1"), file("b", b"2")
    digest = Manifest([one, other]).digest
    assert Manifest([other, one]).digest == digest
    changed = [
        Manifest([replace(one, mode=0o755), other]),
        Manifest([file("a", b"3"), other]),
        Manifest([replace(one, path="c"), other]),
        Manifest([one, other, Entry("l", "l", 0o777, target="a")]),
        Manifest([one, other, Entry("l", "l", 0o777, target="b")]),
    ]
    assert len({digest, *(manifest.digest for manifest in changed)}) == 6


def test_totals_count_files_only() -> None:
    manifest = Manifest(
        [file("a", b"123"), Entry("d", "d", 0o755), Entry("l", "l", 0o777, target="a"), file("d/b", b"45")]
    )
    assert [entry.path for entry in manifest.files] == ["a", "d/b"]
    assert manifest.bytes_total == 5


BAD_PATHS = [
    "/etc/passwd",
    "..",
    "../a",
    "a/../b",
    "a/..",
    ".",
    "./a",
    "a/./b",
    "",
    "a//b",
    "a/",
    "a\0b",
    "a\nb",
    "a\x1b[2J",
    "\x9b",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(ValueError):
        Manifest.from_json([{**vars(file("good")), "path": path}])


@pytest.mark.parametrize("path", ["...", "..a", ".hidden", "a/..b/c", "a..b", "-rf", "~", "C:x", "a\\b"])
def test_an_odd_but_plain_path_is_taken(path: str) -> None:
    assert Manifest.from_json([vars(file(path))]).entries[0].path == path


@pytest.mark.parametrize(
    "change",
    [
        {"type": "x"},
        {"type": "d"},
        {"type": "l"},
        {"mode": 0o4755},
        {"mode": -1},
        {"mode": "644"},
        {"mode": True},
        {"size": -1},
        {"size": 1.0},
        {"size": None},
        {"sha256": "0" * 63},
        {"sha256": "Z" * 64},
        {"sha256": "0" * 64 + "\n"},
        {"sha256": ""},
        {"target": "x"},
        {"path": None},
        {"path": ["a"]},
        {"extra": 1},
        {"path": "\ud800"},
        {"path": "\udcc3\udca9"},  # "é" in another spelling: two entries, one file
    ],
)
def test_a_broken_entry_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Manifest.from_json([{**vars(file("a")), **change}])


@pytest.mark.parametrize("data", [None, {}, "[]", 1, [1], [[]], [None], [{}], [{"path": "a"}]])
def test_what_is_no_manifest_is_refused(data: object) -> None:
    with pytest.raises(ValueError):
        Manifest.from_json(data)


@pytest.mark.parametrize("target", ["", "a\0b", "x" * 5000, "\ud800"])
def test_a_link_without_a_proper_target_is_refused(target: str) -> None:
    with pytest.raises(ValueError):
        Manifest.from_json([vars(Entry("l", "l", 0o777, target=target))])


@pytest.mark.parametrize(
    "entries",
    [
        [file("a"), file("a", b"other")],
        [Entry("a", "l", 0o777, target="/etc"), file("a/b")],
        [Entry("a", "l", 0o777, target="/etc"), file("a/b/c/d")],
        [file("a"), file("a/b")],
        [file("a"), file("a-b"), file("a/b/c")],
        [Entry("x/a", "l", 0o777, target="/"), Entry("x/a/b", "d", 0o755)],
        [file("a", b"1"), replace(file("b", b"1"), size=7)],
    ],
)
def test_entries_that_contradict_each_other_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(ValueError):
        Manifest.from_json([vars(entry) for entry in entries])


def test_parents_need_not_be_listed() -> None:
    assert len(through_json(Manifest([file("a/b/c"), file("a/d")])).entries) == 2


def test_key_names_content_and_mode_without_setuid() -> None:
    entry = file("a", b"", 0o600)
    assert key(entry) == entry.sha256 + "-600"
    assert key(replace(entry, mode=0o4755)) == entry.sha256 + "-755"
    assert key(replace(entry, mode=0o007)) == entry.sha256 + "-007"


def test_release_hash_covers_content_and_settings_but_not_name_and_strategy() -> None:
    settings = {"app": "a", "strategy": "restart", "run": {"command": ["x"], "env": {"B": "1", "A": "2"}}}
    base = release_hash("d" * 64, settings)
    assert len(base) == 6 and int(base, 16) >= 0
    assert base == release_hash("d" * 64, {**settings, "app": "b", "strategy": "overlap"})
    assert base == release_hash("d" * 64, {"run": {"env": {"A": "2", "B": "1"}, "command": ["x"]}})
    assert base != release_hash("e" * 64, settings)
    assert base != release_hash("d" * 64, {**settings, "run": {"command": ["y"]}})


def test_release_id_is_in_utc_and_sorts_by_time() -> None:
    now = datetime(2026, 11, 21, 22, 15, tzinfo=timezone(timedelta(hours=2)))
    assert release_id(now, "9f3c1e") == "20261121T201500Z-9f3c1e"
    assert release_id(now, "ffffff") < release_id(now + timedelta(seconds=1), "000000")
    assert is_release_id("20261121T201500Z-9f3c1e")


@pytest.mark.parametrize("text", ["", ".", "..", ".x", "-x", "a/b", "a\n", "a b", "x" * 65, "é"])
def test_what_is_no_release_id_is_told(text: str) -> None:
    assert not is_release_id(text)
