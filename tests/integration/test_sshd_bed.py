"""The bed itself: what the other tests stand on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import parts
from sshd import PORT, Bed, Host


def ssh(bed: Bed, host: Host, command: str) -> str:
    done = subprocess.run(
        [
            "ssh", "-F", "none", "-o", "BatchMode=yes", "-i", str(bed.home / ".ssh/id_ed25519"),
            "-o", f"UserKnownHostsFile={bed.known_hosts}", "-p", str(PORT), f"{host.user}@{host.address}", command,
        ],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + host.log()
    return done.stdout


def test_each_host_has_a_home_and_a_network_of_its_own(bed: Bed) -> None:
    parts.need_root()
    one, two = bed.hosts(2)
    assert ssh(bed, one, "echo $HOME; pwd > ~/seen").strip() == str(one.home)
    assert ssh(bed, two, "echo $HOME").strip() == str(two.home)
    assert ssh(bed, one, "readlink /proc/self/ns/net") != ssh(bed, two, "readlink /proc/self/ns/net")
    assert (one.home / "seen").exists()


def test_a_throwaway_user_logs_in_and_an_unprivileged_server_serves(bed: Bed) -> None:
    user = bed.user()
    assert ssh(bed, bed.host(user=user), "id -un").strip() == user
    own = bed.host(daemon=user)
    assert ssh(bed, own, "id -un; echo $HOME").split() == [user, str(own.home)]
    assert "sudo" not in ssh(bed, bed.host(path=["/nowhere"]), "echo $PATH")


def test_links_are_cut_and_fall_silent(bed: Bed) -> None:
    host = bed.host()
    link = subprocess.Popen(
        ["ssh", "-F", "none", "-o", "BatchMode=yes", "-i", str(bed.home / ".ssh/id_ed25519"), "-o",
         f"UserKnownHostsFile={bed.known_hosts}", "-p", str(PORT), host.address, "echo up; cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert link.stdout is not None and link.stdout.readline() == b"up\n"
    pids = host.freeze()
    assert pids and all("T" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3] for pid in pids)
    host.thaw(pids)
    host.kill_sessions()
    assert link.wait(10) == 255
    assert ssh(bed, host, "echo again").strip() == "again"


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_host_keys(bed: Bed, kind: str) -> None:
    assert ssh(bed, bed.host(key=kind), "true") == ""
