"""The marks on nodes, on disk: they survive a restart of the registry. One thread of its own waits for the disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deployer.errors import PreflightError
from deployer.registry.node import Mark

PATIENCE = 5.0
"""Seconds for the disk to take a mark."""
_TABLE = "CREATE TABLE IF NOT EXISTS marks (node TEXT PRIMARY KEY, by TEXT, since REAL, scope TEXT, instance TEXT)"


class NotWritten(Exception):
    """The disk did not take the change: nothing has changed."""


class Marks:
    """
    The file at *path*, which belongs to one registry at a time; None keeps nothing.

    Raises PreflightError when it cannot be opened, or another registry has it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "marks")
        self._file: sqlite3.Connection | None = None
        if path is not None:
            self._file = self._thread.submit(_open, path).result()

    def all(self) -> dict[str, Mark]:
        file = self._file
        if file is None:
            return {}
        try:
            rows = self._thread.submit(
                lambda: list(file.execute("SELECT node, by, since, scope, instance FROM marks"))
            ).result()
        except sqlite3.Error as error:
            raise _unusable(self._path, str(error)) from None
        return {node: Mark(by, since, scope, instance) for node, by, since, scope, instance in rows}

    async def put(self, node: str, mark: Mark) -> None:
        """Raises NotWritten, and then nothing has changed."""
        row = (node, mark.by, mark.since, mark.scope, mark.instance)
        await self._write("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?)", row)

    async def drop(self, node: str, mark: Mark | None = None) -> None:
        """Forget the mark of *node*; with *mark* only that one, and none that was made since."""
        if mark is None:
            await self._write("DELETE FROM marks WHERE node = ?", (node,))
        else:
            await self._write("DELETE FROM marks WHERE node = ? AND since = ?", (node, mark.since))

    def close(self) -> None:
        file = self._file
        if file is not None:
            self._thread.submit(file.close)
        self._thread.shutdown(wait=False)

    async def _write(self, statement: str, row: tuple[object, ...]) -> None:
        if self._file is None:
            return
        step = _Step(self._file, statement, row)
        running = asyncio.get_running_loop().run_in_executor(self._thread, step.run)
        done, _ = await asyncio.wait({running}, timeout=PATIENCE)
        if not done and step.give_up():
            raise NotWritten(f"the disk did not answer within {PATIENCE:g}s")
        try:
            await running
        except sqlite3.Error as error:
            raise NotWritten(str(error)) from None


class _Step:
    """One change, which its asker may give up before it is committed, and never after."""

    def __init__(self, file: sqlite3.Connection, statement: str, row: tuple[object, ...]) -> None:
        self._file, self._statement, self._row = file, statement, row
        self._fate: list[str] = []  # the first word in it counts; append is atomic

    def give_up(self) -> bool:
        self._fate.append("given up")
        return self._fate[0] == "given up"

    def run(self) -> None:
        try:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.execute(self._statement, self._row)
            self._fate.append("committed")
            self._file.execute("COMMIT" if self._fate[0] == "committed" else "ROLLBACK")
        finally:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        file = sqlite3.connect(path, timeout=0, isolation_level=None)
        # Exclusive: the lock lives as long as we do, and the kernel takes it back from a registry that was killed.
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.execute("BEGIN IMMEDIATE")
        file.execute(_TABLE)
        file.execute("COMMIT")
        return file
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise PreflightError(
                f"another registry has {path}", cause="a state file belongs to one registry at a time",
                state="it goes on; this one has not started", hint="stop the other one, or give this one a --state of its own",
            ) from None  # fmt: skip
        raise _unusable(path, str(error)) from None
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, str(error)) from None


def _unusable(path: Path | None, why: str) -> PreflightError:
    return PreflightError(
        f"the state file {path} cannot be used", cause=why, state="the registry has not started",
        hint="make it writable, move it away if it is damaged, or give another --state",
    )  # fmt: skip
