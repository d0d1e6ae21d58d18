"""Where things lie on a host: one directory per app."""

from __future__ import annotations

import os
from pathlib import Path


class HostPaths:
    """The names of CONTRACT.md section 8 below one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.releases = root / "releases"
        self.shared = root / "shared"
        self.logs = root / "logs"
        self.private = root / ".deployer"
        self.state = self.private / "state.db"
        self.lock = self.private / "lock"
        self.abort = self.private / "abort"
        self.store = self.private / "store"
        self.secrets = self.private / "secrets"
        self.engines = self.private / "engine"
        self.deploys = self.private / "deploys"
        self.run = self.private / "run"
        self.waiting = self.run / "waiting"
        self.keeper_socket = self.run / "keeper.sock"
        self.keeper_lock = self.run / "keeper.lock"
        self.boot = self.private / "boot"
        self.keeper_unit = self.private / "keeper-unit"
        self.app_log = self.logs / "app.log"
        self.engine_log = self.private / "engine.log"

    def release(self, release: str) -> Path:
        return self.releases / release

    def secrets_of(self, release: str) -> Path:
        """The values of a release's secrets: 0600, never in state.db or an event."""
        return self.secrets / f"{release}.json"

    def runner_socket(self, deploy: str) -> Path:
        """Where the runner of *deploy* listens: more than one may be at work, while older generations drain."""
        return self.run / f"runner-{deploy}.sock"

    def drain_lock(self, deploy: str) -> Path:
        """Held by the runner of *deploy* once it has let go of the deploy lock and only waits for its drains."""
        return self.run / f"drain-{deploy}.lock"

    def health_socket(self, instance: str) -> Path:
        """Where *instance* alone answers /health."""
        return self.run / f"health-{instance}.sock"

    def output(self, deploy: str, step: str) -> Path:
        """What the command of *step* (install, check) printed during *deploy*."""
        return self.deploys / deploy / f"{step}.log"

    def prepare_private(self) -> None:
        """Make the engine's own directories, closed to everybody else."""
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        for directory in (self.private, self.run, self.secrets, self.deploys):
            directory.mkdir(mode=0o700, exist_ok=True)
        os.chmod(self.private, 0o700)


def resolve(path: str) -> Path:
    """*path* as the host means it: `~` is the home of who logged in, whoever sudo has made of him since (loader.py says)."""
    home = os.environ.get("DEPLOYER_HOME")
    if home and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    return Path(os.path.abspath(os.path.expanduser(path)))
