"""Every problem of a file that can be seen in one key alone, wherever in the file it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from deployer.config import names
from deployer.config.explain import Place, Problem, problems, show
from deployer.config.rejected import Rejected
from deployer.config.schema import FLEET_TABLES, TABLES, Drain, Health, Service, Table, Target, Top


def survey(raw: Mapping[str, Any]) -> list[Problem]:
    """All problems of the parsed file *raw*, key by key, in the order of the schema."""
    return [*_table(Top, raw, ()), *_tables(raw, ()), *_targets(raw.get("target"))]


def _table(model: type[Table], raw: object, place: Place) -> Iterator[Problem]:
    try:
        model.model_validate(raw)
    except ValidationError as error:
        yield from problems(error, model, place)


def _tables(raw: Mapping[str, Any], above: Place) -> Iterator[Problem]:
    for name, model in TABLES.items():
        if isinstance(raw.get(name), dict):
            yield from _table(model, raw[name], (*above, name))
    yield from _services(raw.get("services"), (*above, "services"))


def _services(raw: object, above: Place) -> Iterator[Problem]:
    for place, service in _named(raw, above):
        yield from _name(place)
        yield from _table(Service, service, place)
        yield from _inner(service, {"health": Health, "drain": Drain}, place)


def _targets(raw: object) -> Iterator[Problem]:
    for place, target in _named(raw, ("target",)):
        yield from _name(place)
        if not isinstance(target, dict):
            yield Problem(place, "not a table", f"write [target.{place[-1]}] on a line of its own", _plain(target))
            continue
        yield from _table(Target, target, place)
        yield from _tables(target, place)
        yield from _inner(target, _fleet(target), place)


def _plain(value: object) -> str | None:
    return show(value) if isinstance(value, (int, float)) else None


def _fleet(target: Mapping[str, Any]) -> Mapping[str, type[Table]]:
    if not target.keys() & set(FLEET_TABLES):
        return {}
    from deployer.config.fleet import FLEET  # most configs have none of its tables, and models take time to make

    return FLEET


def _named(raw: object, above: Place) -> Iterator[tuple[Place, Any]]:
    for name, value in raw.items() if isinstance(raw, dict) else ():
        yield (*above, name), value


def _inner(raw: object, models: Mapping[str, type[Table]], place: Place) -> Iterator[Problem]:
    for name, model in models.items():
        if isinstance(raw, dict) and isinstance(raw.get(name), dict):
            yield from _table(model, raw[name], (*place, name))


def _name(place: Place) -> Iterator[Problem]:
    try:
        names.label(str(place[-1]))
    except Rejected as rejected:
        yield Problem(place, rejected.why, rejected.hint)
