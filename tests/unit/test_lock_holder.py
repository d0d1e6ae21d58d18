"""What the lock file says of its holder, while the holder says it anew."""

from __future__ import annotations

import threading
from pathlib import Path

from deployer.host import lock


def test_reader_never_finds_the_holder_unnamed(tmp_path: Path) -> None:
    holding, done = lock.DeployLock(tmp_path / "lock"), threading.Event()
    holding.acquire({"deploy": "d1", "pid": 1}, 0)

    def rewrite() -> None:
        for pid in range(3000):
            holding.write({"deploy": "d1", "pid": 10 ** (pid % 9)})
        done.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    found = {lock.holder(tmp_path / "lock").get("deploy") for _ in iter(done.is_set, True)}
    writer.join()
    holding.release()
    assert found <= {"d1"}


def test_shorter_text_leaves_nothing_of_the_longer_one(tmp_path: Path) -> None:
    holding = lock.DeployLock(tmp_path / "lock")
    holding.acquire({"deploy": "a deploy with a long name", "who": "somebody"}, 0)
    holding.write({"deploy": "d2"})
    assert lock.holder(tmp_path / "lock") == {"deploy": "d2"}
    holding.release()
