"""What every room of the keeper's mind stands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping

from deployer.host.clock import Clock
from deployer.host.paths import HostPaths
from deployer.host.process import Processes
from deployer.host.state import State


@dataclass(frozen=True)
class Ground:
    """One app's directory and record, the machine's processes and time. `say` takes a line for the engine's log."""

    paths: HostPaths
    state: State
    processes: Processes
    clock: Clock
    base_env: Mapping[str, str]
    say: Callable[[str], None]
