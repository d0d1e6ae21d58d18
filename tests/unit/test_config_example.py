"""deploy.example.toml is the documentation of the schema: nothing may be missing from it, or stand in it wrongly."""

import re
import tomllib
from pathlib import Path

import pytest

from deployer.config.fleet import FLEET
from deployer.config.load import load
from deployer.config.schema import FLEET_TABLES, TABLES, Service, Target, Top
from deployer.config.tables import OVERRIDABLE

EXAMPLE = Path(__file__).parents[2] / "deploy.example.toml"
# Without a default, or with one that an example could not show.
NO_DEFAULT = {"systemd", "exclude", "files", "env", "secrets", "linked", "ports", "hosts"}


def uncommented() -> str:
    return re.sub(r"(?m)^#(?=\S)", "", EXAMPLE.read_text())


def documented() -> list[tuple[str, type, dict]]:
    raw = tomllib.loads(uncommented())
    production = raw["target"]["production"]
    tables = [("", Top, raw), ("services", Service, raw["services"]["cache"]), ("target", Target, production)]
    tables += [(name, model, raw[name]) for name, model in TABLES.items()]
    # What rules out other keys of the example stands there as "# or:".
    return tables + [(name, model, production.get(name, {})) for name, model in FLEET.items()]


def test_example_loads_as_it_stands():
    config = load(EXAMPLE, None)
    assert (config.app, config.target_name) == ("my-app", "local")
    assert config.build.artifact == "dist"


@pytest.mark.parametrize("target", ["local", "production"])
def test_example_loads_with_everything_switched_on(tmp_path, target):
    file = tmp_path / "deploy.toml"
    file.write_text(uncommented())
    config = load(file, target)
    assert config.warnings == ()
    assert config.tables.drain.ceiling == {"local": 660, "production": 1200}[target]


@pytest.mark.parametrize("name, model, table", documented(), ids=lambda value: value if isinstance(value, str) else "")
def test_example_mentions_every_key_in_its_own_table(name, model, table):
    lines = EXAMPLE.read_text().splitlines()
    for field, info in model.model_fields.items():
        key = info.alias or field
        if key in table or (name == "target" and key in OVERRIDABLE):
            continue
        forms = (f"# or: {key} = ", f"# or: [target.production.{key}]")
        assert any(line.startswith(forms) for line in lines), f"{name}.{key}"


@pytest.mark.parametrize("name, model, table", documented(), ids=lambda value: value if isinstance(value, str) else "")
def test_example_shows_the_defaults(name, model, table):
    read = model.model_validate(table) if table else None
    for field, info in model.model_fields.items() if read else ():
        if info.is_required() or info.default is None or field in NO_DEFAULT:
            continue
        assert getattr(read, field) == info.default, f"{name}.{field}"


def test_schema_of_hosts_is_complete():
    assert tuple(FLEET) == FLEET_TABLES
    assert set(OVERRIDABLE) == {*TABLES, "services"}
