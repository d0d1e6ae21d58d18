"""What runs on each host, and what is under way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.errors import alike, error_text
from deployer.cli.render.many import FEW, counted, table
from deployer.cli.render.paint import Paint
from deployer.errors import DeployerError

Row = tuple[str, str]


def status_lines(data: Mapping[str, Any], target: str, paint: Paint, now: datetime | None = None) -> list[str]:
    """A block for each host, or a row for each of many; a hint where a deploy is under way."""
    moment = (now or datetime.now(UTC)).isoformat()
    hosts = data.get("hosts") or []
    lines = (
        _many(hosts, paint) if len(hosts) > FEW else [line for host in hosts for line in _block(host, moment, paint)]
    )
    if any((host.get("facts") or {}).get("under_way") for host in hosts):
        lines += ["", f"{paint('hint:', 'strong')} deployer attach {target}"]
    return lines


def _many(hosts: Sequence[Mapping[str, Any]], paint: Paint) -> list[str]:
    good = [host for host in hosts if not host.get("error")]
    rows = [_row(host) for host in good]
    lines = table(["HOST", "RELEASE", "STATE", "PID", "UP", "HEALTH", "WORK", "DEPLOY"], rows, paint) if rows else []
    bad = [(str(host["host"]), DeployerError.from_json(host["error"])) for host in hosts if host.get("error")]
    lines += [line for error in alike(bad) for line in ("", error_text(error, paint))]
    states = counted([host.get("status") for host in good] + ["without an answer"] * len(bad))
    return [*lines, "", f"{text.plural(len(hosts), 'host')}: {states}"]


def _row(host: Mapping[str, Any]) -> list[str]:
    health, deploy = host.get("health"), host.get("deploy") or {}
    work = _busy(host) if not host.get("tasks") else text.plural(len(host["tasks"]), "task")
    cells = (host.get("release"), host.get("status"), host.get("pid"), text.took(host.get("uptime_s")))
    rest = (None if health == "none" else health, work, deploy.get("step"))
    return [str(host.get("host")), *(str(cell or "-") for cell in (*cells, *rest))]


def _block(host: Mapping[str, Any], now: str, paint: Paint) -> list[str]:
    facts, error = host.get("facts"), host.get("error")
    rows = _rows(facts, now) if facts else []
    rows += _problem("error", error) if error else []
    name = paint(text.one_line(host.get("host"), 60), "strong")
    return [name, *(f"  {label:<9} {text.one_line(words, 400)}".rstrip() for label, words in rows)]


def _rows(facts: Mapping[str, Any], now: str) -> list[Row]:
    if "leaving" in facts:
        return _services(facts, now)
    draining = facts.get("draining") or []
    serves = None if facts.get("instance") or not draining else draining[0].get("release")
    rows = [("release", str(serves or facts.get("current") or "none, nothing was pushed here"))]
    rows += _instance(facts.get("instance")) if facts.get("instance") or not (draining or facts.get("parts")) else []
    rows += [("crashes", _crashes(facts["crashes"]))] if facts.get("crashes") else []
    rows += [("restart", f"in {text.took(facts['restart_in_s'])}")] if facts.get("restart_in_s") else []
    rows += _health(facts.get("health") or {}) if facts.get("instance") or draining else []
    rows += [("drains", str(facts["drains"]["text"]))] if facts.get("drains") else []
    rows += [("reboot", _reboot(facts["boot"]))] if facts.get("boot") else []
    rows += [("deploy", _under_way(facts["under_way"], now))] if facts.get("under_way") else []
    rows += [("waiting", _waiting(who)) for who in facts.get("waiting") or []]
    rows += [("starting", _generation(item)) for item in facts.get("starting") or []]
    rows += [(str(item.get("part")), _generation(item)) for item in facts.get("parts") or []]
    rows += [(str(item.get("name")), _beside(item)) for item in facts.get("services") or []]
    rows += [("draining", _generation(item)) for item in draining]
    return rows + [row for problem in facts.get("problems") or [] for row in _problem("problem", problem)]


def _services(facts: Mapping[str, Any], now: str) -> list[Row]:
    """A cluster: its services are what runs there."""
    rows = [("release", str(facts.get("current") or "none, nothing was pushed here"))]
    rows += [row for one in facts["services"] for row in _service("service", one)]
    rows += [("deploy", _under_way(facts["under_way"], now))] if facts.get("under_way") else []
    return rows + [row for one in facts.get("leaving") or [] for row in _service("draining", one)]


def _service(label: str, one: Mapping[str, Any]) -> list[Row]:
    tasks = one.get("tasks") or []
    work = f"{text.plural(len(tasks), 'call')}: {', '.join(map(text.task, tasks[:4]))}" if tasks else None
    state = None if one.get("state") == "ready" else str(one.get("state"))
    words = text.joined(f"{one.get('service')} of {one.get('release')}", f"pid {one.get('pid')}", state, work)
    return [(label, words)] + ([("", f"cause: {one['trouble']}")] if one.get("trouble") else [])


def _reboot(boot: Mapping[str, Any]) -> str:
    if boot.get("comes_up"):
        return f"comes up again ({boot.get('where')})"
    return f"stays down: {boot.get('why')}; {boot.get('hint')}"


def _crashes(crashes: Mapping[str, Any]) -> str:
    how = crashes.get("error") or ("" if crashes.get("exit_code") is None else f"last exit code {crashes['exit_code']}")
    return text.joined(f"{crashes.get('count')} in a row", str(how) if how else None, "see deployer logs")


def _instance(instance: Mapping[str, Any] | None) -> list[Row]:
    if not instance:
        return [("process", "not running")]
    up, state = text.took(instance.get("uptime_s")), instance.get("state")
    odd = str(state) if state not in (None, "serving", "ready") else None
    first = text.process({"pid": instance.get("pid"), "command": instance.get("command")})
    rows = [("process", text.joined(first, f"up {up}" if up else None, odd))]
    if instance.get("unit"):
        rows.append(("unit", text.one_line(instance["unit"], 100)))
    others = [item for item in instance.get("processes") or [] if item.get("pid") != instance.get("pid")]
    said = [("says", str(instance["status"]))] if instance.get("status") else []
    return [*rows, *(("", text.process(item)) for item in others), *said]


def _health(health: Mapping[str, Any]) -> list[Row]:
    tasks = health.get("tasks") or []
    listed = f"{text.plural(len(tasks), 'task')}: {', '.join(map(text.task, tasks))}" if tasks else _busy(health)
    answer = health.get("health")
    rows = [("health", str(answer))] if answer and answer != "none" else []
    return [*rows, ("work", listed)] if listed else rows


def _busy(health: Mapping[str, Any]) -> str:
    busy = health.get("busy")
    if busy is None:
        return ""
    return f"{busy} in progress" if not isinstance(busy, bool) and busy else "busy" if busy else "idle"


def _waiting(who: Mapping[str, Any]) -> str:
    return f"{who.get('kind')} {who.get('deploy')} by {who.get('who')}, for the deploy under way to end"


def _under_way(deploy: Mapping[str, Any], now: str) -> str:
    who, step = deploy.get("who"), deploy.get("step")
    age = text.took(text.between(deploy.get("since"), now))
    what = f"{deploy.get('kind') or 'push'} {deploy.get('deploy') or ''}".strip()
    return text.joined(
        f"{what} by {who}" if who else what, f"since {age}" if age else None, f"at {step}" if step else None
    )


def _generation(instance: Mapping[str, Any]) -> str:
    up = text.took(instance.get("uptime_s"))
    return text.joined(str(instance.get("release")), f"pid {instance.get('pid')}", f"up {up}" if up else None)


def _beside(service: Mapping[str, Any]) -> str:
    up, state = text.took(service.get("uptime_s")), str(service.get("state"))
    pid = f"pid {service['pid']}" if service.get("pid") else None
    how = None if state == "running" else state
    return text.joined("service", how, str(service.get("release")), pid, f"up {up}" if up else None)


def _problem(label: str, error: Mapping[str, Any]) -> list[Row]:
    rows = [(label, str(error.get("title")))]
    return rows + [("", f"{name}: {error[name]}") for name in ("cause", "hint") if error.get(name)]
