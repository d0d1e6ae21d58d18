"""The system's own `ssh`: slower to connect, and it understands every config."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import threading
from typing import IO, TYPE_CHECKING

from deployer.errors import DeployerError, PreflightError
from deployer.link import bootstrap, openssh_trouble, refusals
from deployer.link.address import Address
from deployer.link.handshakes import HANDSHAKES
from deployer.link.openssh_words import Words
from deployer.link.pipe import End
from deployer.link.ssh_options import Options, resolve

if TYPE_CHECKING:
    from deployer.link.dial import Ssh

LAST_WORDS = 2.0
OWN_ERROR = 255
"""The status with which ssh says that it failed itself, and not the command."""


class OpensshPipe:
    """One `ssh` process. Its stderr goes to a file, which is read when it has ended."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], words: Words, host: str, ssh: Ssh) -> None:
        self._process = process
        self._errors = errors
        self._words = words
        self._host = host
        self._ssh = ssh
        self._shaking = threading.Lock()
        self._stopping = threading.Lock()

    @staticmethod
    def open(address: Address, ssh: Ssh, become: str | None) -> OpensshPipe:
        """Start `ssh` for *address*, when it is our turn there. What it meets is told by `end`. Raises PreflightError."""
        options = _readable(address, ssh)
        try:
            words = Words(address, ssh, options)
        except OSError as error:
            raise _unstartable(error) from error
        HANDSHAKES.turn(words.where).acquire()
        try:
            errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the pipe
            process = subprocess.Popen(
                words.argv(bootstrap.command(become)), bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                # A session of its own: Ctrl-C in the terminal is the client's to handle.
                stderr=errors, start_new_session=True, umask=0o077, env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
            )  # fmt: skip
        except BaseException as error:
            HANDSHAKES.turn(words.where).release()
            words.close()
            if isinstance(error, (OSError, ValueError)):
                raise _unstartable(error) from error
            raise
        return OpensshPipe(process, errors, words, address.written, ssh)

    @property
    def login_within(self) -> float:
        return self._words.connect_within

    def read(self, most: int) -> bytes:
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), most)
        self._shaken()  # or not; in any case the handshake is over
        return data

    def ready(self) -> bool:
        assert self._process.stdout is not None
        return _polled(self._process.stdout.fileno(), select.POLLIN)

    def writable(self) -> bool:
        assert self._process.stdin is not None
        return _polled(self._process.stdin.fileno(), select.POLLOUT)

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._process.stdin.fileno(), view) :]

    def stop(self) -> None:
        if not self._stopping.acquire(blocking=False):
            return
        self._shaken()
        # At once: it has nothing to tidy up. The ssh or the command that carries it to the host is in its group.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        self._words.close()

    def end(self) -> End:
        self._shaken()
        try:
            status: int | None = self._process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            status = None
        said = os.pread(self._errors.fileno(), 1 << 20, 0).decode("utf-8", "replace")
        return End(status, said, self._error(said.strip()) if status == OWN_ERROR else None)

    def _error(self, said: str) -> DeployerError:
        return openssh_trouble.explained(said, self._host, self._words, self._ssh.connect_timeout)

    def _shaken(self) -> None:
        """The handshake is over: the next one's turn."""
        if self._shaking.acquire(blocking=False):
            HANDSHAKES.turn(self._words.where).release()


def _unstartable(error: OSError | ValueError) -> PreflightError:
    if isinstance(error, OSError) and error.errno in refusals.SCARCE:
        return refusals.scarce("ssh could not be started", error)
    return PreflightError(
        "ssh could not be started", cause=str(error), state=refusals.UNTOUCHED,
        hint='install the OpenSSH client, or write client = "paramiko"',
    )  # fmt: skip


def _polled(descriptor: int, what: int) -> bool:
    """Whether *what* would not block. Not `select`, which knows no descriptor above 1023."""
    poll = select.poll()
    poll.register(descriptor, what)
    return bool(poll.poll(0))


def _readable(address: Address, ssh: Ssh) -> Options | None:
    """What we understand of the config, for our messages; ssh itself understands all of it."""
    try:
        options = resolve(address, ssh.config)
        return options if options.where and options.known_hosts else None
    except PreflightError:
        if ssh.config is not None and not ssh.config.is_file():
            raise
        return None
