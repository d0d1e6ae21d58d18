"""Is the program that a release wants to run there at all? Asked before the old process is asked to stop."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deployer.errors import GateError
from deployer.host.gates import OLD_SERVES
from deployer.host.paths import HostPaths
from deployer.host.spawn import environment
from deployer.host.supervisors import choose
from deployer.model import Spec

_RUNS = {".py": "python3", ".js": "node", ".rb": "ruby", ".sh": "sh"}


def require(paths: HostPaths, spec: Spec, what: str = "the new release", table: str = "run") -> None:
    """
    Raises GateError when the command of *spec*, which [*table*] has, names no program, neither in the release nor on the PATH, or
    when whoever owns its process does not take its settings. *what* it is, for a person.
    """
    name = spec.argv[0]
    in_release = Path(spec.cwd, name)
    if "/" in name:
        found = os.access(in_release, os.X_OK)
    else:
        found = shutil.which(name, path=environment(spec, {}).get("PATH", os.defpath)) is not None
    if not found:
        raise _missing(name, in_release, what, table)
    if spec.owner is not None:
        choose.owner_of(paths, spec.owner).check(spec, environment(spec, {}))


def _missing(name: str, in_release: Path, what: str, table: str) -> GateError:
    cause = f"looked for {in_release}, executable" if "/" in name else "it is not on the PATH"
    hint = f"correct command in [{table}], or install it on this host"
    if in_release.exists():
        runs = _RUNS.get(in_release.suffix)
        cause = "it is a file of the release, and not an executable program"
        hint = f'write command = ["{runs}", "{name}"] in [{table}]' if runs else f"chmod +x {name}, or say what runs it"
    title = f"{what} cannot be started: there is no program {name!r}"
    return GateError(title, cause=cause, state=OLD_SERVES, hint=hint)
