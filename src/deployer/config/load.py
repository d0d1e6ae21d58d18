"""`deploy.toml`, read, judged as a whole, and seen from one target."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from deployer.config import relations, text
from deployer.config.explain import Place, Problem, nearest, refuse, show
from deployer.config.model import Build, Config, with_ceiling
from deployer.config.schema import FLEET_TABLES, Target, Top
from deployer.config.schema import Build as BuildTable
from deployer.config.survey import survey
from deployer.config.tables import Tables, build, override
from deployer.errors import UsageError

__all__ = ["DEFAULT_FILE", "Config", "load", "with_ceiling"]

DEFAULT_FILE = Path("deploy.toml")
IMPLICIT_TARGET = "local"


def load(file: Path | None, target: str | None) -> Config:
    """
    The config in *file* (None: ./deploy.toml) for *target* (None: the default one, or the only one).

    Every problem of the file is reported at once, those of other targets too; UsageError and nothing else is raised.
    """
    file = file or DEFAULT_FILE
    raw = text.read(file)
    found = survey(raw) or list(dict.fromkeys(_between_keys(raw)))
    if found:
        raise refuse(str(file), found)
    return _config(file, raw, _chosen(raw, target, str(file)))


def _targets(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The targets of the file by name; without any, this machine."""
    return raw.get("target") or {IMPLICIT_TARGET: {}}


def _between_keys(raw: Mapping[str, Any]) -> Iterator[Problem]:
    top, targets = Top.model_validate(raw), _targets(raw)
    for name, target in targets.items():
        tables = build(override(raw, target))
        own, where = Target.model_validate(target), partial(_where_written, name, target)
        yield from relations.problems(top.strategy, tables, where, own.supervisor, own.ray is not None)
        yield from relations.target_problems(name, own)
        if own.supervisor == "command" or own.commands is not None:
            from deployer.config import commanded  # most configs have none

            yield from commanded.problems(name, own, top.strategy, tables, where)
        if own.ray is not None:
            from deployer.config import ray  # most configs have none

            yield from ray.problems(name, own, tables, where)
    if top.default_target is not None and top.default_target not in targets:
        hint = _known_targets(top.default_target, targets)
        yield Problem(("default_target",), "no such target", hint, show(top.default_target))


def _where_written(name: str, target: Mapping[str, Any], place: Place) -> Place:
    """*place*, or its twin under the target where the target overrides it."""
    table: Any = target
    for part in place:
        if not isinstance(table, dict) or part not in table:
            return place
        table = table[part]
    return ("target", name, *place)


def _known_targets(name: str, targets: Mapping[str, Any]) -> str:
    near = nearest(name, targets)
    known = f"known targets: {', '.join(targets)}"
    return f'did you mean "{near}"? {known}' if near else known


def _chosen(raw: Mapping[str, Any], name: str | None, file: str) -> str:
    targets = _targets(raw)
    chosen: str | None = name if name is not None else raw.get("default_target")
    if chosen is None and len(targets) == 1:
        return next(iter(targets))
    if chosen is None:
        hint = f"name one of {', '.join(targets)} on the command line, or set default_target in {file}"
        raise UsageError("which target?", cause=f"{file}: {len(targets)} targets and no default_target", hint=hint)
    if chosen not in targets:
        cause = f"{file}: no [target.{chosen}]"
        raise UsageError(f"no target {show(chosen)}", cause=cause, hint=_known_targets(chosen, targets))
    return chosen


def _config(file: Path, raw: Mapping[str, Any], name: str) -> Config:
    top, own = Top.model_validate(raw), _targets(raw)[name]
    target, tables = Target.model_validate(own), build(override(raw, own))
    directory = file.absolute().parent
    config = Config(
        app=top.app,
        file=file.absolute(),
        directory=directory,
        strategy=top.strategy,
        target_name=name,
        hosts=tuple(target.hosts),
        path=_path(target, top.app, directory),
        keep=target.keep,
        supervisor=target.supervisor,
        build=_build(tables.build),
        tables=tables,
        target_table=_target_table(target, directory),
        warnings=tuple(_warnings(top.strategy, tables, target)),
        ray=target.ray,
    )
    return config.of_the_job() if config.is_a_job else config


def _warnings(strategy: str, tables: Tables, target: Target) -> Iterator[str]:
    if target.ray is None:
        return relations.warnings(strategy, tables, bool(target.pool))
    from deployer.config import ray  # most configs have none

    return ray.warnings(tables)


def _path(target: Target, app: str, directory: Path) -> str:
    path = target.path or f"~/.local/share/{app}"
    return path if path.startswith("~") else os.path.normpath(directory / path)


def _build(table: BuildTable) -> Build:
    command = tuple(table.command) if table.command else None
    return Build(command, table.artifact, tuple(table.exclude), table.timeout)


def _target_table(target: Target, directory: Path) -> dict[str, Any]:
    written = {name: getattr(target, name) for name in FLEET_TABLES}
    validated = {name: _fleet(name, table) for name, table in written.items()} if any(written.values()) else written
    ssh = validated["ssh"]
    if ssh and ssh["config"]:
        ssh["config"] = directory / os.path.expanduser(ssh["config"])
    return {"become": target.become, **validated}


def _fleet(name: str, table: dict[str, Any] | None) -> dict[str, Any] | None:
    from deployer.config.fleet import FLEET  # most configs have none of these tables, and models take time to make

    return None if table is None else FLEET[name].model_validate(table).model_dump()
