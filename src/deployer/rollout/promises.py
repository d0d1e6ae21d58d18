"""What the supervisor of a target cannot promise, in plain words, for `deployer doctor`."""

from __future__ import annotations

from typing import Any

from deployer import durations
from deployer.config.model import Config

Note = tuple[bool | None, str, str | None]


def of_supervisor(config: Config) -> list[Note]:
    """Each as a check has it: how it stands, the fact, what to do; none where the supervisor keeps all promises by itself."""
    return list(_of_commands(config)) if config.supervisor == "command" else []


def _of_commands(config: Config) -> list[Note]:
    commands: dict[str, Any] = config.target_table["commands"]
    start, stop, status = (_shown(commands[what]) for what in ("start", "stop", "status"))
    ceiling = durations.show(config.tables.drain.ceiling)
    return [
        (True, f"`{start}`, `{stop}` and `{status}` own the process; each start and stop is called once", None),
        (
            None,
            f"`{stop}` decides which signal is sent, to whom, and how often: deployer sends the main process none",
            f"let it send {config.tables.drain.signal} once; DEPLOYER_PID and DEPLOYER_SIGNAL are in its environment",
        ),
        (
            None,
            f"if `{stop}`, or who is behind it, kills before {ceiling} are over, work is lost and nobody tells",
            "raise its limit above drain.ceiling (stopwaitsecs, kill_timeout, docker stop --time $DEPLOYER_CEILING)",
        ),
        (
            None,
            "after a crash or a boot it is started by who is behind these commands, or by nobody: deployer looks when it is called",
            f"have `{start}` leave it with something that restarts it",
        ),
        (
            None,
            "at the ceiling force reaches the main process and what it has started, where deployer may signal them, and no further",
            None,
        ),
        (
            None,
            "no job outlives deployer's own processes: if all of them die in a swap, the next command brings it to its end",
            "deployer status",
        ),
        (None, "no socket is held over a restart, and there is no overlap: each push has the gap of a stop and a start", None),
    ]  # fmt: skip


def _shown(argv: list[str]) -> str:
    return argv[2] if argv[:2] == ["sh", "-c"] and len(argv) == 3 else " ".join(argv)
