"""The command line as a process: what it imports, a reader that leaves, Ctrl-C, a terminal."""

from __future__ import annotations

import os
import pty
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ENV = {**os.environ, "PYTHONPATH": f"{HERE.parents[1] / 'src'}{os.pathsep}{HERE}", "TERM": "xterm", "NO_COLOR": ""}

PLAYED = """
import sys, time, pytest
import cli_fakes as fakes
world = fakes.World()
def play(emit):
    {play}
world.play = play
world.install(pytest.MonkeyPatch())
from deployer.cli.app import run
run(sys.argv[1:])
"""


def played(play: str, *argv: str) -> list[str]:
    return [sys.executable, "-c", PLAYED.format(play=play.strip().replace("\n", "\n    ")), *argv]


def test_start_imports_nothing_heavy() -> None:
    code = "import sys, deployer.cli.app\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True)
    heavy = {"pydantic", "httpx", "rich", "deployer.config", "deployer.rollout", "deployer.link", "asyncio"}
    assert heavy.isdisjoint(done.stdout.split())


def test_help_imports_nothing_heavy_either() -> None:
    code = "import sys, atexit\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    code += "from deployer.cli.app import run\nrun(['push', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True)
    assert {"pydantic", "httpx", "rich", "deployer.rollout"}.isdisjoint(done.stderr.split())


def test_idle_push_never_imports_rich() -> None:
    play = "for event in fakes.clean_push(): emit(event)\nsys.stderr.write(' '.join(sys.modules))\nreturn 0"
    done = subprocess.run(played(play, "push"), env=ENV, capture_output=True, text=True, check=True)
    assert "deployer.cli.render.human" in done.stderr.split()
    assert "rich" not in done.stderr.split()


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_push_goes_on_when_its_reader_has_left(tmp_path: Path, json: list[str]) -> None:
    reached = tmp_path / "reached"
    many = "for _ in range(3000):\n    for event in fakes.clean_push(): emit(event)"
    play = f"{many}\nopen({str(reached)!r}, 'w')\nreturn 0"
    process = subprocess.Popen(played(play, "push", *json), env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 0
    assert reached.exists()
    assert err == b""


def test_full_disk_is_told() -> None:
    play = "for event in fakes.clean_push(): emit(event)\nreturn 0"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(played(play, "push"), env=ENV, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the output could not be written\n  cause: [Errno 28]")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_lets_the_rollout_end_in_its_own_words(number: signal.Signals) -> None:
    play = """
from deployer.errors import Interrupted
try:
    emit(fakes.until_drain()[0])
    time.sleep(30)
except KeyboardInterrupt:
    raise Interrupted("detached", state="the drain goes on", hint="deployer attach local") from None
"""
    process = subprocess.Popen(played(play, "push"), env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "error: detached\n  state: the drain goes on\n\nhint: deployer attach local\n"


def test_second_signal_ends_at_once() -> None:
    play = """
try:
    emit(fakes.until_drain()[0])
    time.sleep(30)
except KeyboardInterrupt:
    try:
        print("still here", flush=True)
        time.sleep(30)
    except KeyboardInterrupt:
        time.sleep(30)
"""
    process = subprocess.Popen(played(play, "push"), env=ENV, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(2):
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130


def test_interrupt_that_nobody_caught_has_no_traceback() -> None:
    play = "emit(fakes.until_drain()[0])\ntime.sleep(30)"
    process = subprocess.Popen(played(play, "push"), env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("error: interrupted\n")
    assert "Traceback" not in err


def test_plain_encoding_gets_plain_marks_and_no_crash() -> None:
    play = "for event in [*fakes.clean_push(), fakes.event('moon', odd='\\udcff é')]: emit(event)\nreturn 0"
    env = {**ENV, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(played(play, "push", "-v"), env=env, capture_output=True, check=True)
    assert b"212 files - 3.1 MB - 4 kB sent" in done.stdout


def on_a_terminal(argv: list[str], env: dict[str, str]) -> str:
    """Everything that *argv* writes to a terminal of 100 columns."""
    main, sub = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(sub, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(argv, env=env, stdout=sub, stderr=sub, stdin=sub)
    os.close(sub)
    written, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([main], [], [], 0.1)[0]:
            try:
                piece = os.read(main, 65536)
            except OSError:
                break
            written += piece
        elif process.poll() is not None:
            break
    os.close(main)
    assert process.wait(60) == 0, written
    return written.decode()


# Goes on emitting until the view has drawn: no fixed time to wait for rich's thread.
DRAIN = """
for event in fakes.until_drain(): emit(event)
for tenth in range(4, 9):
    emit(fakes.progress(tenth / 10)); time.sleep(0.1)
for event in fakes.clean_push()[-6:]: emit(event)
return 0
"""


def test_drain_on_a_terminal_moves_and_leaves_only_the_result() -> None:
    screen = on_a_terminal(played(DRAIN, "push"), ENV)
    assert "░░░░░░░░░░░░" in screen
    assert "pid 8813 claude -p" in screen
    assert "drain   ..." not in screen
    assert "\x1b[32mok    \x1b[0m" in screen
    assert screen.rstrip().splitlines()[-1].endswith("deployer rollback local")
    assert screen.count("\x1b[?25l") == screen.count("\x1b[?25h") == 1


@pytest.mark.parametrize(("argv", "env"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"})])
def test_no_colour_where_a_person_says_no(argv: list[str], env: dict[str, str]) -> None:
    screen = on_a_terminal(played(DRAIN, "push", *argv), {**ENV, **env})
    assert "ok" in screen
    assert "\x1b[32m" not in screen and "\x1b[1m" not in screen and "\x1b[2m" not in screen


@pytest.mark.slow
def test_help_stays_within_its_budget() -> None:
    # The promise is 0.25; CI is slow, and neighbours on the same cores make a second count for less.
    assert min(cost_of_help() for _ in range(3)) < 0.5


def cost_of_help() -> float:
    """Seconds of CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "from deployer.cli.app import run; run(['--help'])"
    subprocess.run([sys.executable, "-c", code], env=ENV, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_interrupt_while_the_command_still_imports_has_no_traceback() -> None:
    code = """
import sys, time
class Slow:
    def find_spec(self, name, *rest):
        if name == "deployer.cli.app":
            print("importing", flush=True)
            time.sleep(30)
sys.meta_path.insert(0, Slow())
sys.argv = ["deployer", "init"]
from deployer.entry import main
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "error: interrupted\n  state: nothing was changed by this call\n"
