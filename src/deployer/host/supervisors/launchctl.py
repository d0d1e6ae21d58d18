"""
Ask launchd through `launchctl`: what it says, as plain values.

Not run on macOS by us: the words and codes are those of recorded outputs (tests/unit/test_launchctl.py).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Optional

from deployer.errors import DeployerError, PreflightError

ANSWER_WITHIN = 30.0
"""Seconds until launchctl must have answered; what it was asked to do may take longer."""
FREE_WITHIN = 15.0
"""Seconds until launchd must have let go of a label whose process has gone: about 5 were seen."""
LOOK_AGAIN = 0.25
_NOT_HERE = (3, 113)
"""No such process; could not find service: nothing of this label is loaded."""
_BUSY = (5, 36, 37)
"""What bootstrap and bootout say while launchd is still at the last request for this label; 5 also means a plist it cannot use."""
_NO_DOMAIN = (112, 125)
"""Could not find domain; it does not support that: this user has no graphical session."""


@dataclass(frozen=True)
class Job:
    """
    What `launchctl print` says of one job. `code` is its last exit code, negative for a death by signal; None before the first.

    `limit` is how long launchd lets it stop, in seconds; None for ever.
    """

    state: str
    pid: Optional[int] = None
    runs: int = 0
    code: Optional[int] = None
    said: str = ""
    path: Optional[str] = None
    limit: Optional[float] = None

    @property
    def leaving(self) -> bool:
        """Whether launchd has asked it to stop and counts the seconds until it kills it."""
        return self.state in ("SIGTERMed", "SIGKILLed")

    @property
    def coming(self) -> bool:
        """Whether launchd is about to start it."""
        return self.state in ("spawn scheduled", "spawning", "xpcproxy") and self.pid is None


class Launchctl:
    """The jobs of one *domain*: "system", "gui/501", "user/501"."""

    def __init__(self, domain: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.domain = domain
        self._sleep = sleep

    def target(self, label: str) -> str:
        return f"{self.domain}/{label}"

    def job(self, label: str) -> Optional[Job]:
        """The job *label*, running or not; None where it is not loaded."""
        done = _launchctl("print", self.target(label))
        if done.returncode in (*_NOT_HERE, *_NO_DOMAIN):
            return None
        return parse(_succeeded(done).stdout)

    def bootstrap(self, label: str, plist: Path) -> None:
        """Load *plist*, and by its RunAtLoad start it. Waits until launchd has let go of the last job of that label."""
        deadline = time.monotonic() + FREE_WITHIN
        while True:
            done = _launchctl("bootstrap", self.domain, str(plist))
            if done.returncode == 0 or (done.returncode in _BUSY and self._runs(label)):
                return
            if done.returncode not in _BUSY or time.monotonic() >= deadline:
                _succeeded(done)
            self._sleep(LOOK_AGAIN)

    def _runs(self, label: str) -> bool:
        job = self.job(label)
        return job is not None and not job.leaving and (job.pid is not None or job.coming)

    def bootout(self, label: str) -> None:
        """
        Unload *label*. It returns at once: a process that still runs gets one SIGTERM, and SIGKILL after `Job.limit` seconds.
        """
        done = _launchctl("bootout", self.target(label))
        if done.returncode not in (*_NOT_HERE, *_BUSY):
            _succeeded(done)

    def kickstart(self, label: str) -> None:
        """Start *label*, which is loaded; one that runs already is left alone."""
        done = _launchctl("kickstart", self.target(label))
        if done.returncode not in _BUSY:
            _succeeded(done)

    def kill(self, label: str, signal: str) -> None:
        """Send *signal* to the main process of *label*; launchd counts nothing by it."""
        done = _launchctl("kill", signal, self.target(label))
        if done.returncode not in _NOT_HERE:
            _succeeded(done)

    def enable(self, label: str, wanted: bool) -> None:
        """Let *label* be loaded from now on, or not, also after a reboot. What runs runs on."""
        _succeeded(_launchctl("enable" if wanted else "disable", self.target(label)))


def domain_here() -> str:
    """Where jobs of whom we run as belong: root's to the machine, a user's to the graphical session, where there is one."""
    uid = os.geteuid()
    if uid == 0:
        return "system"
    done = _launchctl("print", f"gui/{uid}")
    return f"gui/{uid}" if done.returncode == 0 else f"user/{uid}"


def require() -> None:
    """Raises PreflightError when this host has no launchd that can be asked."""
    if shutil.which("launchctl") is None:
        raise PreflightError(
            'supervisor = "launchd" needs macOS',
            cause="there is no launchctl on this host",
            state="nothing was changed",
            hint='write supervisor = "builtin", or "systemd" on Linux',
        )
    domain = domain_here()
    done = _launchctl("print", domain)
    if done.returncode:
        raise PreflightError(
            f"launchd ({domain}) cannot be asked",
            cause=_words(done),
            state="nothing was changed",
            hint='log in once at the screen of that Mac, or write become = "sudo" for a daemon of the machine',
        )


def parse(printed: str) -> Job:
    """The job in what `launchctl print` has printed; what stands deeper than its own lines belongs to others."""
    found: Dict[str, str] = {}
    for line in printed.splitlines():
        if re.match(r"\t[^\t]", line) and " = " in line:
            name, _, value = line.strip().partition(" = ")
            found.setdefault(name, value)
    limit = found.get("exit timeout", "")
    pid = found.get("pid", "")
    code, said = _ended(found)
    return Job(
        found.get("state", ""), int(pid) if pid.isdigit() else None, int(found.get("runs", "0")), code, said,
        found.get("path"), float(limit) if limit.isdigit() and int(limit) else None,
    )  # fmt: skip


def _ended(found: Dict[str, str]) -> "tuple[Optional[int], str]":
    died = re.search(r": (\d+)$", found.get("last terminating signal", ""))
    if died:
        return -int(died.group(1)), f"it died of {found['last terminating signal'].partition(':')[0]}"
    exited = re.match(r"\d+", found.get("last exit code", ""))
    if exited:
        return int(exited.group()), f"it ended with code {found['last exit code']}"
    return None, found.get("last exit reason", "")


def _launchctl(*args: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ["launchctl", *args], capture_output=True, timeout=ANSWER_WITHIN, text=True, errors="replace",
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise DeployerError(f"launchctl {args[0]} failed", cause=str(error)) from error


def _succeeded(done: "subprocess.CompletedProcess[str]") -> "subprocess.CompletedProcess[str]":
    if done.returncode:
        raise DeployerError(f"{' '.join(done.args)} failed", cause=_words(done))
    return done


def _words(done: "subprocess.CompletedProcess[str]") -> str:
    return (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
