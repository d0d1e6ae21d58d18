"""Every way to log in that people use, with both clients."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

import parts
from app import read, wait_until
from conftest import Client
from sshd import PORT, Bed, Host


def allow(host: Host, key: Path) -> None:
    """Only *key* may log in to *host*."""
    (host.root / "authorized_keys").write_text(key.with_name(key.name + ".pub").read_text())


def test_a_host_runs_the_engine_and_keeps_nothing_of_it(bed: Bed, client: Client) -> None:
    host = bed.host()
    assert client.hello(host)["path"] == str(host.path)
    assert not host.path.exists()


def test_an_unprivileged_server_and_user_will_do(bed: Bed, client: Client) -> None:
    host = bed.host(daemon=bed.user())
    assert client.hello(host)["path"] == str(host.path)


def test_the_ssh_config_says_where_and_who_and_with_what(bed: Bed, client: Client) -> None:
    user = bed.user()
    host = bed.host(user=user, known=False)
    bed.trust(host, "web.example")
    allow(host, bed.key("own key"))
    included = bed.home / ".ssh" / "conf.d"
    included.mkdir()
    (included / "web").write_text(
        f"Host web?\n  HostName {host.address}\n  Port={PORT}\n  User {user}\n  HostKeyAlias web.example\n"
        f'  IdentityFile "{bed.home}/.ssh/own key"\n  IdentitiesOnly yes\n  ServerAliveInterval 30\n  Compression yes\n'
        "  ForwardAgent yes\n  RequestTTY force\n  RemoteCommand false\n  LocalForward 127.0.0.1:9 127.0.0.1:9\n"
    )
    bed.config(f'Include {included}/*\nMatch originalhost web1 exec "false"\n  HostName 192.0.2.1\n')
    assert client.hello("web1")["path"] == str(host.path)


def test_another_ssh_config_may_be_named(bed: Bed, client: Client, tmp_path: Path) -> None:
    host = bed.host()
    file = tmp_path / "a config"
    file.write_text(f"Host there\n  HostName {host.address}\n  Port {PORT}\n")
    assert client.hello("there", config=file)["path"] == str(host.path)


def test_only_an_agent_has_the_key(bed: Bed, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    host = bed.host()
    key = bed.key("secret")
    allow(host, key)
    assert "none of our keys" in client.refusal(host).cause or "not our key" in client.refusal(host).cause
    agent = bed.agent(key)
    key.unlink()
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    assert client.hello(host)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    bed.config(f"Host *\n  IdentityAgent {agent}\n  IdentityFile ~/.ssh/secret.pub\n  IdentitiesOnly yes\n")
    assert client.hello(host) if client.name == "paramiko" else True  # ssh takes ~ from the passwd


def test_an_agent_that_has_gone_is_passed_over(bed: Bed, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(bed.root / "gone"))
    assert client.hello(bed.host())


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_keys_and_host_keys_of_other_types(bed: Bed, client: Client, kind: str) -> None:
    host = bed.host(key=kind)
    allow(host, bed.key(f"id_{kind}", kind))
    assert client.hello(host)


def certify(bed: Bed, key: Path) -> Path:
    """A certificate for *key*, by a new authority whose public key is returned."""
    authority = bed.key("authority")
    subprocess.run(["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", "root", f"{key}.pub"], check=True)
    return authority.with_name("authority.pub")


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_certificate_beside_the_key_or_named_or_in_the_agent(
    bed: Bed, client: Client, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.need_root()
    key = bed.key("certified", kind)
    authority = certify(bed, key)
    host = bed.host(options={"TrustedUserCAKeys": str(authority)})
    (host.root / "authorized_keys").write_text("")
    bed.config(f"Host *\n  IdentityFile {key}\n")
    assert client.hello(host)
    agent = bed.agent(key)
    certificate = key.with_name("certified-cert.pub").rename(bed.home / "elsewhere.pub")
    bed.config(f"Host *\n  IdentityFile {key}\n  CertificateFile {certificate}\n")
    assert client.hello(host)
    key.unlink()
    certificate.unlink()
    bed.config("")
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    assert client.hello(host)


def test_through_jump_hosts_that_are_checked_and_configured_themselves(bed: Bed, client: Client) -> None:
    first, second = bed.hosts(2, own_network=False)
    last = bed.host()
    bed.distrust(first)
    bed.trust(first, "bastion")
    bed.config(
        f"Host one\n  HostName {first.address}\n  Port {PORT}\n  HostKeyAlias bastion\n"
        f"Host two\n  HostName {second.address}\n  Port {PORT}\n  ProxyJump one\n"
        f"Host web\n  HostName {last.address}\n  Port {PORT}\n  ProxyJump two\n"
        f"Host chain\n  HostName {last.address}\n  Port {PORT}\n  ProxyJump one,{second.address}:{PORT}\n"
    )
    for name in ("web", "chain"):
        assert client.hello(name)["path"] == str(last.path)
    bed.distrust(second)
    assert "not known" in client.refusal("web").title


def test_hosts_behind_one_jump_host_share_its_login(bed: Bed) -> None:
    gateway, hosts = bed.host(own_network=False), bed.hosts(3)
    bed.config(
        f"Host web*\n  ProxyJump {gateway.address}:{PORT}\n"
        + "".join(f"Host web{number}\n  HostName {host.address}\n  Port {PORT}\n" for number, host in enumerate(hosts))
    )
    client = Client("paramiko")
    sessions = [client.session(f"web{number}") for number in range(3)]
    assert gateway.log().count("Accepted publickey") == 1
    for session in sessions:
        assert session.hello("~/app")
        session.__exit__()
    wait_until(lambda: not gateway.sessions(), what="the shared login has ended with the last of them")


def test_a_proxy_command_carries_the_connection_and_leaves_nothing(bed: Bed, client: Client) -> None:
    host = bed.host()
    pids = bed.root / "pids"
    script = bed.root / "carry"
    script.write_text(f'#!/bin/sh\necho $$ >> {pids}\nexec python3 {Path(__file__).with_name("carry.py")} "$@"\n')
    script.chmod(0o755)
    bed.config(f"Host web\n  HostName {host.address}\n  Port {PORT}\n  ProxyCommand {script} %h %p\n")
    with client.session("web") as session:
        assert session.hello("~/app")["path"] == str(host.path)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.read_text().split()), what="it has gone")


def test_fifty_at_once_get_in_at_a_server_with_the_default_limits(bed: Bed, client: Client) -> None:
    host = bed.host(options={"MaxStartups": "10:30:100"})
    count = 50 if client.name == "paramiko" else 20
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            client.hello(host, silent_after=60.0)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not failed


def test_a_connection_that_is_dropped_before_the_login_is_tried_again(bed: Bed, client: Client) -> None:
    host = bed.host()
    door = socket.create_server(("127.0.0.1", 0))
    dropped = []

    def turn_away() -> None:
        # Twice without a word, as sshd does above MaxStartups; then through.
        for _ in range(2):
            door.accept()[0].close()
            dropped.append(1)
        carry = door.accept()[0]
        there = socket.create_connection((host.address, PORT))
        for one, other in ((carry, there), (there, carry)):
            threading.Thread(target=pump, args=(one, other), daemon=True).start()

    threading.Thread(target=turn_away, daemon=True).start()
    bed.config(f"Host web\n  HostName 127.0.0.1\n  Port {door.getsockname()[1]}\n  HostKeyAlias known\n")
    bed.trust(host, "known")
    assert client.hello("web")["path"] == str(host.path)
    assert len(dropped) == 2
    door.close()


def pump(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_the_environment_of_the_client_stays_here(bed: Bed, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_SECRET", "sesame")
    host = bed.host(options={"AcceptEnv": "LC_*"})
    with client.session(host):
        told = [read(f"/proc/{pid}/environ") for pid in host.processes()]
    assert told and (client.name == "openssh" or not any(b"sesame" in text for text in told))
    assert os.environ["LC_SECRET"]
