"""What launchctl says, and what it is asked, in which order: recorded outputs. Nothing here ran on macOS."""

from __future__ import annotations

import plistlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deployer.errors import DeployerError, PreflightError
from deployer.host.paths import HostPaths
from deployer.host.supervisors import choose, launchctl, launchd, launchd_plists, owner
from deployer.host.supervisors.launchctl import Launchctl, parse
from deployer.host.supervisors.launchd import Launchd
from deployer.model import DrainOrder, Spec

RUNNING = """\
gui/501/com.example.agent = {
\tactive count = 1
\tpath = /Users/me/Library/LaunchAgents/com.example.agent.plist
\ttype = LaunchAgent
\tstate = running

\tprogram = /usr/local/bin/node
\targuments = {
\t\t/usr/local/bin/node
\t\tpid = 7
\t}

\tdomain = gui/501 [100003]
\tminimum runtime = 10
\texit timeout = 5
\truns = 3
\tpid = 893
\timmediate reason = speculative
\tlast terminating signal = Terminated: 15

\tevent triggers = {
\t\tstate = active
\t}
\tjetsam coalition = {
\t\tID = 18111
\t\tstate = active
\t}
}
"""
ENDED = "system/x = {\n\tactive count = 0\n\tstate = not running\n\n\truns = 1\n\tlast exit code = 78: EX_CONFIG\n}\n"
NEW = "system/x = {\n\tstate = not running\n\truns = 0\n\tlast exit code = (never exited)\n}\n"
STOPPING = "gui/501/x = {\n\tstate = SIGTERMed\n\texit timeout = 60\n\truns = 1\n\tpid = 893\n}\n"
AGAIN = "gui/501/x = {\n\tstate = spawn scheduled\n\truns = 4\n\tlast exit code = 1\n}\n"
GONE = 'Could not find service "x" in domain for user gui: 501\n'
BUSY = "Bootstrap failed: 5: Input/output error\nTry re-running the command as root for richer errors.\n"

Answer = tuple[int, str]


def test_running_job_is_read_from_its_own_lines_only() -> None:
    job = parse(RUNNING)
    assert (job.state, job.pid, job.runs, job.code, job.limit) == ("running", 893, 3, -15, 5.0)
    assert job.path == "/Users/me/Library/LaunchAgents/com.example.agent.plist"
    assert not job.leaving and not job.coming


@pytest.mark.parametrize(
    ("printed", "code", "said"),
    [(ENDED, 78, "it ended with code 78: EX_CONFIG"), (NEW, None, ""), (RUNNING, -15, "it died of Terminated")],
)  # fmt: skip
def test_last_end_is_told(printed: str, code: int | None, said: str) -> None:
    assert (parse(printed).code, parse(printed).said) == (code, said)


def test_exit_timeout_of_zero_is_for_ever() -> None:
    assert parse("x = {\n\tstate = running\n\texit timeout = 0\n}").limit is None


class Script:
    """launchctl that answers from a list, and notes what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[Answer]) -> None:
        self.asked: list[str] = []
        self._answers = answers
        monkeypatch.setattr(launchctl, "_launchctl", self)
        monkeypatch.setattr(launchctl.os, "geteuid", lambda: 501)

    def __call__(self, *args: str) -> subprocess.CompletedProcess[str]:
        self.asked.append(" ".join(args))
        if args == ("print", "gui/501"):
            return subprocess.CompletedProcess(["launchctl", *args], 0, "gui/501 = {\n}\n", "")
        left = self._answers[args[0]]
        code, text = left.pop(0) if len(left) > 1 else left[0]
        return subprocess.CompletedProcess(["launchctl", *args], code, "" if code else text, text if code else "")


def here() -> Launchctl:
    return Launchctl("gui/501", sleep=lambda _: None)


def test_bootstrap_waits_until_the_label_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, bootstrap=[(5, BUSY), (37, "already in progress"), (0, "")], print=[(0, STOPPING)])
    here().bootstrap("x", Path("/p/x.plist"))
    assert script.asked == ["bootstrap gui/501 /p/x.plist", "print gui/501/x"] * 2 + ["bootstrap gui/501 /p/x.plist"]


def test_bootstrap_of_what_runs_already_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, bootstrap=[(5, BUSY)], print=[(0, RUNNING)])
    here().bootstrap("x", Path("/p/x.plist"))
    assert len(script.asked) == 2


def test_refused_bootstrap_says_what_launchd_said(monkeypatch: pytest.MonkeyPatch) -> None:
    Script(monkeypatch, bootstrap=[(119, "Bootstrap failed: 119: Service is disabled\n")], print=[(113, GONE)])
    with pytest.raises(DeployerError) as caught:
        here().bootstrap("x", Path("/p/x.plist"))
    assert caught.value.cause == "Bootstrap failed: 119: Service is disabled"


def test_label_that_is_never_free_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchctl, "FREE_WITHIN", 0.0)
    Script(monkeypatch, bootstrap=[(5, BUSY)], print=[(0, STOPPING)])
    with pytest.raises(DeployerError, match="bootstrap gui/501"):
        here().bootstrap("x", Path("/p/x.plist"))


@pytest.mark.parametrize("code", [0, 3, 113, 36, 37])
def test_bootout_of_what_goes_or_has_gone_is_done(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    script = Script(monkeypatch, bootout=[(code, "words")])
    here().bootout("x")
    assert script.asked == ["bootout gui/501/x"]


def test_bootout_that_is_refused_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Script(monkeypatch, bootout=[(1, "Boot-out failed: 1: Operation not permitted\n")])
    with pytest.raises(DeployerError):
        here().bootout("x")


@pytest.mark.parametrize(
    ("printed", "state", "pid"),
    [(RUNNING, owner.RUNNING, 893), (STOPPING, owner.STOPPING, 893), (AGAIN, owner.STARTING, None), (ENDED, owner.ENDED, None)],
)  # fmt: skip
def test_states_of_launchd_in_our_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, printed: str, state: str, pid: int | None
) -> None:
    Script(monkeypatch, print=[(0, printed)])
    seen = Launchd(HostPaths(tmp_path)).seen(spec("r1"))
    assert (seen.state, seen.pid) == (state, pid)


def test_run_that_has_been_followed_by_another_has_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Script(monkeypatch, print=[(0, RUNNING)])
    seen = Launchd(HostPaths(tmp_path)).seen(spec("r1"), run="2")
    assert (seen.state, seen.run, seen.code) == (owner.ENDED, "2", -15)


def spec(release: str, **more: Any) -> Spec:
    place = {"kind": "launchd", "unit": f"deployer.app.{release}", "domain": "gui/501", **more.pop("owner", {})}
    argv = ("node", "api.js", "--name", "a b")
    return Spec(f"i-{release}", release, "app", argv, "/srv/app/releases/1", owner=place, **more)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostPaths:
    paths = HostPaths(tmp_path / "app")
    paths.prepare_private()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(launchctl, "domain_here", lambda: "gui/501")
    return paths


def unit(host: HostPaths, release: str, kind: str) -> Path:
    return host.private / "units" / f"deployer.app.{release}.{kind}"


def test_plist_has_all_that_keeps_work_alive_and_no_secret(host: HostPaths) -> None:
    new = spec("r1", drain=DrainOrder(ceiling=660.0).to_json())
    Launchd(host).prepare(new, {"TOKEN": "it's $secret", "bad-name": "x"}, [], DrainOrder(), proven=False)
    text = unit(host, "r1", "plist").read_bytes()
    assert plistlib.loads(text) == {
        "Label": "deployer.app.r1",
        "ProgramArguments": ["/bin/sh", str(unit(host, "r1", "sh")), "node", "api.js", "--name", "a b"],
        "WorkingDirectory": "/srv/app/releases/1",
        "StandardOutPath": str(host.app_log),
        "StandardErrorPath": str(host.app_log),
        "RunAtLoad": True,
        "KeepAlive": {"PathState": {str(unit(host, "r1", "keep")): True}},
        "ThrottleInterval": 1,
        "ExitTimeOut": 720,
        "AbandonProcessGroup": True,
        "Umask": 18,
        "ProcessType": "Interactive",
        "LimitLoadToSessionType": "Aqua",
    }
    assert b"secret" not in text and not unit(host, "r1", "keep").exists()
    assert (unit(host, "r1", "sh").stat().st_mode & 0o777, (host.private / "units").stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )
    printed = subprocess.run(
        ["/bin/sh", str(unit(host, "r1", "sh")), "sh", "-c", 'printf %s "$TOKEN"'], capture_output=True, text=True
    )
    assert printed.stdout == "it's $secret"


def test_daemon_of_the_machine_names_no_session() -> None:
    made = launchd_plists.job("l", ["x"], "/", "/s", "/o", "/k", DrainOrder(), "system")
    assert "LimitLoadToSessionType" not in plistlib.loads(made)


def test_swap_lets_the_old_one_go_before_it_is_signalled_and_forgets_it_afterwards(
    host: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, by = spec("r1"), spec("r2"), Launchd(host)
    by.prepare(old, {}, [], DrainOrder(), proven=True)
    assert unit(host, "r1", "keep").exists() and not by.stops and not by.swap(new, [old])
    by.prepare(new, {}, [old], DrainOrder(), proven=False)
    assert not unit(host, "r1", "keep").exists()
    script = Script(monkeypatch, bootout=[(0, "")], bootstrap=[(0, "")], print=[(113, GONE), (0, RUNNING)])
    by.stop(old)  # the keeper has waited for its processes
    by.start(new)
    assert script.asked == [
        "bootout gui/501/deployer.app.r1",
        "print gui/501/deployer.app.r2",
        f"bootstrap gui/501 {unit(host, 'r2', 'plist')}",
        "print gui/501/deployer.app.r2",
    ]


def test_start_asked_twice_starts_once(host: HostPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, print=[(0, RUNNING)])
    Launchd(host).start(spec("r1"))
    assert script.asked == ["print gui/501/deployer.app.r1"] * 2


def test_label_of_an_earlier_run_is_loaded_anew(host: HostPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, print=[(0, ENDED), (0, RUNNING)], bootout=[(0, "")], bootstrap=[(0, "")])
    Launchd(host).start(spec("r1"))
    assert [line.split()[0] for line in script.asked] == ["print", "bootout", "bootstrap", "print"]


def test_loaded_and_never_started_is_kicked(host: HostPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, print=[(113, GONE), (0, NEW)], bootstrap=[(0, "")], kickstart=[(0, "")])
    Launchd(host).start(spec("r1"))
    assert script.asked[-1] == "kickstart gui/501/deployer.app.r1"


def test_what_starts_at_boot_changes_with_the_proof(host: HostPaths, tmp_path: Path) -> None:
    by, at_boot = Launchd(host), tmp_path / "Library" / "LaunchAgents" / "deployer.app.plist"
    for release in ("r1", "r2"):
        by.prepare(spec(release), {}, [], DrainOrder(), proven=False)
        by.confirm(spec(release), [spec("r1"), spec("r2")])
        assert plistlib.loads(at_boot.read_bytes())["Label"] == f"deployer.app.{release}"
        assert [unit(host, name, "keep").exists() for name in ("r1", "r2")] == [release == "r1", release == "r2"]
    by.confirm(None, [spec("r1"), spec("r2")])
    assert not at_boot.exists() and not unit(host, "r2", "keep").exists()
    by.forget("app", ["r2"])
    assert not unit(host, "r1", "sh").exists() and unit(host, "r2", "sh").exists()


def test_other_s_job_is_left_alone_at_boot_once_ours_is_proven_and_comes_back_by_a_revert(
    host: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    by, new = Launchd(host), spec("r2")
    other = spec("adopted", owner={"unit": "com.example.agent", "foreign": True, "plist": "/L/com.example.agent.plist"})
    by.prepare(new, {}, [other], DrainOrder(), proven=False)
    done: list[Answer] = [(0, "")]
    script = Script(monkeypatch, enable=done, disable=done, bootstrap=done, print=[(113, GONE), (0, RUNNING)])
    by.confirm(new, [other])
    assert script.asked == ["disable gui/501/com.example.agent"]
    script.asked.clear()
    by.start(other)
    assert script.asked[1:3] == ["enable gui/501/com.example.agent", "bootstrap gui/501 /L/com.example.agent.plist"]


def test_two_of_one_release_have_two_labels(host: HostPaths) -> None:
    by = Launchd(host)
    first = by.placed(Spec("one", "r1", "app", ("x",), "/", owner={"kind": "launchd"}), [])
    second = by.placed(Spec("two", "r1", "app", ("x",), "/", owner={"kind": "launchd"}), [first])
    assert [launchd.label_of(one) for one in (first, second)] == ["deployer.app.r1", "deployer.app.r1.two"]


def test_host_without_launchd_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    by = choose.owner_on(HostPaths(Path("/nowhere")), {"supervisor": "launchd"}, {"run": {}})
    assert by is not None
    with pytest.raises(PreflightError, match="needs macOS"):
        by.require("app")


def test_plan_shows_what_changes_in_the_plist(host: HostPaths) -> None:
    by, now = Launchd(host), spec("r1")
    assert "+\t<string>deployer.app.r2</string>" in by.preview(spec("r2"), {}, None)
    by.prepare(now, {}, [], DrainOrder(), proven=True)
    assert by.preview(spec("r2"), {}, now) == []
    changed = by.preview(spec("r2", drain=DrainOrder(ceiling=60.0).to_json()), {}, now)
    assert changed[-2:] == ["-\t<integer>720</integer>", "+\t<integer>120</integer>"]


def test_plist_of_another_app_by_that_name_is_refused(
    host: HostPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchctl, "require", lambda: None)
    by, agents = Launchd(host), tmp_path / "Library" / "LaunchAgents"
    by.require("app")
    agents.mkdir(parents=True)
    (agents / "deployer.app.plist").write_text("<plist>/srv/elsewhere/</plist>")
    with pytest.raises(PreflightError, match="not this app's"):
        by.require("app")
