"""What this machine, or a server, may do to us in the middle of a login: told as an error, and every turn given back."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from deployer.errors import DeployerError, LinkError, PreflightError
from deployer.link import bootstrap
from deployer.link.address import Address
from deployer.link.dial import Ssh
from deployer.link.handshakes import HANDSHAKES
from deployer.link.openssh import OpensshPipe
from deployer.link.ssh import login
from deployer.link.ssh.lib import paramiko
from deployer.link.ssh.pipe import ParamikoPipe
from deployer.link.ssh_options import resolve


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path


def test_no_turn_is_lost_when_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    for _ in range(10):  # more than there are turns
        with pytest.raises(PreflightError) as caught:
            OpensshPipe.open(Address.parse("127.0.0.9:9"), Ssh(client="openssh"), None)
        assert "TMPDIR" in (caught.value.hint or "") and "No space left" in (caught.value.cause or "")
    assert HANDSHAKES.turn("127.0.0.9:9").acquire(blocking=False)
    HANDSHAKES.turn("127.0.0.9:9").release()


def test_no_descriptor_left_for_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def scarce(*_: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("deployer.link.ssh.routes.socket.socket", scarce)
    with pytest.raises(PreflightError) as caught:
        ParamikoPipe.open(Address.parse("127.0.0.9:9"), Ssh(), None)
    assert "ulimit -n" in (caught.value.hint or "")


def test_anything_that_paramiko_raises_in_the_handshake_is_a_link_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, **_: Any) -> None:
        raise IndexError("string index out of range")

    monkeypatch.setattr(paramiko.Transport, "start_client", wrong)
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(LinkError) as caught:
        login.log_in(ours, resolve(Address.parse("web1"), None), "web1", 1.0, False)
    assert "IndexError" in (caught.value.cause or "")


def test_a_new_key_has_to_have_a_file(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/config").write_text("Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n")
    with pytest.raises(DeployerError) as caught:
        login._remember(resolve(Address.parse("web1"), None), "web1", "web1 ssh-ed25519 AAAA")
    assert "no file" in caught.value.title


def test_a_python_without_zlib_counts_as_one_that_will_not_do(tmp_path: Path) -> None:
    code = f"import sys; sys.modules['zlib'] = None; exec({bootstrap._PROGRAM!r})"
    ended = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True)
    assert ended.returncode == 90 and not ended.stderr
