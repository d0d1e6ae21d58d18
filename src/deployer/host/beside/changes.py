"""
Which services beside an app a deploy keeps, starts, replaces and stops: what runs and what is wanted in, actions out. No I/O.

A service runs on over a push unless its own settings, its own files or its secrets have changed.
"""

from __future__ import annotations

import hashlib
from typing import Any, Dict, List, Mapping, Optional, Sequence

from deployer.manifest import canonical
from deployer.model import Step

KEEP, START, REPLACE, STOP = "keep", "start", "replace", "stop"
RUNNING = "running"
UP, DOWN = "services", "services_end"
"""The steps: before the app is touched, and after it serves."""

Facts = Mapping[str, Any]
Change = Dict[str, Any]


def fingerprint(settings: Facts, name: str) -> str:
    """What tells the service *name* of a release with *settings* from another: of its settings, a dot, of its files."""
    table, run = dict(settings["services"][name]), settings["run"]
    content = str(table.pop("content", "unknown"))
    # What install makes is its own as well, where any file of the release is.
    install = settings["install"]["command"] if content else None
    given = [table, run["env"], run["env_file"], sorted(run["secrets"]), install]
    return f"{hashlib.sha256(canonical(given).encode('ascii')).hexdigest()[:16]}.{content[:16]}"


def changes(settings: Facts, seen: Sequence[Facts], rotated: Sequence[str] = ()) -> List[Change]:
    """
    `name`, `action` and `why` of every service that *settings* want, in their order, then of those that nobody wants any more.

    *seen* is what is there; *rotated* names services whose secrets have other values now.
    """
    there = {str(one["name"]): one for one in seen}
    wanted = [_change(settings, name, there.get(name), name in rotated) for name in settings.get("services") or {}]
    gone = [one["name"] for one in seen if one["name"] not in (settings.get("services") or {})]
    return wanted + [{"name": name, "action": STOP, "why": "it is no longer in the config"} for name in gone]


def stopped(settings: Facts, seen: Sequence[Facts]) -> List[Change]:
    """All that is there, to be stopped in the reverse of the order in which it was started."""
    order = list(settings.get("services") or {})
    names = sorted((str(one["name"]) for one in seen), key=lambda name: order.index(name) if name in order else -1)
    return [{"name": name, "action": STOP, "why": "the app stops"} for name in names]


def changed(found: Sequence[Change]) -> bool:
    """Whether anything is to be done."""
    return any(one["action"] != KEEP for one in found)


def before(found: Sequence[Change]) -> List[Step]:
    """The step before the app is touched."""
    up = [one for one in found if one["action"] != STOP]
    return [Step(UP, _text(up))] if up else []


def after(found: Sequence[Change]) -> List[Step]:
    """The step once the app serves, or has stopped."""
    down = [one for one in found if one["action"] == STOP]
    return [Step(DOWN, _text(list(reversed(down))))] if down else []


def _change(settings: Facts, name: str, one: Optional[Facts], rotated: bool) -> Change:
    if one is None or one["state"] != RUNNING:
        why = "it does not run" if one is None or one["state"] != "crashed" else "it has crashed"
        return {"name": name, "action": START, "why": why}
    differs = _why(str(one.get("fingerprint") or "."), fingerprint(settings, name), rotated)
    return {"name": name, "action": REPLACE if differs else KEEP, "why": differs or "unchanged"}


def _why(old: str, new: str, rotated: bool) -> Optional[str]:
    if old.partition(".")[0] != new.partition(".")[0]:
        return "its settings changed"
    if old != new:
        return "its files changed"
    return "its secrets changed" if rotated else None


def _text(found: Sequence[Change]) -> str:
    words = [f"{one['action']} {one['name']} ({one['why']})" for one in found]
    return "; ".join(words)
