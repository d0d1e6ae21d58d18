"""What a process leaves: the snapshot for the next one, and what it says to whoever supervises it."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from living import Start

from app import wait_until

LEAVES = """
    life = Lifecycle(state=sys.argv[0] + ".json")
    say(life.previous and (life.previous["services"], life.previous["verdict"], life.previous["why"]))
    life.service("cache", lambda: {"keys": 3})
    life.service("broken", lambda: 1 / 0)
    life.run(lambda: None)
"""


def test_the_next_process_finds_what_the_last_one_left(program: Start):
    run = program(LEAVES, DEPLOYER_RELEASE="20261121T201500Z-9f3c1e")
    assert (
        run.ends() == 0
        and run.lines == ["None"]
        and 'service "broken" has no state to save: ZeroDivisionError' in run.err
    )
    file = run.root / "program.py.json"
    left = json.loads(file.read_text())
    assert {*left} == {"time", "pid", "release", "why", "verdict", "tasks", "services"}
    assert (left["pid"], left["release"], left["tasks"]) == (run.process.pid, "20261121T201500Z-9f3c1e", [])
    assert file.stat().st_mode & 0o777 == 0o600 and [*file.parent.glob("*.new")] == []
    again = program(LEAVES.replace("sys.argv[0]", repr(str(run.root / "program.py"))))
    assert again.ends() == 0
    assert (
        again.lines[0].startswith("({'cache': {'keys': 3}, 'broken': None}, 'drained, 0 lost in ")
        and "main returned" in again.lines[0]
    )


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100000], ids=["empty", "cut", "list", "bytes", "deep"]
)
def test_garbage_is_no_previous_and_is_said(tmp_path: Path, capfd, garbage):
    from deployer.lifecycle import Lifecycle

    (tmp_path / "state.json").write_bytes(garbage)
    assert Lifecycle(state=tmp_path / "state.json").previous is None
    assert "cannot be read, so `previous` is None" in capfd.readouterr().err


def test_the_snapshot_goes_to_the_state_directory_where_there_is_one(program: Start, tmp_path: Path):
    run = program("Lifecycle().run(lambda: None)", STATE_DIRECTORY=f"{tmp_path}:/elsewhere")
    assert run.ends() == 0 and json.loads((tmp_path / "lifecycle.json").read_text())["why"] == "main returned"


def test_a_full_disk_costs_the_snapshot_and_nothing_else(program: Start):
    run = program("""
        import resource
        sys.stdout = sys.stderr = open(os.devnull, "w")  # files here, which the limit concerns as well
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        life = Lifecycle(state=sys.argv[0] + ".json")
        life.cleanup(lambda: os.mkdir("cleaned"))
        life.run(lambda: None)
        os.mkdir("after")
    """)
    assert run.ends() == 0 and (run.root / "cleaned").exists() and (run.root / "after").exists()
    assert not (run.root / "program.py.json").exists() and [*run.root.glob("*.new")] == []


class Supervisor:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self.heard: list[str] = []

    def hears(self, start: str) -> str:
        return str(wait_until(lambda: next((line for line in self._all() if line.startswith(start)), None), what=start))

    def _all(self) -> list[str]:
        while True:
            try:
                self.heard.append(self._socket.recv(8192).decode())
            except BlockingIOError:
                return self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_supervisor_hears_ready_stopping_the_work_and_the_last_line(program: Start, tmp_path: Path, kind):
    address = str(tmp_path / "notify") if kind == "path" else f"@deployer-life-{os.getpid()}-{tmp_path.name}"
    supervisor = Supervisor(address)
    run = program(
        """
        life = Lifecycle()
        def work():
            with life.task("callClaude"):
                say("working"); life.say("half\\nway"); life.wait(); time.sleep(1.6)
        life.run(work)
        """,
        NOTIFY_SOCKET=address,
    )
    supervisor.hears("READY=1")
    run.says("working")
    run.signal(signal.SIGTERM)
    supervisor.hears("STOPPING=1")
    supervisor.hears("STATUS=draining: callClaude 1")  # seconds: it is said again while the drain lasts
    supervisor.hears("STATUS=drained, 0 lost in ")
    assert run.ends() == 0
    assert "STATUS=half way" in supervisor.heard and len(supervisor.heard) <= 8, supervisor.heard
    supervisor.close()


def test_a_supervisor_that_has_gone_is_ignored_and_ready_may_come_later(program: Start, tmp_path: Path):
    gone = program("say('code', Lifecycle().run(lambda: None))", NOTIFY_SOCKET=str(tmp_path / "nobody"))
    assert gone.ends() == 0 and gone.lines == ["code 0"]
    supervisor = Supervisor(str(tmp_path / "notify"))
    run = program(
        """
        life = Lifecycle(starting=True, node=Node())
        def main():
            say(life.facts()["status"]); life.ready(); life.ready(); say(life.facts()["status"], life.facts()["busy"])
        life.run(main)
        """,
        NOTIFY_SOCKET=str(tmp_path / "notify"),
    )
    supervisor.hears("READY=1")
    assert run.ends() == 0 and run.lines[:3] == ["starting", "node start", "ok 0"]
    assert supervisor.heard.count("READY=1") == 1
    supervisor.close()


def test_a_rehearsal_is_not_registered(program: Start):
    run = program("Lifecycle(node=Node()).run(lambda: say('main'))", DEPLOYER_REHEARSAL="1")
    assert run.ends() == 0 and run.lines == ["main"]


def test_a_blocked_loop_is_stuck_and_not_idle(program: Start):
    run = program("""
        life = Lifecycle()
        def look():
            say("free", life.facts()["stuck"])
            go.set(); time.sleep(0.3); life.facts(); time.sleep(0.3)
            say("blocked", 0.2 < life.facts()["stuck"] < 30, life.facts()["busy"])
            go.clear()
            while life.facts()["stuck"]: time.sleep(0.02)
            say("free again")
        go = threading.Event()
        async def main():
            thread = threading.Thread(target=look); thread.start()
            say("own", life.facts()["stuck"])
            while not go.is_set(): await asyncio.sleep(0.01)
            while go.is_set(): time.sleep(0.01)
            while thread.is_alive(): await asyncio.sleep(0.01)
        asyncio.run(life.serve(main=main()))
    """)
    assert run.ends() == 0 and sorted(run.lines) == ["blocked True 0", "free None", "free again", "own None"], run.err
