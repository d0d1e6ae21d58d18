"""
state.db: the truth after a crash. One SQLite file in WAL mode, written by the agent, the runner and the keeper.

Intents are committed with `synchronous=FULL` before the act they announce. Nothing secret is ever stored here.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from deployer.errors import PreflightError
from deployer.host import disk

SCHEMA_VERSION = 1
RESERVED = 1 << 20
"""Bytes taken ahead for what a deploy writes down: several times what one needs."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS releases (
  id TEXT PRIMARY KEY, hash TEXT, state TEXT, created_at REAL, files INTEGER, bytes INTEGER, settings TEXT);
CREATE TABLE IF NOT EXISTS deploys (
  id TEXT PRIMARY KEY, kind TEXT, who TEXT, started_at REAL, ended_at REAL, status TEXT, exit_code INTEGER,
  release TEXT, previous TEXT, step TEXT, request TEXT, result TEXT);
CREATE TABLE IF NOT EXISTS journal (
  deploy TEXT, seq INTEGER, step TEXT, phase TEXT, data TEXT, at REAL, PRIMARY KEY (deploy, seq));
CREATE TABLE IF NOT EXISTS events (deploy TEXT, seq INTEGER, event TEXT, PRIMARY KEY (deploy, seq));
CREATE TABLE IF NOT EXISTS instances (
  id TEXT PRIMARY KEY, release TEXT, spec TEXT, pid INTEGER, start INTEGER, boot TEXT, state TEXT, created_at REAL,
  started_at REAL, ended_at REAL, exit_code INTEGER, log_offset INTEGER, confirmed INTEGER DEFAULT 0,
  adopted INTEGER DEFAULT 0, deploy TEXT, error TEXT, crashes INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS drains (
  instance TEXT PRIMARY KEY, deploy TEXT, who TEXT, asked_at REAL, asked_mono REAL, deadline_mono REAL, boot TEXT, signal TEXT,
  signal_to TEXT, ceiling REAL, forced INTEGER DEFAULT 0, verdict TEXT);
CREATE TABLE IF NOT EXISTS signals (
  instance TEXT, pid INTEGER, start INTEGER, signal TEXT, intended_at REAL, sent_at REAL,
  PRIMARY KEY (instance, pid, start, signal));
"""

Row = Dict[str, Any]


class State:
    """
    One process's connection to state.db. Not shared between threads or over a fork.

    Raises PreflightError when the file is damaged, was written by a newer deployer, or the disk refuses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _require_not_emptied(path)
        try:
            self._db = sqlite3.connect(str(path), timeout=10.0, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._open()
        except sqlite3.Error as error:
            raise _broken(path, error) from error

    def close(self) -> None:
        self._db.close()

    def reserve(self) -> bool:
        """
        Whether a deploy can be written down to its end from now on, even if somebody fills the disk meanwhile.

        Nobody else can take that space: it belongs to SQLite's own log. For who keeps this connection: the last one that
        closes gives it back.
        """
        self.meta("app")  # there is no log before the first look
        return disk.reserve(f"{self.path}-wal", RESERVED)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, on disk when the block ends."""
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled it back already
                self._run("ROLLBACK")
            raise

    def rows(self, sql: str, *values: Any) -> List[Row]:
        return self._run(sql, values)

    def row(self, sql: str, *values: Any) -> Optional[Row]:
        found = self._run(sql, values)
        return found[0] if found else None

    def execute(self, sql: str, *values: Any) -> None:
        self._run(sql, values)

    def insert(self, table: str, **columns: Any) -> None:
        """Add one row; dicts and lists are stored as JSON."""
        self._write("INSERT", table, columns)

    def replace(self, table: str, **columns: Any) -> None:
        """Add one row, or put it in the place of the one with the same key."""
        self._write("INSERT OR REPLACE", table, columns)

    def update(self, table: str, key: str, **columns: Any) -> None:
        """Change columns of the row whose primary key (first column) is *key*."""
        name = {"releases": "id", "deploys": "id", "instances": "id", "drains": "instance"}[table]
        sets = ", ".join(f"{column}=?" for column in columns)
        self._run(f"UPDATE {table} SET {sets} WHERE {name}=?", [*_plain(columns.values()), key])

    def meta(self, key: str) -> Optional[str]:
        found = self.row("SELECT value FROM meta WHERE key=?", key)
        return found["value"] if found else None

    def set_meta(self, key: str, value: Optional[str]) -> None:
        if value is None:
            self.execute("DELETE FROM meta WHERE key=?", key)
        else:
            self.replace("meta", key=key, value=value)

    # Marks: facts about living processes, which need not outlive a power cut. A row takes milliseconds from the moment it can
    # be read to the moment its writer goes on (fsync); a mark stands microseconds before the act that it announces.

    def mark(self, name: str) -> None:
        """Set the mark *name*."""
        os.close(os.open(self._mark(name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def marked(self, name: str) -> bool:
        return os.path.exists(self._mark(name))

    def unmark(self, name: str) -> None:
        """Take the mark *name* away, where it is set."""
        try:
            os.unlink(self._mark(name))
        except OSError:
            pass

    def _mark(self, name: str) -> str:
        return f"{self.path.parent}/mark-{name}"

    def _open(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise _newer(self.path, version)
        self._use_wal()
        self._db.execute("PRAGMA synchronous=FULL")
        if version < SCHEMA_VERSION:
            self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")

    def _use_wal(self, within: float = 10.0) -> None:
        # Two that open a new file at once: the loser is told "locked" at once, whatever the timeout.
        deadline = time.monotonic() + within
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _write(self, verb: str, table: str, columns: Dict[str, Any]) -> None:
        marks = ",".join("?" * len(columns))
        self._run(f"{verb} INTO {table} ({','.join(columns)}) VALUES ({marks})", _plain(columns.values()))

    def _run(self, sql: str, values: Sequence[Any] = ()) -> List[Row]:
        try:
            return [dict(row) for row in self._db.execute(sql, values)]
        except sqlite3.Error as error:
            raise _refused(self.path, error) from error


@contextmanager
def opened(path: Path) -> Iterator[Optional[State]]:
    """The record at *path* for the length of a block; None where nothing was recorded yet. Raises as `State`."""
    state = State(path) if path.exists() else None
    try:
        yield state
    finally:
        if state is not None:
            state.close()


def _plain(values: Any) -> Sequence[Any]:
    return [json.dumps(value) if isinstance(value, (dict, list, tuple)) else value for value in values]


def _require_not_emptied(path: Path, within: float = 0.5) -> None:
    """
    Raise PreflightError for a file without content where there was a record: SQLite would begin a new one, unasked.

    One that somebody makes at this moment is empty for milliseconds.
    """
    deadline = time.monotonic() + within
    while _size(path) == 0 and (os.path.lexists(path.parent.parent / "current") or _size(Path(f"{path}-wal"))):
        if time.monotonic() > deadline:
            raise _broken(path, "it is empty")
        time.sleep(0.01)


def _size(path: Path) -> Optional[int]:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _broken(path: Path, error: object) -> PreflightError:
    return PreflightError(
        f"{path} cannot be read: {error}",
        cause="the record of releases and deploys is damaged, or the disk refuses it",
        state="nothing was changed; the running service was not touched",
        hint=f"check the disk (df -h {path.parent}; dmesg); if the file is damaged, put it aside with all its parts "
        f"(mkdir {path.parent}/broken && mv {path}* {path.parent}/broken/), then push with [adopt] for the service that runs",
    )


def _refused(path: Path, error: sqlite3.Error) -> PreflightError:
    return PreflightError(
        f"{path} refused: {error}",
        cause="the record of releases and deploys is damaged, or the disk is full, read-only or broken",
        state="the process that serves runs on",
        hint=f"look at the disk of this host (df -h {path.parent}; df -i; dmesg), then call `deployer status`",
    )


def _newer(path: Path, version: int) -> PreflightError:
    return PreflightError(
        f"{path} was written by a newer deployer (schema {version}, this one knows {SCHEMA_VERSION})",
        state="nothing was changed",
        hint="upgrade deployer where you called it",
    )
