"""Places among those who wait for the lock: the newer push sends the older ones away, never the other way round."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.errors import LockedError
from deployer.host.waiting import Place, waiting


def place(directory: Path, deploy: str, since: float, kind: str = "push") -> Place:
    return Place(directory, {"deploy": deploy, "kind": kind, "who": "ada", "since": since})


def test_only_what_was_asked_for_before_gives_way(tmp_path: Path) -> None:
    older, newer, rollback = place(tmp_path, "a", 1.0), place(tmp_path, "b", 2.0), place(tmp_path, "c", 0.5, "rollback")
    for one in (newer, rollback):
        one.take(supersede=False)
    older.take(supersede=True)
    newer.require_wanted()
    newer.take(supersede=True)
    rollback.require_wanted()
    with pytest.raises(LockedError, match="superseded by b"):
        older.require_wanted()
    assert [who["deploy"] for who in waiting(tmp_path)] == ["c", "b"]
    for one in (older, newer, rollback):
        one.leave()
    assert list(tmp_path.iterdir()) == []


def test_two_at_the_same_moment_do_not_send_each_other_away(tmp_path: Path) -> None:
    both = [place(tmp_path, name, 1.0) for name in ("a", "b")]
    for one in both:
        one.take(supersede=True)
    for one in both:
        one.take(supersede=True)
    both[1].require_wanted()
    with pytest.raises(LockedError):
        both[0].require_wanted()


def test_to_wait_needs_no_room_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = place(tmp_path / "file" / "waiting", "a", 1.0)
    one.take(supersede=True)
    one.require_wanted()
    one.leave()
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and waiting(tmp_path / "file") == []
