"""A host that cannot be reached, will not have us, or cannot run the engine: an error of its own for each, and nothing changed."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from facts import OPEN, target

import parts
from app import wait_until
from conftest import Client
from deployer.errors import DeployerError
from deployer.link import bundle as bundles
from sshd import Bed, Host

PYTHONS = {"3.8": "3.8.18", "3.9": "3.9.18", "3.13": "3.13.0"}


def python(bed: Bed, version: str) -> list[str]:
    """A PATH on which python3 is of *version*."""
    found = Path(os.environ.get("PYENV_ROOT", "/root/.pyenv")) / "versions" / PYTHONS[version] / "bin/python3"
    if not found.exists():
        parts.missing(f"no Python {version}")
    directory = bed.root / f"python{version}"
    directory.mkdir()
    (directory / "python3").symlink_to(found)
    return [str(directory), "/nowhere"]


def test_a_login_without_the_right_key(bed: Bed, client: Client) -> None:
    host = bed.host()
    (host.root / "authorized_keys").write_text("")
    error = client.refusal(host)
    assert "refused the login of" in error.title and "authorized_keys" in error.hint
    assert "our key" in error.cause


def test_an_encrypted_key_without_an_agent(bed: Bed) -> None:
    host = bed.host()
    bed.key("locked", passphrase="sesame")
    bed.config("Host *\n  IdentityFile ~/.ssh/locked\n")
    error = Client("paramiko").refusal(host)
    assert "encrypted" in error.cause and f"ssh-add {bed.home}/.ssh/locked" in error.cause


def test_a_server_that_wants_a_password(bed: Bed, client: Client) -> None:
    host = bed.host(options={"PubkeyAuthentication": "no", "PasswordAuthentication": "yes"})
    error = client.refusal(host)
    assert "refused the login" in error.title and "password" in error.cause


def test_too_many_keys_in_the_agent(bed: Bed, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    host = bed.host(options={"MaxAuthTries": "1"})
    agent = bed.agent(bed.key("one"))
    for name in ("two", "three"):
        os.system(f"SSH_AUTH_SOCK={agent} ssh-add -q {bed.key(name)}")
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    error = client.refusal(host)
    assert "refused the login" in error.title


def test_nobody_listens(bed: Bed, client: Client) -> None:
    host = bed.host()
    host.stop()
    assert client.refusal(host).title == f"{host.written} refused the connection"


def test_a_black_hole_is_left_after_the_connect_timeout(bed: Bed, client: Client) -> None:
    where = bed.black_hole()
    started = time.monotonic()
    error = client.refusal(where, connect_timeout=1.0)
    assert error.title == f"{where} does not answer"
    assert time.monotonic() - started < 15


def test_a_server_that_says_nothing(bed: Bed, client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = client.refusal(f"127.0.0.1:{listener.getsockname()[1]}", connect_timeout=1.0, silent_after=5.0)
    assert "does not answer" in error.title


def test_a_short_silence_leaves_the_login_its_own_time(bed: Bed, client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        written = f"127.0.0.1:{listener.getsockname()[1]}"
        error = client.refusal(written, connect_timeout=3.0, heartbeat=0.2, silent_after=1.0)
    assert "within 3 s" in error.cause


@pytest.mark.parametrize("client", ["paramiko", pytest.param("openssh", marks=pytest.mark.full)], indirect=True)
def test_something_else_than_ssh(bed: Bed, client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    there = listener.accept()[0]
                except OSError:
                    return
                there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 300)
                there.close()

        threading.Thread(target=answer, daemon=True).start()
        written = f"127.0.0.1:{listener.getsockname()[1]}"
        assert written in client.refusal(written, connect_timeout=1.0).title


def test_a_name_that_nobody_has(bed: Bed, client: Client) -> None:
    error = client.refusal("no-such-host.invalid")
    assert error.title == "no-such-host.invalid: no such host"


def test_no_ssh_here(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    error = Client("openssh").refusal("web1")
    assert error.title == "ssh could not be started" and "paramiko" in error.hint


# A host that cannot run the engine ----------------------------------------------------------------------------------


def test_no_python(bed: Bed, client: Client) -> None:
    error = client.refusal(bed.host(path=["/nowhere"]))
    assert "has no Python 3.9" in error.title and "no python3 in its PATH" in error.cause


def test_only_an_old_python(bed: Bed, client: Client) -> None:
    error = client.refusal(bed.host(path=python(bed, "3.8")))
    assert "has no Python 3.9" in error.title and "found only python3" in error.cause


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_pythons_that_will_do(bed: Bed, client: Client, version: str) -> None:
    assert client.hello(bed.host(path=python(bed, version)))["python"].startswith(version)


def test_a_newer_python_is_found_behind_an_old_one(bed: Bed, client: Client) -> None:
    path = python(bed, "3.8")
    (Path(path[0]) / "python3.9").symlink_to(Path(python(bed, "3.9")[0]) / "python3")
    assert client.hello(bed.host(path=path))["python"].startswith("3.9")


def test_a_login_shell_that_prints_is_put_up_with(bed: Bed, client: Client) -> None:
    host = bed.host()
    (host.home / ".bashrc").write_text("echo welcome; printf '\\0\\377 deployer-engine-1'; echo oh >&2\n")
    assert client.hello(host)


def test_a_login_shell_that_prints_without_end(bed: Bed, client: Client) -> None:
    host = bed.host()
    (host.home / ".bashrc").write_text("yes\n")
    error = client.refusal(host)
    assert "printed something else" in error.title and "y\ny" in error.cause


def test_a_login_shell_that_ends(bed: Bed, client: Client) -> None:
    host = bed.host()
    (host.home / ".bashrc").write_text("echo This account is currently not available.; exit 1\n")
    error = client.refusal(host)
    assert "did not start" in error.title and "not available" in error.cause


@pytest.mark.parametrize("client", ["paramiko", pytest.param("openssh", marks=pytest.mark.full)], indirect=True)
def test_a_login_shell_that_hangs_is_left(bed: Bed, client: Client) -> None:
    host = bed.host()
    (host.home / ".bashrc").write_text("sleep 1000\n")
    started = time.monotonic()
    error = client.refusal(host, heartbeat=0.2, silent_after=2.0)
    assert "silent" in error.cause and time.monotonic() - started < 40


def test_an_engine_that_was_damaged_on_its_way(bed: Bed, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bundles.bundle()
    wrong = bundles.Bundle("0" * 16, whole.loader, whole.files)
    monkeypatch.setattr("deployer.link.bootstrap.bundle", lambda: wrong)
    host = bed.host()
    with pytest.raises(DeployerError) as caught:
        client.session(host)
    assert caught.value.code == 6 and "damaged" in (caught.value.cause or "")
    assert not host.path.exists()


def opened(client: Client, host: Host, **more: object) -> DeployerError:
    """The refusal of a deploy on *host*."""
    path = str(more.get("path", "~/app"))
    with client.session(host, path=path) as session, pytest.raises(DeployerError) as caught:
        session.call("open", deploy="d", target=target(host.written, path), **OPEN)
    assert caught.value.code == 6
    return caught.value


def test_a_read_only_place_and_a_full_disk(bed: Bed, client: Client) -> None:
    parts.need_root()
    host = bed.host()
    disk = host.home / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=1m,nr_inodes=4 tmpfs {disk}"
    assert os.system(mount) == 0
    try:
        error = opened(client, host, path="~/disk/app")
        assert "No space left" in f"{error.title} {error.cause}"
        wait_until(lambda: os.system(f"mount -o remount,ro {disk}") == 0, what="the agent has let go of its files")
        error = opened(client, host, path="~/disk/other")
        assert "ead-only" in f"{error.title} {error.cause}" and not (disk / "other").exists()
    finally:
        os.system(f"umount {disk}")


# Becoming root -------------------------------------------------------------------------------------------------------


def test_sudo_becomes_root_and_keeps_the_login_users_home(bed: Bed, client: Client) -> None:
    parts.need("sudo")
    user = bed.user()
    bed.sudoer(user)
    host = bed.host(user=user)
    with client.session(host, become="sudo") as session:
        assert session.hello("~/app")["path"] == str(host.path)
        assert 0 in {os.stat(f"/proc/{pid}").st_uid for pid in agents(host)}


def agents(host: Host) -> list[int]:
    """The engines that serve a link to *host*."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if len(words) > 6 and words[1:3] == [b"-I", b"-S"] and os.fsencode(host.home) == words[-2]:
            found.append(int(name))
    return found


def test_sudo_that_wants_a_password(bed: Bed, client: Client) -> None:
    parts.need("sudo")
    host = bed.host(user=bed.user())
    error = client.refusal(host, become="sudo")
    assert error.title == f"sudo on {host.written} refused us" and "password" in error.cause
    assert "NOPASSWD" in error.hint


def test_no_sudo_there(bed: Bed, client: Client) -> None:
    error = client.refusal(bed.host(path=["/nowhere"]), become="sudo")
    assert "has no sudo" in error.title
