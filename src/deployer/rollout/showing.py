"""The commands that only look at the hosts of a target; `status` also wakes a keeper that should run."""

from __future__ import annotations

from typing import Any

from deployer.config.model import Config
from deployer.errors import DeployerError, UsageError
from deployer.link.session import Session
from deployer.rollout.asking import answers, ask, placed
from deployer.rollout.hosts import hosts, who

Data = dict[str, Any]

NO_TIMELINE: Data = {"deploy": None, "timeline": [], "waits": None, "logs": {"old": [], "new": [], "engine": []}}


def status(config: Config) -> Data:
    """What runs on each host; brings back a service that should run and whose keeper has died."""
    if config.ray is not None:
        from deployer.rollout.raytarget.show import status as on_ray  # a target of hosts never needs it

        return on_ray(config)

    def question(session: Session, asked: Data) -> Data:
        facts = session.call("observe", wake=True, boot=True, **asked)
        return {**_summary(facts), "facts": facts, "error": None}

    found = zip(hosts(config), ask(config, question), strict=True)
    return {"hosts": [placed(host, one, {"facts": None}) for host, one in found]}


def _summary(facts: Data) -> Data:
    """What a script asks a host's status for, without digging."""
    running = facts["instance"] or {}
    return {
        "status": running.get("state") or ("draining" if facts["draining"] else "stopped"),
        **{name: running.get(name) for name in ("release", "pid", "uptime_s", "started_at")},
        **{name: facts["health"][name] for name in ("health", "busy", "tasks")},
        "deploy": facts["under_way"],
        "draining": facts["draining"],
    }


def releases(config: Config) -> Data:
    """The releases on each host, the newest first."""
    return answers(config, lambda session, asked: {"releases": session.call("releases", **asked)}, {"releases": None})


def history(config: Config) -> Data:
    """Past deploys on each host, the newest first."""
    return answers(config, lambda session, asked: {"deploys": session.call("history", **asked)}, {"deploys": None})


def explain(config: Config, deploy: str | None) -> Data:
    """
    One deploy on each host as a timeline: the one whose name begins with *deploy*, else the last.

    A host that took no part in it has no timeline, and that is no error where another host did.
    """
    data = answers(config, lambda session, asked: dict(session.call("explain", deploy=deploy, **asked)), NO_TIMELINE)
    if any(host["deploy"] for host in data["hosts"]):
        for host in data["hosts"]:
            if (host.get("error") or {}).get("kind") == UsageError.__name__:
                host["absent"] = host.pop("error")["title"]
    return data


def rollback_check(config: Config, release: str | None) -> Data:
    """Whether a rollback would work, as far as that can be seen without one: the release is there, and whole."""
    found = ask(config, lambda session, asked: _checked(session, asked, release))
    if not config.hosts and isinstance(found[0], DeployerError):
        raise found[0]
    listed = [placed(host, _refused(one, release), {}) for host, one in zip(hosts(config), found, strict=True)]
    codes = [host.pop("code") for host in listed]
    return {"hosts": listed, "exit_code": next(filter(None, codes), 0)}


def _checked(session: Session, asked: Data, release: str | None) -> Data:
    try:
        found = session.call("plan", kind="rollback", release=release, deploy="check", who=who(), **asked)
        problems = session.call("verify", release=found["release"], **asked)
    except DeployerError as error:
        return _refused(error, release)
    if problems:
        return _result(found["release"], False, "; ".join(problems), "push it anew", 1)
    return _result(found["release"], True, "present, whole, and it served before", None, 0)


def _refused(found: Data | DeployerError, release: str | None) -> Data:
    if isinstance(found, DeployerError):
        return _result(release, False, found.title, found.hint, found.code)
    return found


def _result(release: str | None, ok: bool, detail: str, hint: str | None, code: int) -> Data:
    return {"release": release, "ok": ok, "detail": detail, "hint": hint, "code": code}
