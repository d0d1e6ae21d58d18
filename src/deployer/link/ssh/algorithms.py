"""Which algorithms are offered: the fastest cipher first, and what the ssh config asks for."""

from __future__ import annotations

from collections.abc import Sequence

from deployer.link.ssh.lib import paramiko
from deployer.link.ssh_options import Options, listed
from deployer.link.ssh_words import matches

_OPTIONS = (
    ("ciphers", "ciphers"),
    ("macs", "digests"),
    ("kexalgorithms", "kex"),
    ("hostkeyalgorithms", "key_types"),
)


def offer(transport: paramiko.Transport, options: Options, known_types: Sequence[str]) -> None:
    """
    Set what *transport* offers. Host keys of *known_types* are asked for first: a server with several would else show another.

    Raises PreflightError for an option that leaves nothing of what paramiko has.
    """
    security = transport.get_security_options()
    # GCM does the cipher and the checksum in one call to OpenSSL: twice the rate of ctr (shared/research/performance.md).
    security.ciphers = tuple(sorted(security.ciphers, key=lambda name: "gcm" not in name))
    for option, attribute in _OPTIONS:
        ours: Sequence[str] = getattr(security, attribute)
        setattr(security, attribute, _chosen(options, option, ours))
    security.key_types = tuple(sorted(security.key_types, key=lambda name: _type(name) not in known_types))


def _chosen(options: Options, option: str, ours: Sequence[str]) -> tuple[str, ...]:
    text = options.found.text(option)
    if not text:
        return tuple(ours)
    sign, names = (text[0], listed(text[1:])) if text[0] in "+-^" else ("", listed(text))
    named = [name for wanted in names for name in ours if matches([wanted], name)]
    if sign == "-":
        left = [name for name in ours if name not in named]
    elif sign == "^":
        left = [*named, *(name for name in ours if name not in named)]
    else:
        left = list(ours) if sign == "+" else list(dict.fromkeys(named))
    if not left:
        raise options.wrong(option, "paramiko has none of these")
    return tuple(left)


def _type(algorithm: str) -> str:
    """The type of the key that signs by *algorithm*."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm
