"""Host keys are always checked: what is known gets in, all else is told with what a person needs to decide."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess

import pytest

from conftest import Client
from sshd import PORT, Bed, Host


def rekey(host: Host) -> None:
    """Give the server another key of the same type."""
    host.stop()
    for name in ("host_key", "host_key.pub"):
        (host.root / name).unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host.root / "host_key")], check=True)
    host.start()


def test_an_unknown_key_is_refused_with_the_command_that_adds_exactly_it(bed: Bed, client: Client) -> None:
    host = bed.host(known=False)
    error = client.refusal(host)
    assert error.title == f"the host key of {host.written} is not known"
    assert error.cause == f"it shows ssh-ed25519 {host.fingerprint}"
    told = error.hint.splitlines()[-1]
    assert told == f"echo '[{host.address}]:{PORT} {host.key}' >> ~/.ssh/known_hosts"
    assert not bed.known_hosts.exists()
    subprocess.run(["sh", "-c", told], check=True)
    assert client.hello(host)


def test_accept_new_takes_it_once_and_refuses_another(bed: Bed, client: Client) -> None:
    host = bed.host(known=False)
    bed.known_hosts.parent.mkdir(exist_ok=True)
    assert client.hello(host, host_keys="accept-new")
    assert bed.known_hosts.read_text().count(host.key.split()[1]) == 1
    assert stat.S_IMODE(bed.known_hosts.stat().st_mode) == 0o600
    assert client.hello(host)
    rekey(host)
    assert "has changed" in client.refusal(host, host_keys="accept-new").title


def test_a_line_without_an_end_is_not_glued_to(bed: Bed) -> None:
    client = Client("paramiko")  # ssh itself does glue
    one, two = bed.hosts(2, known=False)
    bed.trust(one)
    bed.known_hosts.write_text(bed.known_hosts.read_text().rstrip("\n"))
    assert client.hello(two, host_keys="accept-new")
    assert client.hello(one) and client.hello(two)


@pytest.mark.parametrize("mode", ["strict", "accept-new"])
def test_a_changed_key_is_refused_with_the_line_that_has_the_other(bed: Bed, client: Client, mode: str) -> None:
    bed.host()
    host = bed.host()
    rekey(host)
    before = bed.known_hosts.read_text()
    error = client.refusal(host, host_keys=mode)
    assert error.title == f"the host key of {host.written} has changed"
    assert host.fingerprint in error.cause and f"{bed.known_hosts}:2" in error.cause
    assert bed.known_hosts.read_text() == before


@pytest.mark.parametrize("mode", ["strict", "accept-new"])
def test_another_type_than_the_known_one_counts_as_changed(bed: Bed, client: Client, mode: str) -> None:
    host = bed.host(known=False, key="ecdsa")
    other = bed.key("other")
    bed.known_hosts.write_text(f"[{host.address}]:{PORT} {other.with_name('other.pub').read_text()}")
    error = client.refusal(host, host_keys=mode)
    # ssh calls a key of another type new with `strict`; it is refused in either case.
    assert re.search("has changed|is not known", error.title)
    assert mode == "strict" or "changed" in error.title or client.name == "openssh"


def test_a_server_with_several_keys_is_asked_for_the_known_one(bed: Bed, client: Client) -> None:
    host = bed.host(known=False, start=False)
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(host.root / "rsa")], check=True)
    host.options["HostKey"] = str(host.root / "rsa")
    key = " ".join((host.root / "rsa.pub").read_text().split()[:2])
    bed.known_hosts.write_text(f"[{host.address}]:{PORT} {key}\n")
    host.start()
    assert client.hello(host)


def test_a_revoked_key_is_refused(bed: Bed, client: Client) -> None:
    host = bed.host()
    with bed.known_hosts.open("a") as file:
        file.write(f"@revoked * {host.key}\n")
    error = client.refusal(host)
    assert error.title == f"the host key of {host.written} was revoked"
    assert "revoked" in client.refusal(host, host_keys="accept-new").title


@pytest.mark.parametrize("pattern", ["127.*,!127.0.0.1", "[127.?*]:2222", "plain"])
def test_patterns_names_without_a_port_and_hashed_names(bed: Bed, client: Client, pattern: str) -> None:
    host = bed.host(known=False)
    bed.trust(host, host.address if pattern == "plain" else pattern)
    assert client.hello(host)


def test_hashed_names(bed: Bed, client: Client) -> None:
    host = bed.host()
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(bed.known_hosts)], check=True, capture_output=True)
    assert host.address not in bed.known_hosts.read_text()
    assert client.hello(host)
    rekey(host)
    assert "has changed" in client.refusal(host).title


def test_a_file_named_by_the_config_counts(bed: Bed, client: Client) -> None:
    host = bed.host(known=False)
    file = bed.home / "my hosts"
    bed.config(f'Host *\n  UserKnownHostsFile "{file}"\n')
    error = client.refusal(host)
    assert error.hint.splitlines()[-1].endswith(f">> ~/{shlex.quote('my hosts')}")
    file.write_text(f"[{host.address}]:{PORT} {host.key}\n")
    assert client.hello(host)


def test_no_word_in_the_config_turns_the_check_of_a_jump_host_off(bed: Bed, client: Client) -> None:
    jump, host = bed.host(known=False, own_network=False), bed.host()
    bed.config(
        f"Host {host.address}\n  ProxyJump {jump.written}\nHost *\n  StrictHostKeyChecking no\n"
        "  NoHostAuthenticationForLocalhost yes\n"
    )
    before = bed.known_hosts.read_text()
    error = client.refusal(host)
    assert "jump host" in error.title and "not known" in error.title
    assert bed.known_hosts.read_text() == before and "Accepted publickey" not in jump.log()
    bed.trust(jump)
    assert client.hello(host)


def test_a_connection_that_somebody_holds_open_is_not_used(bed: Bed) -> None:
    host = bed.host()
    socket = bed.root / "held"
    held = ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={bed.known_hosts}", "-i", str(bed.home / ".ssh/id_ed25519")]
    there = ["-p", str(PORT), host.address]
    subprocess.run([*held, "-M", "-S", str(socket), "-f", "-N", *there], check=True, stdin=subprocess.DEVNULL)
    try:
        bed.distrust(host)
        bed.config(f"Host *\n  ControlPath {socket}\n")
        assert "not known" in Client("openssh").refusal(host).title
    finally:
        subprocess.run([*held, "-S", str(socket), "-O", "exit", *there], check=True, capture_output=True)


def test_no_word_in_the_config_turns_the_check_off(bed: Bed, client: Client) -> None:
    host = bed.host(known=False)
    bed.config("Host *\n  StrictHostKeyChecking no\n  CheckHostIP no\n  NoHostAuthenticationForLocalhost yes\n")
    assert "not known" in client.refusal(host).title


def test_an_authority_is_for_openssh(bed: Bed) -> None:
    host = bed.host(known=False)
    authority = bed.key("hosts-ca")
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-s",
            str(authority),
            "-I",
            "web",
            "-h",
            "-n",
            host.address,
            str(host.root / "host_key.pub"),
        ],
        check=True,
    )
    host.stop()
    host.options["HostCertificate"] = str(host.root / "host_key-cert.pub")
    host.start()
    public = authority.with_name("hosts-ca.pub").read_text()
    bed.known_hosts.write_text(f"@cert-authority [{host.address}]:{PORT},{host.address} {public}")
    assert Client("openssh").hello(host)
    error = Client("paramiko").refusal(host)
    assert "@cert-authority" in error.cause and 'client = "openssh"' in error.hint
