"""
A cache of what the store's blobs looked like when their content was last proven: size, mtime, inode.

It answers "has anybody written into this blob?" for 5,000 blobs in milliseconds. It may vanish at any time; then
blobs are hashed again. No connection is kept: the agent forks, and an SQLite connection must not cross a fork.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Dict, Iterable, Tuple

Look = Tuple[int, int, int]  # size, mtime_ns, inode

_TABLE = "create table if not exists blob (key text primary key, size int, mtime_ns int, inode int) without rowid"


def look(status: os.stat_result) -> Look:
    return status.st_size, status.st_mtime_ns, status.st_ino


class BlobIndex:
    """
    The looks of proven blobs in one SQLite file. A damaged file is made anew; a full disk only makes the next push
    slower.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> Dict[str, Look]:
        try:
            with closing(self._connect()) as db:
                return {row[0]: (row[1], row[2], row[3]) for row in db.execute("select * from blob")}
        except sqlite3.Error:
            self._forget()
            return {}

    def save(self, added: Dict[str, Look], removed: Iterable[str] = ()) -> None:
        """Only for blobs whose bytes are on the disk: a row says that a power cut cannot have torn them."""
        try:
            with closing(self._connect()) as db, db:
                db.executemany("delete from blob where key = ?", [(key,) for key in removed])
                db.executemany(
                    "insert or replace into blob values (?, ?, ?, ?)", [(k, *seen) for k, seen in added.items()]
                )
        except sqlite3.Error:
            self._forget()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=5)
        try:
            os.chmod(self._path, 0o600)
            db.execute("pragma synchronous = normal")
            db.execute(_TABLE)
        except (sqlite3.Error, OSError) as error:
            db.close()
            raise sqlite3.OperationalError(str(error)) from error
        return db

    def _forget(self) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            try:
                os.unlink(self._path + suffix)
            except OSError:
                pass
