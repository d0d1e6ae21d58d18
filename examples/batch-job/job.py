"""Counts the words of text files: `python job.py FILE...`. With --ray the counting runs as Ray tasks, on the cluster it finds."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections import Counter
from pathlib import Path

from deployer.jobs import JobError, LocalEnvironment

Counts = tuple[str, dict[str, int]]


class Store:
    """A table of words, written down when the job is over."""

    def __init__(self, path: str) -> None:
        # Steps and clean-up come from several threads; the sink is the only one that writes.
        self.connection = sqlite3.connect(path, check_same_thread=False)
        self.connection.execute("CREATE TABLE IF NOT EXISTS words (file TEXT, word TEXT, count INTEGER)")

    def add(self, counts: Counts) -> None:
        file, words = counts
        self.connection.executemany("INSERT INTO words VALUES (?, ?, ?)", [(file, *each) for each in words.items()])

    def cleanup(self) -> None:
        self.connection.commit()
        self.connection.close()


def count(file: str) -> Counts:
    return file, Counter(re.findall(r"\w+", Path(file).read_text(errors="replace").lower()))


def main(arguments: list[str]) -> int:
    files = [each for each in arguments if each != "--ray"]
    env = LocalEnvironment("words", ray="auto" if "--ray" in arguments else None)
    env.register_service("store", Store, ("words.db",), cleanup_timeout="30s")
    store = env.service("store")
    env.from_batch(files).map(count).sink(lambda counts: store.add(counts))
    try:
        print(env.submit())
    except JobError as failed:
        print(failed.report)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
