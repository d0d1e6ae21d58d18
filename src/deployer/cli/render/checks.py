"""A list of checks with a mark each: `doctor`, and `rollback --check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.lines import Layout
from deployer.cli.render.many import FEW
from deployer.cli.render.paint import Paint

_MARKS = {True: ("ok", "good"), False: ("!!", "bad"), None: ("??", "warn")}


def doctor_lines(data: Mapping[str, Any], paint: Paint) -> list[str]:
    """Every check, the timeout ladder, and how many checks failed."""
    checks = data.get("checks") or []
    ladder = text.clean(str(data.get("ladder") or "")).strip("\n")
    lines = check_lines(_worth_telling(checks), paint)
    lines += ["", "timeout ladder", *(f"  {rung}" for rung in ladder.splitlines())] if ladder else []
    return [*lines, "", _sum(checks, paint)]


def rollback_lines(data: Mapping[str, Any], paint: Paint) -> list[str]:
    """Whether a rollback would work, host by host; or check by check where they are told."""
    if data.get("checks"):
        return [*check_lines(data["checks"], paint), "", _sum(data["checks"], paint)]
    hosts = data.get("hosts") or []
    checks = [{"check": "rollback", **host, "detail": _rollback(host)} for host in hosts]
    return [*check_lines(_worth_telling(checks), paint), "", _sum(checks, paint)]


def check_lines(checks: Sequence[Mapping[str, Any]], paint: Paint) -> list[str]:
    """A line for each check, and a hint below where there is one."""
    layout = Layout(tuple(str(check.get("host") or "") for check in checks))
    names = max([8, *(len(str(check.get("check"))) for check in checks)])
    return [line for check in checks for line in _check(check, layout.width, names, paint)]


def _check(check: Mapping[str, Any], hosts: int, names: int, paint: Paint) -> list[str]:
    word, style = _MARKS.get(check.get("ok"), _MARKS[None])
    host = text.one_line(check.get("host") or "", 40)
    line = f"{paint(word, style)}  {host:<{hosts}}  {check.get('check')!s:<{names}}  "
    hint = check.get("hint")
    below = [f"{' ' * (hosts + names + 8)}hint: {text.one_line(hint)}"] if hint and check.get("ok") is not True else []
    return [(line + text.one_line(check.get("detail") or "", 400)).rstrip(), *below]


def _worth_telling(checks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All of them; of many hosts only what is not in order, and how many have nothing of that kind."""
    hosts = list(dict.fromkeys(str(check.get("host")) for check in checks))
    if len(hosts) <= FEW + 1:  # with this machine, which has checks of its own
        return list(checks)
    first = hosts[0]
    told = [check for check in checks if check.get("host") == first or check.get("ok") is not True]
    good = len(set(hosts) - {str(check.get("host")) for check in told})
    fine = {"host": f"{good} hosts", "check": "all", "ok": True, "detail": "every check passed"}
    return [*told, fine] if good else told


def _sum(checks: Sequence[Mapping[str, Any]], paint: Paint) -> str:
    bad = sum(check.get("ok") is False for check in checks)
    doubtful = sum(check.get("ok") is None for check in checks)
    if bad:
        return f"{paint('!!', 'bad')}  {text.plural(bad, 'check')} of {len(checks)} failed; nothing was changed"
    rest = f", {text.plural(doubtful, 'warning')}" if doubtful else ""
    return f"{paint('ok', 'good')}  {text.plural(len(checks) - doubtful, 'check')} passed{rest}; nothing was changed"


def _rollback(host: Mapping[str, Any]) -> str:
    return text.joined(f"to {host['release']}" if host.get("release") else None, host.get("detail"))
