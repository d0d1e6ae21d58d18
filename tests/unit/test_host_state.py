"""state.db: all or nothing, and an error for a person when the file cannot be used."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from deployer.errors import PreflightError
from deployer.host.state import RESERVED, SCHEMA_VERSION, State


def test_what_is_written_is_there_for_the_next_one(tmp_path: Path) -> None:
    State(tmp_path / "state.db").set_meta("desired", "one")
    assert State(tmp_path / "state.db").meta("desired") == "one"


def test_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with pytest.raises(KeyError), state.transaction():
        state.set_meta("a", "1")
        raise KeyError
    assert state.meta("a") is None
    with state.transaction():
        state.set_meta("a", "2")
    assert state.meta("a") == "2"


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(content)
    with pytest.raises(PreflightError, match=r"state\.db") as caught:
        State(path)
    assert path.read_bytes() == content
    assert caught.value.hint and str(path) in caught.value.hint


def test_damage_that_shows_later_is_an_error_for_a_person_too(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with pytest.raises(PreflightError, match="no such table"):
        state.rows("SELECT * FROM lost")
    with pytest.raises(PreflightError), state.transaction():
        state.set_meta("a", "1")
        state.execute("INSERT INTO lost VALUES (1)")
    assert state.meta("a") is None


def test_full_disk_is_an_error_for_a_person_and_costs_nothing_that_was_written(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    state.set_meta("a", "1")
    pages = state.row("PRAGMA page_count")
    assert pages is not None
    state.rows(f"PRAGMA max_page_count={pages['page_count']}")
    with pytest.raises(PreflightError, match="full"), state.transaction():
        state.set_meta("b", "x" * 200_000)
    state.set_meta("a", "2")
    assert (state.meta("a"), state.meta("b")) == ("2", None)


def test_file_of_a_newer_deployer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    State(path).close()
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(PreflightError, match="newer deployer"):
        State(path)


def test_many_may_make_the_file_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def make() -> None:
        try:
            State(tmp_path / "state.db").set_meta("a", "1")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_mark_holds_until_it_is_taken_away(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    state.mark("here")
    assert State(tmp_path / "state.db").marked("here") and not state.marked("there")
    state.unmark("here")
    state.unmark("here")
    assert not state.marked("here")


def test_space_taken_ahead_is_used_for_what_is_written_and_changes_nothing_else(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    log = tmp_path / "state.db-wal"
    if not state.reserve():
        pytest.skip("this file system cannot take space ahead")
    size, blocks = log.stat().st_size, log.stat().st_blocks
    assert blocks * 512 >= RESERVED
    for number in range(20):
        state.set_meta("a", f"{number}" * 1000)
    assert log.stat().st_size > size and log.stat().st_blocks == blocks
    assert State(tmp_path / "state.db").meta("a") == "19" * 1000


def test_emptied_file_is_damaged_where_there_was_a_record_and_new_where_there_was_none(tmp_path: Path) -> None:
    path = tmp_path / ".deployer" / "state.db"
    path.parent.mkdir()
    path.touch()
    State(path).close()
    path.write_bytes(b"")
    (tmp_path / "current").symlink_to("releases/gone")
    with pytest.raises(PreflightError, match="it is empty"):
        State(path)
    assert path.read_bytes() == b""
    path.unlink()  # put aside by a person: a new one may be begun
    State(path).close()
