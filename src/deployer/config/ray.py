"""Ray in `deploy.toml`: what has no meaning on a cluster, and what is missing there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deployer.config.explain import Place, Problem
from deployer.config.schema import Target
from deployer.config.tables import Tables

Where = Callable[[Place], Place]
_SENSELESS = (
    "hosts",
    "path",
    "become",
    "ssh",
    "rollout",
    "pool",
    "verify",
    "commands",
    "adopt",
    "install",
    "check",
    "job",
)
"""Of a target: hosts, a path on them, a process of our own, and what is around one."""


def problems(name: str, target: Target, tables: Tables, where: Where) -> Iterator[Problem]:
    """What is wrong with the target *name*, which is on Ray."""
    for key in _SENSELESS:
        if getattr(target, key):
            yield Problem(
                ("target", name, key), "has no meaning on Ray", f"remove it, or remove ray from [target.{name}]"
            )
    if target.supervisor != "builtin":
        why = "on Ray nobody but Ray owns a process"
        yield Problem(("target", name, "supervisor"), why, "remove it", f'"{target.supervisor}"')
    if not tables.services:
        hint = 'add [services.model] with class = "my_app.services:Model"'
        yield Problem(("services",), f"missing; they are what target.{name} runs on Ray", hint)
    for service, found in tables.services.items():
        if found.service.command:
            why, hint = (
                f"a command cannot be an actor of target.{name}; Ray runs classes",
                'write class = "module:Class"',
            )
            yield Problem(where(("services", service, "command")), why, hint)
        if "#" in service or service == "deployer":
            yield Problem(("services", service), "this name is deployer's own on Ray", "rename it")


def warnings(tables: Tables) -> Iterator[str]:
    """What stands in the file for other targets, and has no effect on this one."""
    set_here = {
        "run.command": tables.run.command, "run.env_file": tables.run.env_file, "run.linked": tables.run.linked,
        "install.command": tables.install.command, "check.command": tables.check.command,
    }  # fmt: skip
    for key, value in set_here.items():
        if value:
            yield f"{key} has no effect on Ray"
