"""
The disk of the simulated host: a real SQLite database in memory, marks, and the releases with `current`.

What was written survives every death and a reboot (marks are files). A full disk refuses every write for a while.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployer.errors import PreflightError
from deployer.host.paths import HostPaths
from deployer.host.releases import Releases
from deployer.host.state import _SCHEMA, Row, State

PATHS = HostPaths(Path("/simulated"))
TABLES = ("meta", "releases", "deploys", "journal", "events", "instances", "drains", "signals")
Effect = Callable[[str, Sequence[Any]], None]


@functools.cache
def _connection() -> sqlite3.Connection:
    """One for every world in turn: its prepared statements are half of what a schedule costs."""
    made = sqlite3.connect(":memory:", isolation_level=None, cached_statements=400, check_same_thread=False)
    made.executescript(_SCHEMA)
    made.row_factory = sqlite3.Row
    return made


@dataclass(eq=False)
class Disk:
    db: sqlite3.Connection = field(default_factory=_connection)
    marks: set[str] = field(default_factory=set)
    releases: set[str] = field(default_factory=set)
    current: str | None = None
    links: set[str | None] = field(default_factory=set)
    refuses: int = 0
    """How many more writes it refuses."""
    refused: int = 0
    marks_refused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.roll_back()
        for table in TABLES:
            self.db.execute(f"DELETE FROM {table}")

    def write(self) -> bool:
        """Whether there is room for one more write."""
        if self.refuses <= 0:
            return True
        self.refuses -= 1
        self.refused += 1
        return False

    def roll_back(self) -> None:
        """What SQLite does with the open transaction of a process that has died."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """For the judge: no effect, seen by nobody."""
        return [dict(row) for row in self.db.execute(sql, values)]


class SimState(State):
    """A process's connection to state.db. *effect* is called before everything that would be on the disk afterwards."""

    def __init__(self, disk: Disk, effect: Effect, must_live: Callable[[], None], note: Effect) -> None:
        self.path = PATHS.state
        self._note = note
        self._disk = disk
        self._db = disk.db
        self._effect = effect
        self._must_live = must_live

    def mark(self, name: str) -> None:
        self._effect("mark", (name,))
        if not self._disk.write():
            self._disk.marks_refused.add(name)
            raise OSError(28, "No space left on device")
        self._disk.marks.add(name)

    def marked(self, name: str) -> bool:
        self._must_live()
        return name in self._disk.marks

    def unmark(self, name: str) -> None:
        self._effect("unmark", (name,))
        self._disk.marks.discard(name)

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        if sql.startswith("SELECT") or sql in ("BEGIN IMMEDIATE", "ROLLBACK"):
            self._must_live()
        elif self._db.in_transaction and sql != "COMMIT":
            self._must_live()
            self._note(sql, values)  # nothing is on the disk before the COMMIT
        else:
            self._effect(sql, values)
            if not self._disk.write():
                raise self._full()
        return super()._run(sql, values)

    def _full(self) -> PreflightError:
        return PreflightError(f"{self.path} refused: database or disk is full", cause="the disk is full")


class SimReleases(Releases):
    """The releases and `current`, each change an effect; whole or not at all, as the real ones promise."""

    def __init__(self, disk: Disk, effect: Effect) -> None:
        super().__init__(PATHS.root)
        self._disk = disk
        self._effect = effect

    def lay_out(self, release: str) -> None:
        self._change("stage files", release)
        self._disk.releases.add(release)

    def prepare_flip(self, release_id: str) -> None:
        self._change("prepare a flip", release_id)
        self._disk.links = {self._disk.current, release_id}

    def forget_way_back(self) -> None:
        self._disk.links = set()

    def flip(self, release_id: str) -> None:
        if release_id in self._disk.links:
            self._effect("flip current", (release_id,))  # a rename of what was made before: a full disk lets it pass
        else:
            self._change("flip current", release_id)
            self._disk.links = {self._disk.current, release_id}
        assert release_id in self._disk.releases
        self._disk.current = release_id

    def unset(self) -> None:
        self._change("unset current")
        self._disk.current = None

    def there(self, release_id: str) -> bool:
        return release_id in self._disk.releases

    def current(self) -> str | None:
        return self._disk.current

    def remove(self, release_id: str) -> None:
        assert release_id != self._disk.current, "the current release was to be removed"
        self._effect("remove files", (release_id,))  # a full disk lets files go
        self._disk.releases.discard(release_id)

    def prune(self, keep: int, protected: Collection[str], order: Sequence[str]) -> list[str]:
        return []

    def _change(self, what: str, *values: str) -> None:
        self._effect(what, values)
        if not self._disk.write():
            raise PreflightError(f"could not {what}", cause="No space left on device")
