"""What we can log in with: key files (each is read once), the agent's keys, certificates."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deployer.link import refusals
from deployer.link.ssh.lib import paramiko
from deployer.link.ssh_options import Options

_SECURITY_KEY = "sk-"


class Agent(paramiko.agent.AgentSSH):
    """The agent at *path*. One per connection: its conversation is a strict question and answer."""

    def __init__(self, path: str) -> None:
        super().__init__()
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise refusals.scarce("the ssh agent could not be asked", error) from error
        sock.settimeout(60.0)  # a person may have to confirm
        try:
            sock.connect(path)
            self._connect(sock)  # type: ignore[attr-defined]  # what paramiko's own Agent does, for the one socket it knows
        except (OSError, paramiko.SSHException):
            sock.close()  # a socket that was left behind is no agent

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Loaded:
    """What became of one key file; `trouble` is why it cannot be used."""

    key: paramiko.PKey | None
    public: bytes | None
    trouble: str | None = None


class KeyFiles:
    """Key files by path, read once: an RSA key costs 120 ms. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[Path, Loaded | None] = {}

    def public(self, path: Path) -> bytes | None:
        """The public half, from the file beside the key where there is one."""
        for file in (path.with_name(path.name + ".pub"), path):
            found = _public_line(file)
            if found is not None:
                return found
        loaded = self.load(path)
        return loaded.public if loaded else None

    def load(self, path: Path) -> Loaded | None:
        """The key; None where there is no such file."""
        with self._lock:
            if path not in self._loaded:
                self._loaded[path] = _load(path)
            return self._loaded[path]


FILES = KeyFiles()


class Candidates:
    """The keys to try, in order; `troubles` gathers what could not be tried."""

    def __init__(self, options: Options, agent: Agent | None) -> None:
        self._options = options
        self._agent = {key.blob: key for key in agent.get_keys()} if agent else {}
        self.troubles: list[str] = []

    def __iter__(self) -> Iterator[paramiko.PKey]:
        """Those of the agent that the config names, other named ones, the agent's other keys, and the files that ssh looks for."""
        files = [(path, FILES.public(path)) for path in self._options.key_files]
        used: set[bytes | None] = set()
        for path, public in files:
            if public in self._agent:
                used.add(public)
                yield from self._with_certificates(self._agent[public], path)
        left = [path for path, public in files if public not in used]
        if self._options.key_files_named:
            yield from self._from(left)
        if not self._options.identities_only:
            yield from self._others(used)
        if not self._options.key_files_named:
            yield from self._from(left)

    def _others(self, used: set[bytes | None]) -> Iterator[paramiko.PKey]:
        for blob, key in self._agent.items():
            if key.get_name().startswith(_SECURITY_KEY):
                self.troubles.append(f"the agent's security key {key.comment}: paramiko cannot use it")
            elif blob not in used:
                yield _whole(key)

    def _from(self, paths: list[Path]) -> Iterator[paramiko.PKey]:
        for path in paths:
            loaded = FILES.load(path)
            if loaded is None:
                if self._options.key_files_named:
                    self.troubles.append(f"{path}: no such file")
            elif loaded.key is None:
                self.troubles.append(f"{path}: {loaded.trouble}")
            else:
                yield from self._with_certificates(loaded.key, path)

    def _with_certificates(self, key: paramiko.PKey, path: Path) -> Iterator[paramiko.PKey]:
        for file in (*self._options.certificates, path.with_name(path.name + "-cert.pub")):
            certified = _certified(key, file)
            if certified is not None:
                yield certified
        yield key


class Certified(paramiko.PKey):
    """*key* as *blob*, its certificate, presents it."""

    def __init__(self, key: paramiko.PKey, blob: paramiko.pkey.PublicBlob) -> None:
        self._key = key
        self.public_blob = blob

    def get_name(self) -> str:
        return str(self._key.get_name())

    def asbytes(self) -> bytes:
        return bytes(self._key.asbytes())

    def can_sign(self) -> bool:
        return True

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
        return self._key.sign_ssh_data(data, algorithm)


def _whole(key: paramiko.agent.AgentKey) -> paramiko.PKey:
    """*key*, or, where it is a certificate, that: paramiko would present the bare RSA key in it, under the certificate's name."""
    name = key.get_name()
    return Certified(key, paramiko.pkey.PublicBlob(name, key.blob)) if "-cert-" in name else key


def _certified(key: paramiko.PKey, file: Path) -> Certified | None:
    try:
        blob = paramiko.pkey.PublicBlob.from_file(str(file))
    except (OSError, ValueError, UnicodeDecodeError):
        return None
    # The certificate holds the key's own numbers, whatever its type.
    if not blob.key_type.startswith(key.get_name()) or _numbers(key.asbytes()) not in blob.key_blob:
        return None
    return Certified(key, blob)


def _numbers(blob: bytes) -> bytes:
    return blob[4 + int.from_bytes(blob[:4], "big") :]


def _public_line(file: Path) -> bytes | None:
    try:
        words = file.read_text("ascii").split(None, 2)
        return base64.b64decode(words[1], validate=True) if words[0].startswith(("ssh-", "ecdsa-", "sk-")) else None
    except (OSError, ValueError, IndexError):
        return None


def _load(path: Path) -> Loaded | None:
    try:
        if _public_line(path) is not None:
            return Loaded(None, _public_line(path), "only the public half is here, and the agent does not have the key")
        key = paramiko.PKey.from_path(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Loaded(None, None, error.strerror or str(error))
    except TypeError:  # cryptography: "Key is password-protected"
        return Loaded(None, None, "it is encrypted, and no agent has it; add it: ssh-add " + str(path))
    except Exception as error:
        return Loaded(None, None, f"paramiko cannot read it ({error or type(error).__name__})")
    key.public_blob = None  # its certificate is offered beside it, not instead
    return Loaded(key, key.asbytes())
