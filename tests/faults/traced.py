"""
A part of the engine whose N-th system call of a kind fails: strace injects the error, the code is the shipped one.

The agent is started under strace by an engine whose link does that (a copy: nothing of it is in the shipped code), and the runner
that it forks is followed; the runner alone is attached to while its install waits for us; the keeper at any time.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from disks import all_well, missing, told_clearly

from app import App, Result, wait_until
from evidence import faults, running
from victims import keeper, runners, unfinished

CALLS = {"fsync": "fsync,fdatasync,syncfs", "rename": "rename,renameat,renameat2"}
ROLES = ("agent", "runner", "keeper")
ENDS_WITHIN = 50.0

WRAP = """

import os as _os

_Popen = subprocess.Popen


class _Traced(_Popen):  # type: ignore[type-arg]
    def __init__(self, argv, **more):
        with_strace = _os.environ.get("TRACED_AGENT", "").split()
        super().__init__([*with_strace, *argv], **more)


subprocess = type(subprocess)("subprocess")
subprocess.__dict__.update(_os.sys.modules["subprocess"].__dict__, Popen=_Traced)
"""


def traceable(engine: Path) -> None:
    """Make the link of the copied *engine* start its agent below whatever TRACED_AGENT says."""
    with open(engine / "deployer" / "link" / "local.py", "a") as file:
        file.write(WRAP)
    compileall.compile_dir(engine, quiet=2)


def require_strace() -> None:
    """Skip where strace cannot trace, fail where every part must be there."""
    if shutil.which("strace") is None:
        missing("strace is not installed")
    tried = subprocess.run(["strace", "-qq", "-o", os.devnull, sys.executable, "-S", "-c", ""], capture_output=True)
    if tried.returncode != 0:
        missing(f"strace may not trace here: {tried.stderr.decode().strip()}")


@dataclass
class Made:
    """What one push with one failing call has shown. `reached` is False when the part made fewer such calls."""

    role: str
    call: str
    number: int
    broken: bool = False
    reached: bool = False
    code: int | None = None
    serves: str = ""
    problems: list[str] = field(default_factory=list)


def run(app: App, role: str, call: str, number: int) -> Made:
    """Push another release while the *number*-th *call* of *role* fails with EIO; then what must be true, and another push."""
    made = Made(role, call, number)
    before = running(app)
    app.release(os.urandom(8).hex())
    (app.dist / "more").write_bytes(os.urandom(5000))
    with tempfile.NamedTemporaryFile("r", suffix=".strace") as told:
        result = _push(app, role, _strace(call, number, told.name), told.name)
        made.reached = "INJECTED" in Path(told.name).read_text()
    made.code = result.code
    try:
        _judge(app, made, result, before)
    except AssertionError as error:
        made.problems.append(f"{error}\n{result.out[-1500:]}{result.err[-1500:]}\n{app.engine_log()[-2000:]}")
    return made


def _strace(call: str, number: int, told: str) -> list[str]:
    fails = f"inject={CALLS[call]}:error=EIO:when={number}"
    return ["strace", "-f", "-qq", "-o", told, "-e", f"trace={CALLS[call]}", "-e", fails]


def _push(app: App, role: str, strace: list[str], told: str) -> Result:
    if role == "agent":
        app.env["TRACED_AGENT"] = " ".join([*strace, "-D"])  # the agent stays the client's child
        try:
            return _ended(app.start("push", "--json"))
        finally:
            del app.env["TRACED_AGENT"]
    if role == "keeper":
        with _attached(strace, keeper(app)):
            return _ended(app.start("push", "--json"))
    waiting, go = app.root / "waiting", app.root / "go"
    for file in (waiting, go):
        file.unlink(missing_ok=True)
    app.configure(args=[], install=f'command = "touch {waiting}; until test -e {go}; do sleep 0.01; done"')
    pushing = app.start("push", "--json")
    wait_until(waiting.exists, what="the runner runs the install")
    # Not where it has stopped: strace loses threads that a SIGCONT wakes while it attaches.
    with _attached(strace, runners(app)[0]):
        go.touch()
        result = _ended(pushing)
    app.configure(args=[])
    return result


def _ended(pushing: subprocess.Popen[str]) -> Result:
    out, err = pushing.communicate(timeout=ENDS_WITHIN)
    return Result(pushing.returncode, out, err, 0)


@contextmanager
def _attached(strace: list[str], pid: int) -> Iterator[None]:
    tracer = subprocess.Popen([*strace, "-p", str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _traces(tracer.pid, pid) or tracer.poll() is not None, what="strace is attached")
        assert tracer.poll() is None, "strace could not attach"
        yield
    finally:
        if tracer.poll() is None:
            tracer.terminate()  # it lets go of whom it traces
        try:
            tracer.wait(10)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()


def _traces(tracer: int, pid: int) -> bool:
    """Whether *tracer* has every thread of *pid*."""
    tasks = [f"/proc/{pid}/task/{task}/status" for task in os.listdir(f"/proc/{pid}/task")]
    waits = Path(f"/proc/{tracer}/wchan").read_text() == "do_wait"
    return waits and all(f"TracerPid:\t{tracer}\n" in Path(task).read_text() for task in tasks)


def _judge(app: App, made: Made, result: Result, before: dict[str, object]) -> None:
    assert faults(result) == []
    told_clearly(result)
    wait_until(lambda: not unfinished(app), within=40, what="the deploy is ended")
    health = wait_until(app.get, what="the service serves")
    made.serves = "old" if health["release"] == before["release"] else "new"
    assert made.code in {"new": (0, 130), "old": (1, 6, 7, 130)}[made.serves], f"exit {made.code}, {made.serves} serves"
    if made.code in (6, 7):
        assert health["pid"] == before["pid"], "the old process was said to be untouched"
    all_well(app)
    app.release(os.urandom(8).hex())
    app.push()
    all_well(app)
