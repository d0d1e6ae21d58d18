"""What a reboot finds: the launcher, and the unit that calls it, whatever the names of places are."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deployer.errors import PreflightError
from deployer.host.boot import enabling, launcher, units
from deployer.host.boot.crontab import Crontab
from deployer.host.boot.units import BootUnit
from deployer.host.limits.units import SYSTEM, USER
from deployer.host.paths import HostPaths
from parts import need

DRAIN = {"signal": "SIGINT", "ceiling": 660.0}


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    made = HostPaths(tmp_path / "an app, 100% $HOME 'x'")
    made.prepare_private()
    return made


@pytest.mark.parametrize("scope", [SYSTEM, USER])
def test_unit_is_one_that_systemd_accepts(paths: HostPaths, tmp_path: Path, scope: str) -> None:
    need("systemd-analyze")
    file = tmp_path / "t-app-deployer.service"
    file.write_text(BootUnit(paths, "t-app", scope).text(DRAIN))
    whose = ["--user"] if scope == USER else []
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(["systemd-analyze", *whose, "verify", str(file)], capture_output=True, text=True, env=env)
    assert "t-app-deployer.service" not in done.stderr and "Invalid" not in done.stderr, done.stderr
    text = file.read_text()
    assert "TimeoutStopSec=720\n" in text and "KillSignal=SIGINT\n" in text
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert "100%% $$HOME" in lines["ExecStart"] and "100%% $$HOME" in lines["ExecStop"]
    assert lines["RequiresMountsFor"].endswith(
        "100%% $HOME 'x'\""
    )  # no command: $ means nothing here, and is not doubled


def test_launcher_calls_the_engine_with_the_environment_of_the_app(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_TEST", "it's 100 %")
    monkeypatch.setenv("A_TOKEN", "hunter2")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert launcher.write(paths) and not launcher.write(paths)
    text = paths.boot.read_text()
    assert "hunter2" not in text and "XDG_RUNTIME_DIR" not in text
    assert paths.boot.stat().st_mode & 0o777 == 0o600
    shown = text.replace('exec "$python"', 'printf "%s\\n" "$LC_TEST" "$python"')
    said = subprocess.run(
        ["sh", "-c", shown], capture_output=True, text=True, check=True, env={"PATH": "/bin:/usr/bin"}
    )
    lines = said.stdout.splitlines()
    assert lines[0] == "it's 100 %"
    assert lines[-3:] == ["boot", "start", str(paths.root)]
    assert Path(lines[-4]).is_file() and str(paths.engines) in lines[-4]


def test_launcher_says_so_when_no_engine_is_left(paths: HostPaths) -> None:
    launcher.write(paths)
    paths.engines.rename(paths.private / "elsewhere")
    said = subprocess.run(["sh", str(paths.boot)], capture_output=True, text=True)
    assert said.returncode == 1 and "no engine" in said.stderr


def test_push_refreshes_a_launcher_and_makes_none(paths: HostPaths) -> None:
    launcher.refresh(paths)
    assert not paths.boot.exists()
    paths.boot.write_text("older")
    launcher.refresh(paths)
    assert "#!/bin/sh" in paths.boot.read_text()


def test_host_without_any_way_is_told_what_was_looked_for(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(units, "_BOOTED", str(tmp_path / "private"))
    with pytest.raises(PreflightError, match="nothing on this host") as caught:
        enabling.enable(paths, "t-app", DRAIN)
    assert "systemd" in str(caught.value.cause) and "crontab: there is no such command" in str(caught.value.cause)
    assert not paths.boot.exists()


def test_line_of_another_app_or_place_is_not_ours(paths: HostPaths) -> None:
    mine: Any = Crontab(paths, "t-app")
    assert mine._ours(mine._line)
    other: Any = Crontab(HostPaths(paths.root / "b"), "t-app")
    for line in (other._line, "@reboot /bin/true", f"# {mine._line}", mine._line + " ", ""):
        assert not mine._ours(line)
