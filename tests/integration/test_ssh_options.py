"""What paramiko cannot do is refused by the name of the option; what changes nothing is passed over; policies are kept."""

from __future__ import annotations

import pytest

from conftest import Client
from sshd import PORT, Bed

CANNOT = {
    "KnownHostsCommand": "/bin/false",
    "RevokedHostKeys": "/etc/hosts",
    "BindInterface": "lo",
    "CanonicalizeHostname": "yes",
    "ProxyUseFdpass": "yes",
    "PubkeyAuthentication": "no",
    "Ciphers": "chacha20-poly1305@openssh.com",
    "KexAlgorithms": "sntrup761x25519-sha512@openssh.com",
    "Port": "ninety",
}
HARMLESS = """
    IgnoreUnknown UseKeychain
    ServerAliveInterval 5
    ServerAliveCountMax 3
    TCPKeepAlive yes
    ControlMaster auto
    ControlPath ~/.ssh/%C
    ControlPersist 10m
    Compression yes
    ForwardAgent yes
    ForwardX11 yes
    SendEnv LANG LC_*
    SetEnv A=b
    AddKeysToAgent yes
    UseKeychain yes
    HashKnownHosts yes
    UpdateHostKeys ask
    VisualHostKey yes
    LogLevel DEBUG3
    PreferredAuthentications gssapi-with-mic,publickey
    GSSAPIAuthentication yes
    LocalForward 8080 localhost:80
    DynamicForward 1080
    RequestTTY force
    RemoteCommand tmux
    PermitLocalCommand yes
    LocalCommand touch ~/executed
    EscapeChar ~
    IPQoS throughput
    StrictHostKeyChecking no
    ExitOnForwardFailure yes
    AddressFamily inet
    Ciphers aes256-gcm@openssh.com,aes128-ctr
    MACs +hmac-sha2-256
    KexAlgorithms ^ecdh-sha2-nistp256
    HostKeyAlgorithms -ssh-rsa
"""


@pytest.mark.parametrize("option", CANNOT)
def test_what_paramiko_cannot_do_is_named(bed: Bed, option: str) -> None:
    host = bed.host()
    file = bed.config(f"Host *\n  {option} {CANNOT[option]}\n")
    where = "web.example" if option == "Port" else host.written
    error = Client("paramiko").refusal(where)
    assert option.lower() in (error.cause or "") and f"{file}:2" in (error.cause or "")
    assert 'client = "openssh"' in (error.hint or "")


@pytest.mark.parametrize(
    "line", ["Match localnetwork 10.0.0.0/8", "Match tagged x", 'Host "open', "Include ${NO_SUCH_VARIABLE}"]
)
def test_lines_that_we_do_not_have_are_named(bed: Bed, line: str) -> None:
    host = bed.host()
    file = bed.config(f"{line}\n  Port 1\n")
    error = Client("paramiko").refusal(host)
    assert f"{file}:1" in error.title and error.cause == line


def test_a_config_that_is_not_there_is_an_error(bed: Bed, client: Client) -> None:
    error = client.refusal(bed.host(), config=bed.root / "nothing")
    assert "nothing" in error.title or "nothing" in (error.cause or "")


def test_what_changes_nothing_for_us_is_passed_over(bed: Bed, client: Client) -> None:
    host = bed.host()
    bed.config(f"Host web\n  HostName {host.address}\n  Port {PORT}\n{HARMLESS}")
    assert client.hello("web")["path"] == str(host.path)
    assert not (bed.home / "executed").exists()


def test_other_ways_to_log_in_are_named_when_keys_are_refused(bed: Bed) -> None:
    host = bed.host()
    (host.root / "authorized_keys").write_text("")
    file = bed.config("Host *\n  GSSAPIAuthentication yes\n  PKCS11Provider /usr/lib/p11.so\n")
    error = Client("paramiko").refusal(host)
    assert f"{file}:2: gssapiauthentication" in (error.hint or "") and "pkcs11provider" in (error.hint or "")
    assert 'client = "openssh"' in (error.hint or "")


def test_a_circle_of_jump_hosts_is_an_error(bed: Bed) -> None:
    bed.config("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    assert "circle" in Client("paramiko").refusal("a").title
    bed.config("Host *\n  ProxyJump a\n")
    assert "circle" in Client("paramiko").refusal("a").title
