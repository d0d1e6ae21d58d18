"""The rig itself: what the tests of systemd stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import parts
import realm
from app import SOURCE, alive, clean_environment, wait_until
from systemd_rig import UserManager, app_in, user_manager

TESTS = Path(__file__).parent.parent
UNIT = """
[Service]
ExecStart=/bin/sh -c 'echo hello from $$(id -un) in $$HOME; exec sleep 1000'
ExecStop=/bin/sh -c 'echo bye >%h/bye'
[Install]
WantedBy=default.target
"""


@pytest.fixture(params=["root", "throwaway"])
def manager(request: pytest.FixtureRequest) -> Iterator[UserManager]:
    with user_manager(throwaway=request.param == "throwaway") as made:
        yield made


def install(manager: UserManager) -> None:
    (manager.units / "hello.service").write_text(UNIT)
    manager.systemctl("daemon-reload")
    manager.systemctl("enable", "--now", "hello.service")


def test_units_run_speak_to_the_journal_and_come_back_after_a_power_cut(manager: UserManager) -> None:
    install(manager)
    told = [f"hello from {manager.user} in {manager.home}"]
    wait_until(lambda: manager.journal("hello.service") == told, what="the journal has the line")
    pid = manager.outer(manager.pid_of("hello.service"))
    assert os.stat(f"/proc/{pid}").st_uid == manager.uid
    manager.power_cut()
    assert not alive(pid)
    manager.boot()
    assert manager.show("hello.service", "ActiveState", "Result") == {"ActiveState": "active", "Result": "success"}
    assert not (manager.home / "bye").exists()
    manager.power_off()
    assert (manager.home / "bye").exists()
    manager.boot()
    wait_until(
        lambda: manager.journal("hello.service") == told * 3, what="the journal has the lines of all three boots"
    )
    assert manager.realm.inside(f"/var/lib/systemd/linger/{manager.user}").exists()


@pytest.mark.full
def test_deployer_pushes_inside_and_is_reached_from_outside(manager: UserManager, tmp_path: Path) -> None:
    with app_in(manager, tmp_path if manager.user == "root" else None) as app:
        app.push()
        pid = app.get()["pid"]
        assert app.status()["instance"]["pid"] == pid
        assert os.stat(f"/proc/{manager.outer(pid)}").st_uid == manager.uid


def test_a_command_inside_is_a_child_of_ours_and_hears_our_signals() -> None:
    with user_manager() as manager:
        command = "trap 'echo heard; exit 7' INT; echo ready; while :; do sleep 0.05; done"
        process = manager.popen(["sh", "-c", command], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == "heard\n"
        assert process.returncode == 7
        assert manager.run(["sh", "-c", "exit 3"], check=False).code == 3


@pytest.mark.full
def test_two_managers_at_once_know_nothing_of_each_other() -> None:
    with user_manager() as one, user_manager() as two:
        install(one)
        assert two.show("hello.service", "LoadState") == {"LoadState": "not-found"}
        assert str(os.getpid()) not in one.run(["ls", "/proc"]).out.split()


def test_a_machine_that_cannot_run_systemd_skips_with_the_reason_and_fails_where_it_was_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(parts.REQUIRED, raising=False)
    monkeypatch.setattr(realm, "cgroup2", lambda: Path("/proc"))
    with pytest.raises(pytest.skip.Exception, match="no cgroup can be made"):
        realm.need_systemd()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv(parts.REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="only root"):
        realm.need_systemd()


def test_nothing_is_left_when_the_test_run_is_killed() -> None:
    code = (
        "import time; from systemd_rig import user_manager\n"
        "with user_manager(throwaway=True) as m: print(m.root, m.realm.cgroup, m.user, m.realm.init, flush=True); time.sleep(600)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        env={**os.environ, **clean_environment(), "PYTHONPATH": f"{TESTS}:{SOURCE}"},
    )  # fmt: skip
    with run:
        assert run.stdout is not None
        root, cgroup, user, init = run.stdout.readline().split()
        assert Path(root).exists() and Path(cgroup).exists() and alive(int(init))
        run.kill()
    wait_until(lambda: not alive(int(init)), what="the realm has ended")
    wait_until(lambda: not Path(cgroup).exists() and not Path(root).exists(), what="cgroup and directory have gone")
    assert f"\n{user}:" not in Path("/etc/passwd").read_text()
