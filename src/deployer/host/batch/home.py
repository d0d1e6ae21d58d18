"""The directory of the jobs of an app that runs as well: `job/` in the app's own, with the app's shared files."""

from __future__ import annotations

import os

from deployer.host.paths import HostPaths


def share(paths: HostPaths) -> None:
    """`shared/` of the jobs at *paths* is that of the app above them: env files and what is linked are the same."""
    above = paths.root.parent / "shared"
    above.mkdir(mode=0o711, parents=True, exist_ok=True)
    if not os.path.lexists(paths.shared):
        os.symlink("../shared", paths.shared)
