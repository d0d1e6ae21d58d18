"""A gate: how it fails, that nothing it started outlives it, and that its output keeps no secret."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from app import alive, wait_until
from deployer.errors import GateError
from deployer.host import gates
from deployer.host.process import Processes
from deployer.wire.redaction import Redactor


def command(tmp_path: Path, code: str, timeout: float = 20.0, mark: str = "gate-test") -> gates.Command:
    env = {"PATH": os.environ["PATH"], "DEPLOYER_INSTANCE": f"{mark}-{tmp_path.name}", "WHERE": str(tmp_path)}
    argv = [sys.executable, "-S", "-c", code]
    return gates.Command("install", argv, tmp_path, env, timeout, tmp_path / "deploys" / "install.log")


def run(gate: gates.Command, **secrets: str) -> str:
    """What the gate has left in its log."""
    gates.run(gate, Redactor(secrets).text, Processes())
    return gate.output.read_text()


def test_good_gate_returns_and_its_output_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    gate = command(tmp_path, "import os, sys; print(os.getcwd()); sys.stderr.write('to stderr')")
    assert run(gate) == f"{tmp_path}\nto stderr"
    assert stat.S_IMODE(gate.output.stat().st_mode) == 0o600
    assert stat.S_IMODE(gate.output.parent.stat().st_mode) == 0o700


def test_failure_tells_the_code_the_command_and_the_last_lines(tmp_path: Path) -> None:
    gate = command(tmp_path, "for n in range(30): print('line', n)\nraise SystemExit(9)")
    with pytest.raises(GateError) as caught:
        run(gate)
    assert caught.value.title == "install failed with exit code 9"
    assert str(caught.value.cause).endswith("line 28\n  line 29")
    assert "line 9\n" not in str(caught.value.cause)
    assert "was not touched" in str(caught.value.state)


def test_death_by_a_signal_is_told(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="install was ended by signal 9"):
        run(command(tmp_path, "import os; os.kill(os.getpid(), 9)"))


@pytest.mark.parametrize("what", ["child", "session", "daemon", "no environment"])
def test_nothing_that_a_failed_gate_started_lives_on(tmp_path: Path, what: str) -> None:
    how = {
        "child": "",
        "session": "os.setsid()",
        "daemon": "os.setsid(); os.fork() and os._exit(0)",
        "no environment": "os.execve(sys.executable, [sys.executable, '-S', '-c', child], {})",
    }
    code = (
        "import os, sys, time\n"
        "child = 'import os,time; open(\\'pid\\', \\'w\\').write(str(os.getpid()) + chr(10)); time.sleep(60)'\n"
        f"if os.fork() == 0:\n {how[what] or 'pass'}\n exec(child)\n"
        "while not os.path.exists('pid') or not open('pid').read().endswith(chr(10)): time.sleep(0.01)\n"
        "raise SystemExit(1)"
    )
    with pytest.raises(GateError, match="exit code 1"):
        run(command(tmp_path, code, mark=what.replace(" ", "")))
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not alive(pid), what="the process that the gate left behind has gone")


def test_gate_that_ignores_the_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "end", lambda tree: END(tree, 0.2))
    code = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)"
    gate = command(tmp_path, code, timeout=1.0)
    began = time.monotonic()
    with pytest.raises(GateError, match="install took longer than 1s and was ended"):
        run(gate)
    assert time.monotonic() - began < 30
    assert not alive(int(gate.output.read_text()))


END = gates.end


def test_daemon_that_a_good_gate_leaves_behind_does_not_hold_it_up(tmp_path: Path) -> None:
    code = "import os, time\nif os.fork() == 0: time.sleep(20); os._exit(0)\nprint('done')"
    began = time.monotonic()
    assert run(command(tmp_path, code)) == "done\n"
    assert time.monotonic() - began < 15


def test_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    gate = command(tmp_path, "")
    missing = gates.Command("check", ["./no-such-thing"], tmp_path, gate.env, 1.0, gate.output)
    with pytest.raises(GateError) as caught:
        gates.run(missing, str, Processes())
    assert caught.value.title == "check could not be started"
    assert "no-such-thing: No such file" in str(caught.value.cause)


def test_secrets_are_kept_out_of_the_log_also_where_they_are_printed_in_pieces(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "sys.stdout.write('token=s3cr'); sys.stdout.flush(); time.sleep(0.2)\n"
        "print('3t-value!'); print('key:\\nMIIEvQIBADANBg\\nend')\n"
        "sys.stdout.write('last s3cr3t-value')"
    )
    text = run(command(tmp_path, code), TOKEN="s3cr3t-value", KEY="-----BEGIN-----\nMIIEvQIBADANBg\n-----END-----\n")
    assert text == "token=***!\nkey:\n***\nend\nlast ***"


def test_output_that_is_no_text_or_has_no_end_is_kept(tmp_path: Path) -> None:
    gate = command(tmp_path, "import sys; sys.stdout.buffer.write(b'\\xff\\xfe' + b'x' * 300000)")
    gates.run(gate, Redactor({"T": "s3cr3t"}).text, Processes())
    assert gate.output.read_bytes() == b"\xff\xfe" + b"x" * 300000


@pytest.mark.parametrize(
    ("values", "text", "shown"),
    [
        ({"A": "abc", "B": "abcdef"}, "abcdef abc", "*** ***"),
        ({"A": "ab"}, "about", "about"),
        ({"A": "  padded-value \n"}, "is padded-value.", "is ***."),
        ({}, "nothing", "nothing"),
    ],
)
def test_redaction(values: dict[str, str], text: str, shown: str) -> None:
    redact = Redactor(values)
    assert redact(text) == shown
    assert redact({"key": [text, 7, None, (text,)]}) == {"key": [shown, 7, None, [shown]]}
