"""What systemd is asked through `systemctl`, and how often."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.host.supervisors.systemctl import Manager


def test_version_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, program = tmp_path / "calls", tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$*" >> {calls}\necho "Version=252 (252.39-1~deb12u1)"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    manager = Manager("user")
    assert [manager.version(), manager.version()] == [252, 252]
    assert len(calls.read_text().splitlines()) == 1
