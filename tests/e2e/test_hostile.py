"""Values that a shell, an option parser or a terminal would misread reach a host verbatim, or are refused; nothing runs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet, make_fleet

HOSTILE = {
    "spaces": "a  b ",
    "quote": "it's",
    "double": 'say "x"',
    "dollar": "$(touch ~/PWNED)",
    "backtick": "`touch ~/PWNED`",
    "semicolon": "; touch ~/PWNED;",
    "pipe": "| touch ~/PWNED",
    "and": "&& touch ~/PWNED",
    "newline": "a\ntouch ~/PWNED\n",
    "option": "-oProxyCommand=touch ~/PWNED",
    "long_option": "--rsh=touch ~/PWNED",
    "backslash": "\\",
    "glob": "*",
    "home": "${HOME}",
    "tab": "a\tb",
    "escape": "\x1b[2Jx",
    "unicode": "é 東",
}
WORST = ("quote", "dollar", "semicolon", "newline", "option", "escape")
"""For the keys that are many."""
PLACES: dict[str, Callable[[str], dict[str, str]]] = {
    "env": lambda value: {"run": f"env = {{ ODD = {toml(value)} }}"},
    "env_file": lambda value: {"run": f"env_file = {toml(value)}"},
    "linked": lambda value: {"run": f'env_file = "app.env"\nlinked = [{toml(value)}]'},
    "url": lambda value: {"health": f"url = {toml('http://127.0.0.1:1/' + value)}"},
    "signal": lambda value: {"drain": f"signal = {toml(value)}"},
    "quiet": lambda value: {"drain": f"quiet = {toml(value)}"},
    "pidfile": lambda value: {"adopt": f"pidfile = {toml('/nonexistent/' + value)}"},
    "match": lambda value: {"adopt": f"match = {toml(value)}"},
    "unit": lambda value: {"adopt": f"unit = {toml(value)}"},
    "become": lambda value: {"become": f"become = {toml(value)}"},
    "client": lambda value: {"ssh": f"client = {toml(value)}"},
}
ECHO = (
    "import json, os, sys; from pathlib import Path; told = {k: v for k, v in os.environ.items() if k.startswith('ODD')}; "
    "Path(os.path.expanduser('~/' + sys.argv[1])).write_text(json.dumps([sys.argv[2:], told]))"
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with make_fleet(tmp_path_factory.mktemp("hostile"), 1) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_ran(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[None]:
    fleet.release(str(request.node.name))
    yield
    homes = [fleet.hosts[0].home, fleet.bed.home, fleet.root, fleet.dist, Path("~").expanduser(), Path.cwd()]
    assert [home for home in homes if (home / "PWNED").exists()] == []


worst = pytest.mark.parametrize("value", [HOSTILE[name] for name in WORST], ids=WORST)


def told(fleet: Fleet, name: str) -> tuple[list[str], dict[str, str]]:
    words, environment = json.loads((fleet.hosts[0].home / name).read_text())
    return words, environment


def echo(name: str, *values: str) -> str:
    return json.dumps([sys.executable, "-S", "-c", ECHO, name, *values])


def toml(text: str) -> str:
    """*text* as a basic string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@pytest.mark.parametrize("step", ["install", "check"])
def test_gate_commands_are_given_words_verbatim(fleet: Fleet, step: str) -> None:
    fleet.configure(**{step: f"command = {echo('gate', *HOSTILE.values())}"})
    fleet.push()
    assert told(fleet, "gate")[0] == list(HOSTILE.values())


def test_environment_and_secrets_reach_the_app_verbatim_and_nobody_else(fleet: Fleet) -> None:
    plain = {f"ODD_{name.upper()}": value for name, value in HOSTILE.items() if name != "newline"}
    secret = {f"ODD_SECRET_{name.upper()}": f"{value}-s3cr3t" for name, value in HOSTILE.items()}
    written = ", ".join(f"{name} = {toml(value)}" for name, value in plain.items())
    fleet.configure(
        run=f"env = {{ {written} }}\nsecrets = {json.dumps(list(secret))}", check=f"command = {echo('env', 'x')}"
    )
    result = fleet.run("push", "--json", env=secret, check=0)
    assert told(fleet, "env")[1] == {**plain, **secret}
    assert [value for value in secret.values() if value in result.out + result.err] == []


def pairs() -> Iterator[Any]:
    """Every key with every value; all but two of each key are for --full, and each value is among those two of some keys."""
    for number, place in enumerate(PLACES):
        for rank, value in enumerate(WORST):
            marks = [] if (rank - number) % len(WORST) < 2 else [pytest.mark.full]
            yield pytest.param(place, HOSTILE[value], id=f"{place}-{value}", marks=marks)


@pytest.mark.parametrize(("place", "value"), pairs())
def test_other_keys_are_taken_as_they_are_or_refused(fleet: Fleet, place: str, value: str) -> None:
    fleet.configure(**PLACES[place](value))  # type: ignore[arg-type]
    result = fleet.run("plan", "--json")
    assert "Traceback" not in result.err
    assert "\x1b" not in result.err


@worst
def test_path_of_the_host_is_one_directory(fleet: Fleet, value: str) -> None:
    fleet.configure()
    file = fleet.root / "deploy.toml"
    file.write_text(file.read_text().replace('path = "~/app"', f"path = {toml('~/odd/' + value)}"))
    status = fleet.run("status", "--json")
    assert status.code in (0, 2) and "Traceback" not in status.err
    if status.code == 0:
        assert status.events[0]["hosts"][0]["facts"]["path"] == str(fleet.hosts[0].home / "odd" / value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(HOSTILE[name], id=name, marks=[] if name in ("dollar", "option") else pytest.mark.full)
        for name in WORST
    ],
)
def test_names_of_releases_and_hosts_on_the_command_line(fleet: Fleet, value: str) -> None:
    fleet.configure()
    for words in (["push", f"--release={value}"], ["rollback", "fleet", value], ["push", f"--host={value}"],
                  ["explain", "fleet", value], ["status", value]):  # fmt: skip
        result = fleet.run(*words, "--json")
        assert result.code in (1, 2, 6), (words, result.out, result.err)
        assert "Traceback" not in result.err and "\x1b" not in result.err


def test_files_of_the_artifact_keep_their_names(fleet: Fleet) -> None:
    fleet.configure()
    names = [value.replace("/", "_") for value in HOSTILE.values() if value.isprintable()]
    for name in names:
        (fleet.dist / name).write_text("content")
    try:
        fleet.push()
        assert [(fleet.hosts[0].path / "current" / name).read_text() for name in names] == ["content"] * len(names)
        for control in ("newline", "escape"):
            odd = fleet.dist / HOSTILE[control].replace("/", "_")
            odd.write_text("content")
            assert fleet.run("push", "--json").code == 7
            odd.unlink()
    finally:
        for name in names:
            (fleet.dist / name).unlink()
