"""`supervisor = "command"`: the user's own commands start and stop the service, which rules out what only its parent could do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from deployer.config.explain import Place, Problem
from deployer.config.schema import Target
from deployer.config.tables import Tables

Where = Callable[[Place], Place]
_EXAMPLE = 'start = ["supervisorctl", "start", "my-app"], and stop and status alike'


def problems(name: str, target: Target, strategy: str, tables: Tables, where: Where) -> Iterator[Problem]:
    """What is wrong with the supervisor of the target *name*, or with its `commands`."""
    place = ("target", name, "commands")
    if target.supervisor != "command":
        hint = f'write supervisor = "command" in [target.{name}], or remove [target.{name}.commands]'
        yield Problem(
            place, f'they own the process with supervisor = "command"; here it is "{target.supervisor}"', hint
        )
        return
    if target.commands is None:
        hint = f"add [target.{name}.commands] with {_EXAMPLE}"
        yield Problem(place, 'missing; supervisor = "command" calls them', hint)
        return
    yield from _process_is_known(place, target.commands, tables)
    yield from _nothing_is_inherited(name, strategy, tables, where)


def _process_is_known(place: Place, commands: dict[str, object], tables: Tables) -> Iterator[Problem]:
    if "pidfile" in commands and "pid" in commands:
        yield Problem(
            (*place, "pid"), "pid and pidfile stand together; one says which process it is", "keep one of them"
        )
    if "pidfile" not in commands and "pid" not in commands and not _has_port(tables):
        why = (
            "nothing says which process it is: whether it has exited is read from the process table, and never guessed"
        )
        hint = 'add pidfile = "/run/my-app.pid", pid = ["pm2", "pid", "my-app"], or health.url with its port on this machine'
        yield Problem((*place, "pid"), why, hint)


def _has_port(tables: Tables) -> bool:
    """Whether it is known where it listens on its machine."""
    url = tables.health.url
    host = urlsplit(url.replace("{port}", "1")).hostname or "" if url else ""
    return bool(tables.run.ports) or host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.")


def _nothing_is_inherited(name: str, strategy: str, tables: Tables, where: Where) -> Iterator[Problem]:
    command = f'target.{name}.supervisor = "command"'
    if tables.run.socket:
        why = f"a socket is passed on by the parent of the process, which is somebody else with {command}"
        hint = 'remove socket and let the app listen by itself, or write supervisor = "builtin" or "systemd"'
        yield Problem(where(("run", "socket")), why, hint)
    if tables.health.private:
        why = f"its socket is passed on by the parent of the process, which is somebody else with {command}"
        yield Problem(where(("health", "private")), why, "remove private", "true")
    if strategy == "overlap":
        why = f"two instances would run under one name, which commands cannot tell apart ({command})"
        yield Problem(
            ("strategy",), why, 'write strategy = "restart", or supervisor = "builtin" or "systemd"', '"overlap"'
        )
    if tables.run.rehearse and not tables.run.command:
        why = "a rehearsal boots the release by run.command, and there is none"
        yield Problem(
            where(("run", "rehearse")), why, 'add command = ["node", "api.js"] to [run], or remove rehearse', "true"
        )
