"""
An app under an imitated launchd (rig/launchctl.py): its commands run as a user 501, whose HOME and whose launchctl are the test's.

Everything but launchd itself is real. `app.jobs()`: what is loaded; `app.calls()`: what launchctl was asked; `app.boot()`: a login.
"""

from __future__ import annotations

import plistlib
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app import App, clean_environment, make_app, wait_until

AS_501 = ["unshare", "--user", "--map-user=501", "--map-group=501"]
"""One namespace for all of a test's commands: processes of two do not see into each other."""
RIG = Path(__file__).parent / "rig" / "launchctl.py"


class LaunchdApp(App):
    inside: tuple[str, ...] = ()

    def prepare(self, holder: int) -> None:
        self.inside = ("nsenter", f"--target={holder}", "--user", "--preserve-credentials")
        binary = self.root / "bin" / "launchctl"
        binary.parent.mkdir()
        (self.root / "launchd").mkdir()
        binary.write_text(f"#!{sys.executable} -S\n{RIG.read_text()}")
        binary.chmod(0o755)
        self.agents.mkdir(parents=True)
        self.env.update(HOME=str(self.root / "home"), PATH=f"{binary.parent}:/usr/bin:/bin")

    @property
    def agents(self) -> Path:
        return self.root / "home" / "Library" / "LaunchAgents"

    def _popen(self, args: tuple[str, ...], env: dict[str, str], **more: Any) -> subprocess.Popen[str]:
        wrapped = {**self.env, **env}
        argv = [*self.inside, sys.executable, "-m", "deployer", *args]
        return subprocess.Popen(
            argv, cwd=self.root, env={**clean_environment(), **wrapped}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, stdin=subprocess.DEVNULL, **more,
        )  # fmt: skip

    def launchctl(self, *args: str) -> subprocess.CompletedProcess[str]:
        binary = str(self.root / "bin" / "launchctl")
        return subprocess.run([*self.inside, binary, *args], capture_output=True, text=True, timeout=60)

    def jobs(self) -> list[str]:
        """The labels that are loaded, and not about to go."""
        places = (self.root / "launchd").glob("*/print")
        return sorted(
            place.parent.name for place in places if "SIGTERMed" not in place.read_text() and ".gone-" not in str(place)
        )

    def calls(self, *verbs: str) -> list[str]:
        asked = (self.root / "launchd" / "calls").read_text().splitlines()
        return [line for line in asked if line.split()[0] in verbs]

    def at_boot(self) -> dict[str, Any]:
        """What launchd would start at the next login."""
        plist: dict[str, Any] = plistlib.loads((self.agents / "deployer.t-app.plist").read_bytes())
        return plist

    def load(self, label: str, **plist: Any) -> Path:
        """Load a job that somebody else has written."""
        path = self.agents / f"{label}.plist"
        path.write_bytes(plistlib.dumps({"Label": label, "RunAtLoad": True, **plist}))
        done = self.launchctl("bootstrap", "gui/501", str(path))
        assert done.returncode == 0, done.stderr
        return path

    def shown(self, label: str) -> str:
        return self.launchctl("print", f"gui/501/{label}").stdout

    def modes(self, pattern: str) -> set[str]:
        return {oct(stat.S_IMODE(path.stat().st_mode)) for path in (self.host / ".deployer" / "units").glob(pattern)}

    def boot(self) -> None:
        """Everything dies, and the user logs in again."""
        self.close()
        for place in (self.root / "launchd").glob("*/print"):
            subprocess.run(["rm", "-rf", str(place.parent)], check=True)
        for plist in sorted(self.agents.glob("*.plist")):
            self.launchctl("bootstrap", "gui/501", str(plist))


@contextmanager
def app_under_launchd(root: Path) -> Iterator[LaunchdApp]:
    with make_app(root, LaunchdApp) as made:
        assert isinstance(made, LaunchdApp)
        with subprocess.Popen(
            [*AS_501, "sh", "-c", "echo; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()  # it is inside
            made.prepare(holder.pid)
            made.configure(more='supervisor = "launchd"\n')
            yield made


__all__ = ["LaunchdApp", "app_under_launchd", "wait_until"]
