"""Commands that a pool is told by: run to their end, under a time limit, with what they said."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from typing import IO, Mapping, NamedTuple, Optional, Sequence

from deployer.errors import PoolError
from deployer.host.spawn import base_environment

SHOWN = 2000
"""Characters of a command's output that an error repeats: its end."""


class Said(NamedTuple):
    """How a command ended and what it wrote to each stream."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What a person should see of it."""
        text = "\n".join(part.strip() for part in (self.out, self.err) if part.strip())
        return text[-SHOWN:] or "(no output)"


def run(argv: Sequence[str], timeout: float, env: Optional[Mapping[str, str]] = None) -> Said:
    """
    Run *argv* to its end. Raises PoolError when it cannot be started, or has not ended after *timeout* seconds.

    Only the process itself is waited for: what it leaves running in the background may keep its output open.
    """
    environment = {**base_environment(os.environ), **(env or {})}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
            )
        except (OSError, ValueError) as error:
            hint = "look at `command` in the pool of this target"
            raise PoolError(f"{argv[0]} could not be started", cause=str(error), hint=hint) from error
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            said = Said(-1, _text(out), _text(err))
            raise PoolError(
                f"{' '.join(argv)} did not end within {timeout:g}s",
                cause=said.words,
                hint="raise `timeout` in the pool of this target, or look why the command hangs",
            ) from None
        except BaseException:
            _kill(process)
            raise
        return Said(code, _text(out), _text(err))


def _kill(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the group is still its own
        process.wait()
    except (ProcessLookupError, PermissionError):
        pass  # what sudo started is root's, and no time limit of ours ends it


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
