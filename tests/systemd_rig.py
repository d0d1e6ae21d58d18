"""
Real systemd for the tests: `systemd --user`, with a journal, in a realm (realm.py) that shares network and files with us.

    with user_manager() as manager:                       as root; `user_manager(throwaway=True)`: as a user made for it
        manager.run(["systemctl", "--user", "status"])    a command inside, as the manager's user, to its end
        manager.popen([...])                              the same, begun: a child of ours, with a pid of ours
        manager.systemctl("start", "app.service")         systemctl --user
        manager.show("app.service", "ActiveState")        {"ActiveState": "active"}
        manager.journal("app.service")                    what that unit said, line by line
        manager.pid_of("app.service")                     its main pid as it is told in there; manager.outer(pid): out here
        manager.power_cut(); manager.boot()               everything dies; the same HOME, its units and its journal start again
        manager.power_off()                               orderly: every unit is stopped
        with app_in(manager, tmp_path) as app:            an App (app.py) whose `deployer` runs inside
"""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import engines
from app import SOURCE, App, Result, clean_environment, command, make_app, wait_until
from realm import RIG, Realm, make_root, need_systemd
from sshd import give


class UserManager:
    """`systemd --user` of *user*, who has HOME and a unit directory in *root*."""

    def __init__(self, root: Path, user: str, throwaway: bool, linger: bool = True) -> None:
        self.root, self.user = root, user
        person = pwd.getpwnam(user)
        self.uid = person.pw_uid
        self.home = root / "home"
        self.units = self.home / ".config" / "systemd" / "user"
        self.units.mkdir(parents=True, exist_ok=True)
        give(self.home, user)
        self.env = {
            "HOME": str(self.home), "USER": user, "LOGNAME": user, "XDG_RUNTIME_DIR": f"/run/user/{self.uid}",
        }  # fmt: skip
        words = [
            root,
            user,
            self.uid,
            person.pw_gid,
            self.home,
            "yes" if linger else "no",
            *(opened_to_all() if throwaway else ["-"]),
        ]
        alone = ["--cgroup", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        script = ["sh", str(RIG / "user_manager.sh"), *map(str, words)]
        self.realm = Realm(root, ["unshare", *alone, *script], user=user if throwaway else None)

    def boot(self) -> None:
        """Start the manager, and what is enabled there; returns when `default.target` has been reached or has failed."""
        self.realm.boot()
        socket = self.realm.inside(f"/run/user/{self.uid}/systemd/private")
        wait_until(lambda: not self.realm.running or socket.is_socket(), what=f"systemd --user: {self.realm.log()}")
        wait_until(self._started, what=f"systemd --user has started: {self.realm.log()}")

    def _started(self) -> bool:
        return self.systemctl("is-system-running", check=False).out.strip() in ("running", "degraded")

    def power_cut(self) -> None:
        """All that lives in there dies at once."""
        self.realm.power_cut()

    def power_off(self) -> None:
        """End it in order: every unit is stopped."""
        self.systemctl("exit", check=False)  # it may be killed with the realm before it has said that all is well
        wait_until(lambda: not self.realm.running, what="systemd --user has ended")

    def close(self) -> None:
        self.realm.close()

    # Commands --------------------------------------------------------------------------------------------------------

    def environment(self, user: str | None = None) -> dict[str, str]:
        """What a command of *user* finds inside."""
        own = {"HOME": "/root", "USER": "root"} if user == "root" != self.user else self.env
        return {**clean_environment(), **own}

    def run(self, argv: Sequence[str], check: bool = True, user: str | None = None, **more: Any) -> Result:
        """Run *argv* inside, as the manager's user or as *user*. With *check* it must succeed."""
        env = {**self.environment(user), **more.pop("env", {})}
        return self.realm.run(argv, env, user or self.user, check, **more)

    def popen(self, argv: Sequence[str], user: str | None = None, **more: Any) -> subprocess.Popen[str]:
        """Start *argv* inside, and return while it runs."""
        env = {**self.environment(user), **more.pop("env", {})}
        return self.realm.popen(argv, env, user or self.user, **more)

    def systemctl(self, *args: str, check: bool = True) -> Result:
        return self.run(["systemctl", "--user", "--no-pager", *args], check)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """What systemd knows of *unit*; all of it without *properties*."""
        wanted = ["-p", ",".join(properties)] if properties else []
        return dict(line.split("=", 1) for line in self.systemctl("show", *wanted, unit).out.splitlines())

    def pid_of(self, unit: str) -> int:
        """The main process of *unit*, as it is called inside; 0 when there is none."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def outer(self, pid: int) -> int:
        """How the process that is *pid* inside is called out here."""
        return self.realm.outer(pid)

    def journal(self, unit: str) -> list[str]:
        """
        What *unit* said. By `--user-unit`: with `--user -u`, root sees nothing, because only users above 999 have a journal of
        their own. A line whose process had ended before journald looked is not known to be the unit's, and is not here.
        """
        words = ["journalctl", "--user-unit", unit, "--output=cat", "--no-pager", "--quiet"]
        return self.run(words, check=False).out.splitlines()  # 1: there is no line


class InsideApp(App):
    """An app whose `deployer` commands run beside the manager."""

    manager: UserManager

    def _popen(self, args: tuple[str, ...], env: dict[str, str], **more: Any) -> subprocess.Popen[str]:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self.manager.popen(command(*args), env={**self.env, **env}, cwd=self.root, **streams, **more)

    def push(self, *args: str, check: int | None = 0, **more: Any) -> Result:
        if check == 0 and not (self.host / ".deployer").exists():
            engines.seed(self.host, Path(self.env.get("PYTHONPATH", SOURCE)))
            give(self.host, self.manager.user)
        return super().push(*args, check=check, **more)

    def close(self) -> None:
        """All that lives inside ends with the manager, who would only start it again."""


@contextmanager
def user_manager(throwaway: bool = False, linger: bool = True) -> Iterator[UserManager]:
    """A manager that runs, of root or of a throwaway user. Skips where there can be none."""
    need_systemd()
    root = make_root("user")
    manager = UserManager(root, _add_user(root) if throwaway else "root", throwaway, linger)
    try:
        manager.boot()
        yield manager
    finally:
        manager.close()


@contextmanager
def app_in(manager: UserManager, root: Path | None = None, kind: type[InsideApp] = InsideApp) -> Iterator[InsideApp]:
    """An app of the manager's user; where that is not us, its place is below the manager's (tmp_path is closed to him)."""
    root = root or manager.root / f"app-{secrets.token_hex(2)}"

    def inside(root: Path, port: int) -> InsideApp:
        made = kind(root, port)
        made.manager = manager
        return made

    with make_app(root, inside) as app:
        assert isinstance(app, InsideApp)
        give(root, manager.user)
        yield app


def opened_to_all() -> list[str | Path]:
    """The directories that let nobody else in, by ":", and what of Python and of ours stands below them."""
    shut, kept = [], []
    for path in sorted({Path(sys.base_prefix), Path(sys.prefix), SOURCE.parent}):
        closed = next((above for above in reversed(path.parents) if not os.stat(above).st_mode & 0o001), None)
        if closed is not None:
            shut.append(str(closed))
            kept.append(path)
    return [":".join(dict.fromkeys(shut)) or "-", *kept]


def _add_user(root: Path) -> str:
    name = f"dpl{secrets.token_hex(4)}"
    add = [
        "useradd",
        "--create-home",
        "--home-dir",
        str(root / "home"),
        "--shell",
        "/bin/bash",
        "--password",
        "*",
        name,
    ]
    wait_until(lambda: subprocess.run(add, capture_output=True).returncode == 0, 60, "useradd gets its lock")
    return name
