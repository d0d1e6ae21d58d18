"""The deploy lock: held by whoever inherited it, told by name, and never lost to a mere look."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from deployer.errors import LockedError
from deployer.host import lock


def test_lock_outlives_who_took_it_in_those_who_inherited_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = lock.DeployLock(path)
    held.acquire({"deploy": "d1", "pid": os.getpid()}, 0)
    heir = subprocess.Popen(["sleep", "30"], pass_fds=[held._fd])
    held.release()
    assert not lock.free(path)
    heir.kill()
    heir.wait()
    assert lock.free(path)


def test_waiting_ends_when_the_client_closes(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = lock.DeployLock(path)
    held.acquire({"deploy": "d1", "kind": "push", "who": "me", "pid": os.getpid()}, 0)
    reader, writer = os.pipe()
    os.close(writer)
    began = time.monotonic()
    with pytest.raises(LockedError, match="another deploy is under way") as caught:
        lock.DeployLock(path).acquire({}, 60, reader)
    assert time.monotonic() - began < 30
    assert "push d1 by me" in str(caught.value.cause)
    held.release()
    os.close(reader)


def test_somebody_who_only_looks_does_not_keep_an_impatient_caller_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    looker = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(looker, fcntl.LOCK_SH)
    threading.Timer(0.05, os.close, [looker]).start()
    mine = lock.DeployLock(path)
    mine.acquire({"deploy": "d1", "pid": os.getpid()}, 0)
    assert not lock.free(path)
    mine.release()


def test_holder_that_has_not_written_its_name_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    gone = subprocess.Popen(["true"])
    gone.wait()
    held = lock.DeployLock(path)
    held.acquire({"deploy": "the last one", "kind": "push", "who": "me", "pid": gone.pid}, 0)
    now = {"deploy": "this one", "kind": "push", "who": "you", "pid": os.getpid()}
    threading.Timer(lock.LOOK_TAKES + 0.1, held.write, [now]).start()
    with pytest.raises(LockedError) as caught:
        lock.DeployLock(path).acquire({}, 0)
    assert "push this one by you" in str(caught.value.cause)
    held.release()


def test_who_was_waited_for_is_known_and_is_never_one_who_has_gone_or_ourselves(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid, behind in ((os.getppid(), "theirs"), (gone.pid, None), (os.getpid(), None)):
        held = lock.DeployLock(path)
        held.acquire({"deploy": "theirs", "pid": pid}, 0)
        threading.Timer(0.1, held.release).start()
        mine = lock.DeployLock(path)
        mine.acquire({"deploy": "mine", "pid": os.getpid()}, 10)
        assert mine.behind.get("deploy") == behind
        mine.release()
