"""The system's own `ssh`: slower to connect, and it understands every config."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING

from deployer.errors import LinkError
from deployer.link import bootstrap
from deployer.link.address import Address
from deployer.link.pipe import End

if TYPE_CHECKING:
    from deployer.link.dial import Ssh

LAST_WORDS = 2.0


class OpensshPipe:
    """One `ssh` process. Its stderr goes to a file, which is read when it has ended."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    @staticmethod
    def open(address: Address, ssh: Ssh, become: str | None) -> OpensshPipe:
        errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the pipe
        try:
            process = subprocess.Popen(
                _argv(address, ssh, bootstrap.command(become)), bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise LinkError("ssh could not be started", cause=str(error), state="nothing was changed") from error
        return OpensshPipe(process, errors)

    def read(self, most: int) -> bytes:
        assert self._process.stdout is not None
        return os.read(self._process.stdout.fileno(), most)

    def ready(self) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._process.stdin.fileno(), view) :]

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()

    def end(self) -> End:
        try:
            status: int | None = self._process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            status = None
        self._errors.seek(0)
        return End(status, self._errors.read().decode("utf-8", "replace"))


def _argv(address: Address, ssh: Ssh, command: str) -> list[str]:
    words = [
        "ssh",
        "-T",
        "-x",
        "-a",
        "-o",
        "BatchMode=yes",
        "-o",
        f"ConnectTimeout={max(1, round(ssh.connect_timeout))}",
    ]
    words += ["-o", f"StrictHostKeyChecking={'accept-new' if ssh.host_keys == 'accept-new' else 'yes'}"]
    words += ["-F", str(ssh.config)] if ssh.config else []
    words += ["-l", address.user] if address.user else []
    words += ["-p", str(address.port)] if address.port else []
    return [*words, "--", address.host, command]
