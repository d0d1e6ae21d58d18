"""How one host is reached, from its name in `hosts` and the ssh config: what both clients agree on."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deployer.errors import PreflightError
from deployer.link import known_hosts, ssh_config
from deployer.link.address import Address
from deployer.link.ssh_config import OPENSSH_HINT, Found
from deployer.link.ssh_words import BadWord, expand, split

DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
DEFAULT_KNOWN = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
DEFAULT_GLOBAL = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_JUMP = re.compile(r"(?:ssh://)?(.*?)/?")
_SHELL_SPECIAL = re.compile(r"[\s'\"`$\\;&<>|(){}\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Options:
    """What is known of the way to one host. Paths and names are expanded when they are asked for."""

    address: Address
    found: Found

    @cached_property
    def user(self) -> str:
        return self.found.text("user") or getpass.getuser()

    @cached_property
    def port(self) -> int:
        text = self.found.text("port") or "22"
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
            raise self.wrong("port", f"{text!r} is not a port")
        return int(text)

    @cached_property
    def host(self) -> str:
        """Where to connect: HostName, or the name itself."""
        name = self.found.text("hostname")
        plain = self.address.host.lower()
        return self._expanded("hostname", name, {"h": plain}) if name else plain

    @property
    def where(self) -> str:
        """host:port, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    # Who we are ------------------------------------------------------------------------------------------------------

    @property
    def key_files(self) -> tuple[Path, ...]:
        named = self.found.list("identityfile")
        chosen = [text for text in named if text.lower() != "none"]
        if not named:
            chosen = [f"~/.ssh/{name}" for name in DEFAULT_KEYS]
        return tuple(self._path("identityfile", text) for text in chosen)

    @property
    def key_files_named(self) -> bool:
        """Whether the config names them."""
        return bool(self.found.list("identityfile"))

    @property
    def certificates(self) -> tuple[Path, ...]:
        return tuple(self._path("certificatefile", text) for text in self.found.list("certificatefile"))

    @property
    def identities_only(self) -> bool:
        return self.says("identitiesonly")

    @property
    def agent(self) -> str | None:
        """The agent's socket."""
        text = self.found.text("identityagent")
        if text is None or text == "SSH_AUTH_SOCK":
            return os.environ.get("SSH_AUTH_SOCK") or None
        if text.lower() == "none":
            return None
        if text.startswith("$") and not text.startswith("${"):
            return os.environ.get(text[1:]) or None
        return str(self._path("identityagent", text))

    # Who they are ----------------------------------------------------------------------------------------------------

    @property
    def known_as(self) -> list[str]:
        """The names of this host in known_hosts."""
        return known_hosts.names(self.host, self.port, self.found.text("hostkeyalias"))

    @property
    def known_hosts(self) -> tuple[Path, ...]:
        """The files, the user's first: a new key goes into the first of all."""
        return (*self._files("userknownhostsfile", DEFAULT_KNOWN), *self._files("globalknownhostsfile", DEFAULT_GLOBAL))

    def _files(self, name: str, default: tuple[str, ...]) -> list[Path]:
        value = self.found.first.get(name)
        words = value.words if value else default
        return [self._path(name, word) for word in words if word.lower() != "none"]

    # How to get there ------------------------------------------------------------------------------------------------

    @property
    def jumps(self) -> tuple[Address, ...]:
        """ProxyJump, the first hop first."""
        text = self.found.text("proxyjump")
        if text is None or text.lower() == "none":
            return ()
        return tuple(self._jump(part.strip()) for part in text.split(","))

    def _jump(self, text: str) -> Address:
        whole = _JUMP.fullmatch(text)
        try:
            address = Address.parse(whole[1] if whole else text)
        except ValueError:
            raise self.wrong("proxyjump", f"{text!r} is not a host") from None
        if not address.host or address.host.startswith("-"):
            raise self.wrong("proxyjump", f"{text!r} is not a host")
        return address

    @property
    def proxy_command(self) -> str | None:
        text = self.found.text("proxycommand")
        if text is None or text.strip().lower() == "none":
            return None
        for token, name in (("%h", self.host), ("%n", self.address.host), ("%r", self.user)):
            if token in text and (_SHELL_SPECIAL.search(name) or name.startswith("-")):
                raise self.wrong("proxycommand", f"{name!r} must not get into a shell")
        return self._expanded("proxycommand", text, self._tokens())

    def connect_timeout(self, ours: float | None, default: float) -> float:
        """Seconds: *ours* where deploy.toml has it, else the config's, else *default*."""
        text = self.found.text("connecttimeout")
        if ours is None and text and text.isdigit() and int(text) > 0:
            return float(text)
        return ours or default

    @property
    def family(self) -> socket.AddressFamily:
        text = (self.found.text("addressfamily") or "any").lower()
        known = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
        return known.get(text, socket.AF_UNSPEC)

    def says(self, name: str) -> bool:
        return (self.found.text(name) or "no").lower() in ("yes", "true", "always")

    def wrong(self, name: str, why: str) -> PreflightError:
        """The error for an option that cannot be used."""
        value = self.found.first.get(name) or next(iter(self.found.collected.get(name, [])), None)
        where = f"{value.place}: {name} {value.text}" if value else name
        return PreflightError(
            f"the ssh config for {self.address.written} cannot be used: {why}", cause=where,
            state="nothing was changed", hint=OPENSSH_HINT,
        )  # fmt: skip

    # Tokens ----------------------------------------------------------------------------------------------------------

    def _path(self, name: str, text: str) -> Path:
        return Path(os.path.expanduser(self._expanded(name, text, self._tokens())))

    def _expanded(self, name: str, text: str, tokens: dict[str, str]) -> str:
        try:
            return expand(text, tokens)
        except BadWord as error:
            raise self.wrong(name, str(error)) from None

    def _tokens(self) -> dict[str, str]:
        local = os.uname().nodename
        jump, port = self.found.text("proxyjump") or "", str(self.port)
        return {
            "h": self.host, "n": self.address.host, "p": port, "r": self.user, "u": getpass.getuser(),
            "d": str(ssh_config.home()), "i": str(os.getuid()), "L": local.partition(".")[0], "l": local, "j": jump,
            "k": self.found.text("hostkeyalias") or self.address.host,
            "C": hashlib.sha1((local + self.host + port + self.user + jump).encode()).hexdigest(),
        }  # fmt: skip


def resolve(address: Address, config: Path | None) -> Options:
    """The options for *address*; see `ssh_config.look_up` for *config* and for what is raised."""
    return Options(address, ssh_config.look_up(address.host, address.user, address.port, config))


def listed(text: str) -> list[str]:
    """The names in a comma list of an option."""
    return [name for word in split(text) for name in word.split(",") if name]
