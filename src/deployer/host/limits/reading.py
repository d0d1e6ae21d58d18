"""
Every limit on this host that may end the service's work, besides those of `deploy.toml`: for `doctor` and `plan`.

Read only, from /proc, from files, and by asking systemd. What cannot be read is left out.
"""

from __future__ import annotations

import glob
import os
from typing import Any, Dict, Iterator, List, Optional, Sequence

from deployer.host.limits import launchd, servers, units
from deployer.host.limits.files import Texts
from deployer.host.limits.programs import has_title, programs
from deployer.host.limits.table import KNOWN, OUTER
from deployer.host.paths import HostPaths
from deployer.host.process import Processes
from deployer.host.supervisors import choose
from deployer.host.tree import Tree
from deployer.model import Identity

Found = Dict[str, Any]
NEXT = "run.command"
_SUPERVISED = ("/etc/supervisor/conf.d/*.conf", "/etc/supervisord.d/*.ini")
_MANAGERS = ("supervisord", "pm2")
_READ = ("GUNICORN_CMD_ARGS", "UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN", "GRANIAN_WORKERS_KILL_TIMEOUT", "WEB_CONCURRENCY",
         "kill_timeout")  # fmt: skip
"""All that is looked at of a process' environment."""


def read(paths: HostPaths, target: Found, settings: Found, facts: Found, processes: Processes) -> Found:
    """
    `limits`: a list of `name`, `seconds` (None: it waits for ever), `acts` (who does what when it is reached), `where`,
    `kind` ("inner", "outer"), `certain` (somebody has set it), `binding` (a push is refused for it),
    `ours` (a unit that we wrote: its limit is the ceiling itself).
    `unit`: what systemd says of the unit that the service runs in, or None.
    """
    pids = _pids(facts, processes)
    unit = _unit(target, pids, processes)
    found = [
        *_of_unit(unit, pids, target, settings["app"]),
        *_of_job(target),
        *(limit for pid in pids for limit in _of_process(pid, processes)),
        *_of_managers(pids[:1], processes),
        *_of_command(settings, paths),
    ]
    return {"limits": _distinct(found), "unit": unit}


def _pids(facts: Found, processes: Processes) -> List[int]:
    """The processes of what runs or would be adopted, the main one first."""
    if facts["instance"]:
        return [process["pid"] for process in facts["instance"]["processes"]]
    if not facts["adopt"]:
        return []
    tree = Tree(processes, Identity.from_json(facts["adopt"]), None)
    try:
        return [stat.pid for stat in tree.refresh()]
    finally:
        tree.close()


def _unit(target: Found, pids: Sequence[int], processes: Processes) -> Optional[Found]:
    named = (target.get("adopt") or {}).get("unit")
    lived_in = units.of_process(pids[0]) if pids else None
    if lived_in is None and not named:
        return None
    # A unit of that name may exist for the system and for the user: it is the one that the process is in.
    asked = lived_in if lived_in and named in (None, lived_in.name) else units.Unit(str(named), choose.scope_of(target))
    return units.look(asked)


def _of_unit(unit: Optional[Found], pids: Sequence[int], target: Found, app: str) -> Iterator[Found]:
    """A unit that kills only its own main process (KillMode=process) does not end what merely runs in its group."""
    if unit is None or (unit["kill_mode"] in ("process", "none") and unit["pid"] not in pids):
        return
    edit = f"{'systemctl --user' if unit['scope'] == units.USER else 'systemctl'} edit {unit['name']}"
    ours = unit["name"].startswith(f"{app}@") and unit["name"] != (target.get("adopt") or {}).get("unit")
    yield {
        "name": f"TimeoutStopSec of {unit['name']}", "seconds": unit["stop_s"], "kind": OUTER, "certain": True,
        "acts": "systemd kills its main process" if unit["kill_mode"] == "process" else "systemd kills all of it",
        "where": "the last push" if ours else "deployer enable" if unit["name"] == f"{app}-deployer.service" else edit,
        "binding": unit["name"] == (target.get("adopt") or {}).get("unit"), "ours": ours,
    }  # fmt: skip


def _of_job(target: Found) -> Iterator[Found]:
    label = (target.get("adopt") or {}).get("label")
    found = launchd.exit_timeout(str(label)) if label else None
    if found:
        seconds, path, written = found
        yield {
            "name": f"ExitTimeOut of {label}", "seconds": seconds, "acts": "launchd kills it", "kind": OUTER,
            "where": path if written else f"its default, {path}", "certain": True, "binding": True, "ours": False,
        }  # fmt: skip


def _of_process(pid: int, processes: Processes) -> Iterator[Found]:
    argv = processes.argv(pid)
    env = _environment(pid, processes)
    texts = Texts(processes.cwd(pid) or None)
    for name, args in programs(argv, KNOWN):
        for limit in servers.found(name, args, env, texts):
            if not (has_title(argv) and not limit["certain"]):  # its options can no longer be seen
                yield _placed(limit, f"pid {pid}")


def _of_command(settings: Found, paths: HostPaths) -> Iterator[Found]:
    """What the next push will start; files that its release brings are known of the current one only."""
    run = settings["run"]
    texts = Texts(str(paths.root / "current"))
    for name, args in programs(run["command"], KNOWN):
        for limit in servers.found(name, args, run["env"], texts):
            yield _placed(limit, NEXT)


def _of_managers(pids: Sequence[int], processes: Processes) -> Iterator[Found]:
    """supervisord or pm2 above the service: who started it will also stop it in their own way."""
    for pid in pids:
        for above in _ancestors(pid, processes):
            argv = processes.argv(above)
            for name, args in programs(argv, KNOWN):
                if name in _MANAGERS:
                    yield from _of_manager(name, args, pid, processes)


def _of_manager(name: str, args: List[str], pid: int, processes: Processes) -> Iterator[Found]:
    texts = Texts("/")
    if name == "supervisord":
        files = sorted(found for place in _SUPERVISED for found in glob.glob(place))
        limits = servers.found(name, args, {}, texts)
        set_in = [(float(value), file) for file in files for value in texts.values(file, "stopwaitsecs")
                  if value.isdigit()]  # fmt: skip
        for limit in limits:
            seconds, source = min(set_in) if set_in and not limit["certain"] else (limit["seconds"], limit["from"])
            yield _placed({**limit, "seconds": seconds, "from": source, "kind": OUTER}, "")
        return
    milliseconds = _environment(pid, processes).get("kill_timeout", "")
    for limit in servers.found(name, ["--kill-timeout", milliseconds] if milliseconds.isdigit() else [], {}, texts):
        yield _placed({**limit, "kind": OUTER, "from": "pm2's settings" if limit["certain"] else limit["from"]}, "")


def _placed(limit: Found, where: str) -> Found:
    source = limit["from"]
    return {
        **{name: limit[name] for name in ("name", "seconds", "acts", "kind", "certain")},
        "where": f"{source}, {where}" if where else source, "binding": False, "ours": False,
    }  # fmt: skip


def _ancestors(pid: int, processes: Processes) -> List[int]:
    found: List[int] = []
    stat = processes.stat(pid)
    while stat is not None and stat.ppid > 1 and stat.ppid not in found:
        found.append(stat.ppid)
        stat = processes.stat(stat.ppid)
    return found


def _environment(pid: int, processes: Processes) -> Dict[str, str]:
    pairs = (os.fsdecode(part).partition("=") for part in processes.environ(pid).split(b"\0"))
    return {name: value for name, _, value in pairs if name in _READ}


def _distinct(found: Sequence[Found]) -> List[Found]:
    """Each limit once, whoever of the workers has it; what a worker has by default is known better from who set it."""
    kept: Dict[Any, Found] = {}
    for limit in found:
        kept.setdefault((limit["name"], limit["seconds"]), limit)
    sure = {limit["name"] for limit in kept.values() if limit["certain"] and not limit["where"].endswith(NEXT)}
    return [limit for limit in kept.values() if limit["certain"] or limit["name"] not in sure]
