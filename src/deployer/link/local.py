"""The engine of this machine: a child process that speaks frames on its pipes, as it does on a remote host."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from contextvars import ContextVar
from pathlib import Path
from typing import IO, BinaryIO, cast

import deployer
from deployer.errors import LinkError
from deployer.wire import frames
from deployer.wire.frames import Frame

CLOSE_WITHIN = 5.0
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")

_ahead: ContextVar[LocalChannel | None] = ContextVar("the engine that was started ahead", default=None)


def start_ahead() -> None:
    """Start an engine for whoever asks for `channel` first: it boots beside the client's imports."""
    try:
        _ahead.set(LocalChannel())
    except LinkError:
        pass  # `channel` will tell


def channel() -> LocalChannel:
    """A channel to an engine on this machine: the one started ahead, where there is one. Raises LinkError."""
    ahead = _ahead.get()
    _ahead.set(None)
    return ahead or LocalChannel()


class LocalChannel:
    """Starts the agent with the bare interpreter: no site-packages, none of the client's secrets in its environment."""

    def __init__(self) -> None:
        engine = Path(deployer.__file__).parent / "host" / "__main__.py"
        python = getattr(sys, "_base_executable", None) or sys.executable
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the channel
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-S", "-X", "utf8", str(engine), "agent"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=_environment(),
                # A session of its own: Ctrl-C in the terminal is the client's to handle.
                start_new_session=True,
            )
        except OSError as error:
            raise LinkError("the host engine could not be started", cause=f"{python}: {error.strerror}") from error

    squeezes = False

    def send(self, frame: Frame) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frames.pack(frame))
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._lost() from error

    def receive(self) -> Frame | None:
        assert self._process.stdout is not None
        try:
            frame = frames.read(cast(BinaryIO, self._process.stdout))
        except (frames.BrokenFrame, OSError, ValueError) as error:
            raise self._lost() from error
        if frame is None and self._process.wait(CLOSE_WITHIN) != 0:
            raise self._lost()
        return frame

    def waiting(self) -> bool:
        # What is read ahead by `receive` belongs to the frame that it returns: the engine speaks only when asked.
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def leave(self) -> None:
        """An engine here ends at once when it is closed."""

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass
        try:
            self._process.wait(CLOSE_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _lost(self) -> LinkError:
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip()
        return LinkError(
            "the host engine on this machine went away",
            cause=said[-2000:] or None,
            hint="see `deployer status`: what was committed goes on by itself",
        )


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
    return {**kept, "DEPLOYER_ENGINE": "agent"}
