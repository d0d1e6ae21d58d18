"""Ask systemd, the machine's or a user's own, through `systemctl`: what it says, as plain values."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from deployer.errors import DeployerError, GateError, PreflightError
from deployer.host import disk

ANSWER_WITHIN = 30.0
"""Seconds until systemd must have answered; what it was asked to do may take longer."""
_LINGER = 'let it run always: loginctl enable-linger; or write supervisor = "systemd" and become = "sudo"'
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31557600.0}


class Manager:
    """One systemd: that of the machine (*scope* "system"), or this user's own ("user")."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self._env = _environment(scope)
        self._version: Optional[int] = None

    def directory(self) -> Path:
        """Where units belong that outlive a reboot."""
        if self.scope == "system":
            return Path("/etc/systemd/system")
        home = self._env.get("XDG_CONFIG_HOME") or f"{self._env.get('HOME') or os.path.expanduser('~')}/.config"
        return Path(home) / "systemd" / "user"

    def passing_directory(self) -> Path:
        """Where settings belong that hold until the next boot."""
        return (Path("/run") if self.scope == "system" else Path(self._env["XDG_RUNTIME_DIR"])) / "systemd" / self.scope

    def boot_target(self) -> str:
        """What wants everything that shall run after a boot."""
        return "multi-user.target" if self.scope == "system" else "default.target"

    def write(self, path: Path, text: str) -> bool:
        """Whether *text* is new in *path*, a file that this systemd reads."""
        try:
            if path.read_text("utf-8") == text:
                return False
        except OSError:
            pass
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            disk.write_atomically(str(path), text.encode(), mode=0o644)
        except OSError as error:
            raise GateError(
                f"{path} cannot be written", cause=str(error), state="nothing that runs was touched"
            ) from error
        return True

    def complaints(self, path: Path) -> List[str]:
        """What systemd says of the unit in *path*, which it has not been told of: settings that it does not know, or not take."""
        try:
            done = subprocess.run(
                ["systemd-analyze", f"--{self.scope}", "--no-pager", "--man=no", "--generators=no", "verify", str(path)],
                capture_output=True, timeout=ANSWER_WITHIN, text=True, errors="replace", env=self._env, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return []  # the start will tell
        found, lines = [], path.read_text("utf-8").splitlines()
        for line in done.stderr.splitlines():
            number, _, words = line[len(f"{path}:") :].partition(":") if line.startswith(f"{path}:") else ("", "", "")
            if number.isdigit() and 0 < int(number) <= len(lines):
                found.append(f"{lines[int(number) - 1]}: {words.strip()}")
        return found

    def argv(self, *args: str) -> List[str]:
        return ["systemctl", f"--{self.scope}", "--no-pager", "--no-ask-password", *args]

    def ask(self, *args: str, within: float = ANSWER_WITHIN) -> str:
        """What `systemctl` *args* prints. Raises DeployerError with systemd's own words."""
        try:
            done = subprocess.run(
                self.argv(*args), capture_output=True, timeout=within, text=True, errors="replace",
                env=self._env, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise DeployerError(f"systemctl {args[0]} failed", cause=str(error)) from error
        if done.returncode:
            raise DeployerError(
                f"systemctl {' '.join(args)} failed", cause=done.stderr.strip() or f"exit code {done.returncode}"
            )
        return done.stdout

    def begin(self, *args: str) -> int:
        """The pid of a `systemctl` *args* that waits for what it asks for."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            argv = self.argv(*args)
            actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
            return os.posix_spawnp(argv[0], argv, {**self._env, "DEPLOYER_ENGINE": "waiter"}, file_actions=actions)
        finally:
            os.close(null)

    def show(self, unit: str, names: Sequence[str]) -> Dict[str, str]:
        """Properties of *unit*; those that it does not have are missing."""
        printed = self.ask("show", f"--property={','.join(names)}", "--", unit)
        return dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)

    def version(self) -> int:
        """The number of this systemd's version, asked for once; 0 where it says none."""
        if self._version is None:
            found = re.match(r"Version=(\d+)", self.ask("show", "--property=Version"))
            self._version = int(found.group(1)) if found else 0
        return self._version

    def reload(self) -> None:
        """Have changed unit files read."""
        self.ask("daemon-reload", within=90.0)

    def require(self) -> None:
        """Raises PreflightError when this systemd cannot be asked, or may not be by us."""
        if self.scope == "system" and os.geteuid() != 0:
            raise PreflightError(
                'supervisor = "systemd" needs root on the host',
                cause="units of the machine's systemd can be written and started by root only",
                state="nothing was changed",
                hint='write become = "sudo" in the target, or supervisor = "systemd-user"',
            )
        try:
            self.ask("show", "--property=Version", within=10.0)
        except DeployerError as error:
            hint = _LINGER if self.scope == "user" else 'write supervisor = "builtin"'
            raise PreflightError(
                f"systemd ({self.scope}) cannot be asked",
                cause=error.cause or str(error),
                state="nothing was changed",
                hint=hint,
            ) from error
        # Only logind ends it: without one it lives for as long as whoever has started it.
        if self.scope == "user" and Path("/run/systemd/users").is_dir() and not lingers():
            raise PreflightError(
                "this user's systemd ends with its last login, and all its services with it",
                cause="lingering is off", state="nothing was changed", hint=_LINGER,
            )  # fmt: skip


def seconds(text: str) -> Optional[float]:
    """Seconds in systemd's own notation ("1min 30s"); None for "infinity"."""
    if text.strip() == "infinity":
        return None
    return sum(
        float(number) * _UNITS.get(unit, 1.0) for number, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text)
    )


def _environment(scope: str) -> Mapping[str, str]:
    env = dict(os.environ, LC_ALL="C.UTF-8", SYSTEMD_COLORS="0", SYSTEMD_PAGER="")
    if scope == "user":
        # A session without PAM, as sshd's can be, has not been told.
        env.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    return env


def user_name() -> str:
    """The login name of whoever we are; the number where there is none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def lingers() -> bool:
    """Whether this user's systemd is started at boot, and outlives the last logout."""
    return Path("/var/lib/systemd/linger", user_name()).exists()
