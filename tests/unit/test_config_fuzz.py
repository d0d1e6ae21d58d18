"""Whatever the file holds: a Config or a UsageError, and nothing else. Seeds are fixed: a failure can be repeated."""

import copy
import datetime
import json
import random
import re
import tomllib
from pathlib import Path

import pytest

from deployer.config import load as loading
from deployer.config.load import Config, load
from deployer.errors import UsageError

EXAMPLE = re.sub(r"(?m)^#(?=\S)", "", (Path(__file__).parents[2] / "deploy.example.toml").read_text())
NUMBERS = [True, False, 0, -1, 10**30, 1.5, float("nan"), float("inf")]
STRINGS = [
    "",
    " ",
    "\0",
    "-",
    "{port}",
    "{",
    "é\u202e",
    "9" * 400 + "s",
    "SIG",
    "http://",
    "http://[",
    "://",
    "a" * 500,
]
SHAPES = [[], [[]], [1], [{}], ["a", "a"], {}, {"": ""}, {"a": {"b": 1}}, {"=": "="}, datetime.date(2026, 1, 1)]
ODD = [*NUMBERS, *STRINGS, *SHAPES]


def outcome(file):
    try:
        config = load(file, "production")
    except UsageError as error:
        assert error.code == 2 and error.title and error.cause and error.hint
        json.dumps(error.to_json()).encode()
        return "refused"
    assert isinstance(config, Config)
    json.dumps([config.settings(), config.target(), config.job()], allow_nan=False)
    return "loaded"


@pytest.mark.parametrize("seed", range(2))
def test_damaged_bytes_never_end_in_a_traceback(tmp_path, seed):
    chance, file = random.Random(seed), tmp_path / "deploy.toml"
    seen = set()
    for _ in range(60):
        data = bytearray(EXAMPLE.encode())
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(data))
            data[place : place + chance.choice([0, 1, 30])] = chance.randbytes(chance.choice([0, 1, 3]))
        file.write_bytes(data)
        seen.add(outcome(file))
    assert "refused" in seen


def test_noise_never_ends_in_a_traceback(tmp_path):
    chance, file = random.Random(7), tmp_path / "deploy.toml"
    seen = set()
    for size in range(200):
        file.write_bytes(chance.randbytes(size))
        seen.add(outcome(file))
    assert seen == {"refused"}


def places(value, above=()):
    yield above
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*above, key))


def test_any_value_may_be_of_any_type(tmp_path, monkeypatch):
    """Every place of the full example in turn holds every odd value, as if TOML could spell them all."""
    whole, seen = tomllib.loads(EXAMPLE), {"loaded": 0, "refused": 0}
    for place in [place for place in places(whole) if place]:
        for odd in ODD:
            raw = copy.deepcopy(whole)
            table = raw
            for part in place[:-1]:
                table = table[part]
            table[place[-1]] = odd
            monkeypatch.setattr(loading.text, "read", lambda file, raw=raw: raw)
            seen[outcome(tmp_path / "deploy.toml")] += 1
    assert seen["refused"] > 1000 and seen["loaded"] > 50


@pytest.mark.parametrize("above", ["", "run.env.", "target.production.run.env.", "services.a."])
def test_depth_is_no_way_to_a_traceback(tmp_path, above):
    (tmp_path / "deploy.toml").write_text(f"{above}{'a.' * 2_000}a = 1\n")
    assert outcome(tmp_path / "deploy.toml") == "refused"
