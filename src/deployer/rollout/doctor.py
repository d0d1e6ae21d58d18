"""`deployer doctor`: everything that a push would need, looked at without changing anything."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from deployer import __version__, durations
from deployer.config import secrets
from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError, UsageError
from deployer.rollout.each import on_each
from deployer.rollout.hosts import LOCAL, connect, hosts, look
from deployer.rollout.ladder import Rung, faults, ladder
from deployer.rollout.ladder_picture import picture
from deployer.rollout.promises import of_supervisor

LOW_BYTES = 512 * 1024 * 1024
LOW_INODES = 10_000


def doctor(config: Config) -> dict[str, Any]:
    """
    `checks`: what was looked at and how it stands; `ladder`: the timeouts as a picture; `rungs`: as data, from the inside
    out; `exit_code`: that of the first bad check.
    """
    if config.ray is not None:
        from deployer.rollout.raytarget.show import doctor as on_ray  # a target of hosts never needs it

        return on_ray(config)
    here = _here(config)
    looked = [_report(*found) for found in zip(hosts(config), _look_at(config), strict=True)]
    rungs = ladder(config, {report.host: report.limits for report in looked if report.limits is not None}, os.environ)
    _ladder(here, rungs)
    reports = [here, *looked]
    checks = [check for report in reports for check in report.checks]
    exit_code = next((report.exit_code for report in reports if report.exit_code), 0)
    data = [rung.to_json() for rung in rungs]
    return {"checks": checks, "ladder": picture(rungs), "rungs": data, "exit_code": exit_code}


def _ladder(report: Report, rungs: Sequence[Rung]) -> None:
    broken = faults(rungs)
    for rung in broken:
        where = f" on {', '.join(rung.hosts)}" if rung.hosts else ""
        report.note("ladder", rung.ok, f"{rung.fault}: {rung.acts}{where}", rung.hint)
        if rung.ok is False:
            report.exit_code = report.exit_code or UsageError.code
    if not broken:
        report.note("ladder", True, f"each of {len(rungs)} time limits outlasts what is inside it")


def _here(config: Config) -> Report:
    """What this machine has to bring along; looked at once, however many hosts there are."""
    report = Report(LOCAL)
    _artifact(report, config)
    report.note("config", True, f"{config.file} is in order")
    for warning in config.warnings:
        report.note("config", None, warning)
    report.attempt("features", lambda: require_available(config), "everything asked for is available")
    report.attempt(
        "secrets", lambda: secrets.values(config.settings()["run"]["secrets"], os.environ), "every value is set"
    )
    return report


def _look_at(config: Config) -> list[Report | DeployerError]:
    def one(host: str) -> Report:
        started = time.monotonic()
        with connect(config, host) as session:
            report = Report(host)
            if config.hosts:
                took = f"engine {__version__} answers over SSH after {durations.show(time.monotonic() - started)}"
                report.note("reach", True, took)
            if config.target_table["become"]:
                report.note("become", True, f"{config.target_table['become']} works without a password")
            _host(report, config, session.call("observe", pool=True, limits=True, boot=True, **look(config, host)))
            return report

    return on_each(hosts(config), one)


def _report(host: str, found: Report | DeployerError) -> Report:
    """*found*, or that there was no way to look: one failed check, whatever else may be wrong there."""
    if isinstance(found, Report):
        return found
    report = Report(host)
    report.error("host" if host == LOCAL else "reach", found)
    return report


class Report:
    """Collects checks; `exit_code` is that of the first failed one, `limits` what was found on the host that was looked at."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.checks: list[dict[str, Any]] = []
        self.exit_code = 0
        self.limits: Sequence[dict[str, Any]] | None = None

    def note(self, check: str, ok: bool | None, detail: str, hint: str | None = None) -> None:
        self.checks.append({"host": self.host, "check": check, "ok": ok, "detail": detail, "hint": hint})

    def error(self, check: str, error: DeployerError) -> None:
        self.exit_code = self.exit_code or error.code
        detail = error.title + (f": {error.cause}" if error.cause else "")
        self.note(check, False, detail, error.hint)

    def attempt(self, check: str, look_at: Any, fine: str) -> None:
        try:
            look_at()
            self.note(check, True, fine)
        except DeployerError as error:
            self.error(check, error)


def _host(report: Report, config: Config, facts: dict[str, Any]) -> None:
    report.limits = facts["limits"]
    report.note("python", True, f"Python {facts['python']} runs the host engine")
    _disk(report, facts["disk"])
    for problem in facts["problems"]:
        report.error("port" if "port" in problem["title"] else "process", DeployerError.from_json(problem))
    if not facts["problems"]:
        report.note("ports", True, "no stranger on the service's ports")
    _env_file(report, config, facts)
    _socket(report, facts)
    _pool(report, facts.get("pool"))
    _process(report, config, facts)
    _unit(report, config, facts)
    _boot(report, facts)
    for ok, detail, hint in of_supervisor(config):
        report.note("supervisor", ok, detail, hint)
    _drains(report, facts["drains"])
    _health(report, config, facts)
    if facts["under_way"]:
        under_way = facts["under_way"]
        report.note("deploy", None, f"{under_way['kind']} {under_way['deploy']} is under way", "deployer attach")


def _socket(report: Report, facts: dict[str, Any]) -> None:
    if facts["gap"]:
        detail = f"the next push has a gap: {facts['gap']}"
        report.note("socket", None, detail, "from that push on the socket is held, and there is none")


def _unit(report: Report, config: Config, facts: dict[str, Any]) -> None:
    """What systemd will do of itself with a service that it started, and we are to take over."""
    unit = facts["unit"]
    if not unit or not facts["adopt"]:
        return
    name, adopted = unit["name"], (config.target().get("adopt") or {}).get("unit")
    if adopted is None and unit["restart"] not in ("no", "on-failure", "on-abnormal", "on-abort", "on-watchdog"):
        after = f" after {durations.show(unit['restart_s'])}" if unit["restart_s"] else ""
        detail = f"pid {facts['adopt']['pid']} runs in {name}, which starts it again{after} (Restart={unit['restart']})"
        report.note("unit", None, detail, f'write [adopt] unit = "{name}": only systemd can stop it for good')
    if unit["kill_mode"] == "control-group":
        detail = f"{name} has KillMode=control-group: its stop signals every process at once, children at work too"
        report.note("unit", None, detail, f"KillMode=mixed in {name} asks the main process alone")


def _boot(report: Report, facts: dict[str, Any]) -> None:
    boot = facts["boot"]
    if boot["comes_up"]:
        report.note("reboot", True, f"the service comes up again ({boot['where']})")
    elif facts["exists"]:
        report.note("reboot", None, f"the service stays down: {boot['why']}", boot["hint"])


def _pool(report: Report, pool: dict[str, Any] | None) -> None:
    if pool and pool["error"]:
        report.error("pool", DeployerError.from_json(pool["error"]))
    elif pool:
        report.note("pool", True, f"{pool['kind']} can be told where to send traffic")


def _artifact(report: Report, config: Config) -> None:
    name = config.build.artifact
    if name and config.build.command is None and not (config.directory / name).exists():
        report.exit_code = 7
        report.note("artifact", False, f"{config.directory / name} does not exist, and no [build] command makes it")


def _signal(report: Report, config: Config, running: dict[str, Any]) -> None:
    if not running["hears"]:
        name = config.settings()["drain"]["signal"]
        detail = (
            f"pid {running['pid']} has no handler for {name}: it dies of it at once, with whatever it is working on"
        )
        report.note("drain", None, detail, f"let the app catch {name}, finish its work and exit")


def _drains(report: Report, drains: dict[str, Any] | None) -> None:
    if drains:
        warning = drains["warning"]
        report.note("ceiling", None if warning else True, warning or f"it leaves room: {drains['text']}")


def _disk(report: Report, disk: dict[str, Any]) -> None:
    enough = disk["free_bytes"] > LOW_BYTES and (not disk["free_inodes"] or disk["free_inodes"] > LOW_INODES)
    detail = f"{disk['free_bytes'] / 1e9:.1f} GB and {disk['free_inodes']} inodes free"
    report.note("disk", True if enough else None, detail, None if enough else "a push needs room for one more release")


def _env_file(report: Report, config: Config, facts: dict[str, Any]) -> None:
    name = config.settings()["run"]["env_file"]
    if name and "env_file" in facts:
        there = facts["env_file"]
        if there:
            report.note("env file", True, f"shared/{name} is there")
        else:
            report.exit_code = report.exit_code or 2
            report.note(
                "env file", False, f"shared/{name} is missing", f"create {facts['path']}/shared/{name}, mode 0600"
            )


def _process(report: Report, config: Config, facts: dict[str, Any]) -> None:
    running = facts["instance"]
    if running:
        count = len(running["processes"])
        report.note(
            "process",
            True,
            f"pid {running['pid']} runs {running['release']} ({count} process{'es' if count != 1 else ''})",
        )
        _signal(report, config, running)
        if facts["crashes"]:
            report.note("process", None, f"it has crashed {facts['crashes']['count']} times in a row", "deployer logs")
        if not facts["keeper"] and config.supervisor == "builtin":
            report.note(
                "keeper", None, "no keeper looks after it: a crash would not be noticed", "deployer status starts one"
            )
    elif facts["draining"]:
        report.note("process", None, f"pid {facts['draining'][0]['pid']} is draining", "deployer attach")
    elif facts["adopt"]:
        report.note(
            "process", True, f"the first push will take over pid {facts['adopt']['pid']} ({facts['adopt']['command']})"
        )
    elif not facts["problems"]:
        report.note(
            "process",
            None,
            "nothing runs yet" if not facts["exists"] else "nothing runs",
            "deployer push" if not facts["exists"] else "deployer start",
        )


def _health(report: Report, config: Config, facts: dict[str, Any]) -> None:
    url = config.settings()["health"]["url"]
    if not url:
        report.note(
            "health", None, "no health.url: ready means alive for a while, and nobody can see the work in progress"
        )
        return
    if facts["instance"] or facts["adopt"]:
        answer = facts["health"]
        tasks = len(answer["tasks"])
        work = f", {tasks} task{'s' if tasks != 1 else ''} in progress" if tasks else ""
        asked = facts["health_url"]
        report.note("health", True if answer["good"] else None, f"{asked} says {answer['health']}{work}")
        if asked != url and "{port}" not in url:
            report.note("health", None, f"the next push will ask {url}, which is another address")
