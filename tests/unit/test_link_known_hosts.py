"""Which keys a host may show."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from deployer.link import known_hosts
from deployer.link.known_hosts import Standing, judge, names, read, types

KEY, OTHER = "QUFB", "QkJC"
NAMES = ["[web]:2222", "web"]


def hashed(name: str) -> str:
    salt = b"s" * 20
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    "lines, standing",
    [
        ("", Standing.UNKNOWN),
        (f"[web]:2222 ssh-ed25519 {KEY} me", Standing.KNOWN),
        (f"[WEB]:2222 ssh-ed25519 {KEY}", Standing.KNOWN),
        (f"# no\n\nother,[web]:2222 ssh-ed25519 {KEY}", Standing.KNOWN),
        (f"{hashed('[web]:2222')} ssh-ed25519 {KEY}", Standing.KNOWN),
        (f"|1|broken|! ssh-ed25519 {KEY}", Standing.UNKNOWN),
        (f"web ssh-ed25519 {KEY}", Standing.KNOWN),
        (f"web ssh-ed25519 {OTHER}", Standing.UNKNOWN),
        (f"* ssh-ed25519 {KEY}", Standing.KNOWN),
        (f"*,!web,![web]:2222 ssh-ed25519 {KEY}", Standing.UNKNOWN),
        (f"[web]:2222 ssh-ed25519 {OTHER}", Standing.CHANGED),
        (f"[web]:2222 ssh-rsa {KEY}", Standing.CHANGED),
        (f"[web]:2222 ssh-ed25519 {OTHER}\n[web]:2222 ssh-ed25519 {KEY}", Standing.KNOWN),
        (f"[web]:2222 ssh-ed25519 {KEY}\n@revoked * ssh-ed25519 {KEY}", Standing.REVOKED),
        (f"@revoked other ssh-ed25519 {KEY}", Standing.UNKNOWN),
        (f"@cert-authority *web* ssh-ed25519 {OTHER}", Standing.AUTHORITY),
        (f"@cert-authority * ssh-ed25519 {OTHER}\nweb ssh-ed25519 {KEY}", Standing.KNOWN),
        ("[web]:2222 ssh-ed25519", Standing.UNKNOWN),
    ],
)
def test_how_a_key_stands(lines: str, standing: Standing, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(lines)
    found, place = judge(read([file, tmp_path / "none"]), NAMES, "ssh-ed25519", KEY)
    assert found is standing
    assert (place is None) == (standing in (Standing.KNOWN, Standing.UNKNOWN))


def test_the_types_that_are_known_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"web ssh-rsa {KEY}\n[web]:2222 ecdsa-sha2-nistp256 {KEY}\nother ssh-ed25519 {KEY}\n")
    assert types(read([file]), NAMES) == ["ssh-rsa", "ecdsa-sha2-nistp256"]


def test_names() -> None:
    assert names("Web", 22, None) == ["web"]
    assert names("web", 2222, None) == NAMES
    assert names("web", 2222, "Alias") == ["alias"]


def test_a_line_is_added_to_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "ssh" / "known_hosts"
    known_hosts.add(file, "a b c")
    file.write_text("a b c")
    known_hosts.add(file, "d e f")
    assert file.read_text() == "a b c\nd e f\n"
    assert file.parent.stat().st_mode & 0o777 == 0o700
